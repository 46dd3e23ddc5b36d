//! Quality of images in a profile: measured rows by model and skipped steps, and the score of each model's own images.

use alloc::string::String;

use serde::{Deserialize, Serialize};

/// Measured quality of the images of a model with a number of skipped steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quality {
    /// Model name.
    pub model: String,
    /// Number of steps skipped from a source image.
    pub skipped_steps: u32,
    /// Name of the measure, e.g. `clip`.
    pub measure: String,
    /// Value of the measure.
    pub value: f64,
    /// Source of the value: who measured it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// Score of a model's own images, made without a cache.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnQuality {
    /// Model name.
    pub model: String,
    /// Name of the measure, e.g. `clip`: 100 x the cosine of prompt and image.
    pub measure: String,
    /// Score.
    pub value: f64,
    /// Publication or measurement that the score is from.
    pub source: String,
}
