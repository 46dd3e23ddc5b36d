//! Allocation policies: the model that each worker should hold. Each policy has a file of its own, including
//! `static_split`, which never changes anything and is the baseline.

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

pub use cascade::{CascadeAllocation, CascadeSettings, Choice, QueueDelay, StageDemand};
pub use modm::{Mode, ModmAllocation, ModmSettings, Pid, Switching};
pub(super) use outlook::{Outlook, Task};
pub use static_split::StaticSplit;
pub use what_if::{WhatIf, WhatIfSettings};

/// Condition under which large workers may serve hits. Waiting misses count only if the queue serves misses first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LargeTakesHits {
    /// Condition that no miss waits.
    #[default]
    WithoutMisses,
    /// Condition that no miss waits, and that no worker has as its target a small model that may serve the hit.
    WithoutSmall,
}

/// Target model of every worker.
#[derive(Clone, Debug, PartialEq)]
pub struct Allocation {
    /// Target model, by worker.
    pub targets: Vec<ModelId>,
    /// Condition under which large workers may serve hits.
    pub large_takes_hits: LargeTakesHits,
    /// Threshold and batch sizes of a cascade; `None` for other systems.
    pub cascade: Option<Cascade>,
}

/// Part of an allocation that only a cascade has: threshold and batch sizes.
#[derive(Clone, Debug, PartialEq)]
pub struct Cascade {
    /// Confidence below which a draft is made again by a large model.
    pub threshold: f64,
    /// Largest number of requests of a job, by model. If the list is empty, the limit of the scenario holds.
    pub batches: SmallVec<[u32; 3]>,
}

impl Allocation {
    /// Makes an allocation with these targets. Large workers serve hits whenever no miss waits.
    #[must_use]
    pub const fn new(targets: Vec<ModelId>) -> Self {
        Self { targets, large_takes_hits: LargeTakesHits::WithoutMisses, cascade: None }
    }

    /// Makes an allocation in which the first `n_large` of `workers` hold the large model and the others hold `small`.
    #[must_use]
    pub fn split(workers: usize, n_large: usize, small: ModelId) -> Self {
        let target = |worker| if worker < n_large { ModelId::LARGE } else { small };
        Self::new((0..workers).map(target).collect())
    }

    /// Counts the workers by target model, for `models` models.
    #[must_use]
    pub fn counts(&self, models: usize) -> SmallVec<[u32; 3]> {
        let mut counts = SmallVec::from_elem(0, models);
        for target in &self.targets {
            counts[target.index()] += 1;
        }
        counts
    }
}

/// Requests routed since the previous decision. The pictures of a request count one by one.
#[derive(Clone, Debug, PartialEq)]
pub struct Demand {
    /// Time since the previous decision.
    pub window: Duration,
    /// Number of requests routed.
    pub requests: u64,
    /// Number of hits among these requests.
    pub hits: u64,
    /// Mean over the hits of what is left of a full generation, by model: 1 - k/T, where k is the number of steps that
    /// the model skips and T the number of its steps, summed in order of k (docs/semantics.md, section 10, for requests
    /// that differ). 0 without hits.
    pub refined: SmallVec<[f64; 3]>,
    /// Mean over the other requests of their time on the large model in full generations; 1 if they are alike.
    pub drawn: f64,
}

impl Demand {
    /// Returns the rate of requests per minute.
    pub fn rate_per_min(&self) -> f64 {
        self.requests as f64 / (self.window.seconds() / 60.0)
    }

    /// Returns the mean that is left of a full generation on the first small model, or on the large one if it is alone.
    pub fn refine_fraction(&self) -> f64 {
        self.refined.get(1).or(self.refined.first()).copied().unwrap_or_default()
    }

    /// Returns the misses as a share of the requests, weighed by their time in full generations.
    fn misses(&self) -> f64 {
        (1.0 - self.hit_rate()) * self.drawn
    }

    /// Returns the hits as a share of the requests, in full generations by a model.
    fn hits_by(&self, model: ModelId) -> f64 {
        self.hit_rate() * self.refined[model.index()]
    }

    /// Returns the share of hits among the requests.
    pub fn hit_rate(&self) -> f64 {
        self.hits as f64 / self.requests as f64
    }
}

/// State of a worker that is not down, as the core expects it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Number of the worker.
    pub worker: WorkerId,
    /// GPU type of the worker.
    pub gpu: GpuId,
    /// Models that the worker holds once its present job or load has ended. Empty for a worker that came back without a
    /// model.
    pub holds: ModelSet,
    /// Model that the worker should hold.
    pub target: ModelId,
    /// Time at which the present job or load is expected to end according to the profile, never before now.
    pub free: Time,
}

/// Class of requests of equal work.
#[derive(Clone, Debug, PartialEq)]
pub struct Class {
    /// Kind of decision: miss, draft or hit.
    pub kind: DecisionKind,
    /// Number of skipped steps.
    pub skipped_steps: u32,
    /// Expected time by GPU type, then model. `None` for a model that may not serve the class or does not fit the GPU.
    pub times: Arc<[Option<Duration>]>,
    /// Number of all waiting requests of the class, including those that [`Situation::waiting`] leaves out.
    pub waiting: usize,
    /// Number of the late ones among them.
    pub late: usize,
}

/// Returns whether any late request waits.
fn any_late(classes: &[Class]) -> bool {
    classes.iter().any(|class| class.late > 0)
}

/// Waiting request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Class of the request, as an index into [`Situation::classes`].
    pub class: usize,
    /// Time by which the request should be finished.
    pub due: Time,
}

/// Facts that a policy may use in a decision. They include nothing about future arrivals, and only the expected times
/// of running jobs.
#[derive(Clone, Debug, Default)]
pub struct Situation {
    /// Demand since the previous decision; `None` if no request was routed.
    pub demand: Option<Demand>,
    /// Workers that are not down, in order of their numbers.
    pub seats: Vec<Seat>,
    /// Largest number of requests of a job.
    pub most_together: u32,
    /// Classes seen so far. The list only grows, so indices stay valid.
    pub classes: Vec<Class>,
    /// True if the queue is overrun: hits are few and many late requests wait for each worker.
    pub overrun: bool,
    /// First of the waiting requests in time, in the order of service. There are enough for each worker that the
    /// requests left out start only long after the decision. [`Class::waiting`] counts all waiting requests. Empty for
    /// policies whose [`AllocationPolicy::needs_waiting`] is false.
    pub waiting: Vec<Waiting>,
}

/// Times of decisions at multiples of a period.
#[derive(Clone, Copy, Debug)]
struct Ticks {
    period: Duration,
    next: Time,
}

impl Ticks {
    /// Makes ticks, the first of them one period after time zero.
    fn new(period: Duration) -> Self {
        assert!(period > Duration::ZERO, "a period of zero was refused with the scenario");
        Self { period, next: Time::ZERO + period }
    }

    /// Skips the ticks due by `now`. Returns the time at which the last of them was due. A live loop may be late, but
    /// ticks stay multiples of the period.
    fn pass_over(&mut self, now: Time) -> Time {
        let last = Time::from_nanoseconds(now.nanoseconds() / self.period.nanoseconds() * self.period.nanoseconds());
        self.next = last + self.period;
        last
    }
}

/// Decision of an allocation policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Decided {
    /// Allocation that holds from now on.
    pub allocation: Allocation,
    /// Number of large workers that the policy wants, before its controller smooths the change.
    pub wanted_large: u32,
    /// State of the controller after the decision, as a real number of large workers.
    pub controller_state: f64,
    /// True if the load exceeds the capacity of the cluster; `None` if the policy cannot tell.
    pub overloaded: Option<bool>,
}

/// Policy that decides which model each worker should hold. A policy sees the profile, at construction, and the
/// situation at each decision, but never the random draws of the simulator.
pub trait AllocationPolicy: core::fmt::Debug + Send {
    /// Returns the allocation at time zero.
    fn initial(&self) -> Allocation;
    /// Returns the time of the next decision; `None` if none is planned.
    fn next_decision(&self) -> Option<Time>;
    /// Decides on the allocation, at or after [`Self::next_decision`], which afterwards is later than `now` or `None`.
    /// Returns `None` to keep the present allocation.
    fn decide(&mut self, now: Time, situation: &Situation) -> Option<Decided>;
    /// Returns whether a decision without demand changes nothing. The core then asks for no decision while no request
    /// is routed, so that a long silence costs no time, however short the period.
    fn needs_demand(&self) -> bool {
        false
    }
    /// Returns whether the policy reads [`Situation::waiting`]. The core fills the list only then, because this takes
    /// longer than most decisions.
    fn needs_waiting(&self) -> bool {
        true
    }
    /// Notes that a request was routed to the queue, with its class and the time left until it should be finished.
    fn observe(&mut self, _now: Time, _class: usize, _left: Duration) {}
    /// Notes an event that may call for a decision. Returns whether a decision is due now. Policies that decide at
    /// events implement this method; other policies decide at [`Self::next_decision`] only.
    fn happened(&mut self, _now: Time) -> bool {
        false
    }
    /// Skips the decisions due by `now`, none of which had any demand. Returns the time at which the last of them was
    /// due. Used only for policies that need demand.
    fn pass_over(&mut self, now: Time) -> Time {
        now
    }
}
