//! A cascade (`DiffServe`, `MLSys` '25): a light model drafts every image, and a heavy one makes it again where the
//! confidence in the draft is below a threshold. Nothing is cached. Which threshold, and who holds what, is the
//! allocation's business (`allocation::cascade`).

use super::{Load, Route, RoutingPolicy, Storage};
use crate::cache::Candidate;
use crate::request::Request;
use crate::scheduler::action::{Decision, DecisionKind};

/// Drafts first.
#[derive(Clone, Copy, Debug)]
pub struct Cascade;

impl RoutingPolicy for Cascade {
    fn storage(&self) -> Storage {
        Storage::None
    }

    fn route(&mut self, _: &Request, _: Option<Candidate<'_>>, _: &Load) -> Route {
        Route::Queue(Decision::of(DecisionKind::Draft))
    }

    fn again(&mut self, made: &Decision, confidence: Option<f64>, threshold: f64) -> Option<Decision> {
        // A draft that nobody judged is not sent.
        let unsure = made.kind == DecisionKind::Draft && confidence.is_none_or(|confidence| confidence < threshold);
        unsure.then(|| Decision::of(DecisionKind::Miss))
    }
}
