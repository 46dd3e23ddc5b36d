//! `modm doctor`: checks which parts of live mode work here, and says what to do about the others.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use clap::Args;

use super::live::LibraryArguments;
use crate::live::encoder::DualEncoder;
use crate::live::error::Error;
use crate::live::library::{self, Library, WAY_OUT};
use crate::live::pipeline::{Pipeline, probe};
use crate::live::settings::{Device, Processor};
use crate::scenario::{Override, Scenario, Source};

/// Check which parts of live mode work here (library, providers, devices, memory, models), and say what to do about the
/// others
///
/// Exit code 0 if what is asked for works (the CPU, or everything that the scenario names), else 1.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Also open the models, the encoder and the devices that this scenario names
    scenario: Option<PathBuf>,
    /// Override a scenario key (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    #[command(flatten)]
    library: LibraryArguments,
}

/// Record of whether something that is needed is missing. Each finding is printed at once.
#[derive(Default)]
struct Findings {
    broken: bool,
}

impl Findings {
    fn good(what: &str, found: impl std::fmt::Display) {
        println!("ok       {what:<12} {found}");
    }

    /// Prints a part that is absent, but is not needed for what was asked for.
    fn absent(what: &str, found: impl std::fmt::Display, next: &str) {
        println!("absent   {what:<12} {found}");
        println!("         {:<12} next: {next}", "");
    }

    fn bad(&mut self, what: &str, found: impl std::fmt::Display, next: &str) {
        self.broken = true;
        println!("missing  {what:<12} {found}");
        println!("         {:<12} next: {next}", "");
    }
}

/// Error that something needed is missing: exit code 1.
#[derive(Debug, thiserror::Error)]
#[error("live mode does not work here yet; what to do is said above")]
struct Broken;

pub(super) fn run(command: &Doctor) -> anyhow::Result<()> {
    let scenario = command.scenario.as_ref().map(|file| {
        let sets: Vec<Override> = command.sets.iter().map(|text| Override::parse(text)).collect::<Result<_, _>>()?;
        Source::read(file)?.scenario(&sets).map(|scenario| (scenario, file.clone()))
    });
    let scenario = scenario.transpose()?;
    let mut findings = Findings::default();
    machine();
    let library = open_library(command, &mut findings);
    if let Some(library) = &library {
        devices(library, scenario.as_ref().map(|(scenario, _)| scenario), command.library.allow_cpu, &mut findings);
        if let Some((scenario, file)) = &scenario {
            models(library, scenario, file, &mut findings);
        }
    }
    if findings.broken { Err(Broken.into()) } else { Ok(()) }
}

fn open_library(command: &Doctor, findings: &mut Findings) -> Option<Library> {
    for (what, place) in library::places(command.library.onnxruntime.as_deref()) {
        let found = library::library_at(&place).map_or_else(|| "nothing".to_owned(), |file| file.display().to_string());
        println!("searched {:<12} {what} ({}): {found}", "library", place.display());
    }
    match command.library.open() {
        Ok(library) => {
            Findings::good("library", format_args!("{}, {}", library.build(), library.file.display()));
            Some(library)
        }
        Err(error) => {
            findings.bad("library", error, WAY_OUT);
            None
        }
    }
}

fn machine() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let gigabytes = |key: &str| {
        let line = memory.lines().find(|line| line.starts_with(key))?;
        Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? * 1024.0 / 1e9)
    };
    let memory = gigabytes("MemTotal:").zip(gigabytes("MemAvailable:"));
    let memory =
        memory.map_or_else(String::new, |(total, free)| format!(", {total:.1} GB of memory, {free:.1} GB free"));
    Findings::good("machine", format_args!("{threads} threads{memory}"));
    let query = ["--query-gpu=index,name,memory.total,memory.free,driver_version", "--format=csv,noheader"];
    match Command::new("nvidia-smi").args(query).output() {
        Ok(output) if output.status.success() => {
            for line in String::from_utf8_lossy(&output.stdout).lines() {
                Findings::good("gpu", line);
            }
        }
        _ => {
            let next = "nothing, for the CPU; for CUDA a GPU and NVIDIA's driver";
            Findings::absent("gpu", "nvidia-smi sees none", next);
        }
    }
}

fn devices(library: &Library, scenario: Option<&Scenario>, allow_cpu: bool, findings: &mut Findings) {
    let cpu = Device::default();
    match probe(library, cpu) {
        Ok(()) => Findings::good("cpu", "sessions run"),
        Err(error) => findings.bad("cpu", error, WAY_OUT),
    }
    let cuda = Device { processor: Processor::Cuda, ..cpu };
    let mut wanted = scenario.map_or_else(Vec::new, |scenario| scenario.live.devices.clone());
    wanted.extend(scenario.map(|scenario| scenario.live.encoder_device));
    wanted.retain(|device| device.processor == Processor::Cuda);
    wanted.dedup();
    let next = "scripts/install_onnxruntime --gpu, and NVIDIA's driver for CUDA 13; --allow-cpu runs on the CPU";
    for device in &wanted {
        match probe(library, *device) {
            Ok(()) => Findings::good("cuda", format_args!("{} starts", device.name())),
            Err(error) if allow_cpu => Findings::absent("cuda", error, next),
            Err(error) => findings.bad("cuda", error, next),
        }
    }
    if wanted.is_empty() {
        match probe(library, cuda) {
            Ok(()) => Findings::good("cuda", "cuda:0 starts"),
            Err(error) => Findings::absent("cuda", error, next),
        }
    }
}

/// Loads a model as a worker does. Returns a sentence on its family, its size, and the seconds that loading and a trial
/// picture took.
fn model(
    library: &Library,
    folder: &Path,
    device: Device,
    guidance: Option<f32>,
    size: Option<[u32; 2]>,
) -> Result<String, Error> {
    #[expect(clippy::disallowed_methods, reason = "seconds for a person to read")]
    let begun = Instant::now();
    let mut pipeline = Pipeline::open(library, folder, device)?;
    let opened = begun.elapsed().as_secs_f64();
    pipeline.try_out(guidance, size)?;
    let tried = begun.elapsed().as_secs_f64() - opened;
    Ok(format!(
        "{:?}, {:?} pixels, on {}; loaded in {opened:.3} s, a trial picture in {tried:.3} s",
        pipeline.family(),
        pipeline.size(),
        device.name()
    ))
}

fn models(library: &Library, scenario: &Scenario, file: &Path, findings: &mut Findings) {
    let wanted = scenario.live.devices.first().copied().unwrap_or_default();
    let device = if probe(library, wanted).is_ok() { wanted } else { Device::default() };
    let next = "export it with `optimum-cli export onnx` and name its folder in [live]: docs/live.md";
    for name in scenario.model_names() {
        match scenario.live.models.get(&name) {
            None => findings.bad("model", format_args!("{name}: live.models has no folder for it"), next),
            Some(folder) => {
                let guidance = scenario.live.guidance.get(&name).copied();
                match model(library, &Scenario::resolve(file, folder), device, guidance, scenario.live.size) {
                    Ok(found) => Findings::good("model", format_args!("{name}: {found}")),
                    Err(error) => findings.bad("model", format_args!("{name}: {error}"), next),
                }
            }
        }
    }
    match &scenario.live.encoder {
        None => findings.bad("encoder", "live.encoder names none", next),
        Some(folder) => {
            match DualEncoder::open(library, &Scenario::resolve(file, folder), scenario.live.encoder_device) {
                Ok(_) => Findings::good("encoder", folder.display()),
                Err(error) => findings.bad("encoder", error, next),
            }
        }
    }
}
