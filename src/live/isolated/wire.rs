//! Messages between the program and its worker processes: a header of JSON and, after it, bytes as they are (pixels).
//! Each part is preceded by its length. Both ends are the same program, so that no version is told.

use std::io::{self, Read};
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::embedding::Embedding;
use crate::live::painter::Palette;
use crate::live::picture::Picture;
use crate::live::settings::Device;
use crate::model::{ModelId, Work};
use crate::request::RequestId;

/// Argument that makes the program a worker process.
pub(crate) const COMMAND: &str = "worker-process";

/// Bytes of a header at most: a prompt or an embedding, and some.
const LONGEST_HEADER: u32 = 16 << 20;
/// Bytes after a header at most: the largest picture.
const LONGEST_TAIL: u32 = 3 * 16_384 * 16_384;

/// Order to a worker process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// First of all: be a worker.
    Paint { library: PathBuf, device: Device, palette: Palette },
    /// First of all: be the encoder, and load it.
    Encode { library: PathBuf, device: Device, folder: PathBuf },
    /// First of all, and nothing more: see whether sessions run on a device.
    Probe { library: PathBuf, device: Device },
    /// Load a model.
    Load(ModelId),
    /// Draw; the pixels of the source, if it has one of this size, follow.
    Draw { request: RequestId, noise: (u64, u64), prompt: String, work: Work, source: Option<[u32; 2]> },
    /// Stop drawing at the next step.
    Cancel,
    /// Embed a prompt.
    Prompt(String),
    /// Embed a picture of this size; its pixels follow.
    Picture([u32; 2]),
}

impl Order {
    /// Name of the process that has this role, for who looks at a list of processes.
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
    /// It is what it was told to be.
    Ready,
    /// The model is loaded.
    Loaded,
    /// It begins a step.
    Step,
    /// A picture of this size is drawn; its pixels follow.
    Picture([u32; 2]),
    /// Drawing was stopped.
    Cancelled,
    /// An embedding.
    Embedding(Embedding),
    /// It did not work: why. The process goes on.
    Failed(String),
}

/// A header and what follows it.
#[derive(Debug)]
pub(super) struct Message<T> {
    pub(super) header: T,
    pub(super) tail: Vec<u8>,
}

impl<T> Message<T> {
    /// The picture of this size that follows the header, if it is one.
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

/// All but the tail of a message.
pub(super) fn head(header: &impl Serialize, tail: &[u8]) -> io::Result<Vec<u8>> {
    let header = serde_json::to_vec(header)?;
    let length = |bytes: usize| u32::try_from(bytes).map_err(|_| broken("a message that is too long"));
    let mut head = Vec::with_capacity(header.len() + 8);
    head.extend(length(header.len())?.to_le_bytes());
    head.extend(length(tail.len())?.to_le_bytes());
    head.extend(header);
    Ok(head)
}

/// Lengths of header and tail, from the first eight bytes.
fn lengths(bytes: [u8; 8]) -> io::Result<(usize, usize)> {
    let both = u64::from_le_bytes(bytes);
    let (header, tail) = (both as u32, (both >> 32) as u32);
    if header > LONGEST_HEADER || tail > LONGEST_TAIL {
        return Err(broken("no message"));
    }
    Ok((header as usize, tail as usize))
}

/// The next message, on a thread that may wait for it.
pub(super) fn read<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<Message<T>> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes)?;
    let (header_length, tail_length) = lengths(bytes)?;
    let (mut header, mut tail) = (vec![0; header_length], vec![0; tail_length]);
    from.read_exact(&mut header)?;
    from.read_exact(&mut tail)?;
    Ok(Message { header: serde_json::from_slice(&header)?, tail })
}

/// The next message.
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
        let order = Order::Draw {
            request: RequestId(7),
            noise: (u64::MAX, 3),
            prompt: "a \"red\" circle\n".to_owned(),
            work: Work { model: ModelId(1), total_steps: 50, skipped_steps: 25 },
            source: Some([2, 1]),
        };
        let pixels = [0, 10, 255, 1, 2, 3];
        let mut bytes = head(&order, &pixels).expect("a head");
        bytes.extend(pixels);
        let read: Message<Order> = read(&mut bytes.as_slice()).expect("a message");
        assert_eq!(format!("{:?}", read.header), format!("{order:?}"));
        let picture = Message::<Order>::picture([2, 1], read.tail).expect("a picture");
        assert_eq!(picture.bytes(), pixels);
        assert!(Message::<Order>::picture([2, 2], vec![0; 6]).is_err());
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
