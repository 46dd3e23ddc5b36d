//! Connections that pictures go over, between a scheduler and its workers: no picture is ever in a message. The
//! scheduler listens, workers connect. Pictures are sent as rows of pixels, over connections since other ways take
//! longer (docs/cluster.md, "Pictures"). All of it is encrypted with a key pair that the scheduler makes at its start:
//! workers know the certificate by its hash, which comes over NATS.

use serde::{Deserialize, Serialize};

use crate::embedding::Embedding;
use crate::image::ImageId;
use crate::live::picture::Picture;
use crate::live::pipeline::Cut;

mod client;
mod server;
mod tls;

pub use client::{Line, LineError};
pub use server::{Arrived, Permits, PictureServer};

/// Longest header of a message about a picture, in bytes: room for an embedding.
const LONGEST_HEADER: u32 = 512 << 10;

/// Request of a worker about a picture.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Ask {
    /// Picture of an order, whose pixels follow.
    Take {
        /// Secret of the order.
        ticket: String,
        /// Width, height and checksum.
        about: About,
        /// Parts of the prompt that the model's text encoders did not see.
        cuts: Vec<Cut>,
        /// Embedding of the picture, if the worker embeds pictures.
        embedding: Option<Embedding>,
    },
    /// Source of an order.
    Give {
        /// Secret of the order.
        ticket: String,
        /// Source.
        image: ImageId,
    },
}

/// Answer of the scheduler.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reply {
    /// Receipt for a picture.
    Taken,
    /// Source, whose pixels follow.
    Given(About),
    /// Source that cannot be had, in words.
    Missing(String),
    /// Refusal, in words.
    Refused(String),
}

/// Size and checksum of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct About {
    /// Width and height, in pixels.
    size: [u32; 2],
    /// CRC-32 of the pixels. The encryption protects against others; this finds faults of our own.
    crc: u32,
}

impl About {
    fn of(picture: &Picture) -> Self {
        Self { size: picture.size(), crc: crc32fast::hash(picture.bytes()) }
    }

    /// Returns the number of bytes of the pixels.
    fn bytes(&self) -> u64 {
        3 * u64::from(self.size[0]) * u64::from(self.size[1])
    }

    /// Returns the picture whose pixels these are; `None` if they are others.
    fn picture(&self, pixels: Vec<u8>) -> Option<Picture> {
        let right = pixels.len() as u64 == self.bytes() && crc32fast::hash(&pixels) == self.crc;
        right.then(|| Picture::new(self.size[0], self.size[1], pixels))
    }
}
