//! Errors of the store, with the file that each is about.

use std::io;
use std::path::{Path, PathBuf};

use crate::image::ImageId;
use crate::live::error::Error as ModelError;

/// Reason for which the store cannot do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No entry belongs to the image.
    #[error("image {0} is not in the store")]
    UnknownImage(ImageId),
    /// No entry has the number.
    #[error("picture {0} is not cached")]
    NotCached(u64),
    /// The entry was deleted.
    #[error("{}: is deleted", .0.display())]
    Deleted(PathBuf),
    /// The entry has no picture: it is not on disk yet, or any more.
    #[error("{}: there is no picture", .0.display())]
    NoPicture(PathBuf),
    /// A file cannot be read, written or removed.
    #[error("{}: {error}", file.display())]
    File {
        /// File.
        file: PathBuf,
        /// Error of the system.
        error: io::Error,
    },
    /// A record is not what the store writes.
    #[error("{}: {error}", file.display())]
    Record {
        /// File of the record.
        file: PathBuf,
        /// Error of the parser.
        error: serde_json::Error,
    },
    /// A picture cannot be encoded or decoded.
    #[error("{}: {error}", file.display())]
    Picture {
        /// File of the picture.
        file: PathBuf,
        /// Error of the codec.
        error: Box<ModelError>,
    },
    /// The store has as many bytes as it may have.
    #[error("{}: not kept: the store has {bytes} of {most_bytes} bytes", file.display())]
    Full {
        /// File of the picture that is not kept.
        file: PathBuf,
        /// Bytes of the store.
        bytes: u64,
        /// Bytes that it may have.
        most_bytes: u64,
    },
    /// A worker on another machine cannot have the picture, for this reason.
    #[error("{0}")]
    Elsewhere(String),
    /// The disk thread has ended.
    #[error("the thread that reads pictures has ended")]
    ThreadEnded,
}

impl StoreError {
    /// Returns a function that names the file of an error of the system.
    pub(super) fn file(file: &Path) -> impl FnOnce(io::Error) -> Self + use<'_> {
        |error| Self::File { file: file.to_owned(), error }
    }

    /// Returns a function that names the file of an error of a parser.
    pub(super) fn record(file: &Path) -> impl FnOnce(serde_json::Error) -> Self + use<'_> {
        |error| Self::Record { file: file.to_owned(), error }
    }

    /// Returns a function that names the file of an error of a codec.
    pub(super) fn picture(file: &Path) -> impl FnOnce(ModelError) -> Self + use<'_> {
        |error| Self::Picture { file: file.to_owned(), error: Box::new(error) }
    }
}
