//! What can go wrong with models, sessions and pictures, with the file it happened in.

use std::path::{Path, PathBuf};

use crate::input::InputError;

/// A model cannot be used, or did not do what it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file that is not what it should be.
    #[error(transparent)]
    Input(#[from] InputError),
    /// ONNX Runtime refused.
    #[error("{}: {message}", file.display())]
    Session {
        /// The model's file.
        file: PathBuf,
        /// What it said.
        message: String,
    },
    /// A part of a model gave values that are NaN or infinite.
    #[error("{}: gave values that are not finite (NaN or infinite) {place}{advice}", file.display())]
    NotFinite {
        /// The model's file.
        file: PathBuf,
        /// Place in its work: an output or a step.
        place: String,
        /// Advice, after a semicolon; empty if there is none.
        advice: &'static str,
    },
    /// A picture cannot be encoded or decoded.
    #[error("a picture cannot be stored: {0}")]
    Picture(#[from] image::ImageError),
    /// The work was called off.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// ONNX Runtime's error, with the file it is about.
    pub(super) fn session<R>(file: &Path) -> impl Fn(ort::Error<R>) -> Self + use<'_, R> {
        // Its message may have several lines and end with one.
        move |error| Self::Session {
            file: file.to_owned(),
            message: error.to_string().trim().trim_end_matches('.').replace('\n', " "),
        }
    }

    /// A model whose file is sound but not what this program knows.
    pub(super) fn model(file: &Path, message: impl Into<String>) -> Self {
        Self::Input(InputError::new(file, message))
    }
}
