//! Files of one run: CSV and JSON in the form on which their readers rely. Seconds have exactly nine decimals. A value
//! that does not exist is an empty cell.

use std::fmt::Display;
use std::io::{self, Write};

use crate::denoising::Denoising;
use crate::metrics::summary::Summary;
use crate::metrics::timeline::Timeline;
use crate::metrics::{AGE_BOUNDS_S, AbsenceRow, CacheTimeline, Results, TickRow, WorkerRow, WorkerState};
use crate::trace::Trace;

/// Names to which the rows refer by number.
#[derive(Clone, Debug)]
pub(super) struct Names<'a> {
    /// Labels and tenants of requests.
    pub(super) trace: &'a Trace,
    /// Models, best first.
    pub(super) models: &'a [String],
    /// GPU types by worker.
    pub(super) gpus: &'a [String],
    /// Steps and noise levels of the models.
    pub(super) denoising: Denoising,
}

fn optional(value: Option<impl Display>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

fn writer(to: impl Write) -> csv::Writer<impl Write> {
    csv::WriterBuilder::new().from_writer(to)
}

/// Writes `allocation.csv`: a row for each tick of the monitor with requests.
///
/// # Errors
/// Returns an error if writing fails.
pub(super) fn allocation(to: impl Write, rows: &[TickRow], models: &[String]) -> io::Result<()> {
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
    // With two models, the targets follow from `n_large` and the number of workers.
    let several = models.len() > 2;
    if several {
        header.extend(models.iter().map(|model| format!("target_{model}")));
    }
    // The monitor of a cascade also decides on a threshold.
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

/// Writes `workers.csv`: the seconds of each worker by state, and the numbers of its jobs and loads.
///
/// # Errors
/// Returns an error if writing fails.
pub(super) fn workers(to: impl Write, rows: &[WorkerRow], gpus: &[String]) -> io::Result<()> {
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

/// Writes `absences.csv`: a row for each time that a worker loaded a model or was down.
///
/// # Errors
/// Returns an error if writing fails.
pub(super) fn absences(to: impl Write, rows: &[AbsenceRow], models: &[String]) -> io::Result<()> {
    let mut csv = writer(to);
    csv.write_record(["worker", "state", "model", "start_s", "end_s"])?;
    for row in rows {
        let model = row.model.map_or("", |model| &models[model.index()]);
        let state = if row.state == WorkerState::Loading { "loading" } else { "down" };
        let (worker, start, end) = (row.worker.to_string(), row.start.to_string(), row.end.to_string());
        csv.write_record([worker.as_str(), state, model, &start, &end])?;
    }
    csv.flush()
}

/// Writes `timeline.csv`: a row for each window of time in which something happened.
///
/// # Errors
/// Returns an error if writing fails.
pub(super) fn timeline(to: impl Write, timeline: &Timeline) -> io::Result<()> {
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

/// Writes `cache.csv`: a row for each window of time in which an entry came or left, or a request was routed.
///
/// # Errors
/// Returns an error if writing fails.
pub(super) fn cache(to: impl Write, cache: &CacheTimeline) -> io::Result<()> {
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

/// Writes `summary.json`.
///
/// # Errors
/// Returns an error if writing fails.
pub(super) fn summary(mut to: impl Write, summary: &Summary) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut to, summary)?;
    to.write_all(b"\n")
}

/// Writes all files of a run except `requests.csv`, each by `write(name, content)`.
///
/// # Errors
/// Returns the first error of `write`.
pub(super) fn all<E>(
    results: &Results,
    names: &Names<'_>,
    mut write: impl FnMut(&str, &dyn Fn(&mut dyn Write) -> io::Result<()>) -> Result<(), E>,
) -> Result<(), E> {
    write("allocation.csv", &|to| allocation(to, &results.ticks, names.models))?;
    write("workers.csv", &|to| workers(to, &results.workers, names.gpus))?;
    write("absences.csv", &|to| absences(to, &results.absences, names.models))?;
    write("timeline.csv", &|to| timeline(to, &results.timeline))?;
    if let Some(rows) = &results.cache {
        write("cache.csv", &|to| cache(to, rows))?;
    }
    write("summary.json", &|to| summary(to, &results.summary))
}
