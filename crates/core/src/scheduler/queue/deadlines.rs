//! Disciplines that order requests by one number that is known at routing.

use super::{Discipline, Routed};
use crate::request::TenantId;

/// Number by which requests are ordered.
#[derive(Clone, Copy, Debug)]
pub(super) enum By {
    /// Order of routing.
    Routing,
    /// Deadline (EDF).
    Deadline,
    /// Latest start that meets the deadline.
    Slack,
}

impl Discipline for By {
    fn key(&mut self, routed: &Routed, _: TenantId) -> u64 {
        match self {
            // All keys are equal, so that the order of routing decides.
            Self::Routing => 0,
            Self::Deadline => routed.due.nanoseconds(),
            Self::Slack => routed.latest_start(),
        }
    }
}
