//! Sweeps: a run for every combination of the values of some keys. Combinations that replay one trace share it. A trace
//! is made when the first of its runs begins, and dropped after the last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use super::{ExperimentError, Progress, Search, spread};
use crate::input::InputError;
use crate::scenario::{Fingerprint, Inputs, Override, Scenario, Source, TraceInputs};
use crate::simulation::Simulation;

mod vary;

pub use vary::{Combination, Shard, ShardError, Vary};

/// Run of a combination that was checked.
#[derive(Debug)]
pub struct SweepRun {
    /// Values of the keys.
    pub combination: Combination,
    /// Scenario with these values.
    pub scenario: Scenario,
    /// Files that the run depends on.
    pub files: Vec<Fingerprint>,
    overrides: Vec<Override>,
    /// Index of the trace that the run replays.
    trace: usize,
}

/// Runs of the combinations, and the traces that they share.
#[derive(Debug)]
pub struct Sweep<'a> {
    /// Runs; those of one trace follow each other.
    pub runs: Vec<SweepRun>,
    /// Stand-ins that the runs use.
    pub stand_ins: Vec<String>,
    /// Sources of the service times of the runs.
    pub service_times: BTreeSet<String>,
    source: &'a Source,
    traces: Vec<SharedTrace>,
}

/// Trace that several combinations replay. It is kept while some of their runs are still to come.
#[derive(Debug)]
struct SharedTrace {
    /// Scenario of the first combination that replays the trace.
    scenario: Scenario,
    overrides: Vec<Override>,
    /// True if any of the combinations looks anything up.
    retrieves: bool,
    files: Vec<Fingerprint>,
    /// Scenarios that are still to be run.
    runs: Vec<Scenario>,
    state: Mutex<TraceState>,
}

#[derive(Debug, Default)]
struct TraceState {
    trace: Option<Arc<TraceInputs>>,
    /// True if the search ahead for the runs of the trace was done.
    searched: bool,
    left: usize,
}

impl<'a> Sweep<'a> {
    /// Checks every combination, and reads each trace file once and every profile, so that errors in them show before
    /// anything runs. Synthetic traces, and further traces from the same files, are made when the first of their runs
    /// begins.
    ///
    /// # Errors
    /// Returns an error if a combination or an input cannot be used.
    pub fn load(source: &'a Source, sets: &[Override], combinations: Vec<Combination>) -> Result<Self, InputError> {
        let (mut runs, traces) = plan(source, sets, combinations)?;
        for (at, shared) in traces.iter().enumerate() {
            let files_are_new = traces[..at].iter().all(|other| other.scenario.trace != shared.scenario.trace);
            // The first trace is made whatever its kind, since the other inputs of every run are checked beside a
            // trace.
            if at == 0 || (shared.scenario.trace.synthetic.is_none() && files_are_new) {
                let trace = shared.load(source)?;
                shared.state.lock().expect("no thread yet").trace = Some(trace);
            }
        }
        let any = traces.iter().find_map(|shared| shared.state.lock().expect("no thread yet").trace.clone());
        let any = any.expect("the first trace was loaded");
        let mut stand_ins: Vec<String> = runs.iter().flat_map(|run| any.stand_ins_of(&run.scenario)).collect();
        stand_ins.sort();
        stand_ins.dedup();
        let mut service_times = BTreeSet::new();
        for run in &mut runs {
            let inputs = Inputs::new(&run.scenario, source.file(), any.clone());
            let inputs = inputs.map_err(|error| source.place(error, &run.overrides))?;
            service_times.insert(inputs.profile.source.clone());
            run.files = traces[run.trace].files.iter().cloned().chain(inputs.files).collect();
        }
        Ok(Self { runs, stand_ins, service_times, source, traces })
    }

    /// Returns the number of requests that a run replays.
    #[must_use]
    pub fn requests(&self, run: &SweepRun) -> u64 {
        if let Some(synthetic) = &run.scenario.trace.synthetic {
            return u64::from(synthetic.requests.saturating_sub(run.scenario.trace.warm_requests));
        }
        let same = self.traces.iter().filter(|shared| shared.scenario.trace == run.scenario.trace);
        let lengths = same.filter_map(|shared| {
            shared.state.lock().expect("no thread yet").trace.as_ref().map(|trace| trace.trace.len())
        });
        lengths.max().unwrap_or(0) as u64
    }

    /// Calls `run` with each of the runs at the indices `waiting` and with its simulation, `threads` at a time. Returns
    /// the results in the order of `waiting`.
    ///
    /// # Errors
    /// Returns an error if threads cannot be started. A trace that cannot be made is an error in the results of its
    /// runs.
    pub fn run_all<R: Send, E: From<InputError> + Send>(
        &mut self,
        waiting: &[usize],
        search: Search,
        threads: usize,
        progress: &dyn Progress,
        run: impl Fn(&SweepRun, &Simulation) -> Result<R, E> + Sync,
    ) -> Result<Vec<Result<R, E>>, ExperimentError> {
        self.share(waiting);
        spread(waiting, threads, |&at| {
            let planned = &self.runs[at];
            let shared = &self.traces[planned.trace];
            let trace = shared.take(self.source, search, progress)?;
            let (scenario, overrides) = (planned.scenario.clone(), &planned.overrides);
            let simulation = Simulation::with_trace(scenario, self.source, overrides, trace)?;
            let result = run(planned, &simulation);
            // The simulation shares the trace, whose memory is to be free after the last run that leaves it.
            drop(simulation);
            shared.leave();
            result
        })
    }

    /// Gives each trace the runs that it waits for. A trace that no run waits for is dropped.
    fn share(&mut self, waiting: &[usize]) {
        for at in waiting {
            let run = &self.runs[*at];
            self.traces[run.trace].runs.push(run.scenario.clone());
        }
        for shared in &mut self.traces {
            let state = shared.state.get_mut().expect("no thread yet");
            state.left = shared.runs.len();
            state.trace.take_if(|_| state.left == 0);
        }
    }
}

/// Checks every combination, and finds the traces that combinations share. Runs of one trace follow each other.
fn plan(
    source: &Source,
    sets: &[Override],
    combinations: Vec<Combination>,
) -> Result<(Vec<SweepRun>, Vec<SharedTrace>), InputError> {
    let mut traces: Vec<SharedTrace> = Vec::new();
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    let mut planned = Vec::with_capacity(combinations.len());
    for combination in combinations {
        let overrides: Vec<Override> = sets.iter().chain(&combination.overrides).cloned().collect();
        let scenario = source.scenario(&overrides)?;
        let retrieves = Inputs::retrieves(scenario.system.policy);
        let trace = *known.entry(scenario.trace_settings()).or_insert(traces.len());
        if let Some(shared) = traces.get_mut(trace) {
            shared.retrieves |= retrieves;
        } else {
            let same_files = traces.iter().find(|shared| shared.scenario.trace == scenario.trace);
            let files = match same_files {
                Some(shared) => shared.files.clone(),
                None => TraceInputs::fingerprints(&scenario, source.file())
                    .map_err(|error| source.place(error, &overrides))?,
            };
            let (scenario, overrides) = (scenario.clone(), overrides.clone());
            traces.push(SharedTrace {
                scenario,
                overrides,
                retrieves,
                files,
                runs: Vec::new(),
                state: Mutex::default(),
            });
        }
        planned.push(SweepRun { combination, scenario, files: Vec::new(), overrides, trace });
    }
    planned.sort_by_key(|run| run.trace);
    Ok((planned, traces))
}

impl SharedTrace {
    fn load(&self, source: &Source) -> Result<Arc<TraceInputs>, InputError> {
        let trace = TraceInputs::load(&self.scenario, source.file(), self.retrieves);
        Ok(Arc::new(trace.map_err(|error| source.place(error, &self.overrides))?))
    }

    /// Returns the trace. Makes and searches it, if no run has done so yet.
    fn take(&self, source: &Source, search: Search, progress: &dyn Progress) -> Result<Arc<TraceInputs>, InputError> {
        let mut state = self.state.lock().expect("no run panics while it holds the lock");
        let trace = match &state.trace {
            Some(trace) => trace.clone(),
            None => self.load(source)?,
        };
        if !state.searched {
            let runs: Vec<&Scenario> = self.runs.iter().collect();
            search.prepare(&trace, &runs, source.file(), progress);
        }
        (state.trace, state.searched) = (Some(trace.clone()), true);
        Ok(trace)
    }

    /// Counts a run that has ended, and drops the trace after the last.
    fn leave(&self) {
        let mut state = self.state.lock().expect("no run panics while it holds the lock");
        state.left -= 1;
        if state.left == 0 {
            state.trace = None;
        }
    }
}
