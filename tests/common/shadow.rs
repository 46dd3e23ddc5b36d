//! A shadow of the core: what SEMANTICS says of queues, workers and requests, written again and plainly.
//! It is told each event, says what must follow and looks at what the core did; only routing decisions
//! and ticks are taken from the core. Not fast: it looks at every worker after every event.

use std::collections::{BTreeMap, BTreeSet};

use modm::cache::{Admission, Scope};
use modm::image::ImageId;
use modm::journal::{Line, What};
use modm::metrics::Results;
use modm::model::{ModelId, Work};
use modm::request::{Outcome, Owner, Request, RequestId};
use modm::scheduler::allocation::{LargeTakesHits, Mode};
use modm::scheduler::routing::System;
use modm::scheduler::{Action, Decision, DecisionKind, Event, JobId, Note, Part, Scheduler, WorkerId};
use modm::time::{Duration, Time};

use crate::world::{Monitor, World, targets, warm_owner};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Does {
    Idle,
    Runs(JobId, RequestId),
    Loads(ModelId),
    Down,
}

#[derive(Debug)]
struct Worker {
    does: Does,
    loaded: Option<ModelId>,
    target: ModelId,
    wanted: ModelId,
    since: Time,
    /// Finished stretches of time, with their state's place in `[busy, loading, idle, down]`.
    spent: Vec<(usize, Time, Time)>,
}

#[derive(Debug)]
struct Live {
    request: Request,
    decision: Option<Decision>,
    order: usize,
    runs: Option<JobId>,
    failures: u32,
    starts: u32,
}

#[derive(Debug)]
struct Shadow {
    world: World,
    now: Time,
    last_finish: Time,
    workers: Vec<Worker>,
    live: BTreeMap<RequestId, Live>,
    ended: BTreeMap<RequestId, Outcome>,
    /// By order of routing.
    misses: BTreeMap<usize, RequestId>,
    hits: BTreeMap<usize, RequestId>,
    /// Images whose embedding is to come, and whether they are kept then.
    encoding: BTreeMap<RequestId, bool>,
    kept: BTreeSet<ImageId>,
    /// Found unreadable; never a source again.
    missing: BTreeSet<ImageId>,
    routed: usize,
    jobs: u64,
    draining: bool,
    /// What the actions of the event at hand must be, `Note` and `Release` apart.
    expected: Vec<Action>,
}

/// Feeds the events of a journal into a fresh core: it must act as recorded and as the shadow says.
pub(crate) fn check(world: &World, journal: &[Line], results: &Results) {
    let (mut core, warmed) = world.core();
    let mut shadow = Shadow::new(world, &world.initial().targets, &warmed);
    let mut lines = journal.iter().peekable();
    while let Some(Line { time, what }) = lines.next() {
        let What::Event(event) = what else { panic!("actions follow events") };
        let mut actions = Vec::new();
        core.handle(*time, event.clone(), &mut actions);
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
            target: model,
            wanted: model,
            since: Time::ZERO,
            spent: Vec::new(),
        };
        let mut shadow = Self {
            world: world.clone(),
            now: Time::ZERO,
            last_finish: Time::ZERO,
            workers: initial.iter().map(worker).collect(),
            live: BTreeMap::new(),
            ended: BTreeMap::new(),
            misses: BTreeMap::new(),
            hits: BTreeMap::new(),
            encoding: BTreeMap::new(),
            kept: BTreeSet::new(),
            missing: BTreeSet::new(),
            routed: 0,
            jobs: 0,
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
        assert_eq!(core.waiting(), (self.misses.len(), self.hits.len()));
        if *event == Event::WokeUp {
            assert!(core.next_wakeup().is_none_or(|next| next > now), "the next wake-up lies ahead");
        }
        let Some(cache) = core.cache() else {
            assert!(self.kept.is_empty());
            return;
        };
        assert!(cache.held() <= cache.capacity(), "the cache is within its capacity");
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
                    self.route(*request, decision_for(*request, actions));
                }
            }
            Event::JobCompleted { worker, job, outputs } => {
                let model = self.workers.get(worker.index()).and_then(|worker| worker.loaded);
                if let Some(request) = self.job_ended(*worker, *job) {
                    let embedded = outputs.iter().any(|output| output.request == request && output.embedding.is_some());
                    let (keep, by_image) = (self.admits(request, model), self.world.system == System::Modm);
                    self.end(request, Outcome::Completed);
                    if keep && (embedded || !by_image) {
                        self.expected.push(Action::Keep { image: ImageId::of_request(request), bytes: None });
                    }
                    if !embedded && (keep && by_image || self.world.config.measures_images) {
                        self.encoding.insert(request, keep && by_image);
                        self.expected.push(Action::EncodeImage(request));
                    }
                }
            }
            Event::ImageEncoded { request, embedding } => {
                if self.encoding.remove(request) == Some(true) && embedding.is_some() {
                    self.expected.push(Action::Keep { image: ImageId::of_request(*request), bytes: None });
                }
            }
            Event::JobFailed { worker, job, reason } => {
                if let Some(request) = self.job_ended(*worker, *job) {
                    self.failed(request, reason);
                }
            }
            Event::SourceMissing { worker, job } => {
                if let Some(request) = self.job_ended(*worker, *job) {
                    self.missing.extend(self.live[&request].decision.unwrap().source);
                    let decision = decision_for(request, actions);
                    assert_eq!((decision.kind, decision.source), (DecisionKind::Miss, None), "it becomes a miss");
                    self.route(request, decision);
                }
            }
            Event::ModelLoaded { worker } => self.load_ended(*worker, Ok(())),
            Event::LoadFailed { worker, loaded, .. } => self.load_ended(*worker, Err(*loaded)),
            Event::WorkerDown(worker) => self.worker_down(*worker),
            Event::WorkerUp(worker) => {
                if self.workers.get(worker.index()).is_some_and(|worker| worker.does == Does::Down) {
                    self.now_does(*worker, Does::Idle);
                }
            }
            Event::Cancelled(request) => self.cancelled(*request),
            Event::Drain => self.draining = true,
            Event::WokeUp => {
                if let Some(tick) = actions.iter().find_map(ticked) {
                    let wanted = targets(tick);
                    self.workers.iter_mut().zip(wanted).for_each(|(worker, wanted)| worker.wanted = wanted);
                }
                self.workers.iter_mut().for_each(|worker| worker.target = worker.wanted);
            }
        }
    }

    fn arrived(&mut self, request: Request) {
        let live = Live { request, decision: None, order: 0, runs: None, failures: 0, starts: 0 };
        assert!(self.live.insert(request.id, live).is_none() && !self.ended.contains_key(&request.id));
        if self.draining {
            self.end(request.id, Outcome::Rejected("draining".into()));
        } else {
            self.expected.push(Action::Encode(request.id));
        }
    }

    fn route(&mut self, request: RequestId, decision: Decision) {
        let tenant_of = |row: usize| self.world.requests[row].tenant;
        let live = self.live.get_mut(&request).unwrap();
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
        }
        live.decision = Some(decision);
        if decision.kind == DecisionKind::Return {
            let image = decision.source.unwrap();
            self.expected.push(Action::Return { request, image });
            self.end(request, Outcome::Completed);
        } else {
            self.wait(request);
        }
    }

    /// Puts a request at its place in its queue.
    fn wait(&mut self, request: RequestId) {
        let live = self.live.get_mut(&request).unwrap();
        live.runs = None;
        let refined = live.decision.unwrap().kind == DecisionKind::Hit && self.world.system == System::Modm;
        let queue = if refined { &mut self.hits } else { &mut self.misses };
        assert!(queue.insert(live.order, request).is_none());
    }

    fn failed(&mut self, request: RequestId, reason: &str) {
        let live = self.live.get_mut(&request).unwrap();
        live.failures += 1;
        if live.failures == self.world.config.max_attempts {
            self.end(request, Outcome::Failed(reason.to_owned()));
        } else {
            self.wait(request);
        }
    }

    fn end(&mut self, request: RequestId, outcome: Outcome) {
        assert!(self.live.remove(&request).is_some(), "what ends is live");
        assert!(self.ended.insert(request, outcome.clone()).is_none(), "every request ends once");
        self.expected.push(Action::Finish { request, outcome });
        self.last_finish = self.now;
    }

    /// Whether the image of a request that completes is kept.
    fn admits(&self, request: RequestId, model: Option<ModelId>) -> bool {
        let miss = self.live[&request].decision.unwrap().kind == DecisionKind::Miss;
        match (self.world.system, self.world.config.admission) {
            (System::Vanilla, _) => false,
            (System::Nirvana | System::Pinecone, _) | (System::Modm, Admission::Miss) => miss,
            (System::Modm, Admission::All) => true,
            (System::Modm, Admission::Large) => model == Some(ModelId::LARGE),
        }
    }

    /// The request of a job that ended, unless the job is out of date or nobody wants it any more.
    fn job_ended(&mut self, worker: WorkerId, job: JobId) -> Option<RequestId> {
        let Does::Runs(running, request) = self.workers.get(worker.index())?.does else { return None };
        if running != job {
            return None;
        }
        self.now_does(worker, Does::Idle);
        self.live.get(&request).is_some_and(|live| live.runs == Some(job)).then_some(request)
    }

    /// A load ended with its model, or with what the worker holds after its failure.
    fn load_ended(&mut self, worker: WorkerId, outcome: Result<(), Option<ModelId>>) {
        let Some(Does::Loads(model)) = self.workers.get(worker.index()).map(|worker| worker.does) else { return };
        let loaded = outcome.map_or_else(|held| held, |()| Some(model));
        self.now_does(worker, if loaded.is_some() { Does::Idle } else { Does::Down });
        let worker = &mut self.workers[worker.index()];
        worker.loaded = loaded;
        if let Err(Some(before)) = outcome {
            worker.target = before;
        }
    }

    fn worker_down(&mut self, worker: WorkerId) {
        let Some(does) = self.workers.get(worker.index()).map(|worker| worker.does) else { return };
        if let Does::Runs(job, _) = does
            && let Some(request) = self.job_ended(worker, job)
        {
            self.failed(request, "worker lost");
        }
        self.now_does(worker, Does::Down);
        self.workers[worker.index()].loaded = None;
    }

    fn cancelled(&mut self, request: RequestId) {
        let Some(live) = self.live.get(&request) else { return };
        let (order, runs) = (live.order, live.runs);
        if live.decision.is_some() && runs.is_none() {
            self.misses.retain(|at, _| *at != order);
            self.hits.retain(|at, _| *at != order);
        }
        self.end(request, Outcome::Cancelled);
        self.expected.extend(runs.map(Action::CancelJob));
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
            let model = self.workers[worker.index()].target;
            self.now_does(worker, Does::Loads(model));
            self.expected.push(Action::Load { worker, model });
        }
        let ready = |worker: &Worker| worker.does == Does::Idle && worker.loaded == Some(worker.target);
        for worker in self.where_workers(|worker| ready(worker) && worker.target.is_large()) {
            if let Some((_, request)) = self.misses.pop_first() {
                self.start(worker, request);
            }
        }
        for worker in self.where_workers(|worker| ready(worker) && !worker.target.is_large()) {
            if let Some((_, request)) = self.hits.pop_first() {
                self.start(worker, request);
            }
        }
        let any_small = self.workers.iter().any(|worker| !worker.target.is_large() && worker.does != Does::Down);
        if self.misses.is_empty() && !(self.throughput() && any_small) {
            for worker in self.where_workers(|worker| ready(worker) && worker.target.is_large()) {
                if let Some((_, request)) = self.hits.pop_first() {
                    self.start(worker, request);
                }
            }
        }
    }

    fn throughput(&self) -> bool {
        matches!(
            self.world.monitor,
            Monitor::Modm { mode: Mode::Throughput, .. } | Monitor::Rotating(LargeTakesHits::WithoutSmall)
        )
    }

    fn where_workers(&self, holds: impl Fn(&Worker) -> bool) -> Vec<WorkerId> {
        let ids = (0..).map(WorkerId).zip(&self.workers);
        ids.filter(|(_, worker)| holds(worker)).map(|(id, _)| id).collect()
    }

    fn start(&mut self, worker: WorkerId, request: RequestId) {
        let job = JobId(self.jobs);
        self.jobs += 1;
        self.now_does(worker, Does::Runs(job, request));
        let live = self.live.get_mut(&request).unwrap();
        live.runs = Some(job);
        live.starts += 1;
        assert!(live.starts <= self.world.config.max_attempts + 1, "attempts are bounded");
        let decision = live.decision.unwrap();
        let model = self.workers[worker.index()].loaded.unwrap();
        let work = Work { model, total_steps: self.world.config.total_steps, skipped_steps: decision.skipped_steps };
        let parts = std::iter::once(Part { request, source: decision.source }).collect();
        self.expected.push(Action::Start { job, worker, work, parts });
    }

    /// What is kept and let go.
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

fn decision_for(request: RequestId, actions: &[Action]) -> Decision {
    let routed = actions.iter().find_map(|action| match action {
        Action::Note(Note::Routed { request: routed, decision }) if *routed == request => Some(*decision),
        _ => None,
    });
    routed.unwrap_or_else(|| panic!("{request} is routed"))
}

fn ticked(action: &Action) -> Option<&[u32]> {
    match action {
        Action::Note(Note::Ticked(tick)) => Some(&tick.targets),
        _ => None,
    }
}
