//! Sweeps: a run for every combination of the values of some keys. Combinations that replay one trace share it. A trace
//! is made when the first of its runs begins, and dropped after the last.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::{ExperimentError, Progress, Search, spread, write_run};
use crate::input::InputError;
use crate::metrics::warnings::{self, Warning};
use crate::run_folder::WallTime;
use crate::scenario::{Fingerprint, Inputs, Override, Scenario, Source, Tenants, TraceInputs};
use crate::simulation::Simulation;

mod description;
mod parts;
mod vary;

pub use description::Description;
pub use parts::Parts;
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

impl SweepRun {
    /// Returns the folder of the run in the folder of the sweep.
    #[must_use]
    pub fn folder(&self, out: &Path) -> PathBuf {
        out.join(self.combination.folder())
    }
}

impl<'a> Sweep<'a> {
    /// Checks every combination of the values, or those of a shard, and reads each trace file once and every profile,
    /// so that errors in them show before anything runs. Synthetic traces, and further traces from the same files, are
    /// made when the first of their runs begins.
    ///
    /// # Errors
    /// Returns an error if a combination or an input cannot be used.
    pub fn load(
        source: &'a Source,
        sets: &[Override],
        varied: &[Vary],
        shard: Option<Shard>,
    ) -> Result<Self, InputError> {
        let mut combinations = Vary::combinations(varied)?;
        combinations.retain(|combination| shard.is_none_or(|shard| shard.has(combination)));
        let base = source.scenario(sets)?;
        for combination in &mut combinations {
            combination.expand_variant(&base.variant)?;
        }
        let (mut runs, traces) = plan(source, sets, combinations)?;
        let (mut stand_ins, mut service_times) = (BTreeSet::new(), BTreeSet::new());
        for runs in runs.chunk_by_mut(|one, next| one.trace == next.trace) {
            let at = runs[0].trace;
            let (trace, made_for) = load_for_checks(&traces, at, runs, source)?;
            for run in runs {
                let own_label = |label: String| match label {
                    label if label == made_for.encoder.label() => run.scenario.encoder.label(),
                    label if label == made_for.image_model.label() => run.scenario.image_model.label(),
                    label => label,
                };
                stand_ins.extend(trace.stand_ins_of(&run.scenario).into_iter().map(own_label));
                let inputs = Inputs::new(&run.scenario, source.file(), trace.clone());
                let inputs = inputs.map_err(|error| source.place(error, &run.overrides))?;
                service_times.insert(inputs.profile.source.clone());
                run.files = traces[at].files.iter().cloned().chain(inputs.files).collect();
            }
        }
        Ok(Self { runs, stand_ins: stand_ins.into_iter().collect(), service_times, source, traces })
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

    /// Makes the runs at the indices `waiting`, `threads` at a time, and writes the files of each to its folder in
    /// `out`. Returns the warnings for a reader, in words.
    ///
    /// # Errors
    /// Returns an error if threads cannot be started, if a trace cannot be made, if a run cannot come to an end, or if
    /// a file cannot be written. The other runs are made all the same.
    pub fn run_all(
        &mut self,
        waiting: &[usize],
        out: &Path,
        search: Search,
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<Vec<String>, ExperimentError> {
        // Sharing drops traces, whose lengths say how many requests there are.
        let progress = progress.work_begins(waiting.iter().map(|at| self.requests(&self.runs[*at])).sum());
        self.share(waiting);
        let made = spread(waiting, threads, |&at| self.run_one(&self.runs[at], out, search, &*progress))?;
        let warned: Vec<(String, Vec<Warning>)> = made.into_iter().collect::<Result<_, _>>()?;
        Ok(warnings::of_many(&warned))
    }

    fn run_one(
        &self,
        run: &SweepRun,
        out: &Path,
        search: Search,
        progress: &dyn Progress,
    ) -> Result<(String, Vec<Warning>), ExperimentError> {
        let shared = &self.traces[run.trace];
        // It is dropped last, since the simulation shares the trace, whose memory is to be free after the last run.
        let _leaving = Leaving(shared);
        let trace = shared.take(self.source, search, progress)?;
        let simulation = Simulation::with_trace(run.scenario.clone(), self.source, &run.overrides, trace)?;
        let made = write_run(&simulation, &run.folder(out), false, None, WallTime::begin(), progress);
        let results = made.map_err(ExperimentError::within(format!("combination {}", run.combination.folder())))?;
        Ok((run.combination.name(), results.warnings))
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

/// Returns a trace beside which the other inputs of `runs` are checked, and the scenario that the trace was loaded for.
/// `runs` are all runs of the trace at the index `at`. The first trace and each trace of new files are kept for the
/// runs.
fn load_for_checks<'t>(
    traces: &'t [SharedTrace],
    at: usize,
    runs: &[SweepRun],
    source: &Source,
) -> Result<(Arc<TraceInputs>, &'t Scenario), InputError> {
    let shared = &traces[at];
    let is_synthetic = shared.scenario.trace.synthetic.is_some();
    // Traces of the same files differ in what their stand-ins are made with, on which no check depends.
    let mut same_files = traces[..at].iter().filter(|other| {
        !is_synthetic && other.scenario.trace == shared.scenario.trace && other.retrieves >= shared.retrieves
    });
    if let Some(found) = same_files.find_map(|other| Some((other.kept()?, &other.scenario))) {
        return Ok(found);
    }
    if at == 0 || !is_synthetic {
        let trace = shared.load(source)?;
        shared.state.lock().expect("no thread yet").trace = Some(trace.clone());
        return Ok((trace, &shared.scenario));
    }
    // A trace that is made when its first run begins is not made whole for the checks as well, because that takes time.
    // One request is enough to tell its kind, but any request may be the one that names a tenant.
    let mut scenario = shared.scenario.clone();
    let names_tenants = runs.iter().any(|run| run.scenario.tenants != Tenants::default());
    if let Some(synthetic) = scenario.trace.synthetic.as_mut().filter(|_| !names_tenants) {
        synthetic.requests = 1;
        scenario.trace.warm_requests = 0;
    }
    Ok((shared.load_with(&scenario, source)?, &shared.scenario))
}

/// Run that leaves its trace, whether it ends or fails.
struct Leaving<'a>(&'a SharedTrace);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl SharedTrace {
    fn load(&self, source: &Source) -> Result<Arc<TraceInputs>, InputError> {
        self.load_with(&self.scenario, source)
    }

    fn load_with(&self, scenario: &Scenario, source: &Source) -> Result<Arc<TraceInputs>, InputError> {
        let trace = TraceInputs::load(scenario, source.file(), self.retrieves);
        Ok(Arc::new(trace.map_err(|error| source.place(error, &self.overrides))?))
    }

    /// Returns the trace if it is loaded.
    fn kept(&self) -> Option<Arc<TraceInputs>> {
        self.state.lock().expect("no run panics while it holds the lock").trace.clone()
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
        // A panic in a destructor would end the program in place of the panic that poisoned the lock.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.left -= 1;
        if state.left == 0 {
            state.trace = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Returns a scenario in `folder`.
    fn scenario(folder: &Path, text: &str) -> Source {
        Source::new(&folder.join("scenario.toml"), text.to_owned()).unwrap()
    }

    /// Loads the sweep of one key.
    fn load<'a>(source: &'a Source, vary: &str) -> Result<Sweep<'a>, InputError> {
        Sweep::load(source, &[], &[Vary::parse(vary).unwrap()], None)
    }

    #[test]
    fn each_run_is_checked_beside_its_own_trace() {
        let place = tempfile::tempdir().unwrap();
        for tenant in ["x", "y"] {
            let requests = format!("arrival_s,prompt,tenant\n0,a cat,{tenant}\n1,a dog,{tenant}\n");
            std::fs::write(place.path().join(format!("{tenant}.csv")), requests).unwrap();
        }
        let text = "name = \"a\"\ntrace.requests = \"x.csv\"\n\
                    [[variant]]\nname = \"a\"\nset = { trace.requests = \"x.csv\", tenants.weights = { x = 2 } }\n\
                    [[variant]]\nname = \"b\"\nset = { trace.requests = \"y.csv\", tenants.weights = { y = 2 } }\n\
                    [[variant]]\nname = \"c\"\nset = { trace.requests = \"y.csv\", tenants.weights = { x = 2 } }\n";
        let source = scenario(place.path(), text);
        let mut loaded = load(&source, "variant=a,b").unwrap();
        loaded.run_all(&[0, 1], place.path(), Search::Direct, 1, &()).unwrap();
        let error = load(&source, "variant=a,c").unwrap_err().to_string();
        assert!(error.contains("expected a tenant of the trace: y"), "{error}");
    }

    #[test]
    fn tenants_of_a_trace_that_is_made_later_are_known() {
        let text = "name = \"a\"\ntrace.synthetic = { requests = 50, prompts = { tenants = 4 } }\n\
                    tenants.weights = { tenant-3 = 2 }\n";
        let source = scenario(Path::new(""), text);
        load(&source, "seed=1,2,3").unwrap();
        let error = load(&source, "trace.synthetic.prompts.tenants=4,2").unwrap_err().to_string();
        assert!(error.contains("expected a tenant of the trace"), "{error}");
    }

    #[test]
    fn a_run_that_cannot_begin_leaves_its_trace() {
        let place = tempfile::tempdir().unwrap();
        let text = "name = \"a\"\ntrace.synthetic.requests = 20\nmodels.profile = \"p.toml\"\n";
        let profile = place.path().join("p.toml");
        std::fs::write(&profile, include_str!("../../../scenarios/profiles/paper.toml")).unwrap();
        let source = scenario(place.path(), text);
        let mut loaded = load(&source, "cache.capacity=5,9").unwrap();
        std::fs::remove_file(profile).unwrap();
        loaded.run_all(&[0, 1], place.path(), Search::Direct, 1, &()).expect_err("the profile is gone");
        let state = loaded.traces[0].state.lock().unwrap();
        assert!(state.left == 0 && state.trace.is_none(), "the memory of the trace is free");
    }

    #[test]
    fn a_shard_may_have_no_combination() {
        let source = scenario(Path::new(""), "name = \"a\"\ntrace.synthetic.requests = 20\n");
        let varied = [Vary::parse("seed=1,2").unwrap()];
        let loaded = Sweep::load(&source, &[], &varied, Some(Shard { number: 3, of: 3 })).unwrap();
        assert!(loaded.runs.is_empty() && loaded.stand_ins.is_empty());
    }
}
