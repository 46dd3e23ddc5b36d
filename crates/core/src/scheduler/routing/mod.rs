//! Which requests hit, and what they skip. One file a system, each with its paper.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::action::{Decision, DecisionKind};
use super::queue::Order;
use crate::cache::Candidate;
use crate::request::Request;
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

/// What is waiting when a request is routed.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// When.
    pub now: Time,
    /// Misses that wait for a worker.
    pub waiting_misses: usize,
    /// Hits that wait for a worker.
    pub waiting_hits: usize,
    /// Workers of the cluster.
    pub workers: usize,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Route {
    /// It waits for a worker.
    Queue(Decision),
    /// It is answered from the cache at once.
    Return(Decision),
    /// It is not accepted, and why.
    Reject(String),
}

impl Route {
    /// Whether nothing that was found is of use.
    pub fn is_miss(&self) -> bool {
        matches!(self, Self::Queue(decision) if decision.kind == DecisionKind::Miss)
    }
}

/// What a system keeps of the images it makes, and how it finds them again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// Nothing is kept or looked up.
    None,
    /// Final images, found by the image's own embedding (text to image).
    ByImage,
    /// Images of misses, found by their prompt's embedding (text to text), with one state for each of
    /// these skipped steps; without any, the final image.
    ByPrompt(Vec<u32>),
}

/// Routes requests. Same history and inputs, same route.
pub trait RoutingPolicy: core::fmt::Debug + Send {
    /// What it keeps and looks up.
    fn storage(&self) -> Storage;
    /// Decides for a request whose nearest entry is `nearest`. Tried again with `None` if its source
    /// turns out to be unreadable.
    fn route(&mut self, request: &Request, nearest: Option<Candidate<'_>>, load: &Load) -> Route;
    /// A request was routed for the first time, to this.
    fn routed(&mut self, _decision: &Decision, _load: &Load) {}
    /// Decides again once an image is there, with the confidence in it; `None` if it will do.
    fn again(&mut self, _made: &Decision, _confidence: Option<f64>, _threshold: f64) -> Option<Decision> {
        None
    }
}

/// The systems by name, as `system.policy` has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum System {
    /// The large model for every request.
    Vanilla,
    /// Intermediate states, text to text.
    Nirvana,
    /// Whole images, text to text.
    Pinecone,
    /// A light model first, a heavy one where the confidence in its draft is low.
    Cascade,
    /// Final images refined by small models, text to image.
    #[default]
    Modm,
}

impl System {
    /// Name in scenarios.
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

    /// Its default bounds for the default of 50 steps; `None` where it has none.
    #[must_use]
    pub const fn default_bounds(self) -> Option<&'static [(f64, u32)]> {
        match self {
            Self::Vanilla | Self::Cascade => None,
            Self::Nirvana => Some(nirvana::BOUNDS),
            Self::Pinecone => Some(pinecone::BOUNDS),
            Self::Modm => Some(modm::BOUNDS),
        }
    }

    /// A policy with these bounds for `total_steps` denoising steps.
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

    /// The steps that its hits may skip with these bounds, rising: all of them where images are returned as they are.
    #[must_use]
    pub fn skipped_steps(self, bounds: &[(f64, u32)], total_steps: u32) -> Vec<u32> {
        match self {
            Self::Pinecone => vec![total_steps],
            Self::Vanilla | Self::Cascade | Self::Nirvana | Self::Modm => Bounds::at_or_above(bounds).distinct_steps(),
        }
    }

    /// Who goes first in it unless the scenario says otherwise: the paper's two queues for `MoDM`, one for the others.
    #[must_use]
    pub const fn default_order(self) -> Order {
        match self {
            Self::Vanilla | Self::Nirvana | Self::Pinecone | Self::Cascade => Order::Oldest,
            Self::Modm => Order::MissesFirst,
        }
    }

    /// Whether small models and a monitor have a place in it.
    #[must_use]
    pub const fn has_small_models(self) -> bool {
        matches!(self, Self::Modm | Self::Cascade)
    }
}
