//! Searches of capacities: runs at multiples of a trace's rate, to the end or until too many requests are late.

use std::sync::Arc;

use super::at_capacity::ranges;
use super::{Capacities, Capacity, PRECISION, Target, Trial, search};
use crate::experiments::budget::{Budget, Budgeted, Watch, allowed_late};
use crate::experiments::traces::counted;
use crate::experiments::variants::VariantRun;
use crate::experiments::{ExperimentError, Progress, Search, spread};
use crate::input::InputError;
use crate::metrics::Keep;
use crate::metrics::summary::Definitions;
use crate::model::{GpuId, ModelId};
use crate::scenario::{Inputs, Scenario, Source, TraceInputs};
use crate::simulation::Simulation;
use crate::time::Duration;

/// Latency target for a scenario that states none, as a multiple of the time of a full generation.
const USUAL_MULTIPLE: f64 = 2.0;

/// Share of the requests that must be in time, unless another share is asked for.
pub const ATTAINMENT: f64 = 0.99;

/// Largest factor on the trace's rate, unless another factor is asked for.
pub const UP_TO: f64 = 10.0;

/// Target that a rate must hold, and the limit of the search.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// Latency within which a request is in time.
    pub target: Target,
    /// Share of the requests that must be in time.
    pub attainment: f64,
    /// Largest factor on the trace's rate that is tried.
    pub up_to: f64,
}

impl Question {
    /// Returns the question for a scenario if the user asks for nothing else.
    #[must_use]
    pub fn of_scenario(scenario: &Scenario) -> Self {
        let multiple = scenario.slo.multiples.first().copied().unwrap_or(USUAL_MULTIPLE);
        Self { target: Target::SloMultiple(multiple), attainment: ATTAINMENT, up_to: UP_TO }
    }
}

/// Checks that every trace has a rate that can be scaled.
///
/// # Errors
/// Returns an error if all requests of a trace arrive at once, or if no request counts.
pub fn check(runs: &[VariantRun], source: &Source) -> Result<(), InputError> {
    for run in runs {
        counted(&run.simulation.inputs.trace, &run.simulation.scenario, source)?;
        if run.simulation.inputs.trace.trace.mean_rate_per_min().is_none() {
            let message = "has no rate to scale: all its requests arrive at once";
            return Err(InputError::new(source.file(), message).key("trace"));
        }
    }
    Ok(())
}

/// Searches ahead once for each trace. Similarities do not depend on the rate, so one search serves all rates.
fn prepare_searches(runs: &[VariantRun], search: Search, source: &Source, progress: &dyn Progress) {
    /// Number of runs that the search of a capacity usually takes.
    const USUAL_RUNS: usize = 10;
    let mut done: Vec<&Arc<TraceInputs>> = Vec::new();
    for run in runs {
        let trace = &run.simulation.inputs.trace;
        if done.iter().any(|other| Arc::ptr_eq(other, trace)) {
            continue;
        }
        let runs = runs.iter().filter(|other| Arc::ptr_eq(&other.simulation.inputs.trace, trace));
        let runs: Vec<_> = runs.flat_map(|other| std::iter::repeat_n(&other.simulation.scenario, USUAL_RUNS)).collect();
        search.prepare(trace, &runs, source.file(), progress);
        done.push(trace);
    }
}

/// Searches the capacity of every variant on every trace. With `with_ranges`, also searches the capacities at the ends
/// of the range that a profile leaves open.
///
/// # Errors
/// Returns an error if a run cannot come to an end.
pub fn search_all(
    runs: &[VariantRun],
    question: Question,
    source: &Source,
    way: Search,
    threads: usize,
    with_ranges: bool,
    progress: &dyn Progress,
) -> Result<Capacities, ExperimentError> {
    prepare_searches(runs, way, source, progress);
    let found = spread(runs, threads, |run| {
        let found = search_one(run, question, source);
        if let Ok(found) = &found {
            progress.say(&in_words(found));
        }
        found
    })?;
    let mut capacities = Capacities {
        definitions: Definitions::default(),
        target: question.target,
        attainment: question.attainment,
        up_to: question.up_to,
        precision: PRECISION,
        rows: found.into_iter().collect::<Result<_, ExperimentError>>()?,
        at_other_hit_rates: Vec::new(),
        ranges: Vec::new(),
    };
    if with_ranges {
        capacities.ranges = ranges(runs, &capacities, question, source, threads)?;
    }
    Ok(capacities)
}

fn in_words(found: &Capacity) -> String {
    let rate = found.rate_per_min.map_or_else(|| "nothing".to_owned(), |rate| format!("{rate:.2} requests per minute"));
    format!("{} (seed {}) holds {rate}, after {} runs", found.variant, found.seed, found.runs)
}

fn search_one(run: &VariantRun, question: Question, source: &Source) -> Result<Capacity, ExperimentError> {
    let found = search_capacity(&run.simulation, question, source);
    let found = found.map_err(ExperimentError::within(format!("variant {}", run.variant)))?;
    Ok(Capacity { variant: run.variant.clone(), ..found })
}

/// Searches the capacity of one system on one trace.
pub(super) fn search_capacity(
    simulation: &Simulation,
    question: Question,
    source: &Source,
) -> Result<Capacity, ExperimentError> {
    let steps = simulation.scenario.models.large_steps();
    let threshold_s = match question.target {
        Target::SloMultiple(multiple) => {
            multiple * simulation.inputs.profile.full_generation_s(GpuId(0), ModelId::LARGE, steps)
        }
        Target::SloS(seconds) => seconds,
    };
    let limit = Duration::from_seconds_saturating(threshold_s);
    let trial = |factor: f64, whole: bool| {
        try_rate(simulation, question.attainment, limit, factor, whole, source)
            .map_err(ExperimentError::within(format!("at {factor} times the trace's rate")))
    };
    let found = search(question.up_to, trial)?;
    let rate = simulation.inputs.trace.trace.mean_rate_per_min().unwrap_or_default();
    Ok(Capacity {
        seed: simulation.scenario.seed,
        threshold_s,
        rate_per_min: found.factor.map(|factor| factor * rate),
        trace_rate_per_min: rate,
        factor: found.factor,
        attainment: found.attainment,
        no_limit: found.no_limit,
        not_monotone: found.not_monotone,
        runs: found.runs,
        points: found.points,
        summary: found.summary,
        ..Capacity::default()
    })
}

/// Returns the same run at a multiple of the trace's rate.
pub(super) fn at_rate(simulation: &Simulation, factor: f64) -> Simulation {
    let trace = Arc::new(simulation.inputs.trace.at_rate(factor));
    Simulation { inputs: Inputs { trace, ..simulation.inputs.clone() }, ..simulation.clone() }
}

/// Makes a run at a multiple of the trace's rate: to the end if `whole` is true, or until too many requests are late.
fn try_rate(
    simulation: &Simulation,
    attainment: f64,
    limit: Duration,
    factor: f64,
    whole: bool,
    source: &Source,
) -> Result<Trial, ExperimentError> {
    let simulation = at_rate(simulation, factor);
    let requests = counted(&simulation.inputs.trace, &simulation.scenario, source)?;
    let allowed = allowed_late(requests, attainment);
    // More requests than there are cannot be late, so a run with this budget goes to its end.
    let watch = Watch::new(Budget::for_run(&simulation, limit, if whole { requests } else { allowed }));
    let inbox = Budgeted::new(simulation.scenario.outside(&simulation.inputs.trace.trace), watch.clone());
    let results = simulation.run_on(simulation.latency(), Keep::Nothing, inbox, watch.clone())?;
    let in_time = (requests - watch.late()) as f64 / requests as f64;
    let ended = !watch.is_over();
    Ok(Trial {
        holds: watch.late() <= allowed,
        attainment: ended.then_some(in_time),
        summary: ended.then_some(results.summary),
    })
}
