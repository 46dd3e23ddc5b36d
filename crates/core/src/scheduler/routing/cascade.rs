//! Cascade (`DiffServe`, `MLSys` '25): a light model drafts every image, and a heavy model makes the image again if the
//! confidence in the draft is below a threshold. No image is cached. The allocation policy (`allocation::cascade`)
//! decides the threshold and the models of the workers.

use super::{Load, Route, RoutingPolicy, Storage};
use crate::cache::Candidate;
use crate::request::Request;
use crate::scheduler::action::{Decision, DecisionKind};

/// Routing policy that makes a draft for every request first.
#[derive(Clone, Copy, Debug)]
pub struct Cascade;

impl RoutingPolicy for Cascade {
    fn storage(&self) -> Storage {
        Storage::None
    }

    fn route(&mut self, _: &Request, _: Option<Candidate<'_>>, _: &Load) -> Route {
        Route::Queue(Decision::new(DecisionKind::Draft))
    }

    fn redecide(&mut self, made: &Decision, confidence: Option<f64>, threshold: f64) -> Option<Decision> {
        // A draft without a confidence is not delivered: it is made again.
        let unsure = made.kind == DecisionKind::Draft && confidence.is_none_or(|confidence| confidence < threshold);
        unsure.then(|| Decision::new(DecisionKind::Miss))
    }
}
