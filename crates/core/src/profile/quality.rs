//! Quality of images in a profile: measured rows by what made them, and each model's own score.

use alloc::string::String;

use serde::{Deserialize, Serialize};

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
