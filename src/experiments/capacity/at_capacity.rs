//! Runs and searches beside the search of a capacity. They give the warnings for a reader, the capacity at a hit rate
//! some points lower and higher, and the capacity at the ends of the range that the profile leaves open. They use only
//! the first trace of each variant, because they take six further searches.

use super::trials::{Question, at_rate, search_capacity};
use super::{AtHitRate, Capacities, Capacity, CapacityAtEnd, CapacityRange};
use crate::experiments::hit_rate::{POINTS, shift};
use crate::experiments::variants::VariantRun;
use crate::experiments::{ExperimentError, spread};
use crate::metrics::Keep;
use crate::metrics::warnings::{self, Warning};
use crate::profile::End;
use crate::scenario::Source;
use crate::simulation::Simulation;

/// Results of the runs and searches beside the capacities.
#[derive(Debug)]
pub struct Examined {
    /// Capacities at a hit rate some points lower and higher.
    pub at_other_hit_rates: Vec<AtHitRate>,
    /// Warnings for a reader, in sentences.
    pub warnings: Vec<String>,
}

/// Makes the runs and searches beside the capacity of every variant, on its first trace.
///
/// # Errors
/// Returns an error if a run cannot come to an end.
pub fn examine_all(
    runs: &[VariantRun],
    capacities: &Capacities,
    question: Question,
    source: &Source,
    threads: usize,
) -> Result<Examined, ExperimentError> {
    let first = firsts(runs, capacities);
    let examine = |(run, row): &(&VariantRun, &Capacity)| {
        let examined = examine(&run.simulation, row, capacities, question, source);
        examined.map_err(ExperimentError::within(format!("variant {}", run.variant)))
    };
    let mut warned: Vec<(String, Vec<Warning>)> = Vec::new();
    let mut at_other_hit_rates = Vec::new();
    for (found, (run, _)) in spread(&first, threads, examine)?.into_iter().zip(&first) {
        let (other_rates, warnings) = found?;
        at_other_hit_rates.extend(other_rates);
        warned.push((run.variant.clone(), warnings));
    }
    Ok(Examined { at_other_hit_rates, warnings: warnings::merged(&warned) })
}

/// Returns the run on the first trace of each variant, with its capacity.
fn firsts<'a>(runs: &'a [VariantRun], capacities: &'a Capacities) -> Vec<(&'a VariantRun, &'a Capacity)> {
    let mut first: Vec<(&VariantRun, &Capacity)> = Vec::new();
    for (run, row) in runs.iter().zip(&capacities.rows) {
        if first.iter().all(|(other, _)| other.variant != run.variant) {
            first.push((run, row));
        }
    }
    first
}

/// Searches the capacity of every variant at the ends of the range that its profile leaves open, on its first trace.
pub(super) fn ranges(
    runs: &[VariantRun],
    capacities: &Capacities,
    question: Question,
    source: &Source,
    threads: usize,
) -> Result<Vec<CapacityRange>, ExperimentError> {
    let one = |(run, row): &(&VariantRun, &Capacity)| {
        range(&run.simulation, row, question, source)
            .map_err(ExperimentError::within(format!("variant {}", run.variant)))
    };
    let found = spread(&firsts(runs, capacities), threads, one)?;
    Ok(found.into_iter().collect::<Result<Vec<_>, ExperimentError>>()?.into_iter().flatten().collect())
}

/// Searches the capacity at the ends of the range that the profile leaves open; `None` if the profile leaves nothing
/// open, or if no rate holds.
fn range(
    simulation: &Simulation,
    row: &Capacity,
    question: Question,
    source: &Source,
) -> Result<Option<CapacityRange>, ExperimentError> {
    let spread = simulation.inputs.profile.spread();
    if spread.share == 0.0 || row.factor.is_none() {
        return Ok(None);
    }
    let at = |end: End| -> Result<CapacityAtEnd, ExperimentError> {
        let found = search_capacity(&simulation.at_end(end), question, source)?;
        Ok(CapacityAtEnd { end, rate_per_min: found.rate_per_min, no_limit: found.no_limit })
    };
    Ok(Some(CapacityRange {
        variant: row.variant.clone(),
        seed: row.seed,
        spread,
        ends: End::ALL.into_iter().map(at).collect::<Result<_, ExperimentError>>()?,
    }))
}

/// Makes the runs and searches beside the capacity of one system. If no rate holds, its warnings come from a run at the
/// lowest rate that was tried.
fn examine(
    simulation: &Simulation,
    row: &Capacity,
    capacities: &Capacities,
    question: Question,
    source: &Source,
) -> Result<(Vec<AtHitRate>, Vec<Warning>), ExperimentError> {
    let lowest = row.points.first().map_or(1.0, |point| point.factor);
    let results = at_rate(simulation, row.factor.unwrap_or(lowest)).run_keeping(Keep::Ends, ())?;
    let lowest_bound = simulation.scenario.bounds().first().map(|(bound, _)| *bound);
    let known = results.summary.hit_rate.zip(row.factor).zip(lowest_bound);
    let Some(((usual, factor), lowest_bound)) = known else { return Ok((Vec::new(), results.warnings)) };
    let hit_rate = |by: f64| -> Result<f64, ExperimentError> {
        Ok(at_rate(&with_bounds(simulation, by), factor).run_once(())?.summary.hit_rate.unwrap_or(0.0))
    };
    let mut all = Vec::new();
    for points in [-POINTS, POINTS] {
        let shift = shift(usual, points, lowest_bound, hit_rate)?;
        let found = search_capacity(&with_bounds(simulation, shift.by), question, source)?;
        all.push(AtHitRate {
            variant: row.variant.clone(),
            seed: row.seed,
            shift,
            rate_per_min: found.rate_per_min,
            no_limit: found.no_limit,
            ratio: found.rate_per_min.and_then(|rate| capacities.ratio_of(rate, row.seed)),
        });
    }
    Ok((all, results.warnings))
}

/// Returns the same system with `by` added to its similarity bounds.
fn with_bounds(simulation: &Simulation, by: f64) -> Simulation {
    Simulation { scenario: simulation.scenario.with_shifted_bounds(by), ..simulation.clone() }
}
