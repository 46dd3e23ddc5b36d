//! Simulated executor: a heap of answers, a latency model and a clock that jumps. The executor never reads the clock of
//! the host, so a slow search or policy changes no result.

use alloc::boxed::Box;
use alloc::collections::BinaryHeap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Reverse;

use smallvec::{SmallVec, smallvec};

use crate::confidence::Confidences;
use crate::embedding::{Embedding, EmbeddingMatrix};
use crate::model::{GpuId, ModelId, Work};
use crate::network::Network;
use crate::replay::{Executor, Step};
use crate::request::RequestId;
use crate::scheduler::{Action, Event, JobId, Output, Part, WorkerId};
use crate::time::{Duration, Moment, Rank, Time};

mod contention;
mod due;
mod faults;
mod latency;
mod links;
mod measured;
#[cfg(test)]
mod tests;
mod trips;

pub use faults::{Faults, Spell};
pub use latency::{LatencyModel, ProfileLatency};
pub use measured::Measured;

use contention::{Contention, Drawing, Ending, FirstEnd, Neighbours, RunningJob, whole_steps};
use due::{Answer, Due};
use trips::Trips;

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
    /// Network between the scheduler and the workers; `None` if orders and pictures take no time.
    pub network: Option<Network>,
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
    /// Answer that is due before all answers in `due`, if there is one. Most answers are due at once and so never enter
    /// the heap.
    next: Option<Due>,
    sequence: u64,
    /// Activity of each worker. An answer that does not belong to the activity of its worker is out of date.
    workers: Vec<SimulatedWorker>,
    /// Jobs whose time depends on the other workers, and the workers that run jobs; `None` until such a job begins.
    contention: Option<(Contention, Drawing)>,
    /// Jobs on their way over the network; `None` without a network.
    trips: Option<Box<Trips>>,
}

#[derive(Clone, Debug)]
struct SimulatedWorker {
    job: Option<(JobId, SmallVec<[RequestId; 2]>)>,
    /// True while the job is drawn: all the time without a network.
    draws: bool,
    begun: Time,
    /// Work of its class at the begin of the latest job, nanoseconds; `None` if its time does not depend on others.
    begun_work: Option<f64>,
    /// Work of a step of the latest job: its time while every other worker runs a job.
    step: Duration,
    /// Model of the latest job; of no meaning before the first.
    model: ModelId,
    /// Number of the latest job: an answer for an earlier one is out of date.
    number: u32,
    /// Sequence number of the answer to the latest load; 0 if there is none to come.
    load: u64,
    /// Model of the latest load that does not fail, and the start of that load.
    holds: Option<(Time, ModelId)>,
}

impl SimulatedWorker {
    const fn idle() -> Self {
        let (begun, step, model) = (Time::ZERO, Duration::ZERO, ModelId::LARGE);
        Self { job: None, draws: false, begun, begun_work: None, step, model, number: 0, load: 0, holds: None }
    }
}

impl<L: LatencyModel> Settings<L> {
    /// Returns how the time of a job depends on the other workers.
    fn neighbours(&self, gpu: GpuId, model: ModelId) -> Neighbours<'_> {
        Neighbours { alone: self.latency.alone(gpu, model), beside: self.latency.beside(gpu, model) }
    }
}

impl<L: LatencyModel> Simulated<L> {
    /// Makes an executor at time zero.
    #[must_use]
    pub fn new(settings: Settings<L>) -> Self {
        let workers = vec![SimulatedWorker::idle(); settings.gpus.len()];
        let trips = settings.network.clone().map(|network| Box::new(Trips::new(network)));
        Self { settings, due: BinaryHeap::new(), next: None, sequence: 0, workers, contention: None, trips }
    }

    fn push(&mut self, time: Time, rank: Rank, answer: Answer) {
        self.sequence += 1;
        let due = Due::new(time, rank, self.sequence, answer);
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
        let worker = WorkerId(index as u16);
        match &self.trips {
            Some(trips) if trips.one_way() > Duration::ZERO => {
                let arrival = now + trips.one_way();
                self.push(arrival, Rank::Job, Answer::CancelArrived { worker, job });
            }
            _ => self.stop(now, worker, job),
        }
    }

    /// Stops the job of a worker, which was cancelled.
    fn stop(&mut self, now: Time, worker: WorkerId, job: JobId) {
        let index = worker.index();
        let SimulatedWorker { draws, begun, begun_work, step, model, number, .. } = self.workers[index];
        if !draws {
            self.stop_waiting(now, worker);
            return;
        }
        // A job can stop only between two steps. Beside others these come sooner or later as the pace changes.
        if let (Some(begun), Some((contention, _))) = (begun_work, &mut self.contention) {
            contention.stop(now, self.settings.gpus[index], model, begun, step, RunningJob { worker, number });
            self.repace(now);
        } else {
            let stop = begun + whole_steps(now.since(begun), step);
            // The answer at the end of the whole job stays in the heap. It will find no job, or one with another
            // number.
            self.push(stop, Rank::Job, Answer::Stopped { worker, job });
        }
    }

    /// Changes the pace of the running jobs after a worker has begun or ended a job.
    fn repace(&mut self, now: Time) {
        let Self { contention, workers, settings, .. } = self;
        let Some((contention, drawing)) = contention else { return };
        let neighbours = |gpu, model| settings.neighbours(gpu, model);
        let current = |job: RunningJob| {
            let worker = &workers[job.worker.index()];
            worker.number == job.number && worker.draws
        };
        let first_ends = contention.repace(now, drawing, workers.len(), neighbours, current);
        // Ends of the former pace stay in the heap: `Contention::end` knows them by their numbers.
        for FirstEnd { class, number, time } in first_ends {
            self.push(time, Rank::Job, Answer::FirstEnded { class, number });
        }
    }

    /// Counts the workers that draw now.
    fn drawing(&self) -> Drawing {
        let mut drawing = Drawing::default();
        for worker in self.workers.iter().filter(|worker| worker.draws) {
            drawing.add(worker.model);
        }
        drawing
    }

    /// Ends the drawing of a job, if it is still the one that its worker draws.
    fn drawn(&mut self, now: Time, running: RunningJob) -> Option<Event> {
        let RunningJob { worker, number } = running;
        let state = &self.workers[worker.index()];
        if state.number != number || !state.draws {
            return None;
        }
        if self.trips.is_some() { self.send_back(now, running) } else { self.completed(now, worker) }
    }

    /// Ends a job with its pictures.
    #[inline]
    fn completed(&mut self, now: Time, worker: WorkerId) -> Option<Event> {
        let (job, requests) = self.take_job(now, worker)?;
        let mut outputs = match requests.as_slice() {
            [request] => smallvec![self.output(*request)],
            requests => requests.iter().map(|request| self.output(*request)).collect(),
        };
        if let Some(trips) = &self.trips {
            trips.note(worker, &mut outputs);
        }
        Some(Event::JobCompleted { worker, job, outputs })
    }

    /// Ends the drawing of a cancelled job.
    fn stopped(&mut self, now: Time, worker: WorkerId) -> Option<Event> {
        if self.trips.is_some() { self.tell_stopped(now, worker) } else { self.failed(now, worker) }
    }

    /// Ends a cancelled job.
    fn failed(&mut self, now: Time, worker: WorkerId) -> Option<Event> {
        let (job, _) = self.take_job(now, worker)?;
        Some(Event::JobFailed { worker, job, reason: "cancelled".into() })
    }

    /// Takes the job of a worker, which runs no longer.
    fn take_job(&mut self, now: Time, worker: WorkerId) -> Option<(JobId, SmallVec<[RequestId; 2]>)> {
        let job = self.workers[worker.index()].job.take()?;
        self.stop_drawing(now, worker);
        Some(job)
    }

    /// Ends the drawing of a worker, which slows others down no longer.
    fn stop_drawing(&mut self, now: Time, worker: WorkerId) {
        let state = &mut self.workers[worker.index()];
        if core::mem::take(&mut state.draws)
            && let Some((_, drawing)) = &mut self.contention
        {
            drawing.remove(state.model);
            self.repace(now);
        }
    }

    /// Drops what a lost worker does: its job and its load are never answered, and its job slows others down no longer.
    fn lose(&mut self, now: Time, worker: WorkerId) {
        if let Some(state) = self.workers.get_mut(worker.index()) {
            // No answer has this number.
            state.load = 0;
            self.take_job(now, worker);
        }
    }

    #[inline]
    fn start(&mut self, now: Time, job: JobId, worker: WorkerId, work: Work, parts: &[Part]) {
        let state = &mut self.workers[worker.index()];
        let replaced = state.job.replace((job, parts.iter().map(|part| part.request).collect()));
        assert!(replaced.is_none(), "a worker runs one job; the executor was not told of the loss of the worker");
        state.number = state.number.wrapping_add(1);
        let running = RunningJob { worker, number: state.number };
        if self.trips.is_some() {
            self.order(now, running, work, parts);
        } else {
            self.draw(now, running, work, parts[0].request, parts.len());
        }
    }

    /// Begins to draw the job of a worker, which is of `requests` requests.
    #[inline]
    fn draw(&mut self, now: Time, running: RunningJob, work: Work, first: RequestId, requests: usize) {
        let worker = running.worker;
        let gpu = self.settings.gpus[worker.index()];
        let usual = self.settings.latency.job(gpu, work, first, requests);
        let slowed = |factor: f64| Duration::from_seconds_saturating(usual.seconds() * factor);
        let duration = self.settings.faults.slowdown(worker, now).map_or(usual, slowed);
        let is_steady = self.settings.neighbours(gpu, work.model).are_of_no_effect();
        // Neighbours are counted from the first job on for which they matter. Runs without such a job pay nothing for
        // them.
        if self.contention.is_none() && !is_steady {
            self.contention = Some((Contention::default(), self.drawing()));
        }
        let state = &mut self.workers[worker.index()];
        (state.draws, state.begun, state.begun_work) = (true, now, None);
        state.step = Duration::from_nanoseconds(duration.nanoseconds() / u64::from(work.steps_run().max(1)));
        state.model = work.model;
        if is_steady {
            self.push(now + duration, Rank::Job, Answer::Drawn(running));
        }
        if let Some((contention, drawing)) = &mut self.contention {
            drawing.add(work.model);
            if !is_steady {
                let begun = contention.begin(now, gpu, work.model, duration, running);
                self.workers[worker.index()].begun_work = Some(begun);
            }
            self.repace(now);
        }
    }

    /// Returns the embedding of the image that a request produces; `None` if images are not embedded.
    fn image(&self, request: RequestId) -> Option<Embedding> {
        self.settings.images.as_ref().map(|images| images.embedding(request.row()))
    }

    /// Returns the result of a job for a request.
    fn output(&mut self, request: RequestId) -> Output {
        // An image that is embedded in no time must be cached before the dispatcher runs (docs/semantics.md, section
        // 5): it comes with its job and not by an event of its own.
        let at_once = self.settings.latency.image_encoding(request) == Duration::ZERO;
        Output {
            request,
            embedding: if at_once { self.image(request) } else { None },
            bytes: self.settings.sizes.bytes_of(request),
            confidence: self.settings.confidences.as_ref().map(|confidences| confidences.confidence(request)),
            source_fetched: None,
        }
    }

    /// Returns the state of a worker, if it runs a job.
    fn runs(&self, worker: WorkerId, job: JobId) -> Option<&SimulatedWorker> {
        let state = &self.workers[worker.index()];
        state.job.as_ref().is_some_and(|(running, _)| *running == job).then_some(state)
    }

    /// Returns the event of an answer; `None` if the answer is out of date.
    fn event(&mut self, now: Time, answer: Answer) -> Option<Event> {
        match answer {
            Answer::Encoded(request) => {
                let embedding = self.settings.prompts.as_ref().map(|prompts| prompts.embedding(request.row()));
                Some(Event::Encoded { request, embedding })
            }
            Answer::ImageEncoded(request) => Some(Event::ImageEncoded { request, embedding: self.image(request) }),
            Answer::Drawn(running) => self.drawn(now, running),
            Answer::StageEnded(running) => self.stage_ended(now, running),
            Answer::FirstEnded { class, number } => {
                let (contention, _) = self.contention.as_mut()?;
                let (running, ending) = contention.end(class, number)?;
                match ending {
                    Ending::Completed => self.drawn(now, running),
                    Ending::Stopped => self.stopped(now, running.worker),
                }
            }
            Answer::Stopped { worker, job } => {
                self.runs(worker, job).filter(|state| state.draws)?;
                self.stopped(now, worker)
            }
            Answer::CancelArrived { worker, job } => {
                self.runs(worker, job)?;
                self.stop(now, worker, job);
                None
            }
            Answer::Loaded { worker, load, fails } => {
                let doing = &self.workers[worker.index()];
                // The worker was lost while it loaded.
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
                // An embedded image enters the cache after the jobs, loads, ticks and routings of the same instant
                // (docs/semantics.md, section 8: rank 4).
                self.push(due, Rank::Outside, Answer::ImageEncoded(request));
            }
            Action::Start { job, worker, work, ref parts } => self.start(now, job, worker, work, parts),
            Action::Load { worker, from, model } => {
                let duration = self.settings.latency.load(worker, self.settings.gpus[worker.index()], from, model);
                let duration = self.trips.as_ref().map_or(duration, |trips| duration + trips.load());
                let fails = self.settings.faults.load_fails(worker, now);
                let doing = &mut self.workers[worker.index()];
                let held = doing.holds;
                // `push` gives the answer this number.
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

    fn notice(&mut self, now: Time, event: &Event) {
        if let Event::WorkerDown(worker) | Event::WorkerLost { worker, .. } = *event {
            self.lose(now, worker);
        }
    }

    fn wait(&mut self, deadline: Option<Moment>) -> Result<Step, Self::Error> {
        // Answers that are out of date are passed over: they are no event.
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
