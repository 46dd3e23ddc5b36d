//! `[queue]`: who goes first, by when, and what becomes of those that are late. What that means while requests wait is
//! `scheduler::backlog`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::input::InputError;
use crate::scheduler::{Late, Order};

/// `[queue]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueueSection {
    /// Who goes first; if absent, misses for `modm` and the oldest for the other systems.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// What becomes of a request that can no longer be in time.
    pub late: Late,
    /// When a request without a deadline of its own should be finished: so many full generations on the large model
    /// (first GPU type) after its arrival.
    pub deadline_multiple: f64,
}

impl Default for QueueSection {
    fn default() -> Self {
        Self { order: None, late: Late::default(), deadline_multiple: 2.0 }
    }
}

impl QueueSection {
    /// What is out of range.
    pub(super) fn check(&self, file: &Path) -> Result<(), InputError> {
        if !(self.deadline_multiple > 0.0 && self.deadline_multiple <= 1e6) {
            let accepted = "expected a multiple above 0, at most 1000000";
            return Err(InputError::new(file, accepted).value("queue.deadline_multiple", self.deadline_multiple));
        }
        Ok(())
    }
}
