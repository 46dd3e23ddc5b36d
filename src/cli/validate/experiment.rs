//! The live side: rounds of profiling with live runs between them, each on a profile of its own time.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;

use super::load::gap_for;
use super::{Validate, set};
use crate::cli::live::{Equipment, Interrupts, LiveRun, prepare, refuse_foreign};
use crate::cli::profile::{self, Measurements, NEIGHBOURS, PROMPTS, source_of};
use crate::experiments::Simulation;
use crate::live::measure::Plan;
use crate::metrics::Results;
use crate::profile::ProfileFile;
use crate::scenario::{Override, Scenario, Source, TraceInputs};
use crate::sim::Measured;

/// Jobs under load to one of a model by itself: they are what predictions rest on.
const LOADED: u32 = 4;

/// What all runs share.
pub(super) struct Experiment<'a> {
    command: &'a Validate,
    source: &'a Source,
    sets: &'a [Override],
    equipment: Equipment,
    interrupts: Interrupts,
    measurements: Measurements,
    scenario: Scenario,
    plan: Plan,
    /// As an absolute path: scenarios that are read back name it.
    out: PathBuf,
}

/// A live run that came to its end.
pub(super) struct Lived {
    /// Offered, as a share of the workers' time; `None` for the trace as it is.
    pub(super) load: Option<f64>,
    pub(super) seed: u64,
    /// Holds `live/`, its files, and `profile.toml`, what its policies went by.
    pub(super) folder: PathBuf,
    /// What was set to run it.
    pub(super) sets: Vec<Override>,
    pub(super) results: Results,
    pub(super) durations: Measured,
    /// Rounds of profiling under load that were over when it began.
    rounds: usize,
}

impl Lived {
    pub(super) fn name(&self) -> String {
        let load = self.load.map_or_else(|| "as it is".to_owned(), |load| format!("load {load}"));
        format!("{load}, seed {}", self.seed)
    }
}

impl<'a> Experiment<'a> {
    pub(super) fn new(
        command: &'a Validate,
        source: &'a Source,
        sets: &'a [Override],
        equipment: Equipment,
        interrupts: Interrupts,
    ) -> anyhow::Result<Self> {
        let scenario = source.scenario(sets)?;
        let plan = Plan {
            steps: scenario.models.steps,
            jobs: command.jobs,
            loads: 2,
            prompts: PROMPTS.map(str::to_owned).to_vec(),
        };
        let out = std::fs::canonicalize(&command.common.out)
            .with_context(|| format!("{}: cannot be read", command.common.out.display()))?;
        Ok(Self {
            command,
            source,
            sets,
            equipment,
            interrupts,
            measurements: Measurements::default(),
            scenario,
            plan,
            out,
        })
    }

    fn say(&self, line: &str) {
        if !self.command.common.quiet {
            eprintln!("{line}");
        }
    }

    /// One round of profiling, of models by themselves and of all that a live run does.
    pub(super) fn profile(&mut self) -> anyhow::Result<()> {
        self.say("profiling");
        self.measurements.round(&self.scenario, &self.equipment, &[1], &self.plan, &|_| {})?;
        self.profile_under_load()
    }

    /// One round more of all that a live run does.
    fn profile_under_load(&mut self) -> anyhow::Result<()> {
        let jobs = LOADED * self.command.jobs;
        self.measurements.under_load(&self.scenario, &self.equipment, jobs, &self.out)
    }

    /// Writes what was measured so far.
    pub(super) fn write_profile(&self, file: &Path) -> anyhow::Result<ProfileFile> {
        let (profile, _) = self.measurements.profile(&self.scenario, &source_of(&self.equipment.library));
        profile::write(&profile, file)?;
        Ok(profile)
    }

    /// Returns the profile of the rounds near a run, since the machine's speed drifts, with the spread over all rounds.
    pub(super) fn profile_near(&self, run: &Lived) -> ProfileFile {
        let near = self.measurements.near(run.rounds.saturating_sub(NEIGHBOURS)..run.rounds + NEIGHBOURS);
        let source = source_of(&self.equipment.library);
        let [mut near, all] = [&near, &self.measurements].map(|measured| measured.profile(&self.scenario, &source).0);
        for (row, of_all) in near.service.iter_mut().zip(all.service) {
            (row.spread, row.spread_kind) = (of_all.spread, of_all.spread_kind);
        }
        near
    }

    /// All live runs, as far as nobody interrupts them.
    pub(super) fn live_runs(&mut self, first: Simulation, base: &Scenario) -> anyhow::Result<Vec<Lived>> {
        let trace = first.inputs.trace;
        let seeds = u64::from(self.command.seeds.get());
        let mut rehearsal = None;
        if !self.command.loads.is_empty() {
            let Some(run) = self.rehearse(base, seeds, &trace)? else { return Ok(Vec::new()) };
            rehearsal = Some(run);
        }
        let mut lived = Vec::new();
        for index in 0..seeds {
            let seed = base.seed.wrapping_add(index);
            let own = if index == 0 { trace.clone() } else { self.trace_of(seed, &trace)? };
            let loads: Vec<Option<f64>> = match self.command.loads.as_slice() {
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
                    std::fs::remove_dir_all(&warm).with_context(|| format!("{}: cannot be removed", warm.display()))?;
                }
                let Some(run) = run else { return Ok(lived) };
                lived.push(run);
                self.say("profiling");
                self.profile_under_load()?;
            }
        }
        Ok(lived)
    }

    /// A live run of other requests, which says how much work such requests are and leaves a warm cache: with a cold
    /// one, any run begins with a queue. Real traces have no others, and are run cold.
    fn rehearse(&mut self, base: &Scenario, seeds: u64, trace: &Arc<TraceInputs>) -> anyhow::Result<Option<Lived>> {
        // As fast as vanilla could serve them: with some hits, no queue grows.
        let gap_s = self.full_generation_s()? / base.workers() as f64;
        let seed = base.seed.wrapping_add(seeds);
        let other = self.trace_of(seed, trace)?;
        self.say("rehearsal: how much work the requests are");
        let run = self.live(None, seed, &at_gap(&other, gap_s), &self.out.join("rehearsal"), None)?;
        self.say("profiling");
        self.profile_under_load()?;
        Ok(run)
    }

    /// A copy of the pictures that the rehearsal left, if its requests were others.
    fn warm_store(&self, rehearsal: &Lived, folder: &Path) -> anyhow::Result<Option<PathBuf>> {
        if self.scenario.trace.synthetic.is_none() {
            return Ok(None);
        }
        let (from, to) = (rehearsal.folder.join("live/store"), folder.join("warm"));
        if to.is_dir() {
            std::fs::remove_dir_all(&to).with_context(|| format!("{}: cannot be removed", to.display()))?;
        }
        crate::cli::make_folder(&to)?;
        for entry in std::fs::read_dir(&from).with_context(|| format!("{}: cannot be read", from.display()))? {
            let file = entry?.path();
            let copy = to.join(file.file_name().unwrap_or_default());
            std::fs::copy(&file, &copy).with_context(|| format!("{}: cannot be copied", file.display()))?;
        }
        Ok(Some(to))
    }

    /// Seconds of a full generation on the large model, as measured so far.
    fn full_generation_s(&self) -> anyhow::Result<f64> {
        let (profile, _) = self.measurements.profile(&self.scenario, "");
        let row = profile.service.first().context("nothing was measured")?;
        Ok(row.overhead_s + row.step_s * f64::from(self.scenario.models.steps))
    }

    /// Mean seconds between arrivals that offer this load.
    fn gap_for(&self, load: f64, rehearsal: &Lived) -> anyhow::Result<f64> {
        let profile = self.write_profile(&rehearsal.folder.join("profile.toml"))?;
        let warm = self.scenario.trace.synthetic.is_some();
        let gap_s = gap_for(load, rehearsal, warm, &profile, self.source)?;
        self.say(&format!("load {load}: a request each {gap_s:.4} s in the mean"));
        Ok(gap_s)
    }

    /// The trace of another seed.
    fn trace_of(&self, seed: u64, first: &Arc<TraceInputs>) -> anyhow::Result<Arc<TraceInputs>> {
        if self.scenario.trace.synthetic.is_none() {
            return Ok(Arc::new(first.resampled(seed)));
        }
        let scenario = Scenario { seed, ..self.scenario.clone() };
        let trace = TraceInputs::load(&scenario, self.source.file(), false);
        Ok(Arc::new(trace.map_err(|error| self.source.place(error, self.sets))?))
    }

    /// One live run; `None` if it was interrupted.
    fn live(
        &self,
        load: Option<f64>,
        seed: u64,
        trace: &Arc<TraceInputs>,
        folder: &Path,
        warm: Option<&Path>,
    ) -> anyhow::Result<Option<Lived>> {
        if self.interrupts.heard() {
            return Ok(None);
        }
        refuse_foreign(&folder.join("live"))?;
        crate::cli::make_folder(folder)?;
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
            quiet: self.command.common.quiet,
            also: &mut durations,
        };
        let lived = Lived {
            load,
            seed,
            folder: folder.to_owned(),
            sets,
            results: run.run()?,
            durations: Measured::default(),
            rounds: self.measurements.rounds(),
        };
        self.say(&lived.name());
        Ok((!self.interrupts.heard()).then_some(Lived { durations, ..lived }))
    }
}

/// The trace with this mean time between arrivals.
fn at_gap(trace: &TraceInputs, gap_s: f64) -> Arc<TraceInputs> {
    let arrivals = trace.trace.arrivals();
    let span_s = arrivals.last().map_or(0.0, |last| last.seconds());
    let factor = if span_s > 0.0 { gap_s * arrivals.len() as f64 / span_s } else { 1.0 };
    Arc::new(trace.stretched(factor))
}
