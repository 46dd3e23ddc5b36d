//! Global monitor: it counts the requests that are routed between two decisions and lets the allocation policy decide.
//! The rule of the decision belongs to the policy.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use smallvec::SmallVec;

use super::action::{Decision, Tick};
use super::allocation::{Allocation, AllocationPolicy, Demand, Situation};
use crate::model::refine_fraction;
use crate::time::{Duration, Time};

/// Policy that decides, and the demand since its previous decision.
#[derive(Debug)]
pub(super) struct Monitor {
    policy: Box<dyn AllocationPolicy>,
    models: usize,
    total_steps: u32,
    previous: Time,
    /// True if the next tick has something to decide on: since the last tick a request was routed or a load failed.
    awaited: bool,
    routed: u64,
    hits_by_steps: BTreeMap<u32, u64>,
}

impl Monitor {
    pub(super) fn new(policy: Box<dyn AllocationPolicy>, models: usize, total_steps: u32) -> Self {
        Self {
            policy,
            models,
            total_steps,
            previous: Time::ZERO,
            awaited: false,
            routed: 0,
            hits_by_steps: BTreeMap::new(),
        }
    }

    pub(super) fn initial(&self) -> Allocation {
        self.policy.initial()
    }

    /// Returns the time of the next decision. `None` if the policy needs demand and there is nothing to decide on:
    /// ticks without requests then cost no time.
    pub(super) fn next_decision(&self) -> Option<Time> {
        self.policy.next_decision().filter(|_| self.awaited || !self.policy.needs_demand())
    }

    /// Returns whether the policy uses the waiting requests.
    pub(super) fn needs_waiting(&self) -> bool {
        self.policy.needs_waiting()
    }

    /// Notes that the next tick has something to decide on.
    pub(super) fn await_tick(&mut self, now: Time) {
        if !self.awaited && self.policy.needs_demand() {
            // The window of that tick begins at the last of the ticks that were passed over.
            self.previous = self.previous.max(self.policy.pass_over(now));
        }
        self.awaited = true;
    }

    /// Counts a request that was routed for the first time.
    pub(super) fn observe(&mut self, now: Time, decision: &Decision) {
        self.await_tick(now);
        self.routed += 1;
        if decision.kind.is_hit() {
            *self.hits_by_steps.entry(decision.skipped_steps).or_insert(0) += 1;
        }
    }

    /// Tells the policy the class of a routed request, and the time left until the request is due.
    pub(super) fn waits(&mut self, now: Time, class: usize, left: Duration) {
        self.policy.observe(now, class, left);
    }

    /// Tells the policy that an event happened. Returns whether a decision is due.
    pub(super) fn happened(&mut self, now: Time) -> bool {
        self.policy.happened(now)
    }

    /// Decides if a decision is due. Calls `rest`, which makes the situation without its demand, only then.
    pub(super) fn tick(&mut self, now: Time, rest: impl FnOnce() -> Situation) -> Option<(Allocation, Tick)> {
        // A wake-up may be for a waiting request and not for the monitor.
        if self.next_decision().is_none_or(|due| due > now) {
            return None;
        }
        let demand = self.demand(now);
        let decided = self.policy.decide(now, &Situation { demand, ..rest() });
        // A policy that decides at events mostly changes nothing. That is no tick, so that the window of the next tick
        // goes on.
        if decided.is_some() || self.policy.needs_demand() {
            self.previous = now;
            self.routed = 0;
            self.hits_by_steps.clear();
        }
        self.awaited = false;
        let decided = decided?;
        let targets = decided.allocation.counts(self.models);
        let tick = Tick {
            wanted_large: decided.wanted_large,
            controller_state: decided.controller_state,
            n_large: targets[0],
            request_rate_per_min: demand.map_or(0.0, |demand| demand.rate_per_min()),
            hit_rate: demand.map_or(0.0, |demand| demand.hit_rate()),
            refine_fraction: demand.map_or(0.0, |demand| demand.refine_fraction),
            overloaded: decided.overloaded,
            threshold: decided.allocation.cascade.as_ref().map(|cascade| cascade.threshold),
            batches: decided.allocation.cascade.as_ref().map_or_else(SmallVec::new, |cascade| cascade.batches.clone()),
            targets,
            by_worker: if decided.allocation.targets.is_sorted() {
                Vec::new()
            } else {
                decided.allocation.targets.clone()
            },
        };
        Some((decided.allocation, tick))
    }

    fn demand(&self, now: Time) -> Option<Demand> {
        if self.routed == 0 {
            return None;
        }
        let hits: u64 = self.hits_by_steps.values().sum();
        // The map gives the hits in order of k: docs/semantics.md, section 6, fixes the order of this sum.
        let fractions = self
            .hits_by_steps
            .iter()
            .fold(0.0, |sum, (&steps, &count)| sum + count as f64 * refine_fraction(steps, self.total_steps));
        let refine_fraction = if hits == 0 { 0.0 } else { fractions / hits as f64 };
        Some(Demand { window: now.since(self.previous), requests: self.routed, hits, refine_fraction })
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::scheduler::DecisionKind;
    use crate::scheduler::allocation::{Mode, ModmAllocation, ModmSettings, Switching};

    fn at(nanoseconds: u64) -> Time {
        Time::from_nanoseconds(nanoseconds)
    }

    #[test]
    fn ticks_that_nobody_waits_for_are_passed_over_and_the_others_stay_where_they_were() {
        let settings = ModmSettings {
            mode: Mode::Quality,
            period: Duration::from_nanoseconds(100),
            headroom: 0.9,
            pid: None,
            workers: 2,
            initial_large: 2,
            rates: vec![1.0, 2.0],
            switching: Switching::default(),
        };
        let mut monitor = Monitor::new(Box::new(ModmAllocation::new(settings)), 2, 50);
        let miss = Decision::new(DecisionKind::Miss);
        assert_eq!(monitor.next_decision(), None);
        monitor.observe(at(10_000_000_000_000_030), &miss);
        assert_eq!(monitor.next_decision(), Some(at(10_000_000_000_000_100)));
        let window = monitor.demand(at(10_000_000_000_000_100)).map(|demand| demand.window);
        assert_eq!(window, Some(Duration::from_nanoseconds(100)), "one period, however long the silence before");
        assert!(monitor.tick(at(10_000_000_000_000_100), Situation::default).is_some());
        assert_eq!(monitor.next_decision(), None);
        // A request routed at the time of a tick counts for the next one, because ticks come before routing.
        monitor.observe(at(10_000_000_000_000_300), &miss);
        assert_eq!(monitor.next_decision(), Some(at(10_000_000_000_000_400)));
        assert!(monitor.tick(at(10_000_000_000_000_400), Situation::default).is_some());
        // A failed load needs the next tick as well.
        monitor.await_tick(at(10_000_000_000_000_401));
        assert_eq!(monitor.next_decision(), Some(at(10_000_000_000_000_500)));
        assert!(monitor.tick(at(10_000_000_000_000_500), Situation::default).is_none(), "no demand, no decision");
        assert_eq!(monitor.next_decision(), None);
    }
}
