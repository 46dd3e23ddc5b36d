//! Progress of long work on standard error: a bar with rate and ETA on a terminal, a line now and then
//! elsewhere, nothing when asked to be quiet.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::experiments;

/// How many requests have ended, over all runs of a command.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
    ended: AtomicU64,
    total: u64,
    /// Not a terminal: a line each tenth.
    plain: bool,
    /// Requests between two updates of the bar.
    stride: u64,
    quiet: bool,
    /// What is counted.
    what: &'static str,
}

/// Requests between two updates of the bar.
const STRIDE: u64 = 256;

impl Progress {
    /// For `total` requests.
    #[must_use]
    pub(super) fn new(total: u64, quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target = if quiet || !terminal { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        let style = "{bar:30} {percent:>3}%  {human_pos} of {human_len} requests  {per_sec}  ETA {eta}";
        // A template that does not parse would be a slip of ours; the default style will do then.
        bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self {
            bar,
            ended: AtomicU64::new(0),
            total,
            plain: !quiet && !terminal,
            stride: STRIDE,
            quiet,
            what: "requests",
        }
    }

    /// For `total` requests in real time: every one of them is seen.
    #[cfg(feature = "live")]
    #[must_use]
    pub(super) fn real_time(total: u64, quiet: bool) -> Self {
        let progress = Self { stride: 1, ..Self::new(total, quiet) };
        progress.bar.enable_steady_tick(std::time::Duration::from_millis(500));
        progress
    }

    /// For `total` pictures, drawn one after the other.
    #[cfg(feature = "live")]
    #[must_use]
    pub(super) fn pictures(total: u64, quiet: bool) -> Self {
        let progress = Self { what: "pictures", ..Self::real_time(total, quiet) };
        let style = "{bar:30} {percent:>3}%  {human_pos} of {human_len} pictures  {per_sec}  ETA {eta}";
        progress.bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
        progress
    }

    /// Prints a line above the bar.
    pub(super) fn say(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    /// Counts so many that are done.
    #[cfg(feature = "live")]
    pub(super) fn advance(&self, count: u64) {
        self.bar.set_position(self.ended.fetch_add(count, Ordering::Relaxed) + count);
    }

    /// Counts one that is done.
    pub(super) fn end_one(&self) {
        let ended = self.ended.fetch_add(1, Ordering::Relaxed) + 1;
        if ended.is_multiple_of(self.stride) || ended == self.total {
            self.bar.set_position(ended);
        }
        let tenth = (self.total / 10).max(1);
        if self.plain && (self.total >= 10_000 || self.stride == 1) && ended.is_multiple_of(tenth) {
            eprintln!("{ended} of {} {}", self.total, self.what);
        }
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl experiments::Progress for Progress {
    fn request_ended(&self) {
        self.end_one();
    }

    fn search_begins(&self, requests: u64) {
        // The bar is that of the runs, which wait for the search.
        if requests >= LONG {
            experiments::Progress::say(self, &format!("searching ahead for {requests} requests"));
        }
    }

    fn say(&self, sentence: &str) {
        if !self.quiet {
            Self::say(self, sentence);
        }
    }
}

/// Requests from which on a search takes seconds.
const LONG: u64 = 20_000;

/// Progress of a command without a bar for its runs: a bar while it searches ahead, and a line for each sentence.
#[derive(Debug)]
pub(super) struct Lines {
    quiet: bool,
    search: Mutex<ProgressBar>,
    searched: AtomicU64,
}

impl Lines {
    /// Shows nothing if `quiet`.
    #[must_use]
    pub(super) fn new(quiet: bool) -> Self {
        Self { quiet, search: Mutex::new(ProgressBar::hidden()), searched: AtomicU64::new(0) }
    }

    fn bar(&self) -> MutexGuard<'_, ProgressBar> {
        self.search.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl experiments::Progress for Lines {
    fn search_begins(&self, requests: u64) {
        let progress = Progress::new(requests, self.quiet);
        let style = "{bar:30} {percent:>3}%  searched ahead for {human_pos} of {human_len} requests  ETA {eta}";
        progress.bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
        self.searched.store(0, Ordering::Relaxed);
        *self.bar() = progress.bar;
    }

    fn searched(&self, requests: u64) {
        self.bar().set_position(self.searched.fetch_add(requests, Ordering::Relaxed) + requests);
    }

    fn search_ends(&self) {
        self.bar().finish_and_clear();
    }

    fn say(&self, sentence: &str) {
        if !self.quiet {
            eprintln!("{sentence}");
        }
    }
}
