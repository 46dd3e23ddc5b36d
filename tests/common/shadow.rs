//! A shadow of the core: what SEMANTICS says of queues, workers and requests, written again and plainly.
//! It is told each event, says what must follow and looks at what the core did; only routing decisions
//! and ticks are taken from the core. Not fast: it looks at every worker after every event.

use std::collections::{BTreeMap, BTreeSet};

use modm::cache::{Admission, Scope};
use modm::draw::{Purpose, stream};
use modm::image::ImageId;
use modm::journal::{Line, What};
use modm::metrics::Results;
use modm::model::{Change, GpuId, ModelId, Size, Work};
use modm::request::{Ask, Outcome, Owner, Rejection, Request, RequestId, Reuse, Shape, TenantId, Weights};
use modm::scheduler::allocation::{LargeTakesHits, Mode};
use modm::scheduler::routing::System;
use modm::scheduler::{
    Action, Decision, DecisionKind, Ended, Event, JobId, Late, Note, Order, Output, Part, Run, Scheduler, Span, Stage,
    TenantTerms, Tick, WorkerId,
};
use modm::time::{Duration, Time};
use rand::RngExt;
use rand::seq::IndexedRandom;
use smallvec::SmallVec;

use crate::world::{ASPECT, FACTOR, Monitor, THRESHOLD, TOTAL_STEPS, USUAL_SIZE, World, targets, warm_owner};

#[derive(Clone, Debug, PartialEq)]
enum Does {
    Idle,
    Runs(JobId, Vec<RequestId>),
    Loads(ModelId),
    Down,
}

#[derive(Debug)]
struct Worker {
    does: Does,
    loaded: Option<ModelId>,
    /// Models in its memory, used longest ago first.
    resident: Vec<ModelId>,
    target: ModelId,
    wanted: ModelId,
    /// Checkpoint and LoRAs of its last job.
    weights: Weights,
    since: Time,
    /// Finished stretches of time, with their state's place in `[busy, loading, idle, down]`.
    spent: Vec<(usize, Time, Time)>,
}

#[derive(Debug)]
struct Live {
    request: Request,
    decision: Option<Decision>,
    order: usize,
    routed: Time,
    /// Key by which the discipline orders requests.
    key: u64,
    /// The key that it got when it was routed.
    first_key: u64,
    /// Latest start in time, as it was when it was routed.
    latest_start: u64,
    /// True once it has been put among what waits.
    waited: bool,
    /// True once it was found to be late.
    late: bool,
    runs: Option<JobId>,
    failures: u32,
    starts: u32,
    /// Jobs so far: the latest as the core has it, those before that with their ends.
    run: Option<Run>,
    earlier: Vec<Span>,
}

#[derive(Debug)]
struct Shadow {
    world: World,
    now: Time,
    last_finish: Time,
    workers: Vec<Worker>,
    /// Key and size of the images of requests.
    kinds: BTreeMap<RequestId, (u32, Size)>,
    live: BTreeMap<RequestId, Live>,
    ended: BTreeMap<RequestId, Outcome>,
    waiting: BTreeSet<RequestId>,
    /// Background requests that wait.
    in_background: BTreeSet<RequestId>,
    /// Classes of decisions, in order of first appearance.
    classes: Vec<(DecisionKind, u32, Shape)>,
    /// Starts since a late request that could have been started last was.
    passed_by: u32,
    /// True if late requests waited when `what_if` last decided: large workers then leave hits to small ones.
    backlog: bool,
    /// The share of hits among what was routed lately.
    hits: f64,
    /// Virtual time of fair queueing, and where each tenant's latest request ends.
    virtual_now: u64,
    ends: BTreeMap<TenantId, u64>,
    /// Images whose embedding is to come, whether they are kept then, and what they were made from.
    encoding: BTreeMap<RequestId, (bool, Option<ImageId>)>,
    kept: BTreeSet<ImageId>,
    /// Found unreadable; never a source again.
    missing: BTreeSet<ImageId>,
    routed: usize,
    jobs: u64,
    /// Threshold of a cascade, and the batch sizes that its allocation gives.
    threshold: f64,
    batches: Vec<u32>,
    draining: bool,
    /// Actions that the event at hand must lead to, `Note` and `Release` apart.
    expected: Vec<Action>,
}

/// In half of the worlds some requests must not hit, or not be kept, and in half of them some are background requests.
pub(crate) fn with_flags(mut world: World) -> World {
    let mut draws = stream(world.seed, Purpose::Test, 21);
    let (reuse, background) = (draws.random(), draws.random());
    for request in &mut world.requests {
        let some =
            [Reuse::ALL, Reuse { look_up: false, keep: true }, Reuse { look_up: true, keep: false }, Reuse::NONE];
        request.reuse = if reuse { *some.choose(&mut draws).unwrap() } else { Reuse::ALL };
        request.background = background && draws.random_bool(0.2);
    }
    world
}

/// Feeds the events of a journal into a fresh core: it must act as recorded and as the shadow says.
pub(crate) fn check(world: &World, journal: &[Line], results: &Results) {
    let (mut core, warmed) = world.core();
    let mut shadow = Shadow::new(world, &world.initial().targets, &warmed);
    let mut lines = journal.iter().peekable();
    while let Some(Line { time, what }) = lines.next() {
        let What::Event(event) = what else { panic!("actions follow events") };
        let mut actions = Vec::new();
        core.handle(*time, event, &mut actions);
        for action in &actions {
            let recorded = lines.next().map(|line| (&line.time, &line.what));
            assert_eq!(recorded, Some((time, &What::Action(action.clone()))), "after {event:?}");
        }
        assert!(lines.peek().is_none_or(|line| matches!(line.what, What::Event(_))), "more was done after {event:?}");
        shadow.step(*time, event, &actions, &core);
    }
    shadow.finish(results);
}

impl Shadow {
    fn new(world: &World, initial: &[ModelId], warmed: &[Action]) -> Self {
        let worker = |&model: &ModelId| Worker {
            does: Does::Idle,
            loaded: Some(model),
            resident: vec![model],
            target: model,
            wanted: model,
            weights: Weights::default(),
            since: Time::ZERO,
            spent: Vec::new(),
        };
        let mut shadow = Self {
            world: world.clone(),
            now: Time::ZERO,
            last_finish: Time::ZERO,
            workers: initial.iter().map(worker).collect(),
            kinds: BTreeMap::new(),
            live: BTreeMap::new(),
            ended: BTreeMap::new(),
            waiting: BTreeSet::new(),
            in_background: BTreeSet::new(),
            classes: Vec::new(),
            passed_by: 0,
            backlog: false,
            hits: 0.0,
            virtual_now: 0,
            ends: BTreeMap::new(),
            encoding: BTreeMap::new(),
            kept: BTreeSet::new(),
            missing: BTreeSet::new(),
            routed: 0,
            jobs: 0,
            threshold: THRESHOLD,
            batches: Vec::new(),
            draining: false,
            expected: Vec::new(),
        };
        shadow.images(warmed);
        shadow
    }

    /// One event, what the core did about it, and the core after it.
    fn step(&mut self, now: Time, event: &Event, actions: &[Action], core: &Scheduler) {
        assert!(now >= self.now, "time runs backwards");
        self.now = now;
        self.apply(event, actions);
        self.dispatch();
        let visible = |action: &&Action| !matches!(action, Action::Note(_) | Action::Release(_));
        let done: Vec<&Action> = actions.iter().filter(visible).collect();
        assert_eq!(done, self.expected.iter().collect::<Vec<_>>(), "at {now} after {event:?}");
        self.expected.clear();
        self.images(actions);
        assert_eq!(core.outstanding(), self.live.len() + self.encoding.len());
        let hits = self.waiting.iter().filter(|request| self.kind(**request) == DecisionKind::Hit).count();
        assert_eq!(core.waiting(), (self.waiting.len() - hits, hits));
        if *event == Event::WokeUp {
            assert!(core.next_wakeup().is_none_or(|next| next > now), "the next wake-up lies ahead");
        }
        let Some(cache) = core.cache() else {
            assert!(self.kept.is_empty());
            return;
        };
        assert!(cache.held() <= cache.capacity(), "the cache is within its capacity");
        if let Event::Withdrawn { images, .. } = event {
            assert!(images.iter().all(|image| cache.owner_of(*image).is_none()), "what is withdrawn is not found");
        }
        for image in &self.kept {
            assert!(cache.readable(*image), "image {image} is kept for nothing");
        }
        let sources: BTreeSet<ImageId> = self.live.values().filter_map(|live| live.decision?.source).collect();
        for image in &sources {
            assert!(self.kept.contains(image), "source {image} is kept while a request needs it");
        }
        assert!(self.kept.len() <= cache.held() as usize + sources.len(), "nothing else is kept");
    }

    /// At the end of a run: every request ended once, every worker second is counted once.
    fn finish(&self, results: &Results) {
        assert!(self.encoding.is_empty(), "images wait for their embeddings: {:?}", self.encoding.keys());
        assert!(self.live.is_empty(), "these never ended: {:?}", self.live.keys());
        assert_eq!(self.ended.len(), self.world.requests.len());
        let rows = results.requests.iter().map(|row| (row.id, row.outcome.clone()));
        assert!(rows.eq(self.ended.clone()), "the rows are the requests in order, with their outcomes");
        for (worker, row) in self.workers.iter().zip(&results.workers) {
            let mut spent = [0; 4];
            for &(state, from, to) in worker.spent.iter().chain([&worker.stretch(Time::MAX)]) {
                spent[state] += to.min(self.last_finish).since(from.min(self.last_finish)).nanoseconds();
            }
            let counted = [row.busy, row.loading, row.idle, row.down].map(Duration::nanoseconds);
            assert_eq!(counted, spent, "busy, loading, idle, down");
            assert_eq!(counted.iter().sum::<u64>(), self.last_finish.nanoseconds(), "they add up to the makespan");
        }
    }

    fn apply(&mut self, event: &Event, actions: &[Action]) {
        match event {
            Event::Arrived(request) => self.arrived(*request),
            Event::Encoded { request, .. } => {
                if self.live.get(request).is_some_and(|live| live.decision.is_none()) {
                    self.live.get_mut(request).unwrap().order = self.routed;
                    self.routed += 1;
                    let decision = decision_for(*request, actions);
                    let Request { background, .. } = self.live[request].request;
                    check_search(&self.live[request].request, &decision);
                    self.route(*request, decision);
                    if !background {
                        self.admit(*request, actions);
                    }
                }
            }
            Event::JobCompleted { worker, job, outputs } => self.job_completed(*worker, *job, outputs, actions),
            Event::ImageEncoded { request, embedding } => {
                if self.encoding.remove(request).is_some_and(|(kept, _)| kept) && embedding.is_some() {
                    self.expected.push(Action::Keep { image: ImageId::of_request(*request), bytes: None });
                }
            }
            Event::JobFailed { worker, job, reason } => {
                for request in self.job_ended(*worker, *job) {
                    self.failed(request, reason);
                }
            }
            Event::SourceMissing { worker, job } => {
                for request in self.job_ended(*worker, *job) {
                    self.missing.extend(self.live[&request].decision.unwrap().source);
                    let decision = decision_for(request, actions);
                    assert_eq!((decision.kind, decision.source), (DecisionKind::Miss, None), "it becomes a miss");
                    self.lost_job(request);
                    self.route(request, decision);
                }
            }
            Event::ModelLoaded { worker } => self.load_ended(*worker, Ok(())),
            Event::LoadFailed { worker, loaded, .. } => self.load_ended(*worker, Err(*loaded)),
            Event::WorkerDown(worker) => self.worker_down(*worker, "worker lost"),
            Event::WorkerLost { worker, reason, .. } => self.worker_down(*worker, reason),
            Event::WorkerUp(worker) => {
                if self.workers.get(worker.index()).is_some_and(|worker| worker.does == Does::Down) {
                    self.now_does(*worker, Does::Idle);
                }
            }
            Event::Cancelled(request) => self.cancelled(*request),
            Event::Withdrawn { images, refined } => self.withdrawn(images, *refined),
            Event::Drain => {
                self.draining = true;
                let background = self.live.iter().filter(|(_, live)| live.request.background);
                for request in background.map(|(request, _)| *request).collect::<Vec<_>>() {
                    self.cancelled(request);
                }
            }
            Event::WokeUp => self.workers.iter_mut().for_each(|worker| worker.target = worker.wanted),
        }
        if let Some(tick) = actions.iter().find_map(ticked) {
            let wanted = if tick.by_worker.is_empty() { targets(&tick.targets) } else { tick.by_worker.clone() };
            for (worker, wanted) in self.workers.iter_mut().zip(wanted) {
                (worker.wanted, worker.target) = (wanted, wanted);
            }
            self.backlog = self.waiting.iter().any(|request| self.live[request].late);
            if let Some(threshold) = tick.threshold {
                (self.threshold, self.batches) = (threshold, tick.batches.to_vec());
            }
        }
    }

    fn job_completed(&mut self, worker: WorkerId, job: JobId, outputs: &[Output], actions: &[Action]) {
        let model = self.workers.get(worker.index()).and_then(|worker| worker.loaded);
        for request in self.job_ended(worker, job) {
            let output = outputs.iter().find(|output| output.request == request).unwrap();
            let unsure = output.confidence.is_none_or(|confidence| confidence < self.threshold);
            if self.kind(request) == DecisionKind::Draft && unsure {
                let decision = decision_for(request, actions);
                assert_eq!(decision, Decision::new(DecisionKind::Miss), "it is made again");
                self.lost_job(request);
                self.route(request, decision);
                continue;
            }
            let embedded = outputs.iter().any(|output| output.request == request && output.embedding.is_some());
            let (keep, by_image) = (self.admits(request, model), self.world.system == System::Modm);
            let Request { reuse, background, .. } = self.live[&request].request;
            let source = self.live[&request].decision.unwrap().source;
            let measured = self.world.config.measures_images && (reuse.keep || background);
            self.end(request, Outcome::Completed);
            if keep && (embedded || !by_image) {
                self.expected.push(Action::Keep { image: ImageId::of_request(request), bytes: None });
            }
            if !embedded && (keep && by_image || measured) {
                self.encoding.insert(request, (keep && by_image, source));
                self.expected.push(Action::EncodeImage(request));
            }
        }
    }

    fn withdrawn(&mut self, images: &[ImageId], refined: bool) {
        if self.world.system == System::Vanilla || self.world.system == System::Cascade {
            return;
        }
        self.missing.extend(images.iter().filter(|image| self.kept.contains(image)));
        let is_from_these = |source: Option<ImageId>| refined && source.is_some_and(|source| images.contains(&source));
        for live in self.live.values_mut() {
            live.request.reuse.keep &= !is_from_these(live.decision.and_then(|decision| decision.source));
        }
        for (kept, source) in self.encoding.values_mut() {
            *kept &= !is_from_these(*source);
        }
    }

    fn arrived(&mut self, mut request: Request) {
        // What is usual is not asked for.
        if request.ask.steps == TOTAL_STEPS {
            request.ask.steps = 0;
        }
        if request.ask.size == USUAL_SIZE {
            request.ask.size = Size::USUAL;
        }
        self.kinds.insert(request.id, (request.ask.key, request.ask.size));
        let live = Live {
            request,
            decision: None,
            order: 0,
            routed: Time::ZERO,
            key: 0,
            first_key: 0,
            latest_start: 0,
            waited: false,
            late: false,
            runs: None,
            failures: 0,
            starts: 0,
            run: None,
            earlier: Vec::new(),
        };
        assert!(self.live.insert(request.id, live).is_none() && !self.ended.contains_key(&request.id));
        if self.draining {
            self.end(request.id, Outcome::Rejected(Rejection::Draining));
        } else {
            self.expected.push(Action::Encode(request.id));
        }
    }

    fn route(&mut self, request: RequestId, decision: Decision) {
        let tenant_of = |row: usize| self.world.requests[row].tenant;
        let live = &self.live[&request];
        if let Some(source) = decision.source {
            assert!(self.kept.contains(&source), "the source is there when it is chosen");
            assert!(!self.missing.contains(&source), "a source that was missing is not chosen again");
            let warm = || warm_owner(source.to_string().parse::<i64>().unwrap().unsigned_abs() as usize - 1);
            let owner = source.request().map_or_else(warm, |owner| Owner::Tenant(tenant_of(owner.row())));
            let tenancy = &self.world.tenancy;
            let public = match owner {
                Owner::Public => true,
                Owner::Tenant(tenant) => tenancy.public.contains(&tenant),
            };
            let may = match tenancy.scope {
                Scope::Shared => true,
                Scope::Tenant => owner == Owner::Tenant(live.request.tenant),
                Scope::TenantThenPublic => public || owner == Owner::Tenant(live.request.tenant),
            };
            assert!(may, "{request} finds an image of {owner:?}");
            let (key, size) = source.request().map_or((0, Size::USUAL), |made_for| self.kinds[&made_for]);
            assert_eq!(key, live.request.ask.key, "{request} finds an image of another key");
            assert!(serves(size, live.request.ask.size), "{request} finds an image of {size:?}");
            let Request { id, place, .. } = live.request;
            let beside = (0..place.of).map(|at| RequestId(id.0 - u32::from(place.at) + u32::from(at)));
            for other in beside.filter(|other| *other != id).filter_map(|other| self.live.get(&other)) {
                let its = other.decision.and_then(|decision| decision.source);
                assert_ne!(its, Some(source), "pictures of one request start from different images");
            }
        }
        self.live.get_mut(&request).unwrap().decision = Some(decision);
        if decision.kind == DecisionKind::Return {
            let image = decision.source.unwrap();
            self.expected.push(Action::Return { request, image });
            self.end(request, Outcome::Completed);
        } else if self.live[&request].request.background {
            self.wait(request);
        } else {
            let hit = if self.kind(request) == DecisionKind::Hit { 1.0 } else { 0.0 };
            self.hits += (hit - self.hits) / 128.0;
            let key = self.key(request);
            let latest_start = self.due(request).nanoseconds().saturating_sub(self.usual(request).nanoseconds());
            let live = self.live.get_mut(&request).unwrap();
            (live.first_key, live.latest_start, live.routed) = (key, latest_start, self.now);
            self.wait(request);
        }
    }

    /// Key by which the discipline orders requests.
    fn key(&mut self, request: RequestId) -> u64 {
        let tenant = self.live[&request].request.tenant;
        match self.world.config.queue.order {
            Order::MissesFirst | Order::Oldest => 0,
            Order::Deadline => self.due(request).nanoseconds(),
            Order::Slack => self.due(request).nanoseconds().saturating_sub(self.usual(request).nanoseconds()),
            Order::Fair | Order::FairSlack => {
                let start = self.virtual_now.max(self.ends.get(&tenant).copied().unwrap_or(0));
                let service = self.usual(request).nanoseconds() as f64 / self.terms(tenant).weight;
                self.ends.insert(tenant, start + service as u64);
                start
            }
        }
    }

    fn terms(&self, tenant: TenantId) -> TenantTerms {
        self.world.config.queue.terms.get(tenant.0 as usize).copied().unwrap_or_default()
    }

    fn due(&self, request: RequestId) -> Time {
        let request = &self.live[&request].request;
        request.deadline.unwrap_or(request.arrival + self.world.config.queue.due)
    }

    fn kind(&self, request: RequestId) -> DecisionKind {
        self.live[&request].decision.unwrap().kind
    }

    fn class(&self, request: RequestId) -> (DecisionKind, u32, Shape) {
        let live = &self.live[&request];
        let decision = live.decision.unwrap();
        (decision.kind, decision.skipped_steps, live.request.ask.shape())
    }

    /// Work of a request that may skip so many steps of the large model, on a model.
    fn work(&self, request: RequestId, model: ModelId, skipped_steps: u32) -> Work {
        let Ask { size, steps: asked, .. } = self.live[&request].request.ask;
        let (own, shift) = self.world.steps[model.index()];
        let total_steps = if asked > 0 && own == TOTAL_STEPS { asked } else { own };
        let level = |shift: f64, step: u32, steps: u32| {
            let even = 1.0 - f64::from(step) / f64::from(steps);
            shift * even / (1.0 + (shift - 1.0) * even)
        };
        let allowed = level(self.world.steps[0].1, skipped_steps, TOTAL_STEPS);
        let first = (0..total_steps).find(|step| level(shift, *step, total_steps) <= allowed);
        Work { size, ..Work::new(model, total_steps, first.unwrap_or(total_steps - 1)) }
    }

    /// Checkpoint and LoRAs that a request needs.
    fn weights(&self, request: RequestId) -> Weights {
        self.live[&request].request.ask.weights
    }

    fn may_serve(&self, model: ModelId, request: RequestId) -> bool {
        self.world.config.serving.models_for(&self.live[&request].decision.unwrap()).contains(model)
    }

    /// Expected time of a request.
    fn time(&self, request: RequestId, gpu: GpuId, model: ModelId) -> Duration {
        let skipped_steps = self.live[&request].decision.unwrap().skipped_steps;
        self.world.config.hardware.job(gpu, self.work(request, model, skipped_steps))
    }

    /// A request may be rejected as soon as it waits, if that is asked for.
    fn admit(&mut self, request: RequestId, actions: &[Action]) {
        let rejected = actions.iter().find_map(|action| match action {
            Action::Finish(ended) if ended.request == request => ended.outcome.reason(),
            _ => None,
        });
        let Some(reason) = rejected.filter(|reason| reason.contains("behind")) else { return };
        assert!(self.world.config.queue.admission, "nobody is to be rejected at once");
        let in_time = self.waiting.iter().filter(|other| !self.live[*other].late);
        let before = in_time.filter(|other| self.rank(**other) < self.rank(request)).count();
        assert_eq!(reason, format!("cannot be in time behind {before} others"));
        self.waiting.remove(&request);
        self.end(request, Outcome::Rejected(Rejection::Behind { others: before }));
    }

    /// The most requests of a worker's job.
    fn most(&self, worker: WorkerId) -> usize {
        let model = self.workers[worker.index()].target;
        let profile = &self.world.config.hardware.profile;
        let measured = profile.service(self.world.config.hardware.gpus[worker.index()], model).most();
        let decided = self.batches.get(model.index()).copied().unwrap_or(u32::MAX);
        self.world.config.batching.most.min(measured).min(decided) as usize
    }

    /// Expected end of a job of so many requests like this one, if it begins now.
    fn ends(&self, worker: WorkerId, like: RequestId, requests: usize) -> Time {
        let (model, hardware) = (self.workers[worker.index()].target, &self.world.config.hardware);
        let work = self.work(like, model, self.live[&like].decision.unwrap().skipped_steps);
        self.now + hardware.batch(hardware.gpus[worker.index()], work, requests)
    }

    /// Requests of equal work with this one that are as late as it is, in order.
    fn its_line(&self, request: RequestId) -> Vec<RequestId> {
        let equal = |other: &&RequestId| {
            self.class(**other) == self.class(request) && self.live[*other].late == self.live[&request].late
        };
        let mut line: Vec<RequestId> = self.waiting.iter().filter(equal).copied().collect();
        line.sort_by_key(|request| self.rank(*request));
        line
    }

    /// Returns whether a job of what is like this request should wait for more of it.
    fn waits_for_company(&self, request: RequestId, worker: WorkerId) -> bool {
        let (line, wait) = (self.its_line(request), self.world.config.batching.wait);
        if self.live[&request].late || line.len() >= self.most(worker) {
            return false;
        }
        let would_be_late = self.ends(worker, line[0], line.len()) >= self.due(line[0]);
        !would_be_late && self.now < self.live[&line[0]].routed + wait
    }

    /// The requests of a job that begins with this one.
    fn company(&self, request: RequestId, worker: WorkerId) -> Vec<RequestId> {
        let (mut line, most) = (self.its_line(request), self.most(worker));
        assert_eq!(line[0], request);
        let alike = line.iter().take_while(|other| self.weights(**other) == self.weights(request)).count();
        line.truncate(alike);
        let could = |request: &RequestId| self.ends(worker, *request, 1) <= self.due(*request);
        let none_late_for_it = |count: usize| {
            let end = self.ends(worker, request, count);
            line[..count].iter().filter(|request| could(request)).all(|request| end <= self.due(*request))
        };
        let late = self.live[&request].late || !self.world.config.batching.by_deadline;
        let count =
            (1..=most.min(line.len())).take_while(|count| *count == 1 || late || none_late_for_it(*count)).last();
        line[..count.unwrap()].to_vec()
    }

    /// The models that may serve a request: those asked first in front.
    fn choices(&self, request: RequestId) -> Vec<Vec<ModelId>> {
        let models: Vec<ModelId> = (0..3).map(ModelId).filter(|model| self.may_serve(*model, request)).collect();
        if self.kind(request) != DecisionKind::Hit {
            return models.into_iter().map(|model| vec![model]).collect();
        }
        let (large, small): (Vec<ModelId>, Vec<ModelId>) = models.into_iter().partition(|model| self.is_large(*model));
        vec![small, large]
    }

    /// Until when a hit in time waits for a large model, if it is the one of its class that goes first and so many are
    /// late that time is lost for long.
    fn waits_for_large(&self, request: RequestId) -> Option<Time> {
        let late = self.waiting.iter().filter(|request| self.live[*request].late).count();
        let large = |worker: &Worker| self.is_large(worker.target) && self.may_serve(worker.target, request);
        let any_large = self.workers.iter().any(|worker| large(worker) && worker.does != Does::Down);
        let times = self.world.config.queue.fall_back?;
        let [small, large] = self.choices(request).try_into().ok()?;
        let on_small = self.time(request, GpuId(0), *small.first()?);
        let overrun = late >= 4 * self.workers.len() && self.hits < 0.5;
        let waits = !large.is_empty() && any_large && overrun && !self.live[&request].late;
        // Of equal work, who goes first speaks for all.
        let of_class = self.waiting.iter().filter(|other| self.class(**other) == self.class(request));
        let first = of_class.filter(|other| !self.live[*other].late).min_by_key(|other| self.rank(**other))?;
        let before = Duration::from_seconds_saturating(times * on_small.seconds()).nanoseconds();
        let until = Time::from_nanoseconds(self.due(*first).nanoseconds().saturating_sub(before));
        (waits && self.kind(request) == DecisionKind::Hit).then_some(until)
    }

    /// With a worker to spare, a hit skips the fewest steps with which it is in time.
    fn ease(&mut self, worker: WorkerId, request: RequestId) {
        let queue = &self.world.config.queue;
        let (live, least) = (&self.live[&request], queue.least_skipped);
        let model = self.workers[worker.index()].loaded.unwrap();
        let may = self.world.config.serving.of_hits(least).contains(model);
        let decision = live.decision.unwrap();
        let able = |other: &Worker| {
            other.does == Does::Idle && other.loaded == Some(other.target) && self.may_serve(other.target, request)
        };
        let spare = !self.where_workers(able).is_empty();
        let work = self.work(request, model, least);
        let time = self.world.config.hardware.job(self.world.config.hardware.gpus[worker.index()], work);
        let eases = queue.ease && !live.late && may && spare && self.world.system == System::Modm;
        if eases
            && decision.source.is_some()
            && decision.kind == DecisionKind::Hit
            && self.now + time <= self.due(request)
        {
            let live = self.live.get_mut(&request).unwrap();
            live.decision = Some(Decision { skipped_steps: decision.skipped_steps.min(least), ..decision });
        }
    }

    /// The best model that may serve a request.
    fn best(&self, request: RequestId) -> ModelId {
        (0..3).map(ModelId).find(|model| self.may_serve(*model, request)).unwrap()
    }

    /// Expected time where it is served first, on the first GPU type.
    fn usual(&self, request: RequestId) -> Duration {
        let first = self.choices(request).into_iter().flatten().next().unwrap();
        self.time(request, GpuId(0), first)
    }

    fn is_large(&self, model: ModelId) -> bool {
        self.world.config.serving.of_misses().contains(model)
    }

    /// Puts a request among those that wait.
    fn wait(&mut self, request: RequestId) {
        let live = self.live.get_mut(&request).unwrap();
        live.runs = None;
        (live.waited, live.late) = (true, false);
        live.key = live.first_key;
        if live.request.background {
            assert!(self.in_background.insert(request));
            return;
        }
        let tenant = live.request.tenant;
        let class = self.class(request);
        if !self.classes.contains(&class) {
            self.classes.push(class);
        }
        assert!(self.waiting.insert(request));
        if self.world.config.queue.order == Order::FairSlack {
            self.deal_tags(tenant);
        }
    }

    /// Gives the lowest tag of a tenant to its request in time that must start first, and so on.
    fn deal_tags(&mut self, tenant: TenantId) {
        let of_tenant = |request: &&RequestId| {
            let live = &self.live[*request];
            live.request.tenant == tenant && !live.late
        };
        let mut requests: Vec<RequestId> = self.waiting.iter().filter(of_tenant).copied().collect();
        let mut tags: Vec<u64> = requests.iter().map(|request| self.live[request].key).collect();
        tags.sort_unstable();
        requests.sort_unstable_by_key(|request| (self.live[request].latest_start, self.live[request].order));
        for (request, tag) in requests.iter().zip(tags) {
            self.live.get_mut(request).unwrap().key = tag;
        }
    }

    fn failed(&mut self, request: RequestId, reason: &str) {
        let live = self.live.get_mut(&request).unwrap();
        live.failures += 1;
        if live.failures == self.world.config.max_attempts {
            self.end(request, Outcome::Failed(reason.to_owned()));
        } else {
            self.lost_job(request);
            self.wait(request);
        }
    }

    /// Notes that its job came to nothing.
    fn lost_job(&mut self, request: RequestId) {
        let live = self.live.get_mut(&request).unwrap();
        let Run { start, together, .. } = live.run.unwrap();
        live.earlier.push(Span { start, end: self.now, together });
    }

    /// Stage of a request.
    fn stage(&self, request: RequestId) -> Stage {
        match self.live[&request] {
            Live { runs: Some(_), .. } => Stage::Running,
            Live { waited: false, .. } => Stage::Encoding,
            Live { late: true, .. } => Stage::Late,
            Live { .. } => Stage::Waiting,
        }
    }

    fn end(&mut self, request: RequestId, outcome: Outcome) {
        let stage = self.stage(request);
        let Live {
            request: Request { arrival, tenant, deadline, ask, place, .. }, decision, starts, run, earlier, ..
        } = self.live.remove(&request).expect("what ends is live");
        assert!(self.ended.insert(request, outcome.clone()).is_none(), "every request ends once");
        let attempts = starts;
        let ended =
            Ended { request, outcome, stage, arrival, tenant, deadline, decision, attempts, run, earlier, ask, place };
        self.expected.push(Action::Finish(Box::new(ended)));
        self.last_finish = self.now;
    }

    /// Returns whether the image of a request that completes is kept.
    fn admits(&self, request: RequestId, model: Option<ModelId>) -> bool {
        let miss = self.live[&request].decision.unwrap().kind == DecisionKind::Miss;
        if !self.live[&request].request.reuse.keep {
            return false;
        }
        match (self.world.system, self.world.config.admission) {
            (System::Vanilla | System::Cascade, _) => false,
            (System::Nirvana | System::Pinecone, _) | (System::Modm, Admission::Miss) => miss,
            (System::Modm, Admission::All) => true,
            (System::Modm, Admission::Large) => model == Some(ModelId::LARGE),
        }
    }

    /// The requests of a job that ended, unless the job is out of date, but for those that nobody wants any more.
    fn job_ended(&mut self, worker: WorkerId, job: JobId) -> Vec<RequestId> {
        let does = self.workers.get(worker.index()).map(|worker| worker.does.clone());
        let Some(Does::Runs(running, mut requests)) = does else { return Vec::new() };
        if running != job {
            return Vec::new();
        }
        self.now_does(worker, Does::Idle);
        requests.retain(|request| self.live.get(request).is_some_and(|live| live.runs == Some(job)));
        requests
    }

    /// A load ended with its model, or with what the worker holds after its failure.
    fn load_ended(&mut self, worker: WorkerId, outcome: Result<(), Option<ModelId>>) {
        let Some(Does::Loads(model)) = self.workers.get(worker.index()).map(|worker| worker.does.clone()) else {
            return;
        };
        let loaded = outcome.map_or_else(|held| held, |()| Some(model));
        self.now_does(worker, if loaded.is_some() { Does::Idle } else { Does::Down });
        let worker = &mut self.workers[worker.index()];
        worker.loaded = loaded;
        match outcome {
            Ok(()) => worker.resident.push(model),
            Err(held) => worker.resident = held.into_iter().collect(),
        }
        if let Err(Some(before)) = outcome {
            worker.target = before;
        }
    }

    fn worker_down(&mut self, worker: WorkerId, reason: &str) {
        let Some(does) = self.workers.get(worker.index()).map(|worker| worker.does.clone()) else { return };
        if let Does::Runs(job, _) = does {
            for request in self.job_ended(worker, job) {
                self.failed(request, reason);
            }
        }
        self.now_does(worker, Does::Down);
        self.workers[worker.index()].loaded = None;
        self.workers[worker.index()].resident.clear();
    }

    fn cancelled(&mut self, request: RequestId) {
        let Some(live) = self.live.get(&request) else { return };
        let runs = live.runs;
        self.waiting.remove(&request);
        self.in_background.remove(&request);
        self.end(request, Outcome::Cancelled);
        // Others of its job may still want theirs.
        let wanted = |job: &JobId| self.live.values().any(|live| live.runs == Some(*job));
        self.expected.extend(runs.filter(|job| !wanted(job)).map(Action::CancelJob));
    }

    fn now_does(&mut self, worker: WorkerId, does: Does) {
        let now = self.now;
        let worker = &mut self.workers[worker.index()];
        let stretch = worker.stretch(now);
        worker.spent.push(stretch);
        (worker.since, worker.does) = (now, does);
    }

    /// The dispatcher, rule by rule.
    fn dispatch(&mut self) {
        for worker in self.where_workers(|worker| worker.does == Does::Idle && worker.loaded != Some(worker.target)) {
            let (gpu, hardware) = (self.world.config.hardware.gpus[worker.index()], &self.world.config.hardware);
            let state = &mut self.workers[worker.index()];
            let model = state.target;
            if state.resident.contains(&model) {
                state.resident.retain(|held| *held != model);
                state.resident.push(model);
                state.loaded = Some(model);
                state.weights = Weights::default();
                continue;
            }
            while !state.resident.is_empty() && !hardware.fits(gpu, state.resident.iter().copied().chain([model])) {
                state.resident.remove(0);
            }
            let from = state.loaded;
            state.weights = Weights::default();
            self.now_does(worker, Does::Loads(model));
            self.expected.push(Action::Load { worker, from, model });
        }
        self.sort_out();
        loop {
            let (in_time, late) = (self.next(false), self.next(true));
            let overdue = |(request, _): (RequestId, WorkerId)| {
                self.world.config.queue.overdue.is_some_and(|overdue| self.due(request) + overdue <= self.now)
            };
            let late_goes = late.is_some_and(|late| in_time.is_none() || self.passed_by == 29 || overdue(late));
            let Some((request, worker)) = (if late_goes { late } else { in_time }) else { break };
            self.passed_by = if late_goes { 0 } else { self.passed_by + u32::from(late.is_some()) };
            let requests = self.company(request, worker);
            if !late_goes && [Order::Fair, Order::FairSlack].contains(&self.world.config.queue.order) {
                let keys = requests.iter().map(|request| self.live[request].key);
                self.virtual_now = keys.fold(self.virtual_now, u64::max);
            }
            self.start(worker, &requests);
        }
        if self.waiting.is_empty() {
            while let Some((request, worker)) = self.next_in_background() {
                self.in_background.remove(&request);
                self.run(worker, &[request]);
            }
        } else {
            self.call_off();
        }
    }

    /// The background request that was routed first of those whose best model an idle worker holds.
    fn next_in_background(&self) -> Option<(RequestId, WorkerId)> {
        let mut waiting: Vec<RequestId> = self.in_background.iter().copied().collect();
        waiting.sort_by_key(|request| self.live[request].order);
        waiting.into_iter().find_map(|request| {
            let best = self.best(request);
            let ready = |worker: &Worker| {
                worker.does == Does::Idle && worker.loaded == Some(worker.target) && worker.target == best
            };
            Some((request, *self.where_workers(ready).first()?))
        })
    }

    /// The background request that runs on a worker which could serve something that waits.
    fn in_the_way(&self, worker: &Worker) -> Option<RequestId> {
        let Does::Runs(job, requests) = &worker.does else { return None };
        let runs = |request: &&RequestId| {
            let live = self.live.get(*request);
            live.is_some_and(|live| live.request.background && live.runs == Some(*job))
        };
        let request = requests.iter().find(runs)?;
        self.waiting.iter().any(|waiting| self.may_serve(worker.target, *waiting)).then_some(*request)
    }

    /// Ends background requests that run where something that waits could be served.
    fn call_off(&mut self) {
        let mut called_off: Vec<RequestId> = self.workers.iter().filter_map(|worker| self.in_the_way(worker)).collect();
        called_off.sort();
        for request in called_off {
            self.cancelled(request);
        }
    }

    /// Finds out which requests are late: of equal work, those that would go first.
    fn sort_out(&mut self) {
        if self.world.config.queue.late == Late::InTurn {
            return;
        }
        for class in self.classes.clone() {
            loop {
                let of_class = |request: &&RequestId| self.class(**request) == class && !self.live[*request].late;
                let first = self.waiting.iter().filter(of_class).min_by_key(|request| self.rank(**request)).copied();
                let Some(request) = first.filter(|request| self.now + self.shortest(*request) > self.due(*request))
                else {
                    break;
                };
                if self.world.config.queue.late == Late::Reject {
                    self.waiting.remove(&request);
                    self.end(request, Outcome::Rejected(Rejection::TooLate));
                    continue;
                }
                let live = self.live.get_mut(&request).unwrap();
                live.late = true;
                let decision = live.decision.as_mut().unwrap();
                let best = self.world.config.queue.late == Late::Best && self.hits < 0.5;
                let eases = best && self.world.system == System::Modm;
                if eases && decision.source.is_some() && decision.kind == DecisionKind::Hit {
                    decision.skipped_steps = decision.skipped_steps.min(self.world.config.queue.least_skipped);
                    let class = self.class(request);
                    if !self.classes.contains(&class) {
                        self.classes.push(class);
                    }
                }
            }
        }
    }

    /// Shortest time where a worker has a model for the request as its target; of all times if none has.
    fn shortest(&self, request: RequestId) -> Duration {
        let models = self.choices(request).into_iter().flatten();
        let gpus: BTreeSet<GpuId> = self.world.config.hardware.gpus.iter().copied().collect();
        let pools: Vec<(GpuId, ModelId)> = models.flat_map(|model| gpus.iter().map(move |gpu| (*gpu, model))).collect();
        let shortest = |pools: &mut dyn Iterator<Item = &(GpuId, ModelId)>| {
            pools.map(|(gpu, model)| self.time(request, *gpu, *model)).min()
        };
        let targets = self.targets();
        shortest(&mut pools.iter().filter(|pool| targets.contains(pool)))
            .or_else(|| shortest(&mut pools.iter()))
            .unwrap()
    }

    /// GPU type and target of the workers that are not down.
    fn targets(&self) -> BTreeSet<(GpuId, ModelId)> {
        let workers = self.workers.iter().zip(&self.world.config.hardware.gpus);
        workers.filter(|(worker, _)| worker.does != Does::Down).map(|(worker, gpu)| (*gpu, worker.target)).collect()
    }

    /// Expected time on the first GPU type with the model that is tried first of those that are targets.
    fn present(&self, request: RequestId) -> Duration {
        let targets = self.targets();
        let mut models = self.choices(request).into_iter().flatten();
        let first = models.find(|model| targets.iter().any(|(_, target)| target == model));
        first.map_or_else(|| self.usual(request), |model| self.time(request, GpuId(0), model))
    }

    /// Time by which a worker has to have a request done: when the first of its work is due.
    fn to_finish_by(&self, request: RequestId) -> Option<Time> {
        if self.live[&request].late || self.world.config.queue.late == Late::InTurn {
            return None;
        }
        let class = self.class(request);
        let of_class = |other: &&RequestId| self.class(**other) == class && !self.live[*other].late;
        let first = self.waiting.iter().filter(of_class).min_by_key(|other| self.rank(**other))?;
        Some(self.due(*first))
    }

    /// Rank of a request among those that are late, or among the others.
    fn rank(&self, request: RequestId) -> (u32, bool, u64, usize) {
        let live = &self.live[&request];
        let misses_first = self.world.config.queue.order == Order::MissesFirst;
        let key = match self.world.config.queue.order {
            _ if live.late => 0,
            Order::Slack => self.due(request).nanoseconds().saturating_sub(self.present(request).nanoseconds()),
            _ => live.key,
        };
        let priority = u32::MAX - self.terms(live.request.tenant).priority;
        (priority, misses_first && self.kind(request) != DecisionKind::Miss, key, live.order)
    }

    /// The next start among those that are late or those that are not, with its worker.
    fn next(&self, late: bool) -> Option<(RequestId, WorkerId)> {
        let of_these = self.waiting.iter().filter(|request| self.live[*request].late == late);
        let able = of_these.filter_map(|request| Some((self.rank(*request), *request, self.worker_for(*request)?)));
        let able = able.filter(|(_, request, worker)| !self.waits_for_company(*request, *worker));
        able.min_by_key(|(rank, ..)| *rank).map(|(_, request, worker)| (request, worker))
    }

    fn worker_for(&self, request: RequestId) -> Option<WorkerId> {
        let misses_first = self.world.config.queue.order == Order::MissesFirst;
        let hit = self.kind(request) == DecisionKind::Hit;
        let late = self.live[&request].late;
        let miss_waits = self
            .waiting
            .iter()
            .any(|other| self.kind(*other) == DecisionKind::Miss && (late || !self.live[other].late));
        let small = |worker: &Worker| !self.is_large(worker.target) && self.may_serve(worker.target, request);
        let any_small = self.workers.iter().any(|worker| small(worker) && worker.does != Does::Down);
        let large_may = !(misses_first && miss_waits || self.throughput() && any_small);
        let (best, mut choices, mut large_may) = (self.best(request), self.choices(request), large_may);
        let best_is_there = self.workers.iter().any(|worker| worker.target == best && worker.does != Does::Down);
        if late && self.world.config.queue.late == Late::Best && self.hits < 0.5 && best_is_there {
            (choices, large_may) = (vec![vec![best]], true);
        }
        let waits_for_large = self.waits_for_large(request);
        if waits_for_large.is_some() {
            choices.reverse();
        }
        let held = waits_for_large.is_some_and(|until| until > self.now);
        let by = self.to_finish_by(request);
        choices.into_iter().find_map(|models| {
            if held && !models.iter().any(|model| self.is_large(*model)) {
                return None;
            }
            let ready = |worker: &Worker| worker.does == Does::Idle && worker.loaded == Some(worker.target);
            let suits = |worker: &Worker| {
                ready(worker) && models.contains(&worker.target) && (!hit || !self.is_large(worker.target) || large_may)
            };
            let soonest = |worker: &WorkerId| {
                let gpu = self.world.config.hardware.gpus[worker.index()];
                let time = self.time(request, gpu, self.workers[worker.index()].target);
                if misses_first { Duration::ZERO } else { time }
            };
            let able = self
                .where_workers(suits)
                .into_iter()
                .filter(|worker| by.is_none_or(|by| self.now + soonest(worker) <= by));
            able.min_by_key(|worker| (soonest(worker), self.lacks(*worker, self.weights(request)), *worker))
        })
    }

    /// Measure of the weights that a worker lacks: nothing, LoRAs, or the checkpoint.
    fn lacks(&self, worker: WorkerId, wanted: Weights) -> u8 {
        let has = self.workers[worker.index()].weights;
        let other_loras = has.loras != wanted.loras && wanted.loras != 0;
        if has.checkpoint == wanted.checkpoint { u8::from(other_loras) } else { 2 }
    }

    fn throughput(&self) -> bool {
        matches!(self.world.monitor, Monitor::WhatIf if self.backlog)
            || matches!(
                self.world.monitor,
                Monitor::Modm { mode: Mode::Throughput, .. } | Monitor::Rotating(LargeTakesHits::WithoutSmall)
            )
    }

    fn where_workers(&self, holds: impl Fn(&Worker) -> bool) -> Vec<WorkerId> {
        let ids = (0..).map(WorkerId).zip(&self.workers);
        ids.filter(|(_, worker)| holds(worker)).map(|(id, _)| id).collect()
    }

    fn start(&mut self, worker: WorkerId, requests: &[RequestId]) {
        if let [request] = requests {
            self.waiting.remove(request);
            self.now_does(worker, Does::Runs(JobId(self.jobs), Vec::new()));
            self.ease(worker, *request);
        }
        self.run(worker, requests);
    }

    fn run(&mut self, worker: WorkerId, requests: &[RequestId]) {
        let job = JobId(self.jobs);
        self.jobs += 1;
        self.now_does(worker, Does::Runs(job, requests.to_vec()));
        let model = self.workers[worker.index()].loaded.unwrap();
        let (mut parts, mut skipped_steps) = (SmallVec::new(), 0);
        let weights = self.weights(requests[0]);
        for request in requests {
            self.waiting.remove(request);
            let again = u32::from(self.world.system == System::Cascade);
            let live = self.live.get_mut(request).unwrap();
            live.runs = Some(job);
            live.starts += 1;
            live.run = Some(Run { worker, model, start: self.now, together: requests.len() as u32 });
            assert!(live.starts <= self.world.config.max_attempts + 1 + again, "attempts are bounded");
            let decision = live.decision.unwrap();
            parts.push(Part { request: *request, source: decision.source });
            skipped_steps = decision.skipped_steps;
        }
        let change = match (self.lacks(worker, weights), weights.loras) {
            (0, _) => Change::Nothing,
            (1, _) => Change::Loras,
            (_, 0) => Change::Checkpoint,
            _ => Change::Both,
        };
        self.workers[worker.index()].weights = weights;
        let work = Work { change, ..self.work(requests[0], model, skipped_steps) };
        self.expected.push(Action::Start { job, worker, work, parts });
    }

    /// Images that are kept and released.
    fn images(&mut self, actions: &[Action]) {
        for action in actions {
            match action {
                Action::Keep { image, .. } => assert!(self.kept.insert(*image), "image {image} is kept twice"),
                Action::Release(image) => assert!(self.kept.remove(image), "image {image} was not kept"),
                _ => {}
            }
        }
    }
}

impl Worker {
    /// The stretch of time it is in, if that ended now.
    fn stretch(&self, now: Time) -> (usize, Time, Time) {
        let state = match self.does {
            Does::Runs(..) => 0,
            Does::Loads(_) => 1,
            Does::Idle => 2,
            Does::Down => 3,
        };
        (state, self.since, now)
    }
}

/// Returns whether an image of one size serves a request of another.
fn serves(image: Size, request: Size) -> bool {
    let real = |size: Size| if size == Size::USUAL { USUAL_SIZE } else { size };
    let (image, request) = (real(image), real(request));
    let aspect = |size: Size| f64::from(size.width) / f64::from(size.height);
    let pixels = |size: Size| f64::from(size.width) * f64::from(size.height);
    let within = |a: f64, b: f64, limit: f64| a.max(b) / a.min(b) <= limit + 1e-9;
    within(aspect(image), aspect(request), ASPECT) && within(pixels(image), pixels(request), FACTOR)
}

/// Checks what was searched for a request: nothing if it must not hit, or brings a source of its own.
fn check_search(request: &Request, decision: &Decision) {
    if request.ask.skips > 0 {
        assert_eq!(*decision, Decision::of_own_source(request.ask.skips), "it starts from its own source");
    }
    let found = (decision.source, decision.similarity);
    assert!(request.reuse.look_up || found == (None, None), "it is not searched");
}

fn decision_for(request: RequestId, actions: &[Action]) -> Decision {
    let routed = actions.iter().find_map(|action| match action {
        Action::Note(Note::Routed { request: routed, decision, .. }) if *routed == request => Some(*decision),
        _ => None,
    });
    routed.unwrap_or_else(|| panic!("{request} is routed"))
}

fn ticked(action: &Action) -> Option<&Tick> {
    match action {
        Action::Note(Note::Ticked(tick)) => Some(tick),
        _ => None,
    }
}
