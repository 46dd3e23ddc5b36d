//! `modm validate`: measures how far the simulator is from live runs of the same requests, on this machine. Measures a
//! profile, makes live runs, simulates each run with its own durations and with the profile alone, and compares.

use std::num::NonZeroU32;
use std::rc::Rc;
use std::time::Instant;

use anyhow::Context;
use clap::Args;

use super::arguments::{LibraryArguments, ScenarioArguments};
use super::progress::Lines;
use crate::experiments::ExperimentError;
use crate::experiments::live::{Equipment, prepare, refuse_foreign};
use crate::experiments::validate::{self, Experiment, LiveOutcome, Question};
use crate::live::interrupts::Interrupts;
use crate::report::provenance::of_runs;
use crate::report::validation::{self, Validation};
use crate::run_folder::write_run_json;
use crate::scenario::Scenario;

/// Measure on this machine how far the simulator is from live runs
///
/// Measures a profile, replays the trace in real time, and simulates it twice: with the durations of the live run
/// itself, which leaves the error of the model of the loop, and with the profile alone, which gives the error of a
/// prediction. Writes validation.csv and a report: each measure live and simulated, with its error, and how much of
/// that a service time that is 1 % off would explain.
///
/// With --loads, arrivals are stretched so that requests ask for these shares of the workers' time. The first run is
/// then a rehearsal on other requests: it measures how much work the requests are, and leaves a warm cache to the other
/// runs.
#[derive(Debug, Args)]
pub(super) struct Validate {
    #[command(flatten)]
    common: ScenarioArguments,
    #[command(flatten)]
    library: LibraryArguments,
    /// Loads to offer, as shares of the workers' time, e.g. 0.6,0.95,1.2; the trace as it is if absent
    #[arg(long, value_name = "SHARE,SHARE", value_delimiter = ',')]
    loads: Vec<f64>,
    /// Number of traces to repeat on: a synthetic one is generated anew, a real one is resampled by blocks of time
    #[arg(long, value_name = "N", default_value = "1")]
    seeds: NonZeroU32,
    /// Number of jobs of each kind in a round of profiling; there are rounds before, between and after the live runs
    #[arg(long, value_name = "N", default_value = "10", value_parser = clap::value_parser!(u32).range(2..=10_000))]
    jobs: u32,
    /// Number of rounds of profiling before the first live run
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Number of simulations of each live run from the profile, each with jitter of its own
    #[arg(long, value_name = "N", default_value = "20", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    draws: u32,
}

pub(super) fn run(command: &Validate) -> anyhow::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "wall seconds go to run.json alone")]
    let begun = Instant::now();
    let common = &command.common;
    let (source, sets) = common.read()?;
    let base = source.scenario(&sets)?;
    let question = Question { loads: command.loads.clone(), seeds: command.seeds, jobs: command.jobs };
    Experiment::check(&question, &base, &source).map_err(|error| source.place(error, &sets))?;
    let library = command.library.open()?;
    let first = prepare(&source, &sets, base.clone(), None, false)?;
    let lines = Rc::new(Lines::new(common.quiet));
    let equipment = Equipment::find(&base, source.file(), &library, command.library.allow_cpu, &*lines);
    let equipment = equipment.map_err(|error| source.place(error, &sets))?;
    refuse_foreign(&common.out)?;
    common.prepare_output()?;
    let interrupts = Interrupts::listen().context("signals cannot be listened for")?;
    let runs = [("every run".to_owned(), &base)];
    let mut provenance = of_runs((&source, &sets), runs, first.files(), []);
    let mut experiment = Experiment::new(&question, &common.out, &source, &sets, equipment, interrupts, lines)?;
    for _ in 0..command.rounds {
        experiment.profile()?;
    }
    let lived = experiment.live_runs(first, &base)?;
    let profile = experiment.write_profile(&common.out.join("profile.toml"))?;
    provenance.service_times.push(profile.source.clone());
    let compare = |run: &LiveOutcome| validate::compare(run, &experiment.profile_near(run), command.draws, &source);
    let runs = lived.iter().map(compare);
    let runs = runs.collect::<Result<Vec<_>, ExperimentError>>()?.concat();
    anyhow::ensure!(!runs.is_empty(), "nothing was run to its end");
    let validation = Validation {
        name: base.name.clone(),
        runs,
        provenance,
        notes: notes(command, &profile.source, &lived),
        versions: super::live::versions(&base, &library),
        scenario_toml: source.text().to_owned(),
    };
    tell(command, &base, &validation, begun.elapsed().as_secs_f64())
}

fn tell(command: &Validate, base: &Scenario, validation: &Validation, wall_s: f64) -> anyhow::Result<()> {
    let common = &command.common;
    super::write_files(&validation::files(validation).context("the report's figures")?, &common.out)?;
    write_run_json(&common.out, base, &[], &[], wall_s, &[])?;
    if common.json {
        println!("{}", serde_json::to_string_pretty(&validation::json(validation))?);
        return Ok(());
    }
    print!("{}", validation::terminal(validation, super::width()));
    super::print_notes(&validation.notes);
    eprintln!("report: {}", common.out.join("report.html").display());
    Ok(())
}

fn notes(command: &Validate, profile: &str, lived: &[LiveOutcome]) -> Vec<String> {
    let mut notes = vec![
        format!(
            "profile: {profile}; {} jobs of each kind a round, rounds before, between and after the live runs, each of which is predicted from the two before it and the two after it",
            command.jobs
        ),
        format!("from the profile: means over {} simulations, each with jitter of its own", command.draws),
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
