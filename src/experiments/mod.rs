//! Experiments over one run or many, as data: simulations, capacities, plans, sweeps. They report progress through a trait and
//! write no results: files are the business of `report`, words on a screen that of the command line.

pub mod budget;
pub mod capacity;
mod error;
pub mod hit_rate;
mod parallel;
pub mod plan;
mod progress;
mod search;
mod simulation;
pub mod sweep;
mod traces;
pub mod variants;

pub use error::ExperimentError;
pub use parallel::{spread, threads};
pub use progress::{Counted, Progress};
pub use search::{Search, SharedSearches};
pub use simulation::{Simulation, SimulationBuilder, by_name};
