//! Events: all that happens outside the core reaches it as one of these.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::embedding::Embedding;
use crate::image::ImageId;
use crate::model::ModelId;
use crate::request::{Request, RequestId};

/// Number of a worker: a GPU, which runs one model at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkerId(pub u16);

impl WorkerId {
    /// Returns the number as an index into the list of workers.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Number of a job: one execution on one worker. Jobs are numbered in the order of their starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub u64);

/// Kind of fault by which a worker is lost with its sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossCause {
    /// Call that took longer than its limit.
    Hung,
    /// End of the worker's process or thread.
    Crashed,
    /// Failure of a job on the worker, and then of a prompt that is known to be good.
    FailedProbe,
    /// Machine of the worker that is not heard of any more.
    Gone,
}

impl LossCause {
    /// Returns the word for the cause in counters.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Hung => "hung",
            Self::Crashed => "crashed",
            Self::FailedProbe => "failed_probe",
            Self::Gone => "gone",
        }
    }
}

/// Result of a job for one of its requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// Request.
    pub request: RequestId,
    /// Embedding of the image, if the executor has it at once. Otherwise [`super::Action::EncodeImage`] asks for it if
    /// it is needed.
    pub embedding: Option<Embedding>,
    /// Size of the image in bytes, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Confidence that the image is good enough, from 0 to 1, if the system is a cascade.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// True if the source of the request was sent to the node of the worker, false if it was kept there; `None` without
    /// a source or a simulated network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_fetched: Option<bool>,
}

impl Output {
    /// Makes the result of a request without embedding, size, confidence or network.
    #[must_use]
    pub const fn new(request: RequestId) -> Self {
        Self { request, embedding: None, bytes: None, confidence: None, source_fetched: None }
    }
}

/// Event outside the core.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Arrival of a request.
    Arrived(Request),
    /// End of the embedding of a prompt. The request is routed now.
    Encoded {
        /// Request of the prompt.
        request: RequestId,
        /// Embedding of the prompt; `None` if the system retrieves nothing or the embedding failed.
        embedding: Option<Embedding>,
    },
    /// End of a job with images.
    JobCompleted {
        /// Worker that ran the job.
        worker: WorkerId,
        /// Job.
        job: JobId,
        /// Results, one for each request of the job.
        outputs: SmallVec<[Output; 1]>,
    },
    /// End of the embedding of an image.
    ImageEncoded {
        /// Request for which the image was made.
        request: RequestId,
        /// Embedding of the image; `None` if the embedding failed.
        embedding: Option<Embedding>,
    },
    /// End of a job without images. The requests of the job are tried again, a bounded number of times.
    JobFailed {
        /// Worker that ran the job.
        worker: WorkerId,
        /// Job.
        job: JobId,
        /// Reason of the failure. A request that is not tried again ends with it.
        reason: String,
    },
    /// Job that could not start because a source image cannot be read. The requests of the job become misses.
    SourceMissing {
        /// Worker of the job.
        worker: WorkerId,
        /// Job.
        job: JobId,
    },
    /// End of a load: the worker has its new model.
    ModelLoaded {
        /// Worker.
        worker: WorkerId,
    },
    /// Failure of a load.
    LoadFailed {
        /// Worker that could not load its new model.
        worker: WorkerId,
        /// Model that the worker still holds; `None` if it has none and cannot serve.
        loaded: Option<ModelId>,
        /// Reason of the failure.
        reason: String,
    },
    /// Loss of a worker, with the job that it ran and the models that it held.
    WorkerDown(WorkerId),
    /// Loss of a worker with a known cause. The requests of its job are tried again, a bounded number of times, and
    /// then end with this reason.
    WorkerLost {
        /// Lost worker.
        worker: WorkerId,
        /// Kind of the fault, for counters.
        cause: LossCause,
        /// Reason of the loss, for people.
        reason: String,
    },
    /// Return of a lost worker, without a model.
    WorkerUp(WorkerId),
    /// Cancellation of a request by its client.
    Cancelled(RequestId),
    /// Withdrawal of cached images: no later request finds them. Requests that have one of them as their source keep it
    /// until they end.
    Withdrawn {
        /// Images.
        images: Vec<ImageId>,
        /// True if images that are being made from them are not cached either.
        refined: bool,
    },
    /// End of acceptance: the core rejects later requests, finishes the earlier ones, and cancels background requests.
    Drain,
    /// Wake-up at the time of [`super::Scheduler::next_wakeup`].
    WokeUp,
}
