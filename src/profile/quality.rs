//! Quality of images in a profile: measured rows by what made them, and each model's own score.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::ProfileFile;
use crate::input::InputError;

/// Measured quality of images by what made them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quality {
    /// Model name.
    pub model: String,
    /// Steps skipped from a source image.
    pub skipped_steps: u32,
    /// Measure, e.g. `clip`.
    pub measure: String,
    /// Its value.
    pub value: f64,
    /// Who measured it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// Score of a model's own images, made without a cache.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnQuality {
    /// Model name.
    pub model: String,
    /// Measure of the score, e.g. `clip`: 100 x the cosine of prompt and image.
    pub measure: String,
    /// Score.
    pub value: f64,
    /// Publication or measurement that the score is from.
    pub source: String,
}

impl ProfileFile {
    /// Checks the rows of `[[quality]]` and `[[own_quality]]`: scores are finite, and each is given once.
    pub(super) fn check_quality(&self, file: &Path) -> Result<(), InputError> {
        let finite = |key: String, value: f64| {
            if value.is_finite() {
                Ok(())
            } else {
                Err(InputError::new(file, "expected a finite number").value(key, value))
            }
        };
        let measures = self.quality.iter().map(|row| ("quality", &row.measure)).enumerate();
        let own = self.own_quality.iter().map(|row| ("own_quality", &row.measure)).enumerate();
        // Summaries keep measures by name beside `kind`.
        if let Some((index, (table, measure))) =
            measures.chain(own).find(|(_, (_, name))| ["", "kind"].contains(&name.as_str()))
        {
            let key = format!("{table}.{index}.measure");
            return Err(InputError::new(file, "expected the name of a measure, e.g. clip")
                .value(key, format_args!("{measure:?}")));
        }
        for (index, row) in self.quality.iter().enumerate() {
            finite(format!("quality.{index}.value"), row.value)?;
            let what = |row: &Quality| (row.model.clone(), row.skipped_steps, row.measure.clone());
            if self.quality[..index].iter().any(|other| what(other) == what(row)) {
                let message = format!(
                    "model {:?} with {} steps skipped has a row of measure {:?} already",
                    row.model, row.skipped_steps, row.measure
                );
                return Err(InputError::new(file, message).key(format!("quality.{index}")));
            }
        }
        for (index, row) in self.own_quality.iter().enumerate() {
            finite(format!("own_quality.{index}.value"), row.value)?;
            let same = |other: &OwnQuality| other.model == row.model && other.measure == row.measure;
            if self.own_quality[..index].iter().any(same) {
                let message = format!("model {:?} has a row of measure {:?} already", row.model, row.measure);
                return Err(InputError::new(file, message).key(format!("own_quality.{index}")));
            }
        }
        Ok(())
    }
}
