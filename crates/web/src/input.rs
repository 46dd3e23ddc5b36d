//! Errors of settings that cannot be used, for the files that are shared with the program.

use std::fmt;
use std::path::Path;

/// Error of a setting: the key, the value found and what is accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InputError {
    accepted: String,
    key: String,
    found: String,
}

impl InputError {
    /// Makes an error. The page has no files, so that their names are left out.
    #[must_use]
    pub fn new(_: impl AsRef<Path>, accepted: impl Into<String>) -> Self {
        Self { accepted: accepted.into(), ..Self::default() }
    }

    /// Sets the key and the value that was found there.
    #[must_use]
    pub fn value(self, key: impl Into<String>, found: impl fmt::Display) -> Self {
        Self { key: key.into(), found: found.to_string(), ..self }
    }
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}: {}", self.key, self.found, self.accepted)
    }
}
