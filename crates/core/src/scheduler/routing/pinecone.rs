//! Pinecone: a vector database in front of the large model. The image of a sufficiently similar prompt is returned
//! unchanged. The system is fast and cheap, but wrong if two prompts look alike and mean different things.

use alloc::vec::Vec;

use super::{Bounds, Load, Route, RoutingPolicy, Storage};
use crate::cache::Candidate;
use crate::request::Request;
use crate::scheduler::action::Decision;

/// Bound on the similarity. The value is assumed: the authors of MoDM do not print theirs.
pub(super) const BOUNDS: &[(f64, u32)] = &[(0.80, 0)];

/// Routing policy of Pinecone: text-to-text retrieval over final images, which are returned without denoising.
#[derive(Clone, Debug)]
pub struct Pinecone {
    bounds: Bounds,
    total_steps: u32,
}

impl Pinecone {
    /// Makes the policy with these bounds. A returned image counts as `total_steps` skipped.
    #[must_use]
    pub const fn new(bounds: Bounds, total_steps: u32) -> Self {
        Self { bounds, total_steps }
    }
}

impl RoutingPolicy for Pinecone {
    fn storage(&self) -> Storage {
        Storage::ByPrompt(Vec::new())
    }

    fn route(&mut self, _: &Request, nearest: Option<Candidate<'_>>, _: &Load) -> Route {
        // Only the bound counts, and not its number of steps: a return skips all of them.
        match nearest.filter(|found| self.bounds.skipped(found.similarity).is_some()) {
            Some(found) => Route::Return(Decision::returned(found, self.total_steps)),
            None => Route::Queue(Decision::miss(nearest)),
        }
    }
}
