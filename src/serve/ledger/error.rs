//! Errors of a ledger: inside, as redb says it, and outside, as callers act on it.

use std::io;
use std::path::Path;

use redb::{CommitError, DatabaseError, StorageError, TableError, TransactionError};

/// An error of one use of the database.
#[derive(Debug)]
pub(in crate::serve) enum Fault {
    /// The disk: the database must be opened again.
    Disk(String),
    /// There is no room on the disk; likewise.
    Full(String),
    /// The file does not hold what was written.
    Damaged(String),
    /// Another program has the file.
    InUse,
    /// It is of another version than this program knows.
    Version(String),
}

impl Fault {
    /// The fault, without the file's name.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Disk(why) | Self::Full(why) | Self::Damaged(why) | Self::Version(why) => why.clone(),
            Self::InUse => "is in use by another run".to_owned(),
        }
    }

    pub(super) fn io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(error.to_string()),
            // Beyond the end of a file that was cut.
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => Self::Damaged(error.to_string()),
            _ => Self::Disk(error.to_string()),
        }
    }
}

impl From<StorageError> for Fault {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Io(error) => Self::io(&error),
            StorageError::Corrupted(why) => Self::Damaged(why),
            other => Self::Disk(other.to_string()),
        }
    }
}

impl From<TableError> for Fault {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Storage(error) => error.into(),
            other => Self::Damaged(other.to_string()),
        }
    }
}

impl From<TransactionError> for Fault {
    fn from(error: TransactionError) -> Self {
        match error {
            TransactionError::Storage(error) => error.into(),
            other => Self::Disk(other.to_string()),
        }
    }
}

impl From<CommitError> for Fault {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Storage(error) => error.into(),
            other => Self::Disk(other.to_string()),
        }
    }
}

impl From<DatabaseError> for Fault {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::DatabaseAlreadyOpen => Self::InUse,
            DatabaseError::Storage(error) => error.into(),
            DatabaseError::UpgradeRequired(version) => {
                Self::Version(format!("its file format is version {version} of redb, which this program does not read"))
            }
            other => Self::Damaged(other.to_string()),
        }
    }
}

impl From<serde_json::Error> for Fault {
    fn from(error: serde_json::Error) -> Self {
        Self::Damaged(format!("a row cannot be read: {error}"))
    }
}

/// The ledger cannot be used. Its text has paths: it is for the log, not for clients.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The disk fails or is full. It is tried again.
    #[error("{file}: {why}")]
    Disk {
        /// Path of the ledger.
        file: String,
        /// Message of the system.
        why: String,
        /// Whether there is no room.
        is_full: bool,
    },
    /// It has lost something, or cannot be read.
    #[error("{file}: is damaged: {why}. `modm repair {folder}` saves what can be read and sets the rest aside")]
    Damaged {
        /// Path of the ledger.
        file: String,
        /// Folder that it is in.
        folder: String,
        /// The rows that do not fit.
        why: String,
    },
    /// Another program has it.
    #[error("{file}: is in use by another run: end that one, or choose another folder")]
    InUse {
        /// Path of the ledger.
        file: String,
    },
    /// It is of a newer program.
    #[error("{file}: {why}")]
    Version {
        /// Path of the ledger.
        file: String,
        /// Version that was found, and those that are known.
        why: String,
    },
}

impl LedgerError {
    pub(in crate::serve) fn new(folder: &Path, fault: Fault) -> Self {
        let file = super::file(folder).display().to_string();
        match fault {
            Fault::Disk(why) => Self::Disk { file, why, is_full: false },
            Fault::Full(why) => Self::Disk { file, why, is_full: true },
            Fault::Damaged(why) => Self::Damaged { file, folder: folder.display().to_string(), why },
            Fault::InUse => Self::InUse { file },
            Fault::Version(why) => Self::Version { file, why },
        }
    }

    /// Whether to try again may help.
    #[must_use]
    pub const fn is_disk(&self) -> bool {
        matches!(self, Self::Disk { .. })
    }
}
