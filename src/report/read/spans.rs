//! Activity of workers in a window of time, from `requests.csv` and `absences.csv`, and the choice of a window worth
//! showing. If a request was started more than once, the files have only its last start.

use std::path::{Path, PathBuf};

use super::WindowS;
use super::table::Table;
use crate::input::InputError;

/// Length of a window, as a multiple of the mean duration of a job.
const JOBS: f64 = 12.0;

/// Kind of a worker's activity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// Job of one or several full generations.
    Miss,
    /// Job of one or several refinements.
    Hit,
    /// Load of a model onto the GPU.
    Loading,
    /// Time in which the worker is lost.
    Down,
}

impl SpanKind {
    /// Returns the kind as a word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Miss => "miss",
            Self::Hit => "hit",
            Self::Loading => "loading",
            Self::Down => "down",
        }
    }
}

/// Span of time in which a worker has one activity.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Index of the worker.
    pub worker: u16,
    /// Kind of the activity.
    pub kind: SpanKind,
    /// Name of the model; empty while the worker is down.
    pub model: String,
    /// Number of requests of the job; 0 for a span that is no job.
    pub requests: u32,
    /// Start of the span in seconds; may lie before the window.
    pub start_s: f64,
    /// End of the span in seconds; may lie after the window.
    pub end_s: f64,
}

/// Positions of the columns of `requests.csv` that a span needs.
pub(super) struct Columns {
    worker: usize,
    model: usize,
    decision: usize,
    start: usize,
    finish: usize,
}

impl Columns {
    pub(super) fn from_table(table: &Table) -> Result<Self, InputError> {
        Ok(Self {
            worker: table.place("worker")?,
            model: table.place("model")?,
            decision: table.place("decision")?,
            start: table.place("start_s")?,
            finish: table.place("finish_s")?,
        })
    }

    /// Returns the job of a request, if part of the job lies in the window.
    pub(super) fn span(
        &self,
        table: &Table,
        record: &csv::StringRecord,
        window: WindowS,
    ) -> Result<Option<Span>, InputError> {
        let numbers = [self.worker, self.start, self.finish].map(|place| table.number(record, place));
        let [Some(worker), Some(start_s), Some(end_s)] =
            [numbers[0].clone()?, numbers[1].clone()?, numbers[2].clone()?]
        else {
            return Ok(None);
        };
        let kind = if record.get(self.decision) == Some("hit") { SpanKind::Hit } else { SpanKind::Miss };
        let model = record.get(self.model).unwrap_or_default().to_owned();
        let span = Span { worker: worker as u16, kind, model, requests: 1, start_s, end_s };
        Ok(Some(span).filter(|span| span.overlaps(window)))
    }
}

impl Span {
    fn overlaps(&self, (from, to): WindowS) -> bool {
        self.start_s < to && self.end_s > from && self.start_s < self.end_s
    }
}

/// Merges requests that a worker started together into one job. The jobs are in order of worker and time.
pub(super) fn together(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_by(|a, b| a.worker.cmp(&b.worker).then(a.start_s.total_cmp(&b.start_s)));
    spans.dedup_by(|next, kept| {
        let same = next.worker == kept.worker && next.start_s.total_cmp(&kept.start_s).is_eq();
        if same {
            kept.requests += 1;
            kept.end_s = kept.end_s.max(next.end_s);
        }
        same
    });
    spans
}

/// Returns the loads and losses of workers within the window. Results of earlier versions do not have these.
pub(super) fn absences(folder: &Path, window: WindowS) -> Result<Vec<Span>, InputError> {
    let mut found = Vec::new();
    each_absence(folder, |span| found.extend(Some(span).filter(|span| span.overlaps(window))))?;
    Ok(found)
}

fn each_absence(folder: &Path, mut each: impl FnMut(Span)) -> Result<(), InputError> {
    let file = folder.join("absences.csv");
    if !file.is_file() {
        return Ok(());
    }
    let mut table = Table::open(&file)?;
    let [worker, state, model] = [table.place("worker")?, table.place("state")?, table.place("model")?];
    let [start, end] = [table.place("start_s")?, table.place("end_s")?];
    let mut record = csv::StringRecord::new();
    while table.read(&mut record)? {
        let number = |place: usize| Ok::<f64, InputError>(table.number(&record, place)?.unwrap_or(0.0));
        let kind = if record.get(state) == Some("down") { SpanKind::Down } else { SpanKind::Loading };
        let model = record.get(model).unwrap_or_default().to_owned();
        let (start_s, end_s) = (number(start)?, number(end)?);
        each(Span { worker: number(worker)? as u16, kind, model, requests: 0, start_s, end_s });
    }
    Ok(())
}

/// Chooses a window worth showing. It lies around the first load or loss after time zero in any of the runs, else in
/// the middle of the runs. Its length is [`JOBS`] times the mean duration of a job in the run with the shortest jobs.
/// Returns `None` if no run had a job.
pub(super) fn where_something_changes(folders: &[PathBuf]) -> Result<Option<WindowS>, InputError> {
    let (mut shortest, mut load, mut last) = (f64::INFINITY, f64::INFINITY, 0.0_f64);
    for folder in folders {
        let (busy_s, jobs) = work(&folder.join("workers.csv"))?;
        if jobs > 0.0 {
            shortest = shortest.min(busy_s / jobs);
        }
        each_absence(folder, |span| {
            last = last.max(span.end_s);
            // A worker that is down from the start is no change.
            if span.start_s > 0.0 {
                load = load.min(span.start_s);
            }
        })?;
        last = last.max(end_s(&folder.join("timeline.csv"))?);
    }
    if !shortest.is_finite() {
        return Ok(None);
    }
    let length = JOBS * shortest;
    let start = if load.is_finite() { load - length / 4.0 } else { (last - length) / 2.0 };
    let start = (start.max(0.0) * 10.0).floor() / 10.0;
    Ok(Some((start, start + length)))
}

/// Returns the busy seconds and the number of jobs of all workers.
fn work(file: &Path) -> Result<(f64, f64), InputError> {
    let mut table = Table::open(file)?;
    let [busy, jobs] = [table.place("busy_s")?, table.place("jobs")?];
    let (mut sums, mut record) = ((0.0, 0.0), csv::StringRecord::new());
    while table.read(&mut record)? {
        sums.0 += table.number(&record, busy)?.unwrap_or(0.0);
        sums.1 += table.number(&record, jobs)?.unwrap_or(0.0);
    }
    Ok(sums)
}

/// Returns the time at which the last window of the timeline begins, in seconds.
fn end_s(file: &Path) -> Result<f64, InputError> {
    let mut table = Table::open(file)?;
    let time = table.place("time_s")?;
    let (mut last, mut record) = (0.0, csv::StringRecord::new());
    while table.read(&mut record)? {
        last = table.number(&record, time)?.unwrap_or(last);
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(worker: u16, start_s: f64, end_s: f64) -> Span {
        Span { worker, kind: SpanKind::Hit, model: "small".into(), requests: 1, start_s, end_s }
    }

    #[test]
    fn requests_begun_together_are_one_job() {
        let jobs = together(vec![span(1, 5.0, 9.0), span(0, 5.0, 9.0), span(1, 5.0, 9.5), span(1, 10.0, 11.0)]);
        let told: Vec<(u16, u32, f64)> = jobs.iter().map(|job| (job.worker, job.requests, job.end_s)).collect();
        assert_eq!(told, [(0, 1, 9.0), (1, 2, 9.5), (1, 1, 11.0)]);
    }

    #[test]
    fn what_touches_the_window_only_is_not_in_it() {
        assert!(span(0, 5.0, 9.0).overlaps((8.0, 10.0)) && span(0, 5.0, 9.0).overlaps((6.0, 7.0)));
        assert!(!span(0, 5.0, 9.0).overlaps((9.0, 10.0)) && !span(0, 5.0, 9.0).overlaps((1.0, 5.0)));
        assert!(!span(0, 5.0, 5.0).overlaps((1.0, 9.0)), "it takes no time");
    }
}
