//! Errors of models, sessions and pictures. Errors of models and sessions name the file. Errors of loading,
//! drawing and embedding stand beside the traits of painters and encoders.

use std::path::{Path, PathBuf};

use super::isolated::Reported;
use crate::input::InputError;

/// Error of a model, a session or a picture.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Input file that is missing or has wrong content.
    #[error(transparent)]
    Input(#[from] InputError),
    /// Failure in a session.
    #[error("{}: {message}", file.display())]
    Session {
        /// File of the model.
        file: PathBuf,
        /// Reason, in the words of ONNX Runtime or of the encoder.
        message: String,
    },
    /// Values of a model that are NaN or infinite.
    #[error("{}: gave values that are not finite (NaN or infinite) {place}{advice}", file.display())]
    NotFinite {
        /// File of the model.
        file: PathBuf,
        /// Place in the computation, for example an output or a step.
        place: String,
        /// Advice for the user, beginning with a semicolon; empty if there is none.
        advice: &'static str,
    },
    /// Picture that cannot be encoded or decoded.
    #[error("a picture cannot be encoded or decoded: {0}")]
    Picture(#[from] image::ImageError),
    /// Model that ran and gave nothing.
    #[error("the {model} gave no {output}")]
    NoOutput {
        /// Model, in words.
        model: &'static str,
        /// Output that is missing, in words.
        output: &'static str,
    },
    /// Error of a model, a session or a picture in a worker process.
    #[error(transparent)]
    Reported(#[from] Reported),
    /// Work that was cancelled.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// Returns a function that turns an error of ONNX Runtime into an error that names `file`.
    pub(super) fn session<R>(file: &Path) -> impl Fn(ort::Error<R>) -> Self + use<'_, R> {
        // The message may have several lines, and a line break at its end.
        move |error| Self::Session {
            file: file.to_owned(),
            message: error.to_string().trim().trim_end_matches('.').replace('\n', " "),
        }
    }

    /// Makes the error for a model whose file can be read, but whose model cannot be used.
    pub(super) fn model(file: &Path, message: impl Into<String>) -> Self {
        Self::Input(InputError::new(file, message))
    }
}
