//! What must outlive a crash: asynchronous jobs, each on disk before it is acknowledged, and whose the pictures of results
//! are. An embedded database (redb); what comes at the same time is written in one transaction, so that a sync is shared.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use redb::{Database, ReadableDatabase, ReadableTable, Table, TableDefinition};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::request::Reuse;

const JOBS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("jobs");
const PICTURES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("pictures");
const USED: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("used");
/// Jobs and pictures by when they came, so that to forget what is old takes no look at what is not.
const AGES: TableDefinition<'_, (u64, &str), ()> = TableDefinition::new("ages");
/// What of the file is kept in memory, bytes; the library's own choice is a gigabyte.
const CACHE: usize = 16 << 20;
const FILE: &str = "ledger.redb";
/// Writes of one transaction at most.
const TOGETHER: usize = 256;

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
    /// Whose it is; none without keys.
    pub tenant: Option<String>,
    /// Seconds since 1970.
    pub created: u64,
    /// What is wanted.
    pub prompt: String,
    /// How many pictures.
    pub pictures: u32,
    /// What their noise derives from, if that was said.
    pub seed: Option<u64>,
    /// Seconds from its arrival in which it should be done.
    pub deadline_s: Option<f64>,
    /// Use of the image cache that it allows.
    #[serde(default, skip_serializing_if = "Reuse::is_all")]
    pub reuse: Reuse,
    /// How it stands.
    pub status: Status,
    /// Of each picture: how it came about, as it is answered.
    pub made: Vec<serde_json::Value>,
    /// Why it failed.
    pub error: Option<String>,
}

/// Whose a picture is, and since when it is there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Picture {
    /// None without keys.
    pub tenant: Option<String>,
    /// Seconds since 1970.
    pub created: u64,
}

/// What a tenant has used of a day's quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// Since 1970.
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
    /// What the tenant of this name has used.
    Used(String, Used),
    /// Jobs and pictures of before this time are forgotten; answered when the pictures' files may go.
    Forget(u64),
}

/// The ledger cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{file}: {why}")]
pub struct LedgerError {
    file: String,
    why: String,
}

type Answer = oneshot::Sender<Result<Vec<String>, LedgerError>>;

/// The ledger.
#[derive(Debug)]
pub struct Ledger {
    database: Arc<Database>,
    file: PathBuf,
    entries: Option<Sender<(Vec<Entry>, Answer)>>,
    writer: Option<JoinHandle<()>>,
}

impl Ledger {
    /// Opens the ledger of a folder, or begins one.
    ///
    /// # Errors
    /// It cannot be written, is no ledger, or another program has it.
    pub fn open(folder: &Path) -> Result<Self, LedgerError> {
        let file = folder.join(FILE);
        let wrong = wrong(&file);
        let database = Database::builder().set_cache_size(CACHE).create(&file).map_err(|error| wrong(&error))?;
        let begun = database.begin_write().map_err(|error| wrong(&error))?;
        begun.open_table(JOBS).map_err(|error| wrong(&error))?;
        begun.open_table(PICTURES).map_err(|error| wrong(&error))?;
        begun.open_table(USED).map_err(|error| wrong(&error))?;
        begun.open_table(AGES).map_err(|error| wrong(&error))?;
        begun.commit().map_err(|error| wrong(&error))?;
        let database = Arc::new(database);
        let (entries, work) = channel();
        let (own, place) = (database.clone(), file.clone());
        let writer = std::thread::Builder::new().name("ledger".into()).spawn(move || write(&work, &own, &place));
        let writer = writer.map_err(|error| wrong(&error))?;
        Ok(Self { database, file, entries: Some(entries), writer: Some(writer) })
    }

    /// Writes, and returns once it is on disk; what was forgotten comes back.
    ///
    /// # Errors
    /// It is not on disk.
    pub async fn write(&self, entries: Vec<Entry>) -> Result<Vec<String>, LedgerError> {
        let gone = || LedgerError { file: self.file.display().to_string(), why: "its thread has ended".to_owned() };
        let (answer, heard) = oneshot::channel();
        let sent = self.entries.as_ref().map(|to| to.send((entries, answer)));
        sent.ok_or_else(gone)?.map_err(|_| gone())?;
        heard.await.map_err(|_| gone())?
    }

    /// A job.
    ///
    /// # Errors
    /// The database fails.
    pub fn job(&self, id: &str) -> Result<Option<Job>, LedgerError> {
        self.read(JOBS, id)
    }

    /// Whose a picture is.
    ///
    /// # Errors
    /// The database fails.
    pub fn picture(&self, id: &str) -> Result<Option<Picture>, LedgerError> {
        self.read(PICTURES, id)
    }

    /// What a tenant had used of its quota when that was written last.
    ///
    /// # Errors
    /// The database fails.
    pub fn used(&self, tenant: &str) -> Result<Option<Used>, LedgerError> {
        self.read(USED, tenant)
    }

    fn read<T: serde::de::DeserializeOwned>(
        &self,
        table: TableDefinition<'static, &str, &[u8]>,
        id: &str,
    ) -> Result<Option<T>, LedgerError> {
        let wrong = wrong(&self.file);
        let reading = self.database.begin_read().map_err(|error| wrong(&error))?;
        let table = reading.open_table(table).map_err(|error| wrong(&error))?;
        let found = table.get(id).map_err(|error| wrong(&error))?;
        found.map(|found| serde_json::from_slice(found.value()).map_err(|error| wrong(&error))).transpose()
    }

    /// Jobs that were taken in and have not ended, in the order of their names: to be begun again.
    ///
    /// # Errors
    /// The database fails.
    pub fn open_jobs(&self) -> Result<Vec<Job>, LedgerError> {
        let wrong = wrong(&self.file);
        let reading = self.database.begin_read().map_err(|error| wrong(&error))?;
        let table = reading.open_table(JOBS).map_err(|error| wrong(&error))?;
        let mut jobs = Vec::new();
        for row in table.iter().map_err(|error| wrong(&error))? {
            let (_, value) = row.map_err(|error| wrong(&error))?;
            let job: Job = serde_json::from_slice(value.value()).map_err(|error| wrong(&error))?;
            if job.status == Status::Queued {
                jobs.push(job);
            }
        }
        jobs.sort_by(|a, b| a.created.cmp(&b.created).then_with(|| a.id.cmp(&b.id)));
        Ok(jobs)
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        drop(self.entries.take());
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

fn wrong(file: &Path) -> impl Fn(&dyn Display) -> LedgerError + use<> {
    let file = file.display().to_string();
    move |why| LedgerError { file: file.clone(), why: why.to_string() }
}

/// The thread that writes: whatever waits is one transaction.
fn write(entries: &Receiver<(Vec<Entry>, Answer)>, database: &Database, file: &Path) {
    while let Ok(first) = entries.recv() {
        let mut together = vec![first];
        together.extend(entries.try_iter().take(TOGETHER));
        let written = commit(database, together.iter().flat_map(|(entries, _)| entries), file);
        for (_, answer) in together {
            // Nobody may wait any more.
            let _ = answer.send(written.clone());
        }
    }
}

fn commit<'a>(
    database: &Database,
    entries: impl Iterator<Item = &'a Entry>,
    file: &Path,
) -> Result<Vec<String>, LedgerError> {
    let wrong = wrong(file);
    let writing = database.begin_write().map_err(|error| wrong(&error))?;
    let mut forgotten = Vec::new();
    {
        let mut jobs = writing.open_table(JOBS).map_err(|error| wrong(&error))?;
        let mut pictures = writing.open_table(PICTURES).map_err(|error| wrong(&error))?;
        let mut used = writing.open_table(USED).map_err(|error| wrong(&error))?;
        let mut ages = writing.open_table(AGES).map_err(|error| wrong(&error))?;
        for entry in entries {
            match entry {
                Entry::Job(job) => {
                    put(&mut jobs, &job.id, job, &wrong)?;
                    ages.insert((job.created, job.id.as_str()), ()).map_err(|error| wrong(&error))?;
                }
                Entry::Picture(id, picture) => {
                    put(&mut pictures, id, picture, &wrong)?;
                    ages.insert((picture.created, id.as_str()), ()).map_err(|error| wrong(&error))?;
                }
                Entry::Used(tenant, images) => put(&mut used, tenant, images, &wrong)?,
                Entry::Forget(before) => {
                    forgotten.extend(forget(*before, &mut jobs, &mut pictures, &mut ages, &wrong)?);
                }
            }
        }
    }
    writing.commit().map_err(|error| wrong(&error))?;
    Ok(forgotten)
}

type Rows<'a> = Table<'a, &'static str, &'static [u8]>;

fn put(
    table: &mut Rows<'_>,
    id: &str,
    value: &impl Serialize,
    wrong: &dyn Fn(&dyn Display) -> LedgerError,
) -> Result<(), LedgerError> {
    let bytes = serde_json::to_vec(value).map_err(|error| wrong(&error))?;
    table.insert(id, bytes.as_slice()).map(drop).map_err(|error| wrong(&error))
}

/// Forgets what came before a time, except jobs that are open; the pictures among it.
fn forget(
    before: u64,
    jobs: &mut Rows<'_>,
    pictures: &mut Rows<'_>,
    ages: &mut Table<'_, (u64, &'static str), ()>,
    wrong: &dyn Fn(&dyn Display) -> LedgerError,
) -> Result<Vec<String>, LedgerError> {
    let mut old = Vec::new();
    for row in ages.range(..(before, "")).map_err(|error| wrong(&error))? {
        let (key, _) = row.map_err(|error| wrong(&error))?;
        let (created, id) = key.value();
        old.push((created, id.to_owned()));
    }
    let mut gone = Vec::new();
    for (created, id) in old {
        let is_open = jobs
            .get(id.as_str())
            .map_err(|error| wrong(&error))?
            .is_some_and(|job| serde_json::from_slice(job.value()).is_ok_and(|job: Job| job.status == Status::Queued));
        if is_open {
            continue;
        }
        jobs.remove(id.as_str()).map_err(|error| wrong(&error))?;
        ages.remove((created, id.as_str())).map_err(|error| wrong(&error))?;
        let was_there = pictures.remove(id.as_str()).map_err(|error| wrong(&error))?.is_some();
        gone.extend(was_there.then_some(id));
    }
    Ok(gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(id: &str, created: u64, status: Status) -> Job {
        let (prompt, made) = ("a circle".to_owned(), Vec::new());
        let (tenant, seed, deadline_s, reuse, error) = (None, Some(5), None, Reuse::ALL, None);
        Job { id: id.to_owned(), tenant, created, prompt, pictures: 1, seed, deadline_s, reuse, status, made, error }
    }

    #[tokio::test]
    async fn what_was_written_is_there_again_and_what_is_old_goes() {
        let folder = tempfile::tempdir().expect("a folder");
        {
            let ledger = Ledger::open(folder.path()).expect("a ledger");
            let picture = Picture { tenant: Some("a".to_owned()), created: 5 };
            let entries = vec![
                Entry::Job(Box::new(job("b", 7, Status::Queued))),
                Entry::Job(Box::new(job("a", 7, Status::Queued))),
                Entry::Job(Box::new(job("c", 6, Status::Completed))),
                Entry::Picture("p".to_owned(), picture),
                Entry::Used("a".to_owned(), Used { day: 3, images: 5 }),
            ];
            ledger.write(entries).await.expect("written");
            assert!(Ledger::open(folder.path()).is_err(), "one program at a time");
        }
        let ledger = Ledger::open(folder.path()).expect("a ledger");
        let open: Vec<String> = ledger.open_jobs().expect("jobs").into_iter().map(|job| job.id).collect();
        assert_eq!(open, ["a", "b"]);
        assert_eq!(ledger.picture("p").expect("read").and_then(|picture| picture.tenant), Some("a".to_owned()));
        assert_eq!(ledger.used("a").expect("read"), Some(Used { day: 3, images: 5 }));
        assert_eq!(ledger.job("none").expect("read"), None);
        assert_eq!(ledger.write(vec![Entry::Forget(100)]).await.expect("written"), ["p"]);
        assert!(
            ledger.job("c").expect("read").is_none() && ledger.job("a").expect("read").is_some(),
            "not what is open"
        );
    }
}
