//! Runs at the capacity that was found, beside the search: what a reader must be warned of, the capacity at a hit rate some
//! points lower and higher, and at the ends of what the profile leaves open. On each variant's first trace, since it takes
//! six further searches.

use anyhow::Context;

use super::{Question, at_rate, search_capacity};
use crate::cli::compare::Planned;
use crate::cli::parallel::spread;
use crate::cli::run::Prepared;
use crate::experiments::capacity::{AtHitRate, Capacities, Capacity, CapacityAtEnd, CapacityRange};
use crate::experiments::hit_rate::{POINTS, shift};
use crate::metrics::Keep;
use crate::metrics::warnings::{self, Warning};
use crate::profile::End;
use crate::scenario::Source;

/// Answers of runs at the capacities.
pub(super) struct Examined {
    pub(super) at_other_hit_rates: Vec<AtHitRate>,
    /// Sentences on what a reader must be warned of.
    pub(super) warnings: Vec<String>,
}

/// Examines every variant on its first trace.
///
/// # Errors
/// A run cannot come to an end.
pub(super) fn examine_all(
    planned: &[Planned],
    capacities: &Capacities,
    question: Question,
    source: &Source,
    threads: usize,
) -> anyhow::Result<Examined> {
    let first = firsts(planned, capacities);
    let examine = |(plan, row): &(&Planned, &Capacity)| {
        let examined = examine(&plan.prepared, row, capacities, question, source);
        examined.with_context(|| format!("variant {}", plan.variant))
    };
    let mut warned: Vec<(String, Vec<Warning>)> = Vec::new();
    let mut at_other_hit_rates = Vec::new();
    for (found, (plan, _)) in spread(&first, threads, examine)?.into_iter().zip(&first) {
        let (other_rates, warnings) = found?;
        at_other_hit_rates.extend(other_rates);
        warned.push((plan.variant.clone(), warnings));
    }
    Ok(Examined { at_other_hit_rates, warnings: warnings::merged(&warned) })
}

/// Runs on the first trace of each variant, with their capacities.
fn firsts<'a>(planned: &'a [Planned], capacities: &'a Capacities) -> Vec<(&'a Planned, &'a Capacity)> {
    let mut first: Vec<(&Planned, &Capacity)> = Vec::new();
    for (plan, row) in planned.iter().zip(&capacities.rows) {
        if first.iter().all(|(other, _)| other.variant != plan.variant) {
            first.push((plan, row));
        }
    }
    first
}

/// Searches the capacity of every variant at the ends of what its profile leaves open, on its first trace.
///
/// # Errors
/// A run cannot come to an end.
pub(in crate::cli) fn ranges(
    planned: &[Planned],
    capacities: &Capacities,
    question: Question,
    source: &Source,
    threads: usize,
) -> anyhow::Result<Vec<CapacityRange>> {
    let one = |(plan, row): &(&Planned, &Capacity)| {
        range(&plan.prepared, row, question, source).with_context(|| format!("variant {}", plan.variant))
    };
    let found = spread(&firsts(planned, capacities), threads, one)?;
    Ok(found.into_iter().collect::<anyhow::Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// Searches the capacity at the ends of what the profile leaves open; `None` if it leaves nothing open, or where nothing
/// holds.
fn range(
    prepared: &Prepared,
    row: &Capacity,
    question: Question,
    source: &Source,
) -> anyhow::Result<Option<CapacityRange>> {
    let spread = prepared.inputs.profile.spread();
    if spread.share == 0.0 || row.factor.is_none() {
        return Ok(None);
    }
    let at = |end: End| -> anyhow::Result<CapacityAtEnd> {
        let found = search_capacity(&prepared.at_end(end), question, source)?;
        Ok(CapacityAtEnd { end, rate_per_min: found.rate_per_min, no_limit: found.no_limit })
    };
    Ok(Some(CapacityRange {
        variant: row.variant.clone(),
        seed: row.seed,
        spread,
        ends: End::ALL.into_iter().map(at).collect::<anyhow::Result<_>>()?,
    }))
}

/// Examines one system. Where nothing holds, it runs at the lowest rate that was tried for its warnings.
fn examine(
    prepared: &Prepared,
    row: &Capacity,
    capacities: &Capacities,
    question: Question,
    source: &Source,
) -> anyhow::Result<(Vec<AtHitRate>, Vec<Warning>)> {
    let lowest = row.points.first().map_or(1.0, |point| point.factor);
    let results = at_rate(prepared, row.factor.unwrap_or(lowest)).run(Keep::Ends, ())?;
    let lowest_bound = prepared.scenario.bounds().first().map(|(bound, _)| *bound);
    let known = results.summary.hit_rate.zip(row.factor).zip(lowest_bound);
    let Some(((usual, factor), lowest_bound)) = known else { return Ok((Vec::new(), results.warnings)) };
    let hit_rate = |by: f64| -> anyhow::Result<f64> {
        Ok(at_rate(&with_bounds(prepared, by), factor).run_once(())?.summary.hit_rate.unwrap_or(0.0))
    };
    let mut all = Vec::new();
    for points in [-POINTS, POINTS] {
        let shift = shift(usual, points, lowest_bound, hit_rate)?;
        let found = search_capacity(&with_bounds(prepared, shift.by), question, source)?;
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

/// Returns the same system with so much added to its bounds.
fn with_bounds(prepared: &Prepared, by: f64) -> Prepared {
    Prepared { scenario: prepared.scenario.with_shifted_bounds(by), ..prepared.clone() }
}
