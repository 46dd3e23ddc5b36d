//! Sums over requests that have ended, of which `summary.json` is made. They take 16 bytes for each completed request,
//! its quality included.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::percentile::quantile;
use super::rows::RequestRow;
use super::steady::Steady;
use super::summary::{Latency, Slo};
use crate::model::refine_fraction;
use crate::request::Outcome;
use crate::scheduler::DecisionKind;
use crate::time::{Duration, Time};

/// Counts over the requests that arrived at or after the warm-up.
#[derive(Clone, Debug, Default)]
pub(super) struct Aggregate {
    pub(super) requests: u64,
    pub(super) completed: u64,
    pub(super) returned: u64,
    pub(super) rejected: u64,
    pub(super) failed: u64,
    pub(super) cancelled: u64,
    pub(super) routed: u64,
    pub(super) hits_by_skipped_steps: BTreeMap<u32, u64>,
    /// Number of hits that ran, by the steps that their model skipped of its own, and these steps. Returns are left
    /// out, because the refine fraction leaves them out.
    refined: BTreeMap<(u32, u32), u64>,
    pub(super) latencies: Vec<Duration>,
    met: Vec<u64>,
    with_deadline: u64,
    deadlines_met: u64,
    first_arrival: Option<Time>,
    pub(super) last_finish: Time,
    pub(super) steady: Steady,
}

impl Aggregate {
    pub(super) fn new(multiples: usize) -> Self {
        Self { met: vec![0; multiples], ..Self::default() }
    }

    /// Counts a request that arrived at `due`.
    pub(super) fn arrived(&mut self, due: Time, has_deadline: bool) {
        self.requests += 1;
        self.with_deadline += u64::from(has_deadline);
        self.first_arrival.get_or_insert(due);
        self.steady.arrived(due);
    }

    /// Counts a request that has ended with its last picture.
    pub(super) fn request_ended(&mut self, last: &RequestRow, outcome: &Outcome) {
        match outcome {
            Outcome::Completed => self.completed += 1,
            Outcome::Rejected(_) => self.rejected += 1,
            Outcome::Failed(_) => self.failed += 1,
            Outcome::Cancelled => self.cancelled += 1,
        }
        self.last_finish = self.last_finish.max(last.finish);
        if *outcome == Outcome::Completed {
            self.latencies.push(last.finish.since(last.arrival));
            self.deadlines_met += u64::from(last.deadline.is_some_and(|deadline| last.finish <= deadline));
        }
    }

    /// Counts a picture that has ended.
    pub(super) fn picture_ended(&mut self, row: &RequestRow) {
        if let Some(decision) = row.decision {
            self.routed += 1;
            if decision.kind.is_hit() {
                *self.hits_by_skipped_steps.entry(decision.skipped_steps).or_insert(0) += 1;
            }
            if decision.kind == DecisionKind::Hit {
                let (total, skipped) = row.steps;
                *self.refined.entry((skipped, total)).or_insert(0) += 1;
            }
        }
        self.returned += u64::from(row.completed() && row.returned());
    }

    /// Counts a completed request that was in time for a multiple. `counts` says whether the request arrived at or
    /// after the warm-up.
    pub(super) fn met(&mut self, multiple: usize, counts: bool) {
        self.met[multiple] += u64::from(counts);
    }

    pub(super) fn hit_rate(&self) -> Option<f64> {
        let hits: u64 = self.hits_by_skipped_steps.values().sum();
        (self.routed > 0).then(|| hits as f64 / self.routed as f64)
    }

    pub(super) fn mean_refine_fraction(&self) -> Option<f64> {
        let hits: u64 = self.refined.values().sum();
        // The map gives the sum the order of k, so that it is the same on every run.
        let sum: f64 = self.refined.iter().map(|(&(k, steps), &count)| count as f64 * refine_fraction(k, steps)).sum();
        (hits > 0).then(|| sum / hits as f64)
    }

    pub(super) fn throughput_per_min(&self) -> Option<f64> {
        per_minute(self.completed, self.last_finish.since(self.first_arrival?))
    }

    pub(super) fn deadline_attainment(&self) -> Option<f64> {
        (self.with_deadline > 0).then(|| self.deadlines_met as f64 / self.with_deadline as f64)
    }

    pub(super) fn slo(&self, thresholds: &[(f64, f64)]) -> Vec<Slo> {
        if self.requests == 0 {
            return Vec::new();
        }
        let row = |(&(multiple, threshold_s), &met): (&(f64, f64), &u64)| {
            let attainment = met as f64 / self.requests as f64;
            Slo { multiple, threshold_s, attainment, violation_rate: 1.0 - attainment, least_violation_rate: None }
        };
        thresholds.iter().zip(&self.met).map(row).collect()
    }

    /// Sorts the latencies and describes them; `None` if no request completed.
    pub(super) fn latency(&mut self) -> Option<Latency> {
        self.latencies.sort_unstable();
        let max = self.latencies.last()?.seconds();
        // A sum of nanoseconds is exact, in whatever order requests end.
        let total: u128 = self.latencies.iter().map(|latency| u128::from(latency.nanoseconds())).sum();
        let at = |q| quantile(&self.latencies, q).unwrap_or(max);
        Some(Latency {
            mean: total as f64 / self.latencies.len() as f64 / 1e9,
            p50: at(0.5),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            max,
        })
    }
}

fn per_minute(count: u64, time: Duration) -> Option<f64> {
    (time > Duration::ZERO).then(|| count as f64 / (time.seconds() / 60.0))
}
