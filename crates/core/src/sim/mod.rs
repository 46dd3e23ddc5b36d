//! Simulated executor: a heap of answers, a latency model and a clock that jumps. The executor never reads the clock of the host,
//! so a slow search or policy changes no result.

use alloc::collections::BinaryHeap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::{Ordering, Reverse};

use smallvec::{SmallVec, smallvec};

use crate::confidence::Confidences;
use crate::embedding::{Embedding, EmbeddingMatrix};
use crate::model::{GpuId, ModelId, Work};
use crate::replay::{Executor, Step};
use crate::request::RequestId;
use crate::scheduler::{Action, Event, JobId, Output, Part, WorkerId};
use crate::time::{Duration, Moment, Rank, Time};

mod contention;
mod faults;
mod latency;
mod measured;

pub use faults::{Faults, Spell};
pub use latency::{LatencyModel, ProfileLatency};
pub use measured::Measured;

use contention::{Drawing, Pace};

/// Settings of the executor for one run.
#[derive(Debug)]
pub struct Settings<L> {
    /// Source of the times that work takes.
    pub latency: L,
    /// GPU type by worker.
    pub gpus: Vec<GpuId>,
    /// Embeddings of the prompts, by row, if the system searches the image cache.
    pub prompts: Option<EmbeddingMatrix>,
    /// Embeddings of the images that requests would produce, by row, if images are found by them.
    pub images: Option<EmbeddingMatrix>,
    /// Sizes of these images.
    pub sizes: ImageSizes,
    /// Confidences that the drafts of a light model are good enough, if the system is a cascade.
    pub confidences: Option<Confidences>,
    /// Faults of the workers.
    pub faults: Faults,
}

/// Sizes of images in bytes, if they are known.
#[derive(Clone, Debug, Default)]
pub struct ImageSizes {
    /// Size of the image of each request, by row.
    pub by_row: Option<Arc<[u64]>>,
    /// Size that is assumed for all images if `by_row` is absent.
    pub usual: Option<u64>,
}

impl ImageSizes {
    fn bytes_of(&self, request: RequestId) -> Option<u64> {
        self.by_row.as_ref().map(|bytes| bytes[request.row()]).or(self.usual)
    }
}

/// Executor that answers actions at simulated times.
#[derive(Debug)]
pub struct Simulated<L> {
    settings: Settings<L>,
    due: BinaryHeap<Reverse<Due>>,
    /// Answer that is due before all answers in `due`, if there is one. Most answers are due at once and so never enter the heap.
    next: Option<Due>,
    sequence: u64,
    /// Activity of each worker. An answer that does not belong to the activity of its worker is out of date.
    workers: Vec<SimulatedWorker>,
    /// True once a job has begun whose pace depends on the other workers.
    contended: bool,
}

/// Answer and the time at which it is due, in the order of docs/semantics.md, section 2.
#[derive(Clone, Copy, Debug)]
struct Due {
    time: Time,
    /// Rank among the answers that are due at the same time, in the high bits, and the number of the answer in the low bits. The
    /// numbers of all answers differ.
    order: u64,
    answer: Answer,
}

/// Number of bits in [`Due::order`] for the number of the answer.
const NUMBER: u32 = 56;

impl Due {
    fn key(&self) -> (Time, u64) {
        (self.time, self.order)
    }

    /// Returns whether the answer comes after a deadline.
    fn is_after(&self, deadline: Moment) -> bool {
        (deadline.time, deadline.rank as u64) < (self.time, self.order >> NUMBER)
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    /// End of the job that the worker runs, if its pace has not changed since.
    Completed {
        worker: WorkerId,
        pace: u32,
    },
    Stopped {
        worker: WorkerId,
        job: JobId,
    },
    Loaded {
        worker: WorkerId,
        load: u64,
        fails: bool,
    },
    Encoded(RequestId),
    ImageEncoded(RequestId),
}

#[derive(Clone, Debug, Default)]
struct SimulatedWorker {
    job: Option<(JobId, SmallVec<[RequestId; 2]>)>,
    begun: Time,
    step: Duration,
    pace: Pace,
    /// Sequence number of the answer to the latest load.
    load: u64,
    /// Model of the latest load that does not fail, and the start of that load.
    holds: Option<(Time, ModelId)>,
}

impl<L: LatencyModel> Simulated<L> {
    /// Makes an executor at time zero.
    #[must_use]
    pub fn new(settings: Settings<L>) -> Self {
        let workers = vec![SimulatedWorker::default(); settings.gpus.len()];
        Self { settings, due: BinaryHeap::new(), next: None, sequence: 0, workers, contended: false }
    }

    fn push(&mut self, time: Time, rank: Rank, answer: Answer) {
        self.sequence += 1;
        let due = Due { time, order: (rank as u64) << NUMBER | self.sequence, answer };
        let is_first = self.first().is_none_or(|first| due < *first);
        let later = if is_first { self.next.replace(due) } else { Some(due) };
        self.due.extend(later.map(Reverse));
    }

    /// Returns the answer that is due first.
    fn first(&self) -> Option<&Due> {
        self.next.as_ref().or(self.due.peek().map(|Reverse(first)| first))
    }

    /// Removes the answer that is due first.
    fn pop(&mut self) {
        if self.next.take().is_none() {
            self.due.pop();
        }
    }

    fn cancel(&mut self, now: Time, job: JobId) {
        let running = |doing: &SimulatedWorker| doing.job.as_ref().is_some_and(|(running, _)| *running == job);
        let Some(index) = self.workers.iter().position(running) else { return };
        let doing = &self.workers[index];
        // A job can stop only between two steps.
        let step = doing.step.nanoseconds().max(1);
        let steps = now.since(doing.begun).nanoseconds().div_ceil(step);
        let stop = doing.begun + Duration::from_nanoseconds(steps.saturating_mul(step));
        self.push(stop, Rank::Job, Answer::Stopped { worker: WorkerId(index as u16), job });
    }

    /// Changes the pace of the running jobs after a worker has begun or ended a job.
    fn repace(&mut self, now: Time) {
        if !self.contended {
            return;
        }
        let workers = self.workers.len();
        let mut drawing = Drawing::default();
        for doing in self.workers.iter().filter(|doing| doing.job.is_some()) {
            drawing.add(doing.pace.model());
        }
        for index in 0..workers {
            let doing = &mut self.workers[index];
            if doing.job.is_some() && !doing.pace.is_steady() {
                let due = now + doing.pace.change(now, &drawing, workers);
                let pace = doing.pace.number;
                self.push(due, Rank::Job, Answer::Completed { worker: WorkerId(index as u16), pace });
            }
        }
    }

    fn start(&mut self, now: Time, job: JobId, worker: WorkerId, work: Work, parts: &[Part]) {
        let gpu = self.settings.gpus[worker.index()];
        let usual = self.settings.latency.job(gpu, work, parts[0].request, parts.len());
        let slowed = |factor: f64| Duration::from_seconds_saturating(usual.seconds() * factor);
        let duration = self.settings.faults.slowdown(worker, now).map_or(usual, slowed);
        let (alone, beside) =
            (self.settings.latency.alone(gpu, work.model), self.settings.latency.beside(gpu, work.model));
        let doing = &mut self.workers[worker.index()];
        let mut requests = SmallVec::new();
        for part in parts {
            requests.push(part.request);
        }
        doing.job = Some((job, requests));
        doing.begun = now;
        doing.step = Duration::from_nanoseconds(duration.nanoseconds() / u64::from(work.steps_run().max(1)));
        doing.pace.begin(now, duration, work.model, alone, beside);
        if doing.pace.is_steady() {
            let pace = doing.pace.number;
            self.push(now + duration, Rank::Job, Answer::Completed { worker, pace });
        } else {
            self.contended = true;
        }
        self.repace(now);
    }

    /// Returns the embedding of the image that a request produces; `None` if images are not embedded.
    fn image(&self, request: RequestId) -> Option<Embedding> {
        self.settings.images.as_ref().map(|images| images.embedding(request.row()))
    }

    /// Returns the result of a job for a request.
    fn output(&mut self, request: RequestId) -> Output {
        let at_once = self.settings.latency.image_encoding(request) == Duration::ZERO;
        Output {
            request,
            embedding: if at_once { self.image(request) } else { None },
            bytes: self.settings.sizes.bytes_of(request),
            confidence: self.settings.confidences.as_ref().map(|confidences| confidences.confidence(request)),
        }
    }

    /// Returns the event of an answer; `None` if the answer is out of date.
    fn event(&mut self, now: Time, answer: Answer) -> Option<Event> {
        match answer {
            Answer::Encoded(request) => {
                let embedding = self.settings.prompts.as_ref().map(|prompts| prompts.embedding(request.row()));
                Some(Event::Encoded { request, embedding })
            }
            Answer::ImageEncoded(request) => Some(Event::ImageEncoded { request, embedding: self.image(request) }),
            Answer::Completed { worker, pace } => {
                let doing = &mut self.workers[worker.index()];
                if doing.pace.number != pace {
                    return None;
                }
                let (job, requests) = doing.job.take()?;
                self.repace(now);
                let outputs = match requests.as_slice() {
                    [request] => smallvec![self.output(*request)],
                    requests => requests.iter().map(|request| self.output(*request)).collect(),
                };
                Some(Event::JobCompleted { worker, job, outputs })
            }
            Answer::Stopped { worker, job } => {
                let doing = &mut self.workers[worker.index()];
                doing.job.take_if(|(running, _)| *running == job)?;
                self.repace(now);
                Some(Event::JobFailed { worker, job, reason: "cancelled".into() })
            }
            Answer::Loaded { worker, load, fails } => {
                let doing = &self.workers[worker.index()];
                if doing.load != load {
                    return None;
                }
                if !fails {
                    return Some(Event::ModelLoaded { worker });
                }
                let loaded = self.settings.faults.held(worker, doing.holds, now);
                Some(Event::LoadFailed { worker, loaded, reason: "the scenario says so".into() })
            }
        }
    }
}

impl<L: LatencyModel> Executor for Simulated<L> {
    type Error = core::convert::Infallible;

    fn submit(&mut self, now: Time, action: &Action) -> Result<(), Self::Error> {
        match *action {
            Action::Encode(request) => {
                let due = now + self.settings.latency.retrieval(request);
                self.push(due, Rank::Route, Answer::Encoded(request));
            }
            Action::EncodeImage(request) => {
                let due = now + self.settings.latency.image_encoding(request);
                self.push(due, Rank::Outside, Answer::ImageEncoded(request));
            }
            Action::Start { job, worker, work, ref parts } => self.start(now, job, worker, work, parts),
            Action::Load { worker, model } => {
                let duration = self.settings.latency.load(worker, self.settings.gpus[worker.index()], model);
                let fails = self.settings.faults.load_fails(worker, now);
                let doing = &mut self.workers[worker.index()];
                let held = doing.holds;
                doing.load = self.sequence + 1;
                doing.holds = if fails { held } else { Some((now, model)) };
                self.push(now + duration, Rank::Load, Answer::Loaded { worker, load: self.sequence + 1, fails });
            }
            Action::CancelJob(job) => self.cancel(now, job),
            // The simulation has no image data to store or return, and the other actions are for the journal.
            Action::Return { .. }
            | Action::Keep { .. }
            | Action::Release(_)
            | Action::Finish { .. }
            | Action::Note(_) => {}
        }
        Ok(())
    }

    fn wait(&mut self, deadline: Option<Moment>) -> Result<Step, Self::Error> {
        while let Some(due) = self.first().copied() {
            if deadline.is_some_and(|deadline| due.is_after(deadline)) {
                break;
            }
            self.pop();
            if let Some(event) = self.event(due.time, due.answer) {
                return Ok(Step::Completed(due.time, event));
            }
        }
        Ok(deadline.map_or(Step::Idle, |deadline| Step::DeadlineReached(deadline.time)))
    }

    fn in_flight(&self) -> usize {
        self.due.len() + usize::from(self.next.is_some())
    }
}
