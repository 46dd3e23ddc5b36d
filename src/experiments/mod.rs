//! Experiments over many runs, as data: variants, capacities, plans, sweeps. They report progress through a trait and
//! write no results: files are the business of `report`, words on a screen that of the command line.

pub mod budget;
pub mod calibrate;
pub mod capacity;
mod error;
pub mod hit_rate;
#[cfg(feature = "live")]
pub mod live;
mod parallel;
pub mod plan;
#[cfg(feature = "live")]
pub mod profile;
mod profile_range;
mod progress;
mod search;
pub mod sweep;
mod traces;
pub mod validate;
pub mod variants;

pub use error::ExperimentError;
pub use parallel::{spread, threads};
pub use profile_range::{profile_range, runs_of_range};
pub use progress::{Counted, Progress};
pub use search::{Search, SharedSearches};
