//! The files of one run: CSV and JSON as their readers rely on them. Seconds have nine decimals, exactly;
//! empty where there is none.

use std::fmt::{self, Display, Write as _};
use std::io::{self, Write};

use crate::metrics::summary::Summary;
use crate::metrics::timeline::Timeline;
use crate::metrics::{AGE_BOUNDS_S, AbsenceRow, CacheTimeline, RequestRow, Results, State, TickRow, WorkerRow};
use crate::trace::Trace;

/// Names that the rows refer to by number.
#[derive(Clone, Debug)]
pub struct Names<'a> {
    /// Labels and tenants of requests.
    pub trace: &'a Trace,
    /// Models, best first.
    pub models: &'a [String],
    /// GPU type by worker.
    pub gpus: &'a [String],
    /// Denoising steps of a full generation (T).
    pub total_steps: u32,
}

fn optional(value: Option<impl Display>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

fn writer(to: impl Write) -> csv::Writer<impl Write> {
    csv::WriterBuilder::new().from_writer(to)
}

/// `requests.csv`: a row a request, in the order of the trace.
///
/// # Errors
/// Writing failed; likewise below.
pub fn requests(to: impl Write, rows: &[RequestRow], names: &Names<'_>) -> io::Result<()> {
    let mut csv = writer(to);
    // A live run has one column more, and qualities may be unknown; a measure that does not apply is absent.
    let measured = rows.iter().any(|row| row.similarity_to_prompt.is_some());
    let mut header = vec![
        "request_id",
        "arrival_s",
        "decision",
        "skipped_steps",
        "similarity",
        "source",
        "model",
        "worker",
        "start_s",
        "finish_s",
        "latency_s",
        "steps_run",
        "outcome",
        "reason",
        "attempts",
        "tenant",
    ];
    header.extend(measured.then_some("similarity_to_prompt"));
    let scored = rows.iter().any(|row| row.quality.is_some());
    header.extend(["quality_estimate", "quality_kind"].into_iter().filter(|_| scored));
    csv.write_record(header)?;
    let mut cells = Cells { csv, text: String::new(), quality: (0, String::new()) };
    for row in rows {
        request(&mut cells, row, names)?;
        if measured {
            cells.maybe(row.similarity_to_prompt.map(|similarity| Decimals(similarity, 6)))?;
        }
        if scored {
            cells.quality(row.quality.map(|(value, _)| value))?;
            cells.maybe(row.quality.map(|(_, kind)| kind.word()))?;
        }
        cells.end()?;
    }
    cells.csv.flush()
}

/// A row while it is written: one buffer for all cells, since a string for each was most of the time of long traces.
struct Cells<W: Write> {
    csv: csv::Writer<W>,
    text: String,
    /// Quality that was written last, by its bits: rows of one model share it, and exact decimals take long.
    quality: (u64, String),
}

impl<W: Write> Cells<W> {
    fn put(&mut self, value: impl Display) -> io::Result<()> {
        self.text.clear();
        write!(self.text, "{value}").map_err(io::Error::other)?;
        Ok(self.csv.write_field(&self.text)?)
    }

    /// Nothing of nothing.
    fn maybe(&mut self, value: Option<impl Display>) -> io::Result<()> {
        match value {
            Some(value) => self.put(value),
            None => Ok(self.csv.write_field("")?),
        }
    }

    /// Four decimals.
    fn quality(&mut self, value: Option<f64>) -> io::Result<()> {
        let Some(value) = value else { return Ok(self.csv.write_field("")?) };
        if self.quality.1.is_empty() || self.quality.0 != value.to_bits() {
            self.quality = (value.to_bits(), Decimals(value, 4).to_string());
        }
        Ok(self.csv.write_field(&self.quality.1)?)
    }

    fn end(&mut self) -> io::Result<()> {
        Ok(self.csv.write_record(None::<&[u8]>)?)
    }
}

/// A number with so many decimals.
struct Decimals(f64, usize);

impl Display for Decimals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(value, decimals) = *self;
        write!(f, "{value:.decimals$}")
    }
}

fn request<W: Write>(cells: &mut Cells<W>, row: &RequestRow, names: &Names<'_>) -> io::Result<()> {
    let decision = row.decision.as_ref();
    let start = if row.returned() { Some(row.finish) } else { row.run.map(|(_, _, start)| start) };
    let skipped = decision.map(|decision| decision.skipped_steps);
    let similarity = decision.and_then(|decision| decision.similarity);
    cells.put(names.trace.label(row.id.row()))?;
    cells.put(row.arrival)?;
    cells.maybe(decision.map(|decision| decision.kind.word()))?;
    cells.maybe(skipped)?;
    cells.maybe(similarity.map(|similarity| Decimals(similarity, 6)))?;
    cells.maybe(decision.and_then(|decision| decision.source))?;
    cells.maybe(row.run.map(|(_, model, _)| &names.models[model.index()]))?;
    cells.maybe(row.run.map(|(worker, _, _)| worker.index()))?;
    cells.maybe(start)?;
    cells.put(row.finish)?;
    cells.put(row.finish.since(row.arrival))?;
    cells.maybe(skipped.filter(|_| row.completed()).map(|skipped| names.total_steps - skipped))?;
    cells.put(row.outcome.word())?;
    cells.maybe(row.outcome.reason())?;
    cells.put(row.attempts)?;
    cells.maybe(names.trace.tenant_name(row.tenant))
}

/// `allocation.csv`: a row a tick with requests.
///
/// # Errors
/// Writing failed.
pub fn allocation(to: impl Write, rows: &[TickRow], models: &[String]) -> io::Result<()> {
    let mut csv = writer(to);
    let mut header: Vec<String> = [
        "time_s",
        "wanted_large",
        "controller_state",
        "n_large",
        "request_rate_per_min",
        "hit_rate",
        "refine_fraction",
        "overloaded",
    ]
    .map(str::to_owned)
    .to_vec();
    let several = models.len() > 2;
    if several {
        header.extend(models.iter().map(|model| format!("target_{model}")));
    }
    // A cascade's monitor decides on a threshold too.
    let thresholds = rows.iter().any(|row| row.tick.threshold.is_some());
    header.extend(thresholds.then(|| "threshold".to_owned()));
    csv.write_record(&header)?;
    for TickRow { time, tick } in rows {
        let mut record = vec![
            time.to_string(),
            tick.wanted_large.to_string(),
            format!("{:.9}", tick.controller_state),
            tick.n_large.to_string(),
            format!("{:.9}", tick.request_rate_per_min),
            format!("{:.9}", tick.hit_rate),
            format!("{:.9}", tick.refine_fraction),
            optional(tick.overloaded),
        ];
        if several {
            record.extend(tick.targets.iter().map(ToString::to_string));
        }
        if thresholds {
            record.push(tick.threshold.map_or_else(String::new, |threshold| format!("{threshold:.9}")));
        }
        csv.write_record(&record)?;
    }
    csv.flush()
}

/// `workers.csv`: what every worker's seconds went to.
///
/// # Errors
/// Writing failed.
pub fn workers(to: impl Write, rows: &[WorkerRow], gpus: &[String]) -> io::Result<()> {
    let mut csv = writer(to);
    csv.write_record(["worker", "gpu", "busy_s", "loading_s", "idle_s", "down_s", "jobs", "loads"])?;
    for (worker, (row, gpu)) in rows.iter().zip(gpus).enumerate() {
        let times = [row.busy, row.loading, row.idle, row.down].map(|time| time.to_string());
        let counts = [row.jobs, row.loads].map(|count| count.to_string());
        let ids = [worker.to_string(), gpu.clone()];
        csv.write_record(ids.iter().chain(&times).chain(&counts))?;
    }
    csv.flush()
}

/// `absences.csv`: a row each time a worker loaded a model or was down.
///
/// # Errors
/// Writing failed.
pub fn absences(to: impl Write, rows: &[AbsenceRow], models: &[String]) -> io::Result<()> {
    let mut csv = writer(to);
    csv.write_record(["worker", "state", "model", "start_s", "end_s"])?;
    for row in rows {
        let model = row.model.map_or("", |model| &models[model.index()]);
        let state = if row.state == State::Loading { "loading" } else { "down" };
        let (worker, start, end) = (row.worker.to_string(), row.start.to_string(), row.end.to_string());
        csv.write_record([worker.as_str(), state, model, &start, &end])?;
    }
    csv.flush()
}

/// `timeline.csv`: a row a window in which something happened.
///
/// # Errors
/// Writing failed.
pub fn timeline(to: impl Write, timeline: &Timeline) -> io::Result<()> {
    let mut csv = writer(to);
    let mut header: Vec<String> = [
        "time_s",
        "arrivals",
        "completions",
        "queued_misses",
        "queued_hits",
        "workers_busy",
        "workers_loading",
        "workers_idle",
        "workers_down",
    ]
    .map(str::to_owned)
    .to_vec();
    header.extend(timeline.models.iter().map(|model| format!("workers_{model}")));
    header.push("hit_rate".into());
    header.extend(timeline.slo_multiples.iter().map(|multiple| format!("slo_attainment_{multiple}x")));
    csv.write_record(&header)?;
    let share = |value: Option<f64>| optional(value.map(|value| format!("{value:.6}")));
    for row in &timeline.rows {
        let counts = [row.arrivals, row.completions, row.queued_misses, row.queued_hits].map(|n| n.to_string());
        let states = [row.workers_busy, row.workers_loading, row.workers_idle, row.workers_down];
        let workers = states.iter().chain(&row.workers_by_model).map(|mean| format!("{mean:.6}"));
        let mut record = vec![format!("{:.9}", row.time_s)];
        record.extend(counts.into_iter().chain(workers));
        record.push(share(row.hit_rate));
        record.extend(row.slo_attainment.iter().map(|attainment| share(*attainment)));
        csv.write_record(&record)?;
    }
    csv.flush()
}

/// `cache.csv`: a row a window in which an entry came or left, or a request was routed.
///
/// # Errors
/// Writing failed.
pub fn cache(to: impl Write, cache: &CacheTimeline) -> io::Result<()> {
    let mut csv = writer(to);
    let names = ["time_s", "entries", "bytes", "inserts", "evictions", "expiries", "unreadable"];
    let mut header: Vec<String> = names.map(str::to_owned).to_vec();
    header.extend(["searches", "misses", "near_misses"].map(str::to_owned));
    header.extend(cache.skipped_steps.iter().map(|k| format!("hits_k{k}")));
    header.extend(AGE_BOUNDS_S.map(|bound| format!("hits_age_{bound}s")));
    header.extend(["hits_age_older", "false_hits"].map(str::to_owned));
    csv.write_record(&header)?;
    for row in &cache.rows {
        let mut record = vec![row.time.to_string(), row.entries.to_string(), optional(row.bytes)];
        let changes = [row.inserts, row.evictions, row.expiries, row.unreadable];
        let counts = changes.into_iter().chain([row.searches, row.misses, row.near_misses]);
        let hits = row.hits_by_skipped_steps.iter().chain(&row.hits_by_age).copied();
        record.extend(counts.chain(hits).map(|count| count.to_string()));
        record.push(optional(row.false_hits));
        csv.write_record(&record)?;
    }
    csv.flush()
}

/// `summary.json`.
///
/// # Errors
/// Writing failed.
pub fn summary(mut to: impl Write, summary: &Summary) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut to, summary)?;
    to.write_all(b"\n")
}

/// All that the run has, by name, each through `write(name, content)`.
///
/// # Errors
/// The first that `write` returns.
pub fn all<E>(
    results: &Results,
    names: &Names<'_>,
    mut write: impl FnMut(&str, &dyn Fn(&mut dyn Write) -> io::Result<()>) -> Result<(), E>,
) -> Result<(), E> {
    write("requests.csv", &|to| requests(to, &results.requests, names))?;
    write("allocation.csv", &|to| allocation(to, &results.ticks, names.models))?;
    write("workers.csv", &|to| workers(to, &results.workers, names.gpus))?;
    write("absences.csv", &|to| absences(to, &results.absences, names.models))?;
    write("timeline.csv", &|to| timeline(to, &results.timeline))?;
    if let Some(rows) = &results.cache {
        write("cache.csv", &|to| cache(to, rows))?;
    }
    write("summary.json", &|to| summary(to, &results.summary))
}
