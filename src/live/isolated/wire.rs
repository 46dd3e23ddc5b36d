//! Messages between the program and its worker processes, as headers of frames. Both ends are the same program, so that
//! messages need no version.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::embedding::Embedding;
use crate::live::details::Details;
use crate::live::painter::Palette;
use crate::live::pipeline::Cut;
use crate::live::settings::Device;
use crate::model::{ModelId, Work};
use crate::request::RequestId;

/// Argument that makes the program a worker process.
pub(crate) const COMMAND: &str = "worker-process";

/// Order to a worker process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum WireOrder {
    /// First order: the role of a painter.
    Paint { library: PathBuf, device: Device, palette: Palette },
    /// First order: the role of the encoder, which the process loads.
    Encode { library: PathBuf, device: Device, folder: PathBuf },
    /// First and only order: a check that sessions run on a device.
    Probe { library: PathBuf, device: Device },
    /// Load of a model.
    Load(ModelId),
    /// Drawing of a picture. The pixels of the source follow, if there is a source; its width and height are given.
    Draw {
        request: RequestId,
        noise: (u64, u64),
        prompt: String,
        details: Details,
        work: Work,
        source: Option<[u32; 2]>,
    },
    /// Stop of the drawing at the next step.
    Cancel,
    /// Embedding of a prompt.
    Prompt(String),
    /// Embedding of a picture of this width and height, whose pixels follow.
    Picture([u32; 2]),
}

impl WireOrder {
    /// Returns the name of the process that has this role, for lists of processes.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Paint { device, .. } => format!("worker {}", device.name()),
            Self::Encode { device, .. } => format!("encoder {}", device.name()),
            Self::Probe { device, .. } => format!("probe {}", device.name()),
            _ => "unnamed".to_owned(),
        }
    }
}

/// Answer of a worker process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// Readiness for the role.
    Ready,
    /// Success of a load.
    Loaded,
    /// Start of a denoising step.
    Step,
    /// Picture of this width and height, whose pixels follow, and what its prompt lost.
    Picture { size: [u32; 2], cuts: Vec<Cut> },
    /// Stop of the drawing.
    Cancelled,
    /// Embedding of a prompt or a picture.
    Embedding(Embedding),
    /// Failure. A process that has its role goes on.
    Failed(Reported),
}

impl Reply {
    /// Makes the answer for an error.
    pub(super) fn failed(error: &dyn std::error::Error) -> Self {
        Self::Failed(Reported::new(error.to_string()))
    }
}

/// Error of a worker process as the program knows it: in words. The error itself cannot leave the process, because it
/// may hold errors of the system and of libraries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{0}")]
pub struct Reported(String);

impl Reported {
    /// Makes the error that has these words.
    #[must_use]
    pub fn new(words: impl Into<String>) -> Self {
        Self(words.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::frames::{Message, head, read};

    #[test]
    fn orders_are_read_as_they_were_written() {
        let order = WireOrder::Draw {
            request: RequestId(7),
            noise: (u64::MAX, 3),
            prompt: "a \"red\" circle\n".to_owned(),
            details: Details { checkpoint: 2, negative_prompt: "blurry".to_owned(), guidance: Some(7.5) },
            work: Work::new(ModelId(1), 50, 25),
            source: Some([2, 1]),
        };
        let bytes = head(&order, &[]).expect("a head");
        let read: Message<WireOrder> = read(&mut bytes.as_slice()).expect("a message");
        assert_eq!(format!("{:?}", read.header), format!("{order:?}"));
    }
}
