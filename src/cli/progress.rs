//! Progress of long work on standard error, with rate and time left from the first second: a bar on a terminal, a line
//! every ten seconds elsewhere, and nothing if the command is to be quiet.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::experiments;
use crate::experiments::Figures;

/// Time from the beginning to the first line of a log, and time between two lines.
const LINES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];

/// Time between two pictures of a view in a terminal.
const VIEW: Duration = Duration::from_millis(250);

#[expect(clippy::disallowed_methods, reason = "progress is of the host's time")]
fn now() -> Instant {
    Instant::now()
}

/// Times at which lines are due, for output that is no terminal.
#[derive(Debug)]
pub(super) struct Pacing {
    begun: Instant,
    due: Mutex<Instant>,
    every: Duration,
}

impl Pacing {
    /// Begins now. The first line is due after `first`.
    fn new([first, every]: [Duration; 2]) -> Self {
        let begun = now();
        Self { begun, due: Mutex::new(begun + first), every }
    }

    /// Begins a log.
    pub(super) fn of_log() -> Self {
        Self::new(LINES)
    }

    /// Returns the seconds since the beginning if a line is due now.
    pub(super) fn due(&self) -> Option<f64> {
        // Whoever finds the lock taken leaves the line to the other.
        let mut due = self.due.try_lock().ok()?;
        let now = now();
        (now >= *due).then(|| {
            *due = now + self.every;
            (now - self.begun).as_secs_f64()
        })
    }
}

/// Formats what is done of `total`, with rate and time left.
pub(super) fn line(done: u64, total: u64, what: &str, seconds: f64) -> String {
    let rate = done as f64 / seconds.max(1e-9);
    let left = if done == 0 { "unknown".to_owned() } else { clock(total.saturating_sub(done) as f64 / rate) };
    let shown = if rate < 10.0 { format!("{rate:.2}") } else { HumanCount(rate.round() as u64).to_string() };
    let share = 100.0 * done as f64 / total.max(1) as f64;
    format!("{share:.0} %: {} of {} {what}, {shown}/s, time left {left}", HumanCount(done), HumanCount(total))
}

/// Formats seconds as minutes and seconds, with hours if there are any.
fn clock(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{rest:02}") } else { format!("{minutes}:{rest:02}") }
}

/// Number of requests or other items that have ended, over all runs of a command.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
    ended: AtomicU64,
    total: u64,
    /// Times of lines, if standard error is no terminal.
    lines: Option<Pacing>,
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
        let style = format!(
            "{{bar:30}} {{percent:>3}}%  {{human_pos}} of {{human_len}} {what}  {{per_sec}}  {{eta}} left{{msg}}"
        );
        // A template that does not parse would be a mistake here; the default style will do then.
        bar.set_style(ProgressStyle::with_template(&style).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_millis(500));
        let lines = (!quiet && !terminal).then(Pacing::of_log);
        Self { bar, ended: AtomicU64::new(0), total, lines, stride: STRIDE, quiet, what }
    }

    /// Shows a bar for items that take long, and updates it for each of them.
    fn real_time(total: u64, what: &'static str, quiet: bool) -> Self {
        let mut progress = Self::counting(total, what, quiet);
        progress.stride = 1;
        progress
    }

    /// Prints a line above the bar.
    pub(super) fn say(&self, line: &str) {
        self.bar.suspend(|| say!("{line}"));
    }

    /// Counts items that are done.
    pub(super) fn advance(&self, count: u64) {
        self.show(self.ended.fetch_add(count, Ordering::Relaxed) + count);
    }

    /// Counts one item that is done.
    pub(super) fn end_one(&self) {
        let ended = self.ended.fetch_add(1, Ordering::Relaxed) + 1;
        if ended.is_multiple_of(self.stride) || ended == self.total {
            self.show(ended);
        }
    }

    fn show(&self, ended: u64) {
        self.bar.set_position(ended);
        if let Some(seconds) = self.lines.as_ref().and_then(Pacing::due) {
            say!("{}", line(ended, self.total, self.what, seconds));
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
    /// True if the figures of live runs are shown.
    watches: bool,
    piece: Mutex<Option<Progress>>,
    view: Mutex<Option<Pacing>>,
}

impl Lines {
    /// Shows only warnings if `quiet` is true.
    pub(super) const fn new(quiet: bool) -> Self {
        Self { quiet, watches: false, piece: Mutex::new(None), view: Mutex::new(None) }
    }

    /// Shows the figures of live runs as well if `watches` is true.
    #[cfg(feature = "live")]
    pub(super) fn watching(self, watches: bool) -> Self {
        Self { watches, ..self }
    }

    fn piece(&self) -> MutexGuard<'_, Option<Progress>> {
        self.piece.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn view(&self) -> MutexGuard<'_, Option<Pacing>> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        if let Some(piece) = self.piece().take() {
            piece.finish();
        }
        *self.view() = None;
    }
}

impl experiments::Progress for Lines {
    fn run_begins(&self, requests: u64) {
        let mut piece = Progress::real_time(requests, "requests", self.quiet);
        if self.watches {
            // The lines of the view have the count, too.
            let plain = piece.lines.take().is_some();
            *self.view() = Some(if plain { Pacing::of_log() } else { Pacing::new([Duration::ZERO, VIEW]) });
        }
        *self.piece() = Some(piece);
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

    fn watches(&self) -> bool {
        self.watches && !self.quiet
    }

    fn figures(&self, figures: &Figures<'_>) {
        if self.view().as_ref().and_then(Pacing::due).is_none() {
            return;
        }
        let Some(piece) = &*self.piece() else { return };
        if piece.bar.is_hidden() {
            say!("{}", figures.sentences().join("; "));
        } else {
            piece.bar.set_message(format!("\n  {}", figures.sentences()[1..].join("\n  ")));
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_rate_and_time_left() {
        assert_eq!(line(500, 2000, "requests", 2.0), "25 %: 500 of 2,000 requests, 250/s, time left 0:06");
        assert_eq!(line(3, 20_000, "pictures", 2.0), "0 %: 3 of 20,000 pictures, 1.50/s, time left 3:42:11");
        assert_eq!(line(0, 5, "requests", 1.0), "0 %: 0 of 5 requests, 0.00/s, time left unknown");
    }

    #[test]
    fn a_log_has_a_line_after_a_second_and_then_every_ten() {
        assert_eq!(Pacing::of_log().due(), None, "the work has just begun");
        let pace = Pacing::new([Duration::ZERO, LINES[1]]);
        assert!(pace.due().is_some_and(|seconds| seconds < 5.0));
        assert_eq!(pace.due(), None, "one line is enough for a while");
    }
}
