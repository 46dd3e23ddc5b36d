//! A scenario and all it reads, to be run against the simulated clock as often as needed.

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

/// Scenario and all it reads, ready to run as often as needed.
#[derive(Clone, Debug)]
pub struct Simulation {
    /// Settings.
    pub scenario: Scenario,
    /// Trace, profile and embeddings that they name.
    pub inputs: Inputs,
    /// Service times that jobs take, where those are not what the profile says and policies go by.
    pub actual: Option<Arc<Profile>>,
}

impl Simulation {
    /// Begins a simulation from a scenario's file or text.
    #[must_use]
    pub fn builder() -> SimulationBuilder {
        SimulationBuilder::default()
    }

    /// Reads everything a scenario needs.
    ///
    /// # Errors
    /// What is wrong with an input.
    pub fn load(source: &Source, overrides: &[Override]) -> Result<Self, InputError> {
        let scenario = source.scenario(overrides)?;
        let retrieves = Inputs::retrieves(scenario.system.policy);
        let trace = TraceInputs::load(&scenario, source.file(), retrieves);
        let trace = trace.map_err(|error| source.place(error, overrides))?;
        Self::with_trace(scenario, source, overrides, Arc::new(trace))
    }

    /// Makes a simulation over a trace that is there already.
    ///
    /// # Errors
    /// What is wrong with the profile.
    pub fn with_trace(
        scenario: Scenario,
        source: &Source,
        overrides: &[Override],
        trace: Arc<TraceInputs>,
    ) -> Result<Self, InputError> {
        let inputs = Inputs::new(&scenario, source.file(), trace);
        Ok(Self { inputs: inputs.map_err(|error| source.place(error, overrides))?, scenario, actual: None })
    }

    /// Returns the same run with the service times of an end of what the profile leaves open. Policies go by the profile.
    #[must_use]
    pub fn at_end(&self, end: End) -> Self {
        Self { actual: Some(Arc::new(self.inputs.profile.at_end(end))), ..self.clone() }
    }

    /// Returns how long things take by the profile, or by what jobs take in its place.
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

    /// Returns the files that it depends on.
    pub fn files(&self) -> impl Iterator<Item = &Fingerprint> {
        self.inputs.trace.files.iter().chain(&self.inputs.files)
    }

    /// Returns the settings of the metrics; `real_time` for a run that is live.
    #[must_use]
    pub fn settings(&self, keep: Keep, real_time: bool) -> Settings {
        let scenario = &self.scenario;
        Settings {
            models: scenario.model_names(),
            serving: scenario.serving(),
            total_steps: scenario.models.steps,
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
        }
    }

    /// Returns the scores and similarities that qualities follow from.
    #[must_use]
    pub fn quality(&self, real_time: bool) -> QualitySettings {
        let inputs = &self.inputs;
        let trace = &inputs.trace;
        let of_prompts = || {
            let (prompts, images) = (trace.trace.prompt_embeddings()?.clone(), trace.trace.image_embeddings()?.clone());
            // A file of what is cached before the trace holds prompts in these systems: their images are unknown.
            let warm = trace.warm_images.clone().filter(|_| self.scenario.trace.warm_requests > 0);
            Some(SourceCosine::Embeddings { prompts, images, warm })
        };
        let cosine = match self.scenario.system.policy {
            System::Modm => SourceCosine::Decision,
            // The images of a live run are not those of its trace.
            System::Nirvana | System::Pinecone if !real_time => of_prompts().unwrap_or_default(),
            _ => SourceCosine::Unknown,
        };
        let clip =
            |rows: &Vec<(String, f64)>| rows.iter().find(|(measure, _)| measure == CLIP).map(|(_, value)| *value);
        QualitySettings { measured: inputs.quality.clone(), own: inputs.own_quality.iter().map(clip).collect(), cosine }
    }

    /// Returns when a request counts as a hit; `None` for a system that keeps nothing.
    fn hit_criteria(&self) -> Option<HitCriteria> {
        let scenario = &self.scenario;
        let system = scenario.system.policy;
        let (lowest_bound, _) = scenario.bounds().first().filter(|_| Inputs::retrieves(system))?;
        Some(HitCriteria {
            skipped_steps: scenario.skipped_steps(),
            lowest_bound: *lowest_bound,
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
    /// The run cannot come to an end.
    pub fn run(&self) -> Result<Results, RunError<Infallible>> {
        self.run_with(self.latency(), Keep::Rows, ())
    }

    /// Runs to the end, keeping this much of single requests, and tells `also` all that happens.
    ///
    /// # Errors
    /// The run cannot come to an end.
    pub fn run_keeping(&self, keep: Keep, also: impl Journal) -> Result<Results, RunError<Infallible>> {
        self.run_with(self.latency(), keep, also)
    }

    /// Runs to the end with other durations than the profile's.
    ///
    /// # Errors
    /// The run cannot come to an end.
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

    /// Runs to the end for its measures alone: no rows of requests, no warnings but the metrics'.
    ///
    /// # Errors
    /// The run cannot come to an end.
    pub fn run_once(&self, also: impl Journal) -> Result<Results, RunError<Infallible>> {
        self.run_on(self.latency(), Keep::Nothing, self.trace_inbox(), also)
    }

    fn trace_inbox(&self) -> impl Inbox {
        Known::new(self.scenario.outside(&self.inputs.trace.trace))
    }

    /// Runs to the end on what an inbox has. Warnings are those of the metrics alone: a search makes many runs, and warns
    /// once.
    ///
    /// # Errors
    /// The run cannot come to an end.
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

    /// Runs to the end with a routing policy of one's own in place of the scenario's, and keeps a row of each request.
    ///
    /// # Errors
    /// The run cannot come to an end.
    pub fn run_routed(&self, routing: Box<dyn RoutingPolicy>) -> Result<Results, RunError<Infallible>> {
        let mut actions = Vec::new();
        let core = self.scenario.core_routed(&self.inputs, routing, &mut actions);
        let mut executor = self.scenario.executor(&self.inputs, self.latency());
        self.replayed((core, &actions), &mut executor, self.trace_inbox(), Keep::Rows, ())
    }

    /// Runs to the end on an executor of one's own in place of the simulated cluster, and keeps a row of each request.
    ///
    /// # Errors
    /// The executor is broken, or the run cannot come to an end.
    pub fn run_executed<E: Executor>(&self, executor: &mut E) -> Result<Results, RunError<E::Error>> {
        let mut actions = Vec::new();
        let core = self.scenario.core(&self.inputs, &mut actions);
        self.replayed((core, &actions), executor, self.trace_inbox(), Keep::Rows, ())
    }

    /// Replays what an inbox has on a core and an executor; `actions` are what the core began with.
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
        for action in actions {
            journal.record(Time::ZERO, Record::Action(action));
        }
        replay(&mut core, executor, &mut inbox, &mut journal)?;
        Ok(journal.0.finish_run())
    }

    /// Returns the first line of a journal: the settings, and the files that they name with their hashes.
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

/// Lists files with their fingerprints, as `run.json` and journals have them.
pub fn by_name<'a>(files: impl IntoIterator<Item = &'a Fingerprint>) -> Vec<serde_json::Value> {
    files.into_iter().map(|print| json!({ "file": print.file, "sha256": print.sha256 })).collect()
}
