//! Capacity: the highest rate of arrivals that a system holds, found by bisection. docs/semantics.md, section 7,
//! defines it. `search` bisects, `trials` makes runs at a rate, and `at_capacity` examines a capacity that was found.

use serde::{Deserialize, Serialize};

use super::hit_rate::Shift;
use crate::metrics::summary::{Definitions, Summary};
use crate::profile::{End, Spread, range_around};

mod at_capacity;
mod search;
mod trials;

pub use at_capacity::{Examined, examine_all};
pub use search::{Found, PRECISION, Point, Trial, search};
pub use trials::{ATTAINMENT, Question, UP_TO, check, search_all};

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
