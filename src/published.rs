//! Figures that others published of a system, stated in a scenario. Reports show the published figures beside the
//! measured ones; no result is computed from them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Figures that others published of a system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// Requests completed per minute while requests arrive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throughput_per_min: Option<f64>,
    /// Throughput divided by the throughput of the first variant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throughput_ratio: Option<f64>,
    /// Energy per image divided by the energy per image of the first variant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy_ratio: Option<f64>,
    /// Mean quality of the system's images, in points of `CLIPScore`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<f64>,
}

impl Published {
    /// Returns the name of each field with its value.
    #[must_use]
    pub const fn values(&self) -> [(&'static str, Option<f64>); 4] {
        [
            ("throughput_per_min", self.throughput_per_min),
            ("throughput_ratio", self.throughput_ratio),
            ("energy_ratio", self.energy_ratio),
            ("quality", self.quality),
        ]
    }

    /// Returns whether no figure was published.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values().iter().all(|(_, value)| value.is_none())
    }
}
