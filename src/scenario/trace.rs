//! Section `[trace]`: source of the requests. `crate::trace` reads files and makes synthetic traces.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::input::InputError;
use crate::trace::synthetic::Synthetic;

/// Section `[trace]`: files, or a synthetic trace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TraceSection {
    /// File of the requests, CSV.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<PathBuf>,
    /// File of the prompts' embeddings, a row for each request: `.npy` of f16, f32 or f64, or `FILE.npz:ARRAY`. f32 in
    /// rows is mapped, the others are converted. Stand-ins are made if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_embeddings: Option<PathBuf>,
    /// File of the embeddings of the images that the requests would produce, like `prompt_embeddings`. Stand-ins are
    /// made if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_embeddings: Option<PathBuf>,
    /// File of the embeddings that are cached before the first request, oldest first, `.npy`: of images, or of prompts
    /// for systems that find images by prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warm_images: Option<PathBuf>,
    /// Number of requests at the start of the trace that are not replayed. The entries that they would have left in the
    /// cache are there before time zero, and time zero is the arrival of the last of them.
    #[serde(skip_serializing_if = "is_zero")]
    #[schemars(!skip_serializing_if)]
    pub warm_requests: u32,
    /// Generated trace in place of files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub synthetic: Option<Synthetic>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(value: &u32) -> bool {
    *value == 0
}

impl TraceSection {
    /// Checks that there is one source of requests, and that its settings are good.
    pub(super) fn check(&self, file: &Path) -> Result<(), InputError> {
        match (&self.requests, &self.synthetic) {
            (None, None) => {
                let way_out = "expected `requests = \"requests.csv\"`, or a [trace.synthetic] section";
                Err(InputError::new(file, way_out).key("trace"))
            }
            (Some(_), Some(_)) => {
                let way_out = "expected either `requests` or [trace.synthetic], not both";
                Err(InputError::new(file, way_out).key("trace.synthetic"))
            }
            (Some(_), None) => Ok(()),
            (None, Some(synthetic)) => {
                let files =
                    [("prompt_embeddings", &self.prompt_embeddings), ("image_embeddings", &self.image_embeddings)];
                if let Some((key, _)) = files.iter().find(|(_, path)| path.is_some()) {
                    let way_out = "goes with `requests`; a synthetic trace's embeddings are made from its prompts";
                    return Err(InputError::new(file, way_out).key(format!("trace.{key}")));
                }
                synthetic.check(file, "trace.synthetic")
            }
        }
    }
}
