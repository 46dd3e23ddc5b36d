//! Checks of a scenario that its types do not make, in their order. Each section's file checks its own keys. Errors
//! name key, value and what is accepted; `source` adds the line.

use std::path::Path;

use super::Scenario;
use crate::input::InputError;
use crate::time::{Duration, MAX_INPUT_S};

/// Largest seed, and largest number of bytes. Every reader of JSON keeps whole numbers exact up to this one, and
/// `--seeds` counts on from the seed.
pub(super) const LARGEST_NUMBER: u64 = 1 << 53;

/// Checks a scenario. Returns an error with the first thing that is wrong.
pub(super) fn check(scenario: &Scenario, file: &Path) -> Result<(), InputError> {
    let complaint = |key: &str, found: &dyn std::fmt::Display, accepted: &str| {
        Err(InputError::new(file, accepted).value(key, found))
    };
    if scenario.name.trim().is_empty() {
        return complaint("name", &"\"\"", "expected a name");
    }
    if scenario.seed > LARGEST_NUMBER {
        return complaint("seed", &scenario.seed, "expected a whole number from 0 to 9007199254740992 (2^53)");
    }
    // The order matters where one check relies on another: the cache's capacity is compared with the routing policy's
    // states, and a routing policy is built of checked bounds only.
    scenario.trace.check(file)?;
    scenario.check_cluster(file)?;
    scenario.models.check(&scenario.model_names(), file)?;
    scenario.check_system(file)?;
    scenario.check_approximation(file)?;
    scenario.retrieval.check(file)?;
    scenario.metrics.check(file)?;
    scenario.check_cache(file)?;
    scenario.tenants.check(file)?;
    scenario.queue.check(file)?;
    scenario.batching.check(file)?;
    scenario.check_cascade(file)?;
    scenario.check_allocation(file)?;
    scenario.check_serving(file)?;
    scenario.network.as_ref().map_or(Ok(()), |network| network.check(file))?;
    scenario.check_faults(file)?;
    scenario.slo.check(file)?;
    scenario.encoder.check(file, "encoder")?;
    scenario.image_model.check(file, "image_model")?;
    scenario.live.check(file)?;
    scenario.serve.check(file)?;
    scenario.check_aliases(file)?;
    scenario.check_variants(file)
}

pub(super) fn seconds(file: &Path, key: &str, value: f64) -> Result<(), InputError> {
    if (0.0..=MAX_INPUT_S).contains(&value) {
        return Ok(());
    }
    Err(InputError::new(file, "expected seconds from 0 to ten years").value(key, value))
}

pub(super) fn positive_seconds(file: &Path, key: &str, value: f64) -> Result<(), InputError> {
    // A positive number may still round to zero nanoseconds, which is no length of a period or a window.
    if Duration::from_seconds(value).is_some_and(|time| time > Duration::ZERO) && value <= MAX_INPUT_S {
        return Ok(());
    }
    Err(InputError::new(file, "expected seconds above 0 (at least a nanosecond) to ten years").value(key, value))
}
