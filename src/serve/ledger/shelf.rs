//! The open database, and how it is opened again after an error: redb answers nothing more once a call to the disk has failed.
//! Whatever was acknowledged is there again afterwards, or the ledger is lost and says so.

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
use crate::serve::clock::HostClock;
use crate::serve::lock;

/// Part of the file that is kept in memory, bytes; the library's own choice is a gigabyte.
pub(super) const CACHE: usize = 16 << 20;
/// Time between two attempts to open a database that fails.
const BETWEEN: Duration = Duration::from_millis(200);

/// The database, or the place where it was.
pub(super) struct Shelf {
    folder: PathBuf,
    faults: Option<Arc<Faults>>,
    clock: HostClock,
    database: RwLock<Opened>,
    mark: Mutex<Mark>,
    trouble: Mutex<Trouble>,
    calls: Mutex<Calls>,
}

/// Uses of the database that have not returned.
#[derive(Default)]
struct Calls {
    next: u64,
    /// Passed time when each began, in their order.
    begun: BTreeMap<u64, Duration>,
}

/// A use of the database, until it returns.
struct Call<'a> {
    calls: &'a Mutex<Calls>,
    number: u64,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        lock(self.calls).begun.remove(&self.number);
    }
}

/// The open database and how often it has been opened.
struct Opened {
    database: Option<Guarded>,
    turn: u64,
}

/// Part of the server that does not work, for its health.
#[derive(Default)]
struct Trouble {
    /// Passed time when it began to fail, and when it was tried last.
    failing: Option<(Duration, Duration)>,
    is_full: bool,
    /// Nothing more is done.
    lost: Option<LedgerError>,
}

impl Shelf {
    /// Opens the database of a folder. Returns it with the newest date that it has, and warnings.
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
        // In a copy: a damaged file stays as it is for a repair.
        verify(folder, mark.sequence, faults.as_deref()).map_err(wrong)?;
        if !super::file(folder).exists() {
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
        // A thread that died while it held the lock changed nothing: a database is put here whole.
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

    /// Time that the disk has been at one use of the database.
    pub(super) fn silence(&self) -> Duration {
        let first = lock(&self.calls).begun.first_key_value().map(|(_, begun)| *begun);
        first.map_or(Duration::ZERO, |begun| self.clock.passed().saturating_sub(begun))
    }

    /// Uses the database, and once more where it had to be opened again.
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
            if is_second {
                self.fails(&error);
                return Err(error);
            }
            is_second = true;
            self.reopen(turn, &error)?;
        }
    }

    /// Opens the database again, unless somebody has since `turn`.
    fn reopen(&self, turn: u64, error: &LedgerError) -> Result<(), LedgerError> {
        let mut opened = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if opened.turn != turn {
            return Ok(());
        }
        if opened.database.is_none() && !self.is_due() {
            return Err(error.clone());
        }
        // It gives up the file's lock. What it cannot write any more is not acknowledged, or is on disk.
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
        let (date, _call) = (self.clock.date(), self.begin());
        let committed = self.using(|database| rows::commit(database, entries.iter().copied(), date))?;
        if let Err(error) = lock(&self.mark).write(committed.sequence) {
            // The transaction is on disk; without the mark a later loss is not noticed.
            tracing::warn!("{}: {error}", super::mark::path(&self.folder).display());
        }
        Ok(committed)
    }

    /// The disk has not answered for as long as it may take.
    pub(super) fn is_silent(&self, limit: Duration) -> LedgerError {
        let why = format!("the disk has not answered within {} s", limit.as_secs_f64());
        LedgerError::new(&self.folder, Fault::Disk(why))
    }

    /// The thread that writes has ended: nothing is acknowledged any more.
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
        lock(&self.trouble).lost.get_or_insert(error).clone()
    }

    /// How the ledger does; a use that takes longer than `limit` counts as hanging.
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

/// A database whose pages may be damaged: it panics when it is closed, too.
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

/// Checks every page and row of a ledger that nobody has open, in a copy in memory. `acknowledged` is as for `open`.
fn verify(folder: &Path, acknowledged: u64, faults: Option<&Faults>) -> Result<(), Fault> {
    let Some(bytes) = super::offline::bytes(folder, faults)? else {
        return match acknowledged {
            0 => Ok(()),
            _ => Err(Fault::Damaged(format!("is missing or empty, and had {acknowledged} transactions"))),
        };
    };
    let (database, numbers) = super::offline::open(&bytes)?;
    rows::check_numbers(&numbers, acknowledged)?;
    match caught(|| rows::inspect(&database, numbers.version))?.into_iter().next() {
        Some(first) => Err(Fault::Damaged(first)),
        None => Ok(()),
    }
}

/// Makes an empty ledger under another name and gives it its own: one that was not finished is none.
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

/// Opens the file. `acknowledged` is the number of a transaction that must be in it.
fn open(folder: &Path, faults: Option<Arc<Faults>>, acknowledged: u64) -> Result<(Guarded, rows::Numbers), Fault> {
    let database = caught(|| {
        let backend = Backend::open(&super::file(folder), faults)?;
        Ok(Guarded::new(Database::builder().set_cache_size(CACHE).create_with_backend(backend)?))
    })?;
    let numbers = caught(|| rows::numbers(&database))?;
    rows::check_numbers(&numbers, acknowledged)?;
    Ok((database, numbers))
}

/// Runs something on pages that may be damaged: redb panics on some of them.
pub(in crate::serve) fn caught<T>(what: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    crate::serve::quiet::quietly(|| catch_unwind(AssertUnwindSafe(what))).unwrap_or_else(|panic| {
        let why = panic.downcast_ref::<String>().cloned();
        let why = why.or_else(|| panic.downcast_ref::<&str>().map(|why| (*why).to_owned()));
        let why = why.unwrap_or_else(|| "a page makes no sense".to_owned());
        Err(Fault::Damaged(why.lines().next().unwrap_or_default().to_owned()))
    })
}
