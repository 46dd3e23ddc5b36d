//! Progress of long work on standard error: a bar with rate and ETA on a terminal, a line now and then
//! elsewhere, nothing when asked to be quiet.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::journal::{Journal, Record};
use crate::scheduler::Action;

/// How many requests have ended, over all runs of a command.
#[derive(Debug)]
pub struct Progress {
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
    pub fn new(total: u64, quiet: bool) -> Self {
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
    pub fn real_time(total: u64, quiet: bool) -> Self {
        let progress = Self { stride: 1, ..Self::new(total, quiet) };
        progress.bar.enable_steady_tick(std::time::Duration::from_millis(500));
        progress
    }

    /// For `total` pictures, drawn one after the other.
    #[cfg(feature = "live")]
    #[must_use]
    pub fn pictures(total: u64, quiet: bool) -> Self {
        let progress = Self { what: "pictures", ..Self::real_time(total, quiet) };
        let style = "{bar:30} {percent:>3}%  {human_pos} of {human_len} pictures  {per_sec}  ETA {eta}";
        progress.bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
        progress
    }

    /// Whether nothing is shown.
    pub const fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// For a search ahead for `total` requests.
    #[must_use]
    pub fn searching(total: u64, quiet: bool) -> Self {
        let progress = Self::new(total, quiet);
        let style = "{bar:30} {percent:>3}%  searched ahead for {human_pos} of {human_len} requests  ETA {eta}";
        progress.bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
        progress
    }

    /// A line above the bar.
    pub fn say(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    /// So many more are done.
    pub fn advance(&self, count: u64) {
        self.bar.set_position(self.ended.fetch_add(count, Ordering::Relaxed) + count);
    }

    /// One more is done.
    pub fn end_one(&self) {
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
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Journal for &Progress {
    fn record(&mut self, _: crate::time::Time, record: Record<'_>) {
        if let Record::Action(Action::Finish(_)) = record {
            self.end_one();
        }
    }
}
