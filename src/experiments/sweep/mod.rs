//! Sweeps: every combination of some keys' values, each a run of its own. Combinations that replay one trace share it; a trace is
//! made when the first of its runs begins, and let go after the last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use super::{ExperimentError, Progress, Search, spread};
use crate::input::InputError;
use crate::scenario::{Fingerprint, Inputs, Override, Scenario, Source, TraceInputs};
use crate::simulation::Simulation;

mod vary;

pub use vary::{Combination, Shard, Vary};

/// Combination that was checked.
#[derive(Debug)]
pub struct SweepRun {
    /// Combination.
    pub combination: Combination,
    /// Scenario with its values.
    pub scenario: Scenario,
    /// Files that it depends on.
    pub files: Vec<Fingerprint>,
    overrides: Vec<Override>,
    /// Index of the trace that it replays.
    trace: usize,
}

/// Combinations and the traces that they share.
#[derive(Debug)]
pub struct Sweep<'a> {
    /// Runs, those of one trace together.
    pub runs: Vec<SweepRun>,
    /// Stand-ins that they use.
    pub stand_ins: Vec<String>,
    /// Sources of their service times.
    pub service_times: BTreeSet<String>,
    source: &'a Source,
    traces: Vec<SharedTrace>,
}

/// Trace that several combinations replay, there while some of them have not.
#[derive(Debug)]
struct SharedTrace {
    /// Scenario of the first that replays it.
    scenario: Scenario,
    overrides: Vec<Override>,
    /// Whether any of them looks anything up.
    retrieves: bool,
    files: Vec<Fingerprint>,
    /// Scenarios that are still to be run.
    runs: Vec<Scenario>,
    state: Mutex<TraceState>,
}

#[derive(Debug, Default)]
struct TraceState {
    trace: Option<Arc<TraceInputs>>,
    /// Whether the search ahead for its runs was done.
    searched: bool,
    left: usize,
}

impl<'a> Sweep<'a> {
    /// Checks every combination, and reads each trace file once and every profile, so that what is wrong with them is said before
    /// anything runs. Synthetic traces, and others from the same files, are made when their turn comes.
    ///
    /// # Errors
    /// A combination or an input cannot be used.
    pub fn load(source: &'a Source, sets: &[Override], combinations: Vec<Combination>) -> Result<Self, InputError> {
        let (mut runs, traces) = plan(source, sets, combinations)?;
        for (at, shared) in traces.iter().enumerate() {
            let files_are_new = traces[..at].iter().all(|other| other.scenario.trace != shared.scenario.trace);
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

    /// Returns how many requests a run replays.
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

    /// Calls `run` with each of the runs at these indices and its simulation, so many at a time. Returns the results in this order.
    ///
    /// # Errors
    /// Threads cannot be started. A trace that cannot be made is an error of its runs.
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
            drop(simulation);
            shared.leave();
            result
        })
    }

    /// Tells each trace which runs it waits for; one that nothing waits for is given up.
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

/// Checks every combination and finds the traces that they share; those of one trace stand together.
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

    /// Returns the trace, made and searched now if nobody has yet.
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

    /// Counts a run that has ended; the trace goes with the last.
    fn leave(&self) {
        let mut state = self.state.lock().expect("no run panics while it holds the lock");
        state.left -= 1;
        if state.left == 0 {
            state.trace = None;
        }
    }
}
