//! One run: scheduler, cache, simulated executor and measures, set up from the page's settings as the program sets them
//! up from a scenario (`src/scenario/build.rs`, `src/simulation`).

use std::sync::Arc;

use modm_core::cache::eviction::EvictionSettings;
use modm_core::cache::index::NewIndex;
use modm_core::cache::{CacheSettings, ImageCache};
use modm_core::denoising::Denoising;
use modm_core::embedding::{Embedding, EmbeddingMatrix};
use modm_core::journal::{Journal, Record};
use modm_core::metrics::quality::{QualitySettings, SourceCosine};
use modm_core::metrics::{HitCriteria, Metrics, Results};
use modm_core::model::{GpuId, ModelId};
use modm_core::profile::{OwnQuality, Profile, ProfileFile, Service};
use modm_core::replay::{Known, replay};
use modm_core::request::{Ask, Outcome, Owner, Request, RequestId, TenantId};
use modm_core::scheduler::allocation::{
    Allocation, AllocationPolicy, ModmAllocation, ModmSettings, Pid, StaticSplit, Switching,
};
use modm_core::scheduler::{Action, Config, Event, Hardware, QueueSettings, Scheduler, WarmImage};
use modm_core::sim::{Faults, ImageSizes, ProfileLatency, Settings as Executor, Simulated};
use modm_core::time::{Duration, Time};

pub use modm_core::scheduler::routing::System;

use crate::searched::{NEAR_MISS, Searched, SearchedIndex};
use crate::settings::{REQUESTS, Settings, WARM};
use crate::synthetic;

/// Time between two decisions of the monitor, the default of `allocation.period_s`.
const PERIOD_S: f64 = 180.0;

/// Share of the capacity that the monitor plans with, the default of `allocation.headroom`.
const HEADROOM: f64 = 0.9;

/// Share of the misses' similarity below which a hit is false, the default of `metrics.false_hit_similarity`.
const FALSE_HIT: f64 = 0.95;

/// System with its cluster, models and trace, ready to run.
#[derive(Clone, Debug)]
pub struct Setup {
    settings: Settings,
    searched: Arc<Searched>,
    profile: Arc<Profile>,
    system: System,
}

/// Arrival and latency of a request that completed.
pub type Completed = (Time, Duration);

/// Results of a run, with the latency of each completed request in the order of completion.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Measures and timeline of the run.
    pub results: Results,
    /// Arrivals and latencies.
    pub completed: Vec<Completed>,
}

/// Journal of the latencies.
struct Latencies(Vec<Completed>);

impl Journal for Latencies {
    fn record(&mut self, now: Time, record: Record<'_>) {
        if let Record::Action(Action::Finish(ended)) = record
            && ended.outcome == Outcome::Completed
        {
            self.0.push((ended.arrival, now.since(ended.arrival)));
        }
    }
}

/// Returns the profile of the settings, with the scores of the models.
#[must_use]
pub fn profile_file(settings: &Settings) -> ProfileFile {
    let preset = settings.preset();
    let [active_w, load_w, idle_w] = preset.watts.map(Some);
    let models = [(preset.large, settings.large_s), (preset.small, settings.small_s)];
    let service = models.iter().map(|(model, full_s)| Service {
        step_s: full_s / f64::from(preset.steps),
        load_s: settings.load_s,
        active_w,
        load_w,
        idle_w,
        ..Service::new(preset.gpu, model.name)
    });
    let own = models.iter().map(|(model, _)| OwnQuality {
        model: model.name.into(),
        measure: "clip".into(),
        value: model.clip,
        source: "MoDM (arXiv 2503.11972), CLIPScore on DiffusionDB".into(),
    });
    ProfileFile {
        source: preset.source.into(),
        service: service.collect(),
        gpu: Vec::new(),
        encoding: None,
        measurement: Vec::new(),
        quality: Vec::new(),
        own_quality: own.collect(),
    }
}

/// Returns the arrivals of the requests that count, at a rate in requests a minute. Time zero is the arrival of the
/// last request whose image is cached before.
///
/// # Errors
/// Returns a sentence if the rate cannot be used.
pub fn arrivals(settings: &Settings, rate_per_min: f64) -> Result<Vec<Time>, String> {
    let all = synthetic::arrivals(&settings.arrivals(rate_per_min), REQUESTS, settings.seed);
    let all = all.map_err(|error| error.to_string())?;
    let zero = all[WARM as usize - 1];
    Ok(all[WARM as usize..].iter().map(|arrival| Time::ZERO + arrival.since(zero)).collect())
}

/// Returns the mean rate of arrivals in requests a minute.
#[must_use]
pub fn mean_rate_per_min(arrivals: &[Time]) -> f64 {
    let span_s = arrivals[arrivals.len() - 1].since(arrivals[0]).seconds();
    (arrivals.len() - 1) as f64 * 60.0 / span_s
}

/// Returns the same arrivals at `factor` times the rate.
#[must_use]
pub fn at_rate(arrivals: &[Time], factor: f64) -> Vec<Time> {
    let stretch = 1.0 / factor;
    let stretched = |arrival: &Time| libm::round(arrival.nanoseconds() as f64 * stretch) as u64;
    arrivals.iter().map(|arrival| Time::from_nanoseconds(stretched(arrival))).collect()
}

impl Setup {
    /// Makes a system ready. The search must be that of the settings.
    ///
    /// # Panics
    /// Never: the profile has a row for each of its models.
    #[must_use]
    pub fn new(settings: &Settings, searched: Arc<Searched>, system: System) -> Self {
        let (file, preset) = (profile_file(settings), settings.preset());
        let models = names(settings, system);
        let profile = Profile::select(&file, &[preset.gpu.to_owned()], &models).expect("a row for each model");
        Self { settings: settings.clone(), searched, profile: Arc::new(profile), system }
    }

    /// Returns the seconds of a full generation by the large model.
    #[must_use]
    pub fn full_s(&self) -> f64 {
        self.profile.full_generation_s(GpuId(0), ModelId::LARGE, self.settings.preset().steps)
    }

    fn caches(&self) -> bool {
        self.system == System::Modm
    }

    fn hardware(&self) -> Hardware {
        Hardware { gpus: vec![GpuId(0); usize::from(self.settings.gpus)], profile: self.profile.clone() }
    }

    /// Returns the bounds: none for a system without a cache.
    fn bounds(&self) -> Vec<(f64, u32)> {
        if self.caches() { self.settings.bounds() } else { Vec::new() }
    }

    /// Returns the allocation at time zero: the large model everywhere.
    fn initial(&self) -> Allocation {
        let workers = usize::from(self.settings.gpus);
        Allocation::split(workers, workers, ModelId(u16::from(self.caches())))
    }

    fn allocation(&self) -> Box<dyn AllocationPolicy> {
        let (workers, steps) = (usize::from(self.settings.gpus), self.settings.preset().steps);
        if !self.caches() {
            return Box::new(StaticSplit::new(self.initial()));
        }
        let rate = |model| self.profile.images_per_minute(GpuId(0), model, steps);
        Box::new(ModmAllocation::new(ModmSettings {
            mode: self.settings.mode,
            period: Duration::from_seconds_saturating(PERIOD_S),
            headroom: HEADROOM,
            pid: Some(Pid::default()),
            workers,
            initial_large: workers,
            least_small: 0,
            rates: vec![rate(ModelId::LARGE), rate(ModelId(1))],
            switching: Switching::default(),
        }))
    }

    fn core(&self, nothing: &Embedding, actions: &mut Vec<Action>) -> Scheduler {
        let (models, steps) = (names(&self.settings, self.system).len(), self.settings.preset().steps);
        let queue = QueueSettings {
            order: self.system.default_order(),
            due: Duration::from_seconds_saturating(2.0 * self.full_s()),
            least_skipped: self.bounds().iter().map(|(_, skipped)| *skipped).min().unwrap_or(0),
            ..QueueSettings::paper()
        };
        let config = Config { queue, ..Config::paper(models, self.hardware(), steps) };
        let routing = self.system.build(&self.bounds(), steps);
        let searched = self.searched.clone();
        let cache = ImageCache::new(CacheSettings {
            capacity: u64::from(self.settings.cache),
            eviction_settings: EvictionSettings { seed: self.settings.seed, ..EvictionSettings::default() },
            index: NewIndex::new(move || SearchedIndex::new(searched.clone())),
            ..CacheSettings::default()
        });
        let mut core = Scheduler::new(config, routing, Some(cache), self.allocation());
        if self.caches() {
            let image = |_| WarmImage {
                key: nothing.clone(),
                owner: Owner::Tenant(TenantId(0)),
                bytes: None,
                ask: Ask::default(),
            };
            core.warm((0..WARM).map(image), actions);
        }
        core
    }

    fn metrics(&self) -> modm_core::metrics::Settings {
        let (preset, bounds) = (self.settings.preset(), self.bounds());
        let own = [preset.large, preset.small].map(|model| Some(model.clip));
        let models = names(&self.settings, self.system);
        let count = models.len();
        let usual = modm_core::metrics::Settings::paper(models, &self.hardware(), preset.steps, self.initial().targets);
        modm_core::metrics::Settings {
            denoising: Denoising::alike(count, preset.steps),
            quality: QualitySettings {
                measured: Vec::new(),
                own: own[..count].to_vec(),
                cosine: if self.caches() { SourceCosine::Decision } else { SourceCosine::Unknown },
                large_steps: preset.steps,
            },
            slo_multiples: vec![self.settings.slo, 2.0 * self.settings.slo],
            cache: bounds.first().map(|(lowest_bound, _)| HitCriteria {
                skipped_steps: self.system.skipped_steps(&bounds, preset.steps),
                lowest_bound: *lowest_bound,
                near_miss: NEAR_MISS,
                false_hit: FALSE_HIT,
            }),
            ..usual
        }
    }

    /// Runs to the end on these arrivals. A window of the timeline has a length that divides the time of the arrivals
    /// into `windows`.
    ///
    /// # Errors
    /// Returns a sentence if the run cannot come to an end.
    ///
    /// # Panics
    /// Never: a row of one component is an embedding.
    pub fn run(&self, arrivals: &[Time], windows: u64) -> Result<Ran, String> {
        // The search was done ahead, so that every embedding may be the same.
        let rows = EmbeddingMatrix::new(1, vec![1.0_f32; arrivals.len()]).expect("unit vectors");
        let mut actions = Vec::new();
        let mut core = self.core(&rows.embedding(0), &mut actions);
        let rows = Some(rows).filter(|_| self.caches());
        let mut executor = Simulated::new(Executor {
            latency: ProfileLatency {
                profile: self.profile.clone(),
                seed: self.settings.seed,
                retrieval: Duration::ZERO,
                image_encoding: Duration::ZERO,
            },
            gpus: self.hardware().gpus,
            prompts: rows.clone(),
            images: rows,
            sizes: ImageSizes::default(),
            confidences: None,
            faults: Faults::default(),
            network: None,
        });
        let span = arrivals.last().map_or(1, |last| last.nanoseconds());
        let window = Duration::from_nanoseconds((span / windows).max(1));
        let mut metrics = Metrics::new(modm_core::metrics::Settings { window, ..self.metrics() });
        metrics.expect(arrivals.len());
        let mut journal = (metrics, Latencies(Vec::with_capacity(arrivals.len())));
        for action in &actions {
            journal.record(Time::ZERO, Record::Action(action));
        }
        let event = |(row, arrival): (usize, &Time)| {
            (*arrival, Event::Arrived(Request::new(RequestId(row as u32), *arrival, TenantId(0))))
        };
        let mut inbox = Known::new(arrivals.iter().enumerate().map(event));
        replay(&mut core, &mut executor, &mut inbox, &mut journal).map_err(|error| error.to_string())?;
        let (metrics, Latencies(completed)) = journal;
        Ok(Ran { results: metrics.finish_run(), completed })
    }
}

/// Returns the names of the models that a system uses, best first.
fn names(settings: &Settings, system: System) -> Vec<String> {
    let preset = settings.preset();
    let small = (system == System::Modm).then_some(preset.small.name);
    std::iter::once(preset.large.name).chain(small).map(str::to_owned).collect()
}
