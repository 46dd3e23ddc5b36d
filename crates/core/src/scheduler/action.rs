//! What the core wants done, and what it wants known. An executor carries out the first kind and
//! ignores the second ([`Action::Note`], [`Action::Finish`]); the journal records both.

use alloc::boxed::Box;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::event::{JobId, WorkerId};
use crate::cache::{Candidate, Cause};
use crate::image::ImageId;
use crate::model::{ModelId, Work};
use crate::request::{Outcome, Request, RequestId, TenantId};
use crate::time::Time;

/// One request of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Which.
    pub request: RequestId,
    /// The image it starts from, noised to the step where the work begins.
    pub source: Option<ImageId>,
}

/// What was decided for a request.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Miss, draft, hit or return.
    pub kind: DecisionKind,
    /// Steps spared (k): 0 for a miss, T for a return.
    pub skipped_steps: u32,
    /// Of the nearest entry, if there was one.
    pub similarity: Option<f64>,
    /// The image a hit starts from or a return gives back.
    pub source: Option<ImageId>,
    /// How far it goes under load; 0 for as usual (`routing::levels`).
    #[serde(default, skip_serializing_if = "is_usual")]
    pub level: u8,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_usual(level: &u8) -> bool {
    *level == 0
}

impl Decision {
    /// Without a look at what is cached.
    #[must_use]
    pub const fn of(kind: DecisionKind) -> Self {
        Self { kind, skipped_steps: 0, similarity: None, source: None, level: 0 }
    }

    /// A full generation, whatever is nearest.
    #[must_use]
    pub fn miss(nearest: Option<Candidate<'_>>) -> Self {
        let similarity = nearest.map(|found| found.similarity);
        Self { similarity, ..Self::of(DecisionKind::Miss) }
    }

    /// A refinement of this entry.
    #[must_use]
    pub fn hit(found: Candidate<'_>, skipped_steps: u32) -> Self {
        let similarity = Some(found.similarity);
        Self { skipped_steps, similarity, source: Some(found.image), ..Self::of(DecisionKind::Hit) }
    }

    /// This entry's image as it is, all steps spared.
    #[must_use]
    pub fn returned(found: Candidate<'_>, total_steps: u32) -> Self {
        let similarity = Some(found.similarity);
        let skipped_steps = total_steps;
        Self { skipped_steps, similarity, source: Some(found.image), ..Self::of(DecisionKind::Return) }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_first(again: &bool) -> bool {
    !*again
}

/// What a request is served by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecisionKind {
    /// A full generation.
    Miss,
    /// A full generation by a light model, to be judged.
    Draft,
    /// A refinement of a retrieved image.
    Hit,
    /// A retrieved image as it is.
    Return,
}

impl DecisionKind {
    /// Whether something cached was of use.
    pub const fn is_hit(self) -> bool {
        matches!(self, Self::Hit | Self::Return)
    }

    /// The word in the `decision` column.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Miss => "miss",
            Self::Draft => "draft",
            Self::Hit => "hit",
            Self::Return => "return",
        }
    }
}

/// Stages of a request's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Its prompt is embedded.
    Encoding,
    /// It waits for a worker.
    Waiting,
    /// It waits behind those that can be in time.
    Late,
    /// A worker runs it.
    Running,
}

/// The latest job of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Worker that ran it.
    pub worker: WorkerId,
    /// Model that ran.
    pub model: ModelId,
    /// Start of the job.
    pub start: Time,
    /// Requests of that job.
    pub together: u32,
}

/// A job of a request that came to nothing: it failed, or its image was not good enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Start of the job.
    pub start: Time,
    /// End of the job.
    pub end: Time,
    /// Requests of that job.
    pub together: u32,
}

/// A request that has ended, and all that became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// Request that ended.
    pub request: RequestId,
    /// Outcome.
    pub outcome: Outcome,
    /// Stage in which the request was.
    pub stage: Stage,
    /// Time at which the request was due to arrive.
    pub arrival: Time,
    /// Tenant of the request.
    pub tenant: TenantId,
    /// Deadline, if the request had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Time>,
    /// Latest decision; `None` if the request was never routed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// Jobs that it was part of.
    pub attempts: u32,
    /// The latest of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Run>,
    /// Those before that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<Span>,
}

impl Ended {
    /// Ends a request of which nothing was decided.
    #[must_use]
    pub const fn of(request: &Request, outcome: Outcome) -> Self {
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
        }
    }
}

/// One decision of the monitor: a row of `allocation.csv`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tick {
    /// Large workers the policy wants before its controller.
    pub wanted_large: u32,
    /// The controller's state after this tick: the real-valued number of large workers.
    pub controller_state: f64,
    /// Large workers from now on.
    pub n_large: u32,
    /// Requests routed a minute in the window.
    pub request_rate_per_min: f64,
    /// Hits / requests of the window.
    pub hit_rate: f64,
    /// Mean of 1 - k/T over the window's hits; 0 without hits.
    pub refine_fraction: f64,
    /// Whether the load is more than the cluster can carry, where the policy can tell.
    pub overloaded: Option<bool>,
    /// Workers by target model.
    pub targets: SmallVec<[u32; 3]>,
    /// A draft is made again if the confidence in it is below this; of a cascade.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// The most requests of a job by model, likewise.
    #[serde(default, skip_serializing_if = "SmallVec::is_empty")]
    pub batches: SmallVec<[u32; 3]>,
    /// Target by worker, unless the first workers have the best model, the next ones the second, and so on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by_worker: Vec<ModelId>,
}

/// Something only the journal needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Note {
    /// A request was routed.
    Routed {
        /// Which.
        request: RequestId,
        /// Time at which the request was due to arrive.
        arrival: Time,
        /// To what.
        decision: Decision,
        /// Whether not for the first time: its source turned out to be missing, or its draft is not good enough.
        #[serde(default, skip_serializing_if = "is_first")]
        again: bool,
    },
    /// A request whose job came to nothing waits again, as what was decided for it before.
    Retried {
        /// Request.
        request: RequestId,
        /// Kind of its decision.
        kind: DecisionKind,
    },
    /// A hit that is late skips fewer steps than it was to.
    Eased {
        /// Which.
        request: RequestId,
        /// So many.
        skipped_steps: u32,
    },
    /// The monitor decided.
    Ticked(Box<Tick>),
    /// A worker went on to another of the models in its memory.
    Switched {
        /// Which.
        worker: WorkerId,
        /// What it would run with now.
        model: ModelId,
    },
    /// An image is no longer in the cache; a request may still need it.
    Left {
        /// Which.
        image: ImageId,
        /// Why.
        cause: Cause,
    },
    /// An index that may miss the nearest entry was checked, once for each request that is routed.
    Audited {
        /// Whose search.
        request: RequestId,
        /// The similarity of the truly nearest entry in the places that were searched.
        nearest: f64,
    },
}

/// A consequence of an event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Compute a prompt's embedding; answered by [`super::Event::Encoded`].
    Encode(RequestId),
    /// Run a job; answered by `JobCompleted`, `JobFailed` or `SourceMissing`.
    Start {
        /// Its number.
        job: JobId,
        /// Where.
        worker: WorkerId,
        /// Model and steps, the same for all its requests.
        work: Work,
        /// Its requests.
        parts: SmallVec<[Part; 1]>,
    },
    /// Bring a model onto a worker; answered by `ModelLoaded` or `LoadFailed`.
    Load {
        /// Where.
        worker: WorkerId,
        /// Which.
        model: ModelId,
    },
    /// Compute the embedding of the image made for this request; answered by [`super::Event::ImageEncoded`].
    EncodeImage(RequestId),
    /// Give a cached image back as it is.
    Return {
        /// To whom.
        request: RequestId,
        /// Which.
        image: ImageId,
    },
    /// Keep this image readable: it is in the cache now.
    Keep {
        /// Which.
        image: ImageId,
        /// Its size, where it is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bytes: Option<u64>,
    },
    /// Nothing needs this image any more.
    Release(ImageId),
    /// Stop a job at its next step; still answered like any job.
    CancelJob(JobId),
    /// A request has ended.
    Finish(Box<Ended>),
    /// For the journal alone.
    Note(Note),
}
