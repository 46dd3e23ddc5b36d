//! Results read back from their folders, so that a report can be made again, and of several results at once. The files
//! are those of [`super::run_files`]; what no run has alone is in `comparison.json`.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Comparison, Run};
use crate::input::{InputError, text};
use crate::metrics::summary::Summary;
use crate::metrics::timeline::{Row, Timeline};
use crate::time::Duration;

/// The name of the file that says which folders hold the runs of a comparison.
pub const INDEX: &str = "comparison.json";

/// A comparison without its runs' measures.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Index {
    /// The scenario's name.
    pub name: String,
    /// Its runs, a variant's together, the baseline first.
    pub runs: Vec<Place>,
    /// As [`Comparison::notes`].
    pub notes: Vec<String>,
    /// As [`Comparison::stand_ins`].
    pub stand_ins: Vec<String>,
    /// As [`Comparison::scenario_toml`].
    pub scenario_toml: String,
    /// As [`Comparison::versions`].
    pub versions: Vec<(String, String)>,
}

/// A run and its folder, as seen from the comparison's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// The variant's name.
    pub variant: String,
    /// The seed.
    pub seed: u64,
    /// Where it is.
    pub folder: PathBuf,
}

/// The comparison in a folder, or the single run.
///
/// # Errors
/// What is wrong with a file.
pub fn comparison(folder: &Path) -> Result<Comparison, InputError> {
    if !folder.join(INDEX).is_file() {
        return single(folder);
    }
    let file = folder.join(INDEX);
    let index: Index = serde_json::from_str(&text(&file)?)
        .map_err(|error| InputError::new(&file, format!("is not what a comparison writes: {error}")))?;
    let runs = index.runs.iter().map(|place| run(&folder.join(&place.folder), &place.variant, place.seed));
    Ok(Comparison {
        runs: runs.collect::<Result<_, _>>()?,
        name: index.name,
        notes: index.notes,
        stand_ins: index.stand_ins,
        scenario_toml: index.scenario_toml,
        versions: index.versions,
    })
}

/// A folder with one run.
fn single(folder: &Path) -> Result<Comparison, InputError> {
    if !folder.join("summary.json").is_file() {
        let message =
            format!("holds no results: expected {INDEX} or summary.json, as modm compare, live or simulate write");
        return Err(InputError::new(folder, message));
    }
    let file = folder.join("run.json");
    let known: serde_json::Value = serde_json::from_str(&text(&file)?)
        .map_err(|error| InputError::new(&file, format!("is not what a run writes: {error}")))?;
    let word = |key: &str| known[key].as_str().unwrap_or_default().to_owned();
    let (name, seed) = (word("scenario"), known["seed"].as_u64().unwrap_or_default());
    let stand_ins = known["stand_ins"].as_array().into_iter().flatten();
    Ok(Comparison {
        runs: vec![run(folder, &name, seed)?],
        name,
        notes: Vec::new(),
        stand_ins: stand_ins.filter_map(|text| text.as_str().map(str::to_owned)).collect(),
        scenario_toml: text(folder.join("scenario.toml"))?,
        versions: ["modm", "commit"].map(|key| (key.to_owned(), word(key))).to_vec(),
    })
}

/// The results of a run.
///
/// # Errors
/// What is wrong with a file.
pub fn run(folder: &Path, variant: &str, seed: u64) -> Result<Run, InputError> {
    let file = folder.join("summary.json");
    let summary: Summary = serde_json::from_str(&text(&file)?)
        .map_err(|error| InputError::new(&file, format!("is not what a run writes: {error}")))?;
    let settings = text(folder.join("scenario.toml"))?.parse::<toml::Table>().unwrap_or_default();
    let metrics = settings.get("metrics");
    let setting = |key: &str| metrics.and_then(|metrics| metrics.get(key)).and_then(toml::Value::as_float);
    Ok(Run {
        variant: variant.to_owned(),
        seed,
        summary,
        timeline: timeline(&folder.join("timeline.csv"), setting("window_s").unwrap_or(60.0))?,
        latencies: latencies(&folder.join("requests.csv"), setting("warmup_s").unwrap_or(0.0))?,
        wanted: wanted(&folder.join("allocation.csv"))?,
        ages: ages(&folder.join("cache.csv"))?,
    })
}

/// A CSV file, read row by row.
struct Table {
    file: PathBuf,
    header: csv::StringRecord,
    rows: csv::Reader<BufReader<File>>,
}

impl Table {
    fn open(file: &Path) -> Result<Self, InputError> {
        let opened = File::open(file).map_err(|error| InputError::unreadable(file, &error))?;
        let mut rows = csv::Reader::from_reader(BufReader::new(opened));
        let header = rows.headers().map_err(|error| InputError::new(file, error.to_string()))?.clone();
        Ok(Self { file: file.to_owned(), header, rows })
    }

    fn place(&self, column: &str) -> Result<usize, InputError> {
        let place = self.header.iter().position(|name| name == column);
        place.ok_or_else(|| InputError::new(&self.file, format!("has no column {column:?}: a run writes one")))
    }

    /// Columns whose names begin with this, and how they go on.
    fn like(&self, prefix: &str) -> Vec<(usize, String)> {
        let like = self.header.iter().enumerate();
        like.filter_map(|(place, name)| Some((place, name.strip_prefix(prefix)?.to_owned()))).collect()
    }

    /// The next row.
    fn read(&mut self, record: &mut csv::StringRecord) -> Result<bool, InputError> {
        self.rows.read_record(record).map_err(|error| InputError::new(&self.file, error.to_string()))
    }

    /// A number of a row; `None` where there is none.
    fn number(&self, record: &csv::StringRecord, place: usize) -> Result<Option<f64>, InputError> {
        let text = record.get(place).unwrap_or_default();
        if text.is_empty() {
            return Ok(None);
        }
        let number = text.parse().ok().filter(|number: &f64| number.is_finite());
        let line = record.position().map(|position| position.line() as usize);
        let wrong =
            || InputError::new(&self.file, "expected a number").value(&self.header[place], format_args!("{text:?}"));
        number.map(Some).ok_or_else(|| InputError { line, ..wrong() })
    }
}

fn timeline(file: &Path, window_s: f64) -> Result<Timeline, InputError> {
    let mut table = Table::open(file)?;
    let names = ["time_s", "arrivals", "completions", "queued_misses", "queued_hits"];
    let states = ["workers_busy", "workers_loading", "workers_idle", "workers_down"];
    let place = |name: &str| table.place(name);
    let counts = names.into_iter().map(place).collect::<Result<Vec<_>, _>>()?;
    let states = states.into_iter().map(place).collect::<Result<Vec<_>, _>>()?;
    let hit_rate = table.place("hit_rate")?;
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
        rows.push(Row {
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

/// Rising, of requests that completed and arrived no earlier than this.
fn latencies(file: &Path, from_s: f64) -> Result<Vec<Duration>, InputError> {
    let mut table = Table::open(file)?;
    let [arrival, latency, outcome] = [table.place("arrival_s")?, table.place("latency_s")?, table.place("outcome")?];
    let (mut latencies, mut record) = (Vec::new(), csv::StringRecord::new());
    while table.read(&mut record)? {
        let counts = table.number(&record, arrival)?.is_some_and(|arrival| arrival >= from_s);
        if counts && record.get(outcome) == Some("completed") {
            latencies.extend(table.number(&record, latency)?.map(Duration::from_seconds_saturating));
        }
    }
    latencies.sort_unstable();
    Ok(latencies)
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

/// A system that keeps nothing has no such file.
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

/// "3600s" as people say it.
fn spoken(age: &str) -> String {
    match age.trim_end_matches('s').parse::<u64>() {
        Ok(seconds) if seconds % 86_400 == 0 => format!("{} d", seconds / 86_400),
        Ok(seconds) if seconds % 3600 == 0 => format!("{} h", seconds / 3600),
        Ok(seconds) if seconds % 60 == 0 => format!("{} min", seconds / 60),
        _ => age.to_owned(),
    }
}
