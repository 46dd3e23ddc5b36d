//! Times of jobs while all the work of a live run goes on: workers draw, prompts and pictures are embedded, pictures
//! are stored. A closed loop feeds the live executor in turns: for some seconds a new request arrives when one has
//! ended, so that all workers draw, then there is one request at a time. `live::measure`, in contrast, measures a model
//! by itself.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::PROMPTS;
use crate::cache::{CacheSettings, Candidate, ImageCache};
use crate::experiments::live::Equipment;
use crate::experiments::{ExperimentError, Progress};
use crate::image::ImageId;
use crate::journal::{Journal, Record};
use crate::live::encoder::DualEncoder;
use crate::live::executor::{KnownRequests, Live, Setting};
use crate::live::limits::Limits;
use crate::live::settings::ImageFormat;
use crate::live::store::{Opened, RealDisk, Store};
use crate::model::{ModelId, Work};
use crate::output::make_folder;
use crate::replay::{Executor, Inbox, Next, replay};
use crate::request::{Ask, Owner, Request, RequestId, TenantId};
use crate::scenario::Scenario;
use crate::scheduler::allocation::{Allocation, StaticSplit};
use crate::scheduler::routing::{Load, Route, RoutingPolicy, Storage};
use crate::scheduler::{Action, Config, Decision, Event, Hardware, JobId, Scheduler, WarmImage, WorkerId};
use crate::time::Time;

/// Largest number of requests. The loop ends long before.
const MOST: u32 = 100_000;
/// Number of pictures that hits may start from.
const SOURCES: u64 = 64;
/// Number of requests of which one is a miss, while all workers draw.
const MISS_EACH: usize = 8;
/// Seconds of a spell in which all workers draw, and of a spell in which one worker draws.
const SPELLS: [f64; 2] = [5.0, 3.0];

/// Seconds of jobs of one kind.
#[derive(Clone, Debug, Default)]
pub(super) struct Jobs {
    /// Seconds of jobs during which every other worker drew.
    pub(super) loaded: Vec<f64>,
    /// Seconds of jobs during which no other worker drew.
    pub(super) alone: Vec<f64>,
    /// Seconds of those of [`Self::loaded`] during which every other worker drew with one model, by that model.
    pub(super) beside: BTreeMap<ModelId, Vec<f64>>,
}

impl Jobs {
    /// Adds jobs of the same kind.
    pub(super) fn extend(&mut self, more: Self) {
        self.loaded.extend(more.loaded);
        self.alone.extend(more.alone);
        for (model, seconds) in more.beside {
            self.beside.entry(model).or_default().extend(seconds);
        }
    }
}

/// Jobs by worker, model and skipped steps.
pub(super) type Loaded = BTreeMap<(WorkerId, ModelId, u32), Jobs>;

/// Measures jobs in one pass for each pair of models, so that each model is measured beside each. Workers hold the two
/// models in turn, and each worker draws at least `jobs` pictures in a pass. A single worker has no neighbours, and
/// holds each model once. Pictures go into `folder`.
pub(super) fn measure(
    scenario: &Scenario,
    equipment: &Equipment,
    jobs: u32,
    folder: &Path,
    progress: &Rc<dyn Progress>,
) -> Result<Loaded, ExperimentError> {
    make_folder(&folder.join("images"))?;
    let models: Vec<ModelId> = (0..scenario.model_names().len() as u16).map(ModelId).collect();
    let mut loaded = Loaded::new();
    for own in &models {
        for other in models.iter().filter(|other| scenario.workers() > 1 || *other == own) {
            let target = |worker: usize| if worker.is_multiple_of(2) { *own } else { *other };
            let targets = (0..scenario.workers()).map(target).collect();
            for (key, more) in one_pass(scenario, equipment, targets, jobs, folder, progress)? {
                loaded.entry(key).or_default().extend(more);
            }
        }
    }
    Ok(loaded)
}

fn one_pass(
    scenario: &Scenario,
    equipment: &Equipment,
    targets: Vec<ModelId>,
    jobs: u32,
    folder: &Path,
    progress: &Rc<dyn Progress>,
) -> Result<Loaded, ExperimentError> {
    let fingerprint = DualEncoder::fingerprint(&equipment.encoder)?;
    // All passes share one store, so a later pass finds pictures to start from at once.
    let place = folder.join("store");
    let Opened { store, found, .. } = Store::open(&place, ImageFormat::Png, &fingerprint, RealDisk)?;
    for (row, entry) in (0..).zip(&found) {
        store.adopt(ImageId::warm(row), entry);
    }
    let warm: Vec<WarmImage> = (found.into_iter())
        .map(|entry| WarmImage { key: entry.key, owner: Owner::Public, bytes: None, ask: Ask::default() })
        .collect();
    let limits = equipment.limits(None);
    let encoder = equipment.embed(&limits)?;
    let mut live = Live::start(setting(scenario, equipment, limits, folder, progress)?, store, &targets, encoder)?;
    let skips = scenario.skipped_steps();
    let single = Arc::new(AtomicBool::new(false));
    let has_large = targets.iter().any(|model| model.is_large());
    let routing = AlternatingRoutes { skips, routed: 0, hits: 0, has_large, single: single.clone() };
    let workers = targets.len();
    let allocation = Allocation::new(targets);
    let models = scenario.model_names().len();
    let hardware = Hardware::unmeasured(workers, models);
    let paper = Config::paper(models, hardware, scenario.models.large_steps());
    let config = Config { max_attempts: 1, measures_images: true, denoising: scenario.denoising(), ..paper };
    let cache = ImageCache::new(CacheSettings { capacity: SOURCES, ..CacheSettings::default() });
    let mut core = Scheduler::new(config, Box::new(routing), Some(cache), Box::new(StaticSplit::new(allocation)));
    let mut actions = Vec::new();
    core.warm(warm.into_iter(), &mut actions);
    for action in actions {
        live.submit(Time::ZERO, &action)?;
    }
    let running = vec![None; workers];
    let state =
        Rc::new(RefCell::new(LoadState { jobs: vec![0; workers], least: jobs, running, ..LoadState::default() }));
    let mut inbox = Loop { state: state.clone(), next: 0, most: 2 * workers as u32 + 4, single };
    replay(&mut core, &mut live, &mut inbox, &mut Clocked(state.clone()))?;
    let (failures, _) = live.finish();
    if let Some(failure) = failures.first() {
        return Err(ExperimentError::Failed(failure.clone()));
    }
    Ok(state.take().seconds)
}

fn setting(
    scenario: &Scenario,
    equipment: &Equipment,
    limits: Limits,
    folder: &Path,
    progress: &Rc<dyn Progress>,
) -> Result<Setting, ExperimentError> {
    let (images, progress) = (folder.join("images"), progress.clone());
    let book = KnownRequests {
        prompts: (0..MOST as usize).map(|row| PROMPTS[row % PROMPTS.len()].into()).collect(),
        tenants: None,
        details: Vec::new(),
        seed: scenario.seed,
        result: Box::new(move |request| images.join(format!("{request}.png"))),
    };
    Ok(Setting {
        book: Box::new(book),
        models: scenario.model_names(),
        checkpoints: Vec::new(),
        size: equipment.palette.size,
        paint: equipment.paint(&limits)?,
        stepped: None,
        warn: Box::new(move |message| progress.say(&format!("warning: {message}"))),
        away: Setting::AWAY,
        limits,
        elsewhere: None,
        isolated: equipment.is_isolated(),
    })
}

/// Routing policy that makes mostly hits, so that large workers have some hits and some misses. Hits and misses take
/// turns while there is one request at a time. Hits skip the numbers of steps of the scenario in turn. Without a large
/// worker, there are no misses.
#[derive(Clone, Debug)]
struct AlternatingRoutes {
    skips: Vec<u32>,
    routed: usize,
    hits: usize,
    has_large: bool,
    single: Arc<AtomicBool>,
}

impl RoutingPolicy for AlternatingRoutes {
    fn storage(&self) -> Storage {
        Storage::ByImage
    }

    fn route(&mut self, _: &Request, nearest: Option<Candidate<'_>>, _: &Load) -> Route {
        self.routed += 1;
        let each = if self.single.load(Ordering::Relaxed) { 2 } else { MISS_EACH };
        let may_hit = !self.skips.is_empty() && (!self.routed.is_multiple_of(each) || !self.has_large);
        match nearest.filter(|_| may_hit) {
            Some(found) => {
                // Each cycle begins one further, because workers that take turns would else get the same skips again
                // and again. Hits are counted apart from misses, which fall on the same remainders for ever.
                let skipped = self.skips[(self.hits / self.skips.len() + self.hits) % self.skips.len()];
                self.hits += 1;
                Route::Queue(Decision::hit(found, skipped))
            }
            None => Route::Queue(Decision::miss(nearest)),
        }
    }
}

/// Job that runs.
#[derive(Clone, Debug)]
struct Running {
    job: JobId,
    work: Work,
    since: Time,
    /// Seconds that other workers have drawn meanwhile, summed over the workers, by model.
    others_s: BTreeMap<ModelId, f64>,
}

/// State that the loop and its journal share.
#[derive(Debug, Default)]
struct LoadState {
    outstanding: u32,
    /// Number of jobs that each worker has done.
    jobs: Vec<u32>,
    /// Number of jobs that each worker has to do.
    least: u32,
    now: Time,
    running: Vec<Option<Running>>,
    seconds: Loaded,
}

impl LoadState {
    /// Moves the clock to `now`, and adds the time that has passed to the jobs that run beside others.
    fn advance(&mut self, now: Time) {
        let passed_s = now.since(self.now).seconds();
        self.now = now;
        let drawing: Vec<Option<ModelId>> =
            self.running.iter().map(|running| Some(running.as_ref()?.work.model)).collect();
        for (at, running) in self.running.iter_mut().enumerate() {
            let Some(running) = running else { continue };
            let others = drawing.iter().enumerate().filter(|(other, _)| *other != at);
            for model in others.filter_map(|(_, model)| *model) {
                *running.others_s.entry(model).or_insert(0.0) += passed_s;
            }
        }
    }

    fn ended(&mut self, worker: WorkerId, job: JobId) {
        let Some(running) = self.running[worker.index()].take_if(|running| running.job == job) else { return };
        self.jobs[worker.index()] += 1;
        let seconds = self.now.since(running.since).seconds();
        let others = self.running.len() - 1;
        let of_all = |others_s: f64| others_s / (others as f64 * seconds);
        let share = if others == 0 { 1.0 } else { of_all(running.others_s.values().sum()) };
        let of = self.seconds.entry((worker, running.work.model, running.work.skipped_steps)).or_default();
        // A job that ran beside others for a part of its time says little of either case.
        if share > 0.99 {
            of.loaded.push(seconds);
            let only = running.others_s.into_iter().find(|(_, others_s)| of_all(*others_s) > 0.99);
            if let Some((model, _)) = only {
                of.beside.entry(model).or_default().push(seconds);
            }
        } else if share < 0.01 {
            of.alone.push(seconds);
        }
    }
}

/// Inbox that gives another request whenever there are too few, until every worker has done enough jobs.
struct Loop {
    state: Rc<RefCell<LoadState>>,
    next: u32,
    most: u32,
    single: Arc<AtomicBool>,
}

impl Inbox for Loop {
    fn next(&mut self) -> Next {
        let state = self.state.borrow();
        let single = state.now.seconds() % SPELLS.iter().sum::<f64>() > SPELLS[0];
        self.single.store(single, Ordering::Relaxed);
        let most = if single { 1 } else { self.most };
        if self.next == MOST || state.jobs.iter().all(|jobs| *jobs >= state.least) {
            Next::Closed
        } else if state.outstanding < most {
            Next::At(Time::ZERO) // Due at once.
        } else {
            Next::Later
        }
    }

    fn take(&mut self) -> Option<Event> {
        let id = RequestId(self.next);
        self.next += 1;
        Some(Event::Arrived(Request::new(id, Time::ZERO, TenantId(0))))
    }
}

/// Journal that measures the times of jobs, and which models ran beside them.
struct Clocked(Rc<RefCell<LoadState>>);

impl Journal for Clocked {
    fn record(&mut self, time: Time, record: Record<'_>) {
        let mut state = self.0.borrow_mut();
        // The time up to this record goes to the jobs that ran until now, so it is added before the record starts or
        // ends one.
        state.advance(time);
        match record {
            Record::Event(Event::Arrived(_)) => state.outstanding += 1,
            Record::Event(Event::JobCompleted { worker, job, .. }) => state.ended(*worker, *job),
            Record::Action(Action::Start { job, worker, work, .. }) => {
                let running = Running { job: *job, work: *work, since: time, others_s: BTreeMap::new() };
                state.running[worker.index()] = Some(running);
            }
            Record::Action(Action::Finish(_)) => state.outstanding -= 1,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use smallvec::SmallVec;

    use super::*;
    use crate::request::Outcome;
    use crate::scheduler::Ended;
    use crate::scheduler::Part;

    fn start(job: u64, worker: u16, model: u16, skipped_steps: u32) -> Action {
        let parts = SmallVec::from_buf([Part { request: RequestId(job as u32), source: None }]);
        let work = Work::new(ModelId(model), 50, skipped_steps);
        Action::Start { job: JobId(job), worker: WorkerId(worker), work, parts }
    }

    fn done(job: u64, worker: u16) -> Event {
        Event::JobCompleted { worker: WorkerId(worker), job: JobId(job), outputs: SmallVec::new() }
    }

    #[test]
    fn hits_skip_every_number_of_steps_in_both_spells() {
        for (is_single, kinds) in [(false, 2), (false, 3), (true, 2), (true, 3), (true, 4)] {
            let skips: Vec<u32> = (1..=kinds).collect();
            let single = Arc::new(AtomicBool::new(is_single));
            let mut routes = AlternatingRoutes { skips: skips.clone(), routed: 0, hits: 0, has_large: true, single };
            let load = Load { now: Time::ZERO, waiting_misses: 0, waiting_hits: 0, workers: 2 };
            let found = Candidate { image: ImageId::warm(0), similarity: 1.0, states: &[] };
            let skipped = (0..96).filter_map(|id| {
                let request = Request::new(RequestId(id), Time::ZERO, TenantId(0));
                let Route::Queue(decision) = routes.route(&request, Some(found), &load) else { return None };
                (decision.skipped_steps > 0).then_some(decision.skipped_steps)
            });
            let skipped: Vec<u32> = skipped.collect();
            // Of two workers that take turns, each gets every second hit.
            for first in 0..2 {
                let mut own: Vec<u32> = skipped.iter().copied().skip(first).step_by(2).collect();
                own.sort_unstable();
                own.dedup();
                assert_eq!(own, skips, "single: {is_single}, {kinds} kinds");
            }
        }
    }

    #[test]
    fn jobs_are_told_apart_by_what_ran_beside_them() {
        let state = LoadState { jobs: vec![0; 2], running: vec![None; 2], least: 1, ..LoadState::default() };
        let state = Rc::new(RefCell::new(state));
        let mut clocked = Clocked(state.clone());
        let at = |tenths: u64| Time::from_nanoseconds(tenths * 100_000_000);
        clocked.record(at(0), Record::Action(&start(0, 0, 0, 0)));
        clocked.record(at(5), Record::Event(&done(0, 0))); // alone
        clocked.record(at(5), Record::Action(&start(1, 0, 0, 0)));
        clocked.record(at(6), Record::Action(&start(2, 1, 1, 25)));
        clocked.record(at(8), Record::Event(&done(2, 1))); // beside the other, all of it
        clocked.record(at(8), Record::Action(&start(3, 1, 1, 25)));
        clocked.record(at(10), Record::Event(&done(1, 0))); // beside others for four fifths
        clocked.record(at(12), Record::Event(&done(3, 1))); // for half
        let state = state.borrow();
        assert_eq!(state.jobs, [2, 2]);
        let of = |worker, model, skipped| &state.seconds[&(WorkerId(worker), ModelId(model), skipped)];
        assert_eq!((of(0, 0, 0).alone.as_slice(), of(0, 0, 0).loaded.len()), ([0.5].as_slice(), 0));
        assert_eq!(of(1, 1, 25).alone.len(), 0);
        assert!(matches!(of(1, 1, 25).loaded[..], [seconds] if (seconds - 0.2).abs() < 1e-9));
        let beside = &of(1, 1, 25).beside;
        assert!(beside.len() == 1 && beside[&ModelId(0)].len() == 1, "{beside:?}");
    }

    #[test]
    fn another_comes_when_one_has_ended_until_all_workers_have_done_enough() {
        let state = LoadState { jobs: vec![0; 2], running: vec![None; 2], least: 1, ..LoadState::default() };
        let state = Rc::new(RefCell::new(state));
        let mut clocked = Clocked(state.clone());
        let mut inbox = Loop { state: state.clone(), next: 0, most: 2, single: Arc::default() };
        for _ in 0..2 {
            assert_eq!(inbox.next(), Next::At(Time::ZERO));
            let event = inbox.take().expect("a request");
            clocked.record(Time::ZERO, Record::Event(&event));
        }
        assert_eq!(inbox.next(), Next::Later);
        let request = Request::new(RequestId(0), Time::ZERO, TenantId(0));
        let finish = Action::Finish(Box::new(Ended::unrouted(&request, Outcome::Completed)));
        clocked.record(Time::ZERO, Record::Action(&finish));
        assert_eq!(inbox.next(), Next::At(Time::ZERO));
        state.borrow_mut().now = Time::from_nanoseconds(6_000_000_000);
        assert_eq!(inbox.next(), Next::Later, "in the spell of single requests there is one");
        state.borrow_mut().jobs = vec![1, 1];
        assert_eq!(inbox.next(), Next::Closed);
    }
}
