//! The ledger, which must outlive a crash: asynchronous jobs, each on disk before it is acknowledged, and the owners of the pictures of
//! results. An embedded database (redb). An error of the disk is recovered from in place; a ledger that has lost something is
//! not used.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::clock::HostClock;
use crate::live::faults::Faults;
use crate::request::Reuse;
use writer::{Answer, Orders};

mod backend;
mod error;
pub(in crate::serve) mod mark;
pub(in crate::serve) mod offline;
mod rows;
mod shelf;
#[cfg(test)]
mod tests;
mod writer;

pub use error::LedgerError;
pub use rows::Place;
use shelf::Shelf;

const FILE: &str = "ledger.redb";

/// The ledger's file in a folder.
pub(super) fn file(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

/// Folder of the pictures of results.
#[must_use]
pub fn results(folder: &Path) -> PathBuf {
    folder.join("results")
}

/// File of a result in that folder.
#[must_use]
pub fn picture_file(results: &Path, id: &str) -> PathBuf {
    results.join(format!("{id}.png"))
}

/// How a job stands on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Taken in; whether it has begun is not written down.
    Queued,
    /// Its pictures are there.
    Completed,
    /// None will come.
    Failed,
    /// Withdrawn.
    Cancelled,
}

/// An asynchronous job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its name.
    pub id: String,
    /// Name of its owner; none without keys.
    pub tenant: Option<String>,
    /// Date when it was asked for, seconds since 1970.
    pub created: u64,
    /// Date when it ended; none before.
    #[serde(default)]
    pub ended: Option<u64>,
    /// Number of starts of the program at which it was begun again.
    #[serde(default)]
    pub attempts: u32,
    /// Text of what its pictures show.
    pub prompt: String,
    /// Number of pictures.
    pub pictures: u32,
    /// Seed of their noise, if the client gave one.
    pub seed: Option<u64>,
    /// Seconds from its arrival in which it should be done.
    pub deadline_s: Option<f64>,
    /// Use of the image cache that it allows.
    #[serde(default, skip_serializing_if = "Reuse::is_all")]
    pub reuse: Reuse,
    /// How it stands.
    pub status: Status,
    /// How each picture came about, as it is answered.
    pub made: Vec<serde_json::Value>,
    /// Why it failed.
    pub error: Option<String>,
}

/// A picture of the results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Picture {
    /// Name of its owner; none without keys.
    pub tenant: Option<String>,
    /// Date when it was kept, seconds since 1970.
    pub created: u64,
    /// Bytes of its file.
    #[serde(default)]
    pub bytes: u64,
    /// CRC-32 of its file; none in ledgers of version 1.
    #[serde(default)]
    pub crc: Option<u32>,
}

/// A tenant's use of a day's quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// Day since 1970.
    pub day: u64,
    /// Images asked for on it.
    pub images: u64,
}

/// Something to write.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A job as it stands now.
    Job(Box<Job>),
    /// A picture of the results.
    Picture(String, Picture),
    /// Use of the quota by the tenant of this name.
    Used(String, Used),
    /// A job that was never acknowledged is removed.
    Withdraw(String),
    /// A picture of the results is forgotten.
    Remove(String),
    /// Ended jobs and pictures of before this time are forgotten, and the oldest beyond so many bytes of pictures.
    Forget {
        /// Date, seconds since 1970.
        before: u64,
        /// Bytes of all pictures that stay at most.
        most_bytes: u64,
    },
}

/// Rows that a transaction has forgotten.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Names of pictures, whose files may go.
    pub pictures: Vec<String>,
}

/// How the ledger does.
#[derive(Clone, Debug)]
pub enum Health {
    /// It works.
    Well,
    /// The disk fails; each use tries again.
    Failing {
        /// Time since the first failure.
        since: Duration,
        /// Whether there is no room.
        is_full: bool,
    },
    /// The disk has not answered a call for longer than it may take.
    Silent {
        /// Time since the call began.
        since: Duration,
    },
    /// It cannot be used any more.
    Lost(LedgerError),
}

/// Time that a use of the disk may take unless it is said otherwise.
const USUAL_LIMIT: Duration = Duration::from_secs(30);
/// Time between two looks at whether the thread that writes has ended.
const POLL: Duration = Duration::from_millis(2);

/// The ledger.
pub struct Ledger {
    shelf: Arc<Shelf>,
    /// Newest date of the ledger when it was opened.
    last_date: Option<u64>,
    warnings: Vec<String>,
    /// Time that one use of the disk may take.
    limit: Duration,
    orders: Option<Orders>,
    writer: Option<JoinHandle<()>>,
}

impl Ledger {
    /// Opens the ledger of a folder, or begins one.
    ///
    /// # Errors
    /// It cannot be written, is damaged, of a newer version, or another program has it.
    pub fn open(folder: &Path, clock: &HostClock, faults: Option<Arc<Faults>>) -> Result<Self, LedgerError> {
        let (shelf, last_date, warnings) = Shelf::open(folder, clock.clone(), faults)?;
        let shelf = Arc::new(shelf);
        let (orders, work) = channel();
        let own = shelf.clone();
        let writer = std::thread::Builder::new().name("ledger".into()).spawn(move || writer::write(&work, &own));
        let writer = writer.map_err(|error| LedgerError::new(folder, error::Fault::io(&error)))?;
        let limit = USUAL_LIMIT;
        Ok(Self { shelf, last_date, warnings, limit, orders: Some(orders), writer: Some(writer) })
    }

    /// Sets the time that one use of the disk may take: past it the disk counts as hanging, and nothing is acknowledged.
    #[must_use]
    pub const fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Newest date that the ledger had when it was opened, seconds since 1970.
    #[must_use]
    pub const fn last_date(&self) -> Option<u64> {
        self.last_date
    }

    /// Warnings about what was mended when it was opened.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// How it does. Asks nothing of the disk.
    #[must_use]
    pub fn health(&self) -> Health {
        self.shelf.health(self.limit)
    }

    /// Whether the thread that writes is there.
    #[must_use]
    pub fn is_writing(&self) -> bool {
        self.writer.as_ref().is_some_and(|writer| !writer.is_finished())
    }

    /// Tries a ledger that fails. Returns whether it works.
    #[must_use]
    pub fn probe(&self) -> bool {
        self.shelf.using(|database| rows::numbers(database).map(drop)).is_ok()
    }

    /// Writes, and returns once it is on disk; what was forgotten comes back.
    ///
    /// # Errors
    /// It is not on disk, or the disk has not answered in time: what is written later was not acknowledged, and a job that it
    /// takes in is withdrawn.
    pub async fn write(&self, entries: Vec<Entry>) -> Result<Forgotten, LedgerError> {
        let gone = || self.shelf.without_writer();
        let (answer, mut heard): (Answer, _) = oneshot::channel();
        let sent = self.orders.as_ref().map(|to| to.send((entries, answer)));
        sent.ok_or_else(gone)?.map_err(|_| gone())?;
        if let Ok(answer) = tokio::time::timeout(self.limit, &mut heard).await {
            return answer.map_err(|_| gone())?;
        }
        // An answer that came meanwhile counts; after this the writer knows that nobody hears it.
        heard.close();
        heard.try_recv().unwrap_or_else(|_| Err(self.shelf.is_silent(self.limit)))
    }

    /// Reads a job.
    ///
    /// # Errors
    /// The database fails.
    pub fn job(&self, id: &str) -> Result<Option<Job>, LedgerError> {
        self.shelf.using(|database| rows::read(database, rows::JOBS, id))
    }

    /// Reads at most so many jobs of a tenant, of all if `None`, newest first; with a place those after it.
    ///
    /// # Errors
    /// The database fails.
    pub fn newest_jobs(
        &self,
        tenant: Option<&str>,
        after: Option<&Place>,
        most: usize,
    ) -> Result<Vec<Job>, LedgerError> {
        self.shelf.using(|database| rows::newest_jobs(database, tenant, after, most))
    }

    /// Reads what is known of a picture.
    ///
    /// # Errors
    /// The database fails.
    pub fn picture(&self, id: &str) -> Result<Option<Picture>, LedgerError> {
        self.shelf.using(|database| rows::read(database, rows::PICTURES, id))
    }

    /// Reads what a tenant had used of its quota when that was written last.
    ///
    /// # Errors
    /// The database fails.
    pub fn used(&self, tenant: &str) -> Result<Option<Used>, LedgerError> {
        self.shelf.using(|database| rows::read(database, rows::USED, tenant))
    }

    /// Names of all pictures.
    ///
    /// # Errors
    /// The database fails.
    pub fn pictures(&self) -> Result<Vec<String>, LedgerError> {
        self.shelf.using(rows::picture_names)
    }

    /// Numbers of ended jobs, of pictures and of quotas whose tenant is none of these.
    ///
    /// # Errors
    /// The database fails.
    pub fn strangers(&self, tenants: &[String]) -> Result<[u64; 3], LedgerError> {
        self.shelf.using(|database| rows::strangers(database, tenants))
    }

    /// Jobs that were taken in and have not ended, oldest first: to be begun again.
    ///
    /// # Errors
    /// The database fails.
    pub fn open_jobs(&self) -> Result<Vec<Job>, LedgerError> {
        self.shelf.using(rows::open_jobs)
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        drop(self.orders.take());
        let Some(writer) = self.writer.take() else { return };
        while !writer.is_finished() {
            if self.shelf.silence() > self.limit {
                // The program must end although the disk hangs.
                return;
            }
            super::pause(POLL);
        }
        let _ = writer.join();
    }
}
