//! The large model for every request, nothing reused: the baseline that every other system is held against.

use super::{Load, Route, RoutingPolicy, Storage};
use crate::cache::Candidate;
use crate::request::Request;
use crate::scheduler::action::Decision;

/// Always a miss.
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
