//! Trial of one cluster on all traces of a plan. The trial ends as soon as the cluster is known not to hold: `budget`
//! counts the late requests and ends the run.

use std::sync::Arc;

use super::rows::Measures;
use super::search::Mix;
use super::{PlanRow, Question};
use crate::experiments::budget::{Budget, Budgeted, Watch, allowed_late};
use crate::experiments::traces::{counted, of_seed};
use crate::experiments::{ExperimentError, Progress, Search};
use crate::input::InputError;
use crate::metrics::bound::{Job, fewest_late, jobs, speed};
use crate::metrics::quality::CLIP;
use crate::metrics::{Keep, Results};
use crate::model::{GpuId, ModelId};
use crate::profile::{End, Spread};
use crate::scenario::{Fault, FaultEvent, Fingerprint, Inputs, Override, Scenario, Source, TraceInputs};
use crate::simulation::Simulation;
use crate::time::Duration;

/// Number of clusters that are usually tried.
const LIKELY_TRIES: usize = 5;

/// Traces of a plan, and the condition under which a cluster holds.
#[derive(Clone)]
pub(super) struct Trials<'a> {
    question: &'a Question,
    base: Scenario,
    source: &'a Source,
    sets: &'a [Override],
    /// Traces by seed.
    traces: Vec<Arc<TraceInputs>>,
    /// Files that the plan depends on, beside those of the traces.
    files: Vec<Fingerprint>,
    service_times: String,
    spread: Spread,
    /// End of the range that the profile leaves open whose service times jobs take; `None` for the profile's own times.
    end: Option<End>,
    threshold_s: f64,
    /// Number of requests that may be late, over all traces.
    allowed: u64,
    /// Number of requests that were simulated so far.
    simulated: u64,
}

impl<'a> Trials<'a> {
    /// Reads all inputs, and searches ahead what the runs will look up.
    pub(super) fn load(
        question: &'a Question,
        source: &'a Source,
        sets: &'a [Override],
        search: Search,
        progress: &dyn Progress,
    ) -> Result<Self, InputError> {
        let base = source.scenario(sets)?;
        let retrieves = Inputs::retrieves(base.system.policy);
        let mut traces: Vec<Arc<TraceInputs>> = Vec::new();
        for seed in 0..question.seeds.get() as u64 {
            let trace = of_seed(&base, seed, traces.first(), source, retrieves);
            traces.push(Arc::new(trace.map_err(|error| source.place(error, sets))?));
        }
        let inputs = Inputs::new(&base, source.file(), traces[0].clone()).map_err(|error| source.place(error, sets))?;
        if let Some(least) = question.quality {
            check_scores(&inputs, &base, least)?;
        }
        let full = inputs.profile.full_generation_s(GpuId(0), ModelId::LARGE, base.models.large_steps());
        let faster = |trace: Arc<TraceInputs>| Arc::new(trace.stretched(1.0 / question.load));
        // A stretched trace does not store its search ahead in a file, so a load of 1 leaves the traces as they are.
        let as_it_is = (question.load - 1.0).abs() < f64::EPSILON;
        let traces: Vec<Arc<TraceInputs>> = if as_it_is { traces } else { traces.into_iter().map(faster).collect() };
        let requests = traces.iter().map(|trace| counted(trace, &base, source)).sum::<Result<u64, _>>()?;
        // Several clusters will be tried on each trace, so a search ahead may save time.
        let runs = [&base; LIKELY_TRIES];
        for trace in &traces {
            search.prepare(trace, &runs, source.file(), progress);
        }
        let allowed = allowed_late(requests, question.attainment);
        let threshold_s = question.slo_multiple * full;
        Ok(Self {
            question,
            base,
            source,
            sets,
            traces,
            service_times: inputs.profile.source.clone(),
            spread: inputs.profile.spread(),
            files: inputs.files,
            end: None,
            threshold_s,
            allowed,
            simulated: 0,
        })
    }

    /// Returns the spread of the service times.
    pub(super) const fn spread(&self) -> Spread {
        self.spread
    }

    pub(super) const fn threshold_s(&self) -> f64 {
        self.threshold_s
    }

    pub(super) const fn simulated(&self) -> u64 {
        self.simulated
    }

    /// Returns the files of the first trace, and the files beside those of traces.
    pub(super) fn files(&self) -> impl Iterator<Item = &Fingerprint> {
        self.traces[0].files.iter().chain(&self.files)
    }

    pub(super) fn service_times(&self) -> &str {
        &self.service_times
    }

    pub(super) fn stand_ins(&self) -> Vec<String> {
        self.traces[0].stand_ins_of(&self.base)
    }

    /// Returns the same trials with `by` added to all similarity bounds, and with nothing simulated yet.
    pub(super) fn with_bounds(&self, by: f64) -> Self {
        Self { base: self.base.with_shifted_bounds(by), simulated: 0, ..self.clone() }
    }

    /// Returns the same trials with the service times at one end of the range that the profile leaves open, and with
    /// nothing simulated yet.
    pub(super) fn at_end(&self, end: End) -> Self {
        Self { end: Some(end), simulated: 0, ..self.clone() }
    }

    /// Returns the run of a cluster on the first trace.
    pub(super) fn first_run(&self, mix: &[u32]) -> Result<Simulation, InputError> {
        self.simulation(mix, 0)
    }

    /// Returns the scenario with this cluster.
    fn scenario(&self, mix: &[u32]) -> Scenario {
        let mut scenario = self.base.clone();
        let groups = scenario.cluster.gpus.into_iter().zip(mix).filter(|(_, count)| **count > 0);
        scenario.cluster.gpus = groups
            .map(|(mut group, count)| {
                group.count = *count;
                group
            })
            .collect();
        let workers = scenario.workers() as u32;
        // A cluster may have fewer workers than the scenario has large ones.
        scenario.allocation.initial_large = scenario.allocation.initial_large.map(|large| large.min(workers));
        let down = (0..self.question.spare.min(workers) as u16).collect::<Vec<_>>();
        if !down.is_empty() {
            let event =
                FaultEvent { at_s: 0.0, for_s: None, what: Fault::Down, workers: down, node: None, factor: None };
            scenario.faults.events.push(event);
        }
        scenario
    }

    fn simulation(&self, mix: &[u32], seed: usize) -> Result<Simulation, InputError> {
        let mut scenario = self.scenario(mix);
        scenario.seed = scenario.seed.wrapping_add(seed as u64);
        let mut simulation = Simulation::with_trace(scenario, self.source, self.sets, self.traces[seed].clone())?;
        // The target is in seconds. The GPU type on which it is a multiple of a full generation may be absent from this
        // cluster, so the multiple is computed anew.
        let full =
            simulation.inputs.profile.full_generation_s(GpuId(0), ModelId::LARGE, self.base.models.large_steps());
        simulation.scenario.slo.multiples = vec![self.threshold_s / full];
        simulation.scenario.queue.deadline_multiple = self.threshold_s / full;
        Ok(match self.end {
            Some(end) => simulation.at_end(end),
            None => simulation,
        })
    }

    /// Tries a cluster on all traces, until it is known not to hold.
    pub(super) fn run(&mut self, mix: &Mix) -> Result<PlanRow, ExperimentError> {
        let mut row = PlanRow { gpus: mix.clone(), ..PlanRow::default() };
        let mut measures = Measures::default();
        for seed in 0..self.traces.len() {
            // One budget holds for all traces. It is not exceeded by the traces before this one, or the trial would be
            // over.
            let (_, watch, results) = self.run_on(mix, seed, row.late)?;
            row.late += watch.late();
            row.requests += watch.arrived();
            if watch.is_over() {
                // The measures of the traces before this one are not those of the cluster on all traces.
                row.stopped = true;
                return Ok(row);
            }
            measures.add(&results.summary, &results.timeline);
            self.check_quality(&results)?;
        }
        let mut row = measures.into_row(row);
        row.holds = self.question.quality.is_none_or(|least| row.quality_kept.is_some_and(|kept| kept >= least));
        Ok(row)
    }

    /// Checks that the quality of a trace is known, if a quality is asked for.
    fn check_quality(&self, results: &Results) -> Result<(), InputError> {
        let Some(least) = self.question.quality.filter(|_| results.summary.quality_kept.is_none()) else {
            return Ok(());
        };
        let message = format!(
            "needs scores in the profile of {}: [[own_quality]] rows of measure clip for every model, or [[quality]] rows \
             for everything that is made",
            self.source.file().display()
        );
        Err(InputError::new("the command line", message).value("--quality", least))
    }

    /// Tries a cluster on one trace, after `late` late requests on other traces.
    fn run_on(&mut self, mix: &[u32], seed: usize, late: u64) -> Result<(Simulation, Watch, Results), ExperimentError> {
        let simulation = self.simulation(mix, seed)?;
        let limit = Duration::from_seconds_saturating(self.threshold_s);
        let watch = Watch::new(Budget::for_run(&simulation, limit, self.allowed - late));
        let inbox = Budgeted::new(simulation.scenario.outside(&simulation.inputs.trace.trace), watch.clone());
        let results = simulation.run_on(simulation.latency(), Keep::Ends, inbox, watch.clone())?;
        self.simulated += watch.arrived();
        Ok((simulation, watch, results))
    }

    /// Returns the least speed that a cluster must have, by the decisions of the largest cluster on the first trace;
    /// `None` if even the largest cluster does not hold there.
    pub(super) fn bound(&mut self, most: &[u32]) -> Result<Option<Bound>, ExperimentError> {
        let (simulation, watch, results) = self.run_on(most, 0, 0)?;
        if watch.is_over() {
            return Ok(None);
        }
        let settings = simulation.settings(Keep::Ends, false);
        let limit = Duration::from_seconds_saturating(self.threshold_s);
        let asked: Vec<Job> = jobs(&settings, &results.ends, limit);
        let types = simulation.scenario.gpu_types();
        let of_group = |group: &String| types.iter().position(|name| name == group).unwrap_or(0);
        let groups = self.base.cluster.gpus.iter().map(|group| GpuId(of_group(&group.r#type) as u16));
        let speeds: Vec<u64> = groups.map(|gpu| speed(&settings, gpu)).collect();
        let all: u64 = speeds.iter().zip(most).map(|(speed, count)| speed * u64::from(*count)).sum();
        // A bisection finds the least speed at which no more requests than allowed are late.
        let (mut fails, mut may) = (0, all);
        while fails + 1 < may {
            let middle = u64::midpoint(fails, may);
            // All the late requests that are allowed may fall on this one trace, so no cluster is ruled out that might
            // hold.
            if fewest_late(&asked, middle) > self.allowed {
                fails = middle;
            } else {
                may = middle;
            }
        }
        // The GPUs that are not down must be fast enough. Those that are down may be the slowest ones, so only the
        // speed of the slowest is added for each.
        let down = u64::from(self.question.spare) * speeds.iter().min().copied().unwrap_or(0);
        Ok(Some(Bound { speeds, least: may + down }))
    }
}

/// Checks that the profile has the scores from which qualities are estimated: a score of each model's own images.
fn check_scores(inputs: &Inputs, base: &Scenario, least: f64) -> Result<(), InputError> {
    for (place, model) in base.model_names().iter().enumerate() {
        let own = inputs.own_quality[place].iter().any(|(measure, _)| measure == CLIP);
        let measured = inputs.quality.iter().any(|(id, .., measure, _)| id.index() == place && measure == CLIP);
        if !own && !measured {
            let message = format!(
                "needs a score of {model:?} in the profile: an [[own_quality]] row, or [[quality]] rows, of measure {CLIP:?}"
            );
            return Err(InputError::new("the command line", message).value("--quality", least));
        }
    }
    Ok(())
}

/// Least speed that a cluster must have, whatever its policy.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    /// Speed of a GPU of each group, in thousandths of the speed of the first GPU type.
    speeds: Vec<u64>,
    least: u64,
}

impl Bound {
    /// Returns whether a cluster is too slow.
    pub(super) fn rules_out(&self, mix: &[u32]) -> bool {
        self.speeds.iter().zip(mix).map(|(speed, count)| speed * u64::from(*count)).sum::<u64>() < self.least
    }
}
