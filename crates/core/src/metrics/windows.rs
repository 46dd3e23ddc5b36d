//! Timeline while it is built: integrals and counts of the open window, and the rows of closed windows, which never
//! change.

use alloc::vec::Vec;

use super::cluster::Counts;
use super::timeline::TimelineRow;
use crate::scheduler::DecisionKind;
use crate::time::{Duration, Time};

/// Number of states of a worker: busy, loading, idle and down.
const STATES: usize = 4;

/// Builder of the timeline: one row for each window with an event.
#[derive(Clone, Debug)]
pub(super) struct Windows {
    length: Duration,
    start: Time,
    /// Time up to which the open window is integrated.
    reached: Time,
    open: Open,
    rows: Vec<TimelineRow>,
}

#[derive(Clone, Debug, Default)]
struct Open {
    touched: bool,
    arrivals: u64,
    completions: u64,
    routed: u64,
    hits: u64,
    ended: u64,
    met: Vec<u64>,
    /// Worker nanoseconds: busy, loading, idle, down. 64 bits would overflow in a window of ten years with 59 workers.
    spent: [u128; STATES],
    /// Worker nanoseconds, by the model that the workers hold.
    spent_by_model: Vec<u128>,
}

/// Mark in the timeline: the open window as it was, and the number of rows.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    rows: usize,
    start: Time,
    reached: Time,
    open: Open,
}

/// Number of requests that wait, by kind.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Waiting {
    pub(super) misses: u64,
    pub(super) hits: u64,
    pub(super) returns: u64,
}

impl Waiting {
    /// Returns the count of a kind. A request with a returned image waits for no worker, so that no result shows the
    /// count of returns.
    pub(super) fn count_mut(&mut self, kind: DecisionKind) -> &mut u64 {
        match kind {
            DecisionKind::Miss | DecisionKind::Draft => &mut self.misses,
            DecisionKind::Hit => &mut self.hits,
            DecisionKind::Return => &mut self.returns,
        }
    }
}

impl Windows {
    pub(super) fn new(length: Duration, models: usize, multiples: usize) -> Self {
        let open = Open { met: vec![0; multiples], spent_by_model: vec![0; models], ..Open::default() };
        Self { length, start: Time::ZERO, reached: Time::ZERO, open, rows: Vec::new() }
    }

    /// Integrates up to `now` with the counts that held until then, and closes the windows that end on the way.
    pub(super) fn advance(&mut self, now: Time, counts: &Counts, waiting: Waiting) {
        loop {
            let end = self.start + self.length;
            if now < end {
                break;
            }
            self.integrate(end, counts);
            // Nothing has happened since the event before, so that what waits now waited at the end of the window.
            self.close(end, waiting);
            if !self.open.touched && now >= self.start + self.length {
                // No event comes until `now`: skip to its window.
                let skipped = now.since(self.start).nanoseconds() / self.length.nanoseconds();
                self.start = self.start + Duration::from_nanoseconds(skipped * self.length.nanoseconds());
                self.reached = self.start;
            }
        }
        self.integrate(now, counts);
        self.open.touched = true;
    }

    /// Marks the open window as one in which something happened.
    pub(super) const fn touch(&mut self) {
        self.open.touched = true;
    }

    /// Returns the start of the open window.
    pub(super) const fn start(&self) -> Time {
        self.start
    }

    /// Returns a mark at the present state, for [`Self::back_to`].
    pub(super) fn mark(&self) -> Mark {
        Mark { rows: self.rows.len(), start: self.start, reached: self.reached, open: self.open.clone() }
    }

    /// Restores the state at a mark and leaves out what came after the mark.
    pub(super) fn back_to(&mut self, mark: Mark) {
        self.rows.truncate(mark.rows);
        (self.start, self.reached, self.open) = (mark.start, mark.reached, mark.open);
    }

    fn integrate(&mut self, until: Time, counts: &Counts) {
        let spent = until.since(self.reached).nanoseconds();
        // Events of one instant are common, and only the first of them has time to count.
        if spent == 0 {
            return;
        }
        self.reached = until;
        let spent = u128::from(spent);
        let [busy, loading, idle, down] = &mut self.open.spent;
        *busy += spent * u128::from(counts.busy);
        *loading += spent * u128::from(counts.loading);
        *idle += spent * u128::from(counts.idle);
        *down += spent * u128::from(counts.down);
        for (total, count) in self.open.spent_by_model.iter_mut().zip(&counts.by_model) {
            *total += spent * u128::from(*count);
        }
    }

    fn close(&mut self, end: Time, waiting: Waiting) {
        if self.open.touched {
            self.rows.push(self.row(end, waiting));
        }
        let open = &mut self.open;
        open.met.fill(0);
        open.spent.fill(0);
        open.spent_by_model.fill(0);
        (open.touched, open.arrivals, open.completions) = (false, 0, 0);
        (open.routed, open.hits, open.ended) = (0, 0, 0);
        self.start = end;
        self.reached = end;
    }

    fn row(&self, end: Time, waiting: Waiting) -> TimelineRow {
        let open = &self.open;
        let length = end.since(self.start).nanoseconds().max(1) as f64;
        let mean = |total: u128| total as f64 / length;
        let share = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
        TimelineRow {
            time_s: self.start.seconds(),
            arrivals: open.arrivals,
            completions: open.completions,
            queued_misses: waiting.misses,
            queued_hits: waiting.hits,
            workers_busy: mean(open.spent[0]),
            workers_loading: mean(open.spent[1]),
            workers_idle: mean(open.spent[2]),
            workers_down: mean(open.spent[3]),
            workers_by_model: open.spent_by_model.iter().map(|total| mean(*total)).collect(),
            hit_rate: share(open.hits, open.routed),
            slo_attainment: open.met.iter().map(|met| share(*met, open.ended)).collect(),
        }
    }

    pub(super) fn arrived(&mut self) {
        self.open.arrivals += 1;
    }

    pub(super) fn routed(&mut self, hit: bool) {
        self.open.routed += 1;
        self.open.hits += u64::from(hit);
    }

    /// Counts a request that ended.
    pub(super) fn ended(&mut self, completed: bool) {
        self.open.ended += 1;
        self.open.completions += u64::from(completed);
    }

    /// Counts a request that was in time for a multiple.
    pub(super) fn met(&mut self, multiple: usize) {
        self.open.met[multiple] += 1;
    }

    /// Returns the rows. The last window ends with the run, and its means are over the part before that.
    pub(super) fn finish(mut self, end: Time, waiting: Waiting) -> Vec<TimelineRow> {
        if self.open.touched && end > self.start {
            self.rows.push(self.row(end, waiting));
        }
        self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::MAX_INPUT_S;

    #[test]
    fn quiet_windows_are_left_out_and_means_are_over_time() {
        let second = |s: u64| Time::from_nanoseconds(s * 1_000_000_000);
        let mut windows = Windows::new(Duration::from_nanoseconds(60_000_000_000), 1, 1);
        let mut counts = Counts { idle: 2, by_model: vec![2], ..Counts::default() };
        windows.advance(second(30), &counts, Waiting::default());
        windows.arrived();
        (counts.idle, counts.busy) = (1, 1);
        windows.advance(second(630), &counts, Waiting { misses: 3, ..Waiting::default() });
        windows.ended(true);
        windows.met(0);
        let rows = windows.finish(second(630), Waiting::default());
        assert_eq!(rows.len(), 2);
        assert!((rows[0].workers_busy - 0.5).abs() < 1e-12 && rows[0].queued_misses == 3);
        assert!((rows[1].time_s - 600.0).abs() < 1e-12 && (rows[1].workers_busy - 1.0).abs() < 1e-12);
        assert_eq!(rows[1].slo_attainment, [Some(1.0)]);
    }

    #[test]
    fn the_longest_window_of_the_largest_cluster_is_counted() {
        let length = Duration::from_seconds(MAX_INPUT_S).expect("an input may name it");
        let mut windows = Windows::new(length, 1, 1);
        let (all, end) = (u32::from(u16::MAX), Time::ZERO + length);
        windows.touch();
        windows.advance(end, &Counts { idle: all, by_model: vec![all], ..Counts::default() }, Waiting::default());
        windows.advance(
            end + length,
            &Counts { down: all, by_model: vec![0], ..Counts::default() },
            Waiting::default(),
        );
        let rows = windows.finish(end + length, Waiting::default());
        let shown =
            rows.iter().map(|row| [row.workers_idle, row.workers_down, row.workers_by_model[0]].map(f64::round));
        let all = f64::from(all);
        assert_eq!(shown.collect::<Vec<_>>(), [[all, 0.0, all], [0.0, all, 0.0]]);
    }
}
