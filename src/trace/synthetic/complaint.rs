//! Errors of settings of a synthetic trace, before it is known which file they are in.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::Path;

use crate::input::InputError;

/// Error of a setting: key within a section, value found there and what is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) key: String,
    found: String,
    accepted: &'static str,
}

impl Complaint {
    /// Makes an error from its parts.
    pub(super) fn new(key: impl Into<String>, found: impl fmt::Display, accepted: &'static str) -> Self {
        Self { key: key.into(), found: found.to_string(), accepted }
    }

    /// Puts the name of a section before the key.
    pub(super) fn under(mut self, section: &str) -> Self {
        if !section.is_empty() {
            self.key = format!("{section}.{}", self.key);
        }
        self
    }

    /// Returns the error of the file that the setting is in.
    pub(super) fn into_error(self, file: &Path) -> InputError {
        InputError::new(file, self.accepted).value(self.key, self.found)
    }
}

/// Returns an error unless the value is in the range.
pub(super) fn within(key: &str, value: f64, range: RangeInclusive<f64>, accepted: &'static str) -> Option<Complaint> {
    (!range.contains(&value)).then(|| Complaint::new(key, value, accepted))
}

/// Returns an error unless the value is above 0 and at most `most`.
pub(super) fn above_zero(key: &str, value: f64, most: f64, accepted: &'static str) -> Option<Complaint> {
    (!(value > 0.0 && value <= most)).then(|| Complaint::new(key, value, accepted))
}
