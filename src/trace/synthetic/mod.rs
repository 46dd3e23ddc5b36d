//! Seeded synthetic traces: an arrival process and the prompts of users. The settings are the scenario section
//! `[trace.synthetic]` and the flags of `modm trace generate`.
//!
//! Equal settings and seed give equal bytes on every machine. The traces are no model of any one service. Settings that
//! were fitted to published figures say so.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::input::InputError;
use crate::time::Time;
use crate::trace::{Columns, TenantColumn, TextColumn};

mod arrivals;
mod prompts;
mod vocabulary;

pub use arrivals::Arrivals;
pub use prompts::Prompts;
pub use vocabulary::Vocabulary;

/// Largest number of requests, which are held in memory with their prompts.
const MOST_REQUESTS: u32 = 100_000_000;

/// Settings of a synthetic trace, as a scenario has them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Synthetic {
    /// Number of requests.
    pub requests: u32,
    /// Arrival process of the requests.
    pub arrivals: Arrivals,
    /// Settings of the prompts.
    pub prompts: Prompts,
}

impl Default for Synthetic {
    fn default() -> Self {
        Self { requests: 10_000, arrivals: Arrivals::default(), prompts: Prompts::default() }
    }
}

/// Generated trace, row by row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// Arrival time of each request, never decreasing.
    pub arrivals: Vec<Time>,
    /// Prompt of each request.
    pub prompts: Vec<String>,
    /// Tenant of each request, numbered in order of first appearance; all 0 if there is one tenant.
    pub tenants: Vec<u32>,
}

impl Generated {
    /// Returns the columns of a trace. They include tenants only if there are several.
    #[must_use]
    pub fn columns(self) -> Columns {
        let prompts: TextColumn = self.prompts.iter().collect();
        // Tenants are numbered as they appear, so a single one has the number 0.
        let several = self.tenants.iter().any(|&tenant| tenant != 0);
        let name = |tenant: &u32| format!("tenant-{tenant}");
        let tenants = several.then(|| self.tenants.iter().map(name).collect::<TenantColumn>());
        Columns { arrivals: self.arrivals, prompts: Some(prompts), tenants, ..Columns::default() }
    }
}

impl Synthetic {
    /// Checks every value. `file` and `section` (`trace.synthetic`) name the values in errors.
    ///
    /// # Errors
    /// Returns an error with the first value that cannot be used and what is accepted.
    pub fn check(&self, file: &Path, section: &str) -> Result<(), InputError> {
        let requests = (!(1..=MOST_REQUESTS).contains(&self.requests))
            .then(|| Complaint::new("requests", self.requests, "expected a number from 1 to 100 million"));
        let complaint = requests
            .or_else(|| self.arrivals.complaint().map(|complaint| complaint.under("arrivals")))
            .or_else(|| self.prompts.complaint().map(|complaint| complaint.under("prompts")));
        complaint.map_or(Ok(()), |complaint| Err(complaint.under(section).into_error(file)))
    }

    /// Checks the settings and makes the trace.
    ///
    /// # Errors
    /// Returns an error if a value cannot be used or if the arrivals go on for more than ten years.
    pub fn generate(&self, seed: u64, file: &Path, section: &str) -> Result<Generated, InputError> {
        self.check(file, section)?;
        let arrivals = self.arrivals.times(self.requests, seed).ok_or_else(|| {
            let accepted = "the trace would last longer than ten years: expected fewer requests or a higher rate";
            Complaint::new("requests", self.requests, accepted).under(section).into_error(file)
        })?;
        let (prompts, tenants) = self.prompts.generate(self.requests, seed);
        Ok(Generated { arrivals, prompts, tenants })
    }
}

/// Error of a setting: key within a section, value found there and what is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Complaint {
    key: String,
    found: String,
    accepted: &'static str,
}

impl Complaint {
    fn new(key: impl Into<String>, found: impl fmt::Display, accepted: &'static str) -> Self {
        Self { key: key.into(), found: found.to_string(), accepted }
    }

    /// Puts the name of a section before the key.
    fn under(mut self, section: &str) -> Self {
        if !section.is_empty() {
            self.key = format!("{section}.{}", self.key);
        }
        self
    }

    fn into_error(self, file: &Path) -> InputError {
        InputError::new(file, self.accepted).value(self.key, self.found)
    }
}

fn within(key: &str, value: f64, range: RangeInclusive<f64>, accepted: &'static str) -> Option<Complaint> {
    (!range.contains(&value)).then(|| Complaint::new(key, value, accepted))
}

fn above_zero(key: &str, value: f64, most: f64, accepted: &'static str) -> Option<Complaint> {
    (!(value > 0.0 && value <= most)).then(|| Complaint::new(key, value, accepted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generate(settings: &Synthetic, seed: u64) -> Generated {
        settings.generate(seed, Path::new("test"), "trace.synthetic").expect("good settings")
    }

    #[test]
    fn equal_seeds_give_equal_traces_and_others_differ() {
        let settings = Synthetic { requests: 500, ..Synthetic::default() };
        let trace = generate(&settings, 1);
        assert_eq!(trace, generate(&settings, 1));
        let other = generate(&settings, 2);
        assert_ne!(trace.arrivals, other.arrivals);
        assert_ne!(trace.prompts, other.prompts);
        assert_eq!((trace.arrivals.len(), trace.prompts.len(), trace.tenants.len()), (500, 500, 500));
    }

    #[test]
    fn prompts_do_not_depend_on_arrivals_and_a_longer_trace_starts_alike() {
        let short = Synthetic { requests: 300, ..Synthetic::default() };
        let long =
            Synthetic { requests: 400, arrivals: Arrivals::Constant { rate_per_min: 5.0 }, ..Synthetic::default() };
        assert_eq!(generate(&short, 9).prompts, generate(&long, 9).prompts[..300]);
    }

    #[test]
    fn settings_read_from_toml_with_defaults_and_refuse_unknown_keys() {
        let text = "requests = 7\narrivals = { process = \"gamma\", rate_per_min = 3 }\nprompts = { repeats = 0.5 }";
        let settings: Synthetic = toml::from_str(text).expect("good TOML");
        assert_eq!(settings.arrivals, Arrivals::Gamma { rate_per_min: 3.0, cv: 2.0 });
        assert_eq!(settings.prompts, Prompts { repeats: 0.5, ..Prompts::default() });
        let written = toml::to_string(&settings).expect("writes");
        assert_eq!(toml::from_str::<Synthetic>(&written).expect("reads back"), settings);
        for bad in ["request = 7", "arrivals = { process = \"poisson\", cv = 2 }", "prompts = { repeat = 0.5 }"] {
            assert!(toml::from_str::<Synthetic>(bad).is_err(), "{bad}");
        }
        let steps: Synthetic =
            toml::from_str("arrivals = { process = \"steps\", steps = [[60, 5], [120, 10.5]] }").expect("good TOML");
        assert_eq!(steps.arrivals, Arrivals::Steps { steps: vec![(60.0, 5.0), (120.0, 10.5)], even: false });
    }

    #[test]
    fn errors_name_file_key_value_and_what_is_accepted() {
        let settings = Synthetic { arrivals: Arrivals::Poisson { rate_per_min: -1.0 }, ..Synthetic::default() };
        let error = settings.check(Path::new("a.toml"), "trace.synthetic").expect_err("a negative rate");
        assert_eq!(
            error.to_string(),
            "a.toml: trace.synthetic.arrivals.rate_per_min = -1: expected requests per minute above 0, at most 1e9"
        );
        assert!(Synthetic { requests: 0, ..Synthetic::default() }.check(Path::new("a"), "").is_err());
        let slow = Synthetic { arrivals: Arrivals::Constant { rate_per_min: 1e-3 }, ..Synthetic::default() };
        assert!(slow.generate(0, Path::new("a"), "").expect_err("too long").to_string().contains("ten years"));
    }
}
