//! Actions of the core: commands to the executor, and reports. An executor carries out the commands and ignores
//! [`Action::Note`]. It may use [`Action::Finish`] to hand over the result of a request. The journal records all
//! actions.

use alloc::boxed::Box;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::event::{JobId, WorkerId};
use crate::cache::{Candidate, Cause};
use crate::denoising::Denoising;
use crate::image::ImageId;
use crate::model::{ModelId, Work};
use crate::request::{Ask, Outcome, Place, Request, RequestId, Shape, TenantId};
use crate::time::Time;

/// Request of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Request.
    pub request: RequestId,
    /// Image that the request starts from, noised to the step where the work begins; `None` for a full generation, and
    /// for a request that brings a source of its own.
    pub source: Option<ImageId>,
}

/// Decision of routing for a request.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Kind of the decision.
    pub kind: DecisionKind,
    /// Number of steps of the large model that may be skipped (k): 0 for a miss, T for a return. What another model
    /// skips follows from it when a job starts (`denoising`).
    pub skipped_steps: u32,
    /// Similarity of the nearest entry of the image cache, if there was one.
    pub similarity: Option<f64>,
    /// Image that a hit starts from or a return gives back; `None` for a full generation, and for a hit whose request
    /// brings a source of its own.
    pub source: Option<ImageId>,
    /// Level of approximation whose bounds decided the hit; 0 for the usual one (`routing::levels`).
    #[serde(default, skip_serializing_if = "is_usual")]
    pub level: u8,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_usual(level: &u8) -> bool {
    *level == 0
}

impl Decision {
    /// Returns the work that the decision is for a model, for a request of a size and a number of steps.
    #[must_use]
    #[inline]
    pub fn work(&self, model: ModelId, shape: Shape, denoising: &Denoising) -> Work {
        // Where steps are steps, those of the decision are those of the model, whatever its kind.
        if let Some(total_steps) = denoising.alike_steps(shape) {
            return Work { size: shape.size, ..Work::new(model, total_steps, self.skipped_steps) };
        }
        self.kind.work(self.skipped_steps, model, shape, denoising)
    }

    /// Makes a decision of a kind without an entry of the image cache.
    #[must_use]
    pub const fn new(kind: DecisionKind) -> Self {
        Self { kind, skipped_steps: 0, similarity: None, source: None, level: 0 }
    }

    /// Decides for a full generation. Of the nearest entry only the similarity is kept.
    #[must_use]
    pub fn miss(nearest: Option<Candidate<'_>>) -> Self {
        let similarity = nearest.map(|found| found.similarity);
        Self { similarity, ..Self::new(DecisionKind::Miss) }
    }

    /// Decides for a refinement of an entry.
    #[must_use]
    pub fn hit(found: Candidate<'_>, skipped_steps: u32) -> Self {
        let similarity = Some(found.similarity);
        Self { skipped_steps, similarity, source: Some(found.image), ..Self::new(DecisionKind::Hit) }
    }

    /// Decides for a refinement of a source that the request brings. No entry of the image cache is used.
    #[must_use]
    pub const fn of_own_source(skipped_steps: u32) -> Self {
        Self { skipped_steps, ..Self::new(DecisionKind::Hit) }
    }

    /// Decides for the unchanged image of an entry: all steps are skipped.
    #[must_use]
    pub fn returned(found: Candidate<'_>, total_steps: u32) -> Self {
        let similarity = Some(found.similarity);
        let skipped_steps = total_steps;
        Self { skipped_steps, similarity, source: Some(found.image), ..Self::new(DecisionKind::Return) }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_first(again: &bool) -> bool {
    !*again
}

/// Kind of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecisionKind {
    /// Full generation by a model that serves misses.
    Miss,
    /// Full generation by a light model. The confidence in the draft decides whether a large model makes the image
    /// again.
    Draft,
    /// Refinement of a retrieved image.
    Hit,
    /// Retrieved image, returned unchanged.
    Return,
}

impl DecisionKind {
    /// Returns the work that a decision of this kind is for a model. `skipped_steps` are those of the decision.
    pub fn work(self, skipped_steps: u32, model: ModelId, shape: Shape, denoising: &Denoising) -> Work {
        match self {
            Self::Hit => denoising.refinement(model, shape, skipped_steps),
            Self::Return => denoising.returned(shape),
            Self::Miss | Self::Draft => denoising.full(model, shape),
        }
    }

    /// Returns whether a cached image is used.
    pub const fn is_hit(self) -> bool {
        matches!(self, Self::Hit | Self::Return)
    }

    /// Returns the word for the kind in the `decision` column.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Miss => "miss",
            Self::Draft => "draft",
            Self::Hit => "hit",
            Self::Return => "return",
        }
    }
}

/// Stage of a request that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Embedding of the prompt.
    Encoding,
    /// Waiting for a worker.
    Waiting,
    /// Waiting as a late request, behind the requests that can meet their deadline.
    Late,
    /// Running on a worker.
    Running,
}

/// Latest job of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Worker of the job.
    pub worker: WorkerId,
    /// Model of the job.
    pub model: ModelId,
    /// Start of the job.
    pub start: Time,
    /// Number of requests of the job.
    pub together: u32,
}

/// Job of a request without a result: the job failed, or the confidence in its draft was too low.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Start of the job.
    pub start: Time,
    /// End of the job.
    pub end: Time,
    /// Number of requests of the job.
    pub together: u32,
}

/// Record of a request that has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// Request that ended.
    pub request: RequestId,
    /// Outcome of the request.
    pub outcome: Outcome,
    /// Stage in which the request ended.
    pub stage: Stage,
    /// Time at which the request was due to arrive.
    pub arrival: Time,
    /// Tenant of the request.
    pub tenant: TenantId,
    /// Deadline of the request, if it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Time>,
    /// Latest decision; `None` if the request was never routed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// Number of jobs that the request was part of.
    pub attempts: u32,
    /// Latest of these jobs; `None` if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Run>,
    /// Jobs without a result after which the request waited again, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<Span>,
    /// Wishes of the request beside its prompt.
    #[serde(default, skip_serializing_if = "Ask::is_usual")]
    pub ask: Ask,
    /// Place of the picture among those of its request.
    #[serde(default, skip_serializing_if = "Place::is_only")]
    pub place: Place,
}

impl Ended {
    /// Makes the record of a request that was never routed.
    #[must_use]
    pub const fn unrouted(request: &Request, outcome: Outcome) -> Self {
        Self {
            request: request.id,
            outcome,
            stage: Stage::Encoding,
            arrival: request.arrival,
            tenant: request.tenant,
            deadline: request.deadline,
            decision: None,
            attempts: 0,
            run: None,
            earlier: Vec::new(),
            ask: request.ask,
            place: request.place,
        }
    }
}

/// Decision of the monitor: a row of `allocation.csv`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tick {
    /// Number of large workers that the policy wants, before its controller.
    pub wanted_large: u32,
    /// State of the controller after the tick: the number of large workers as a real number.
    pub controller_state: f64,
    /// Number of large workers from now on.
    pub n_large: u32,
    /// Number of requests routed in the window, per minute.
    pub request_rate_per_min: f64,
    /// Number of hits of the window divided by its number of requests.
    pub hit_rate: f64,
    /// Mean of 1 - k/T over the hits of the window; 0 without hits.
    pub refine_fraction: f64,
    /// True if the load is more than the cluster can carry; `None` if the policy cannot tell.
    pub overloaded: Option<bool>,
    /// Number of workers by target model.
    pub targets: SmallVec<[u32; 3]>,
    /// Confidence below which a draft is made again, if the allocation is that of a cascade.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// Largest number of requests of a job, by model, if the allocation is that of a cascade.
    #[serde(default, skip_serializing_if = "SmallVec::is_empty")]
    pub batches: SmallVec<[u32; 3]>,
    /// Target by worker. Empty if the targets are in the order of the models, because they follow from `targets` then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by_worker: Vec<ModelId>,
}

/// Report for the journal. Executors ignore it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Note {
    /// Routing of a request.
    Routed {
        /// Request.
        request: RequestId,
        /// Time at which the request was due to arrive.
        arrival: Time,
        /// Decision for the request.
        decision: Decision,
        /// True if the request was routed before, and its source turned out to be missing or its draft is not good
        /// enough.
        #[serde(default, skip_serializing_if = "is_first")]
        again: bool,
    },
    /// Return of a request to the waiting ones after its job failed. The decision for it stays.
    Retried {
        /// Request.
        request: RequestId,
        /// Kind of its decision.
        kind: DecisionKind,
    },
    /// Reduction of the steps that a hit skips, because the hit is late or because another worker is ready for it.
    Eased {
        /// Request.
        request: RequestId,
        /// Number of steps that the request skips now.
        skipped_steps: u32,
    },
    /// Decision of the monitor.
    Ticked(Box<Tick>),
    /// Switch of a worker to another model in its memory, without a load.
    Switched {
        /// Worker.
        worker: WorkerId,
        /// Model that the next job of the worker would have used; `None` if the worker had none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<ModelId>,
        /// Model that the next job of the worker uses.
        model: ModelId,
    },
    /// Removal of an image from the image cache. A request may still need the image.
    Left {
        /// Image.
        image: ImageId,
        /// Reason for the removal.
        cause: Cause,
    },
    /// Check of an index that may miss the nearest entry, once for each request that searches the image cache.
    Audited {
        /// Request that searched.
        request: RequestId,
        /// Similarity of the entry that is in truth nearest, among the parts of the image cache that were searched.
        nearest: f64,
    },
}

/// Consequence of an event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Command to compute the embedding of a request's prompt. The answer is [`super::Event::Encoded`].
    Encode(RequestId),
    /// Command to run a job. The answer is `JobCompleted`, `JobFailed` or `SourceMissing`.
    Start {
        /// Number of the job.
        job: JobId,
        /// Worker that runs the job.
        worker: WorkerId,
        /// Model and steps, the same for all requests of the job.
        work: Work,
        /// Requests of the job.
        parts: SmallVec<[Part; 1]>,
    },
    /// Command to load a model onto a worker. The answer is `ModelLoaded` or `LoadFailed`.
    Load {
        /// Worker.
        worker: WorkerId,
        /// Model that the next job of the worker would have used; `None` if the worker had none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<ModelId>,
        /// Model to load.
        model: ModelId,
    },
    /// Command to compute the embedding of the image made for a request. The answer is [`super::Event::ImageEncoded`].
    EncodeImage(RequestId),
    /// Command to answer a request with a cached image, unchanged.
    Return {
        /// Request.
        request: RequestId,
        /// Cached image.
        image: ImageId,
    },
    /// Command to keep an image readable, because it is in the image cache now.
    Keep {
        /// Image.
        image: ImageId,
        /// Size of the image in bytes, if it is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bytes: Option<u64>,
    },
    /// Permission to delete an image: neither the image cache nor any request needs it any more.
    Release(ImageId),
    /// Command to stop a job at its next step. The job is still answered like any other job.
    CancelJob(JobId),
    /// End of a request, with its record.
    Finish(Box<Ended>),
    /// Report for the journal alone.
    Note(Note),
}
