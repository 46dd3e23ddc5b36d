//! Nirvana (NSDI '24): intermediate states of the large model, found by the prompt that made them, save
//! their first k steps. The large model serves hits too, so it saves less than a small model would.

use super::{Bounds, Load, Route, RoutingPolicy, Storage};
use crate::cache::Candidate;
use crate::request::Request;
use crate::scheduler::action::Decision;

/// Strictly above; as `MoDM`'s authors set it up.
pub(super) const BOUNDS: &[(f64, u32)] = &[(0.65, 5), (0.75, 10), (0.85, 15), (0.90, 20), (0.95, 25)];

/// Text-to-text retrieval over intermediate states.
#[derive(Clone, Debug)]
pub struct Nirvana {
    bounds: Bounds,
}

impl Nirvana {
    /// With these bounds; one state is stored for each of their distinct numbers of steps.
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
            let stored = found.states.iter().copied().filter(|state| *state <= allowed).max()?;
            Some((found, stored))
        });
        let decision = usable.map_or_else(|| Decision::miss(nearest), |(found, stored)| Decision::hit(found, stored));
        Route::Queue(decision)
    }
}
