//! `modm validate`: measures how far the simulator is from live runs of the same requests, on this machine. Measures a
//! profile, makes live runs, simulates each run with its own durations and with the profile alone, and compares.

use std::num::NonZeroU32;
use std::rc::Rc;

use anyhow::Context;
use clap::Args;

use super::arguments::{LibraryArguments, ScenarioArguments};
use super::printer;
use super::progress::Lines;
use crate::experiments::live::{Equipment, prepare, refuse_foreign};
use crate::experiments::validate::{Experiment, Question};
use crate::live::interrupts::Interrupts;
use crate::report::provenance::{live_versions, of_runs};
use crate::report::validation::{self, Validation};
use crate::report::write_files;
use crate::run_folder::{WallTime, write_run_json};

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
    let begun = WallTime::begin();
    let common = &command.common;
    let (source, sets) = common.read()?;
    let base = source.scenario(&sets)?;
    let Validate { seeds, jobs, rounds, draws, .. } = *command;
    let question = Question { loads: command.loads.clone(), seeds, jobs, rounds, draws };
    Experiment::check(&question, &base, &source).map_err(|error| source.place(error, &sets))?;
    let library = command.library.open()?;
    let first = prepare(&source, &sets, base.clone(), None, false)?;
    let lines = Rc::new(Lines::new(common.quiet));
    let equipment = Equipment::find_here(&base, source.file(), &library, command.library.allow_cpu, &*lines);
    let equipment = equipment.map_err(|error| source.place(error, &sets))?;
    refuse_foreign(&common.out)?;
    common.prepare_output()?;
    let interrupts = Interrupts::listen().context("signals cannot be listened for")?;
    let runs = [("every run".to_owned(), &base)];
    let mut provenance = of_runs((&source, &sets), runs, first.files(), []);
    let mut experiment = Experiment::new(&question, &common.out, &source, &sets, equipment, interrupts, lines)?;
    let answer = experiment.answer(first, &base)?;
    provenance.service_times.push(answer.service_times);
    let validation = Validation {
        name: base.name.clone(),
        runs: answer.runs,
        provenance,
        notes: answer.notes,
        versions: live_versions(&base, library.minor_version),
        scenario_toml: source.text().to_owned(),
    };
    write_files(&super::drawn(validation::files(&validation))?, &common.out)?;
    write_run_json(&common.out, &base, &[], &[], begun.seconds(), &[])?;
    if common.json {
        printer::json(&validation::json(&validation))?;
        return Ok(());
    }
    printer::text(validation::terminal(&validation, super::width()));
    super::print_notes(&validation.notes);
    say!("report: {}", common.out.join("report.html").display());
    Ok(())
}
