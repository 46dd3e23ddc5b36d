//! First scenario of a user: a log becomes a trace, and its facts, the GPUs and the models become a commented scenario
//! that runs. `text` writes the scenario.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::ExperimentError;
use crate::input::InputError;
use crate::output::{prepare, refuse_earlier, write_atomic};
use crate::profile::catalogue::{self, Entry, KnownModel};
use crate::scenario::{Source, keys};
use crate::trace::import::{self, Job, Reading, Record};
use crate::trace::{MakeError, REQUESTS, TextColumn, Trace, TraceFiles, inspect, read};

mod text;

/// Files that are written beside the trace.
const SCENARIO: &str = "scenario.toml";
const SCHEMA: &str = "schema.json";

/// Folder of the trace within the folder of the scenario.
const TRACE: &str = "trace";

/// Share of the GPUs' time that the large model alone is planned to take, where the number of GPUs is not given.
const PLANNED_LOAD: f64 = 0.7;

/// Share of the requests that fill the cache before the trace begins, if the cache does not hold fewer.
const WARM_SHARE: f64 = 0.4;

/// Least number of requests of which some are taken to fill the cache.
const LEAST_TO_WARM: usize = 50;

/// Latency objective where none is given, in full generations of the large model (the paper's).
const USUAL_MULTIPLE: f64 = 2.0;

/// Answers from which a scenario is made.
#[derive(Clone, Debug)]
pub struct Answers {
    /// Log of the service, as `modm trace import` takes it; a synthetic trace stands in if absent. The folder and the
    /// permission to overwrite are set here.
    pub log: Option<Job>,
    /// Requests a minute of the synthetic trace.
    pub rate_per_min: f64,
    /// GPU types, each with the number of GPUs; the number follows from the load if absent for the only type.
    pub gpus: Vec<(String, Option<u32>)>,
    /// Large model.
    pub large: String,
    /// Small models, best first.
    pub small: Vec<String>,
    /// Latency objective in seconds; two full generations of the large model if absent.
    pub slo_s: Option<f64>,
    /// Folder for scenario, schema and trace.
    pub out: PathBuf,
    /// True if an earlier scenario and trace are overwritten.
    pub force: bool,
}

/// Scenario that was written.
#[derive(Clone, Debug)]
pub struct Written {
    /// File of the scenario.
    pub scenario: PathBuf,
    /// Record of the trace that was imported.
    pub record: Option<Record>,
    /// Facts that the scenario is made of, a sentence each.
    pub facts: Vec<String>,
    /// Facts that limit what the scenario can say, a sentence each.
    pub cautions: Vec<String>,
}

/// Facts about the requests.
#[derive(Clone, Debug)]
struct Demand {
    requests: usize,
    rate_per_min: f64,
    peak_per_min: Option<u64>,
    span_s: f64,
    repeats: Option<f64>,
    tenants: Option<usize>,
    /// True if requests say what to draw.
    has_prompts: bool,
    /// Work of a mean request, in images of 1024 x 1024 with the large model's steps; 1 where the log says nothing.
    work: f64,
    /// Number of requests that fill the cache before the trace begins.
    warm: usize,
}

/// GPUs and models with their times.
#[derive(Clone, Debug)]
struct Means {
    gpus: Vec<(&'static str, u32, Option<f64>)>,
    large: &'static KnownModel,
    small: Vec<&'static KnownModel>,
    entries: Vec<Entry>,
}

/// Writes a scenario, and the trace that it replays. If an answer or the log cannot be used, nothing is written.
///
/// # Errors
/// Returns an error if an answer or the log cannot be used, if the folder holds an earlier scenario and `force` is
/// false, or if a file cannot be written.
pub fn write(answers: &Answers, reading: &dyn Reading) -> Result<Written, ExperimentError> {
    let mut means = means(answers)?;
    refuse_earlier(&answers.out, &[SCENARIO, SCHEMA], answers.force)?;
    let mut record = None;
    let demand = match &answers.log {
        Some(job) => {
            let out = answers.out.join(TRACE);
            let job = Job { out: out.clone(), force: answers.force, ..job.clone() };
            record = Some(import::run(&job, reading).map_err(|error| match error {
                MakeError::Input(error) => ExperimentError::from(error),
                MakeError::Output(error) => error.into(),
            })?);
            let files = TraceFiles { requests: out.join(REQUESTS), ..TraceFiles::default() };
            demand(&read(&files)?, means.large.steps)
        }
        None => synthetic(answers.rate_per_min),
    };
    let full_s = means.full_s(0);
    for (_, count, _) in means.gpus.iter_mut().filter(|(_, count, _)| *count == 0) {
        *count = needed(demand.rate_per_min * demand.work, full_s, PLANNED_LOAD);
    }
    let scenario = answers.out.join(SCENARIO);
    let text = text::scenario(answers, &demand, &means);
    // What is written is read back first: a scenario that cannot run is a mistake of this module.
    Source::new(&scenario, text.clone())?.scenario(&[])?;
    prepare(&answers.out, &[SCENARIO, SCHEMA], answers.force)?;
    write_atomic(&answers.out.join(SCHEMA), |to| writeln!(to, "{:#}", keys::schema()))?;
    write_atomic(&scenario, |to| to.write_all(text.as_bytes()))?;
    let (facts, cautions) = (facts(&demand, &means), cautions(&demand, &means));
    Ok(Written { scenario, record, facts, cautions })
}

/// Returns GPUs and models by the catalogue's names.
fn means(answers: &Answers) -> Result<Means, InputError> {
    let refused =
        |flag: &str, error: &dyn std::fmt::Display| InputError::new("the command line", error.to_string()).key(flag);
    let types: Vec<&str> = answers.gpus.iter().map(|(name, _)| name.as_str()).collect();
    let models: Vec<&str> = std::iter::once(&answers.large).chain(&answers.small).map(String::as_str).collect();
    let entries = catalogue::cover(&types, &models).map_err(|unknown| {
        let flag = match unknown.what {
            "GPU type" => "--gpus",
            _ if unknown.name == answers.large => "--large",
            _ => "--small",
        };
        refused(flag, &unknown)
    })?;
    if answers.gpus.len() > 1 && answers.gpus.iter().any(|(_, count)| count.is_none()) {
        return Err(refused("--gpus", &"expected a number for each of several types, e.g. h100:8,l40s:16"));
    }
    let named: Vec<Option<&str>> = types.iter().map(|name| catalogue::gpu(name).map(|gpu| gpu.name)).collect();
    if let Some((_, twice)) = named.iter().enumerate().find(|(at, name)| named[..*at].contains(name)) {
        return Err(refused(
            "--gpus",
            &format!("expected each GPU type once, found {} twice", twice.unwrap_or_default()),
        ));
    }
    if answers.out.to_string_lossy().chars().any(char::is_control) {
        return Err(refused("DIR", &"expected a folder without control characters in its name"));
    }
    let known = |name: &&str| catalogue::model(name).ok_or_else(|| refused("--large", &"is not in the catalogue"));
    let mut models: Vec<&KnownModel> = models.iter().map(known).collect::<Result<_, _>>()?;
    if let Some(twice) = models.iter().enumerate().find(|(at, model)| models[..*at].contains(model)) {
        return Err(refused("--small", &format!("expected each model once, found {} twice", twice.1.name)));
    }
    let large = models.remove(0);
    let price = |name: &str| entries.iter().find(|entry| entry.gpu == name).and_then(|entry| entry.usd_per_hour);
    let gpu = |(name, count): &(String, Option<u32>)| {
        let name = catalogue::gpu(name)?.name;
        Some((name, count.unwrap_or(0), price(name)))
    };
    let gpus = answers.gpus.iter().filter_map(gpu).collect();
    Ok(Means { gpus, large, small: models, entries })
}

impl Means {
    /// Returns the entry of a model on a GPU type, both by their place; model 0 is the large one.
    fn entry(&self, gpu: usize, model: usize) -> &Entry {
        // The catalogue gives the entries GPU by GPU, model by model.
        &self.entries[gpu * (1 + self.small.len()) + model]
    }

    /// Returns the time of a full generation by the large model on a GPU type, in seconds.
    fn full_s(&self, gpu: usize) -> f64 {
        self.entry(gpu, 0).generation_s
    }

    /// Returns the share of the GPUs' time that the large model alone takes for all requests.
    fn load(&self, rate_per_min: f64) -> f64 {
        let carried: f64 =
            self.gpus.iter().enumerate().map(|(gpu, (_, count, _))| f64::from(*count) * 60.0 / self.full_s(gpu)).sum();
        rate_per_min / carried
    }
}

/// Returns the number of GPUs that carry a rate at a load.
fn needed(rate_per_min: f64, full_s: f64, load: f64) -> u32 {
    ((rate_per_min * full_s / 60.0 / load).ceil() as u32).max(1)
}

fn warm_requests(requests: usize) -> usize {
    let capacity = crate::scenario::Cache::default().capacity as usize;
    if requests < LEAST_TO_WARM { 0 } else { capacity.min((requests as f64 * WARM_SHARE) as usize) }
}

/// Returns the facts of a trace.
fn demand(trace: &Trace, steps: u32) -> Demand {
    let scope = inspect::Scope { requests: 0, window: 1 };
    let found = inspect::describe(trace, scope);
    Demand {
        requests: found.requests,
        rate_per_min: found.mean_rate_per_min.unwrap_or(0.0),
        peak_per_min: Some(found.peak_minute.1),
        span_s: found.span_s,
        repeats: found.prompts.as_ref().map(|prompts| prompts.exact_repeats),
        tenants: found.tenants.as_ref().map(|tenants| tenants.count),
        has_prompts: found.prompts.is_some(),
        work: mean_work(trace, steps),
        warm: if found.prompts.is_some() { warm_requests(found.requests) } else { 0 },
    }
}

/// Returns the facts of the synthetic trace that stands in for a log.
fn synthetic(rate_per_min: f64) -> Demand {
    let requests = text::SYNTHETIC_REQUESTS;
    let warm = warm_requests(requests);
    Demand {
        requests,
        rate_per_min,
        peak_per_min: None,
        span_s: 60.0 * requests as f64 / rate_per_min,
        repeats: None,
        tenants: None,
        has_prompts: true,
        work: 1.0,
        warm,
    }
}

/// Returns the work of a mean request: its pixels and steps over the usual ones, times its images. Times in proportion
/// to pixels and steps are what the simulator assumes too, where a profile has no others.
fn mean_work(trace: &Trace, steps: u32) -> f64 {
    const PIXELS: f64 = 1024.0 * 1024.0;
    let extra = &trace.columns().extra;
    let column = |name: &str| extra.iter().find(|(other, _)| other == name).map(|(_, column)| column);
    let [widths, heights, all_steps, images] = ["width", "height", "steps", "images"].map(column);
    let number =
        |column: Option<&TextColumn>, row: usize| column.and_then(|column| column.get(row).parse::<f64>().ok());
    let work = |row: usize| {
        let pixels =
            number(widths, row).zip(number(heights, row)).map_or(1.0, |(width, height)| width * height / PIXELS);
        let steps = number(all_steps, row).map_or(1.0, |own| own / f64::from(steps));
        pixels * steps * number(images, row).unwrap_or(1.0)
    };
    (0..trace.len()).map(work).sum::<f64>() / trace.len() as f64
}

fn facts(demand: &Demand, means: &Means) -> Vec<String> {
    let mut facts = Vec::new();
    let Demand { requests, rate_per_min, .. } = *demand;
    let mut traffic = format!("{requests} requests over {}: {rate_per_min:.1} a minute", span(demand.span_s));
    // Writing to a string cannot fail.
    if let Some(peak) = demand.peak_per_min {
        let _ = write!(traffic, ", {peak} in the busiest");
    }
    if let Some(repeats) = demand.repeats {
        let _ = write!(traffic, "; {:.0} % repeat an earlier prompt word for word", 100.0 * repeats);
    }
    if let Some(tenants) = demand.tenants {
        let _ = write!(traffic, "; {tenants} tenants");
    }
    facts.push(traffic);
    for (gpu, (name, count, price)) in means.gpus.iter().enumerate() {
        let times = |(model, known): (usize, &&KnownModel)| {
            let entry = means.entry(gpu, model);
            format!("{} {:.2} s ({})", known.name, entry.generation_s, entry.kind)
        };
        let models: Vec<String> = std::iter::once(&means.large).chain(&means.small).enumerate().map(times).collect();
        let price = price.map_or_else(String::new, |price| format!(" at {price} dollars an hour"));
        facts.push(format!("{count} x {name}{price}: an image takes {}", models.join(", ")));
    }
    let (large, load) = (means.large.name, means.load(rate_per_min * demand.work));
    facts.push(if load > 1.0 {
        format!("{large} alone would need {load:.1} times as many GPUs")
    } else {
        format!("{large} alone would keep the GPUs busy for {:.0} % of the time", 100.0 * load)
    });
    facts
}

fn cautions(demand: &Demand, means: &Means) -> Vec<String> {
    let mut cautions = Vec::new();
    let load = means.load(demand.rate_per_min * demand.work);
    if load > 1.0 {
        cautions.push(
            "without a cache these GPUs are overloaded, so the queue grows as long as the trace lasts: latencies of \
             `vanilla` say nothing; `modm plan` and `modm capacity` ask how many GPUs are needed and which rate is held"
                .to_owned(),
        );
    } else if load < 0.3 {
        cautions.push("the GPUs are idle most of the time: caching saves nothing that anyone waits for".to_owned());
    }
    if !demand.has_prompts {
        cautions.push(
            "the log has no prompts, so nothing says which requests are alike, and only `vanilla` can be simulated: give \
             prompts with --prompts FILE"
                .to_owned(),
        );
    } else if demand.warm == 0 {
        let few = demand.requests;
        cautions.push(format!("too few requests ({few}) to say what a cache saves: it is empty at first"));
    }
    if demand.work.to_bits() != 1f64.to_bits() {
        cautions.push(format!(
            "by its sizes, steps and images, a request is {:.2} times the work of one image of 1024 x 1024; times are \
             assumed to be in proportion",
            demand.work
        ));
    }
    let assumed = means.entries.iter().filter(|entry| entry.kind != "published").count();
    if assumed > 0 {
        cautions.push(format!(
            "assumed service times, not published: {assumed} of {}; docs/profiles.md says how, `modm profile` measures \
             yours",
            means.entries.len()
        ));
    }
    cautions
}

/// Returns a time in the unit that people use for it.
fn span(seconds: f64) -> String {
    match seconds {
        0.0..120.0 => format!("{seconds:.0} s"),
        120.0..7200.0 => format!("{:.0} minutes", seconds / 60.0),
        7200.0..172_800.0 => format!("{:.1} hours", seconds / 3600.0),
        _ => format!("{:.1} days", seconds / 86_400.0),
    }
}

/// Returns a path as a shell takes it: in quotes if it has letters that shells know.
#[must_use]
pub fn as_word(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |letter: char| letter.is_alphanumeric() || "/._-+,:=@%".contains(letter);
    if !text.is_empty() && text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// Returns the folder's name, for the scenario's.
fn name(out: &Path) -> String {
    let named = out.file_name().map(|name| name.to_string_lossy().into_owned());
    named.filter(|name| !name.trim().is_empty()).unwrap_or_else(|| "mine".to_owned())
}
