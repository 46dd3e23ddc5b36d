//! Which model each worker should hold. One file a policy; the null one sits beside the clever one.

use smallvec::SmallVec;

use crate::model::ModelId;
use crate::time::{Duration, Time};

pub mod modm;
mod static_split;

pub use modm::{Mode, ModmAllocation, ModmSettings, Pid, Rates};
pub use static_split::StaticSplit;

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// By worker.
    pub targets: Vec<ModelId>,
    /// What large workers do when no miss is waiting.
    pub large_takes_hits: LargeTakesHits,
}

impl Allocation {
    /// The first `n_large` of `workers` hold the large model, the others `small`.
    #[must_use]
    pub fn split(workers: usize, n_large: usize, small: ModelId) -> Self {
        let target = |worker| if worker < n_large { ModelId::LARGE } else { small };
        Self { targets: (0..workers).map(target).collect(), large_takes_hits: LargeTakesHits::default() }
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
pub trait AllocationPolicy: std::fmt::Debug + Send {
    /// The allocation at time zero.
    fn initial(&self) -> Allocation;
    /// When it wants to decide next; `None` for never.
    fn next_decision(&self) -> Option<Time>;
    /// Decides, at or after [`Self::next_decision`], which then lies after `now`. `demand` is `None` if
    /// nothing was routed since the previous decision.
    fn decide(&mut self, now: Time, demand: Option<&Demand>) -> Option<Decided>;
    /// Whether a decision without demand changes nothing: then nobody asks for one, however short the
    /// period and long the silence.
    fn needs_demand(&self) -> bool {
        false
    }
    /// Passes over the decisions due by `now`, none of which had any demand, and says when the last was
    /// due. For policies that need demand.
    fn pass_over(&mut self, now: Time) -> Time {
        now
    }
}
