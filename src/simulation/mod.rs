//! Simulation: a scenario with its inputs, which can run against the simulated clock as often as needed.

use std::convert::Infallible;
use std::sync::Arc;

use serde_json::json;

use crate::input::InputError;
use crate::journal::{Journal, Record};
use crate::metrics::quality::{CLIP, QualitySettings, SourceCosine};
use crate::metrics::{HitCriteria, Keep, Metrics, Results, Settings};
use crate::profile::{End, Profile};
use crate::replay::{Executor, Inbox, Known, RunError, replay};
use crate::scenario::{Fingerprint, Inputs, Override, Scenario, Source, TraceInputs, initial_allocation};
use crate::scheduler::routing::{RoutingPolicy, System};
use crate::scheduler::{Action, Scheduler};
use crate::sim::{LatencyModel, ProfileLatency};
use crate::time::{Duration, Time};

mod builder;
mod warnings;

pub use builder::SimulationBuilder;

/// Scenario with its inputs, ready to run as often as needed.
#[derive(Clone, Debug)]
pub struct Simulation {
    /// Scenario to run.
    pub scenario: Scenario,
    /// Trace, profile and embeddings that the scenario names.
    pub inputs: Inputs,
    /// Service times that jobs take, if they differ from those of the profile, which policies use.
    pub actual: Option<Arc<Profile>>,
}

impl Simulation {
    /// Begins a simulation from a scenario's file or text.
    #[must_use]
    pub fn builder() -> SimulationBuilder {
        SimulationBuilder::default()
    }

    /// Reads all inputs of a scenario.
    ///
    /// # Errors
    /// Returns an error if an input cannot be used.
    pub fn load(source: &Source, overrides: &[Override]) -> Result<Self, InputError> {
        let scenario = source.scenario(overrides)?;
        let retrieves = Inputs::retrieves(scenario.system.policy);
        let trace = TraceInputs::load(&scenario, source.file(), retrieves);
        let trace = trace.map_err(|error| source.place(error, overrides))?;
        Self::with_trace(scenario, source, overrides, Arc::new(trace))
    }

    /// Makes a simulation over a trace that was read already.
    ///
    /// # Errors
    /// Returns an error if the profile or another input beside the trace cannot be used.
    pub fn with_trace(
        scenario: Scenario,
        source: &Source,
        overrides: &[Override],
        trace: Arc<TraceInputs>,
    ) -> Result<Self, InputError> {
        let inputs = Inputs::new(&scenario, source.file(), trace);
        Ok(Self { inputs: inputs.map_err(|error| source.place(error, overrides))?, scenario, actual: None })
    }

    /// Returns the same run with the service times at one end of the range that the profile leaves open. Policies use
    /// the profile's own times.
    #[must_use]
    pub fn at_end(&self, end: End) -> Self {
        Self { actual: Some(Arc::new(self.inputs.profile.at_end(end))), ..self.clone() }
    }

    /// Returns the durations of all work, by the profile or by [`Self::actual`] in its place.
    #[must_use]
    pub fn latency(&self) -> ProfileLatency {
        let usual = self.scenario.latency(&self.inputs);
        ProfileLatency { profile: self.actual.clone().unwrap_or(usual.profile), ..usual }
    }

    /// Returns the stand-ins that this run uses.
    #[must_use]
    pub fn stand_ins(&self) -> Vec<String> {
        self.inputs.trace.stand_ins_of(&self.scenario)
    }

    /// Returns the files that the run depends on.
    pub fn files(&self) -> impl Iterator<Item = &Fingerprint> {
        self.inputs.trace.files.iter().chain(&self.inputs.files)
    }

    /// Returns the settings of the metrics. `real_time` is true for a live run.
    #[must_use]
    pub fn settings(&self, keep: Keep, real_time: bool) -> Settings {
        let scenario = &self.scenario;
        Settings {
            models: scenario.model_names(),
            serving: scenario.serving(),
            denoising: scenario.denoising(),
            requests_differ: self.inputs.trace.trace.differs(),
            gpus: scenario.gpus(),
            usd_per_hour: scenario.usd_per_hour(),
            initial: initial_allocation(scenario).targets,
            profile: self.inputs.profile.clone(),
            quality: self.quality(real_time),
            most_together: scenario.batching.size,
            assumed_quality: scenario.assumed_quality(),
            slo_multiples: scenario.slo.multiples.clone(),
            warmup: self.warmup(),
            window: Duration::from_seconds(scenario.metrics.window_s).unwrap_or_default(),
            cache: self.hit_criteria(),
            keep,
            real_time,
            network: scenario.network(),
        }
    }

    /// Returns the scores and similarities from which qualities follow.
    #[must_use]
    pub fn quality(&self, real_time: bool) -> QualitySettings {
        let inputs = &self.inputs;
        let trace = &inputs.trace;
        let of_prompts = || {
            let (prompts, images) = (trace.trace.prompt_embeddings()?.clone(), trace.trace.image_embeddings()?.clone());
            // In these systems, a file of images that are cached before the trace holds prompts, so their images are
            // unknown.
            let warm = trace.warm_images.clone().filter(|_| self.scenario.trace.warm_requests > 0);
            Some(SourceCosine::Embeddings { prompts, images, warm })
        };
        let cosine = match self.scenario.system.policy {
            // `modm` compares prompts with images, so its decision has the cosine already.
            System::Modm => SourceCosine::Decision,
            // The images of a live run differ from those of its trace.
            System::Nirvana | System::Pinecone if !real_time => of_prompts().unwrap_or_default(),
            _ => SourceCosine::Unknown,
        };
        let clip =
            |rows: &Vec<(String, f64)>| rows.iter().find(|(measure, _)| measure == CLIP).map(|(_, value)| *value);
        QualitySettings {
            measured: inputs.quality.clone(),
            own: inputs.own_quality.iter().map(clip).collect(),
            cosine,
            large_steps: self.scenario.models.large_steps(),
        }
    }

    /// Returns the criteria by which hits, near misses and false hits are counted; `None` for a system that keeps
    /// nothing.
    fn hit_criteria(&self) -> Option<HitCriteria> {
        let scenario = &self.scenario;
        let system = scenario.system.policy;
        let (lowest_bound, _) = scenario.bounds().first().copied().filter(|_| Inputs::retrieves(system))?;
        Some(HitCriteria {
            skipped_steps: scenario.skipped_steps(),
            lowest_bound,
            near_miss: scenario.metrics.near_miss,
            false_hit: scenario.metrics.false_hit_similarity,
        })
    }

    /// Returns the time before which arrivals are left out of the measures.
    #[must_use]
    pub fn warmup(&self) -> Time {
        Time::from_seconds(self.scenario.metrics.warmup_s).unwrap_or_default()
    }

    /// Runs to the end and keeps a row of each request.
    ///
    /// # Errors
    /// Returns an error if the run cannot come to an end.
    pub fn run(&self) -> Result<Results, RunError<Infallible>> {
        self.run_with(self.latency(), Keep::Rows, ())
    }

    /// Runs to the end. `keep` says how much of single requests is kept, and `also` records every event and action.
    ///
    /// # Errors
    /// Returns an error if the run cannot come to an end.
    pub fn run_keeping(&self, keep: Keep, also: impl Journal) -> Result<Results, RunError<Infallible>> {
        self.run_with(self.latency(), keep, also)
    }

    /// Runs to the end with durations other than those of the profile.
    ///
    /// # Errors
    /// Returns an error if the run cannot come to an end.
    pub fn run_with(
        &self,
        latency: impl LatencyModel,
        keep: Keep,
        also: impl Journal,
    ) -> Result<Results, RunError<Infallible>> {
        let mut results = self.run_on(latency, keep, self.trace_inbox(), also)?;
        results.warnings.extend(self.warnings(&results));
        Ok(results)
    }

    /// Runs to the end for its measures alone. There are no rows of requests, and no warnings except those of the
    /// metrics.
    ///
    /// # Errors
    /// Returns an error if the run cannot come to an end.
    pub fn run_once(&self, also: impl Journal) -> Result<Results, RunError<Infallible>> {
        self.run_on(self.latency(), Keep::Nothing, self.trace_inbox(), also)
    }

    fn trace_inbox(&self) -> impl Inbox {
        Known::new(self.scenario.outside(&self.inputs.trace.trace))
    }

    /// Runs to the end on the events of an inbox. The warnings are those of the metrics alone, because a search makes
    /// many runs and warns once.
    ///
    /// # Errors
    /// Returns an error if the run cannot come to an end.
    pub fn run_on(
        &self,
        latency: impl LatencyModel,
        keep: Keep,
        inbox: impl Inbox,
        also: impl Journal,
    ) -> Result<Results, RunError<Infallible>> {
        let mut actions = Vec::new();
        let core = self.scenario.core(&self.inputs, &mut actions);
        let mut executor = self.scenario.executor(&self.inputs, latency);
        self.replayed((core, &actions), &mut executor, inbox, keep, also)
    }

    /// Runs to the end with a custom routing policy in place of the scenario's, and keeps a row of each request.
    ///
    /// # Errors
    /// Returns an error if the run cannot come to an end.
    pub fn run_routed(&self, routing: Box<dyn RoutingPolicy>) -> Result<Results, RunError<Infallible>> {
        let mut actions = Vec::new();
        let core = self.scenario.core_routed(&self.inputs, routing, &mut actions);
        let mut executor = self.scenario.executor(&self.inputs, self.latency());
        self.replayed((core, &actions), &mut executor, self.trace_inbox(), Keep::Rows, ())
    }

    /// Runs to the end on a custom executor in place of the simulated cluster, and keeps a row of each request.
    ///
    /// # Errors
    /// Returns an error if the executor fails, or if the run cannot come to an end.
    pub fn run_executed<E: Executor>(&self, executor: &mut E) -> Result<Results, RunError<E::Error>> {
        let mut actions = Vec::new();
        let core = self.scenario.core(&self.inputs, &mut actions);
        self.replayed((core, &actions), executor, self.trace_inbox(), Keep::Rows, ())
    }

    /// Replays the events of an inbox on a core and an executor. `actions` are those with which the core began.
    fn replayed<E: Executor>(
        &self,
        (mut core, actions): (Scheduler, &[Action]),
        executor: &mut E,
        mut inbox: impl Inbox,
        keep: Keep,
        also: impl Journal,
    ) -> Result<Results, RunError<E::Error>> {
        let mut metrics = Metrics::new(self.settings(keep, false));
        metrics.expect(self.inputs.trace.trace.len());
        let mut journal = (metrics, also);
        // The cache was warmed before the loop began, so the loop does not record it.
        for action in actions {
            journal.record(Time::ZERO, Record::Action(action));
        }
        replay(&mut core, executor, &mut inbox, &mut journal)?;
        Ok(journal.0.finish_run())
    }

    /// Returns the first line of a journal: the settings, the profile, and the files that the settings name, with their
    /// hashes.
    #[must_use]
    pub fn header(&self) -> serde_json::Value {
        json!({
            "modm": env!("CARGO_PKG_VERSION"),
            "scenario": self.scenario.resolved(),
            "profile": *self.inputs.profile,
            "inputs": by_name(self.files()),
        })
    }
}

/// Returns files with their fingerprints, in the form of `run.json` and of journals.
pub fn by_name<'a>(files: impl IntoIterator<Item = &'a Fingerprint>) -> Vec<serde_json::Value> {
    files.into_iter().map(|print| json!({ "file": print.file, "sha256": print.sha256 })).collect()
}
