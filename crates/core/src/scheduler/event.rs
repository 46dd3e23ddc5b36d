//! What the core is told. Everything that happens outside reaches it as one of these.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::embedding::Embedding;
use crate::image::ImageId;
use crate::model::ModelId;
use crate::request::{Request, RequestId};

/// A GPU, which runs one model at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkerId(pub u16);

impl WorkerId {
    /// As an index into the list of workers.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// One execution on one worker, numbered in the order of starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub u64);

/// Kind of fault that costs a worker its sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossCause {
    /// A call took longer than its limit.
    Hung,
    /// Its process or its thread ended.
    Crashed,
    /// A job failed on it, and then a prompt that is known to be good.
    FailedProbe,
}

impl LossCause {
    /// The word of counters.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Hung => "hung",
            Self::Crashed => "crashed",
            Self::FailedProbe => "failed_probe",
        }
    }
}

/// What a job made for one of its requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// For whom.
    pub request: RequestId,
    /// The image's embedding, where images are retrieved by it and it takes no time; otherwise it is
    /// asked for by [`super::Action::EncodeImage`].
    pub embedding: Option<Embedding>,
    /// The image's size, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// How sure it is that the image will do, from 0 to 1, where a cascade asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
}

impl Output {
    /// An image of which nothing is known.
    #[must_use]
    pub const fn of(request: RequestId) -> Self {
        Self { request, embedding: None, bytes: None, confidence: None }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A request came in.
    Arrived(Request),
    /// A prompt's embedding is ready; `None` where the system retrieves nothing.
    Encoded {
        /// Whose prompt.
        request: RequestId,
        /// Its embedding.
        embedding: Option<Embedding>,
    },
    /// A job ended with images.
    JobCompleted {
        /// Where.
        worker: WorkerId,
        /// Which.
        job: JobId,
        /// One for each of its requests.
        outputs: SmallVec<[Output; 1]>,
    },
    /// An image's embedding is ready; `None` if it could not be computed.
    ImageEncoded {
        /// For whom the image was made.
        request: RequestId,
        /// Its embedding.
        embedding: Option<Embedding>,
    },
    /// A job ended without images. Its requests are tried again, a bounded number of times.
    JobFailed {
        /// Where.
        worker: WorkerId,
        /// Which.
        job: JobId,
        /// Why.
        reason: String,
    },
    /// A job could not start because its source image cannot be read. Its requests become misses.
    SourceMissing {
        /// Where.
        worker: WorkerId,
        /// Which.
        job: JobId,
    },
    /// A worker has its new model.
    ModelLoaded {
        /// Lost worker.
        worker: WorkerId,
    },
    /// A worker could not load its new model.
    LoadFailed {
        /// Lost worker.
        worker: WorkerId,
        /// What it holds now; nothing means that it cannot serve.
        loaded: Option<ModelId>,
        /// Why.
        reason: String,
    },
    /// A worker is lost, with what it ran.
    WorkerDown(WorkerId),
    /// A worker is lost, with what it ran, and the cause is known: its requests are tried again, a bounded number of
    /// times, and end with this reason.
    WorkerLost {
        /// Lost worker.
        worker: WorkerId,
        /// Kind of the fault, for counters.
        cause: LossCause,
        /// Why, for people.
        reason: String,
    },
    /// A lost worker is back, without a model.
    WorkerUp(WorkerId),
    /// Whoever asked no longer wants the image.
    Cancelled(RequestId),
    /// Cached images are withdrawn: no later request finds them. Requests that have one as their source keep it until
    /// they end.
    Withdrawn {
        /// Which.
        images: Vec<ImageId>,
        /// Whether what is being made from them is not cached either.
        refined: bool,
    },
    /// Accept no more requests; finish those that are in, but for background requests, which are cancelled.
    Drain,
    /// The time of [`super::Scheduler::next_wakeup`] has come.
    WokeUp,
}
