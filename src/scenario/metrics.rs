//! Sections `[metrics]` and `[slo]`: settings of the measures, and latency objectives. `crate::metrics` has the
//! measures.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::{positive_seconds, seconds};
use crate::input::InputError;

/// Section `[slo]`: latency objectives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SloSection {
    /// Latency objectives, as multiples of the time of a full generation on the large model on the first GPU type.
    pub multiples: Vec<f64>,
}

impl Default for SloSection {
    fn default() -> Self {
        Self { multiples: vec![2.0, 4.0] }
    }
}

impl SloSection {
    /// Checks the multiples.
    pub(super) fn check(&self, file: &Path) -> Result<(), InputError> {
        let is_good = |multiple: f64| multiple > 0.0 && multiple <= 1e6;
        match self.multiples.iter().enumerate().find(|(_, multiple)| !is_good(**multiple)) {
            Some((index, multiple)) => {
                let accepted = "expected a multiple above 0, at most 1000000";
                Err(InputError::new(file, accepted).value(format!("slo.multiples.{index}"), multiple))
            }
            None => Ok(()),
        }
    }
}

/// Section `[metrics]`: settings of the measures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsSection {
    /// Time before which arriving requests are left out of the measures, seconds.
    pub warmup_s: f64,
    /// Length of the windows of the timeline and of the cache's counts over time, seconds.
    pub window_s: f64,
    /// Largest distance of a near miss from a hit: lowest bound minus the similarity of the nearest entry.
    pub near_miss: f64,
    /// Share of the misses' mean similarity below which a hit is false. The similarity is that of picture and prompt,
    /// as measured by the encoder of a live run. The default is the paper's alpha. The similarity is not the quality of
    /// docs/semantics.md, section 7. Formerly `false_hit`, which still works.
    #[serde(alias = "false_hit")]
    pub false_hit_similarity: f64,
}

impl Default for MetricsSection {
    fn default() -> Self {
        Self { warmup_s: 0.0, window_s: 60.0, near_miss: 0.01, false_hit_similarity: 0.95 }
    }
}

impl MetricsSection {
    /// Checks times, similarity and share.
    pub(super) fn check(&self, file: &Path) -> Result<(), InputError> {
        seconds(file, "metrics.warmup_s", self.warmup_s)?;
        positive_seconds(file, "metrics.window_s", self.window_s)?;
        let keys = [
            ("near_miss", self.near_miss, "expected a similarity from 0 to 1"),
            ("false_hit_similarity", self.false_hit_similarity, "expected a share from 0 to 1"),
        ];
        match keys.iter().find(|(_, value, _)| !(0.0..=1.0).contains(value)) {
            Some((key, value, accepted)) => {
                Err(InputError::new(file, *accepted).value(format!("metrics.{key}"), value))
            }
            None => Ok(()),
        }
    }
}
