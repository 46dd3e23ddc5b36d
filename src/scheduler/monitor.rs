//! The global monitor: counts what is routed between two decisions and lets the allocation policy
//! decide. Which rule it follows is the policy's business.

use std::collections::BTreeMap;

use super::action::{Decision, DecisionKind, Tick};
use super::allocation::{Allocation, AllocationPolicy, Demand};
use crate::model::refine_fraction;
use crate::time::Time;

/// Demand since the previous decision, and who decides.
#[derive(Debug)]
pub(super) struct Monitor {
    policy: Box<dyn AllocationPolicy>,
    models: usize,
    total_steps: u32,
    previous: Time,
    routed: u64,
    hits_by_steps: BTreeMap<u32, u64>,
}

impl Monitor {
    pub(super) fn new(policy: Box<dyn AllocationPolicy>, models: usize, total_steps: u32) -> Self {
        Self { policy, models, total_steps, previous: Time::ZERO, routed: 0, hits_by_steps: BTreeMap::new() }
    }

    pub(super) fn initial(&self) -> Allocation {
        self.policy.initial()
    }

    /// Nothing to decide on, no decision: ticks cost time only where requests are.
    pub(super) fn next_decision(&self) -> Option<Time> {
        let silent = self.routed == 0 && self.policy.needs_demand();
        self.policy.next_decision().filter(|_| !silent)
    }

    /// A request was routed for the first time.
    pub(super) fn observe(&mut self, now: Time, decision: &Decision) {
        if self.routed == 0 && self.policy.needs_demand() {
            // Its window began with the last of the ticks that nobody asked for.
            self.previous = self.previous.max(self.policy.pass_over(now));
        }
        self.routed += 1;
        if decision.kind != DecisionKind::Miss {
            *self.hits_by_steps.entry(decision.skipped_steps).or_insert(0) += 1;
        }
    }

    /// Decides if it is time to.
    pub(super) fn tick(&mut self, now: Time) -> Option<(Allocation, Tick)> {
        if self.next_decision().is_none_or(|due| due > now) {
            return None;
        }
        let demand = self.demand(now);
        self.previous = now;
        self.routed = 0;
        self.hits_by_steps.clear();
        let decided = self.policy.decide(now, demand.as_ref())?;
        let targets = decided.allocation.counts(self.models);
        let tick = Tick {
            wanted_large: decided.wanted_large,
            controller_state: decided.controller_state,
            n_large: targets[0],
            request_rate_per_min: demand.map_or(0.0, |demand| demand.rate_per_min()),
            hit_rate: demand.map_or(0.0, |demand| demand.hit_rate()),
            refine_fraction: demand.map_or(0.0, |demand| demand.refine_fraction),
            overloaded: decided.overloaded,
            targets,
        };
        Some((decided.allocation, tick))
    }

    fn demand(&self, now: Time) -> Option<Demand> {
        if self.routed == 0 {
            return None;
        }
        let hits: u64 = self.hits_by_steps.values().sum();
        let fractions = self
            .hits_by_steps
            .iter()
            .fold(0.0, |sum, (&steps, &count)| sum + count as f64 * refine_fraction(steps, self.total_steps));
        let refine_fraction = if hits == 0 { 0.0 } else { fractions / hits as f64 };
        Some(Demand { window: now.since(self.previous), requests: self.routed, hits, refine_fraction })
    }
}
