//! Equipment of live runs: models, encoder and devices, found and checked before anything runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::experiments::{ExperimentError, Progress};
use crate::input::InputError;
use crate::live::cluster::settings::ClusterSettings;
use crate::live::embedder::Embed;
use crate::live::encoder::DualEncoder;
use crate::live::error::Error;
use crate::live::isolated::{IsolatedEncoder, IsolatedPainter, Launch, probe};
use crate::live::library::Library;
use crate::live::limits::{LimitSettings, Limits};
use crate::live::painter::{Painter, Palette};
use crate::live::pipeline::{
    NO_GUIDANCE, WITHOUT_GUIDANCE, check, picture_size, takes_guidance, takes_negative_prompt, undrawable,
};
use crate::live::settings::{Device, Isolation, LiveSettings, Processor};
use crate::live::worker::Paint;
use crate::model::GpuId;
use crate::profile::Profile;
use crate::scenario::Scenario;
use crate::scheduler::WorkerId;

/// Function that makes the painter of a worker.
pub(super) type MakePaint = Box<dyn Fn(WorkerId) -> Box<dyn Paint>>;

/// Models, encoder and devices of a run, found and checked.
#[derive(Clone, Debug)]
pub struct Equipment {
    /// Library of ONNX Runtime.
    pub library: Library,
    /// Device of each worker.
    pub devices: Vec<Device>,
    /// Folders of the models and the size of pictures.
    pub palette: Arc<Palette>,
    /// Names of the checkpoints, by number from 1.
    pub checkpoints: Vec<String>,
    /// Folder of the encoder.
    pub encoder: PathBuf,
    /// Device of the encoder.
    pub encoder_device: Device,
    /// Cluster of the workers, if they are on other machines.
    pub cluster: Option<ClusterSettings>,
    isolation: Isolation,
    limits: LimitSettings,
    models: usize,
}

impl Equipment {
    /// Finds and checks the models, the encoder and the devices that the scenario in `file` names.
    ///
    /// # Errors
    /// Returns an error if a model or the encoder cannot be used, or if a device cannot start.
    pub fn find(
        scenario: &Scenario,
        file: &Path,
        library: &Library,
        allow_cpu: bool,
        progress: &dyn Progress,
    ) -> Result<Self, InputError> {
        let encoder = named(file, "live.encoder", scenario.live.encoder.as_ref())?;
        let palette = palette(scenario, file)?;
        // Those who connect to a cluster need no devices of their own, except for the encoder.
        let cluster =
            scenario.live.cluster.clone().map(|cluster| cluster.resolved(|path| Scenario::resolve(file, path)));
        let wanted = match &cluster {
            Some(_) => Vec::new(),
            None => scenario.live.devices_of(file, scenario.workers())?,
        };
        let devices = available_devices(library, &wanted, (file, "live.devices"), allow_cpu, progress)?;
        let (wanted, place) = ([scenario.live.encoder_device], (file, "live.encoder_device"));
        let encoder_device = available_devices(library, &wanted, place, allow_cpu, progress)?[0];
        let encoder = Scenario::resolve(file, encoder);
        DualEncoder::check(&encoder).map_err(|error| input(&encoder, error))?;
        let LiveSettings { isolation, limits, .. } = scenario.live;
        let (models, palette) = (palette.models.len(), Arc::new(palette));
        let (library, checkpoints) = (library.clone(), scenario.live.checkpoint_names());
        Ok(Self { library, devices, palette, checkpoints, encoder, encoder_device, cluster, isolation, limits, models })
    }

    /// Finds the equipment of this machine, for those who measure it or draw without a scheduler.
    ///
    /// # Errors
    /// Returns an error if the scenario has its workers on other machines, and as [`Self::find`] does.
    pub fn find_here(
        scenario: &Scenario,
        file: &Path,
        library: &Library,
        allow_cpu: bool,
        progress: &dyn Progress,
    ) -> Result<Self, InputError> {
        if let Some(cluster) = &scenario.live.cluster {
            let message =
                "is for `modm live` and `modm serve`: this command uses the devices of this machine, where it runs";
            return Err(InputError::new(file, message).value("live.cluster.url", format_args!("{:?}", cluster.url)));
        }
        Self::find(scenario, file, library, allow_cpu, progress)
    }

    /// Returns the sizes that all models draw with all checkpoints, in words, if they do not draw this one.
    ///
    /// # Errors
    /// Returns an error if a model's folder cannot be read.
    pub fn undrawable(&self, size: [u32; 2]) -> Result<Option<String>, InputError> {
        for folder in self.folders() {
            if let Some(accepted) = undrawable(folder, size).map_err(|error| input(folder, error))? {
                return Ok(Some(format!("expected {accepted}, for {}", folder.display())));
            }
        }
        Ok(None)
    }

    /// Returns the folders of all models with all checkpoints.
    fn folders(&self) -> impl Iterator<Item = &PathBuf> {
        let Palette { models, checkpoints, .. } = &*self.palette;
        models.iter().map(|(folder, _)| folder).chain(checkpoints.iter().flatten())
    }

    /// Returns the guidance that requests may ask for, in words, if they may not ask for this one. The large model must
    /// take it.
    #[must_use]
    pub fn refuses_guidance(&self, scale: f64) -> Option<String> {
        let takes = |large: &PathBuf| takes_guidance(large).unwrap_or(false);
        let refuses = scale > f64::from(NO_GUIDANCE) && !self.larges().all(takes);
        refuses.then(|| WITHOUT_GUIDANCE.to_owned())
    }

    /// Returns the reason for which requests may have no negative prompt, if they may not. The large model must take
    /// it.
    #[must_use]
    pub fn refuses_negative_prompt(&self) -> Option<&'static str> {
        let takes = |large: &PathBuf| takes_negative_prompt(large).unwrap_or(false);
        (!self.larges().all(takes)).then_some("expected nothing: the large model takes no negative prompt")
    }

    /// Returns the folders of the large model and of its checkpoints.
    fn larges(&self) -> impl Iterator<Item = &PathBuf> {
        let checkpoints = self.palette.checkpoints.iter().filter_map(|folders| folders.first());
        std::iter::once(&self.palette.models[0].0).chain(checkpoints)
    }

    /// Checks that the core knows the usual size of the pictures, for requests of other sizes.
    ///
    /// # Errors
    /// Returns an error that names the size if `models.size` is another one.
    pub fn check_usual_size(&self, scenario: &Scenario, file: &Path) -> Result<(), InputError> {
        let own = self.palette.size;
        if scenario.models.size.map(u32::from) == own {
            return Ok(());
        }
        let message = format!(
            "expected {own:?}, the usual size of the pictures here (live.size, or the large model's own): times and hits \
             of other sizes go by it"
        );
        Err(InputError::new(file, message).value("models.size", format_args!("{:?}", scenario.models.size)))
    }

    /// Returns whether the workers and the encoder have processes of their own.
    #[must_use]
    pub fn is_isolated(&self) -> bool {
        self.isolation == Isolation::Process
    }

    /// Returns the time limits of calls, from the profile of these workers if `measured` has one.
    #[must_use]
    pub fn limits(&self, measured: Option<(&Profile, &[GpuId])>) -> Limits {
        match measured {
            Some((profile, gpus)) => Limits::new(&self.limits, profile, gpus, self.models),
            None => Limits::unmeasured(&self.limits, self.devices.len(), self.models),
        }
    }

    /// Returns the function that makes the painters of workers.
    ///
    /// # Errors
    /// Returns an error if the place of this program's own file is not known.
    pub fn paint(&self, limits: &Limits) -> Result<MakePaint, ExperimentError> {
        let (library, devices, palette) = (self.library.clone(), self.devices.clone(), self.palette.clone());
        if !self.is_isolated() {
            return Ok(Box::new(move |worker| {
                Box::new(Painter::new(library.clone(), devices[worker.index()], palette.clone()))
            }));
        }
        let (launch, limits) = (own_program()?, limits.clone());
        Ok(Box::new(move |worker| {
            let (library, palette, limits) = (library.clone(), palette.clone(), limits.worker(worker).to_vec());
            Box::new(IsolatedPainter::new(launch.clone(), library, devices[worker.index()], palette, limits))
        }))
    }

    /// Loads the encoder.
    ///
    /// # Errors
    /// Returns an error if the encoder does not load.
    pub fn embed(&self, limits: &Limits) -> Result<Box<dyn Embed>, ExperimentError> {
        let (folder, device) = (&self.encoder, self.encoder_device);
        if !self.is_isolated() {
            return Ok(Box::new(DualEncoder::open(&self.library, folder, device)?));
        }
        let (library, folder) = (self.library.clone(), folder.clone());
        let encoder = IsolatedEncoder::open(own_program()?, library, folder, device, limits.clone());
        Ok(Box::new(encoder.map_err(ExperimentError::Encoder)?))
    }
}

/// Returns the launch that starts this program again, for workers in processes of their own.
fn own_program() -> Result<Launch, ExperimentError> {
    Launch::own().map_err(|error| ExperimentError::Failed(format!("this program's own file: {error}")))
}

/// Returns an error of a model's folder as an input error.
fn input(folder: &Path, error: Error) -> InputError {
    match error {
        Error::Input(error) => error,
        other => InputError::new(folder, other.to_string()),
    }
}

/// Checks the models in use, and returns their folders and the size of all pictures.
fn palette(scenario: &Scenario, file: &Path) -> Result<Palette, InputError> {
    let names = scenario.model_names();
    let folder_of = |key: &str, folder: Option<&PathBuf>, name: &String| {
        let folder = Scenario::resolve(file, named(file, key, folder)?);
        let guidance = scenario.live.guidance.get(name).copied();
        check(&folder).map_err(|error| input(&folder, error))?;
        if let Some(scale) = guidance.filter(|scale| *scale > NO_GUIDANCE)
            && !takes_guidance(&folder).map_err(|error| input(&folder, error))?
        {
            return Err(InputError::new(file, WITHOUT_GUIDANCE).value(format!("live.guidance.{name}"), scale));
        }
        Ok((folder, guidance))
    };
    let model = |name: &String| folder_of(&format!("live.models.{name}"), scenario.live.models.get(name), name);
    let models: Vec<(PathBuf, Option<f32>)> = names.iter().map(model).collect::<Result<_, InputError>>()?;
    let mut checkpoints = Vec::new();
    for (checkpoint, folders) in &scenario.live.checkpoints {
        let one = |name: &String| {
            let key = format!("live.checkpoints.{checkpoint}.{name}");
            folder_of(&key, folders.get(name), name).map(|(folder, _)| folder)
        };
        checkpoints.push(names.iter().map(one).collect::<Result<Vec<_>, InputError>>()?);
    }
    // A model with a number of steps of its own was distilled for it, and for its own guidance.
    let steps = scenario.models.large_steps();
    let mut guided = Vec::with_capacity(names.len());
    for (name, (folder, _)) in names.iter().zip(&models) {
        let takes = takes_guidance(folder).map_err(|error| input(folder, error))?;
        guided.push(takes && scenario.models.steps_of(name) == steps);
    }
    let large = &models[0].0;
    let own = picture_size(large).map_err(|error| input(large, error))?;
    let size = scenario.live.size.unwrap_or(own);
    for folder in models.iter().map(|(folder, _)| folder).chain(checkpoints.iter().flatten()) {
        if let Some(accepted) = undrawable(folder, size).map_err(|error| input(folder, error))? {
            let message = format!("expected {accepted}, for {}", folder.display());
            return Err(InputError::new(file, message).value("live.size", format_args!("{size:?}")));
        }
    }
    Ok(Palette { models, guided, checkpoints, size })
}

/// Returns the devices to use for the wanted ones. A CUDA device that cannot start is refused, or replaced by the CPU
/// with a warning if `allow_cpu` is true. `(file, key)` is the place that names the devices.
///
/// # Errors
/// Returns an error if a device cannot start.
pub fn available_devices(
    library: &Library,
    wanted: &[Device],
    (file, key): (&Path, &str),
    allow_cpu: bool,
    progress: &dyn Progress,
) -> Result<Vec<Device>, InputError> {
    let one = |device: &Device| {
        if device.processor == Processor::Cpu {
            return Ok(*device);
        }
        match probe(library, *device) {
            Ok(()) => Ok(*device),
            Err(error) if allow_cpu => {
                progress
                    .say(&format!("warning: {} cannot start, the CPU is used in its place: {error}", device.name()));
                Ok(Device::cpu(device.number))
            }
            Err(error) => {
                let way_out = format!("cannot start: {error}. `modm doctor` says more; --allow-cpu runs on the CPU");
                Err(InputError::new(file, way_out).value(key, device.name()))
            }
        }
    };
    wanted.iter().map(one).collect()
}

/// Returns a folder that the scenario must name, or an input error if it names none.
fn named<'a>(file: &Path, key: &str, folder: Option<&'a PathBuf>) -> Result<&'a PathBuf, InputError> {
    folder.ok_or_else(|| InputError::new(file, "is needed for a live run: the folder of the exported model").key(key))
}
