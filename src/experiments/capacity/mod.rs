//! Capacity: the highest rate of arrivals that a system holds, found by bisection. docs/semantics.md, section 7,
//! defines it. `trials` makes runs at a rate, and `at_capacity` examines a capacity that was found.

use serde::{Deserialize, Serialize};

use super::hit_rate::Shift;
use crate::metrics::summary::{Definitions, Summary};
use crate::profile::{End, Spread, range_around};

mod at_capacity;
mod trials;

pub use at_capacity::{Examined, examine_all};
pub use trials::{ATTAINMENT, Question, UP_TO, check, search_all};

/// Ratio of the lowest factor that fails to the highest factor that holds, at which the search ends.
pub const PRECISION: f64 = 1.01;

/// Number of halvings of the largest factor after which no factor is taken to hold.
const MOST_HALVINGS: u32 = 10;

/// Multiples of the capacity that are tried beyond the search, for the curve of attainment, and because a higher factor
/// may hold again.
const BEYOND: [f64; 3] = [0.5, 1.2, 1.6];

/// Factor that was tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Factor on the trace's rate.
    pub factor: f64,
    /// Share of the requests in time; absent if the run was stopped because too many requests were known to be late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attainment: Option<f64>,
    /// True if enough requests were in time.
    pub holds: bool,
}

/// Outcome of one trial.
#[derive(Clone, Debug)]
pub struct Trial {
    /// True if enough requests were in time.
    pub holds: bool,
    /// Share of the requests in time; `None` if the run was stopped.
    pub attainment: Option<f64>,
    /// Measures; `None` if the run was stopped.
    pub summary: Option<Summary>,
}

/// Capacity of a variant on one trace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Capacity {
    /// Name of the variant.
    pub variant: String,
    /// Seed of the trace.
    pub seed: u64,
    /// Latency up to which a request is in time, in seconds.
    pub threshold_s: f64,
    /// Highest factor that holds; absent if no factor holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
    /// Rate of arrivals at this factor, in requests a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_per_min: Option<f64>,
    /// Share of the requests in time at this factor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attainment: Option<f64>,
    /// True if the largest factor that was allowed holds.
    pub no_limit: bool,
    /// Lowest factor that fails and highest factor that holds, if the first is below the second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_monotone: Option<(f64, f64)>,
    /// Number of runs that the search took, with those that were stopped.
    pub runs: u32,
    /// Mean rate of arrivals of the trace itself, in requests a minute.
    pub trace_rate_per_min: f64,
    /// Factors that were tried, rising.
    pub points: Vec<Point>,
    /// Measures at the highest factor that holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
}

/// Capacity of a variant on its first trace, if its hit rate were some points lower or higher.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AtHitRate {
    /// Name of the variant.
    pub variant: String,
    /// Seed of the trace.
    pub seed: u64,
    /// Shift of the similarity bounds that brings the hit rate about.
    #[serde(flatten)]
    pub shift: Shift,
    /// Capacity with these bounds, in requests a minute; absent if no rate holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_per_min: Option<f64>,
    /// True if the largest factor that was allowed holds.
    pub no_limit: bool,
    /// Ratio of this capacity to the usual capacity of the first variant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
}

/// Capacity with the service times at one end of the range that the profile leaves open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CapacityAtEnd {
    /// End of the range.
    pub end: End,
    /// Capacity at this end, in requests a minute; absent if no rate holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_per_min: Option<f64>,
    /// True if the largest factor that was allowed holds.
    pub no_limit: bool,
}

/// Capacities of a variant on its first trace at the ends of the range that the profile leaves open. Policies use the
/// profile's own times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CapacityRange {
    /// Name of the variant.
    pub variant: String,
    /// Seed of the trace.
    pub seed: u64,
    /// Spread of the service times.
    pub spread: Spread,
    /// Capacities, one for each end.
    pub ends: Vec<CapacityAtEnd>,
}

impl CapacityRange {
    /// Returns the capacity at an end, in requests a minute.
    fn at(&self, end: End) -> Option<f64> {
        self.ends.iter().find(|at| at.end == end)?.rate_per_min
    }

    /// Returns the least and the greatest of the capacities at all ends and the usual capacity, in requests a minute.
    #[must_use]
    pub fn rates(&self, usual: f64) -> Option<(f64, f64)> {
        range_around(usual, self.ends.iter().map(|at| at.rate_per_min))
    }

    /// Returns the least and the greatest ratio to another variant's capacity, end by end.
    #[must_use]
    pub fn ratios(&self, base: &Self, usual: f64) -> Option<(f64, f64)> {
        range_around(usual, self.ends.iter().map(|at| Some(at.rate_per_min? / base.at(at.end)?)))
    }

    /// Returns the relative change of the capacity if every service time is 1 % longer.
    #[must_use]
    pub fn per_percent(&self, usual: f64) -> Option<f64> {
        let change = self.spread.per_percent(self.at(End::AllLonger)?, self.at(End::AllShorter)?)?;
        Some(change / usual).filter(|change| change.is_finite())
    }
}

/// Latency target for which a capacity is searched.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Multiple of the time of a full generation on the large model, on the first GPU type of the cluster.
    SloMultiple(f64),
    /// Latency in seconds.
    SloS(f64),
}

/// Capacities of several variants, and the question that they answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Capacities {
    /// Version of the definitions of measures that the capacities follow.
    pub definitions: Definitions,
    /// Latency within which a request is in time.
    pub target: Target,
    /// Share of the requests that must be in time.
    pub attainment: f64,
    /// Largest factor on the trace's rate that was tried.
    pub up_to: f64,
    /// Largest ratio of the lowest factor that fails to the highest factor that holds.
    pub precision: f64,
    /// Capacities, one for each variant and seed. The first variant is the baseline.
    pub rows: Vec<Capacity>,
    /// Capacities at other hit rates, if they were searched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub at_other_hit_rates: Vec<AtHitRate>,
    /// Capacities at the ends of the range that the profile leaves open, if they were searched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<CapacityRange>,
}

impl Capacities {
    /// Returns the names of the variants, the baseline first.
    #[must_use]
    pub fn variants(&self) -> Vec<&str> {
        let mut variants: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !variants.contains(&row.variant.as_str()) {
                variants.push(&row.variant);
            }
        }
        variants
    }

    /// Returns the capacities of a variant, one for each seed.
    pub fn of_variant<'a>(&'a self, variant: &'a str) -> impl Iterator<Item = &'a Capacity> {
        self.rows.iter().filter(move |row| row.variant == variant)
    }

    /// Returns the ratio of a capacity to the baseline's capacity on the same trace; `None` if the baseline has no
    /// limit.
    #[must_use]
    pub fn ratio(&self, row: &Capacity) -> Option<f64> {
        self.ratio_of(row.rate_per_min?, row.seed)
    }

    /// Returns the ratio of a rate, in requests a minute, to the baseline's capacity on the trace of a seed.
    #[must_use]
    pub fn ratio_of(&self, rate_per_min: f64, seed: u64) -> Option<f64> {
        let baseline = &self.rows.first()?.variant;
        let base = self.rows.iter().find(|other| other.variant == *baseline && other.seed == seed)?;
        let ratio = rate_per_min / base.rate_per_min.filter(|_| !base.no_limit)?;
        ratio.is_finite().then_some(ratio)
    }
}

/// Search in progress: the factors that were tried, and the measures at the highest factor that holds.
struct Search<F> {
    trial: F,
    points: Vec<Point>,
    best: Option<(f64, Summary)>,
    runs: u32,
}

impl<E, F: FnMut(f64, bool) -> Result<Trial, E>> Search<F> {
    /// Tries a factor, and returns whether it holds. If `whole` is true, the run goes to its end.
    fn attempt(&mut self, factor: f64, whole: bool) -> Result<bool, E> {
        let known = self.points.iter().position(|point| point.factor.total_cmp(&factor).is_eq());
        if let Some(point) = known.map(|at| &self.points[at]).filter(|point| point.attainment.is_some() || !whole) {
            return Ok(point.holds);
        }
        // A run that was stopped says that its factor fails, but not by how much, so a whole run is made beside it.
        let Trial { holds, attainment, summary } = (self.trial)(factor, whole)?;
        self.runs += 1;
        let point = Point { factor, attainment, holds };
        match known {
            Some(at) => self.points[at] = point,
            None => self.points.push(point),
        }
        // The functions below look for the first and the last point of a kind, and rely on rising factors.
        self.points.sort_by(|a, b| a.factor.total_cmp(&b.factor));
        let higher = holds && self.best.as_ref().is_none_or(|(best, _)| factor > *best);
        if let Some(summary) = summary.filter(|_| higher) {
            self.best = Some((factor, summary));
        }
        Ok(holds)
    }

    fn highest_that_holds(&self) -> Option<f64> {
        self.points.iter().rev().find(|point| point.holds).map(|point| point.factor)
    }

    fn lowest_that_fails_above(&self, factor: f64) -> Option<f64> {
        self.points.iter().find(|point| !point.holds && point.factor > factor).map(|point| point.factor)
    }

    /// Narrows down the highest factor that holds, and returns it; `None` if no factor holds.
    fn bisect(&mut self) -> Result<Option<f64>, E> {
        loop {
            let Some(holds) = self.highest_that_holds() else { return Ok(None) };
            let fails = self.lowest_that_fails_above(holds);
            match fails.filter(|fails| fails / holds > PRECISION) {
                // The geometric mean halves the ratio, which is what the precision is stated in.
                Some(fails) => self.attempt((holds * fails).sqrt(), false)?,
                None => return Ok(Some(holds)),
            };
        }
    }
}

/// Searches the capacity up to a largest factor. `trial` makes a run at a factor: to the end if its second argument is
/// true, or until the factor is known to fail.
///
/// # Errors
/// Returns the first error of `trial`.
pub fn search<E>(up_to: f64, trial: impl FnMut(f64, bool) -> Result<Trial, E>) -> Result<Capacity, E> {
    let mut search = Search { trial, points: Vec::new(), best: None, runs: 0 };
    // The search comes from above: a factor that fails ends its run early and costs little.
    let mut factor = up_to;
    for _ in 0..=MOST_HALVINGS {
        if search.attempt(factor, false)? {
            break;
        }
        factor /= 2.0;
    }
    if let Some(found) = search.bisect()? {
        for multiple in BEYOND {
            if found * multiple < up_to {
                search.attempt(found * multiple, true)?;
            }
        }
    }
    // If a multiple above the capacity holds, the search continues from that multiple.
    let factor = search.bisect()?;
    let not_monotone = factor.and_then(|holds| {
        let fails = search.points.iter().find(|point| !point.holds).map(|point| point.factor)?;
        (fails < holds).then_some((fails, holds))
    });
    let at = |factor: f64| search.points.iter().find(|point| point.factor.total_cmp(&factor).is_eq());
    Ok(Capacity {
        factor,
        attainment: factor.and_then(|factor| at(factor)?.attainment),
        no_limit: factor.is_some_and(|factor| factor.total_cmp(&up_to).is_eq()),
        not_monotone,
        runs: search.runs,
        summary: search.best.map(|(_, summary)| summary),
        points: search.points,
        ..Capacity::default()
    })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn found(up_to: f64, holds: impl Fn(f64) -> bool) -> Capacity {
        let trial = |factor: f64, _: bool| {
            Ok::<_, Infallible>(Trial { holds: holds(factor), attainment: Some(1.0), summary: None })
        };
        match search(up_to, trial) {
            Ok(capacity) => capacity,
            Err(never) => match never {},
        }
    }

    #[test]
    fn finds_a_limit_to_one_per_cent_in_a_few_runs() {
        for limit in [0.013, 0.3, 0.999, 1.0, 1.7, 6.4, 9.95] {
            let capacity = found(10.0, |factor| factor <= limit);
            let factor = capacity.factor.expect("something holds");
            assert!(factor <= limit && factor * PRECISION >= limit, "{factor} for {limit}");
            assert!(capacity.runs <= 22, "{} runs for {limit}", capacity.runs);
            assert_eq!((capacity.no_limit, capacity.not_monotone), (false, None));
        }
    }

    #[test]
    fn says_when_there_is_no_limit_or_nothing_holds() {
        let free = found(8.0, |_| true);
        assert_eq!((free.factor, free.no_limit), (Some(8.0), true));
        let none = found(8.0, |_| false);
        assert_eq!((none.factor, none.no_limit), (None, false));
    }

    #[test]
    fn attainment_that_is_not_monotone_is_said() {
        // Half of the factor that the bisection finds lies in the gap.
        let capacity = found(8.0, |factor| factor < 0.6 || (1.6..3.0).contains(&factor));
        let (fails, holds) = capacity.not_monotone.expect("a gap");
        assert!(fails < 1.6 && (2.9..3.0).contains(&holds), "{fails} {holds}");
        assert_eq!(capacity.factor, Some(holds));
    }
}
