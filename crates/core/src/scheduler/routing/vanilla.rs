//! Vanilla: the large model serves every request, and no image is reused. Every other system is compared with this
//! baseline.

use super::{Load, Route, RoutingPolicy, Storage};
use crate::cache::Candidate;
use crate::request::Request;
use crate::scheduler::action::Decision;

/// Routing policy under which every request is a miss.
#[derive(Clone, Copy, Debug)]
pub struct Vanilla;

impl RoutingPolicy for Vanilla {
    fn storage(&self) -> Storage {
        Storage::None
    }

    fn route(&mut self, _: &Request, nearest: Option<Candidate<'_>>, _: &Load) -> Route {
        Route::Queue(Decision::miss(nearest))
    }
}
