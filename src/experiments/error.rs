//! Errors of experiments.

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};

use crate::input::InputError;
#[cfg(feature = "live")]
use crate::live::{batch::BatchError, error::Error as ModelError, executor::LiveError, isolated::LostProcess};
use crate::output::OutputError;
use crate::replay::RunError;
use crate::run_folder::FolderError;
#[cfg(feature = "serve")]
use crate::serve::ledger::LedgerError;

/// Error that prevents an experiment from coming to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExperimentError {
    /// Input that cannot be used.
    #[error(transparent)]
    Input(#[from] InputError),
    /// Run that cannot come to an end.
    #[error(transparent)]
    Run(#[from] RunError<Infallible>),
    /// File that cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// File or folder that cannot be read, copied or removed.
    #[error("{}: {what}: {error}", file.display())]
    File {
        /// File or folder.
        file: PathBuf,
        /// Words for the operation that failed, e.g. `cannot be read`.
        what: &'static str,
        /// Error of the operating system.
        error: io::Error,
    },
    /// Model that cannot be used, or that did not do what it should.
    #[cfg(feature = "live")]
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Process of the encoder that cannot begin.
    #[cfg(feature = "live")]
    #[error("the encoder does not load: {0}")]
    Encoder(LostProcess),
    /// Picture of a list that is not drawn, or that cannot be read.
    #[cfg(feature = "live")]
    #[error(transparent)]
    Picture(#[from] BatchError),
    /// Live run that cannot begin or continue.
    #[cfg(feature = "live")]
    #[error(transparent)]
    Live(#[from] LiveError),
    /// Live run that cannot come to an end.
    #[cfg(feature = "live")]
    #[error(transparent)]
    LiveRun(#[from] RunError<LiveError>),
    /// Cluster that cannot be worked with.
    #[cfg(feature = "cluster")]
    #[error(transparent)]
    Cluster(#[from] crate::live::cluster::ClusterError),
    /// Ledger of a server that cannot be used.
    #[cfg(feature = "serve")]
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Thread, signal, folder or address for which the system reports an error.
    #[cfg(feature = "serve")]
    #[error(transparent)]
    System(io::Error),
    /// Other failure, in words.
    #[error("{0}")]
    Failed(String),
    /// Threads that cannot be started.
    #[error("threads cannot be started: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// Error of one of many runs.
    #[error("{place}")]
    In {
        /// Name of the run in words, e.g. `variant modm`.
        place: String,
        /// Error of the run.
        #[source]
        error: Box<ExperimentError>,
    },
}

impl From<FolderError> for ExperimentError {
    fn from(error: FolderError) -> Self {
        match error {
            FolderError::Output(error) => error.into(),
            FolderError::Run(error) => error.into(),
        }
    }
}

impl ExperimentError {
    /// Returns whether an input is at fault.
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

    /// Returns a function that makes an error of the system into an error of a file or folder. `what` says what cannot
    /// be done.
    #[cfg_attr(not(feature = "live"), expect(dead_code, reason = "simulations read through parsers"))]
    pub(super) fn file(file: &Path, what: &'static str) -> impl FnOnce(io::Error) -> Self {
        let file = file.to_owned();
        move |error| Self::File { file, what, error }
    }

    /// Returns a function that adds to an error the run in which it occurred.
    pub fn within(place: String) -> impl FnOnce(Self) -> Self {
        |error| Self::In { place, error: Box::new(error) }
    }
}
