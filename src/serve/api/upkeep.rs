//! Upkeep while the server runs: checks of the disk's room, the ledger, the clocks and the threads that write, and the
//! removal of old data. A failure from which the server cannot recover ends the program with a message. A disk that
//! hangs blocks only the work that waits for it, and that only up to a limit.

use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::{ApiError, Server};
use crate::live::faults::{Faults, may_panic};
use crate::live::store::TestableDisk;
use crate::serve::clock::{HostClock, JumpGuard};
use crate::serve::ledger::{Entry, Health, picture_file};
use crate::serve::settings::ServeSettings;
use crate::serve::{lock, recordings};

/// Time between two checks.
const LOOK: Duration = Duration::from_secs(1);
/// Number of checks between two removals of old data, at which the used quotas of tenants are written to disk, too.
const SELDOM: u64 = 60;

/// Largest number of uses of the disk at a time, beside those of the ledger. At most so many threads hang if the disk
/// does.
const MOST_WAITING: usize = 64;

/// State of the disk and the clocks.
pub struct Upkeep {
    /// Clocks of the host.
    pub clock: HostClock,
    data: PathBuf,
    guard: Mutex<JumpGuard>,
    disk: TestableDisk,
    /// True if the disk has too little room for anything new.
    is_low: AtomicBool,
    /// True if the last check of the disk has not returned in time.
    is_silent: AtomicBool,
    /// Permit for a check of the disk. There is one, so that no check begins while another one hangs.
    looks: Arc<Semaphore>,
    /// Number of bytes that were free on the disk at the last check.
    free: AtomicU64,
    room: Arc<Semaphore>,
}

impl Upkeep {
    /// Makes the state at the start of the program. `last_date` is the date of the ledger's last transaction.
    #[must_use]
    pub fn new(
        data: PathBuf,
        clock: HostClock,
        settings: &ServeSettings,
        last_date: Option<u64>,
        faults: Option<Arc<Faults>>,
    ) -> Self {
        let shortest = Duration::from_secs_f64(settings.keep_results_s.min(settings.keep_traffic_s));
        let (guard, warning) = JumpGuard::new(&clock, shortest, last_date);
        if let Some(warning) = warning {
            tracing::warn!("{warning}");
        }
        let (guard, disk) = (Mutex::new(guard), TestableDisk::new(faults));
        let (is_low, is_silent, free) = (AtomicBool::new(false), AtomicBool::new(false), AtomicU64::new(u64::MAX));
        let (room, looks) = (Arc::new(Semaphore::new(MOST_WAITING)), Arc::new(Semaphore::new(1)));
        let upkeep = Self { clock, data, guard, disk, is_low, is_silent, looks, free, room };
        // The first check is made here, so that the room is known before the first request.
        upkeep.found_free(rustix::fs::statvfs(&upkeep.data), settings.min_free_bytes);
        upkeep
    }

    pub(super) fn disk(&self) -> TestableDisk {
        self.disk.clone()
    }

    /// Returns the number of bytes that were free on the disk at the last check.
    pub(super) fn free(&self) -> u64 {
        self.free.load(Ordering::Relaxed)
    }

    /// Notes that a write failed. If the disk is full, the server accepts nothing new from now on, not only from the
    /// next check on.
    pub(super) fn failed(&self, error: &io::Error) {
        if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            self.is_low.store(true, Ordering::Relaxed);
        }
    }

    /// Notes the result of a check of the disk. The disk has too little room if fewer than `floor` bytes are free.
    fn found_free(&self, found: Result<rustix::fs::StatVfs, rustix::io::Errno>, floor: u64) {
        let free = match found {
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
    /// Does work that waits for the disk, on a thread for blocking work. After `live.limits.disk_s` seconds the disk
    /// counts as hanging.
    ///
    /// # Errors
    /// The disk does not answer, or the work panicked.
    pub(super) async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let room = self.upkeep.room.clone();
        let done = async {
            // The permit belongs to the work and not to the wait: after the limit, the work may still hang and hold its
            // thread.
            let slot = room.acquire_owned().await;
            let work = move || {
                let done = work();
                drop(slot);
                done
            };
            tokio::task::spawn_blocking(work).await
        };
        match tokio::time::timeout(self.desk.facts().disk_limit, done).await {
            Ok(done) => done.map_err(|error| ApiError::failed(error.to_string())),
            Err(_) => Err(ApiError::storage_unavailable()),
        }
    }

    /// Refuses new work while the disk has no room or the ledger does not work.
    ///
    /// # Errors
    /// The disk has too little room, or the ledger does not work.
    pub(super) fn storage_fits(&self) -> Result<(), ApiError> {
        if self.upkeep.is_low.load(Ordering::Relaxed) {
            return Err(ApiError::insufficient_storage());
        }
        match self.ledger.health() {
            Health::Well => Ok(()),
            Health::Failing { is_full: true, .. } => Err(ApiError::insufficient_storage()),
            Health::Failing { .. } | Health::Silent { .. } | Health::Lost(_) => Err(ApiError::storage_unavailable()),
        }
    }

    /// Returns the reasons why the server should not be sent requests, one line each. A line begins with `draining`,
    /// `disk` or `ledger`.
    pub(super) fn troubles(&self) -> Vec<String> {
        let ledger = match self.ledger.health() {
            Health::Well => None,
            Health::Silent { since } => {
                Some(format!("ledger: the disk has not answered one call for {} s", since.as_secs()))
            }
            Health::Failing { .. } | Health::Lost(_) => Some("ledger".to_owned()),
        };
        let is_silent = self.upkeep.is_silent.load(Ordering::Relaxed).then(|| "disk: it does not answer".to_owned());
        let is_low = self.upkeep.is_low.load(Ordering::Relaxed).then(|| "disk".to_owned());
        let is_draining = self.desk.is_draining().then(|| "draining".to_owned());
        [is_draining, is_low, is_silent, ledger].into_iter().flatten().collect()
    }

    /// Waits until the ends of all jobs are on disk.
    pub async fn settled(&self) {
        while !self.running().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Looks after the server for as long as it runs. Returns the reason why the server cannot go on.
    pub async fn look_after(self: Arc<Self>) -> String {
        // The two parts run concurrently: work that waits for the disk must not delay the other checks.
        tokio::select! {
            why = self.watch() => why,
            never = self.keep_up() => match never {},
        }
    }

    /// Repeats the work that waits for the disk: removal of old data, writing of used quotas, and checks of the disk's
    /// room.
    async fn keep_up(&self) -> Infallible {
        let mut round: u64 = 0;
        loop {
            if round.is_multiple_of(SELDOM) {
                self.forget_old().await;
                self.forget_recordings().await;
                // At the start the quotas have just been read from the ledger.
                if round > 0 {
                    self.keep_usage().await;
                }
            }
            round += 1;
            tokio::time::sleep(LOOK).await;
            let Ok(look) = self.upkeep.looks.clone().try_acquire_owned() else { continue };
            let (data, disk) = (self.upkeep.data.clone(), self.upkeep.disk());
            let measures = move || {
                let found = disk.free(&data);
                drop(look);
                found
            };
            let found = self.on_disk(measures).await;
            if self.upkeep.is_silent.swap(found.is_err(), Ordering::Relaxed) != found.is_err() {
                let does = if found.is_err() { "does not answer" } else { "answers again" };
                tracing::warn!("{}: the disk {does}", self.upkeep.data.display());
            }
            if let Ok(found) = found {
                self.upkeep.found_free(found, self.settings.min_free_bytes);
            }
        }
    }

    /// Checks the clocks, the threads and the ledger again and again. Returns the reason why the server cannot go on.
    async fn watch(self: &Arc<Self>) -> String {
        loop {
            tokio::time::sleep(LOOK).await;
            may_panic("upkeep");
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
            // At the end of a drain the loop closes the store, and its thread ends with it.
            return (!self.desk.is_draining()).then(|| "the thread that writes cached pictures has ended".to_owned());
        }
        let patience = Duration::from_secs_f64(self.settings.disk_retry_s);
        match self.ledger.health() {
            Health::Well => None,
            Health::Lost(error) => Some(error.to_string()),
            Health::Silent { since } => (since > self.desk.facts().disk_limit + patience).then(|| {
                let seconds = since.as_secs();
                format!(
                    "the disk has not answered the ledger for {seconds} s: see live.limits.disk_s, serve.disk_retry_s"
                )
            }),
            Health::Failing { since, .. } => {
                let own = self.clone();
                // Only a call shows that the ledger works again. While new work is refused, there may be no other call.
                let works = self.on_disk(move || own.ledger.probe()).await.unwrap_or(false);
                let seconds = since.as_secs_f64();
                (!works && since > patience)
                    .then(|| format!("the ledger has failed for {seconds:.0} s: see serve.disk_retry_s"))
            }
        }
    }

    /// Removes results that have been kept for long enough, or that have too many bytes.
    async fn forget_old(&self) {
        let keep = Duration::from_secs_f64(self.settings.keep_results_s);
        let may = lock(&self.upkeep.guard).may_forget(&self.upkeep.clock, keep);
        let before = self.upkeep.clock.date().saturating_sub(keep.as_secs());
        // The limit of bytes holds, whatever the date is.
        let before = if may { before } else { 0 };
        match self.ledger.write(vec![Entry::Forget { before, most_bytes: self.settings.keep_results_bytes }]).await {
            Ok(gone) => {
                self.remove_files(&gone.pictures).await;
            }
            Err(error) => tracing::warn!("old results cannot be forgotten: {error}"),
        }
    }

    /// Deletes the files of removed results. A file that the disk does not delete now is deleted at the next start.
    pub(super) async fn remove_files(&self, pictures: &[String]) {
        let files: Vec<PathBuf> = pictures.iter().map(|id| picture_file(&self.results, id)).collect();
        let removed = self.on_disk(move || files.iter().for_each(|file| drop(std::fs::remove_file(file)))).await;
        if removed.is_err() {
            tracing::warn!("files of old results are still there: the disk does not answer");
        }
    }

    /// Removes recordings that have been kept for long enough, or that have too many bytes.
    async fn forget_recordings(&self) {
        let keep = Duration::from_secs_f64(self.settings.keep_traffic_s);
        let may = lock(&self.upkeep.guard).may_forget(&self.upkeep.clock, keep);
        let before = self.upkeep.clock.date().saturating_sub(keep.as_secs());
        let (folder, before) = (recordings::folder(&self.upkeep.data), if may { before } else { 0 });
        let (current, most) = (self.desk.recording(), self.settings.keep_traffic_bytes);
        let forgotten = self.on_disk(move || recordings::forget(&folder, current.as_deref(), before, most));
        if let Ok(warnings) = forgotten.await {
            for warning in warnings {
                tracing::warn!("{warning}");
            }
        } else {
            tracing::warn!("old recordings cannot be removed: the disk does not answer");
        }
    }

    /// Writes the used quotas of tenants to disk.
    pub async fn keep_usage(&self) {
        let entries = self.usage.entries();
        if !entries.is_empty()
            && let Err(error) = self.ledger.write(entries).await
        {
            tracing::warn!("what tenants have used of their quotas cannot be kept: {error}");
        }
    }
}
