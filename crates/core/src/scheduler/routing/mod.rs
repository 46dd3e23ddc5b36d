//! Routing policies: the requests that hit, and the steps that hits skip. Each system has a file of its own, with its
//! paper if there is one.

use alloc::boxed::Box;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::action::{Decision, DecisionKind};
use super::queue::Order;
use crate::cache::Candidate;
use crate::request::{Rejection, Request};
use crate::time::Time;

pub mod bounds;
mod cascade;
pub mod levels;
mod modm;
mod nirvana;
mod pinecone;
mod vanilla;

pub use bounds::Bounds;
pub use cascade::Cascade;
pub use levels::{Level, Levels};
pub use modm::Modm;
pub use nirvana::Nirvana;
pub use pinecone::Pinecone;
pub use vanilla::Vanilla;

/// Load of the cluster when a request is routed.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Time of routing.
    pub now: Time,
    /// Number of misses that wait for a worker.
    pub waiting_misses: usize,
    /// Number of hits that wait for a worker.
    pub waiting_hits: usize,
    /// Number of workers of the cluster.
    pub workers: usize,
}

/// Route of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Route {
    /// Wait in the queue for a worker.
    Queue(Decision),
    /// Answer from the image cache at once.
    Return(Decision),
    /// Rejection, with the reason.
    Reject(Rejection),
}

impl Route {
    /// Returns whether the request is a miss: no entry that was found is of use.
    pub fn is_miss(&self) -> bool {
        matches!(self, Self::Queue(decision) if decision.kind == DecisionKind::Miss)
    }
}

/// Images that a system caches, and the embeddings by which it finds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// No image cache.
    None,
    /// Final images, found by the embedding of the image itself (text to image).
    ByImage,
    /// Images of misses, found by the embedding of their prompt (text to text). An entry has one intermediate state for
    /// each of these numbers of skipped steps; if the list is empty, it has the final image.
    ByPrompt(Vec<u32>),
}

/// Policy that routes requests. The same history and the same inputs give the same route.
pub trait RoutingPolicy: core::fmt::Debug + Send {
    /// Returns the images that the policy caches and looks up.
    fn storage(&self) -> Storage;
    /// Decides on a request whose nearest entry is `nearest`. The core may call this method several times for a
    /// request: for each part of the cache that it searches, and with `None` if the source of a hit cannot be read.
    fn route(&mut self, request: &Request, nearest: Option<Candidate<'_>>, load: &Load) -> Route;
    /// Notes the decision on a request that was routed for the first time.
    fn routed(&mut self, _decision: &Decision, _load: &Load) {}
    /// Returns the decision with which an image that was made is made again, given the confidence in the image; `None`
    /// if the image is good enough.
    fn redecide(&mut self, _made: &Decision, _confidence: Option<f64>, _threshold: f64) -> Option<Decision> {
        None
    }
}

/// System of a scenario, as named in `system.policy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum System {
    /// Large model for every request: the baseline. Not where similar prompts come back.
    Vanilla,
    /// Intermediate states of the large model, found by prompt (Nirvana, NSDI '24). Not where memory for states is
    /// dear, or where a small model could serve hits.
    Nirvana,
    /// Images of similar prompts, returned as they are. Not where prompts look alike and mean different things.
    Pinecone,
    /// Light model for every request first, heavy model if the confidence in the draft is low (`DiffServe`, `MLSys`
    /// '25). Not without a measure of confidence.
    Cascade,
    /// Final images, found by text and refined by small models (MoDM, ASPLOS '26). Not for prompts without locality.
    #[default]
    Modm,
}

impl System {
    /// Returns the name of the system in scenarios.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vanilla => "vanilla",
            Self::Nirvana => "nirvana",
            Self::Pinecone => "pinecone",
            Self::Cascade => "cascade",
            Self::Modm => "modm",
        }
    }

    /// Returns the default bounds of the system for the default of 50 denoising steps; `None` for a system without
    /// bounds.
    #[must_use]
    pub const fn default_bounds(self) -> Option<&'static [(f64, u32)]> {
        match self {
            Self::Vanilla | Self::Cascade => None,
            Self::Nirvana => Some(nirvana::BOUNDS),
            Self::Pinecone => Some(pinecone::BOUNDS),
            Self::Modm => Some(modm::BOUNDS),
        }
    }

    /// Makes the routing policy of the system with these bounds, for `total_steps` denoising steps.
    #[must_use]
    pub fn build(self, bounds: &[(f64, u32)], total_steps: u32) -> Box<dyn RoutingPolicy> {
        match self {
            Self::Vanilla => Box::new(Vanilla),
            Self::Cascade => Box::new(Cascade),
            Self::Nirvana => Box::new(Nirvana::new(Bounds::above(bounds))),
            Self::Pinecone => Box::new(Pinecone::new(Bounds::at_or_above(bounds), total_steps)),
            Self::Modm => Box::new(Modm::new(Levels::always(Bounds::at_or_above(bounds)))),
        }
    }

    /// Returns the numbers of steps that hits may skip with these bounds, in rising order: all `total_steps` for a
    /// system that returns images unchanged.
    #[must_use]
    pub fn skipped_steps(self, bounds: &[(f64, u32)], total_steps: u32) -> Vec<u32> {
        match self {
            Self::Pinecone => vec![total_steps],
            // Whether a bound is strict does not change the steps.
            Self::Vanilla | Self::Cascade | Self::Nirvana | Self::Modm => Bounds::at_or_above(bounds).distinct_steps(),
        }
    }

    /// Returns the order of the queue if the scenario sets none: the paper's two queues for MoDM, one queue for the
    /// other systems.
    #[must_use]
    pub const fn default_order(self) -> Order {
        match self {
            Self::Vanilla | Self::Nirvana | Self::Pinecone | Self::Cascade => Order::Oldest,
            Self::Modm => Order::MissesFirst,
        }
    }

    /// Returns whether the system uses small models and a monitor.
    #[must_use]
    pub const fn has_small_models(self) -> bool {
        matches!(self, Self::Modm | Self::Cascade)
    }
}
