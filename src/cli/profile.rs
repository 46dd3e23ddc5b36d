//! `modm profile`: measures a scenario's models on its devices, and writes a profile for the simulator and the
//! policies.

use std::path::PathBuf;
use std::rc::Rc;

use clap::Args;

use super::arguments::{LibraryArguments, read};
use super::progress::Lines;
use crate::experiments::Progress;
use crate::experiments::live::Equipment;
use crate::experiments::profile::{Question, check, measure};
use crate::{profile, report};

/// Measure ONNX models on the devices of a scenario, and write a profile
///
/// Measures for each GPU type and model the times of a denoising step, of the rest of a job and of a load, their
/// coefficients of variation, and the memory, at several batch sizes, with the other workers idle and busy. Also
/// measures the encoder. The [[service]] rows, which the simulator and the policies use, are means of batch 1 while all
/// the work of a live run goes on, and the part of that time that a job takes while the other workers are idle.
#[derive(Debug, Args)]
pub(super) struct Profile {
    /// Scenario file (TOML); its [live] section names models and devices
    scenario: PathBuf,
    /// The profile to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    library: LibraryArguments,
    /// Override a scenario key (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Batch sizes to measure; 1 is always measured
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "1,2,4", value_parser = clap::value_parser!(u32).range(1..=64))]
    batch: Vec<u32>,
    /// Number of jobs of each kind to measure
    #[arg(long, value_name = "N", default_value = "20", value_parser = clap::value_parser!(u32).range(2..=10_000))]
    jobs: u32,
    /// Number of rounds over which the jobs are spread, so that a slow minute of the machine affects all kinds alike
    #[arg(long, value_name = "N", default_value = "4", value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Overwrite an earlier profile
    #[arg(long)]
    force: bool,
    /// Show no progress on standard error
    #[arg(long, short)]
    quiet: bool,
}

pub(super) fn run(command: &Profile) -> anyhow::Result<()> {
    let (source, sets) = read(&command.scenario, &command.sets)?;
    let scenario = source.scenario(&sets)?;
    check(&command.out, command.force, &scenario, &source).map_err(|error| source.place(error, &sets))?;
    let library = command.library.open()?;
    let lines: Rc<dyn Progress> = Rc::new(Lines::new(command.quiet));
    let equipment = Equipment::find_here(&scenario, source.file(), &library, command.library.allow_cpu, &*lines);
    let equipment = equipment.map_err(|error| source.place(error, &sets))?;
    let question = Question { batches: command.batch.clone(), jobs: command.jobs, rounds: command.rounds };
    let (profile, warnings) = measure(&scenario, &equipment, &question, &command.out, &lines)?;
    profile::write(&profile, &command.out)?;
    out!("{}", report::profile::terminal(&profile));
    for warning in &warnings {
        out!("warning: {warning}");
    }
    say!("profile: {}", command.out.display());
    Ok(())
}
