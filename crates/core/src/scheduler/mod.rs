//! Core of the scheduler, without input or output: it takes events and returns actions. The core reads no clock, waits
//! for nothing and cannot fail. Its decisions are a function of its configuration and of the events so far.
//!
//! State has four owners: `requests`, the `cluster` of workers, the `queue` and the `library` of images. The module
//! `lifecycle` has the effects of each event on them, `dispatcher` has the choice of workers.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use smallvec::SmallVec;

use crate::cache::{Admission, ImageCache};
use crate::denoising::Denoising;
use crate::embedding::Embedding;
use crate::model::Size;
use crate::request::{Ask, Owner, RequestId};
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
pub use queue::{Late, Order, QueueSettings, TenantTerms};
pub use serving::{Hits, Serves, Serving};

use allocation::{AllocationPolicy, LargeTakesHits};
use cluster::Cluster;
use library::Library;
use monitor::Monitor;
use queue::Queue;
use requests::Requests;
use routing::RoutingPolicy;

/// Settings of the core, which do not change during a run.
#[derive(Clone, Debug)]
pub struct Config {
    /// Models, best first, and the requests that each may serve.
    pub serving: Serving,
    /// GPU types of the workers, and expected times of jobs and loads.
    pub hardware: Hardware,
    /// Order in which waiting requests are served, and treatment of late requests.
    pub queue: QueueSettings,
    /// Number of requests of a job, and the time that a job waits for more of them.
    pub batching: Batching,
    /// Steps and noise levels of the models.
    pub denoising: Denoising,
    /// Size of an image that asks for none. An ask for this size is the same as none.
    pub usual_size: Size,
    /// Images that enter the image cache, for systems that retrieve by image.
    pub admission: Admission,
    /// Number of failed jobs after which a request has failed, at least 1.
    pub max_attempts: u32,
    /// Weight of an image against the capacity of the image cache.
    pub weight: Weight,
    /// True if images are embedded even where the image cache does not need it, because their quality is measured.
    /// Images of requests that do not allow caching are left out, unless the request is a background request.
    pub measures_images: bool,
}

impl Config {
    /// Returns the settings of the paper: a large model and smaller ones, misses first, every image cached with weight
    /// 1, and three attempts for each request.
    #[must_use]
    pub fn paper(models: usize, hardware: Hardware, total_steps: u32) -> Self {
        Self {
            serving: Serving::large_and_small(models),
            hardware,
            queue: QueueSettings::paper(),
            batching: Batching::OFF,
            denoising: Denoising::alike(models, total_steps),
            usual_size: Size::USUAL,
            admission: Admission::All,
            max_attempts: 3,
            weight: Weight::One,
            measures_images: false,
        }
    }
}

impl Config {
    /// Returns an ask in which what is usual in the run is not asked for.
    fn without_the_usual(&self, ask: Ask) -> Ask {
        if ask.is_usual() {
            return ask;
        }
        let size = if ask.size == self.usual_size { Size::USUAL } else { ask.size };
        let steps = if ask.steps == self.denoising.large_steps() { 0 } else { ask.steps };
        Ask { size, steps, ..ask }
    }
}

/// Weight of an image against the capacity of the image cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// Weight 1 for each image, and for each state that Nirvana stores.
    One,
    /// Size of the image in bytes. The given number of bytes is used if the size is not known.
    Bytes(u64),
}

/// Image that is cached before time zero.
#[derive(Clone, Debug, PartialEq)]
pub struct WarmImage {
    /// Embedding by which the image is found: its own for text-to-image systems, that of its prompt for text-to-text
    /// systems.
    pub key: Embedding,
    /// Owner of the image.
    pub owner: Owner,
    /// Size of the image in bytes, if it is known.
    pub bytes: Option<u64>,
    /// Size and key of the image.
    pub ask: Ask,
}

/// Core of the scheduler. All systems share it and differ in its policies, simulated and live runs in the executor.
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
    /// Confidence below which a draft is made again by a large model.
    threshold: f64,
    /// Largest number of requests of a job, by model; empty unless the allocation decides it.
    batches: SmallVec<[u32; 3]>,
    /// Time of the latest event.
    now: Time,
    /// Background requests that have not ended. They wait apart from the queue.
    background: BTreeSet<RequestId>,
    /// Number of starts, since a late request was last started, in which a request in time went first although a worker
    /// was ready for a late one.
    passed_by: u32,
    /// Number of requests routed so far.
    routed: u32,
    jobs: u64,
    draining: bool,
    /// True once a request has asked for a checkpoint or LoRAs.
    has_weights: bool,
}

impl Scheduler {
    /// Makes a core at time zero, in which every worker has its target model loaded.
    #[must_use]
    pub fn new(
        config: Config,
        routing: Box<dyn RoutingPolicy>,
        cache: Option<ImageCache>,
        allocation: Box<dyn AllocationPolicy>,
    ) -> Self {
        let Config { serving, hardware, queue, denoising, .. } = &config;
        let monitor = Monitor::new(allocation, serving.models(), denoising.clone(), hardware.clone());
        let initial = monitor.initial();
        let (threshold, batches) = initial.cascade.map_or((0.0, SmallVec::new()), |own| (own.threshold, own.batches));
        Self {
            cluster: Cluster::new(&initial.targets, hardware, serving.models()),
            queue: Queue::new(queue.clone(), serving.clone(), hardware.clone(), denoising.clone()),
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
            has_weights: false,
        }
    }

    /// Caches images before time zero, oldest first.
    pub fn warm(&mut self, images: impl Iterator<Item = WarmImage>, actions: &mut Vec<Action>) {
        let usual = |image: WarmImage| WarmImage { ask: self.config.without_the_usual(image.ask), ..image };
        self.library.warm(images.map(usual), actions);
    }

    /// Takes one event and appends all its consequences to `actions`. Events must come in order of time. Events about
    /// requests, jobs or workers that are gone are ignored.
    pub fn handle(&mut self, now: Time, event: &Event, actions: &mut Vec<Action>) {
        self.now = now;
        // An arrival only begins the embedding of a prompt, and an encoded image changes the cache alone: neither calls
        // for another allocation. A wake-up asks the monitor by itself, in `woke_up`.
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

    /// Returns the time at which [`Event::WokeUp`] must be sent; `None` if no wake-up is needed. Once that event has
    /// been handled, the next time returned is later.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Time> {
        let earlier = |first: Option<Time>, next: Option<Time>| match (first, next) {
            (Some(first), Some(next)) => Some(first.min(next)),
            (first, next) => first.or(next),
        };
        let mut next = self.monitor.next_decision();
        // The loop asks for the next wake-up after every event. Where the settings rule a time out, the classes are not
        // searched for it.
        if self.queue.settings().fall_back.is_some() {
            next = earlier(next, self.next_fall_back());
        }
        // Only jobs of several requests wait for more of them.
        if self.config.batching.most > 1 {
            next = earlier(next, self.next_ripe());
        }
        next
    }

    /// Returns the number of requests that have not ended, plus the number of images that are being embedded.
    pub fn outstanding(&self) -> usize {
        self.requests.len() + self.library.outstanding()
    }

    /// Returns the numbers of full generations and of hits that wait for a worker. Background requests are not counted.
    pub fn waiting(&self) -> (usize, usize) {
        let hits = self.queue.hits();
        (self.queue.len() - hits, hits)
    }

    /// Returns the image cache, for checks; `None` if the system caches nothing.
    pub const fn cache(&self) -> Option<&ImageCache> {
        self.library.cache()
    }
}
