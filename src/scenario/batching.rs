//! Section `[batching]`: number of requests in a job, and time for which the first of them waits for the others.
//! `scheduler::batching` forms the jobs. The profile's `batches` say how long the jobs take.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::seconds;
use crate::input::InputError;
use crate::profile::MOST_BATCH;
use crate::scheduler::Batching;
use crate::time::Duration;

/// Section `[batching]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BatchingSection {
    /// Largest number of requests in a job, as far as the profile has batches of that size.
    pub size: u32,
    /// Time for which the first request of a job waits for others, seconds. The wait ends earlier if the request would
    /// otherwise be late.
    pub wait_s: f64,
    /// True if a job is kept so small that none of its requests is late because of the others. If absent, true unless
    /// the allocation of a cascade decides on the sizes of jobs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_deadline: Option<bool>,
}

impl Default for BatchingSection {
    fn default() -> Self {
        Self { size: 1, wait_s: 0.0, by_deadline: None }
    }
}

impl BatchingSection {
    /// Returns the settings of the core. `decided` is true if the allocation decides on the sizes of jobs.
    pub(super) fn settings(&self, decided: bool) -> Batching {
        let by_deadline = self.by_deadline.unwrap_or(!decided);
        Batching { most: self.size, wait: Duration::from_seconds_saturating(self.wait_s), by_deadline }
    }

    /// Checks that all values are in range.
    pub(super) fn check(&self, file: &Path) -> Result<(), InputError> {
        if !(1..=MOST_BATCH).contains(&self.size) {
            return Err(
                InputError::new(file, "expected a number of requests from 1 to 1024").value("batching.size", self.size)
            );
        }
        seconds(file, "batching.wait_s", self.wait_s)
    }
}
