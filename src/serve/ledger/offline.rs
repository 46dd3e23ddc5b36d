//! Check and repair of a ledger that no server has open. The check reads a copy in memory, so that nothing is written.
//! The repair writes a new ledger with the rows that can still be read.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::path::Path;

use redb::backends::InMemoryBackend;
use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};
use serde::de::DeserializeOwned;

use super::error::{Fault, LedgerError};
use super::shelf::{CACHE, Guarded, caught};
use super::{Job, Picture, Status, Used, mark, picture_file, rows};
use crate::live::faults::{Faults, may_panic};
use crate::locked::{LockedFile, not_locked};
use crate::output::copy_into;
use crate::serve::api::checksum;

/// Bytes at the beginning of every row of a job.
const JOB: &[u8] = br#"{"id":"job-"#;

/// Content of a ledger, as far as it could be read.
pub(in crate::serve) struct FoundLedger {
    pub(in crate::serve) jobs: Vec<Job>,
    pub(in crate::serve) pictures: BTreeMap<String, Picture>,
    pub(in crate::serve) used: BTreeMap<String, Used>,
    /// Descriptions of the faults that were found; empty if the ledger is whole.
    pub(in crate::serve) wrong: Vec<String>,
    /// Number of the last transaction that is known.
    sequence: u64,
    /// File that is in the ledger's place, locked: no server opens the ledger while this value exists.
    lock: Option<LockedFile>,
}

/// Function that locks a ledger's file: alone for a repair, shared for a check.
pub(in crate::serve) type Lock = fn(File) -> Result<LockedFile, TryLockError>;

/// Reads a ledger as far as possible. Returns `None` if there is no ledger.
///
/// # Errors
/// The ledger is in use, has a version that this program does not read, or the disk fails.
pub(in crate::serve) fn read(folder: &Path, lock: Lock) -> Result<Option<FoundLedger>, LedgerError> {
    let failed = |fault| LedgerError::new(folder, fault);
    let marked = fs::read(mark::path(folder)).ok().and_then(|text| mark::parse(&text)).unwrap_or(0);
    let bytes = bytes(folder, lock, None).map_err(failed)?;
    if bytes.is_none() && marked == 0 {
        return Ok(None);
    }
    let (bytes, lock) = bytes.unzip();
    let mut found = FoundLedger {
        jobs: Vec::new(),
        pictures: BTreeMap::new(),
        used: BTreeMap::new(),
        wrong: Vec::new(),
        sequence: marked,
        lock,
    };
    let Some(bytes) = bytes else {
        found.wrong.push(format!("is missing or empty, and had {marked} transactions"));
        return Ok(Some(found));
    };
    match open(&bytes) {
        Ok((database, numbers)) => match rows::check_numbers(&numbers, marked) {
            Err(fault @ Fault::Version(_)) => return Err(failed(fault)),
            // A ledger that went back to an earlier transaction can still be read, and its rows are worth saving.
            behind => {
                found.wrong.extend(behind.err().map(|fault| fault.text()));
                found.sequence = found.sequence.max(numbers.sequence);
                read_tables(&database, numbers.version, &mut found);
            }
        },
        Err(fault @ Fault::Version(_)) => return Err(failed(fault)),
        Err(fault) => found.wrong.push(fault.text()),
    }
    // Free pages still have the rows of jobs that were removed, so that a whole ledger is not searched for them.
    if !found.wrong.is_empty() {
        read_pages(&bytes, &mut found.jobs);
    }
    Ok(Some(found))
}

/// Returns the bytes of the ledger's file, and the file, which is locked until it is dropped. Returns `None` if the
/// file is missing or empty.
pub(super) fn bytes(
    folder: &Path,
    lock: Lock,
    faults: Option<&Faults>,
) -> Result<Option<(Vec<u8>, LockedFile)>, Fault> {
    let io = |error: &std::io::Error| Fault::io(error);
    faults.map_or(Ok(()), |faults| faults.call(|| {})).map_err(|error| io(&error))?;
    let file = match File::open(super::file(folder)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(|error| io(&error))?,
    };
    // A server that has the ledger open holds the exclusive lock of the file: redb takes it.
    let locked = match lock(file) {
        Ok(locked) => locked,
        Err(TryLockError::WouldBlock) => return Err(Fault::InUse),
        Err(TryLockError::Error(error)) => return Err(io(&error)),
    };
    let bytes = fs::read(super::file(folder)).map_err(|error| io(&error))?;
    Ok((!bytes.is_empty()).then_some((bytes, locked)))
}

/// Opens a copy of the file in memory and checks every page.
pub(super) fn open(bytes: &[u8]) -> Result<(Guarded, rows::Numbers), Fault> {
    let memory = InMemoryBackend::new();
    memory.set_len(bytes.len() as u64).map_err(|error| Fault::io(&error))?;
    memory.write(0, bytes).map_err(|error| Fault::io(&error))?;
    let mut database =
        caught(|| Ok(Guarded::new(Database::builder().set_cache_size(CACHE).create_with_backend(memory)?)))?;
    caught(|| Ok(database.check_integrity()?))?;
    let numbers = caught(|| rows::numbers(&database))?;
    Ok((database, numbers))
}

/// Reads every row that can be read, and notes the faults of the others.
fn read_tables(database: &Database, version: u64, found: &mut FoundLedger) {
    let mut jobs: BTreeMap<String, Job> = BTreeMap::new();
    for wrong in [
        read_table(database, rows::JOBS, &mut jobs),
        read_table(database, rows::PICTURES, &mut found.pictures),
        read_table(database, rows::USED, &mut found.used),
    ] {
        found.wrong.extend(wrong);
    }
    found.jobs = jobs.into_values().collect();
    // The comparison reads every row, so it fails where a row cannot be read.
    if found.wrong.is_empty() {
        match caught(|| rows::inspect(database, version)) {
            Ok(wrong) => found.wrong.extend(wrong),
            Err(fault) => found.wrong.push(fault.text()),
        }
    }
}

fn read_table<T: DeserializeOwned>(
    database: &Database,
    table: TableDefinition<'static, &'static str, &'static [u8]>,
    found: &mut BTreeMap<String, T>,
) -> Vec<String> {
    let mut wrong = Vec::new();
    // A page that cannot be read ends the loop. The rows before it stay in `found`.
    let read = caught(|| {
        let table = database.begin_read()?.open_table(table)?;
        for row in table.iter()? {
            let (id, value) = row?;
            match serde_json::from_slice(value.value()) {
                Ok(value) => {
                    found.insert(id.value().to_owned(), value);
                }
                Err(error) => wrong.push(format!("row {:?}: {error}", id.value())),
            }
        }
        Ok(())
    });
    wrong.extend(read.err().map(|fault| fault.text()));
    wrong
}

/// Searches all pages of the file for rows of jobs, whatever table they belong to. If a job is found both with and
/// without an end, the row with the end counts.
fn read_pages(bytes: &[u8], jobs: &mut Vec<Job>) {
    let mut known: BTreeMap<String, Job> = jobs.drain(..).map(|job| (job.id.clone(), job)).collect();
    let starts = bytes.windows(JOB.len()).enumerate().filter(|(_, window)| *window == JOB).map(|(at, _)| at);
    for at in starts {
        let Some(Ok(job)) = serde_json::Deserializer::from_slice(&bytes[at..]).into_iter::<Job>().next() else {
            continue;
        };
        let before = known.get(&job.id);
        if before.is_none_or(|before| before.status == Status::Queued && job.status != Status::Queued) {
            known.insert(job.id.clone(), job);
        }
    }
    jobs.extend(known.into_values());
}

impl FoundLedger {
    /// Adds the pictures that only rows of jobs name, and leaves out those without a file.
    pub(in crate::serve) fn match_pictures(&mut self, results: &Path) {
        // The rows of jobs name their pictures, too, so that pictures whose own rows are lost are found again.
        for job in &self.jobs {
            for id in job.made.iter().filter_map(|made| made["id"].as_str()) {
                let Ok(bytes) = fs::read(picture_file(results, id)) else { continue };
                self.pictures.entry(id.to_owned()).or_insert_with(|| Picture {
                    tenant: job.tenant.clone(),
                    created: job.ended.unwrap_or(job.created),
                    bytes: bytes.len() as u64,
                    crc: Some(checksum(&bytes)),
                });
            }
        }
        self.pictures.retain(|id, _| picture_file(results, id).exists());
    }
}

/// Writes a new ledger with what was found, puts it in the place of the old one, and keeps the old one in `aside`.
/// Returns a description of each change.
///
/// # Errors
/// The disk fails.
pub(in crate::serve) fn rebuild(
    folder: &Path,
    aside: &Path,
    found: &mut FoundLedger,
) -> Result<Vec<String>, LedgerError> {
    let failed = |fault| LedgerError::new(folder, fault);
    let io = |error: std::io::Error| failed(Fault::Disk(error.to_string()));
    let path = super::file(folder);
    let fresh = path.with_extension("new");
    let _ = fs::remove_file(&fresh);
    // The new ledger is complete on the disk before the old one goes: a failure until then changes nothing.
    let sequence = found.sequence + 1;
    caught(|| rows::fill(&fresh, &found.jobs, &found.pictures, &found.used, sequence)).map_err(failed)?;
    for old in [&path, &mark::path(folder)] {
        copy_into(old, aside).map_err(io)?;
    }
    may_panic("repair");
    let lock = File::open(&fresh).and_then(|file| LockedFile::alone(file).map_err(not_locked)).map_err(io)?;
    // One rename puts the new ledger in the place of the old one. The folder is never without a ledger: a start would
    // take it for a new folder.
    fs::rename(&fresh, &path).and_then(|()| File::open(folder)?.sync_all()).map_err(io)?;
    found.lock = Some(lock);
    // The old mark is behind the new ledger, so that an end of the program before this line does no harm.
    mark::Mark::open(folder).and_then(|mut mark| mark.write(sequence)).map_err(io)?;
    let open = found.jobs.iter().filter(|job| job.status == Status::Queued).count();
    let (jobs, pictures) = (found.jobs.len(), found.pictures.len());
    Ok(vec![
        format!("{}: {}: kept in {}", path.display(), found.wrong.join("; "), aside.display()),
        format!(
            "{}: made anew with {jobs} jobs ({open} of them are begun again) and {pictures} pictures that could be read",
            path.display()
        ),
    ])
}
