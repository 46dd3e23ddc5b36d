//! Experiments over many runs, as data: what is tried next, when a run is stopped, and what comes of it. Preparing runs
//! and printing is the command line's business.

pub mod budget;
pub mod capacity;
pub mod hit_rate;
