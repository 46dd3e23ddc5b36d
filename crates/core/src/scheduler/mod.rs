//! The sans-IO core: events in, actions out. It reads no clock, waits for nothing and cannot fail;
//! what it decides is a function of its configuration and of the events so far.
//!
//! What each event leads to is in `lifecycle`; who gets which worker is in `dispatcher`.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use smallvec::SmallVec;

use crate::cache::{Admission, Departures, Entry, ImageCache};
use crate::embedding::Embedding;
use crate::image::ImageId;
use crate::request::{Outcome, Owner, Request, RequestId, TenantId};
use crate::time::Time;
use crate::window::Window;

pub mod action;
mod admission;
pub mod allocation;
mod background;
mod backlog;
mod batching;
mod dispatcher;
pub mod event;
pub mod hardware;
mod lifecycle;
mod monitor;
pub mod routing;
pub mod serving;
mod situation;
#[cfg(test)]
mod tests;
mod worker;

pub use action::{Action, Decision, DecisionKind, Note, Part, Tick};
pub use backlog::{Late, Order, QueueSettings, Terms};
pub use batching::Batching;
pub use event::{Event, JobId, LossCause, Output, WorkerId};
pub use hardware::Hardware;
pub use serving::{Hits, Serves, Serving};

use allocation::{AllocationPolicy, LargeTakesHits};
use backlog::{Backlog, Waits};
use monitor::Monitor;
use routing::{RoutingPolicy, Storage};
use worker::Workers;

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
    storage: Storage,
    /// `None` where nothing is retrieved.
    cache: Option<ImageCache>,
    monitor: Monitor,
    large_takes_hits: LargeTakesHits,
    /// Drafts in which the confidence is below this are made again.
    threshold: f64,
    /// The most requests of a job by model, where the allocation says so.
    batches: SmallVec<[u32; 3]>,
    workers: Workers,
    /// The time of the event at hand, or of the latest.
    now: Time,
    requests: Window<Pending>,
    backlog: Backlog,
    /// Background requests that have not ended: they wait apart from the backlog.
    background: BTreeSet<RequestId>,
    /// Starts since a late request was last given one although others went first.
    passed_by: u32,
    /// Requests routed so far.
    routed: u32,
    jobs: u64,
    /// Images whose embedding is to come, by request; `None` for those that are measured and not kept.
    encoding: BTreeMap<RequestId, Option<Admitted>>,
    draining: bool,
    /// Scratch for what the cache lets go.
    departures: Departures,
}

/// A request that has not ended.
#[derive(Debug)]
struct Pending {
    request: Request,
    phase: Phase,
    /// Set when routed.
    decision: Option<Decision>,
    /// The how-manieth it was routed.
    order: u32,
    /// Where it waits, or waited last.
    waits: Option<Waits>,
    failures: u32,
    /// The prompt's embedding, where the image will be stored under it.
    key: Option<Embedding>,
}

/// An image that is cached once its embedding is there.
#[derive(Clone, Copy, Debug)]
struct Admitted {
    tenant: TenantId,
    bytes: Option<u64>,
    /// The image that it was made from.
    source: Option<ImageId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Encoding,
    Waiting,
    Running(WorkerId, JobId),
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
        let storage = routing.storage();
        let cache = if storage == Storage::None { None } else { cache };
        let monitor = Monitor::new(allocation, config.serving.models(), config.total_steps);
        let initial = monitor.initial();
        let Config { serving, hardware, queue, total_steps, .. } = &config;
        let (threshold, batches) = initial.cascade.map_or((0.0, SmallVec::new()), |own| (own.threshold, own.batches));
        Self {
            workers: Workers::new(&initial.targets, hardware, serving.models()),
            threshold,
            batches,
            now: Time::ZERO,
            backlog: Backlog::new(queue.clone(), serving.clone(), hardware.clone(), *total_steps),
            config,
            routing,
            storage,
            cache,
            monitor,
            large_takes_hits: initial.large_takes_hits,
            requests: Window::default(),
            background: BTreeSet::new(),
            passed_by: 0,
            routed: 0,
            jobs: 0,
            encoding: BTreeMap::new(),
            draining: false,
            departures: Departures::default(),
        }
    }

    /// Puts images into the cache before time zero, oldest first.
    pub fn warm(&mut self, images: impl Iterator<Item = WarmImage>, actions: &mut Vec<Action>) {
        for (row, image) in (0..).zip(images) {
            let owner = match (image.owner, &self.cache) {
                (Owner::Tenant(tenant), Some(cache)) => cache.owner(tenant),
                (owner, _) => owner,
            };
            self.store(Time::ZERO, ImageId::warm(row), owner, image.bytes, &image.key, actions);
        }
    }

    /// Takes one event and appends all its consequences to `actions`. Events come in order of time;
    /// those about requests, jobs or workers that are gone are ignored.
    pub fn handle(&mut self, now: Time, event: Event, actions: &mut Vec<Action>) {
        self.now = now;
        let eventful = !matches!(event, Event::Arrived(_) | Event::ImageEncoded { .. } | Event::WokeUp);
        match event {
            Event::Arrived(request) => self.arrive(request, actions),
            Event::Encoded { request, embedding } => self.encoded(now, request, embedding, actions),
            Event::JobCompleted { worker, job, outputs } => self.completed(now, worker, job, &outputs, actions),
            Event::ImageEncoded { request, embedding } => self.image_encoded(now, request, embedding, actions),
            Event::JobFailed { worker, job, reason } => self.job_failed(worker, job, &reason, actions),
            Event::SourceMissing { worker, job } => self.source_missing(now, worker, job, actions),
            Event::ModelLoaded { worker } => self.model_loaded(worker),
            Event::LoadFailed { worker, loaded, .. } => self.load_failed(now, worker, loaded),
            Event::WorkerDown(worker) => self.worker_down(worker, "worker lost", actions),
            Event::WorkerLost { worker, reason, .. } => self.worker_down(worker, &reason, actions),
            Event::WorkerUp(worker) => self.worker_up(worker),
            Event::Cancelled(request) => self.cancel(request, actions),
            Event::Withdrawn { images, refined } => self.withdraw(&images, refined, actions),
            Event::Drain => self.drain(actions),
            Event::WokeUp => self.woke_up(now, actions),
        }
        if eventful && self.monitor.happened(now) {
            self.tick(now, actions);
        }
        self.dispatch(now, actions);
    }

    /// When to send [`Event::WokeUp`]: later than the last event handled once it has been.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Time> {
        [self.monitor.next_decision(), self.next_fall_back(), self.next_ripe()].into_iter().flatten().min()
    }

    /// Requests that have arrived and not ended, and images whose embedding is to come.
    pub fn outstanding(&self) -> usize {
        self.requests.len() + self.encoding.len()
    }

    /// Full generations and refinements that wait for a worker, without background requests.
    pub fn waiting(&self) -> (usize, usize) {
        let hits = self.backlog.waiting(DecisionKind::Hit);
        (self.backlog.len() - hits, hits)
    }

    /// The image cache, for checks; `None` where the system keeps nothing.
    pub const fn cache(&self) -> Option<&ImageCache> {
        self.cache.as_ref()
    }

    /// Puts a routed request at its place.
    fn enqueue(&mut self, request: RequestId) {
        let Some(pending) = self.requests.get_mut(request.0) else { return };
        if pending.request.background {
            pending.phase = Phase::Waiting;
        } else if let (Some(waits), Some(decision)) = (&mut pending.waits, &pending.decision) {
            pending.phase = Phase::Waiting;
            // It may have been eased since it was placed.
            waits.class = self.backlog.class(decision);
            self.backlog.add(waits);
        }
    }

    /// Ends a request: the one place that does.
    fn finish(&mut self, request: RequestId, outcome: Outcome, actions: &mut Vec<Action>) -> Option<Pending> {
        let pending = self.requests.remove(request.0)?;
        if pending.request.background {
            self.background.remove(&request);
        }
        actions.push(Action::Finish { request, outcome });
        self.let_go(pending.decision.as_ref().and_then(|decision| decision.source), actions);
        Some(pending)
    }

    /// A request no longer needs its source.
    fn let_go(&mut self, source: Option<ImageId>, actions: &mut Vec<Action>) {
        if let (Some(image), Some(cache)) = (source, &mut self.cache)
            && cache.unpin(image)
        {
            actions.push(Action::Release(image));
        }
    }

    /// Puts an image into the cache.
    fn store(
        &mut self,
        now: Time,
        image: ImageId,
        owner: Owner,
        bytes: Option<u64>,
        key: &Embedding,
        actions: &mut Vec<Action>,
    ) {
        let Some(cache) = &mut self.cache else { return };
        let states = match &self.storage {
            Storage::ByPrompt(states) => SmallVec::from_slice(states),
            Storage::ByImage | Storage::None => SmallVec::new(),
        };
        let (weight, bytes) = match self.config.weight {
            Weight::One => (1, bytes),
            Weight::Bytes(usual) => (bytes.unwrap_or(usual).max(1), Some(bytes.unwrap_or(usual))),
        };
        cache.expire(now, &mut self.departures);
        let entry = Entry { image, owner, states, weight, inserted: now };
        if cache.insert(entry, key, &mut self.departures) {
            actions.push(Action::Keep { image, bytes });
        }
        self.depart(actions);
    }

    /// Says what the cache has let go.
    fn depart(&mut self, actions: &mut Vec<Action>) {
        let left = self.departures.left.drain(..).map(|(image, cause)| Action::Note(Note::Left { image, cause }));
        actions.extend(left);
        actions.extend(self.departures.released.drain(..).map(Action::Release));
    }
}
