//! Errors of experiments.

use std::convert::Infallible;

use crate::input::InputError;
use crate::replay::RunError;

/// Reason for which an experiment came to no end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExperimentError {
    /// An input cannot be used.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A run cannot come to an end.
    #[error(transparent)]
    Run(#[from] RunError<Infallible>),
    /// Threads cannot be started.
    #[error("threads cannot be started: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// An error of one of many runs.
    #[error("{place}")]
    In {
        /// Run in words, e.g. `variant modm`.
        place: String,
        /// Error.
        #[source]
        error: Box<ExperimentError>,
    },
}

impl ExperimentError {
    /// Returns a function that names the run in which an error occurred.
    pub fn within(place: String) -> impl FnOnce(Self) -> Self {
        |error| Self::In { place, error: Box::new(error) }
    }
}
