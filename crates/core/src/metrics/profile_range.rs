//! Range of a run's headlines that follows from the uncertainty of its profile. The same run is simulated with service
//! times at each end of what the profile leaves open, while policies go by the profile. The range is not the spread
//! over seeds.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::summary::Summary;
use crate::profile::{End, Profile, Spread, range_around};

/// Headlines of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Headlines {
    /// Mean latency, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_mean_s: Option<f64>,
    /// 95th percentile of latency, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_p95_s: Option<f64>,
    /// Steady throughput, requests a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throughput_steady_per_min: Option<f64>,
    /// Share of the requests in time, by multiple of the scenario.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attainment: Vec<f64>,
}

impl Headlines {
    /// Returns the headlines of a run.
    #[must_use]
    pub fn of_run(summary: &Summary) -> Self {
        Self {
            latency_mean_s: summary.latency_s.map(|latency| latency.mean),
            latency_p95_s: summary.latency_s.map(|latency| latency.p95),
            throughput_steady_per_min: summary.throughput_steady_per_min,
            attainment: summary.slo.iter().map(|slo| slo.attainment).collect(),
        }
    }
}

/// Headlines of the run with the service times of one end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AtEnd {
    /// End of the service times.
    pub end: End,
    /// Headlines at this end.
    #[serde(flatten)]
    pub headlines: Headlines,
}

/// Headlines at the ends of what a profile leaves open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProfileRange {
    /// Spread of the service times.
    pub spread: Spread,
    /// Headlines at each end.
    pub ends: Vec<AtEnd>,
}

impl ProfileRange {
    /// Makes the range that a profile leaves open, from the headlines at each of [`End::ALL`].
    #[must_use]
    pub fn new(profile: &Profile, at_ends: Vec<Headlines>) -> Self {
        let ends = End::ALL.into_iter().zip(at_ends).map(|(end, headlines)| AtEnd { end, headlines }).collect();
        Self { spread: profile.spread(), ends }
    }

    /// Returns the least and the greatest value of a headline over all ends and the run itself, whose value is `usual`.
    #[must_use]
    pub fn range(&self, usual: f64, headline: impl Fn(&Headlines) -> Option<f64>) -> Option<(f64, f64)> {
        range_around(usual, self.ends.iter().map(|at| headline(&at.headlines)))
    }

    /// Returns the change of a headline if every service time is a hundredth longer.
    #[must_use]
    pub fn per_percent(&self, headline: impl Fn(&Headlines) -> Option<f64>) -> Option<f64> {
        let at = |end| self.ends.iter().find(|at| at.end == end).and_then(|at| headline(&at.headlines));
        self.spread.per_percent(at(End::AllLonger)?, at(End::AllShorter)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::SpreadKind;

    #[test]
    fn ranges_hold_all_ends_and_the_run_itself() {
        let at = |end, mean| AtEnd { end, headlines: Headlines { latency_mean_s: Some(mean), ..Headlines::default() } };
        let ends = vec![
            at(End::AllLonger, 12.0),
            at(End::AllShorter, 10.0),
            at(End::LargeLonger, 12.5),
            at(End::LargeShorter, 10.5),
        ];
        let spread = Spread { share: 0.05, kind: SpreadKind::Measured, mean_log_factor: 0.05 };
        let range = ProfileRange { spread, ends };
        let mean = |headlines: &Headlines| headlines.latency_mean_s;
        assert_eq!(range.range(11.0, mean), Some((10.0, 12.5)));
        assert_eq!(range.range(9.0, mean), Some((9.0, 12.5)));
        assert!((range.per_percent(mean).expect("both ends") - 0.2).abs() < 1e-12);
        assert_eq!(range.range(1.0, |headlines| headlines.latency_p95_s), None);
    }
}
