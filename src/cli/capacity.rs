//! `modm capacity`: the highest rate of arrivals that each variant holds. The search is `experiments::capacity`; trying a
//! rate is here.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use clap::Args;

use super::arguments::{FigureArguments, RangeArguments, ScenarioArguments, SearchArguments, share};
use super::compare::{self, Planned};
use super::parallel::{count, spread, threads};
use super::run::{Prepared, counted, write_run_json};
use super::search::Search;
use crate::experiments::budget::{Budgeted, Watch, allowed_late};
use crate::experiments::capacity::{self, Capacities, Capacity, PRECISION, Target, Trial};
use crate::input::InputError;
use crate::metrics::Keep;
use crate::metrics::summary::Definitions;
use crate::model::{GpuId, ModelId};
use crate::output::write_atomic;
use crate::report::read::CAPACITIES;
use crate::report::{CapacityReport, capacity_table};
use crate::scenario::{Inputs, Scenario, Source, TraceInputs, Variant};
use crate::time::Duration;

mod at_capacity;

pub(super) use at_capacity::ranges;

/// Multiple of a full generation that requests are held against where a scenario has none.
const USUAL_MULTIPLE: f64 = 2.0;

/// Share of the requests in time, unless another is asked for.
pub(super) const ATTAINMENT: f64 = 0.99;

/// Largest factor on the trace's rate, unless another is asked for.
pub(super) const UP_TO: f64 = 10.0;

/// Find the highest rate of arrivals that each variant holds
#[derive(Debug, Args)]
#[command(after_help = "\
Only the gaps between arrivals are scaled: deadlines, outages, the warm-up and periods stay as they are. A system that \
holds at the largest factor has no limit up to it. A scenario without [[variant]] is one variant.

  modm capacity scenarios/quickstart.toml --out results/capacity
  modm capacity scenarios/quickstart.toml --slo-s 120 --attainment 0.95 --variants vanilla,modm-sdxl --out results/capacity
  modm capacity scenarios/quickstart.toml --seeds 3 --up-to 20 --out results/capacity")]
pub(super) struct CapacityCommand {
    #[command(flatten)]
    common: ScenarioArguments,
    #[command(flatten)]
    search: SearchArguments,
    #[command(flatten)]
    figures: FigureArguments,
    #[command(flatten)]
    range: RangeArguments,
    /// A request is in time within so many full generations on the large model (first GPU type); the first of
    /// slo.multiples if absent
    #[arg(long, value_name = "MULTIPLE", value_parser = positive, conflicts_with = "slo_s")]
    slo: Option<f64>,
    /// A request is in time within so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = positive)]
    slo_s: Option<f64>,
    /// Share of the requests that must be in time
    #[arg(long, value_name = "SHARE", default_value_t = ATTAINMENT, value_parser = share)]
    attainment: f64,
    /// Largest factor on the trace's rate that is tried
    #[arg(long, value_name = "FACTOR", default_value_t = UP_TO, value_parser = positive)]
    up_to: f64,
    /// Only these variants, the first one the baseline
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    variants: Vec<String>,
    /// Search on this many traces: a synthetic one is generated anew, a real one resampled by blocks of time
    #[arg(long, value_name = "N", default_value = "1", value_parser = count)]
    seeds: NonZeroUsize,
    /// Searches at a time
    #[arg(long, value_name = "N", value_parser = count)]
    threads: Option<NonZeroUsize>,
}

/// Parses a number above 0.
pub(super) fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (1e-6..=1e6).contains(number));
    number.ok_or_else(|| "expected a number above 0, at most 1000000".to_owned())
}

/// Target that a rate is held against, and how far the search goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    pub(super) target: Target,
    pub(super) attainment: f64,
    pub(super) up_to: f64,
}

impl Question {
    /// Question that a scenario asks by itself.
    pub(super) fn of_scenario(scenario: &Scenario) -> Self {
        let multiple = scenario.slo.multiples.first().copied().unwrap_or(USUAL_MULTIPLE);
        Self { target: Target::SloMultiple(multiple), attainment: ATTAINMENT, up_to: UP_TO }
    }
}

pub(super) fn run(command: &CapacityCommand) -> anyhow::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "wall seconds go to run.json alone")]
    let begun = Instant::now();
    let common = &command.common;
    let (source, sets) = common.read()?;
    let base = source.scenario(&sets)?;
    let variants = if base.variant.is_empty() && command.variants.is_empty() {
        vec![Variant {
            name: base.name.clone(),
            set: toml::Table::new(),
            published: crate::published::Published::default(),
        }]
    } else {
        compare::chosen(&base, &command.variants, &source)?
    };
    let planned = compare::plan(common, command.seeds, &source, &sets, &variants)?;
    let usual = Question::of_scenario(&base);
    let given = command.slo.map(Target::SloMultiple).or(command.slo_s.map(Target::SloS));
    let target = given.unwrap_or(usual.target);
    let question = Question { target, attainment: command.attainment, up_to: command.up_to };
    check(&planned, &source)?;
    common.prepare_output()?;
    prepare_searches(&planned, command.search.search, source.file(), common.quiet);
    let mut capacities = search_all(&planned, question, &source, threads(command.threads), common.quiet)?;
    if !command.range.no_range {
        capacities.ranges = ranges(&planned, &capacities, question, &source, threads(command.threads))?;
    }
    let more = at_capacity::examine_all(&planned, &capacities, question, &source, threads(command.threads))?;
    capacities.at_other_hit_rates = more.at_other_hit_rates;
    let text = write(&capacities, &common.out)?;
    let report = CapacityReport {
        name: base.name.clone(),
        published: compare::published(&variants),
        seeds: command.seeds.get(),
        stand_ins: compare::stand_ins(&planned),
        provenance: compare::provenance(&planned, &source, &sets),
        notes: compare::notes(&planned, command.seeds.get(), &base).into_iter().chain(more.warnings.clone()).collect(),
        scenario_toml: source.text().to_owned(),
        versions: compare::versions(&base),
        capacities,
    };
    super::write_files(&report.files(command.figures.look()).context("the report's figures")?, &common.out)?;
    write_run_json(&common.out, &base, &[], &report.stand_ins, begun.elapsed().as_secs_f64(), &more.warnings)?;
    if common.json {
        print!("{text}");
        return Ok(());
    }
    print!("{}", capacity_table(&report.capacities, &report.published, super::width()));
    super::print_verdict(&report.sentence());
    super::print_notes(report.caveats());
    eprintln!("report: {}", common.out.join("report.html").display());
    Ok(())
}

/// Writes `capacity.json`, and returns its text.
pub(super) fn write(capacities: &Capacities, folder: &Path) -> anyhow::Result<String> {
    let text = serde_json::to_string_pretty(capacities)? + "\n";
    write_atomic(&folder.join(CAPACITIES), |to| std::io::Write::write_all(to, text.as_bytes()))?;
    Ok(text)
}

/// Checks that every trace has a rate to scale.
///
/// # Errors
/// All requests of a trace arrive at once.
pub(super) fn check(planned: &[Planned], source: &Source) -> Result<(), InputError> {
    for plan in planned {
        counted(&plan.prepared.inputs.trace, &plan.prepared.scenario, source)?;
        if rate_per_min(&plan.prepared.inputs.trace).is_none() {
            let message = "has no rate to scale: all its requests arrive at once";
            return Err(InputError::new(source.file(), message).key("trace"));
        }
    }
    Ok(())
}

/// Requests of a trace a minute, from the first arrival to the last.
fn rate_per_min(trace: &TraceInputs) -> Option<f64> {
    let arrivals = &trace.trace.columns().arrivals;
    let span = arrivals.last()?.since(*arrivals.first()?);
    (span > Duration::ZERO).then(|| arrivals.len() as f64 / (span.seconds() / 60.0))
}

/// Searches ahead once for each trace: what is similar does not depend on the rate.
pub(super) fn prepare_searches(planned: &[Planned], search: Search, file: &Path, quiet: bool) {
    /// Runs that a search of a capacity usually takes.
    const USUAL_RUNS: usize = 10;
    let mut done: Vec<&Arc<TraceInputs>> = Vec::new();
    for plan in planned {
        let trace = &plan.prepared.inputs.trace;
        if done.iter().any(|other| Arc::ptr_eq(other, trace)) {
            continue;
        }
        let runs = planned.iter().filter(|other| Arc::ptr_eq(&other.prepared.inputs.trace, trace));
        let runs: Vec<_> = runs.flat_map(|other| std::iter::repeat_n(&other.prepared.scenario, USUAL_RUNS)).collect();
        search.prepare(trace, &runs, file, None, quiet);
        done.push(trace);
    }
}

/// Searches the capacity of every variant on every trace.
///
/// # Errors
/// A run cannot come to an end.
pub(super) fn search_all(
    planned: &[Planned],
    question: Question,
    source: &Source,
    threads: usize,
    quiet: bool,
) -> anyhow::Result<Capacities> {
    let found = spread(planned, threads, |plan| {
        let found = search_one(plan, question, source);
        if let Some(found) = found.as_ref().ok().filter(|_| !quiet) {
            eprintln!("{}", progress(found));
        }
        found
    })?;
    Ok(Capacities {
        definitions: Definitions::default(),
        target: question.target,
        attainment: question.attainment,
        up_to: question.up_to,
        precision: PRECISION,
        rows: found.into_iter().collect::<anyhow::Result<_>>()?,
        at_other_hit_rates: Vec::new(),
        ranges: Vec::new(),
    })
}

fn progress(found: &Capacity) -> String {
    let rate = found.rate_per_min.map_or_else(|| "nothing".to_owned(), |rate| format!("{rate:.2} requests per minute"));
    format!("{} (seed {}) holds {rate}, after {} runs", found.variant, found.seed, found.runs)
}

fn search_one(plan: &Planned, question: Question, source: &Source) -> anyhow::Result<Capacity> {
    let found = search_capacity(&plan.prepared, question, source);
    let found = found.with_context(|| format!("variant {}", plan.variant))?;
    Ok(Capacity { variant: plan.variant.clone(), ..found })
}

/// Searches the capacity of one system on one trace.
fn search_capacity(prepared: &Prepared, question: Question, source: &Source) -> anyhow::Result<Capacity> {
    let steps = prepared.scenario.models.steps;
    let threshold_s = match question.target {
        Target::SloMultiple(multiple) => {
            multiple * prepared.inputs.profile.full_generation_s(GpuId(0), ModelId::LARGE, steps)
        }
        Target::SloS(seconds) => seconds,
    };
    let limit = Duration::from_seconds_saturating(threshold_s);
    let trial = |factor: f64, whole: bool| {
        try_rate(prepared, question.attainment, limit, factor, whole, source)
            .with_context(|| format!("at {factor} times the trace's rate"))
    };
    let found = capacity::search(question.up_to, trial)?;
    let rate = rate_per_min(&prepared.inputs.trace).unwrap_or_default();
    Ok(Capacity {
        seed: prepared.scenario.seed,
        threshold_s,
        rate_per_min: found.factor.map(|factor| factor * rate),
        trace_rate_per_min: rate,
        ..found
    })
}

/// Returns the same run at a multiple of the trace's rate.
fn at_rate(prepared: &Prepared, factor: f64) -> Prepared {
    let trace = Arc::new(prepared.inputs.trace.at_rate(factor));
    Prepared { inputs: Inputs { trace, ..prepared.inputs.clone() }, ..prepared.clone() }
}

/// Runs at a multiple of the trace's rate: to the end, or until too many requests are late.
fn try_rate(
    prepared: &Prepared,
    attainment: f64,
    limit: Duration,
    factor: f64,
    whole: bool,
    source: &Source,
) -> anyhow::Result<Trial> {
    let prepared = at_rate(prepared, factor);
    let requests = counted(&prepared.inputs.trace, &prepared.scenario, source)?;
    let allowed = allowed_late(requests, attainment);
    let watch = Watch::new(prepared.budget(limit, if whole { requests } else { allowed }));
    let inbox = Budgeted::new(prepared.scenario.outside(&prepared.inputs.trace.trace), watch.clone());
    let results = prepared.run_on(prepared.latency(), Keep::Nothing, inbox, watch.clone())?;
    let in_time = (requests - watch.late()) as f64 / requests as f64;
    let ended = !watch.is_over();
    Ok(Trial {
        holds: watch.late() <= allowed,
        attainment: ended.then_some(in_time),
        summary: ended.then_some(results.summary),
    })
}
