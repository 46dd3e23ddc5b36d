//! Errors of experiments.

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};

use crate::input::InputError;
#[cfg(feature = "live")]
use crate::live::{error::Error as ModelError, executor::LiveError};
use crate::output::OutputError;
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
    /// A file cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A file or folder cannot be read, copied or removed.
    #[error("{}: {what}: {error}", file.display())]
    File {
        /// File or folder.
        file: PathBuf,
        /// What cannot be done.
        what: &'static str,
        /// Error of the system.
        error: io::Error,
    },
    /// A model cannot be used, or did not do what it should.
    #[cfg(feature = "live")]
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A live run cannot begin, or go on.
    #[cfg(feature = "live")]
    #[error(transparent)]
    Live(#[from] LiveError),
    /// A live run cannot come to an end.
    #[cfg(feature = "live")]
    #[error(transparent)]
    LiveRun(#[from] RunError<LiveError>),
    /// Something else failed.
    #[error("{0}")]
    Failed(String),
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
    /// Returns whether the fault is that of an input.
    #[must_use]
    pub fn is_of_input(&self) -> bool {
        match self {
            Self::Input(_) => true,
            #[cfg(feature = "live")]
            Self::Model(ModelError::Input(_) | ModelError::NotFinite { .. }) | Self::Live(LiveError::Load { .. }) => {
                true
            }
            Self::In { error, .. } => error.is_of_input(),
            _ => false,
        }
    }

    /// Returns a function that says what cannot be done with a file or folder.
    #[cfg_attr(not(feature = "live"), expect(dead_code, reason = "simulations read through parsers"))]
    pub(super) fn file(file: &Path, what: &'static str) -> impl FnOnce(io::Error) -> Self {
        let file = file.to_owned();
        move |error| Self::File { file, what, error }
    }

    /// Returns a function that names the run in which an error occurred.
    pub fn within(place: String) -> impl FnOnce(Self) -> Self {
        |error| Self::In { place, error: Box::new(error) }
    }
}
