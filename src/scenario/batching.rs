//! `[batching]`: how many requests make a job, and how long the first of them waits for the others. How jobs are formed is
//! `scheduler::batching`; what they take, the profile's `batches`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::check::seconds;
use crate::input::InputError;
use crate::profile::MOST_BATCH;
use crate::scheduler::Batching;
use crate::time::Duration;

/// `[batching]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BatchingSection {
    /// The most requests of a job, as far as the profile has batches as large.
    pub size: u32,
    /// So long the first request of a job waits for others, unless it would be late for that, seconds.
    pub wait_s: f64,
    /// Whether a job is kept small enough that none of its requests is late for the company; if absent, unless a cascade's
    /// allocation decides on sizes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_deadline: Option<bool>,
}

impl Default for BatchingSection {
    fn default() -> Self {
        Self { size: 1, wait_s: 0.0, by_deadline: None }
    }
}

impl BatchingSection {
    /// As the core has it.
    pub(super) fn settings(&self, decided: bool) -> Batching {
        let by_deadline = self.by_deadline.unwrap_or(!decided);
        Batching { most: self.size, wait: Duration::from_seconds_saturating(self.wait_s), by_deadline }
    }

    /// What is out of range.
    pub(super) fn check(&self, file: &Path) -> Result<(), InputError> {
        if !(1..=MOST_BATCH).contains(&self.size) {
            return Err(
                InputError::new(file, "expected a number of requests from 1 to 1024").value("batching.size", self.size)
            );
        }
        seconds(file, "batching.wait_s", self.wait_s)
    }
}
