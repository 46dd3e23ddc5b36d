//! The ledger of what must survive a crash: asynchronous jobs, each on disk before it is acknowledged, the owners of
//! the pictures of results, and the used quotas. It is an embedded database (redb). The ledger recovers from an error
//! of the disk while the server runs; a ledger that has lost a transaction is not used.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::clock::HostClock;
use super::offers::Wanted;
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

/// Returns the path of the ledger's file in a folder.
pub(super) fn file(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

/// Returns the folder of the pictures of results.
#[must_use]
pub fn results(folder: &Path) -> PathBuf {
    folder.join("results")
}

/// Returns the path of a picture's file in the folder of results.
#[must_use]
pub fn picture_file(results: &Path, id: &str) -> PathBuf {
    results.join(format!("{id}.png"))
}

/// Status of a job on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Accepted job that has not ended. The ledger does not record whether the job has begun.
    Queued,
    /// Job that ended with all its pictures.
    Completed,
    /// Job that ended with an error and without pictures.
    Failed,
    /// Withdrawn job.
    Cancelled,
}

/// Asynchronous job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Name of the job.
    pub id: String,
    /// Name of the tenant that owns the job; `None` without keys.
    pub tenant: Option<String>,
    /// Date at which the job was submitted, in seconds since 1970.
    pub created: u64,
    /// Date at which the job ended, in seconds since 1970; `None` before.
    #[serde(default)]
    pub ended: Option<u64>,
    /// Number of starts of the program at which the job was begun again.
    #[serde(default)]
    pub attempts: u32,
    /// Prompt of the pictures.
    pub prompt: String,
    /// Number of pictures.
    pub pictures: u32,
    /// Seed of the noise of the pictures, if the client gave one.
    pub seed: Option<u64>,
    /// Seconds after the arrival within which the job should be done, if the client gave a deadline.
    pub deadline_s: Option<f64>,
    /// Use of the image cache that the job allows.
    #[serde(default, skip_serializing_if = "Reuse::is_all")]
    pub reuse: Reuse,
    /// Wishes beside the prompt.
    #[serde(default, skip_serializing_if = "Wanted::is_usual")]
    pub wanted: Wanted,
    /// Status of the job.
    pub status: Status,
    /// Description of how each picture was made, as clients get it.
    pub made: Vec<serde_json::Value>,
    /// Reason of the failure, if the job failed.
    pub error: Option<String>,
}

/// Picture of a result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Picture {
    /// Name of the tenant that owns the picture; `None` without keys.
    pub tenant: Option<String>,
    /// Date at which the picture was kept, in seconds since 1970.
    pub created: u64,
    /// Number of bytes of the picture's file.
    #[serde(default)]
    pub bytes: u64,
    /// CRC-32 of the picture's file; `None` if the picture is from a ledger of version 1.
    #[serde(default)]
    pub crc: Option<u32>,
}

/// Use of a day's quota by a tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// Number of the day since 1970.
    pub day: u64,
    /// Number of images that were requested on that day.
    pub images: u64,
}

/// Change to write to the ledger.
#[derive(Clone, Debug)]
pub enum Entry {
    /// Job that is not acknowledged before it is on disk, and is withdrawn if it is refused.
    NewJob(Box<Job>),
    /// Acknowledged job in its current state. It is never withdrawn, whatever becomes of this write.
    Job(Box<Job>),
    /// Picture of a result, with its name.
    Picture(String, Picture),
    /// Use of the quota by the tenant of this name.
    Used(String, Used),
    /// Removal of a job that was never acknowledged.
    Withdraw(String),
    /// Removal of the picture of a result.
    Remove(String),
    /// Removal of the ended jobs and pictures from before a date, and of the oldest ones while the pictures have too
    /// many bytes.
    Forget {
        /// Date before which ended jobs and pictures are removed, in seconds since 1970.
        before: u64,
        /// Largest total size of the pictures that stay, in bytes.
        most_bytes: u64,
    },
}

/// Rows that a transaction has removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Names of the removed pictures, whose files may be deleted.
    pub pictures: Vec<String>,
}

/// Health of the ledger.
#[derive(Clone, Debug)]
pub enum Health {
    /// Ledger that works.
    Well,
    /// Ledger whose disk fails. Each call tries again.
    Failing {
        /// Time since the first failure.
        since: Duration,
        /// True if the disk is full.
        is_full: bool,
    },
    /// Ledger whose disk has not answered a call within the limit.
    Silent {
        /// Time since the call began.
        since: Duration,
    },
    /// Ledger that cannot be used any more.
    Lost(LedgerError),
}

/// Default of the time that one call of the database may take.
const USUAL_LIMIT: Duration = Duration::from_secs(30);
/// Time between two checks whether the thread that writes has ended.
const POLL: Duration = Duration::from_millis(2);

/// Ledger of a data folder, with the thread that writes it.
pub struct Ledger {
    shelf: Arc<Shelf>,
    /// Date of the last transaction when the ledger was opened, in seconds since 1970.
    last_date: Option<u64>,
    warnings: Vec<String>,
    /// Time that one call of the database may take.
    limit: Duration,
    orders: Option<Orders>,
    writer: Option<JoinHandle<()>>,
}

impl Ledger {
    /// Opens the ledger of a folder, or makes a new one.
    ///
    /// # Errors
    /// The ledger cannot be written, is damaged, has a newer version, or is in use by another program.
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

    /// Sets the time that one call of the database may take. After that time the disk counts as hanging, and nothing is
    /// acknowledged.
    #[must_use]
    pub const fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Returns the date of the last transaction when the ledger was opened, in seconds since 1970.
    #[must_use]
    pub const fn last_date(&self) -> Option<u64> {
        self.last_date
    }

    /// Returns warnings about what was repaired when the ledger was opened.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Returns the health of the ledger, without a call to the disk.
    #[must_use]
    pub fn health(&self) -> Health {
        self.shelf.health(self.limit)
    }

    /// Returns whether the thread that writes is running.
    #[must_use]
    pub fn is_writing(&self) -> bool {
        self.writer.as_ref().is_some_and(|writer| !writer.is_finished())
    }

    /// Reads from a ledger that fails. Returns whether it works again.
    #[must_use]
    pub fn probe(&self) -> bool {
        self.shelf.using(|database| rows::numbers(database).map(drop)).is_ok()
    }

    /// Writes entries in one transaction, and returns once they are on disk. Returns the rows that the transaction
    /// removed.
    ///
    /// # Errors
    /// The entries are not on disk, or the disk has not answered in time. Entries that reach the disk later were not
    /// acknowledged, and a new job among them is withdrawn.
    pub async fn write(&self, entries: Vec<Entry>) -> Result<Forgotten, LedgerError> {
        let gone = || self.shelf.without_writer();
        let (answer, mut heard): (Answer, _) = oneshot::channel();
        let sent = self.orders.as_ref().map(|to| to.send((entries, answer)));
        sent.ok_or_else(gone)?.map_err(|_| gone())?;
        if let Ok(answer) = tokio::time::timeout(self.limit, &mut heard).await {
            return answer.map_err(|_| gone())?;
        }
        // An answer that came meanwhile counts. After `close` the writer finds that no caller waits for the answer.
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

    /// Reads at most `most` jobs of a tenant (of all tenants if `None`), newest first. With a place, reads the jobs
    /// after it.
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

    /// Reads the row of a picture.
    ///
    /// # Errors
    /// The database fails.
    pub fn picture(&self, id: &str) -> Result<Option<Picture>, LedgerError> {
        self.shelf.using(|database| rows::read(database, rows::PICTURES, id))
    }

    /// Reads how much of its quota a tenant had used, as it was written last.
    ///
    /// # Errors
    /// The database fails.
    pub fn used(&self, tenant: &str) -> Result<Option<Used>, LedgerError> {
        self.shelf.using(|database| rows::read(database, rows::USED, tenant))
    }

    /// Returns the names of all pictures.
    ///
    /// # Errors
    /// The database fails.
    pub fn pictures(&self) -> Result<Vec<String>, LedgerError> {
        self.shelf.using(rows::picture_names)
    }

    /// Counts the ended jobs, the pictures and the quotas that belong to none of these tenants.
    ///
    /// # Errors
    /// The database fails.
    pub fn strangers(&self, tenants: &[String]) -> Result<[u64; 3], LedgerError> {
        self.shelf.using(|database| rows::strangers(database, tenants))
    }

    /// Returns the jobs that were accepted and have not ended, oldest first, so that they can be begun again.
    ///
    /// # Errors
    /// The database fails.
    pub fn open_jobs(&self) -> Result<Vec<Job>, LedgerError> {
        self.shelf.using(rows::open_jobs)
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        // Without a sender, the thread ends after the orders that it has.
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
