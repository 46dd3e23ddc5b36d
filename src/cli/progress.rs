//! Progress of long work on standard error: a bar with rate and ETA on a terminal, an occasional line elsewhere, and
//! nothing if the command is to be quiet.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::experiments;

/// Number of requests or other items that have ended, over all runs of a command.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
    ended: AtomicU64,
    total: u64,
    /// True if standard error is no terminal: a line is printed for each tenth of the items.
    plain: bool,
    /// Number of items between two updates of the bar.
    stride: u64,
    quiet: bool,
    /// Word for the items.
    what: &'static str,
}

/// Number of items between two updates of the bar.
const STRIDE: u64 = 256;

impl Progress {
    /// Shows a bar for `total` requests.
    pub(super) fn new(total: u64, quiet: bool) -> Self {
        Self::counting(total, "requests", quiet)
    }

    /// Shows a bar for `total` items, which `what` names.
    fn counting(total: u64, what: &'static str, quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target = if quiet || !terminal { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        let style =
            format!("{{bar:30}} {{percent:>3}}%  {{human_pos}} of {{human_len}} {what}  {{per_sec}}  ETA {{eta}}");
        // A template that does not parse would be a mistake here; the default style will do then.
        bar.set_style(ProgressStyle::with_template(&style).unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar, ended: AtomicU64::new(0), total, plain: !quiet && !terminal, stride: STRIDE, quiet, what }
    }

    /// Shows a bar for items that take long, and updates it for each of them.
    fn real_time(total: u64, what: &'static str, quiet: bool) -> Self {
        let mut progress = Self::counting(total, what, quiet);
        progress.stride = 1;
        progress.bar.enable_steady_tick(std::time::Duration::from_millis(500));
        progress
    }

    /// Prints a line above the bar.
    pub(super) fn say(&self, line: &str) {
        self.bar.suspend(|| say!("{line}"));
    }

    /// Counts items that are done.
    pub(super) fn advance(&self, count: u64) {
        self.bar.set_position(self.ended.fetch_add(count, Ordering::Relaxed) + count);
    }

    /// Counts one item that is done.
    pub(super) fn end_one(&self) {
        let ended = self.ended.fetch_add(1, Ordering::Relaxed) + 1;
        if ended.is_multiple_of(self.stride) || ended == self.total {
            self.bar.set_position(ended);
        }
        let tenth = (self.total / 10).max(1);
        if self.plain && (self.total >= 10_000 || self.stride == 1) && ended.is_multiple_of(tenth) {
            say!("{ended} of {} {}", self.total, self.what);
        }
    }

    /// Removes the bar.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

impl experiments::Progress for Progress {
    fn request_ended(&self) {
        self.end_one();
    }

    fn requests_ended(&self, requests: u64) {
        self.advance(requests);
    }

    fn search_begins(&self, requests: u64) {
        // The bar shows the runs, which wait for the search.
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

/// Number of requests from which on a search takes seconds.
const LONG: u64 = 20_000;

/// Progress of a command whose pieces of work follow each other: a bar for a search ahead, a live run or pictures while
/// the piece lasts, and a line for each sentence.
#[derive(Debug)]
pub(super) struct Lines {
    quiet: bool,
    piece: Mutex<Option<Progress>>,
}

impl Lines {
    /// Shows only warnings if `quiet` is true.
    pub(super) const fn new(quiet: bool) -> Self {
        Self { quiet, piece: Mutex::new(None) }
    }

    fn piece(&self) -> MutexGuard<'_, Option<Progress>> {
        self.piece.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        if let Some(piece) = self.piece().take() {
            piece.finish();
        }
    }
}

impl experiments::Progress for Lines {
    fn run_begins(&self, requests: u64) {
        *self.piece() = Some(Progress::real_time(requests, "requests", self.quiet));
    }

    fn pictures_begin(&self, pictures: u64) {
        *self.piece() = Some(Progress::real_time(pictures, "pictures", self.quiet));
    }

    fn run_ends(&self) {
        self.end();
    }

    fn work_begins(&self, requests: u64) -> Box<dyn experiments::Progress> {
        Box::new(Progress::new(requests, self.quiet))
    }

    fn request_ended(&self) {
        if let Some(piece) = &*self.piece() {
            piece.end_one();
        }
    }

    fn search_begins(&self, requests: u64) {
        *self.piece() = Some(Progress::counting(requests, "requests searched ahead for", self.quiet));
    }

    fn searched(&self, requests: u64) {
        if let Some(piece) = &*self.piece() {
            piece.advance(requests);
        }
    }

    fn search_ends(&self) {
        self.end();
    }

    fn say(&self, sentence: &str) {
        if self.quiet && !sentence.starts_with("warning: ") {
            return;
        }
        match &*self.piece() {
            Some(piece) => piece.say(sentence),
            None => say!("{sentence}"),
        }
    }

    fn anywhere(&self) -> Arc<dyn Fn(&str) + Send + Sync> {
        let (quiet, bar) = (self.quiet, self.piece().as_ref().map(|piece| piece.bar.clone()));
        Arc::new(move |sentence| match &bar {
            _ if quiet => {}
            Some(bar) => bar.suspend(|| say!("{sentence}")),
            None => say!("{sentence}"),
        })
    }
}
