//! Entries `[[variant]]`: settings that `compare` runs side by side.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Scenario;
use crate::input::InputError;
use crate::published::Published;

/// Names that a folder of results holds beside the folders of variants, so that no variant may have them.
const RESERVED: [&str; 9] = [
    "comparison.json",
    "comparison.csv",
    "figures",
    "report.html",
    "report.md",
    "run.json",
    "scenario.toml",
    "summary.json",
    "modm.partial",
];

/// Entry of `[[variant]]`: a name, and the settings that the variant changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// Name of the variant, and of its folder in the output.
    pub name: String,
    /// Scenario keys and their values: dotted keys in quotes, or tables.
    #[serde(default)]
    #[schemars(with = "std::collections::BTreeMap<String, serde_json::Value>")]
    pub set: toml::Table,
    /// Numbers that others published for the variant. Figures show them beside the measured ones.
    #[serde(default, skip_serializing_if = "Published::is_empty")]
    pub published: Published,
}

impl Scenario {
    pub(super) fn check_variants(&self, file: &Path) -> Result<(), InputError> {
        for (index, variant) in self.variant.iter().enumerate() {
            let name = &variant.name;
            let key = format!("variant.{index}.name");
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
            // Names with a dot first would be hidden, or be the folder itself or the one above.
            if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
                let message = "expected letters, digits, '-', '_', '+' and '.': it names a folder";
                return Err(InputError::new(file, message).value(key, format!("{name:?}")));
            }
            if RESERVED.contains(&name.as_str()) {
                let message = "is what a file of the results is called: expected another name";
                return Err(InputError::new(file, message).value(key, format!("{name:?}")));
            }
            if self.variant[..index].iter().any(|other| other.name == *name) {
                return Err(InputError::new(file, "names are unique").value(key, format!("{name:?}")));
            }
            for (measure, value) in variant.published.values() {
                if let Some(value) = value.filter(|value| !(1e-9..=1e9).contains(value)) {
                    let key = format!("variant.{index}.published.{measure}");
                    return Err(InputError::new(file, "expected a number above 0, at most 1e9").value(key, value));
                }
            }
            if let Some(own) = variant.set.keys().find(|key| key.starts_with("variant")) {
                return Err(
                    InputError::new(file, "a variant cannot set variants").key(format!("variant.{index}.set.{own}"))
                );
            }
        }
        Ok(())
    }
}
