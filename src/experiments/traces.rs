//! Traces of experiments: one for each seed, and the number of their requests that count.

use std::sync::Arc;

use crate::input::InputError;
use crate::scenario::{Scenario, Source, TraceInputs};
use crate::time::Time;

/// Makes the trace of a seed, counted from the scenario's own seed. A synthetic trace is generated anew. A trace from
/// files is the first one in another order, and nothing else differs.
///
/// # Errors
/// Returns an error if a file cannot be used.
pub(super) fn of_seed(
    scenario: &Scenario,
    seed: u64,
    first: Option<&Arc<TraceInputs>>,
    source: &Source,
    retrieves: bool,
) -> Result<TraceInputs, InputError> {
    let scenario = Scenario { seed: scenario.seed.wrapping_add(seed), ..scenario.clone() };
    match first {
        Some(first) if scenario.trace.synthetic.is_none() => Ok(first.resampled(scenario.seed)),
        _ => TraceInputs::load(&scenario, source.file(), retrieves),
    }
}

/// Returns the number of requests that count. Requests that arrive during the warm-up do not count.
///
/// # Errors
/// Returns an error if no request counts.
pub(super) fn counted(trace: &TraceInputs, scenario: &Scenario, source: &Source) -> Result<u64, InputError> {
    let warmup = Time::from_seconds(scenario.metrics.warmup_s).unwrap_or_default();
    let arrivals = &trace.trace.columns().arrivals;
    let first = arrivals.partition_point(|arrival| *arrival < warmup);
    let count = (first..arrivals.len()).filter(|row| trace.trace.place(*row).at == 0).count();
    let none = || {
        let last = arrivals.last().map_or(0.0, |last| last.seconds());
        let message = format!("leaves no request to count: the last one arrives after {last} s");
        InputError::new(source.file(), message).value("metrics.warmup_s", scenario.metrics.warmup_s)
    };
    if count == 0 { Err(none()) } else { Ok(count as u64) }
}
