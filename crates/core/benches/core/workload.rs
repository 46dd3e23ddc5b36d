//! Workloads of the core alone: arrivals, decisions that are drawn rather than looked up, and the loop, the simulated
//! executor and the metrics as in `modm simulate`. `vanilla` has one model and a fixed allocation. `classes` is `MoDM`
//! with misses and five kinds of hits at 1.2 times its capacity; `what_if` is `MoDM` with the allocation policy of that
//! name. `withdrawn` is `vanilla` at twice its capacity, with a quarter of the requests withdrawn. `fair-10` and
//! `fair-100` have 10 and 100 tenants, at 1.2 times the capacity.

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;

use modm_core::cache::index::{Match, NewIndex, Query, RetrievalIndex};
use modm_core::cache::{CacheSettings, ImageCache};
use modm_core::draw::{Purpose, exponential, stream};
use modm_core::embedding::{Embedding, EmbeddingMatrix};
use modm_core::image::ImageId;
use modm_core::metrics::summary::Summary;
use modm_core::metrics::{Metrics, Settings};
use modm_core::model::{GpuId, ModelId};
use modm_core::profile::{Profile, ProfileFile, Service};
use modm_core::replay::{Known, replay};
use modm_core::request::{Request, RequestId, TenantId};
use modm_core::scheduler::allocation::{
    Allocation, AllocationPolicy, Mode, ModmAllocation, ModmSettings, Pid, StaticSplit, Switching, WhatIf,
    WhatIfSettings,
};
use modm_core::scheduler::routing::System;
use modm_core::scheduler::{Config, Event, Hardware, Late, Order, QueueSettings, Scheduler};
use modm_core::sim::{self, Faults, ImageSizes, ProfileLatency, Simulated};
use modm_core::time::{Duration, Time};
use rand::RngExt;

const STEPS: u32 = 50;
/// Seconds of a step of the large model and of the small model.
const STEP_S: [f64; 2] = [0.02, 0.005];
/// Bounds of `MoDM` on similarity, and the steps that a hit skips from each bound on.
const BOUNDS: [(f64, u32); 5] = [(0.25, 5), (0.27, 10), (0.28, 15), (0.29, 25), (0.30, 30)];
/// Share of requests that hit, in equal parts of the five kinds.
const HITS: f64 = 0.7;
/// Mean part of a full generation that a hit takes.
const REFINED: f64 = 0.66;
const CAPACITY: u64 = 10_000;

/// Workload by name and size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Vanilla,
    Classes,
    WhatIf,
    Withdrawn,
    /// Fair queueing, with the number of tenants.
    Fair(u32),
}

impl Kind {
    /// Returns the workload of a name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "vanilla" => Self::Vanilla,
            "classes" => Self::Classes,
            "what_if" => Self::WhatIf,
            "withdrawn" => Self::Withdrawn,
            "fair-10" => Self::Fair(10),
            "fair-100" => Self::Fair(100),
            _ => return None,
        })
    }

    /// Returns whether requests are looked up.
    const fn has_hits(self) -> bool {
        matches!(self, Self::Classes | Self::WhatIf)
    }

    /// Returns the usual load: the work that arrives divided by the work that the workers can do.
    const fn usual_load(self) -> f64 {
        match self {
            Self::Vanilla | Self::WhatIf => 0.9,
            Self::Classes | Self::Fair(_) => 1.2,
            Self::Withdrawn => 2.0,
        }
    }
}

/// Inputs of a run, made before the run is measured.
pub(crate) struct Workload {
    kind: Kind,
    workers: usize,
    profile: Arc<Profile>,
    arrivals: Vec<Time>,
    embeddings: Option<EmbeddingMatrix>,
    similarities: Arc<[f64]>,
}

impl Workload {
    /// Makes the inputs, with Poisson arrivals at a load; the usual load if none is given.
    pub(crate) fn new(kind: Kind, workers: usize, load: Option<f64>, requests: u32) -> Self {
        let load = load.unwrap_or(kind.usual_load());
        let full_s = STEP_S.map(|step_s| step_s * f64::from(STEPS));
        let (models, mean_s) =
            if kind.has_hits() { (2, (1.0 - HITS) * full_s[0] + HITS * REFINED * full_s[1]) } else { (1, full_s[0]) };
        let names = ["large".to_owned(), "small".to_owned()];
        let rows =
            names.iter().zip(STEP_S).map(|(name, step_s)| Service { step_s, load_s: 1.0, ..Service::new("gpu", name) });
        let file = ProfileFile {
            source: "benchmark".to_owned(),
            service: rows.collect(),
            gpu: Vec::new(),
            encoding: None,
            measurement: Vec::new(),
            quality: Vec::new(),
            own_quality: Vec::new(),
        };
        let profile = Profile::select(&file, &["gpu".to_owned()], &names[..models]).expect("its rows are there");
        let mut draws = stream(42, Purpose::Arrivals, 0);
        let (mut seconds, gap) = (0.0, mean_s / (load * workers as f64));
        let mut next = |_| {
            seconds += exponential(&mut draws) * gap;
            Time::from_seconds(seconds).expect("well below 584 years")
        };
        let arrivals: Vec<Time> = (0..requests).map(&mut next).collect();
        let mut draws = stream(42, Purpose::Pairs, 0);
        let similarity = |_| if draws.random_bool(HITS) { BOUNDS[draws.random_range(0..5_usize)].0 } else { 0.1 };
        let has_hits = kind.has_hits();
        Self {
            kind,
            workers,
            profile: Arc::new(profile),
            embeddings: has_hits.then(|| EmbeddingMatrix::new(1, vec![1.0; requests as usize]).expect("rows")),
            similarities: (0..if has_hits { requests } else { 0 }).map(similarity).collect(),
            arrivals,
        }
    }

    fn allocation(&self) -> Box<dyn AllocationPolicy> {
        let large = if self.kind.has_hits() { self.workers.div_ceil(2) } else { self.workers };
        let split = Allocation::split(self.workers, large, ModelId(1));
        let full = self.profile.full_generation_s(GpuId(0), ModelId::LARGE, STEPS);
        let times = |factor: f64| Duration::from_seconds_saturating(factor * full);
        let rate = |model| self.profile.images_per_minute(GpuId(0), model, STEPS);
        match self.kind {
            Kind::Vanilla | Kind::Withdrawn | Kind::Fair(_) => Box::new(StaticSplit::new(split)),
            Kind::Classes => Box::new(ModmAllocation::new(ModmSettings {
                mode: Mode::Throughput,
                period: times(2.0),
                headroom: 0.9,
                pid: Some(Pid::default()),
                workers: self.workers,
                initial_large: large,
                least_small: 0,
                rates: vec![rate(ModelId::LARGE), rate(ModelId(1))],
                switching: Switching::default(),
            })),
            Kind::WhatIf => Box::new(WhatIf::new(WhatIfSettings {
                initial: split.targets,
                worth: vec![1.0, 0.0],
                hardware: self.hardware(),
                window: times(2.0),
                horizon: times(4.0),
                gap: times(0.5),
                cushion: times(0.1),
                best_first: false,
                load_price: 2.0,
                late_price: 10.0,
            })),
        }
    }

    fn hardware(&self) -> Hardware {
        Hardware { gpus: vec![GpuId(0); self.workers], profile: self.profile.clone() }
    }

    fn scheduler(&self) -> Scheduler {
        let mut config = Config::paper(self.profile.models(), self.hardware(), STEPS);
        if self.kind == Kind::WhatIf {
            let due = Duration::from_seconds_saturating(2.0 * STEP_S[0] * f64::from(STEPS));
            let least_skipped = BOUNDS[0].1;
            config.queue = QueueSettings {
                order: Order::Slack,
                late: Late::Best,
                ease: false,
                fall_back: Some(1.5),
                due,
                least_skipped,
                ..QueueSettings::paper()
            };
        }
        if let Kind::Fair(_) = self.kind {
            config.queue.order = Order::Fair;
        }
        let similarities = self.similarities.clone();
        let index = NewIndex::new(move || Drawn { held: VecDeque::new(), similarities: similarities.clone() });
        let settings = CacheSettings { capacity: CAPACITY, index, ..CacheSettings::default() };
        let (system, cache) = if self.kind.has_hits() {
            (System::Modm, Some(ImageCache::new(settings)))
        } else {
            (System::Vanilla, None)
        };
        Scheduler::new(config, system.build(&BOUNDS, STEPS), cache, self.allocation())
    }

    fn metrics(&self, initial: Vec<ModelId>) -> Metrics {
        let models = ["large", "small"].map(str::to_owned)[..self.profile.models()].to_vec();
        Metrics::new(Settings::paper(models, &self.hardware(), STEPS, initial))
    }

    /// Runs the workload.
    pub(crate) fn run(&self) -> Summary {
        let core = self.scheduler();
        let metrics = self.metrics(self.allocation().initial().targets);
        let executor = Simulated::new(sim::Settings {
            latency: ProfileLatency {
                profile: self.profile.clone(),
                seed: 42,
                retrieval: Duration::ZERO,
                image_encoding: Duration::ZERO,
            },
            gpus: vec![GpuId(0); self.workers],
            prompts: self.embeddings.clone(),
            images: self.embeddings.clone(),
            sizes: ImageSizes::default(),
            confidences: None,
            faults: Faults::default(),
            network: None,
        });
        let tenants = if let Kind::Fair(tenants) = self.kind { tenants } else { 1 };
        measured(core, executor, black_box(&self.arrivals), (self.kind == Kind::Withdrawn, tenants), metrics)
    }
}

/// Runs the part that is measured: `scripts/count_instructions` counts from its first instruction to its last.
#[inline(never)]
fn measured(
    mut core: Scheduler,
    mut executor: Simulated<ProfileLatency>,
    arrivals: &[Time],
    (withdraws, tenants): (bool, u32),
    mut metrics: Metrics,
) -> Summary {
    let mut rows = (0..).zip(arrivals);
    let mut withdrawn = None;
    let events = std::iter::from_fn(|| {
        if let Some(event) = withdrawn.take() {
            return Some(event);
        }
        let (row, &arrival) = rows.next()?;
        if withdraws && row % 4 == 3 {
            // The request at three quarters of the arrivals so far. Without withdrawals, half of the requests would
            // have been served by then.
            withdrawn = Some((arrival, Event::Cancelled(RequestId(row / 4 * 3))));
        }
        Some((arrival, Event::Arrived(Request::new(RequestId(row), arrival, TenantId(row % tenants)))))
    });
    replay(&mut core, &mut executor, &mut Known::new(events), &mut metrics).expect("the run ends");
    metrics.finish_run().summary
}

/// Index that finds the newest entry, with the similarity that was drawn for the request.
#[derive(Debug)]
struct Drawn {
    held: VecDeque<ImageId>,
    similarities: Arc<[f64]>,
}

impl RetrievalIndex for Drawn {
    fn insert(&mut self, image: ImageId, _: &Embedding) {
        self.held.push_back(image);
    }

    fn remove(&mut self, image: ImageId) {
        let oldest = self.held.pop_front();
        assert_eq!(oldest, Some(image), "first in, first out");
    }

    fn nearest(&self, query: &Query<'_>) -> Option<Match> {
        let similarity = self.similarities[query.request?.row()];
        self.held.back().map(|image| Match { image: *image, similarity })
    }

    fn len(&self) -> usize {
        self.held.len()
    }
}
