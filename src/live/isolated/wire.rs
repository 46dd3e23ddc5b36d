//! Messages between the program and its worker processes. A message has a header in JSON and a tail of raw bytes
//! (pixels). The lengths of both parts come first. Both ends are the same program, so that messages need no version.

use std::io::{self, Read};
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::embedding::Embedding;
use crate::live::details::Details;
use crate::live::painter::Palette;
use crate::live::picture::Picture;
use crate::live::pipeline::Cut;
use crate::live::settings::Device;
use crate::model::{ModelId, Work};
use crate::request::RequestId;

/// Argument that makes the program a worker process.
pub(crate) const COMMAND: &str = "worker-process";

/// Largest length of a header, in bytes: room for a prompt or an embedding.
const LONGEST_HEADER: u32 = 16 << 20;
/// Largest length of a tail, in bytes: the largest picture.
const LONGEST_TAIL: u32 = 3 * 16_384 * 16_384;

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

/// Header of a message, and the bytes that follow it.
#[derive(Debug)]
pub(super) struct Message<T> {
    pub(super) header: T,
    pub(super) tail: Vec<u8>,
}

impl<T> Message<T> {
    /// Returns the picture of this width and height that `tail` holds. Refuses a tail of another length.
    pub(super) fn picture([width, height]: [u32; 2], tail: Vec<u8>) -> io::Result<Picture> {
        let expected = u64::from(width) * u64::from(height) * 3;
        if tail.len() as u64 != expected {
            return Err(broken("a picture of another size"));
        }
        Ok(Picture::new(width, height, tail))
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// Encodes a message without its tail.
pub(super) fn head(header: &impl Serialize, tail: &[u8]) -> io::Result<Vec<u8>> {
    let header = serde_json::to_vec(header)?;
    let length = |bytes: usize| u32::try_from(bytes).map_err(|_| broken("a message that is too long"));
    let mut head = Vec::with_capacity(header.len() + 8);
    head.extend(length(header.len())?.to_le_bytes());
    head.extend(length(tail.len())?.to_le_bytes());
    head.extend(header);
    Ok(head)
}

/// Returns the lengths of header and tail, from the first eight bytes.
fn lengths(bytes: [u8; 8]) -> io::Result<(usize, usize)> {
    let both = u64::from_le_bytes(bytes);
    let (header, tail) = (both as u32, (both >> 32) as u32);
    // Other output on the pipe is refused here: its first bytes must not be waited for as a length.
    if header > LONGEST_HEADER || tail > LONGEST_TAIL {
        return Err(broken("no message"));
    }
    Ok((header as usize, tail as usize))
}

/// Reads the next message. Blocks the thread.
pub(super) fn read<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<Message<T>> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes)?;
    let (header_length, tail_length) = lengths(bytes)?;
    let (mut header, mut tail) = (vec![0; header_length], vec![0; tail_length]);
    from.read_exact(&mut header)?;
    from.read_exact(&mut tail)?;
    Ok(Message { header: serde_json::from_slice(&header)?, tail })
}

/// Receives the next message. Does not block the thread.
pub(super) async fn receive<T: DeserializeOwned>(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Message<T>> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes).await?;
    let (header_length, tail_length) = lengths(bytes)?;
    let (mut header, mut tail) = (vec![0; header_length], vec![0; tail_length]);
    from.read_exact(&mut header).await?;
    from.read_exact(&mut tail).await?;
    Ok(Message { header: serde_json::from_slice(&header)?, tail })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_they_were_written() {
        let order = WireOrder::Draw {
            request: RequestId(7),
            noise: (u64::MAX, 3),
            prompt: "a \"red\" circle\n".to_owned(),
            details: Details { checkpoint: 2, negative_prompt: "blurry".to_owned(), guidance: Some(7.5) },
            work: Work::new(ModelId(1), 50, 25),
            source: Some([2, 1]),
        };
        let pixels = [0, 10, 255, 1, 2, 3];
        let mut bytes = head(&order, &pixels).expect("a head");
        bytes.extend(pixels);
        let read: Message<WireOrder> = read(&mut bytes.as_slice()).expect("a message");
        assert_eq!(format!("{:?}", read.header), format!("{order:?}"));
        let picture = Message::<WireOrder>::picture([2, 1], read.tail).expect("a picture");
        assert_eq!(picture.bytes(), pixels);
        assert!(Message::<WireOrder>::picture([2, 2], vec![0; 6]).is_err());
    }

    #[test]
    fn what_is_no_message_is_refused_and_not_waited_for() {
        let garbage = b"error: out of memory, and more";
        let refused = read::<Reply>(&mut garbage.as_slice()).expect_err("no message");
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
        let mut bytes = head(&"neither", &[]).expect("a head");
        assert_eq!(read::<Reply>(&mut bytes.as_slice()).expect_err("none").kind(), io::ErrorKind::InvalidData);
        bytes.truncate(9);
        assert_eq!(read::<Reply>(&mut bytes.as_slice()).expect_err("cut").kind(), io::ErrorKind::UnexpectedEof);
    }
}
