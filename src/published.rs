//! What others published of a system, stated in a scenario: figures show it beside what is measured, and nothing is computed
//! from it.

use serde::{Deserialize, Serialize};

/// What others published of a system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// Requests a minute while requests arrive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throughput_per_min: Option<f64>,
    /// The same over that of the first variant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throughput_ratio: Option<f64>,
    /// Energy of an image over that of the first variant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy_ratio: Option<f64>,
    /// Mean quality of its images in points of `CLIPScore`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<f64>,
}

impl Published {
    /// Its keys and values.
    #[must_use]
    pub const fn values(&self) -> [(&'static str, Option<f64>); 4] {
        [
            ("throughput_per_min", self.throughput_per_min),
            ("throughput_ratio", self.throughput_ratio),
            ("energy_ratio", self.energy_ratio),
            ("quality", self.quality),
        ]
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values().iter().all(|(_, value)| value.is_none())
    }
}
