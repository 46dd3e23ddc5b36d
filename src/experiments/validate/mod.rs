//! Validation: measures how far the simulator is from live runs of the same requests, on this machine. Measures a
//! profile, makes live runs, simulates each run with its own durations and with the profile alone, and compares.

#[cfg(feature = "live")]
mod experiment;
#[cfg(feature = "live")]
mod load;
mod rows;
#[cfg(feature = "live")]
mod simulated;

#[cfg(feature = "live")]
pub use experiment::{Experiment, Question, Validated};
pub use rows::{Level, ValidatedRun};
