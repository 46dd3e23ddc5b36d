//! Nirvana (NSDI '24): a hit starts from an intermediate state of the large model, found by the prompt that made the
//! state, and saves the first k steps. The large model serves hits too, so a hit saves less time than with a small
//! model.

use super::{Bounds, Load, Route, RoutingPolicy, Storage};
use crate::cache::Candidate;
use crate::request::Request;
use crate::scheduler::action::Decision;

/// Bounds that a similarity must exceed, as set by the authors of MoDM.
pub(super) const BOUNDS: &[(f64, u32)] = &[(0.65, 5), (0.75, 10), (0.85, 15), (0.90, 20), (0.95, 25)];

/// Routing policy of Nirvana: text-to-text retrieval over intermediate states.
#[derive(Clone, Debug)]
pub struct Nirvana {
    bounds: Bounds,
}

impl Nirvana {
    /// Makes the policy with these bounds. An entry stores one state for each distinct number of skipped steps of the
    /// bounds.
    #[must_use]
    pub const fn new(bounds: Bounds) -> Self {
        Self { bounds }
    }
}

impl RoutingPolicy for Nirvana {
    fn storage(&self) -> Storage {
        Storage::ByPrompt(self.bounds.distinct_steps())
    }

    fn route(&mut self, _: &Request, nearest: Option<Candidate<'_>>, _: &Load) -> Route {
        let usable = nearest.and_then(|found| {
            let allowed = self.bounds.skipped(found.similarity)?;
            // An entry may have lost some states, so the largest state that is left and allowed is used.
            let stored = found.states.iter().copied().filter(|state| *state <= allowed).max()?;
            Some((found, stored))
        });
        let decision = usable.map_or_else(|| Decision::miss(nearest), |(found, stored)| Decision::hit(found, stored));
        Route::Queue(decision)
    }
}
