//! Section `[system]`: system that serves the requests, and its similarity bounds. `scheduler::routing` has the
//! systems.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Scenario;
use crate::input::InputError;
use crate::scheduler::routing::System;

/// Section `[system]`: system and similarity bounds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SystemSection {
    /// System that serves the requests.
    pub policy: System,
    /// Rows of `[similarity bound, skipped steps]`, rising; the policy's own rows if absent. A variant or `--set` that
    /// chooses another policy and no bounds drops them, with a note.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bounds: Option<Vec<(f64, u32)>>,
    /// Rows of `[similarity bound, noise to start from as a share from 0 to 1]`, rising in similarity, in place of
    /// `bounds`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sigma_bounds: Option<Vec<(f64, f64)>>,
}

impl Scenario {
    pub(super) fn check_system(&self, file: &Path) -> Result<(), InputError> {
        self.check_sigma_bounds(file)?;
        let own = match self.system.bounds {
            None => " (the policy's own bounds are for 50 steps: give `system.bounds`)",
            Some(_) => "",
        };
        // Systems that look nothing up have no bounds to check.
        if self.bounds().is_empty() && self.system.bounds.is_none() {
            return Ok(());
        }
        let key = if self.system.sigma_bounds.is_some() { "system.sigma_bounds" } else { "system.bounds" };
        check_bounds(file, key, &self.bounds(), self.models.large_steps(), own)
    }

    fn check_sigma_bounds(&self, file: &Path) -> Result<(), InputError> {
        let Some(rows) = &self.system.sigma_bounds else { return Ok(()) };
        let key = "system.sigma_bounds";
        let refused = |why: &str| Err(InputError::new(file, why).key(key));
        if self.system.bounds.is_some() {
            return refused("expected either system.bounds or system.sigma_bounds, not both");
        }
        if self.models.schedule.is_none() {
            return refused("needs models.schedule: noise means nothing without the models' levels");
        }
        let outside = rows.iter().position(|(_, sigma)| !(*sigma > 0.0 && *sigma <= 1.0));
        outside.map_or(Ok(()), |at| {
            let (bound, sigma) = rows[at];
            let error = InputError::new(file, "expected a share of noise above 0, at most 1");
            let error = error.value(key, format!("[{bound}, {sigma}]"));
            Err(InputError { key: Some(format!("{key}.{at}")), ..error })
        })
    }
}

/// Checks a decision table. `key` is its place in the scenario. `own` is a remark for a table that is the policy's
/// default.
pub(super) fn check_bounds(
    file: &Path,
    key: &str,
    rows: &[(f64, u32)],
    steps: u32,
    own: &str,
) -> Result<(), InputError> {
    let mut previous: Option<f64> = None;
    if rows.is_empty() {
        return Err(InputError::new(file, "expected at least one [similarity, skipped steps]").value(key, "[]"));
    }
    for (index, &(bound, skipped)) in rows.iter().enumerate() {
        let row = |accepted: String| {
            let error = InputError::new(file, accepted).value(key, format!("[{bound}, {skipped}]"));
            InputError { key: Some(format!("{key}.{index}")), ..error }
        };
        // Cosines begin at -1. Similarities are clamped at 0, so a bound below 0 is met by every entry.
        if !bound.is_finite() || !(-1.0..=1.0).contains(&bound) {
            return Err(row("expected a similarity from -1 to 1".into()));
        }
        if previous.is_some_and(|before| bound <= before) {
            return Err(row("bounds rise strictly: expected more than the one before".into()));
        }
        if skipped >= steps {
            return Err(row(format!("expected skipped steps from 0 to {} (models.steps - 1){own}", steps - 1)));
        }
        previous = Some(bound);
    }
    Ok(())
}
