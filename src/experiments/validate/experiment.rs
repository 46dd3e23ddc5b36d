//! Live side of a validation: live runs with rounds of profiling between them, so that each run has a profile of its
//! own time.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use super::ValidatedRun;
use super::load::gap_for;
use super::simulated::{compare, set};
use crate::experiments::live::{Equipment, LiveRun, prepare, refuse_foreign};
use crate::experiments::profile::{Measurements, NEIGHBOURS, PROMPTS, source_of};
use crate::experiments::{ExperimentError, Progress};
use crate::input::InputError;
use crate::live::interrupts::Interrupts;
use crate::live::measure::Plan;
use crate::metrics::Results;
use crate::output::make_folder;
use crate::profile::{self, ProfileFile};
use crate::scenario::{Override, Scenario, Source, TraceInputs};
use crate::sim::Measured;
use crate::simulation::Simulation;

/// Number of jobs under load for each job of a model by itself. There are more of them, because predictions rest on
/// them.
const LOADED: u32 = 4;

/// Live runs to make, and the profiling that goes with them.
#[derive(Clone, Debug)]
pub struct Question {
    /// Loads to offer, as shares of the workers' time; the trace as it is if empty.
    pub loads: Vec<f64>,
    /// Number of traces.
    pub seeds: NonZeroU32,
    /// Number of jobs of each kind in a round of profiling.
    pub jobs: u32,
    /// Number of rounds of profiling before the first live run.
    pub rounds: u32,
    /// Number of simulations of each live run from the profile, each with jitter of its own; at least one is made.
    pub draws: u32,
}

/// Answer of a validation.
#[derive(Debug)]
pub struct Validated {
    /// Live runs at every level, the levels of a run together.
    pub runs: Vec<ValidatedRun>,
    /// Source of the profile of all measurements, in words.
    pub service_times: String,
    /// Sentences on the profile, on the simulations and on mishaps of the live runs.
    pub notes: Vec<String>,
}

/// Live runs with rounds of profiling between them.
pub struct Experiment<'a> {
    question: &'a Question,
    source: &'a Source,
    sets: &'a [Override],
    equipment: Equipment,
    interrupts: Interrupts,
    measurements: Measurements,
    scenario: Scenario,
    plan: Plan,
    /// Output folder, as an absolute path because scenarios that are read back name it.
    out: PathBuf,
    progress: Rc<dyn Progress>,
}

impl std::fmt::Debug for Experiment<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Experiment").field("question", self.question).finish_non_exhaustive()
    }
}

/// Live run that came to its end.
#[derive(Debug)]
pub(super) struct LiveOutcome {
    /// Load that was offered, as a share of the workers' time; `None` for the trace as it is.
    pub load: Option<f64>,
    /// Seed of the trace.
    pub seed: u64,
    /// Folder that holds `live/`, with the files of the run, and `profile.toml`, which its policies used.
    pub folder: PathBuf,
    /// Overrides with which the run was made.
    pub sets: Vec<Override>,
    /// Results of the run.
    pub results: Results,
    /// Durations of all work in the run.
    pub durations: Measured,
    /// Number of rounds of profiling under load that were over when the run began.
    rounds: usize,
}

impl LiveOutcome {
    /// Returns the load and the seed of the run in words.
    #[must_use]
    pub(super) fn name(&self) -> String {
        let load = self.load.map_or_else(|| "as it is".to_owned(), |load| format!("load {load}"));
        format!("{load}, seed {}", self.seed)
    }
}

impl<'a> Experiment<'a> {
    /// Checks that the scenario can be validated.
    ///
    /// # Errors
    /// Returns an error if the scenario cannot be validated.
    pub fn check(question: &Question, base: &Scenario, source: &Source) -> Result<(), InputError> {
        if let Some(load) = question.loads.iter().find(|load| !(0.01..=10.0).contains(*load)) {
            let message = "expected shares of the workers' time from 0.01 to 10";
            return Err(InputError::new("the command line", message).value("--loads", load));
        }
        if base.live.store.is_some() {
            let way_out = "is not for validation: each run would begin with the pictures of the one before";
            return Err(InputError::new(source.file(), way_out).key("live.store"));
        }
        Ok(())
    }

    /// Begins an experiment whose files go to the folder `out`, which must exist.
    ///
    /// # Errors
    /// Returns an error if the scenario cannot be used, or if the folder does not exist.
    pub fn new(
        question: &'a Question,
        out: &Path,
        source: &'a Source,
        sets: &'a [Override],
        equipment: Equipment,
        interrupts: Interrupts,
        progress: Rc<dyn Progress>,
    ) -> Result<Self, ExperimentError> {
        let scenario = source.scenario(sets)?;
        let plan = Plan {
            steps: scenario.models.large_steps(),
            jobs: question.jobs,
            loads: 2,
            prompts: PROMPTS.map(str::to_owned).to_vec(),
        };
        let out = std::fs::canonicalize(out).map_err(ExperimentError::file(out, "cannot be read"))?;
        Ok(Self {
            question,
            source,
            sets,
            equipment,
            interrupts,
            measurements: Measurements::default(),
            scenario,
            plan,
            out,
            progress,
        })
    }

    /// Profiles the models, makes all live runs or those up to an interruption, and compares each with its simulations.
    /// `first` is the run of the trace as it is. Writes the profile of all measurements to `profile.toml`.
    ///
    /// # Errors
    /// Returns an error if a model or a run does not work, if no run came to its end, or if a file cannot be written.
    pub fn answer(&mut self, first: Simulation, base: &Scenario) -> Result<Validated, ExperimentError> {
        for _ in 0..self.question.rounds {
            self.profile()?;
        }
        let lived = self.live_runs(first, base)?;
        let profile = self.write_profile(&self.out.join("profile.toml"))?;
        let draws = self.question.draws.max(1);
        let compare = |run: &LiveOutcome| compare(run, &self.profile_near(run), draws, self.source);
        let runs = lived.iter().map(compare).collect::<Result<Vec<_>, ExperimentError>>()?.concat();
        if runs.is_empty() {
            return Err(ExperimentError::Failed("nothing was run to its end".to_owned()));
        }
        Ok(Validated { runs, notes: self.notes(&profile.source, &lived), service_times: profile.source })
    }

    fn notes(&self, profile: &str, lived: &[LiveOutcome]) -> Vec<String> {
        let Question { jobs, draws, .. } = self.question;
        let mut notes = vec![
            format!(
                "profile: {profile}; {jobs} jobs of each kind a round, rounds before, between and after the live runs, each of which is predicted from the two before it and the two after it"
            ),
            format!("from the profile: means over {draws} simulations, each with jitter of its own"),
        ];
        notes.extend(lived.iter().filter(|lived| lived.durations.mishaps() > 0).map(|lived| {
            format!(
                "{}: {} failures or lost workers, which the simulations know nothing of",
                lived.name(),
                lived.durations.mishaps()
            )
        }));
        notes
    }

    fn say(&self, line: &str) {
        self.progress.say(line);
    }

    /// Profiles one round: models by themselves, and all the work of a live run.
    fn profile(&mut self) -> Result<(), ExperimentError> {
        self.say("profiling");
        self.measurements.round(&self.scenario, &self.equipment, &[1], &self.plan, &|_| {})?;
        self.profile_under_load()
    }

    /// Profiles one more round of all the work of a live run.
    fn profile_under_load(&mut self) -> Result<(), ExperimentError> {
        let jobs = LOADED * self.question.jobs;
        self.measurements.under_load(&self.scenario, &self.equipment, jobs, &self.out, &self.progress)
    }

    /// Writes the profile of all measurements so far.
    fn write_profile(&self, file: &Path) -> Result<ProfileFile, ExperimentError> {
        let (profile, _) = self.measurements.profile(&self.scenario, &source_of(&self.equipment.library));
        profile::write(&profile, file)?;
        Ok(profile)
    }

    /// Returns the profile of the rounds near a run, because the machine's speed drifts. Its spread is the spread over
    /// all rounds.
    fn profile_near(&self, run: &LiveOutcome) -> ProfileFile {
        let near = self.measurements.near(run.rounds.saturating_sub(NEIGHBOURS)..run.rounds + NEIGHBOURS);
        let source = source_of(&self.equipment.library);
        let [mut near, all] = [&near, &self.measurements].map(|measured| measured.profile(&self.scenario, &source).0);
        for (row, of_all) in near.service.iter_mut().zip(all.service) {
            (row.spread, row.spread_kind) = (of_all.spread, of_all.spread_kind);
        }
        near
    }

    /// Makes all live runs, or those up to an interruption, and returns the runs that came to their end.
    fn live_runs(&mut self, first: Simulation, base: &Scenario) -> Result<Vec<LiveOutcome>, ExperimentError> {
        let trace = first.inputs.trace;
        let seeds = u64::from(self.question.seeds.get());
        let mut rehearsal = None;
        if !self.question.loads.is_empty() {
            let Some(run) = self.rehearse(base, seeds, &trace)? else { return Ok(Vec::new()) };
            rehearsal = Some(run);
        }
        let mut lived = Vec::new();
        for index in 0..seeds {
            let seed = base.seed.wrapping_add(index);
            let own = if index == 0 { trace.clone() } else { self.trace_of(seed, &trace)? };
            let loads: Vec<Option<f64>> = match self.question.loads.as_slice() {
                [] => vec![None],
                loads => loads.iter().copied().map(Some).collect(),
            };
            for load in loads {
                let name = load.map_or_else(|| "as-it-is".to_owned(), |load| format!("load-{load}"));
                let folder = self.out.join(name).join(format!("seed-{seed}"));
                let (mut trace, mut warm) = (own.clone(), None);
                if let Some((load, rehearsal)) = load.zip(rehearsal.as_ref()) {
                    trace = at_gap(&own, self.gap_for(load, rehearsal)?);
                    warm = self.warm_store(rehearsal, &folder)?;
                }
                let run = self.live(load, seed, &trace, &folder, warm.as_deref())?;
                if let Some(warm) = warm {
                    std::fs::remove_dir_all(&warm).map_err(ExperimentError::file(&warm, "cannot be removed"))?;
                }
                let Some(run) = run else { return Ok(lived) };
                lived.push(run);
                self.say("profiling");
                self.profile_under_load()?;
            }
        }
        Ok(lived)
    }

    /// Makes a live run of other requests, which shows how much work such requests are and leaves a warm cache. With a
    /// cold cache, every run would begin with a queue. There are no other requests for a real trace, so its runs begin
    /// cold.
    fn rehearse(
        &mut self,
        base: &Scenario,
        seeds: u64,
        trace: &Arc<TraceInputs>,
    ) -> Result<Option<LiveOutcome>, ExperimentError> {
        // Requests arrive as fast as vanilla could serve them. With some hits, no queue grows.
        let gap_s = self.full_generation_s()? / base.workers() as f64;
        // This seed follows those of the runs, so no run has the rehearsal's requests.
        let seed = base.seed.wrapping_add(seeds);
        let other = self.trace_of(seed, trace)?;
        self.say("rehearsal: how much work the requests are");
        let run = self.live(None, seed, &at_gap(&other, gap_s), &self.out.join("rehearsal"), None)?;
        self.say("profiling");
        self.profile_under_load()?;
        Ok(run)
    }

    /// Copies the pictures that the rehearsal left, and returns the folder of the copy; `None` for a real trace, whose
    /// rehearsal had the same requests.
    fn warm_store(&self, rehearsal: &LiveOutcome, folder: &Path) -> Result<Option<PathBuf>, ExperimentError> {
        if self.scenario.trace.synthetic.is_none() {
            return Ok(None);
        }
        let (from, to) = (rehearsal.folder.join("live/store"), folder.join("warm"));
        if to.is_dir() {
            std::fs::remove_dir_all(&to).map_err(ExperimentError::file(&to, "cannot be removed"))?;
        }
        make_folder(&to)?;
        for entry in std::fs::read_dir(&from).map_err(ExperimentError::file(&from, "cannot be read"))? {
            let file = entry.map_err(ExperimentError::file(&from, "cannot be read"))?.path();
            let copy = to.join(file.file_name().unwrap_or_default());
            std::fs::copy(&file, &copy).map_err(ExperimentError::file(&file, "cannot be copied"))?;
        }
        Ok(Some(to))
    }

    /// Returns the seconds of a full generation on the large model, as measured so far.
    fn full_generation_s(&self) -> Result<f64, ExperimentError> {
        let (profile, _) = self.measurements.profile(&self.scenario, "");
        let row = profile.service.first().ok_or_else(|| ExperimentError::Failed("nothing was measured".to_owned()))?;
        Ok(row.overhead_s + row.step_s * f64::from(self.scenario.models.large_steps()))
    }

    /// Returns the mean seconds between arrivals that offer this load.
    fn gap_for(&self, load: f64, rehearsal: &LiveOutcome) -> Result<f64, ExperimentError> {
        let profile = self.write_profile(&rehearsal.folder.join("profile.toml"))?;
        let warm = self.scenario.trace.synthetic.is_some();
        let gap_s = gap_for(load, rehearsal, warm, &profile, self.source)?;
        self.say(&format!("load {load}: a request each {gap_s:.4} s in the mean"));
        Ok(gap_s)
    }

    /// Returns the trace of another seed.
    fn trace_of(&self, seed: u64, first: &Arc<TraceInputs>) -> Result<Arc<TraceInputs>, ExperimentError> {
        if self.scenario.trace.synthetic.is_none() {
            return Ok(Arc::new(first.resampled(seed)));
        }
        let scenario = Scenario { seed, ..self.scenario.clone() };
        let trace = TraceInputs::load(&scenario, self.source.file(), false);
        Ok(Arc::new(trace.map_err(|error| self.source.place(error, self.sets))?))
    }

    /// Makes one live run; `None` if it was interrupted.
    fn live(
        &self,
        load: Option<f64>,
        seed: u64,
        trace: &Arc<TraceInputs>,
        folder: &Path,
        warm: Option<&Path>,
    ) -> Result<Option<LiveOutcome>, ExperimentError> {
        if self.interrupts.heard() {
            return Ok(None);
        }
        refuse_foreign(&folder.join("live"))?;
        make_folder(folder)?;
        let profile = folder.join("profile.toml");
        self.write_profile(&profile)?;
        let text = |path: &Path| toml::Value::String(path.display().to_string());
        let mut sets = self.sets.to_vec();
        sets.push(set("models.profile", text(&profile)));
        sets.push(set("seed", toml::Value::Integer(seed.cast_signed())));
        sets.extend(warm.map(|store| set("live.store", text(store))));
        let scenario = self.source.scenario(&sets)?;
        let simulation = prepare(self.source, &sets, scenario, Some(trace.clone()), false)?;
        let mut durations = Measured::default();
        let mut run = LiveRun {
            simulation: &simulation,
            folder: &folder.join("live"),
            file: self.source.file(),
            equipment: &self.equipment,
            interrupts: &self.interrupts,
            fit: None,
            progress: self.progress.clone(),
            also: &mut durations,
        };
        let lived = LiveOutcome {
            load,
            seed,
            folder: folder.to_owned(),
            sets,
            results: run.run()?,
            durations: Measured::default(),
            rounds: self.measurements.rounds(),
        };
        self.say(&lived.name());
        Ok((!self.interrupts.heard()).then_some(LiveOutcome { durations, ..lived }))
    }
}

/// Returns the trace with this mean time between arrivals, in seconds.
fn at_gap(trace: &TraceInputs, gap_s: f64) -> Arc<TraceInputs> {
    let factor = trace.trace.mean_rate_per_min().map_or(1.0, |rate| gap_s * rate / 60.0);
    Arc::new(trace.stretched(factor))
}
