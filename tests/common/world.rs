//! Seeded random set-ups: a small cluster with three models, a workload with locality, any system and
//! policy. Two cores of the same world do the same.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use modm::cache::eviction::{Eviction, EvictionSettings};
use modm::cache::index::{ExactIndex, NewIndex};
use modm::cache::{Admission, CacheSettings, ImageCache, Resizing, Scope, Tenancy};
use modm::confidence::Confidences;
use modm::denoising::{Denoising, ModelSteps, Schedule};
use modm::draw::{Purpose, normal, stream};
use modm::embedding::EmbeddingMatrix;
use modm::metrics::quality::QualitySettings;
use modm::metrics::{HitCriteria, Keep, Metrics, Settings};
use modm::model::{GpuId, ModelId, Size};
use modm::network::Network;
use modm::profile::{self, Profile};
use modm::request::{Ask, Owner, Place, Request, RequestId, TenantId, Weights};
use modm::scheduler::allocation::{
    Allocation, AllocationPolicy, Cascade, CascadeAllocation, CascadeSettings, Decided, LargeTakesHits, Mode,
    ModmAllocation, ModmSettings, Pid, QueueDelay, Situation, StaticSplit, Switching, WhatIf, WhatIfSettings,
};
use modm::scheduler::routing::{Bounds, Level, Levels, Modm, RoutingPolicy, System};
use modm::scheduler::{
    Action, Batching, Config, Hardware, Hits, Late, Order, QueueSettings, Scheduler, Serves, Serving, TenantTerms,
    WarmImage,
};
use modm::sim::{self, Faults, ImageSizes, LatencyModel, ProfileLatency, Simulated};
use modm::time::{Duration, Time};
use rand::RngExt;
use rand::seq::IndexedRandom;
use smallvec::SmallVec;

const MODELS: usize = 3;
const DIMENSION: usize = 8;
pub(crate) const TOTAL_STEPS: u32 = 20;
pub(crate) const USUAL_SIZE: Size = Size { width: 1024, height: 1024 };
/// Limits within which an image serves a request of another size.
pub(crate) const ASPECT: f64 = 1.1;
pub(crate) const FACTOR: f64 = 4.0;

/// Until a cascade's allocation decides.
pub(crate) const THRESHOLD: f64 = 0.6;

/// Policy that decides which model each worker holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Monitor {
    Static,
    Modm {
        mode: Mode,
        pid: bool,
    },
    /// Ours.
    WhatIf,
    /// A cascade's.
    Cascade,
    /// Another split over all three models at every tick, whatever the demand.
    Rotating(LargeTakesHits),
}

/// Everything that a run depends on.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) system: System,
    pub(crate) monitor: Monitor,
    pub(crate) config: Config,
    pub(crate) workers: usize,
    /// Steps and shift of the noise levels, by model.
    pub(crate) steps: [(u32, f64); MODELS],
    pub(crate) requests: Vec<Request>,
    pub(crate) retrieval: Duration,
    pub(crate) image_encoding: Duration,
    pub(crate) profile: Arc<Profile>,
    pub(crate) prompts: EmbeddingMatrix,
    pub(crate) images: EmbeddingMatrix,
    pub(crate) tenancy: Tenancy,
    pub(crate) confidences: Option<Confidences>,
    /// True if hits go further under load.
    levels: bool,
    eviction: Eviction,
    max_age: Option<Duration>,
    capacity: u64,
    initial_large: usize,
    period: Duration,
    warm: u32,
}

/// The policies of a world, to be wrapped by those who want to.
pub(crate) struct Parts {
    pub(crate) routing: Box<dyn RoutingPolicy>,
    pub(crate) index: NewIndex,
    pub(crate) allocation: Box<dyn AllocationPolicy>,
}

impl World {
    /// Draws everything. `second` is the length of what would be a second: tests against a real clock
    /// have shorter ones.
    pub(crate) fn draw(seed: u64, requests: u32, second: Duration) -> Self {
        let mut draws = stream(seed, Purpose::Test, 0);
        let seconds = |count: f64| Duration::from_nanoseconds((count * second.nanoseconds() as f64) as u64);
        let others = [System::Vanilla, System::Nirvana, System::Pinecone, System::Cascade];
        let system = if draws.random() { System::Modm } else { *others.choose(&mut draws).unwrap() };
        let workers = draws.random_range(if system == System::Cascade { 2 } else { 1 }..=6);
        let period = draws.random_range(10..120);
        let monitor = monitor(&mut draws, system);
        let load = f64::from(draws.random_range(0..3 * period)) * second.seconds();
        // Whole seconds make ties of completions, ticks and arrivals.
        let jitter = if draws.random() { 0.0 } else { 0.4 };
        let tenants = draws.random_range(1..=3);
        let between = 12.0 / workers as f64;
        let mut arrival = Time::ZERO;
        let requests = (0..requests).map(|row| {
            arrival = arrival + seconds(draws.random_range(0.0..2.0 * between).floor());
            let deadline = draws.random_bool(0.5).then(|| arrival + seconds(30.0));
            Request { deadline, ..Request::new(RequestId(row), arrival, TenantId(draws.random_range(0..tenants))) }
        });
        let mut requests: Vec<Request> = requests.collect();
        let steps = differ(seed, &mut requests);
        let profile = profile(second.seconds(), load, jitter, draws.random());
        let two_types = draws.random_bool(0.3);
        let gpus = (0..workers as u16).map(|worker| GpuId(if two_types { worker % 2 } else { 0 }));
        let hardware = Hardware { gpus: gpus.collect(), profile: profile.clone() };
        Self {
            seed,
            system,
            monitor,
            config: Config {
                admission: *[Admission::All, Admission::Large, Admission::Miss].choose(&mut draws).unwrap(),
                max_attempts: draws.random_range(1..=4),
                measures_images: draws.random(),
                queue: queue(&mut draws, system, tenants, seconds(30.0)),
                serving: if system == System::Cascade { Serving::large_and_small(MODELS) } else { serving(&mut draws) },
                batching: Batching {
                    most: *[1, 1, 2, 4].choose(&mut draws).unwrap(),
                    wait: *[Duration::ZERO, seconds(2.0), seconds(15.0)].choose(&mut draws).unwrap(),
                    by_deadline: draws.random(),
                },
                denoising: denoising(steps),
                usual_size: USUAL_SIZE,
                ..Config::paper(MODELS, hardware, TOTAL_STEPS)
            },
            steps,
            workers,
            retrieval: *[Duration::ZERO, seconds(0.7), seconds(3.0)].choose(&mut draws).unwrap(),
            profile,
            prompts: embeddings(seed, 1, requests.len()),
            images: embeddings(seed, 2, requests.len()),
            requests,
            tenancy: tenancy(&mut draws, tenants),
            confidences: (system == System::Cascade).then_some(Confidences::Kumaraswamy { a: 2.0, b: 1.0, seed }),
            levels: draws.random_bool(0.3),
            eviction: *Eviction::ALL.choose(&mut draws).unwrap(),
            max_age: draws.random_bool(0.3).then(|| seconds(40.0)),
            capacity: draws.random_range(5..25),
            initial_large: draws.random_range(1..=workers),
            period: seconds(f64::from(period)),
            warm: draws.random_range(0..8),
            image_encoding: *[Duration::ZERO, seconds(1.0), seconds(5.5)].choose(&mut draws).unwrap(),
        }
    }

    fn bounds(&self) -> &'static [(f64, u32)] {
        match self.system {
            System::Vanilla | System::Cascade => &[],
            System::Nirvana => &[(0.5, 5), (0.7, 10), (0.9, 15)],
            System::Pinecone => &[(0.9, 0)],
            System::Modm => &[(0.4, 5), (0.7, 10), (0.9, 15)],
        }
    }

    fn hit_criteria(&self) -> Option<HitCriteria> {
        let (lowest_bound, _) = self.bounds().first()?;
        Some(HitCriteria {
            skipped_steps: self.system.skipped_steps(self.bounds(), TOTAL_STEPS),
            lowest_bound: *lowest_bound,
            near_miss: 0.1,
            false_hit: 0.95,
        })
    }

    pub(crate) fn initial(&self) -> Allocation {
        let large = match self.system {
            System::Modm => self.initial_large,
            System::Cascade => self.initial_large.min(self.workers - 1),
            _ => self.workers,
        };
        let cascade = Cascade { threshold: THRESHOLD, batches: SmallVec::new() };
        let cascade = (self.system == System::Cascade).then_some(cascade);
        Allocation { cascade, ..Allocation::split(self.workers, large, ModelId(1)) }
    }

    pub(crate) fn parts(&self) -> Parts {
        let rate = |model: ModelId| self.profile.images_per_minute(GpuId(0), model, self.steps[model.index()].0);
        let allocation: Box<dyn AllocationPolicy> = match self.monitor {
            Monitor::Static => Box::new(StaticSplit::new(self.initial())),
            Monitor::Modm { mode, pid } => Box::new(ModmAllocation::new(ModmSettings {
                mode,
                period: self.period,
                headroom: 0.9,
                pid: pid.then(Pid::default),
                workers: self.workers,
                initial_large: self.initial_large,
                least_small: (self.seed % 3) as usize % self.workers,
                rates: (0..MODELS).map(|model| rate(ModelId(model as u16))).collect(),
                switching: Switching::default(),
            })),
            Monitor::WhatIf => Box::new(WhatIf::new(WhatIfSettings {
                initial: self.initial().targets,
                worth: vec![1.0, 0.5, 0.0],
                hardware: self.config.hardware.clone(),
                window: self.period,
                gap: self.period,
                horizon: self.period,
                cushion: Duration::ZERO,
                best_first: true,
                load_price: 0.5,
                late_price: 5.0,
            })),
            Monitor::Cascade => Box::new(CascadeAllocation::new(CascadeSettings {
                initial: self.initial(),
                period: self.period,
                headroom: 0.9,
                due: self.config.queue.due,
                queue_delay: match self.config.batching.most % 2 {
                    0 => QueueDelay::ArrivalRate,
                    _ => QueueDelay::Throughput,
                },
                light: ModelId(1),
                most: self.config.batching.most,
                denoising: self.config.denoising.clone(),
                profile: self.profile.clone(),
                confidences: self.confidences.clone().unwrap(),
            })),
            Monitor::Rotating(large_takes_hits) => {
                Box::new(Rotating { initial: self.initial(), period: self.period, ticks: 0, large_takes_hits })
            }
        };
        let levels = [(0.0, 0.9, [0.4, 0.7, 0.9]), (0.5, 0.8, [0.3, 0.6, 0.8]), (2.0, 0.7, [0.2, 0.4, 0.6])];
        let level = |(from, quality, [a, b, c]): (f64, f64, [f64; 3])| Level {
            from,
            quality,
            bounds: Bounds::at_or_above(&[(a, 5), (b, 10), (c, 15)]),
        };
        let levels = Levels::new(levels.into_iter().map(level).collect(), 0.85, 50);
        let by_levels = self.levels && self.system == System::Modm;
        let usual = || self.system.build(self.bounds(), TOTAL_STEPS);
        Parts {
            routing: if by_levels { Box::new(Modm::new(levels)) } else { usual() },
            index: NewIndex::new(ExactIndex::new),
            allocation,
        }
    }

    /// A core at time zero with a warm cache, and what warming it leads to.
    pub(crate) fn assemble(&self, parts: Parts) -> (Scheduler, Vec<Action>) {
        let cache = ImageCache::new(CacheSettings {
            capacity: if self.tenancy.shares.is_empty() { self.capacity } else { self.tenancy.shares.values().sum() },
            tenancy: self.tenancy.clone(),
            near_duplicate: None,
            max_age: self.max_age,
            eviction: if self.system == System::Nirvana { Eviction::Lcbfu } else { self.eviction },
            eviction_settings: EvictionSettings { savings: vec![1; 21], ..EvictionSettings::default() },
            index: parts.index,
            resizing: Resizing { usual: USUAL_SIZE, aspect: ASPECT, factor: FACTOR },
        });
        let mut core = Scheduler::new(self.config.clone(), parts.routing, Some(cache), parts.allocation);
        let mut actions = Vec::new();
        let warm = embeddings(self.seed, 3, self.warm.max(1) as usize);
        let image =
            |row| WarmImage { key: warm.embedding(row), owner: warm_owner(row), bytes: None, ask: Ask::default() };
        core.warm((0..self.warm as usize).map(image), &mut actions);
        (core, actions)
    }

    pub(crate) fn core(&self) -> (Scheduler, Vec<Action>) {
        self.assemble(self.parts())
    }

    /// Service times of the world's own profile.
    pub(crate) fn latency(&self) -> ProfileLatency {
        ProfileLatency {
            profile: self.profile.clone(),
            seed: self.seed,
            retrieval: self.retrieval,
            image_encoding: self.image_encoding,
        }
    }

    /// Simulated executor of this world, without faults.
    pub(crate) fn executor<L: LatencyModel>(&self, latency: L) -> Simulated<L> {
        self.executor_over(None, latency)
    }

    /// Simulated executor of this world over a network.
    pub(crate) fn executor_over<L: LatencyModel>(&self, network: Option<Network>, latency: L) -> Simulated<L> {
        let looks_up = !matches!(self.system, System::Vanilla | System::Cascade);
        Simulated::new(sim::Settings {
            prompts: looks_up.then(|| self.prompts.clone()),
            images: (self.system == System::Modm).then(|| self.images.clone()),
            confidences: self.confidences.clone(),
            network,
            ..without_embeddings(latency, self.config.hardware.gpus.clone())
        })
    }

    pub(crate) fn metrics(&self) -> Metrics {
        Metrics::new(Settings {
            models: ["large", "medium", "small"].map(str::to_owned).to_vec(),
            serving: self.config.serving.clone(),
            denoising: self.config.denoising.clone(),
            requests_differ: self.requests.iter().any(|request| !request.ask.is_usual() || !request.place.is_only()),
            gpus: self.config.hardware.gpus.clone(),
            usd_per_hour: vec![None; self.workers],
            initial: self.initial().targets,
            profile: self.profile.clone(),
            quality: QualitySettings::default(),
            most_together: self.config.batching.most,
            assumed_quality: Vec::new(),
            slo_multiples: vec![2.0],
            warmup: Time::ZERO,
            window: self.period,
            cache: self.hit_criteria(),
            keep: Keep::Rows,
            real_time: false,
            network: None,
        })
    }
}

/// Settings of a simulated executor that has no embeddings, no confidences and no faults.
pub(crate) fn without_embeddings<L>(latency: L, gpus: Vec<GpuId>) -> sim::Settings<L> {
    sim::Settings {
        latency,
        gpus,
        prompts: None,
        images: None,
        sizes: ImageSizes::default(),
        confidences: None,
        faults: Faults::default(),
        network: None,
    }
}

/// In a third of the worlds, requests ask for other sizes, steps, keys and weights, bring sources of their own, and ask
/// for several images; in a quarter the models have numbers of steps and shifts of their own, which are returned.
fn differ(seed: u64, requests: &mut [Request]) -> [(u32, f64); MODELS] {
    let mut draws = stream(seed, Purpose::Test, 30);
    let sizes = [(0, 0), (0, 0), (1024, 1024), (512, 512), (1280, 768), (1100, 1000), (2100, 2000)];
    if draws.random_bool(1.0 / 3.0) {
        let keys = draws.random_range(1..4);
        for request in requests.iter_mut() {
            request.ask = Ask {
                size: Size::from(*sizes.choose(&mut draws).unwrap()),
                steps: *[0, 0, TOTAL_STEPS, 8, 37].choose(&mut draws).unwrap(),
                key: draws.random_range(0..keys),
                weights: Weights { checkpoint: draws.random_range(0..2), loras: draws.random_range(0..2) },
                skips: 0,
            };
        }
        // Some bring a source of their own, and say what they skip.
        for request in requests.iter_mut() {
            request.ask.skips = *[0, 0, 0, 0, 7, 15].choose(&mut draws).unwrap();
        }
        let mut row = 0;
        while row < requests.len() {
            let of = if draws.random_bool(0.3) { draws.random_range(1..4).min(requests.len() - row) } else { 1 };
            let first = requests[row];
            for (at, request) in requests[row..row + of].iter_mut().enumerate() {
                *request = Request { id: request.id, place: Place { at: at as u16, of: of as u16 }, ..first };
            }
            row += of;
        }
    }
    let others = [(TOTAL_STEPS, 1.0), (4, 3.0), (8, 1.0), (40, 3.0)];
    if draws.random_bool(0.25) {
        [(TOTAL_STEPS, 3.0), *others.choose(&mut draws).unwrap(), *others.choose(&mut draws).unwrap()]
    } else {
        [(TOTAL_STEPS, 1.0); MODELS]
    }
}

fn denoising(steps: [(u32, f64); MODELS]) -> Denoising {
    let model = |(steps, shift)| ModelSteps { steps, schedule: Schedule::Shift(shift) };
    Denoising::new(steps.map(model).to_vec(), false, &[])
}

/// Policy that suits a system, drawn.
fn monitor(draws: &mut impl rand::Rng, system: System) -> Monitor {
    let monitors = [
        Monitor::Static,
        Monitor::Modm { mode: Mode::Quality, pid: draws.random() },
        Monitor::Modm { mode: Mode::Throughput, pid: draws.random() },
        Monitor::Modm { mode: Mode::Load, pid: draws.random() },
        Monitor::WhatIf,
        Monitor::Rotating(LargeTakesHits::WithoutMisses),
        Monitor::Rotating(LargeTakesHits::WithoutSmall),
    ];
    match system {
        System::Modm => *monitors.choose(draws).unwrap(),
        System::Cascade => *[Monitor::Static, Monitor::Cascade].choose(draws).unwrap(),
        _ => Monitor::Static,
    }
}

/// The paper's discipline for half of the worlds, or any.
fn queue(draws: &mut impl rand::Rng, system: System, tenants: u32, due: Duration) -> QueueSettings {
    if draws.random() {
        return QueueSettings { order: system.default_order(), ..QueueSettings::paper() };
    }
    let orders = [Order::MissesFirst, Order::Oldest, Order::Deadline, Order::Slack, Order::Fair, Order::FairSlack];
    let terms = (0..draws.random_range(0..=tenants))
        .map(|_| TenantTerms { weight: draws.random_range(0.5..4.0), priority: draws.random_range(0..3) })
        .collect();
    QueueSettings {
        order: *orders.choose(draws).unwrap(),
        admission: draws.random_bool(0.2),
        late: *[Late::InTurn, Late::Last, Late::Best, Late::Reject].choose(draws).unwrap(),
        due,
        overdue: draws
            .random_bool(0.5)
            .then(|| Duration::from_seconds_saturating(due.seconds() * draws.random_range(0.0..4.0))),
        fall_back: draws.random_bool(0.5).then(|| draws.random_range(1.0..4.0)),
        ease: draws.random(),
        least_skipped: 5,
        terms,
    }
}

/// The paper's models, or a mixture in which the medium one serves misses too and the others refine some hits only.
fn serving(draws: &mut impl rand::Rng) -> Serving {
    if draws.random_bool(0.7) {
        return Serving::large_and_small(MODELS);
    }
    Serving::new(vec![
        Serves { misses: true, hits: Hits::All },
        Serves { misses: true, hits: Hits::All },
        Serves { misses: false, hits: Hits::Skipping(vec![10, 15]) },
    ])
}

/// Half of the warm images are a tenant's.
pub(crate) const fn warm_owner(row: usize) -> Owner {
    if row.is_multiple_of(2) { Owner::Public } else { Owner::Tenant(TenantId(0)) }
}

/// Any scope; each tenant and the public part with room of their own, or all with one.
fn tenancy(draws: &mut impl rand::Rng, tenants: u32) -> Tenancy {
    let scope = *[Scope::Shared, Scope::Tenant, Scope::TenantThenPublic].choose(draws).unwrap();
    let owners = std::iter::once(Owner::Public).chain((0..tenants).map(|tenant| Owner::Tenant(TenantId(tenant))));
    let shares = owners.map(|owner| (owner, draws.random_range(4..12))).collect();
    let public = (scope == Scope::TenantThenPublic && draws.random()).then_some(TenantId(0));
    let shares = if scope == Scope::Shared && draws.random() { BTreeMap::new() } else { shares };
    Tenancy { scope, shares, public: public.into_iter().collect() }
}

/// Full generations take 20, 5 and 2.5 seconds, half as long again on the second GPU type. The first has room for the
/// large or the small model beside the medium one, the second for the two lesser ones.
fn profile(second: f64, load_s: f64, jitter_cv: f64, memory: bool) -> Arc<Profile> {
    let mut text = "source = \"test\"\n".to_owned();
    for (gpu, slower, room) in [("fast", 1.0, 45), ("slow", 1.5, 32)] {
        if memory {
            write!(text, "[[gpu]]\ntype = \"{gpu}\"\nmemory_gb = {room}\n").unwrap();
        }
        for (model, step, takes) in [("large", 1.0, 30), ("medium", 0.25, 14), ("small", 0.125, 8)] {
            let step_s = step * second * slower;
            write!(text, "[[service]]\ngpu = \"{gpu}\"\nmodel = \"{model}\"\nstep_s = {step_s:?}\n").unwrap();
            write!(text, "load_s = {load_s:?}\njitter_cv = {jitter_cv:?}\n").unwrap();
            write!(text, "batches = [[2, 1.5], [4, 2.5]]\nmemory_gb = {takes}\n").unwrap();
            write!(text, "sizes = [[262144, 0.3]]\nlora_s = {:?}\n", second / 2.0).unwrap();
        }
    }
    let file = profile::parse(&text, "test".as_ref()).unwrap();
    let (gpus, models) = (["fast", "slow"].map(str::to_owned), ["large", "medium", "small"].map(str::to_owned));
    Arc::new(Profile::select(&file, &gpus, &models).unwrap())
}

/// Rows around a few topics, the same ones for prompts and images.
fn embeddings(seed: u64, what: u64, rows: usize) -> EmbeddingMatrix {
    let mut topics = stream(seed, Purpose::Test, 10);
    let topics: Vec<f64> = (0..4 * DIMENSION).map(|_| normal(&mut topics)).collect();
    let mut draws = stream(seed, Purpose::Test, 10 + what);
    let mut values = Vec::with_capacity(rows * DIMENSION);
    for _ in 0..rows {
        let topic = draws.random_range(0..4) * DIMENSION;
        let spread = draws.random_range(0.0..1.0);
        values.extend((0..DIMENSION).map(|i| (topics[topic + i] + spread * normal(&mut draws)) as f32));
    }
    EmbeddingMatrix::new(DIMENSION, values).unwrap()
}

/// Targets of the workers from a tick's counts: large workers first, then by model.
pub(crate) fn targets(counts: &[u32]) -> Vec<ModelId> {
    let each = |(model, &count): (usize, &u32)| std::iter::repeat_n(ModelId(model as u16), count as usize);
    counts.iter().enumerate().flat_map(each).collect()
}

#[derive(Clone, Debug)]
struct Rotating {
    initial: Allocation,
    period: Duration,
    ticks: u64,
    large_takes_hits: LargeTakesHits,
}

impl AllocationPolicy for Rotating {
    fn initial(&self) -> Allocation {
        Allocation { large_takes_hits: self.large_takes_hits, ..self.initial.clone() }
    }

    fn next_decision(&self) -> Option<Time> {
        Some(Time::from_nanoseconds(self.period.nanoseconds() * (self.ticks + 1)))
    }

    fn decide(&mut self, now: Time, _: &Situation) -> Option<Decided> {
        self.ticks = now.nanoseconds() / self.period.nanoseconds();
        let workers = self.initial.targets.len() as u32;
        let mut draws = stream(self.ticks, Purpose::Test, 20);
        let large = draws.random_range(1..=workers);
        let medium = draws.random_range(0..=workers - large);
        let targets = targets(&[large, medium, workers - large - medium]);
        let allocation = Allocation { large_takes_hits: self.large_takes_hits, ..Allocation::new(targets) };
        Some(Decided { allocation, wanted_large: large, controller_state: f64::from(large), overloaded: None })
    }
}
