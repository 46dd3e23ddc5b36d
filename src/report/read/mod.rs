//! Results read back from their folders, so that a report can be made again, or one report of several results. The
//! files are those of [`crate::run_folder`]; `comparison.json` has what belongs to all runs together.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::provenance::{self, Provenance};
use super::{Comparison, Run};
use crate::experiments::capacity::Capacities;
use crate::input::{InputError, text};
use crate::metrics::summary::Summary;
use crate::metrics::timeline::{Timeline, TimelineRow};
use crate::output::{OutputError, remove_file, write_atomic};
use crate::published::Published;
use crate::time::Duration;

mod merged;
mod spans;
mod table;

pub use merged::{differences, merged};
pub use spans::{Span, SpanKind};
use table::Table;

/// Start and end of a window of time, in seconds since the start of the run.
pub type WindowS = (f64, f64);

/// Name of the file that lists the folders of the runs of a comparison.
pub const INDEX: &str = "comparison.json";

/// Name of the file with the capacities of a comparison's variants.
pub const CAPACITIES: &str = "capacity.json";

/// Name of the file that is written last, by a run and by a comparison.
const RUN: &str = "run.json";

/// Comparison without the measures of its runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Index {
    /// Name of the scenario.
    pub name: String,
    /// Runs, grouped by variant, the baseline first.
    pub runs: Vec<Place>,
    /// Provenance, as in [`Comparison::provenance`].
    #[serde(default)]
    pub provenance: Provenance,
    /// Notes, as in [`Comparison::notes`].
    pub notes: Vec<String>,
    /// Published figures, as in [`Comparison::published`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub published: BTreeMap<String, Published>,
    /// Stand-ins, as in [`Comparison::stand_ins`].
    pub stand_ins: Vec<String>,
    /// Scenario, as in [`Comparison::scenario_toml`].
    pub scenario_toml: String,
    /// Versions, as in [`Comparison::versions`].
    pub versions: Vec<(String, String)>,
}

impl Index {
    /// Writes the file that lists the runs into their common folder.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    ///
    /// # Panics
    /// Never panics: an index is JSON.
    pub fn write(&self, folder: &Path) -> Result<(), OutputError> {
        let text = serde_json::to_string_pretty(self).expect("an index is JSON");
        write_atomic(&folder.join(INDEX), |to| std::io::Write::write_all(to, text.as_bytes()))
    }

    /// Removes the files because of which a folder would pass for an earlier comparison while its runs are replaced,
    /// and the capacities, which would pass for those of the next one.
    ///
    /// # Errors
    /// Returns an error if a file cannot be removed.
    pub fn remove(folder: &Path) -> Result<(), OutputError> {
        [INDEX, RUN, CAPACITIES, "capacity.csv"].iter().try_for_each(|name| remove_file(&folder.join(name)))
    }
}

/// Run and its folder.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// Name of the variant.
    pub variant: String,
    /// Seed of the run.
    pub seed: u64,
    /// Path of the run's folder, relative to the folder of the comparison.
    pub folder: PathBuf,
}

/// Reads the comparison, or the single run, in a folder. The activity of workers is read only for a window of time. By
/// default the window is one in which something changes.
///
/// # Errors
/// A file is missing or has wrong content.
pub fn comparison(folder: &Path, window: Option<WindowS>) -> Result<Comparison, InputError> {
    if !folder.join(INDEX).is_file() {
        return single(folder, window);
    }
    let file = folder.join(INDEX);
    let index: Index = serde_json::from_str(&text(&file)?)
        .map_err(|error| InputError::new(&file, format!("is not what a comparison writes: {error}")))?;
    // The activity of workers is shown for the first seed of each variant.
    let is_first = |at: usize| index.runs[..at].iter().all(|before| before.variant != index.runs[at].variant);
    let firsts = index.runs.iter().enumerate().filter(|(at, _)| is_first(*at));
    let firsts: Vec<PathBuf> = firsts.map(|(_, place)| folder.join(&place.folder)).collect();
    let window = window.map_or_else(|| spans::where_something_changes(&firsts), |window| Ok(Some(window)))?;
    let runs = index.runs.iter().enumerate().map(|(at, place)| {
        let window = window.filter(|_| is_first(at));
        run(&folder.join(&place.folder), &place.variant, place.seed, window)
    });
    Ok(Comparison {
        runs: runs.collect::<Result<_, _>>()?,
        name: index.name,
        provenance: index.provenance,
        notes: index.notes,
        published: index.published,
        capacities: capacities(folder)?,
        stand_ins: index.stand_ins,
        scenario_toml: index.scenario_toml,
        versions: index.versions,
    })
}

/// Reads the capacities of a comparison; `None` if they were not searched.
fn capacities(folder: &Path) -> Result<Option<Capacities>, InputError> {
    let file = folder.join(CAPACITIES);
    if !file.is_file() {
        return Ok(None);
    }
    let read = serde_json::from_str(&text(&file)?);
    read.map(Some)
        .map_err(|error| InputError::new(&file, format!("is not what a search of capacities writes: {error}")))
}

/// Reads a folder with a single run.
fn single(folder: &Path, window: Option<WindowS>) -> Result<Comparison, InputError> {
    if !folder.join("summary.json").is_file() {
        let message =
            format!("holds no results: expected {INDEX} or summary.json, as modm compare, live or simulate write");
        return Err(InputError::new(folder, message));
    }
    let file = folder.join(RUN);
    let known: serde_json::Value = serde_json::from_str(&text(&file)?)
        .map_err(|error| InputError::new(&file, format!("is not what a run writes: {error}")))?;
    let word = |key: &str| known[key].as_str().unwrap_or_default().to_owned();
    let (name, seed) = (word("scenario"), known["seed"].as_u64().unwrap_or_default());
    let words = |list: &serde_json::Value| -> Vec<String> {
        list.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
    };
    let window =
        window.map_or_else(|| spans::where_something_changes(&[folder.to_owned()]), |window| Ok(Some(window)))?;
    let settings = text(folder.join("scenario.toml"))?;
    Ok(Comparison {
        runs: vec![run(folder, &name, seed, window)?],
        provenance: of_single(&name, &settings, &known["inputs"]),
        name,
        notes: words(&known["warnings"]),
        published: BTreeMap::new(),
        capacities: None,
        stand_ins: words(&known["stand_ins"]),
        scenario_toml: settings,
        versions: ["modm", "commit"].map(|key| (key.to_owned(), word(key))).to_vec(),
    })
}

/// Returns the provenance of a single run, as far as it is known. Policies are those in force: a run does not record
/// which settings came from the command line.
fn of_single(name: &str, settings: &str, inputs: &serde_json::Value) -> Provenance {
    let word = |input: &serde_json::Value, key: &str| input[key].as_str().unwrap_or_default().to_owned();
    let inputs = inputs.as_array().into_iter().flatten();
    let settings = settings.parse::<toml::Table>().unwrap_or_default();
    Provenance {
        policies: vec![(name.to_owned(), provenance::policies(&settings))],
        inputs: inputs.map(|input| (word(input, "file"), word(input, "sha256"))).collect(),
        ..Provenance::default()
    }
}

/// Reads the results of a run, and the activity of its workers in a window.
///
/// # Errors
/// A file is missing or has wrong content.
pub fn run(folder: &Path, variant: &str, seed: u64, window: Option<WindowS>) -> Result<Run, InputError> {
    let file = folder.join("summary.json");
    let summary: Summary = serde_json::from_str(&text(&file)?)
        .map_err(|error| InputError::new(&file, format!("is not what a run writes: {error}")))?;
    // No file of results has the warm-up or the length of a window. The settings have both.
    let settings = text(folder.join("scenario.toml"))?.parse::<toml::Table>().unwrap_or_default();
    let metrics = settings.get("metrics");
    let setting = |key: &str| metrics.and_then(|metrics| metrics.get(key)).and_then(toml::Value::as_float);
    let (latencies, spans) = requests(&folder.join("requests.csv"), setting("warmup_s").unwrap_or(0.0), window)?;
    let absences = window.map_or_else(|| Ok(Vec::new()), |window| spans::absences(folder, window))?;
    Ok(Run {
        variant: variant.to_owned(),
        seed,
        summary,
        latencies,
        window,
        spans: spans.into_iter().chain(absences).collect(),
        timeline: timeline(&folder.join("timeline.csv"), setting("window_s").unwrap_or(60.0))?,
        wanted: wanted(&folder.join("allocation.csv"))?,
        ages: ages(&folder.join("cache.csv"))?,
    })
}

fn timeline(file: &Path, window_s: f64) -> Result<Timeline, InputError> {
    let mut table = Table::open(file)?;
    let names = ["time_s", "arrivals", "completions", "queued_misses", "queued_hits"];
    let states = ["workers_busy", "workers_loading", "workers_idle", "workers_down"];
    let place = |name: &str| table.place(name);
    let counts = names.into_iter().map(place).collect::<Result<Vec<_>, _>>()?;
    let states = states.into_iter().map(place).collect::<Result<Vec<_>, _>>()?;
    let hit_rate = table.place("hit_rate")?;
    // Columns of models have the prefix of those of states, which are known by name.
    let models: Vec<(usize, String)> =
        table.like("workers_").into_iter().filter(|(place, _)| !states.contains(place)).collect();
    let within: Vec<(usize, String)> = table.like("slo_attainment_");
    let multiples = within.iter().map(|(_, name)| name.trim_end_matches('x').parse::<f64>());
    let slo_multiples = multiples
        .collect::<Result<_, _>>()
        .map_err(|_| InputError::new(file, "expected columns slo_attainment_<multiple>x"))?;
    let (mut rows, mut record) = (Vec::new(), csv::StringRecord::new());
    while table.read(&mut record)? {
        let number = |place: usize| Ok::<f64, InputError>(table.number(&record, place)?.unwrap_or(0.0));
        rows.push(TimelineRow {
            time_s: number(counts[0])?,
            arrivals: number(counts[1])? as u64,
            completions: number(counts[2])? as u64,
            queued_misses: number(counts[3])? as u64,
            queued_hits: number(counts[4])? as u64,
            workers_busy: number(states[0])?,
            workers_loading: number(states[1])?,
            workers_idle: number(states[2])?,
            workers_down: number(states[3])?,
            workers_by_model: models.iter().map(|(place, _)| number(*place)).collect::<Result<_, _>>()?,
            hit_rate: table.number(&record, hit_rate)?,
            slo_attainment: within.iter().map(|(place, _)| table.number(&record, *place)).collect::<Result<_, _>>()?,
        });
    }
    Ok(Timeline { models: models.into_iter().map(|(_, name)| name).collect(), slo_multiples, window_s, rows })
}

/// Reads the latencies, rising, of completed requests that arrived at or after `from_s` seconds, and the jobs in the
/// window.
fn requests(file: &Path, from_s: f64, window: Option<WindowS>) -> Result<(Vec<Duration>, Vec<Span>), InputError> {
    let mut table = Table::open(file)?;
    let [arrival, latency, outcome] = [table.place("arrival_s")?, table.place("latency_s")?, table.place("outcome")?];
    let image = table.place("image").ok();
    let jobs = spans::Columns::from_table(&table)?;
    let (mut latencies, mut spans, mut record) = (Vec::new(), Vec::new(), csv::StringRecord::new());
    // Latency of the request that the rows so far are of; nothing if one of its images did not come.
    let mut request: Option<Option<Duration>> = None;
    while table.read(&mut record)? {
        let counts = table.number(&record, arrival)?.is_some_and(|arrival| arrival >= from_s);
        if counts {
            let completed = record.get(outcome) == Some("completed");
            let own = table.number(&record, latency)?.filter(|_| completed).map(Duration::from_seconds_saturating);
            // A request of several images has a row for each, one after the other, and ends with the last of them.
            let goes_on = image.is_some_and(|image| record.get(image).is_some_and(|image| image != "0"));
            request = if let Some(before) = request.filter(|_| goes_on) {
                Some(before.zip(own).map(|(before, own)| before.max(own)))
            } else {
                latencies.extend(request.flatten());
                Some(own)
            };
        }
        if let Some(window) = window {
            spans.extend(jobs.span(&table, &record, window)?);
        }
    }
    latencies.extend(request.flatten());
    latencies.sort_unstable();
    Ok((latencies, spans::together(spans)))
}

fn wanted(file: &Path) -> Result<Vec<(f64, u32)>, InputError> {
    let mut table = Table::open(file)?;
    let [time, wanted] = [table.place("time_s")?, table.place("wanted_large")?];
    let (mut rows, mut record) = (Vec::new(), csv::StringRecord::new());
    while table.read(&mut record)? {
        let row = table.number(&record, time)?.zip(table.number(&record, wanted)?);
        rows.extend(row.map(|(time, wanted)| (time, wanted as u32)));
    }
    Ok(rows)
}

/// Reads the number of hits by age. A system without an image cache has no such file, and then the list is empty.
fn ages(file: &Path) -> Result<Vec<(String, u64)>, InputError> {
    if !file.is_file() {
        return Ok(Vec::new());
    }
    let mut table = Table::open(file)?;
    let columns = table.like("hits_age_");
    let mut sums = vec![0; columns.len()];
    let mut record = csv::StringRecord::new();
    while table.read(&mut record)? {
        for (sum, (place, _)) in sums.iter_mut().zip(&columns) {
            *sum += table.number(&record, *place)?.unwrap_or(0.0) as u64;
        }
    }
    let name = |age: &str| if age == "older" { age.to_owned() } else { format!("below {}", spoken(age)) };
    Ok(columns.iter().map(|(_, age)| name(age)).zip(sums).collect())
}

/// Formats an age such as "3600s" for readers.
fn spoken(age: &str) -> String {
    match age.trim_end_matches('s').parse::<u64>() {
        Ok(seconds) if seconds % 86_400 == 0 => format!("{} d", seconds / 86_400),
        Ok(seconds) if seconds % 3600 == 0 => format!("{} h", seconds / 3600),
        Ok(seconds) if seconds % 60 == 0 => format!("{} min", seconds / 60),
        _ => age.to_owned(),
    }
}
