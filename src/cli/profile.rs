//! `modm profile`: measures a scenario's models on its devices and writes what the simulator and the policies
//! read.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::live::{Equipment, LibraryArguments};
use crate::input::InputError;
use crate::live::measure::{Measured, Neighbours, Plan, model};
use crate::output::write_atomic;
use crate::profile::{Measurement, Neighbourhood, ProfileFile, Service};
use crate::scenario::{Override, Scenario, Source};

/// A step or a job that varies by more than this was disturbed.
const NOISY: f64 = 0.05;
/// Of which a refiner runs half.
const LEAST_STEPS: u32 = 4;

/// Measure ONNX models on the devices of a scenario; writes a profile
///
/// For each GPU type and model: the time of a denoising step and of the rest of a job, of a load, their
/// coefficients of variation and the memory, at several batch sizes, with the other workers idle and busy. The
/// [[service]] rows, which the simulator and the policies use, are those of batch 1 with the others busy.
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
    /// Batch sizes
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "1,2,4", value_parser = clap::value_parser!(u32).range(1..=64))]
    batch: Vec<u32>,
    /// Jobs of each kind to measure
    #[arg(long, value_name = "N", default_value = "20", value_parser = clap::value_parser!(u32).range(2..=10_000))]
    jobs: u32,
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
    let equipment = Equipment::of(&scenario, source.file(), &library, &command.library);
    let equipment = equipment.map_err(|error| source.place(error, &sets))?;
    let plan = Plan {
        steps: scenario.models.steps,
        jobs: command.jobs,
        loads: 5,
        prompts: PROMPTS.map(str::to_owned).to_vec(),
    };
    let mut profile =
        ProfileFile { source: String::new(), service: Vec::new(), measurement: Vec::new(), quality: Vec::new() };
    let mut warnings = Vec::new();
    let (gpus, types) = (scenario.gpus(), scenario.gpu_types());
    let mut batches = command.batch.clone();
    batches.push(1);
    batches.sort_unstable();
    batches.dedup();
    for (number, gpu) in types.iter().enumerate() {
        let worker = gpus.iter().position(|id| id.index() == number).unwrap_or(0);
        let device = equipment.devices[worker];
        let others: Vec<_> = equipment
            .devices
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != worker)
            .map(|(_, device)| *device)
            .collect();
        for around in [Neighbourhood::Idle, Neighbourhood::Busy] {
            if around == Neighbourhood::Busy && others.is_empty() {
                continue;
            }
            let busy = if around == Neighbourhood::Busy { others.as_slice() } else { &[] };
            let _neighbours = Neighbours::start(&library, busy, &equipment.palette, &plan)?;
            for (index, name) in scenario.model_names().iter().enumerate() {
                eprintln!("{gpu} ({device}), {name}, others {}", around.word());
                let (folder, guidance) = &equipment.palette.models[index];
                let measured =
                    model(&library, device, (folder, *guidance), equipment.palette.size, index > 0, &batches, &plan)?;
                warnings.extend(complaints(gpu, name, around, &measured));
                add(&mut profile, gpu, name, around, &measured, command.jobs);
            }
        }
    }
    profile.source = format!(
        "modm {} profile, commit {}, {}, {}{}",
        env!("CARGO_PKG_VERSION"),
        env!("MODM_COMMIT"),
        library.build(),
        host(),
        if warnings.is_empty() { "" } else { "; noisy" },
    );
    let text = toml::to_string_pretty(&profile).context("the profile as TOML")?;
    write_atomic(&command.out, |to| std::io::Write::write_all(to, text.as_bytes()))?;
    print(&profile);
    for warning in &warnings {
        println!("warning: {warning}");
    }
    eprintln!("profile: {}", command.out.display());
    Ok(())
}

/// What would only be found out after minutes of measuring.
fn check(command: &Profile, scenario: &Scenario, source: &Source) -> Result<(), InputError> {
    if command.out.exists() && !command.force {
        let message = "is there already: choose another file, or overwrite it with --force";
        return Err(InputError::new(&command.out, message).key("--out"));
    }
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

/// Prompts that any of the models can draw.
const PROMPTS: [&str; 3] = [
    "a large red star at the center on a blue background",
    "a green square above a yellow circle on a white background",
    "a small blue heart at the top left on a gray background",
];

fn complaints(gpu: &str, name: &str, around: Neighbourhood, measured: &Measured) -> Option<String> {
    let first = measured.points.first()?;
    (first.step_cv > NOISY || first.job_cv > NOISY).then(|| {
        format!(
            "{name} on {gpu}, others {}: steps vary by {:.0} %, jobs by {:.0} %: something else used the machine, or it shares its cores; measure again when it is quiet",
            around.word(),
            first.step_cv * 100.0,
            first.job_cv * 100.0
        )
    })
}

/// Rows of the profile: every point, and the service row of what the simulator is to take.
fn add(profile: &mut ProfileFile, gpu: &str, name: &str, around: Neighbourhood, measured: &Measured, jobs: u32) {
    for point in &measured.points {
        profile.measurement.push(Measurement {
            gpu: gpu.to_owned(),
            model: name.to_owned(),
            batch: point.batch,
            neighbours: around,
            step_s: rounded(point.step_s),
            bare_step_s: rounded(point.bare_step_s),
            step_cv: rounded(point.step_cv),
            overhead_s: rounded(point.overhead_s),
            job_cv: rounded(point.job_cv),
            load_s: rounded(measured.load_s),
            load_cv: rounded(measured.load_cv),
            // What grows while others draw may be theirs.
            memory_mb: measured.memory_mb.filter(|_| around == Neighbourhood::Idle).map(rounded),
            jobs,
        });
    }
    let Some(first) = measured.points.first() else { return };
    let service = Service {
        gpu: gpu.to_owned(),
        model: name.to_owned(),
        step_s: rounded(first.step_s),
        overhead_s: rounded(first.overhead_s),
        load_s: rounded(measured.load_s),
        jitter_cv: rounded(first.job_cv),
        active_w: None,
        load_w: None,
        idle_w: None,
    };
    match profile.service.iter_mut().find(|row| row.gpu == gpu && row.model == name) {
        Some(row) => *row = service,
        None => profile.service.push(service),
    }
}

/// Six significant digits: no clock is better.
fn rounded(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
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

/// Processor and number of threads, as far as the system says.
fn host() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name.trim().to_owned()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{} with {threads} threads", name.unwrap_or_else(|| std::env::consts::ARCH.to_owned()))
}
