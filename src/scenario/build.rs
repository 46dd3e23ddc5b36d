//! Parts of a run, made from a scenario's settings: core, simulated executor and inbox. The settings choose the
//! policies here and nowhere else.

use std::sync::Arc;

use crate::cache::eviction::{Eviction, EvictionSettings, FULL_GENERATION};
use crate::cache::index::NewIndex;
use crate::cache::{CacheSettings, ImageCache, Scope};
use crate::model::{GpuId, ModelId};
use crate::profile::Profile;
use crate::request::{Owner, Shape};
use crate::retrieval::IndexKind;
use crate::scheduler::action::Action;
use smallvec::SmallVec;

use crate::scheduler::allocation::{
    Allocation, AllocationPolicy, Cascade, CascadeAllocation, CascadeSettings, ModmAllocation, ModmSettings,
    StaticSplit, WhatIf, WhatIfSettings,
};
use crate::scheduler::routing::{Modm, RoutingPolicy, Storage, System};
use crate::scheduler::{
    Config, Event, Hardware, Hits, Late, QueueSettings, Scheduler, Serves, Serving, WarmImage, Weight,
};
use crate::sim::{ImageSizes, LatencyModel, ProfileLatency, Settings, Simulated};
use crate::time::{Duration, Time};
use crate::trace::Trace;

use super::queue::InForce;
use super::{AllocationKind, Inputs, LookedUp, Scenario};

/// Number of attempts after which a request has failed.
const MAX_ATTEMPTS: u32 = 3;

impl Scenario {
    /// Returns the first small model, or the large one if there is no small one.
    fn first_small(&self) -> ModelId {
        ModelId(u16::from(self.model_names().len() > 1))
    }

    /// Returns the number of workers that hold the large model at time zero.
    pub(super) fn initial_large(&self) -> usize {
        let workers = self.workers();
        // A cascade needs both models from the start.
        let usual = if self.drafts() { workers.div_ceil(2) } else { workers };
        let given = self.allocation.initial_large.map_or(usual, |large| large as usize);
        if self.system.policy.has_small_models() { given } else { workers }
    }

    /// Returns the least number of workers that the monitor leaves to small models.
    pub(super) fn least_small(&self) -> usize {
        // A small model of few steps is so quick that its part of the workers is rounded to none.
        let (steps, names) = (self.models.large_steps(), self.model_names());
        let has_few = names.iter().skip(1).any(|name| self.models.steps_of(name) != steps);
        let usual = usize::from(has_few && self.workers() > 1);
        self.allocation.least_small.map_or(usual, |least| least as usize)
    }

    /// Returns whether the system finds images by their own embeddings, so that pictures are embedded.
    #[must_use]
    pub fn finds_by_image(&self) -> bool {
        self.routing().storage() == Storage::ByImage
    }

    pub(super) fn routing(&self) -> Box<dyn RoutingPolicy> {
        match self.system.policy {
            System::Modm => Box::new(Modm::new(self.levels())),
            other => other.build(&self.bounds(), self.models.large_steps()),
        }
    }

    /// Returns the requests that each model may serve.
    #[must_use]
    pub fn serving(&self) -> Serving {
        let serves = |(place, name): (usize, &String)| {
            let own = self.models.serves.get(name).cloned().unwrap_or_default();
            Serves { misses: own.misses.unwrap_or(place == 0), hits: own.hits.map_or(Hits::All, Hits::Skipping) }
        };
        // A system without small models has one model for everything.
        if !self.system.policy.has_small_models() {
            return Serving::large_and_small(1);
        }
        Serving::new(self.model_names().iter().enumerate().map(serves).collect())
    }

    /// Returns the settings of the queue: order, deadlines, and the weights and priorities of tenants.
    fn queue_settings(&self, inputs: &Inputs) -> QueueSettings {
        let full = inputs.profile.full_generation_s(GpuId(0), ModelId::LARGE, self.models.large_steps());
        let InForce { order, late, fall_back } = self.discipline();
        QueueSettings {
            order,
            late,
            due: Duration::from_seconds_saturating(self.queue.deadline_multiple * full),
            overdue: self.queue.overdue_multiple.map(|multiple| Duration::from_seconds_saturating(multiple * full)),
            fall_back: (late == Late::Best).then_some(fall_back),
            ease: self.queue.ease,
            least_skipped: self.bounds().iter().map(|(_, skipped)| *skipped).min().unwrap_or(0),
            admission: self.queue.admission,
            terms: inputs.terms.clone(),
        }
    }

    /// Returns the number of items that one entry of the cache counts for.
    pub(super) fn states_per_entry(&self) -> usize {
        match self.routing().storage() {
            Storage::ByPrompt(states) => states.len().max(1),
            Storage::ByImage | Storage::None => 1,
        }
    }

    /// Returns the capacity in bytes, if the scenario has one and the system does not count states, as Nirvana does.
    pub(super) fn capacity_bytes(&self) -> Option<u64> {
        self.cache.capacity_bytes.filter(|_| self.states_per_entry() == 1)
    }

    /// Returns the capacity in its unit: items, or bytes.
    pub(super) fn capacity(&self) -> u64 {
        self.capacity_bytes().unwrap_or(u64::from(self.cache.capacity))
    }

    /// Returns the eviction in force. Nirvana and Pinecone bring their own.
    pub(super) fn eviction(&self) -> Eviction {
        match self.system.policy {
            System::Nirvana => Eviction::Lcbfu,
            System::Pinecone => Eviction::Fifo,
            System::Vanilla | System::Cascade | System::Modm => self.cache.eviction,
        }
    }

    /// Returns the GPU time that a hit saves of a full generation on the large model, by skipped steps, in units of
    /// [`FULL_GENERATION`]. Both times are those on the first GPU type. The hit is refined on the first small model if
    /// there is one.
    fn savings(&self, profile: &Profile) -> Vec<u64> {
        let denoising = self.denoising();
        let (small, usual) = (self.first_small(), Shape::default());
        let steps = denoising.large_steps();
        let full_s = profile.full_generation_s(GpuId(0), ModelId::LARGE, steps);
        // Steps and overheads are rounded one by one, so that sums that are equal in seconds are equal in units too.
        let units = |seconds: f64| (seconds / full_s * FULL_GENERATION as f64).round() as u64;
        let job = |model: ModelId, steps: u32| {
            let service = profile.service(GpuId(0), model);
            let beside = service.overhead_s + service.text_s + service.decode_s;
            units(service.step_s).saturating_mul(u64::from(steps)).saturating_add(units(beside))
        };
        // The index is the number of skipped steps. A returned image skips all of them and saves a whole generation.
        let full = job(ModelId::LARGE, steps);
        let left = |skipped| denoising.refinement(small, usual, skipped).steps_run();
        let source = |skipped| if skipped > 0 { units(profile.service(GpuId(0), small).source_s) } else { 0 };
        let saved =
            (0..steps).map(|skipped| full.saturating_sub(job(small, left(skipped)).saturating_add(source(skipped))));
        saved.chain([full]).collect()
    }

    fn what_if(&self, inputs: &Inputs) -> WhatIfSettings {
        let full = inputs.profile.full_generation_s(GpuId(0), ModelId::LARGE, self.models.large_steps());
        let section = &self.allocation;
        let seconds = |given: Option<f64>, else_: f64| Duration::from_seconds_saturating(given.unwrap_or(else_));
        WhatIfSettings {
            initial: initial_allocation(self).targets,
            worth: inputs.worth.clone(),
            hardware: Hardware { gpus: self.gpus(), profile: inputs.planned.clone() },
            window: seconds(section.window_s, 2.0 * full),
            horizon: seconds(section.horizon_s, 4.0 * full),
            gap: seconds(section.gap_s, full / 2.0),
            cushion: seconds(section.cushion_s, full / 10.0),
            best_first: self.discipline().late == Late::Best,
            load_price: section.load_price,
            late_price: section.late_price,
        }
    }

    fn cascade(&self, inputs: &Inputs) -> Option<CascadeSettings> {
        let (profile, confidences) = (inputs.planned.clone(), inputs.confidences.clone()?);
        let due = self.queue_settings(inputs).due;
        Some(CascadeSettings {
            initial: initial_allocation(self),
            period: Duration::from_seconds_saturating(self.allocation.period_s),
            headroom: self.allocation.headroom,
            due,
            queue_delay: self.allocation.queue_delay,
            light: self.first_small(),
            most: self.batching.size,
            denoising: self.denoising(),
            profile,
            confidences,
        })
    }

    fn allocation_policy(&self, inputs: &Inputs) -> Box<dyn AllocationPolicy> {
        let profile = &inputs.planned;
        let kind = if self.system.policy.has_small_models() { self.allocation.policy } else { AllocationKind::Static };
        match kind {
            AllocationKind::Cascade => match self.cascade(inputs) {
                Some(settings) => Box::new(CascadeAllocation::new(settings)),
                None => Box::new(StaticSplit::new(initial_allocation(self))),
            },
            AllocationKind::Static => Box::new(StaticSplit::new(initial_allocation(self))),
            AllocationKind::WhatIf => Box::new(WhatIf::new(self.what_if(inputs))),
            AllocationKind::Modm => {
                let names = self.model_names();
                let rate = |(model, name): (usize, &String)| {
                    profile.images_per_minute(GpuId(0), ModelId(model as u16), self.models.steps_of(name))
                };
                Box::new(ModmAllocation::new(ModmSettings {
                    mode: self.allocation.mode,
                    period: Duration::from_seconds_saturating(self.allocation.period_s),
                    headroom: self.allocation.headroom,
                    pid: self.allocation.pid.0,
                    workers: self.workers(),
                    initial_large: self.initial_large(),
                    least_small: self.least_small(),
                    rates: names.iter().enumerate().map(rate).collect(),
                    switching: self.allocation.switching,
                }))
            }
        }
    }

    /// Makes the core at time zero with a warm cache. `actions` receives the actions that warming leads to.
    #[must_use]
    pub fn core(&self, inputs: &Inputs, actions: &mut Vec<Action>) -> Scheduler {
        self.core_routed(inputs, self.routing(), actions)
    }

    /// Makes the core as [`Self::core`] does, with another routing policy.
    #[must_use]
    pub fn core_routed(
        &self,
        inputs: &Inputs,
        routing: Box<dyn RoutingPolicy>,
        actions: &mut Vec<Action>,
    ) -> Scheduler {
        let warm = match routing.storage() {
            Storage::None => None,
            Storage::ByImage => inputs.trace.warm_images.as_ref(),
            Storage::ByPrompt(_) => inputs.trace.warm_prompts.as_ref(),
        };
        let mut core = self.empty_core(inputs, routing, false);
        if let Some(warm) = warm {
            let image = |row: usize| {
                let known = inputs.trace.warm_rows.get(row);
                // Nobody is known to have asked for images from a file, so they are the public's.
                let owner = known.map_or(Owner::Public, |known| Owner::Tenant(known.tenant));
                let (bytes, ask) = (known.and_then(|known| known.bytes), known.map(|known| known.ask));
                WarmImage { key: warm.embedding(row), owner, bytes, ask: ask.unwrap_or_default() }
            };
            core.warm((0..warm.rows()).map(image), actions);
        }
        core
    }

    /// Makes the core of a run on real sessions. `warm` has the images of the store, oldest first. Every image is
    /// measured.
    #[must_use]
    pub fn live_core(&self, inputs: &Inputs, warm: Vec<WarmImage>, actions: &mut Vec<Action>) -> Scheduler {
        let mut core = self.empty_core(inputs, self.routing(), true);
        if self.routing().storage() != Storage::None {
            core.warm(warm.into_iter(), actions);
        }
        core
    }

    fn empty_core(&self, inputs: &Inputs, routing: Box<dyn RoutingPolicy>, live: bool) -> Scheduler {
        // A live worker holds one model, whatever there is room for. The core must not plan with models that stay in
        // memory.
        let profile = if live { Arc::new(inputs.profile.one_at_a_time()) } else { inputs.planned.clone() };
        let hardware = Hardware { gpus: self.gpus(), profile };
        let config = Config {
            serving: self.serving(),
            hardware,
            queue: self.queue_settings(inputs),
            batching: self.batching.settings(self.allocation.policy == AllocationKind::Cascade),
            denoising: self.denoising(),
            usual_size: self.models.usual_size(),
            admission: self.cache.admission,
            max_attempts: MAX_ATTEMPTS,
            // Without `cache.image_bytes`, the trace has a size for every image: `Inputs::new` refuses a run that has
            // neither.
            weight: self.capacity_bytes().map_or(Weight::One, |_| Weight::Bytes(self.cache.image_bytes.unwrap_or(1))),
            measures_images: live,
        };
        let (savings, lowest) = (self.savings(&inputs.profile), self.bounds().first().copied());
        let cache = ImageCache::new(CacheSettings {
            capacity: self.capacity(),
            tenancy: inputs.tenancy.clone(),
            near_duplicate: self.cache.near_duplicate,
            max_age: self.cache.max_age_s.map(Duration::from_seconds_saturating),
            eviction: self.eviction(),
            eviction_settings: EvictionSettings {
                seed: self.seed,
                // Before the first hit, GDSF expects a hit at the lowest bound (docs/semantics.md, section 8).
                expected_saving: lowest.and_then(|(_, skipped)| savings.get(skipped as usize).copied()).unwrap_or(0),
                savings,
                foresight: self.foresight(&inputs.trace),
                ..EvictionSettings::default()
            },
            index: self.index(inputs),
            resizing: self.resizing(),
        });
        Scheduler::new(config, routing, Some(cache), self.allocation_policy(inputs))
    }

    fn index(&self, inputs: &Inputs) -> NewIndex {
        let searched = self.looks_up().and_then(|what| inputs.trace.searched.get(what));
        // Live runs draw their own pictures, which cannot be searched ahead, so their traces have no such search.
        match searched {
            // A search ahead is over all images: where some are no candidates, each set of them is searched by itself.
            Some(ahead) if self.retrieval.index == IndexKind::Exact && !inputs.trace.trace.differs() => {
                NewIndex::new(move || ahead.index())
            }
            _ => (self.retrieval.index.build(self.retrieval.measure_recall))
                .expect("an index that is not built in was refused by `check`"),
        }
    }

    /// Returns the kind of keys that runs of the scenario look up, if these keys are to be searched ahead.
    pub fn looks_up(&self) -> Option<LookedUp> {
        match self.routing().storage() {
            Storage::None => None,
            // Tenants that are kept apart have little to search each.
            // Eviction that knows the future reads the search whatever finds the entries.
            _ if !self.foresees() && self.tenants.scope != Scope::Shared => None,
            _ if !self.foresees() && self.retrieval.index != IndexKind::Exact => None,
            Storage::ByImage => Some(LookedUp::Images),
            Storage::ByPrompt(_) => Some(LookedUp::Prompts),
        }
    }

    /// Returns the latencies of a simulated run by the profile.
    #[must_use]
    pub fn latency(&self, inputs: &Inputs) -> ProfileLatency {
        ProfileLatency {
            profile: inputs.profile.clone(),
            seed: self.seed,
            retrieval: Duration::from_seconds_saturating(self.retrieval.latency_s),
            image_encoding: Duration::from_seconds_saturating(self.retrieval.image_latency_s),
        }
    }

    /// Makes the simulated executor at time zero.
    #[must_use]
    pub fn executor<L: LatencyModel>(&self, inputs: &Inputs, latency: L) -> Simulated<L> {
        let trace = &inputs.trace.trace;
        let storage = self.routing().storage();
        Simulated::new(Settings {
            latency,
            gpus: self.gpus(),
            prompts: match storage {
                Storage::None => None,
                Storage::ByImage => trace.prompt_embeddings().cloned(),
                Storage::ByPrompt(_) => trace.text_embeddings().cloned(),
            },
            images: trace.image_embeddings().filter(|_| storage == Storage::ByImage).cloned(),
            confidences: inputs.confidences.clone(),
            faults: self.spells(),
            network: self.network(),
            sizes: ImageSizes { by_row: inputs.trace.image_bytes.clone(), usual: self.cache.image_bytes },
        })
    }
}

/// Returns the allocation at time zero: the model of each worker and, for a cascade, the threshold.
#[must_use]
pub fn initial_allocation(scenario: &Scenario) -> Allocation {
    let split = Allocation::split(scenario.workers(), scenario.initial_large(), scenario.first_small());
    let threshold = scenario.cascade.threshold;
    let cascade = scenario.drafts().then(|| Cascade { threshold, batches: SmallVec::new() });
    Allocation { cascade, ..split }
}

impl Scenario {
    /// Returns all events from outside in order of time: a trace's arrivals, and workers that are lost or come back. At
    /// one instant, arrivals are first.
    pub fn outside(&self, trace: &Trace) -> impl Iterator<Item = (Time, Event)> {
        let (mut arrivals, mut losses) = (arrivals(trace).peekable(), self.losses().into_iter().peekable());
        std::iter::from_fn(move || match (arrivals.peek(), losses.peek()) {
            // A loss at the time of an arrival comes after it (docs/semantics.md, section 9).
            (Some((arrival, _)), Some((loss, _))) if loss < arrival => losses.next(),
            (None, _) => losses.next(),
            (Some(_), _) => arrivals.next(),
        })
    }
}

/// Returns a trace's arrivals as events of the loop.
pub fn arrivals(trace: &Trace) -> impl Iterator<Item = (Time, Event)> {
    (0..trace.len()).map(|row| {
        let request = trace.request(row);
        (request.arrival, Event::Arrived(request))
    })
}
