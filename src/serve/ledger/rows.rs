//! Tables of the ledger, the changes of a transaction to them, and the migration of rows of older versions.

use std::collections::BTreeMap;
use std::path::Path;

use redb::{
    Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table, TableDefinition, WriteTransaction,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::Fault;
use super::{Entry, Forgotten, Job, Picture, Status, Used};

pub(super) const JOBS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("jobs");
pub(super) const PICTURES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("pictures");
pub(super) const USED: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("used");
/// Ended jobs by date of their end and pictures by date at which they were kept, so that the removal of old rows reads
/// no newer ones.
pub(super) const AGES: TableDefinition<'_, (u64, &str), ()> = TableDefinition::new("ages");
/// Jobs by tenant (empty without keys), date of submission, and name, so that a page of a tenant's jobs reads no jobs
/// of other tenants.
pub(super) const JOBS_OF_TENANTS: TableDefinition<'_, (&str, u64, &str), ()> = TableDefinition::new("jobs_of_tenants");
/// Numbers of the whole ledger, by the keys below.
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Key of the version of the rows.
const VERSION: &str = "version";
/// Key of the number of the last transaction.
const SEQUENCE: &str = "sequence";
/// Key of the date of the last transaction, in seconds since 1970.
const DATE: &str = "date";
/// Key of the number of bytes of all pictures that the ledger knows.
const BYTES: &str = "bytes";

/// Version that this program writes. In version 1 the ages of jobs were dates of submission, and there was no table of
/// numbers. Version 2 had no table of jobs by tenant.
pub(super) const NEWEST: u64 = 3;
/// First version in which the ages of jobs are the dates of their ends.
const AGES_OF_ENDS: u64 = 2;
/// Text that sorts after every name of a job.
const AFTER_NAMES: &str = "~";

type Rows<'a> = Table<'a, &'static str, &'static [u8]>;

/// Open tables of a transaction.
struct Tables<'a> {
    jobs: Rows<'a>,
    pictures: Rows<'a>,
    used: Rows<'a>,
    ages: Table<'a, (u64, &'static str), ()>,
    of_tenants: Table<'a, (&'static str, u64, &'static str), ()>,
    meta: Table<'a, &'static str, u64>,
}

impl<'a> Tables<'a> {
    fn open(writing: &'a WriteTransaction) -> Result<Self, Fault> {
        Ok(Self {
            jobs: writing.open_table(JOBS)?,
            pictures: writing.open_table(PICTURES)?,
            used: writing.open_table(USED)?,
            ages: writing.open_table(AGES)?,
            of_tenants: writing.open_table(JOBS_OF_TENANTS)?,
            meta: writing.open_table(META)?,
        })
    }

    fn number(&self, name: &str) -> Result<u64, Fault> {
        Ok(self.meta.get(name)?.map_or(0, |number| number.value()))
    }

    fn apply(&mut self, entry: &Entry, forgotten: &mut Forgotten) -> Result<(), Fault> {
        match entry {
            Entry::NewJob(job) | Entry::Job(job) => {
                if self.forget_end(&job.id)?.is_none() {
                    // The tenant and the date of a job never change, so that this entry is written once.
                    self.of_tenants.insert((tenant(job), job.created, job.id.as_str()), ())?;
                }
                put(&mut self.jobs, &job.id, job)?;
                if let Some(ended) = job.ended {
                    self.ages.insert((ended, job.id.as_str()), ())?;
                }
            }
            Entry::Picture(id, picture) => {
                let before: Option<Picture> = parsed(self.pictures.get(id.as_str())?.map(|row| row.value().to_vec()))?;
                if let Some(before) = &before {
                    self.ages.remove((before.created, id.as_str()))?;
                }
                put(&mut self.pictures, id, picture)?;
                self.ages.insert((picture.created, id.as_str()), ())?;
                // A commit that was reported as failed may be on disk. Its pictures are written again and must not
                // count twice.
                let bytes = self.number(BYTES)?.saturating_sub(before.map_or(0, |before| before.bytes));
                self.meta.insert(BYTES, bytes + picture.bytes)?;
            }
            Entry::Used(tenant, images) => put(&mut self.used, tenant, images)?,
            Entry::Withdraw(id) => {
                self.forget_end(id)?;
                self.remove_job(id)?;
            }
            Entry::Remove(id) => self.remove(id, forgotten)?,
            Entry::Forget { before, most_bytes } => self.forget(*before, *most_bytes, forgotten)?,
        }
        Ok(())
    }

    /// Removes the age of a job, if the job has a row with an end. A commit that was reported as failed may be on disk
    /// all the same: its job is then written again, with a later end. Returns the job's row.
    fn forget_end(&mut self, id: &str) -> Result<Option<Job>, Fault> {
        let before: Option<Job> = parsed(self.jobs.get(id)?.map(|row| row.value().to_vec()))?;
        if let Some(ended) = before.as_ref().and_then(|job| job.ended) {
            self.ages.remove((ended, id))?;
        }
        Ok(before)
    }

    /// Removes the row of a job, if there is one, and its entry in the table of jobs by tenant.
    fn remove_job(&mut self, id: &str) -> Result<(), Fault> {
        let before: Option<Job> = parsed(self.jobs.remove(id)?.map(|row| row.value().to_vec()))?;
        if let Some(job) = before {
            self.of_tenants.remove((tenant(&job), job.created, id))?;
        }
        Ok(())
    }

    /// Removes a picture, if the ledger knows it.
    fn remove(&mut self, id: &str, forgotten: &mut Forgotten) -> Result<(), Fault> {
        let known: Option<Picture> = parsed(self.pictures.get(id)?.map(|row| row.value().to_vec()))?;
        let Some(picture) = known else { return Ok(()) };
        self.pictures.remove(id)?;
        self.ages.remove((picture.created, id))?;
        let bytes = self.number(BYTES)?.saturating_sub(picture.bytes);
        self.meta.insert(BYTES, bytes)?;
        forgotten.pictures.push(id.to_owned());
        Ok(())
    }

    /// Removes the ended jobs and pictures from before a date, and the oldest ones while the pictures have more than
    /// `most_bytes` bytes.
    fn forget(&mut self, before: u64, most_bytes: u64, forgotten: &mut Forgotten) -> Result<(), Fault> {
        let mut bytes = self.number(BYTES)?;
        let mut old = Vec::new();
        // The rows are collected first, because a table cannot be changed while it is read.
        for row in self.ages.iter()? {
            let (key, ()) = row.map(|(key, _)| (key, ()))?;
            let (time, id) = key.value();
            if time >= before && bytes <= most_bytes {
                break;
            }
            let picture: Option<Picture> = parsed(self.pictures.get(id)?.map(|row| row.value().to_vec()))?;
            bytes = bytes.saturating_sub(picture.as_ref().map_or(0, |picture| picture.bytes));
            old.push((time, id.to_owned(), picture.is_some()));
        }
        for (time, id, is_picture) in old {
            self.ages.remove((time, id.as_str()))?;
            if is_picture {
                self.pictures.remove(id.as_str())?;
                forgotten.pictures.push(id);
            } else {
                self.remove_job(&id)?;
            }
        }
        self.meta.insert(BYTES, bytes)?;
        Ok(())
    }
}

/// Result of a transaction.
#[derive(Clone, Debug)]
pub(super) struct Committed {
    pub(super) sequence: u64,
    pub(super) forgotten: Forgotten,
}

/// Writes entries in one transaction.
pub(super) fn commit<'a>(
    database: &Database,
    entries: impl Iterator<Item = &'a Entry>,
    date: u64,
) -> Result<Committed, Fault> {
    let writing = database.begin_write()?;
    let mut forgotten = Forgotten::default();
    let sequence = {
        let mut tables = Tables::open(&writing)?;
        for entry in entries {
            tables.apply(entry, &mut forgotten)?;
        }
        // The current date is written even if it went back: a date that was wrong once must not hide the next jump.
        tables.meta.insert(DATE, date)?;
        let sequence = tables.number(SEQUENCE)? + 1;
        tables.meta.insert(SEQUENCE, sequence)?;
        sequence
    };
    writing.commit()?;
    Ok(Committed { sequence, forgotten })
}

/// Numbers of a ledger that was opened.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Numbers {
    /// Version of the rows; 0 in a new file.
    pub(super) version: u64,
    pub(super) sequence: u64,
    pub(super) date: Option<u64>,
}

/// Reads the numbers of a ledger, new or of any version, without changing it.
pub(super) fn numbers(database: &Database) -> Result<Numbers, Fault> {
    let reading = database.begin_read()?;
    let meta = match reading.open_table(META) {
        Ok(meta) => meta,
        Err(redb::TableError::TableDoesNotExist(_)) => {
            // Version 1 had no table of numbers.
            let has_jobs = reading.list_tables()?.any(|table| redb::TableHandle::name(&table) == "jobs");
            return Ok(Numbers { version: u64::from(has_jobs), ..Numbers::default() });
        }
        Err(error) => return Err(error.into()),
    };
    let number = |name: &str| meta.get(name).map(|row| row.map(|number| number.value()));
    Ok(Numbers {
        version: number(VERSION)?.unwrap_or(0),
        sequence: number(SEQUENCE)?.unwrap_or(0),
        date: number(DATE)?,
    })
}

/// Checks that this program reads the ledger's version and that the last acknowledged transaction is there.
pub(super) fn check_numbers(numbers: &Numbers, acknowledged: u64) -> Result<(), Fault> {
    if numbers.version > NEWEST {
        let found = numbers.version;
        return Err(Fault::Version(format!(
            "is a ledger of version {found}, of a newer modm: this one reads versions 1 to {NEWEST}"
        )));
    }
    if numbers.sequence < acknowledged {
        let missing = acknowledged - numbers.sequence;
        return Err(Fault::Damaged(format!("its last {missing} of {acknowledged} transactions are missing")));
    }
    Ok(())
}

/// Writes a new ledger with rows that were saved from another.
pub(super) fn fill(
    file: &Path,
    jobs: &[Job],
    pictures: &BTreeMap<String, Picture>,
    used: &BTreeMap<String, Used>,
    sequence: u64,
) -> Result<(), Fault> {
    let database = Database::create(file)?;
    let writing = database.begin_write()?;
    {
        let mut tables = Tables::open(&writing)?;
        let mut nothing = Forgotten::default();
        for job in jobs {
            // A job of version 1 has no date of its end. Without one, it would never be forgotten.
            let ended = job.ended.or((job.status != Status::Queued).then_some(job.created));
            tables.apply(&Entry::Job(Box::new(Job { ended, ..job.clone() })), &mut nothing)?;
        }
        for (id, picture) in pictures {
            tables.apply(&Entry::Picture(id.clone(), picture.clone()), &mut nothing)?;
        }
        for (tenant, used) in used {
            tables.apply(&Entry::Used(tenant.clone(), *used), &mut nothing)?;
        }
        tables.meta.insert(VERSION, NEWEST)?;
        tables.meta.insert(SEQUENCE, sequence)?;
    }
    writing.commit()?;
    Ok(())
}

/// Makes the tables of a new ledger, or migrates a ledger of an older version. `results` is the folder of the pictures'
/// files.
pub(super) fn prepare(database: &Database, from: u64, results: &Path) -> Result<(), Fault> {
    let writing = database.begin_write()?;
    if from == 1 {
        // The ages of version 1 are dates of submission: the migration makes the table anew.
        writing.delete_table(AGES)?;
    }
    {
        let mut tables = Tables::open(&writing)?;
        if from == 1 {
            migrate(&mut tables, results)?;
        }
        for row in tables.jobs.iter()? {
            let job: Job = serde_json::from_slice(row?.1.value())?;
            tables.of_tenants.insert((tenant(&job), job.created, job.id.as_str()), ())?;
        }
        tables.meta.insert(VERSION, NEWEST)?;
        let sequence = tables.number(SEQUENCE)? + 1;
        tables.meta.insert(SEQUENCE, sequence)?;
    }
    writing.commit()?;
    Ok(())
}

/// Migrates rows of version 1. The end of an ended job becomes the date of its latest picture, and each picture gets
/// the number of bytes of its file.
fn migrate(tables: &mut Tables<'_>, results: &Path) -> Result<(), Fault> {
    let (mut bytes, mut newest) = (0, 0);
    let pictures: Vec<(String, Picture)> = all(&tables.pictures)?;
    for (id, mut picture) in pictures {
        picture.bytes = std::fs::metadata(super::picture_file(results, &id)).map_or(0, |file| file.len());
        bytes += picture.bytes;
        newest = newest.max(picture.created);
        put(&mut tables.pictures, &id, &picture)?;
        tables.ages.insert((picture.created, id.as_str()), ())?;
    }
    let jobs: Vec<(String, Job)> = all(&tables.jobs)?;
    for (id, mut job) in jobs {
        newest = newest.max(job.created);
        if job.status == Status::Queued {
            continue;
        }
        let mut ended = job.created;
        for made in job.made.iter().filter_map(|made| made["id"].as_str()) {
            let picture: Option<Picture> = parsed(tables.pictures.get(made)?.map(|row| row.value().to_vec()))?;
            ended = ended.max(picture.map_or(0, |picture| picture.created));
        }
        job.ended = Some(ended);
        put(&mut tables.jobs, &id, &job)?;
        tables.ages.insert((ended, id.as_str()), ())?;
    }
    tables.meta.insert(BYTES, bytes)?;
    if newest > 0 {
        tables.meta.insert(DATE, newest)?;
    }
    Ok(())
}

/// Reads every row of a table.
pub(super) fn all<T: DeserializeOwned>(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<Vec<(String, T)>, Fault> {
    let mut rows = Vec::new();
    for row in table.iter()? {
        let (id, value) = row?;
        rows.push((id.value().to_owned(), serde_json::from_slice(value.value())?));
    }
    Ok(rows)
}

/// Reads a row.
pub(super) fn read<T: DeserializeOwned>(
    database: &Database,
    table: TableDefinition<'static, &'static str, &'static [u8]>,
    id: &str,
) -> Result<Option<T>, Fault> {
    let reading = database.begin_read()?;
    let table = reading.open_table(table)?;
    let found = table.get(id)?;
    found.map(|found| serde_json::from_slice(found.value())).transpose().map_err(Fault::from)
}

/// Returns the names of all pictures.
pub(super) fn picture_names(database: &Database) -> Result<Vec<String>, Fault> {
    let table = database.begin_read()?.open_table(PICTURES)?;
    table.iter()?.map(|row| Ok(row?.0.value().to_owned())).collect()
}

/// Returns the jobs that have not ended, oldest first.
pub(super) fn open_jobs(database: &Database) -> Result<Vec<Job>, Fault> {
    let jobs: Vec<(String, Job)> = all(&database.begin_read()?.open_table(JOBS)?)?;
    let mut open: Vec<Job> = jobs.into_iter().map(|(_, job)| job).filter(|job| job.status == Status::Queued).collect();
    open.sort_by(|a, b| a.created.cmp(&b.created).then_with(|| a.id.cmp(&b.id)));
    Ok(open)
}

/// Position in the list of jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Date at which the job was submitted, in seconds since 1970.
    pub created: u64,
    /// Name of the job.
    pub id: String,
}

/// Returns at most `most` jobs of a tenant (of all tenants if `None`), newest first, after a place. Reads at most
/// `most` rows for each tenant.
pub(super) fn newest_jobs(
    database: &Database,
    tenant: Option<&str>,
    after: Option<&Place>,
    most: usize,
) -> Result<Vec<Job>, Fault> {
    let reading = database.begin_read()?;
    let (jobs, of_tenants) = (reading.open_table(JOBS)?, reading.open_table(JOBS_OF_TENANTS)?);
    let mut tenants: Vec<String> = tenant.map(str::to_owned).into_iter().collect();
    if tenant.is_none() {
        // The search goes from the first job of one tenant directly to the first job of the next.
        let mut first = of_tenants.first()?.map(|(key, _)| key.value().0.to_owned());
        while let Some(name) = first {
            let end = (name.as_str(), u64::MAX, AFTER_NAMES);
            let next = of_tenants.range::<(&str, u64, &str)>(end..)?.next().transpose()?;
            first = next.map(|(key, _)| key.value().0.to_owned());
            tenants.push(name);
        }
    }
    let mut places = Vec::new();
    for tenant in &tenants {
        let end = after.map_or((u64::MAX, AFTER_NAMES), |after| (after.created, after.id.as_str()));
        let own = of_tenants.range::<(&str, u64, &str)>((tenant.as_str(), 0, "")..(tenant.as_str(), end.0, end.1))?;
        for row in own.rev().take(most) {
            let (key, _) = row?;
            let (_, created, id) = key.value();
            places.push((created, id.to_owned()));
        }
    }
    places.sort_unstable_by(|a, b| b.cmp(a));
    places.truncate(most);
    let read = |id: &str| parsed(jobs.get(id)?.map(|row| row.value().to_vec()));
    places.iter().filter_map(|(_, id)| read(id).transpose()).collect()
}

/// Counts the ended jobs, the pictures and the quotas that belong to none of these tenants.
pub(super) fn strangers(database: &Database, tenants: &[String]) -> Result<[u64; 3], Fault> {
    let reading = database.begin_read()?;
    let is_stranger = |tenant: Option<&str>| tenant.is_none_or(|name| !tenants.iter().any(|known| known == name));
    let jobs: Vec<(String, Job)> = all(&reading.open_table(JOBS)?)?;
    let pictures: Vec<(String, Picture)> = all(&reading.open_table(PICTURES)?)?;
    let used: Vec<(String, Used)> = all(&reading.open_table(USED)?)?;
    let jobs = jobs.iter().filter(|(_, job)| job.status != Status::Queued && is_stranger(job.tenant.as_deref()));
    let pictures = pictures.iter().filter(|(_, picture)| is_stranger(picture.tenant.as_deref()));
    // The quota of a server without keys has an empty name, which no tenant has.
    let used = used.iter().filter(|(tenant, _)| is_stranger(Some(tenant)));
    Ok([jobs.count() as u64, pictures.count() as u64, used.count() as u64])
}

/// Reads every row of every table and checks that the tables agree. Returns a description of each contradiction. Rows
/// of version 1 are not checked here, because the migration reads them.
pub(super) fn inspect(database: &Database, version: u64) -> Result<Vec<String>, Fault> {
    if version < AGES_OF_ENDS {
        return Ok(Vec::new());
    }
    let reading = database.begin_read()?;
    let mut wrong = Vec::new();
    let jobs: Vec<(String, Job)> = all(&reading.open_table(JOBS)?)?;
    let pictures: Vec<(String, Picture)> = all(&reading.open_table(PICTURES)?)?;
    let _: Vec<(String, Used)> = all(&reading.open_table(USED)?)?;
    let ages = reading.open_table(AGES)?;
    let mut expected = pictures.len() as u64;
    if version == NEWEST {
        let of_tenants = reading.open_table(JOBS_OF_TENANTS)?;
        for (id, job) in &jobs {
            if of_tenants.get((tenant(job), job.created, id.as_str()))?.is_none() {
                wrong.push(format!("job {id} would never be listed"));
            }
        }
        if of_tenants.len()? != jobs.len() as u64 {
            wrong.push(format!("{} rows of jobs by tenant: expected {}", of_tenants.len()?, jobs.len()));
        }
    }
    for (id, job) in jobs {
        if id != job.id {
            wrong.push(format!("job {id} has the name {}", job.id));
        }
        let Some(ended) = job.ended else { continue };
        expected += 1;
        if ages.get((ended, id.as_str()))?.is_none() {
            wrong.push(format!("job {id} would never be forgotten"));
        }
    }
    for (id, picture) in pictures {
        if ages.get((picture.created, id.as_str()))?.is_none() {
            wrong.push(format!("picture {id} would never be forgotten"));
        }
    }
    if ages.len()? != expected {
        wrong.push(format!("{} rows of ages: expected {expected}", ages.len()?));
    }
    Ok(wrong)
}

/// Returns the name of a job's tenant for the table of jobs by tenant. The name is empty without keys; no tenant with a
/// key has an empty name.
fn tenant(job: &Job) -> &str {
    job.tenant.as_deref().unwrap_or_default()
}

fn parsed<T: DeserializeOwned>(row: Option<Vec<u8>>) -> Result<Option<T>, Fault> {
    Ok(row.map(|row| serde_json::from_slice(&row)).transpose()?)
}

fn put(table: &mut Rows<'_>, id: &str, value: &impl Serialize) -> Result<(), Fault> {
    let bytes = serde_json::to_vec(value)?;
    table.insert(id, bytes.as_slice())?;
    Ok(())
}
