//! Messages between a scheduler and its workers, as JSON over NATS. Pictures are in none of them: they go over
//! [`super::pictures`]. Every order has a number, and every message can come twice, late or not at all.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::image::ImageId;
use crate::live::details::Details;
use crate::live::limits::ModelLimits;
use crate::model::{ModelId, Work};
use crate::request::RequestId;

/// Version of the messages. Both ends must have the same.
pub const PROTOCOL: u32 = 1;

/// Names of a cluster's subjects and of its key-value bucket.
#[derive(Clone, Debug)]
pub struct Names(pub String);

impl Names {
    /// Returns the subject of a worker's orders.
    #[must_use]
    pub fn orders(&self, worker: &str) -> String {
        format!("modm.{}.orders.{worker}", self.0)
    }

    /// Returns the subject of a worker's answers, or of those of all workers for `*`.
    #[must_use]
    pub fn answers(&self, worker: &str) -> String {
        format!("modm.{}.answers.{worker}", self.0)
    }

    /// Returns the name of the bucket that holds who is there.
    #[must_use]
    pub fn bucket(&self) -> String {
        format!("modm_{}", self.0)
    }

    /// Returns the subject of a worker's heartbeats, or of those of all workers for `*`: that of its value in the
    /// bucket.
    #[must_use]
    pub fn heartbeat(&self, worker: &str) -> String {
        format!("$KV.{}.worker.{worker}", self.bucket())
    }

    /// Returns the subject at which the lease is asked for, as it was kept last (JetStream's direct get).
    #[must_use]
    pub fn ask_lease(&self) -> String {
        let bucket = self.bucket();
        format!("$JS.API.DIRECT.GET.KV_{bucket}.$KV.{bucket}.{SCHEDULER}")
    }
}

/// Key of the scheduler in the bucket.
pub const SCHEDULER: &str = "scheduler";

/// Value of the scheduler in the bucket: the one whose orders workers take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Version of the messages.
    pub protocol: u32,
    /// Version of the program.
    pub version: String,
    /// Name of this start of the scheduler, which no other has.
    pub session: String,
    /// Address for pictures, `host:port`.
    pub pictures: String,
    /// SHA-256 hash of the certificate at that address.
    pub pin: String,
}

/// Heartbeat of a worker, and its value in the bucket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Presence {
    /// Version of the messages.
    pub protocol: u32,
    /// Version of the program.
    pub version: String,
    /// Name of the worker in subjects: node and device.
    pub worker: String,
    /// Name of the machine.
    pub node: String,
    /// Device, e.g. `cuda:0`.
    pub device: String,
    /// GPU type, as profiles name it.
    pub gpu: String,
    /// Name of this start of the worker, which no other has.
    pub life: String,
    /// Time between two heartbeats, in seconds.
    pub heartbeat_s: f64,
    /// SHA-256 hashes of the folders of models that the worker has.
    pub models: Vec<String>,
    /// True once the worker takes no more orders.
    pub leaving: bool,
    /// Totals since the start.
    pub totals: Totals,
}

/// Totals of a worker since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// Number of pictures drawn.
    pub pictures: u64,
    /// Number of sources fetched from the scheduler.
    pub fetched: u64,
    /// Number of sources that were at the node already.
    pub kept: u64,
    /// Time spent on loads and drawings, in seconds.
    pub busy_s: f64,
    /// Number of bytes of pictures sent and received.
    pub bytes: u64,
}

/// Order to a worker.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    /// Version of the messages.
    pub protocol: u32,
    /// Session of the scheduler.
    pub session: String,
    /// Number of the order, ascending for each worker in a session.
    pub number: u64,
    /// Secret that opens the address of pictures for this order.
    pub ticket: String,
    /// Thing to do.
    pub what: What,
}

/// Thing that a worker is told.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Load of a model.
    Load {
        /// Models and limits of the run.
        setup: Setup,
        /// Model.
        model: ModelId,
    },
    /// Drawing of a picture.
    Draw(Draw),
    /// Stop of the drawing with this number at its next step.
    Stop,
    /// Receipt for the answer with this number: its picture, if it had one, is safe, and the answer may be forgotten.
    Noted,
}

/// Models and limits of a run. Folders are named by the hash of their content, since their places differ by machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// Hash of the folder and guidance scale of each model, best model first.
    pub models: Vec<(String, Option<f32>)>,
    /// True for each model that takes the guidance of requests.
    pub guided: Vec<bool>,
    /// Hashes of the folders of the checkpoints, by number from 1, then by model.
    pub checkpoints: Vec<Vec<String>>,
    /// Usual width and height of pictures, in pixels.
    pub size: [u32; 2],
    /// Limits of each model, best model first.
    pub limits: Vec<ModelLimits>,
    /// Fingerprint of the encoder that pictures are embedded with, if workers embed them.
    pub encoder: Option<String>,
    /// Limit of the encoder for one picture, and of its load.
    pub encode: [Duration; 2],
}

/// Picture to draw.
#[derive(Debug, Serialize, Deserialize)]
pub struct Draw {
    /// Request that the picture belongs to.
    pub request: RequestId,
    /// Seed and row that the noise of the picture derives from.
    pub noise: (u64, u64),
    /// Prompt.
    pub prompt: String,
    /// Wishes beside the prompt.
    pub details: Details,
    /// Model, size, and numbers of total and skipped denoising steps.
    pub work: Work,
    /// Source picture, which the worker has or fetches.
    pub source: Option<ImageId>,
}

/// Answer of a worker to an order.
#[derive(Debug, Serialize, Deserialize)]
pub struct Answer {
    /// Version of the messages.
    pub protocol: u32,
    /// Session of the order.
    pub session: String,
    /// Number of the order.
    pub number: u64,
    /// Name of this start of the worker.
    pub life: String,
    /// Outcome, or progress, of the order.
    pub what: Became,
}

/// Outcome, or progress, of an order.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Became {
    /// Order that came again while it is carried out.
    Taken,
    /// Number of denoising steps that have begun. Not every step is told.
    Steps(u32),
    /// Model that is loaded.
    Loaded,
    /// Picture that is drawn and has been taken in over the address of pictures. The picture itself says so first; this
    /// is for a scheduler that still waits.
    Drawn,
    /// Drawing that was stopped.
    Cancelled,
    /// Source that cannot be had, in words.
    SourceMissing(String),
    /// Load or drawing that failed, in words; the worker goes on.
    Failed(String),
    /// Loss of the worker's sessions.
    Lost {
        /// True if a call took longer than its limit.
        hung: bool,
        /// Fault, in words that are fit for the client that asked for the picture.
        fault: String,
        /// Reason for the log.
        told: String,
    },
    /// Refusal of the order, in a sentence.
    Refused(String),
}

impl Became {
    /// Returns whether this ends the order.
    #[must_use]
    pub const fn is_end(&self) -> bool {
        !matches!(self, Self::Taken | Self::Steps(_))
    }
}

/// Version of the messages in a message of any version.
#[derive(Deserialize)]
struct Versioned {
    protocol: u32,
}

/// Reads a message. Refuses a message of another version with a sentence before anything else of it is looked at.
///
/// # Errors
/// Returns a sentence that says what is wrong with the message.
pub fn read<T: for<'de> Deserialize<'de>>(from: &str, bytes: &[u8]) -> Result<T, String> {
    let other = |error: serde_json::Error| format!("{from} sent what is no message of modm: {error}");
    let Versioned { protocol } = serde_json::from_slice(bytes).map_err(other)?;
    if protocol != PROTOCOL {
        return Err(format!(
            "{from} speaks version {protocol} of the messages between schedulers and workers, and this modm \
             {} speaks version {PROTOCOL}: run the same modm on both sides",
            env!("CARGO_PKG_VERSION")
        ));
    }
    serde_json::from_slice(bytes).map_err(other)
}

/// Writes a message.
#[must_use]
pub fn written(message: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(message).expect("messages have nothing that JSON lacks")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_refused_with_a_sentence_whatever_else_is_said() {
        let other = br#"{"protocol": 7, "shape": "that nobody knows"}"#;
        let refused = read::<Order>("the scheduler", other).expect_err("another version");
        assert!(refused.starts_with("the scheduler speaks version 7"), "{refused}");
        assert!(refused.contains("speaks version 1: run the same modm"), "{refused}");
        assert!(read::<Order>("the scheduler", b"\xff").expect_err("noise").contains("no message of modm"));
    }

    #[test]
    fn orders_are_read_as_they_were_written() {
        let draw = Draw {
            request: RequestId(7),
            noise: (u64::MAX, 3),
            prompt: "a \"red\" circle\n".to_owned(),
            details: Details::default(),
            work: Work::new(ModelId(1), 50, 25),
            source: Some(ImageId::warm(3)),
        };
        let (session, ticket) = ("s".to_owned(), "t".to_owned());
        let order = Order { protocol: PROTOCOL, session, number: 9, ticket, what: What::Draw(draw) };
        let read: Order = read("the scheduler", &written(&order)).expect("a message");
        assert_eq!(format!("{read:?}"), format!("{order:?}"));
    }
}
