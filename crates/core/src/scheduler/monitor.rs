//! Global monitor: it counts the requests that are routed between two decisions and lets the allocation policy decide.
//! The rule of the decision belongs to the policy.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use smallvec::SmallVec;

use super::action::{Decision, Tick};
use super::allocation::{Allocation, AllocationPolicy, Demand, Situation};
use super::hardware::Hardware;
use crate::denoising::Denoising;
use crate::model::{GpuId, ModelId};
use crate::request::Shape;
use crate::time::{Duration, Time};

/// Policy that decides, and the demand since its previous decision.
#[derive(Debug)]
pub(super) struct Monitor {
    policy: Box<dyn AllocationPolicy>,
    models: usize,
    denoising: Denoising,
    hardware: Hardware,
    previous: Time,
    /// True if the next tick has something to decide on: since the last tick a request was routed or a load failed.
    awaited: bool,
    routed: u64,
    /// Hits by skipped steps, then size and steps.
    hits: BTreeMap<(u32, Shape), u64>,
    /// Requests that are no hits and not usual, by size and steps.
    others: BTreeMap<Shape, u64>,
}

impl Monitor {
    pub(super) fn new(
        policy: Box<dyn AllocationPolicy>,
        models: usize,
        denoising: Denoising,
        hardware: Hardware,
    ) -> Self {
        Self {
            policy,
            models,
            denoising,
            hardware,
            previous: Time::ZERO,
            awaited: false,
            routed: 0,
            hits: BTreeMap::new(),
            others: BTreeMap::new(),
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

    /// Counts a request that was routed for the first time, with the size and the steps that it asks for.
    pub(super) fn observe(&mut self, now: Time, decision: &Decision, shape: Shape) {
        self.await_tick(now);
        self.routed += 1;
        if decision.kind.is_hit() {
            *self.hits.entry((decision.skipped_steps, shape)).or_insert(0) += 1;
        } else if shape != Shape::default() {
            *self.others.entry(shape).or_insert(0) += 1;
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
        let decided = self.policy.decide(now, &Situation { demand: demand.clone(), ..rest() });
        // A policy that decides at events mostly changes nothing. That is no tick, so that the window of the next tick
        // goes on.
        if decided.is_some() || self.policy.needs_demand() {
            self.previous = now;
            self.routed = 0;
            self.hits.clear();
            self.others.clear();
        }
        self.awaited = false;
        let decided = decided?;
        let targets = decided.allocation.counts(self.models);
        let tick = Tick {
            wanted_large: decided.wanted_large,
            controller_state: decided.controller_state,
            n_large: targets[0],
            request_rate_per_min: demand.as_ref().map_or(0.0, Demand::rate_per_min),
            hit_rate: demand.as_ref().map_or(0.0, Demand::hit_rate),
            refine_fraction: demand.as_ref().map_or(0.0, Demand::refine_fraction),
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
        let hits: u64 = self.hits.values().sum();
        let models = (0..self.models as u16).map(ModelId);
        Some(Demand {
            window: now.since(self.previous),
            requests: self.routed,
            hits,
            refined: models.map(|model| if hits == 0 { 0.0 } else { self.refined(model) / hits as f64 }).collect(),
            drawn: if hits == self.routed { 1.0 } else { self.drawn(self.routed - hits) },
        })
    }

    /// Returns what the hits ask of a model, in its full generations of the usual size.
    fn refined(&self, model: ModelId) -> f64 {
        let Self { denoising, hardware, hits, .. } = self;
        let usual = denoising.steps(model, Shape::default());
        // The map gives the hits in order of k: docs/semantics.md, section 6, fixes the order of this sum.
        hits.iter().fold(0.0, |sum, (&(skipped, shape), &count)| {
            // A return leaves nothing to any model.
            if skipped == denoising.large_steps() {
                return sum;
            }
            let work = denoising.refinement(model, shape, skipped);
            sum + count as f64 * hardware.profile.share(GpuId(0), work, usual)
        })
    }

    /// Returns the mean over `count` requests that are no hits of what they ask of the large model, in full generations
    /// of the usual size.
    fn drawn(&self, count: u64) -> f64 {
        let Self { denoising, hardware, others, .. } = self;
        let usual = count - others.values().sum::<u64>();
        let all = others.iter().fold(usual as f64, |sum, (&shape, &count)| {
            let work = denoising.full(ModelId::LARGE, shape);
            sum + count as f64 * hardware.profile.share(GpuId(0), work, denoising.large_steps())
        });
        all / count as f64
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
            least_small: 0,
            rates: vec![1.0, 2.0],
            switching: Switching::default(),
        };
        let mut monitor = Monitor::new(
            Box::new(ModmAllocation::new(settings)),
            2,
            Denoising::alike(2, 50),
            Hardware::unmeasured(2, 2),
        );
        let miss = Decision::new(DecisionKind::Miss);
        assert_eq!(monitor.next_decision(), None);
        monitor.observe(at(10_000_000_000_000_030), &miss, Shape::default());
        assert_eq!(monitor.next_decision(), Some(at(10_000_000_000_000_100)));
        let window = monitor.demand(at(10_000_000_000_000_100)).map(|demand| demand.window);
        assert_eq!(window, Some(Duration::from_nanoseconds(100)), "one period, however long the silence before");
        assert!(monitor.tick(at(10_000_000_000_000_100), Situation::default).is_some());
        assert_eq!(monitor.next_decision(), None);
        // A request routed at the time of a tick counts for the next one, because ticks come before routing.
        monitor.observe(at(10_000_000_000_000_300), &miss, Shape::default());
        assert_eq!(monitor.next_decision(), Some(at(10_000_000_000_000_400)));
        assert!(monitor.tick(at(10_000_000_000_000_400), Situation::default).is_some());
        // A failed load needs the next tick as well.
        monitor.await_tick(at(10_000_000_000_000_401));
        assert_eq!(monitor.next_decision(), Some(at(10_000_000_000_000_500)));
        assert!(monitor.tick(at(10_000_000_000_000_500), Situation::default).is_none(), "no demand, no decision");
        assert_eq!(monitor.next_decision(), None);
    }
}
