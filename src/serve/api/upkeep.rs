//! Upkeep while the server runs: room on the disk, the ledger, the clocks, what is old, and the threads that
//! write. What cannot be recovered from ends the program with a sentence.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{ApiError, Server};
use crate::live::faults::Faults;
use crate::live::store::TestableDisk;
use crate::serve::clock::{HostClock, JumpGuard};
use crate::serve::ledger::{Entry, Health, picture_file};
use crate::serve::settings::ServeSettings;
use crate::serve::{lock, recordings};

/// Time between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// Looks between two times that what is old is forgotten and what tenants have used of their quotas is put on disk.
const SELDOM: u64 = 60;

/// State of the disk and the clocks.
pub struct Upkeep {
    /// The host's clocks.
    pub clock: HostClock,
    data: PathBuf,
    guard: Mutex<JumpGuard>,
    disk: TestableDisk,
    /// Whether there is too little room for anything new.
    is_low: AtomicBool,
    /// Bytes that are free, as they were at the last look.
    free: AtomicU64,
}

impl Upkeep {
    /// Begins at a start of the program; `last_date` is the newest that the ledger has.
    #[must_use]
    pub fn new(
        data: PathBuf,
        clock: HostClock,
        settings: &ServeSettings,
        last_date: Option<u64>,
        faults: Option<Arc<Faults>>,
    ) -> Self {
        let (guard, warning) = JumpGuard::new(&clock, Duration::from_secs_f64(settings.keep_results_s), last_date);
        if let Some(warning) = warning {
            tracing::warn!("{warning}");
        }
        let (guard, disk) = (Mutex::new(guard), TestableDisk::new(faults));
        let upkeep = Self { clock, data, guard, disk, is_low: AtomicBool::new(false), free: AtomicU64::new(u64::MAX) };
        upkeep.look_at_disk(settings.min_free_bytes);
        upkeep
    }

    pub(super) fn disk(&self) -> TestableDisk {
        self.disk.clone()
    }

    /// Bytes that are free on the disk.
    pub(super) fn free(&self) -> u64 {
        self.free.load(Ordering::Relaxed)
    }

    /// Notes that something could not be written: without room nothing new is taken in from now on, not from the next look on.
    pub(super) fn failed(&self, error: &io::Error) {
        if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            self.is_low.store(true, Ordering::Relaxed);
        }
    }

    fn look_at_disk(&self, floor: u64) {
        let free = match rustix::fs::statvfs(&self.data) {
            Ok(disk) => disk.f_bavail.saturating_mul(disk.f_frsize),
            Err(error) => return tracing::warn!("{}: its disk cannot be looked at: {error}", self.data.display()),
        };
        self.free.store(free, Ordering::Relaxed);
        let is_low = free < floor;
        if self.is_low.swap(is_low, Ordering::Relaxed) != is_low {
            let does = if is_low { "nothing new is taken in" } else { "requests are taken in again" };
            tracing::warn!(free, floor, "bytes free on the disk: {does}");
        }
    }
}

impl Server {
    /// Refuses new work while there is no room on the disk, or the ledger does not work.
    ///
    /// # Errors
    /// The part that does not work.
    pub(super) fn storage_fits(&self) -> Result<(), ApiError> {
        if self.upkeep.is_low.load(Ordering::Relaxed) {
            return Err(ApiError::insufficient_storage());
        }
        match self.ledger.health() {
            Health::Well => Ok(()),
            Health::Failing { is_full: true, .. } => Err(ApiError::insufficient_storage()),
            Health::Failing { .. } | Health::Lost(_) => Err(ApiError::storage_unavailable()),
        }
    }

    /// Why the server should not be sent requests: `draining`, `disk`, `ledger`.
    pub(super) fn troubles(&self) -> Vec<&'static str> {
        let is_failing = !matches!(self.ledger.health(), Health::Well);
        let all = [
            (self.desk.is_draining(), "draining"),
            (self.upkeep.is_low.load(Ordering::Relaxed), "disk"),
            (is_failing, "ledger"),
        ];
        all.into_iter().filter_map(|(is_so, what)| is_so.then_some(what)).collect()
    }

    /// Waits until the ends of all jobs are on disk.
    pub async fn settled(&self) {
        while !self.running().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Looks after the server for as long as it runs. Returns why it cannot go on.
    pub async fn look_after(self: Arc<Self>) -> String {
        let mut looks: u64 = 0;
        loop {
            if looks.is_multiple_of(SELDOM) {
                self.forget_old().await;
                self.forget_recordings().await;
                if looks > 0 {
                    self.keep_usage().await;
                }
            }
            looks += 1;
            tokio::time::sleep(LOOK).await;
            self.upkeep.look_at_disk(self.settings.min_free_bytes);
            if let Some(warning) = lock(&self.upkeep.guard).look(&self.upkeep.clock) {
                tracing::warn!("{warning}");
            }
            for failure in self.sources.take_failures() {
                tracing::warn!("the image store: {failure}");
            }
            if let Some(why) = self.cannot_go_on().await {
                return why;
            }
        }
    }

    async fn cannot_go_on(self: &Arc<Self>) -> Option<String> {
        if !self.ledger.is_writing() {
            return Some("the thread that writes the ledger has ended".to_owned());
        }
        if !self.sources.is_writing() {
            return (!self.desk.is_draining()).then(|| "the thread that writes cached pictures has ended".to_owned());
        }
        match self.ledger.health() {
            Health::Well => None,
            Health::Lost(error) => Some(error.to_string()),
            Health::Failing { since, .. } => {
                let own = self.clone();
                let works = tokio::task::spawn_blocking(move || own.ledger.probe()).await.unwrap_or(false);
                let seconds = since.as_secs_f64();
                (!works && seconds > self.settings.disk_retry_s)
                    .then(|| format!("the ledger has failed for {seconds:.0} s: see serve.disk_retry_s"))
            }
        }
    }

    /// Forgets results that have been kept for long enough, or are too many.
    async fn forget_old(&self) {
        let may = lock(&self.upkeep.guard).may_forget(&self.upkeep.clock);
        let before = self.upkeep.clock.date().saturating_sub(self.settings.keep_results_s as u64);
        let before = if may { before } else { 0 };
        match self.ledger.write(vec![Entry::Forget { before, most_bytes: self.settings.keep_results_bytes }]).await {
            Ok(gone) => {
                for id in gone.pictures {
                    let _ = tokio::fs::remove_file(picture_file(&self.results, &id)).await;
                }
            }
            Err(error) => tracing::warn!("old results cannot be forgotten: {error}"),
        }
    }

    /// Removes recordings that have been kept for long enough, or are too many.
    async fn forget_recordings(&self) {
        let may = lock(&self.upkeep.guard).may_forget(&self.upkeep.clock);
        let before = self.upkeep.clock.date().saturating_sub(self.settings.keep_traffic_s as u64);
        let (folder, before) = (recordings::folder(&self.upkeep.data), if may { before } else { 0 });
        let (current, most) = (self.desk.recording(), self.settings.keep_traffic_bytes);
        let forgotten =
            tokio::task::spawn_blocking(move || recordings::forget(&folder, current.as_deref(), before, most));
        match forgotten.await {
            Ok(warnings) => warnings.iter().for_each(|warning| tracing::warn!("{warning}")),
            Err(error) => tracing::warn!("old recordings cannot be removed: {error}"),
        }
    }

    /// Puts on disk what tenants have used of their quotas.
    pub async fn keep_usage(&self) {
        let entries = self.usage.entries();
        if !entries.is_empty()
            && let Err(error) = self.ledger.write(entries).await
        {
            tracing::warn!("what tenants have used of their quotas cannot be kept: {error}");
        }
    }
}
