//! Diagnosis of a machine: which parts of live mode work here, and what to do about the others. Opens the library, the
//! devices, the models and the encoder as a live run does. Findings are data; whoever asks shows them.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use super::encoder::DualEncoder;
use super::error::Error;
use super::library::{self, Library, LibraryOptions, WAY_OUT};
use super::pipeline::{Pipeline, probe};
use super::settings::{Device, LiveSettings, Processor};

/// Condition of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Place that was searched for the part.
    Searched,
    /// Part that works.
    Works,
    /// Part that is absent, but is not needed for what was asked for.
    Absent,
    /// Part that is needed, and is missing or does not work.
    Missing,
}

/// Finding about a part of live mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Condition of the part.
    pub condition: Condition,
    /// Name of the part, e.g. `library`.
    pub part: &'static str,
    /// Description of the part, or the reason why it does not work.
    pub found: String,
    /// Advice on what to do next, if something is absent or missing.
    pub next: Option<&'static str>,
}

/// Models, encoder and devices that have to work.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    /// Settings that name folders and devices.
    pub settings: &'a LiveSettings,
    /// Names of the models.
    pub models: Vec<String>,
    /// Folder to which the paths of the settings are relative.
    pub folder: &'a Path,
}

/// Findings so far.
struct Diagnosis<'a> {
    report: &'a mut dyn FnMut(Finding),
    works: bool,
}

/// Examines the machine, the library and its devices and, if there is a subject, its models, its encoder and its
/// devices. Calls `report` with each finding as it comes, and returns whether everything works that is needed.
pub fn diagnose(library: &LibraryOptions, subject: Option<&Subject<'_>>, report: &mut dyn FnMut(Finding)) -> bool {
    let mut diagnosis = Diagnosis { report, works: true };
    diagnosis.machine();
    if let Some(opened) = diagnosis.library(library) {
        diagnosis.devices(&opened, subject.map(|subject| subject.settings), library.allow_cpu);
        if let Some(subject) = subject {
            diagnosis.models(&opened, subject);
            diagnosis.encoder(&opened, subject);
        }
    }
    diagnosis.works
}

impl Subject<'_> {
    fn resolve(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }
}

impl Diagnosis<'_> {
    fn find(&mut self, condition: Condition, part: &'static str, found: impl Display, next: Option<&'static str>) {
        self.works &= condition != Condition::Missing;
        (self.report)(Finding { condition, part, found: found.to_string(), next });
    }

    fn works(&mut self, part: &'static str, found: impl Display) {
        self.find(Condition::Works, part, found, None);
    }

    fn absent(&mut self, part: &'static str, found: impl Display, next: &'static str) {
        self.find(Condition::Absent, part, found, Some(next));
    }

    fn missing(&mut self, part: &'static str, found: impl Display, next: &'static str) {
        self.find(Condition::Missing, part, found, Some(next));
    }

    /// Looks at the processor, the memory, and the GPUs that NVIDIA's driver sees.
    fn machine(&mut self) {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let gigabytes = |key: &str| {
            let line = memory.lines().find(|line| line.starts_with(key))?;
            Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? * 1024.0 / 1e9)
        };
        let memory = gigabytes("MemTotal:").zip(gigabytes("MemAvailable:"));
        let memory =
            memory.map_or_else(String::new, |(total, free)| format!(", {total:.1} GB of memory, {free:.1} GB free"));
        self.works("machine", format_args!("{threads} threads{memory}"));
        let query = ["--query-gpu=index,name,memory.total,memory.free,driver_version", "--format=csv,noheader"];
        match Command::new("nvidia-smi").args(query).output() {
            Ok(output) if output.status.success() => {
                for line in String::from_utf8_lossy(&output.stdout).lines() {
                    self.works("gpu", line);
                }
            }
            _ => {
                let next = "nothing, for the CPU; for CUDA a GPU and NVIDIA's driver";
                self.absent("gpu", "nvidia-smi sees none", next);
            }
        }
    }

    /// Opens the library, after a search of all its places.
    fn library(&mut self, options: &LibraryOptions) -> Option<Library> {
        for (what, place) in library::places(options.onnxruntime.as_deref()) {
            let found =
                library::library_at(&place).map_or_else(|| "nothing".to_owned(), |file| file.display().to_string());
            let searched = format_args!("{what} ({}): {found}", place.display());
            self.find(Condition::Searched, "library", searched, None);
        }
        match options.open() {
            Ok(library) => {
                self.works("library", format_args!("{}, {}", library.build(), library.file.display()));
                Some(library)
            }
            Err(error) => {
                self.missing("library", error, WAY_OUT);
                None
            }
        }
    }

    /// Starts sessions on the CPU and on the CUDA devices that the settings name, or else on the first one.
    fn devices(&mut self, library: &Library, settings: Option<&LiveSettings>, allow_cpu: bool) {
        let cpu = Device::default();
        match probe(library, cpu) {
            Ok(()) => self.works("cpu", "sessions run"),
            Err(error) => self.missing("cpu", error, WAY_OUT),
        }
        let cuda = Device { processor: Processor::Cuda, ..cpu };
        let mut wanted = settings.map_or_else(Vec::new, |settings| settings.devices.clone());
        wanted.extend(settings.map(|settings| settings.encoder_device));
        wanted.retain(|device| device.processor == Processor::Cuda);
        wanted.dedup();
        let next = "`modm setup --gpu`, and NVIDIA's driver for CUDA 13; --allow-cpu runs on the CPU";
        for device in &wanted {
            match probe(library, *device) {
                Ok(()) => self.works("cuda", format_args!("{} starts", device.name())),
                Err(error) if allow_cpu => self.absent("cuda", error, next),
                Err(error) => self.missing("cuda", error, next),
            }
        }
        if wanted.is_empty() {
            match probe(library, cuda) {
                Ok(()) => self.works("cuda", "cuda:0 starts"),
                Err(error) => self.absent("cuda", error, next),
            }
        }
    }

    /// Loads each model and draws a trial picture with it.
    fn models(&mut self, library: &Library, subject: &Subject<'_>) {
        let settings = subject.settings;
        let wanted = settings.devices.first().copied().unwrap_or_default();
        let device = if probe(library, wanted).is_ok() { wanted } else { Device::default() };
        let own = [("live.models".to_owned(), &settings.models)].into_iter();
        let checkpoints = settings.checkpoints.iter();
        let checkpoints = checkpoints.map(|(name, folders)| (format!("live.checkpoints.{name}"), folders));
        for (key, folders) in own.chain(checkpoints) {
            for name in &subject.models {
                let called = if key == "live.models" { name.clone() } else { format!("{name} of {key}") };
                let Some(folder) = folders.get(name) else {
                    self.missing("model", format_args!("{name}: {key} has no folder for it"), EXPORT);
                    continue;
                };
                let guidance = settings.guidance.get(name).copied();
                match model(library, &subject.resolve(folder), device, guidance, settings.size) {
                    Ok(found) => self.works("model", format_args!("{called}: {found}")),
                    Err(error) => self.missing("model", format_args!("{called}: {error}"), EXPORT),
                }
            }
        }
    }

    fn encoder(&mut self, library: &Library, subject: &Subject<'_>) {
        match &subject.settings.encoder {
            None => self.missing("encoder", "live.encoder names none", EXPORT),
            Some(folder) => {
                match DualEncoder::open(library, &subject.resolve(folder), subject.settings.encoder_device) {
                    Ok(_) => self.works("encoder", folder.display()),
                    Err(error) => self.missing("encoder", error, EXPORT),
                }
            }
        }
    }
}

/// Advice for a model or an encoder that is missing.
const EXPORT: &str = "export it with `optimum-cli export onnx` and name its folder in [live]: docs/live.md";

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
