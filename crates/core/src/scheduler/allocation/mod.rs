//! Which model each worker should hold. One file a policy; the null one sits beside the clever one.

use alloc::sync::Arc;
use alloc::vec::Vec;

use smallvec::SmallVec;

use super::action::DecisionKind;
use super::event::WorkerId;
use crate::model::{GpuId, ModelId, ModelSet};
use crate::time::{Duration, Time};

mod cascade;
pub mod modm;
mod outlook;
mod static_split;
mod what_if;

pub use cascade::{Asked, CascadeAllocation, CascadeSettings, Choice, QueueDelay};
pub use modm::{Mode, ModmAllocation, ModmSettings, Pid, Rates};
pub(super) use outlook::{Outlook, Task};
pub use static_split::StaticSplit;
pub use what_if::{WhatIf, WhatIfSettings};

/// When idle large workers may take hits although no miss is waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LargeTakesHits {
    /// Whenever no miss is waiting.
    #[default]
    WithoutMisses,
    /// Only while no worker has a small model as its target.
    WithoutSmall,
}

/// Target model of every worker.
#[derive(Clone, Debug, PartialEq)]
pub struct Allocation {
    /// By worker.
    pub targets: Vec<ModelId>,
    /// What large workers do when no miss is waiting.
    pub large_takes_hits: LargeTakesHits,
    /// What else a cascade's allocation decides.
    pub cascade: Option<Cascade>,
}

/// What a cascade's allocation decides besides who holds what.
#[derive(Clone, Debug, PartialEq)]
pub struct Cascade {
    /// A draft is made again by a large model if the confidence in it is below this.
    pub threshold: f64,
    /// The most requests of a job, by model; what the scenario allows if empty.
    pub batches: SmallVec<[u32; 3]>,
}

impl Allocation {
    /// These targets; large workers take hits whenever no miss is waiting.
    #[must_use]
    pub const fn of(targets: Vec<ModelId>) -> Self {
        Self { targets, large_takes_hits: LargeTakesHits::WithoutMisses, cascade: None }
    }

    /// The first `n_large` of `workers` hold the large model, the others `small`.
    #[must_use]
    pub fn split(workers: usize, n_large: usize, small: ModelId) -> Self {
        let target = |worker| if worker < n_large { ModelId::LARGE } else { small };
        Self::of((0..workers).map(target).collect())
    }

    /// Workers by target model, for `models` models.
    #[must_use]
    pub fn counts(&self, models: usize) -> SmallVec<[u32; 3]> {
        let mut counts = SmallVec::from_elem(0, models);
        for target in &self.targets {
            counts[target.index()] += 1;
        }
        counts
    }
}

/// What was asked of the system since the previous decision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Demand {
    /// How long that was.
    pub window: Duration,
    /// Requests routed.
    pub requests: u64,
    /// Of these, hits.
    pub hits: u64,
    /// Mean of 1 - k/T over the hits, summed in order of k; 0 without hits.
    pub refine_fraction: f64,
}

impl Demand {
    /// Requests a minute.
    pub fn rate_per_min(&self) -> f64 {
        self.requests as f64 / (self.window.seconds() / 60.0)
    }

    /// Hits / requests.
    pub fn hit_rate(&self) -> f64 {
        self.hits as f64 / self.requests as f64
    }
}

/// A worker that is not down, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Which.
    pub worker: WorkerId,
    /// What it is.
    pub gpu: GpuId,
    /// What it holds once it is done with what it does; nothing for a worker that is back without a model.
    pub holds: ModelSet,
    /// What it should hold.
    pub target: ModelId,
    /// When it is expected to be done with what it does, by the profile; not before now.
    pub free: Time,
}

/// Requests of equal work.
#[derive(Clone, Debug, PartialEq)]
pub struct Class {
    /// Miss or hit.
    pub kind: DecisionKind,
    /// Steps skipped.
    pub skipped_steps: u32,
    /// Expected time by GPU type, then model; `None` for models that may not serve it.
    pub times: Arc<[Option<Duration>]>,
    /// Number of its requests that wait, all of them.
    pub waiting: usize,
}

/// A request that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// What it is, as a place in the list of classes.
    pub class: usize,
    /// When it should be finished.
    pub due: Time,
}

/// What a policy may know when it decides: nothing of what is to come, and of what runs only what the profile expects.
#[derive(Clone, Debug, Default)]
pub struct Situation {
    /// `None` if nothing was routed since the previous decision.
    pub demand: Option<Demand>,
    /// The workers that are not down, in order.
    pub seats: Vec<Seat>,
    /// The most requests of a job.
    pub most_together: u32,
    /// The classes there were so far; the list only grows.
    pub classes: Vec<Class>,
    /// Whether so many late requests wait that time is lost for long.
    pub overrun: bool,
    /// What waits, in the order in which it would be served: the first of it, so many for each worker that what is
    /// left out does not matter to anything near. [`Class::waiting`] counts all of it. Empty for policies that do not look
    /// at it.
    pub waiting: Vec<Waiting>,
}

/// Decisions at multiples of a period.
#[derive(Clone, Copy, Debug)]
struct Ticks {
    period: Duration,
    next: Time,
}

impl Ticks {
    /// The first is one period after zero.
    fn new(period: Duration) -> Self {
        assert!(period > Duration::ZERO, "a period of zero was refused with the scenario");
        Self { period, next: Time::ZERO + period }
    }

    /// Passes over those due by now, and says when the last was due. A live loop may be late; the ticks stay multiples.
    fn pass_over(&mut self, now: Time) -> Time {
        let last = Time::from_nanoseconds(now.nanoseconds() / self.period.nanoseconds() * self.period.nanoseconds());
        self.next = last + self.period;
        last
    }
}

/// A policy's decision.
#[derive(Clone, Debug, PartialEq)]
pub struct Decided {
    /// What every worker should hold from now on.
    pub allocation: Allocation,
    /// Large workers wanted before the controller.
    pub wanted_large: u32,
    /// The controller's state after the decision.
    pub controller_state: f64,
    /// Whether the load is more than the cluster carries, where the policy can tell.
    pub overloaded: Option<bool>,
}

/// Decides which model each worker should hold. Sees the profile (at construction) and the demand,
/// never the simulator's draws.
pub trait AllocationPolicy: core::fmt::Debug + Send {
    /// The allocation at time zero.
    fn initial(&self) -> Allocation;
    /// When it wants to decide next; `None` for never.
    fn next_decision(&self) -> Option<Time>;
    /// Decides, at or after [`Self::next_decision`], which then lies after `now`.
    fn decide(&mut self, now: Time, situation: &Situation) -> Option<Decided>;
    /// Whether a decision without demand changes nothing: then nobody asks for one, however short the
    /// period and long the silence.
    fn needs_demand(&self) -> bool {
        false
    }
    /// Whether [`Situation::waiting`] is looked at; putting it together takes longer than most decisions.
    fn needs_waiting(&self) -> bool {
        true
    }
    /// A request was routed: its class, and the time that it has left.
    fn observe(&mut self, _now: Time, _class: usize, _left: Duration) {}
    /// Something has happened that may call for a decision, now if this returns true. For policies that decide at
    /// events; others keep to [`Self::next_decision`].
    fn happened(&mut self, _now: Time) -> bool {
        false
    }
    /// Passes over the decisions due by `now`, none of which had any demand, and says when the last was
    /// due. For policies that need demand.
    fn pass_over(&mut self, now: Time) -> Time {
        now
    }
}
