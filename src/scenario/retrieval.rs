//! Section `[retrieval]`: index by which the image cache is searched, and the time of a search. `crate::retrieval` has
//! the indexes.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::seconds;
use crate::input::InputError;
use crate::retrieval::IndexKind;

/// Section `[retrieval]`: index, and times of embedding and search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retrieval {
    /// Time from arrival to routing, for the encoder and the index look-up, seconds.
    pub latency_s: f64,
    /// Time from the completion of an image until requests can find the image, for systems that retrieve by image,
    /// seconds.
    pub image_latency_s: f64,
    /// Index that finds the nearest entry.
    pub index: IndexKind,
    /// True if the searches of an index that may miss the nearest entry are checked by an exact index. The exact index
    /// needs no check.
    pub measure_recall: bool,
}

impl Default for Retrieval {
    fn default() -> Self {
        Self { latency_s: 0.0, image_latency_s: 0.0, index: IndexKind::default(), measure_recall: true }
    }
}

impl Retrieval {
    /// Checks the times, and that the index was built in.
    pub(super) fn check(&self, file: &Path) -> Result<(), InputError> {
        seconds(file, "retrieval.latency_s", self.latency_s)?;
        seconds(file, "retrieval.image_latency_s", self.image_latency_s)?;
        if self.index.build(self.measure_recall).is_some() {
            return Ok(());
        }
        let name = toml::Value::try_from(self.index).map_or_else(|_| String::new(), |name| name.to_string());
        let way_out = "this modm was built without FAISS: build with --features faiss (docs/retrieval.md says what it \
                       needs), or use \"exact\"";
        Err(InputError::new(file, way_out).value("retrieval.index", name))
    }
}
