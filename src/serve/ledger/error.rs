//! Errors of a ledger: `Fault` for use inside the ledger, made from redb's errors, and `LedgerError` for callers, who
//! act on its kind.

use std::io;
use std::path::Path;

use redb::{CommitError, DatabaseError, StorageError, TableError, TransactionError};

/// Error of one call of the database.
#[derive(Debug)]
pub(in crate::serve) enum Fault {
    /// Failing disk: the database must be reopened.
    Disk(String),
    /// Full disk: the database must be reopened.
    Full(String),
    /// File that does not hold what was written.
    Damaged(String),
    /// File that another program has open.
    InUse,
    /// File of a version that this program does not read.
    Version(String),
}

impl Fault {
    /// Returns the description of the fault, without the file's name.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Disk(why) | Self::Full(why) | Self::Damaged(why) | Self::Version(why) => why.clone(),
            Self::InUse => "is in use by another run".to_owned(),
        }
    }

    pub(super) fn io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(error.to_string()),
            // The read went beyond the end of a file that was cut.
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
            // redb answers `PreviousIo` to every call after one that failed. A reopening helps against it.
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

/// Reason why the ledger cannot be used. The text of the error has paths: it is for the log, not for clients.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// Disk that fails or is full. Later calls try again.
    #[error("{file}: {why}")]
    Disk {
        /// Path of the ledger.
        file: String,
        /// Error of the system.
        why: String,
        /// True if the disk is full.
        is_full: bool,
    },
    /// Ledger that has lost a transaction, or cannot be read.
    #[error("{file}: is damaged: {why}. `modm repair {folder}` saves what can be read and sets the rest aside")]
    Damaged {
        /// Path of the ledger.
        file: String,
        /// Folder of the ledger.
        folder: String,
        /// Description of the damage.
        why: String,
    },
    /// Ledger that another program has open.
    #[error("{file}: is in use by another run: end that one, or choose another folder")]
    InUse {
        /// Path of the ledger.
        file: String,
    },
    /// Ledger of a version that this program does not read.
    #[error("{file}: {why}")]
    Version {
        /// Path of the ledger.
        file: String,
        /// Version of the ledger, and the versions that this program reads.
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

    /// Returns whether another attempt may succeed.
    #[must_use]
    pub const fn is_disk(&self) -> bool {
        matches!(self, Self::Disk { .. })
    }
}
