//! Database of the ledger, and its reopening after an error: once a call to the disk has failed, redb fails all further
//! calls. After the reopening every acknowledged transaction is there, or the ledger is reported as lost.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use redb::Database;

use super::backend::Backend;
use super::error::{Fault, LedgerError};
use super::mark::Mark;
use super::rows::{self, Committed};
use super::{Entry, Health};
use crate::live::faults::Faults;
use crate::locked::LockedFile;
use crate::serve::clock::HostClock;
use crate::serve::lock;

/// Size of redb's cache of the file in memory, in bytes. The default of redb is a gigabyte.
pub(super) const CACHE: usize = 16 << 20;
/// Time between two attempts to open a database that fails.
const BETWEEN: Duration = Duration::from_millis(200);

/// Database that is reopened after errors of the disk.
pub(super) struct Shelf {
    folder: PathBuf,
    faults: Option<Arc<Faults>>,
    clock: HostClock,
    database: RwLock<Opened>,
    mark: Mutex<Mark>,
    trouble: Mutex<Trouble>,
    calls: Mutex<Calls>,
}

/// Calls of the database that have not returned.
#[derive(Default)]
struct Calls {
    next: u64,
    /// Time on the monotonic clock at which each call began, by number of the call.
    begun: BTreeMap<u64, Duration>,
}

/// Call of the database. Dropping the value notes that the call has returned.
struct Call<'a> {
    calls: &'a Mutex<Calls>,
    number: u64,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        lock(self.calls).begun.remove(&self.number);
    }
}

/// Open database, if it is open, and the number of times that it was reopened.
struct Opened {
    database: Option<Guarded>,
    turn: u64,
}

/// Failures of the ledger, for its health.
#[derive(Default)]
struct Trouble {
    /// Times of the first failure and of the last failed attempt, on the monotonic clock. `None` while the database
    /// works.
    failing: Option<(Duration, Duration)>,
    is_full: bool,
    /// Error after which the ledger is not used any more.
    lost: Option<LedgerError>,
}

impl Shelf {
    /// Opens the database of a folder. Returns the database, the date of its last transaction, and warnings.
    pub(super) fn open(
        folder: &Path,
        clock: HostClock,
        faults: Option<Arc<Faults>>,
    ) -> Result<(Self, Option<u64>, Vec<String>), LedgerError> {
        let wrong = |fault| LedgerError::new(folder, fault);
        let mut warnings = Vec::new();
        let mut mark = Mark::open(folder).map_err(|error| wrong(Fault::io(&error)))?;
        if mark.is_damaged {
            warnings.push(format!("{}: is no number and is written anew", super::mark::path(folder).display()));
        }
        // The check reads a copy in memory, so that a damaged file stays unchanged for a repair.
        verify(folder, mark.sequence, faults.as_deref()).map_err(wrong)?;
        if !super::file(folder).exists() {
            // No transaction is missing here: `verify` refuses a missing file if the mark knows of any.
            create(folder, faults.clone()).map_err(wrong)?;
        }
        let (database, numbers) = open(folder, faults.clone(), mark.sequence).map_err(wrong)?;
        if numbers.version < rows::NEWEST {
            caught(|| rows::prepare(&database, numbers.version, &super::results(folder))).map_err(wrong)?;
        }
        let numbers = caught(|| rows::numbers(&database)).map_err(wrong)?;
        mark.write(numbers.sequence).map_err(|error| wrong(Fault::io(&error)))?;
        let shelf = Self {
            folder: folder.to_owned(),
            faults,
            clock,
            database: RwLock::new(Opened { database: Some(database), turn: 0 }),
            mark: Mutex::new(mark),
            trouble: Mutex::default(),
            calls: Mutex::default(),
        };
        Ok((shelf, numbers.date, warnings))
    }

    fn opened(&self) -> RwLockReadGuard<'_, Opened> {
        // A thread that panicked while it held the lock left no partial change, because the value is replaced as a
        // whole.
        self.database.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) -> Call<'_> {
        let begun = self.clock.passed();
        let mut calls = lock(&self.calls);
        let number = calls.next;
        calls.next += 1;
        calls.begun.insert(number, begun);
        Call { calls: &self.calls, number }
    }

    /// Returns the time that the oldest call of the database has taken so far; zero without a call.
    pub(super) fn silence(&self) -> Duration {
        let first = lock(&self.calls).begun.first_key_value().map(|(_, begun)| *begun);
        first.map_or(Duration::ZERO, |begun| self.clock.passed().saturating_sub(begun))
    }

    /// Calls a function with the database. If the disk fails, reopens the database and calls the function once more.
    pub(super) fn using<T>(&self, what: impl Fn(&Database) -> Result<T, Fault>) -> Result<T, LedgerError> {
        let _call = self.begin();
        let mut is_second = false;
        loop {
            if let Some(lost) = &lock(&self.trouble).lost {
                return Err(lost.clone());
            }
            let opened = self.opened();
            let turn = opened.turn;
            let used = opened.database.as_ref().map(|database| caught(|| what(database)));
            // The lock is released here, because `reopen` takes it for writing.
            drop(opened);
            let fault = match used {
                Some(Ok(value)) => {
                    self.works();
                    return Ok(value);
                }
                Some(Err(fault)) => fault,
                None => Fault::Disk("is not open".to_owned()),
            };
            let error = LedgerError::new(&self.folder, fault);
            if !error.is_disk() {
                return Err(self.lose(error));
            }
            tracing::warn!("{error}");
            // The database was opened again and has failed again. The caller hears of it, and a later call tries anew.
            if is_second {
                self.fails(&error);
                return Err(error);
            }
            is_second = true;
            self.reopen(turn, &error)?;
        }
    }

    /// Reopens the database, unless another thread has done so since `turn`.
    fn reopen(&self, turn: u64, error: &LedgerError) -> Result<(), LedgerError> {
        // No thread takes this lock while it holds `mark`, `trouble` or `calls`. Those may be taken below without a
        // deadlock.
        let mut opened = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // Several threads may have failed on the same database. The first of them opens it again for all.
        if opened.turn != turn {
            return Ok(());
        }
        // While the disk fails, each request would try to open the file. One attempt in `BETWEEN` is enough.
        if opened.database.is_none() && !self.is_due() {
            return Err(error.clone());
        }
        // Closing the database releases the lock of its file. A transaction that the database cannot write any more was
        // not acknowledged, or is on disk already.
        drop(opened.database.take());
        let acknowledged = lock(&self.mark).sequence;
        match open(&self.folder, self.faults.clone(), acknowledged) {
            Ok((database, numbers)) => {
                tracing::warn!(transactions = numbers.sequence, "the ledger has been opened again");
                *opened = Opened { database: Some(database), turn: turn + 1 };
                Ok(())
            }
            Err(fault) => {
                let error = LedgerError::new(&self.folder, fault);
                if error.is_disk() {
                    self.fails(&error);
                    return Err(error);
                }
                Err(self.lose(error))
            }
        }
    }

    /// Writes entries in one transaction.
    pub(super) fn commit(&self, entries: &[&Entry]) -> Result<Committed, LedgerError> {
        // This call also covers the write of the mark, which a disk that hangs holds up as well.
        let (date, _call) = (self.clock.date(), self.begin());
        let committed = self.using(|database| rows::commit(database, entries.iter().copied(), date))?;
        if let Err(error) = lock(&self.mark).write(committed.sequence) {
            // The transaction is on disk. Without the mark, a later loss of the transaction is not noticed.
            tracing::warn!("{}: {error}", super::mark::path(&self.folder).display());
        }
        Ok(committed)
    }

    /// Makes the error of a disk that has not answered within `limit`.
    pub(super) fn is_silent(&self, limit: Duration) -> LedgerError {
        let why = format!("the disk has not answered within {} s", limit.as_secs_f64());
        LedgerError::new(&self.folder, Fault::Disk(why))
    }

    /// Marks the ledger as lost, because the thread that writes has ended, and returns the error. Nothing is
    /// acknowledged any more.
    pub(super) fn without_writer(&self) -> LedgerError {
        self.lose(LedgerError::new(&self.folder, Fault::Disk("the thread that writes has ended".to_owned())))
    }

    fn is_due(&self) -> bool {
        let last = lock(&self.trouble).failing.map(|(_, last)| last);
        last.is_none_or(|last| self.clock.passed() >= last + BETWEEN)
    }

    fn works(&self) {
        let mut trouble = lock(&self.trouble);
        (trouble.failing, trouble.is_full) = (None, false);
    }

    fn fails(&self, error: &LedgerError) {
        let (now, mut trouble) = (self.clock.passed(), lock(&self.trouble));
        trouble.failing = Some((trouble.failing.map_or(now, |(since, _)| since), now));
        trouble.is_full = matches!(error, LedgerError::Disk { is_full: true, .. });
    }

    fn lose(&self, error: LedgerError) -> LedgerError {
        // The first error stays: later ones may be its consequences.
        lock(&self.trouble).lost.get_or_insert(error).clone()
    }

    /// Returns the health of the ledger. A call that takes longer than `limit` counts as hanging.
    pub(super) fn health(&self, limit: Duration) -> Health {
        let silence = self.silence();
        let trouble = lock(&self.trouble);
        if trouble.lost.is_none() && silence > limit {
            return Health::Silent { since: silence };
        }
        match (&trouble.lost, trouble.failing) {
            (Some(error), _) => Health::Lost(error.clone()),
            (None, Some((since, _))) => {
                Health::Failing { since: self.clock.passed().saturating_sub(since), is_full: trouble.is_full }
            }
            (None, None) => Health::Well,
        }
    }
}

/// Database whose pages may be damaged. Closing such a database can panic, so the panic is caught.
pub(super) struct Guarded(Option<Database>);

impl Guarded {
    pub(super) const fn new(database: Database) -> Self {
        Self(Some(database))
    }
}

impl std::ops::DerefMut for Guarded {
    fn deref_mut(&mut self) -> &mut Database {
        self.0.as_mut().expect("there until it is dropped")
    }
}

impl std::ops::Deref for Guarded {
    type Target = Database;

    fn deref(&self) -> &Database {
        self.0.as_ref().expect("there until it is dropped")
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let database = self.0.take();
        let _ = caught(|| {
            drop(database);
            Ok(())
        });
    }
}

/// Checks every page and row of a ledger that no program has open, in a copy in memory. `acknowledged` is the number of
/// a transaction that must be in the ledger.
fn verify(folder: &Path, acknowledged: u64, faults: Option<&Faults>) -> Result<(), Fault> {
    let Some((bytes, lock)) = super::offline::bytes(folder, LockedFile::shared, faults)? else {
        return match acknowledged {
            0 => Ok(()),
            _ => Err(Fault::Damaged(format!("is missing or empty, and had {acknowledged} transactions"))),
        };
    };
    // The database takes a lock of its own.
    drop(lock);
    let (database, numbers) = super::offline::open(&bytes)?;
    rows::check_numbers(&numbers, acknowledged)?;
    match caught(|| rows::inspect(&database, numbers.version))?.into_iter().next() {
        Some(first) => Err(Fault::Damaged(first)),
        None => Ok(()),
    }
}

/// Makes an empty ledger under a temporary name and then renames it, so that an unfinished ledger never has the final
/// name.
fn create(folder: &Path, faults: Option<Arc<Faults>>) -> Result<(), Fault> {
    let (file, fresh) = (super::file(folder), super::file(folder).with_extension("new"));
    let _ = std::fs::remove_file(&fresh);
    let database = caught(|| {
        let backend = Backend::open(&fresh, faults)?;
        Ok(Guarded::new(Database::builder().set_cache_size(CACHE).create_with_backend(backend)?))
    })?;
    caught(|| rows::prepare(&database, 0, &super::results(folder)))?;
    drop(database);
    let named = std::fs::rename(&fresh, &file).and_then(|()| std::fs::File::open(folder)?.sync_all());
    named.map_err(|error| Fault::io(&error))
}

/// Opens the ledger's file. `acknowledged` is the number of a transaction that must be in the ledger.
fn open(folder: &Path, faults: Option<Arc<Faults>>, acknowledged: u64) -> Result<(Guarded, rows::Numbers), Fault> {
    let database = caught(|| {
        let backend = Backend::open(&super::file(folder), faults)?;
        Ok(Guarded::new(Database::builder().set_cache_size(CACHE).create_with_backend(backend)?))
    })?;
    let numbers = caught(|| rows::numbers(&database))?;
    rows::check_numbers(&numbers, acknowledged)?;
    Ok((database, numbers))
}

/// Calls a function on pages that may be damaged and turns a panic into a fault: redb panics on some damaged pages.
pub(in crate::serve) fn caught<T>(what: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    crate::serve::quiet::quietly(|| catch_unwind(AssertUnwindSafe(what))).unwrap_or_else(|panic| {
        let why = panic.downcast_ref::<String>().cloned();
        let why = why.or_else(|| panic.downcast_ref::<&str>().map(|why| (*why).to_owned()));
        let why = why.unwrap_or_else(|| "a page makes no sense".to_owned());
        Err(Fault::Damaged(why.lines().next().unwrap_or_default().to_owned()))
    })
}
