//! `MoDM` (ASPLOS '26, arXiv 2503.11972): a small model refines a hit from a final image that is similar to the prompt.
//! The system is of no use for prompts without locality: then the large model makes every image.

use super::{Levels, Load, Route, RoutingPolicy, Storage};
use crate::cache::Candidate;
use crate::request::Request;
use crate::scheduler::action::Decision;

/// Bounds of the paper for CLIP ViT-L/14, calibrated to keep 0.95 of the large model's quality.
pub(super) const BOUNDS: &[(f64, u32)] = &[(0.25, 5), (0.27, 10), (0.28, 15), (0.29, 25), (0.30, 30)];

/// Routing policy of MoDM: text-to-image retrieval over final images.
#[derive(Clone, Debug)]
pub struct Modm {
    levels: Levels,
}

impl Modm {
    /// Makes the policy with these levels. The paper has one level.
    #[must_use]
    pub const fn new(levels: Levels) -> Self {
        Self { levels }
    }
}

impl RoutingPolicy for Modm {
    fn storage(&self) -> Storage {
        Storage::ByImage
    }

    fn route(&mut self, _: &Request, nearest: Option<Candidate<'_>>, _: &Load) -> Route {
        let level = self.levels.level();
        let bounds = self.levels.bounds(level);
        match nearest.and_then(|found| Some((found, bounds.skipped(found.similarity)?))) {
            Some((found, skipped)) => Route::Queue(Decision { level, ..Decision::hit(found, skipped) }),
            None => Route::Queue(Decision::miss(nearest)),
        }
    }

    fn routed(&mut self, decision: &Decision, load: &Load) {
        self.levels.routed(decision.kind.is_hit().then_some(decision.level), load);
    }
}
