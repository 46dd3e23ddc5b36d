//! Experiments over many runs: variants, capacities, plans, sweeps, calibrations and validations; live runs and servers
//! of a scenario. They return data and report progress through a trait. `report` writes the results for readers, and
//! the command line prints words on the screen.

pub mod budget;
pub mod calibrate;
pub mod capacity;
#[cfg(feature = "live")]
pub mod embed;
mod error;
mod figures;
mod folder;
pub mod hit_rate;
pub mod init;
#[cfg(feature = "live")]
pub mod live;
mod parallel;
pub mod plan;
#[cfg(feature = "live")]
pub mod profile;
mod profile_range;
mod progress;
mod search;
#[cfg(feature = "serve")]
pub mod serve;
pub mod sweep;
mod traces;
pub mod validate;
pub mod variants;

pub use error::ExperimentError;
pub use figures::{Figures, Watched, Watching};
pub use folder::write_run;
pub use parallel::{spread, threads};
pub use profile_range::{profile_range, runs_of_range};
pub use progress::{Counted, Progress};
pub use search::{Search, SharedSearches};
