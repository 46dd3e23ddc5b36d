//! `modm profile`: measures a scenario's models on its devices, and writes a profile for the simulator and the
//! policies.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use clap::Args;

use super::arguments::LibraryArguments;
use super::progress::Lines;
use crate::experiments::Progress;
use crate::experiments::live::Equipment;
use crate::experiments::profile::{Measurements, PROMPTS, source_of};
use crate::input::InputError;
use crate::live::measure::Plan;
use crate::output::refuse_file;
use crate::profile::{self, ProfileFile};
use crate::scenario::{Override, Scenario, Source};

/// Least number of denoising steps. A refiner runs half of them, and a step is measured between two others.
const LEAST_STEPS: u32 = 4;

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
}

pub(super) fn run(command: &Profile) -> anyhow::Result<()> {
    let sets: Vec<Override> = command.sets.iter().map(|text| Override::parse(text)).collect::<Result<_, _>>()?;
    let source = Source::read(&command.scenario)?;
    let scenario = source.scenario(&sets)?;
    check(command, &scenario, &source).map_err(|error| source.place(error, &sets))?;
    let library = command.library.open()?;
    let lines: Rc<dyn Progress> = Rc::new(Lines::new(false));
    let equipment = Equipment::find(&scenario, source.file(), &library, command.library.allow_cpu, &*lines);
    let equipment = equipment.map_err(|error| source.place(error, &sets))?;
    let plan = Plan {
        steps: scenario.models.steps,
        jobs: command.jobs.div_ceil(command.rounds),
        loads: 5_u32.div_ceil(command.rounds).max(2),
        prompts: PROMPTS.map(str::to_owned).to_vec(),
    };
    let mut batches = command.batch.clone();
    batches.push(1);
    batches.sort_unstable();
    batches.dedup();
    let mut measured = Measurements::default();
    for round in 1..=command.rounds {
        let say = |what: &str| eprintln!("round {round} of {}: {what}", command.rounds);
        measured.round(&scenario, &equipment, &batches, &plan, &say)?;
        say("all that a live run does");
        let place = command.out.parent().filter(|folder| !folder.as_os_str().is_empty());
        measured.under_load(&scenario, &equipment, plan.jobs, place.unwrap_or_else(|| Path::new(".")), &lines)?;
    }
    let (profile, warnings) = measured.profile(&scenario, &source_of(&library));
    profile::write(&profile, &command.out)?;
    print(&profile);
    for warning in &warnings {
        println!("warning: {warning}");
    }
    eprintln!("profile: {}", command.out.display());
    Ok(())
}

/// Checks the output file and the number of steps, so that errors do not show after minutes of measuring.
fn check(command: &Profile, scenario: &Scenario, source: &Source) -> Result<(), InputError> {
    refuse_file(&command.out, command.force)?;
    let folder = command.out.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        return Err(InputError::new(folder, "is no folder: make it, or choose another").key("--out"));
    }
    if scenario.models.steps < LEAST_STEPS {
        let message = format!("expected at least {LEAST_STEPS}: a step is measured between two");
        return Err(InputError::new(source.file(), message).value("models.steps", scenario.models.steps));
    }
    Ok(())
}

fn print(profile: &ProfileFile) {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    table.set_header([
        "gpu",
        "model",
        "others",
        "batch",
        "step ms",
        "cv",
        "alone",
        "overhead ms",
        "job cv",
        "load ms",
        "MB",
    ]);
    for row in &profile.measurement {
        table.add_row([
            row.gpu.clone(),
            row.model.clone(),
            row.neighbours.word().to_owned(),
            row.batch.to_string(),
            format!("{:.3}", row.step_s * 1e3),
            format!("{:.1} %", row.step_cv * 1e2),
            format!("{:.3}", row.bare_step_s * 1e3),
            format!("{:.2}", row.overhead_s * 1e3),
            format!("{:.1} %", row.job_cv * 1e2),
            format!("{:.1}", row.load_s * 1e3),
            row.memory_mb.map_or_else(String::new, |mb| format!("{mb:.0}")),
        ]);
    }
    println!("{table}");
}
