//! The sans-IO core: events in, actions out. It reads no clock, waits for nothing and cannot fail;
//! what it decides is a function of its configuration and of the events so far.
//!
//! State has four owners: `requests`, the `cluster` of workers, the `queue` and the `library` of images. The scheduler sequences
//! them: `lifecycle` has the effects of each event, `dispatcher` the choice of workers.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use smallvec::SmallVec;

use crate::cache::{Admission, ImageCache};
use crate::embedding::Embedding;
use crate::request::{Owner, RequestId};
use crate::time::Time;

pub mod action;
mod admission;
pub mod allocation;
mod background;
mod batching;
mod cluster;
mod dispatcher;
pub mod event;
pub mod hardware;
mod library;
mod lifecycle;
mod monitor;
mod queue;
mod requests;
pub mod routing;
pub mod serving;
mod situation;
#[cfg(test)]
mod tests;

pub use action::{Action, Decision, DecisionKind, Ended, Note, Part, Run, Span, Stage, Tick};
pub use batching::Batching;
pub use event::{Event, JobId, LossCause, Output, WorkerId};
pub use hardware::Hardware;
pub use queue::{Late, Order, QueueSettings, Terms};
pub use serving::{Hits, Serves, Serving};

use allocation::{AllocationPolicy, LargeTakesHits};
use cluster::Cluster;
use library::Library;
use monitor::Monitor;
use queue::Queue;
use requests::Requests;
use routing::RoutingPolicy;

/// What does not change during a run.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which models there are, best first, and what each may serve.
    pub serving: Serving,
    /// What the workers are, and how long things are expected to take on them.
    pub hardware: Hardware,
    /// Who goes first.
    pub queue: QueueSettings,
    /// How jobs are formed.
    pub batching: Batching,
    /// Denoising steps of a full generation (T).
    pub total_steps: u32,
    /// Which images are kept, for systems that retrieve by image.
    pub admission: Admission,
    /// How often a request is tried before it has failed, at least 1.
    pub max_attempts: u32,
    /// What an image counts for against the capacity.
    pub weight: Weight,
    /// Whether images are embedded that are not kept by it: their quality is measured. Images of requests that allow no
    /// keeping are left out, unless they are background requests.
    pub measures_images: bool,
}

impl Config {
    /// The paper's: every image of `total_steps` is kept and counts for one, a large model and smaller ones, misses
    /// first, three attempts.
    #[must_use]
    pub fn paper(models: usize, hardware: Hardware, total_steps: u32) -> Self {
        Self {
            serving: Serving::large_and_small(models),
            hardware,
            queue: QueueSettings::paper(),
            batching: Batching::OFF,
            total_steps,
            admission: Admission::All,
            max_attempts: 3,
            weight: Weight::One,
            measures_images: false,
        }
    }
}

/// What an image counts for against the capacity of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// One, as each of Nirvana's states does.
    One,
    /// Its bytes; so many where they are not known.
    Bytes(u64),
}

/// An image that is cached before time zero.
#[derive(Clone, Debug, PartialEq)]
pub struct WarmImage {
    /// What it is found by: the image's embedding for text-to-image systems, its prompt's for text-to-text ones.
    pub key: Embedding,
    /// Whose.
    pub owner: Owner,
    /// Its size, where it is known.
    pub bytes: Option<u64>,
}

/// The core. There is one; its policies and its executor vary.
#[derive(Debug)]
pub struct Scheduler {
    config: Config,
    routing: Box<dyn RoutingPolicy>,
    monitor: Monitor,
    requests: Requests,
    cluster: Cluster,
    queue: Queue,
    library: Library,
    large_takes_hits: LargeTakesHits,
    /// Drafts in which the confidence is below this are made again.
    threshold: f64,
    /// The most requests of a job by model, where the allocation says so.
    batches: SmallVec<[u32; 3]>,
    /// Time of the event at hand, or of the latest.
    now: Time,
    /// Background requests that have not ended: they wait apart from the queue.
    background: BTreeSet<RequestId>,
    /// Starts since a late request was last given one although others went first.
    passed_by: u32,
    /// Requests routed so far.
    routed: u32,
    jobs: u64,
    draining: bool,
}

impl Scheduler {
    /// A core at time zero, with every worker holding its target.
    #[must_use]
    pub fn new(
        config: Config,
        routing: Box<dyn RoutingPolicy>,
        cache: Option<ImageCache>,
        allocation: Box<dyn AllocationPolicy>,
    ) -> Self {
        let monitor = Monitor::new(allocation, config.serving.models(), config.total_steps);
        let initial = monitor.initial();
        let Config { serving, hardware, queue, total_steps, .. } = &config;
        let (threshold, batches) = initial.cascade.map_or((0.0, SmallVec::new()), |own| (own.threshold, own.batches));
        Self {
            cluster: Cluster::new(&initial.targets, hardware, serving.models()),
            queue: Queue::new(queue.clone(), serving.clone(), hardware.clone(), *total_steps),
            library: Library::new(&config, routing.storage(), cache),
            requests: Requests::default(),
            threshold,
            batches,
            now: Time::ZERO,
            config,
            routing,
            monitor,
            large_takes_hits: initial.large_takes_hits,
            background: BTreeSet::new(),
            passed_by: 0,
            routed: 0,
            jobs: 0,
            draining: false,
        }
    }

    /// Puts images into the cache before time zero, oldest first.
    pub fn warm(&mut self, images: impl Iterator<Item = WarmImage>, actions: &mut Vec<Action>) {
        self.library.warm(images, actions);
    }

    /// Takes one event and appends all its consequences to `actions`. Events come in order of time;
    /// those about requests, jobs or workers that are gone are ignored.
    pub fn handle(&mut self, now: Time, event: &Event, actions: &mut Vec<Action>) {
        self.now = now;
        let eventful = !matches!(event, Event::Arrived(_) | Event::ImageEncoded { .. } | Event::WokeUp);
        match *event {
            Event::Arrived(ref request) => self.arrive(request, actions),
            Event::Encoded { request, ref embedding } => self.encoded(now, request, embedding.as_ref(), actions),
            Event::JobCompleted { worker, job, ref outputs } => self.completed(now, worker, job, outputs, actions),
            Event::ImageEncoded { request, ref embedding } => {
                self.library.image_encoded(now, request, embedding.as_ref(), actions);
            }
            Event::JobFailed { worker, job, ref reason } => self.job_failed(now, worker, job, reason, actions),
            Event::SourceMissing { worker, job } => self.source_missing(now, worker, job, actions),
            Event::ModelLoaded { worker } => self.model_loaded(worker),
            Event::LoadFailed { worker, loaded, .. } => self.load_failed(now, worker, loaded),
            Event::WorkerDown(worker) => self.worker_down(now, worker, "worker lost", actions),
            Event::WorkerLost { worker, ref reason, .. } => self.worker_down(now, worker, reason, actions),
            Event::WorkerUp(worker) => self.worker_up(worker),
            Event::Cancelled(request) => self.cancel(request, actions),
            Event::Withdrawn { ref images, refined } => self.withdraw(images, refined, actions),
            Event::Drain => self.drain(actions),
            Event::WokeUp => self.woke_up(now, actions),
        }
        if eventful && self.monitor.happened(now) && !self.tick(now, actions) && self.cluster.has_failed_load() {
            // A policy that decides at events has no decision to come: without one, nothing would try the load again.
            self.monitor.happened(now);
        }
        self.dispatch(now, actions);
    }

    /// When to send [`Event::WokeUp`]: later than the last event handled once it has been.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Time> {
        let earlier = |first: Option<Time>, next: Option<Time>| match (first, next) {
            (Some(first), Some(next)) => Some(first.min(next)),
            (first, next) => first.or(next),
        };
        let mut next = self.monitor.next_decision();
        if self.queue.settings().fall_back.is_some() {
            next = earlier(next, self.next_fall_back());
        }
        if self.config.batching.most > 1 {
            next = earlier(next, self.next_ripe());
        }
        next
    }

    /// Requests that have arrived and not ended, and images whose embedding is to come.
    pub fn outstanding(&self) -> usize {
        self.requests.len() + self.library.outstanding()
    }

    /// Full generations and refinements that wait for a worker, without background requests.
    pub fn waiting(&self) -> (usize, usize) {
        let hits = self.queue.hits();
        (self.queue.len() - hits, hits)
    }

    /// The image cache, for checks; `None` where the system keeps nothing.
    pub const fn cache(&self) -> Option<&ImageCache> {
        self.library.cache()
    }
}
