//! One run in real time and its files.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;

use super::super::make_folder;
use super::super::progress::Progress;
use super::interrupts::Interrupts;
use super::recorded::Recorded;
use super::{LibraryArguments, gallery, named};
use crate::cache::Scope;
use crate::experiments::{Counted, Simulation};
use crate::image::ImageId;
use crate::input::InputError;
use crate::journal::{Journal, Record};
use crate::live::embedder::Embed;
use crate::live::encoder::DualEncoder;
use crate::live::error::Error;
use crate::live::executor::{KnownRequests, Live, Paced, Setting};
use crate::live::faults::Faults;
use crate::live::isolated::{IsolatedEncoder, IsolatedPainter, Launch};
use crate::live::library::Library;
use crate::live::limits::{LimitSettings, Limits};
use crate::live::painter::{Painter, Palette};
use crate::live::pipeline::{check, picture_size, size_multiple};
use crate::live::settings::{Device, ImageFormat, Isolation, LiveSettings};
use crate::live::store::{Found, Opened, Store, TestableDisk};
use crate::live::worker::Paint;
use crate::metrics::real_time::delay;
use crate::metrics::{Keep, Metrics, Results};
use crate::model::GpuId;
use crate::profile::Profile;
use crate::replay::{Executor, RunError, replay};
use crate::report::run_folder::{RunFolder, write_journal};
use crate::request::{Owner, RequestId, TenantId};
use crate::scenario::{Scenario, arrivals, initial_allocation};
use crate::scheduler::{WarmImage, WorkerId};
use crate::time::Time;
use crate::trace::Trace;

/// Returns the function that makes the worker of a number.
type MakePaint = Box<dyn Fn(WorkerId) -> Box<dyn Paint>>;

/// The models, the encoder and the devices of a run, found and checked.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Equipment {
    pub(in crate::cli) library: Library,
    pub(in crate::cli) devices: Vec<Device>,
    pub(in crate::cli) palette: Arc<Palette>,
    pub(in crate::cli) encoder: PathBuf,
    pub(in crate::cli) encoder_device: Device,
    isolation: Isolation,
    limits: LimitSettings,
    models: usize,
}

impl Equipment {
    /// What the scenario in `file` names.
    pub(in crate::cli) fn of(
        scenario: &Scenario,
        file: &Path,
        library: &Library,
        arguments: &LibraryArguments,
    ) -> Result<Self, InputError> {
        let encoder = named(file, "live.encoder", scenario.live.encoder.as_ref())?;
        let palette = palette(scenario, file)?;
        let wanted = scenario.live.devices_of(file, scenario.workers())?;
        let devices = arguments.devices(library, &wanted, (file, "live.devices"))?;
        let encoder_device = [scenario.live.encoder_device];
        let encoder_device = arguments.devices(library, &encoder_device, (file, "live.encoder_device"))?[0];
        let encoder = Scenario::resolve(file, encoder);
        DualEncoder::check(&encoder).map_err(|error| input(&encoder, error))?;
        let LiveSettings { isolation, limits, .. } = scenario.live;
        let (models, palette) = (palette.models.len(), Arc::new(palette));
        Ok(Self { library: library.clone(), devices, palette, encoder, encoder_device, isolation, limits, models })
    }

    /// Whether workers and encoder have processes of their own.
    pub(in crate::cli) fn is_isolated(&self) -> bool {
        self.isolation == Isolation::Process
    }

    /// How long calls may take, with a profile of these workers if there is one.
    pub(in crate::cli) fn limits(&self, measured: Option<(&Profile, &[GpuId])>) -> Limits {
        match measured {
            Some((profile, gpus)) => Limits::new(&self.limits, profile, gpus, self.models),
            None => Limits::unmeasured(&self.limits, self.devices.len(), self.models),
        }
    }

    /// Makes the workers.
    pub(in crate::cli) fn paint(&self, limits: &Limits) -> anyhow::Result<MakePaint> {
        let (library, devices, palette) = (self.library.clone(), self.devices.clone(), self.palette.clone());
        if !self.is_isolated() {
            return Ok(Box::new(move |worker| {
                Box::new(Painter::new(library.clone(), devices[worker.index()], palette.clone()))
            }));
        }
        let (launch, limits) = (Launch::own()?, limits.clone());
        Ok(Box::new(move |worker| {
            let (library, palette, limits) = (library.clone(), palette.clone(), limits.worker(worker).to_vec());
            Box::new(IsolatedPainter::new(launch.clone(), library, devices[worker.index()], palette, limits))
        }))
    }

    /// Loads the encoder.
    pub(in crate::cli) fn embed(&self, limits: &Limits) -> anyhow::Result<Box<dyn Embed>> {
        let (folder, device) = (&self.encoder, self.encoder_device);
        if !self.is_isolated() {
            return Ok(Box::new(DualEncoder::open(&self.library, folder, device)?));
        }
        let (library, folder) = (self.library.clone(), folder.clone());
        let encoder = IsolatedEncoder::open(Launch::own()?, library, folder, device, limits.clone());
        Ok(Box::new(encoder.map_err(|why| anyhow::anyhow!("the encoder does not load: {why}"))?))
    }
}

/// What is wrong with a model's folder.
fn input(folder: &Path, error: Error) -> InputError {
    match error {
        Error::Input(error) => error,
        other => InputError::new(folder, other.to_string()),
    }
}

/// Folders of the models in use, and the size of all pictures.
fn palette(scenario: &Scenario, file: &Path) -> Result<Palette, InputError> {
    let model = |name: &String| {
        let folder = named(file, &format!("live.models.{name}"), scenario.live.models.get(name))?;
        let folder = Scenario::resolve(file, folder);
        check(&folder).map_err(|error| input(&folder, error))?;
        Ok((folder, scenario.live.guidance.get(name).copied()))
    };
    let models: Vec<(PathBuf, Option<f32>)> =
        scenario.model_names().iter().map(model).collect::<Result<_, InputError>>()?;
    let large = &models[0].0;
    let own = picture_size(large).map_err(|error| input(large, error))?;
    let size = scenario.live.size.unwrap_or(own);
    for (folder, _) in &models {
        let multiple = size_multiple(folder).map_err(|error| input(folder, error))?;
        if size.iter().any(|side| !side.is_multiple_of(multiple)) {
            let message = format!("expected multiples of {multiple}, for {}", folder.display());
            return Err(InputError::new(file, message).value("live.size", format_args!("{size:?}")));
        }
    }
    Ok(Palette { models, size })
}

/// Folders of a live run that the next one in the same place begins anew.
const OWN: [&str; 3] = ["images", "trace", "store"];
const JOURNAL: &str = "journal.jsonl.gz";

/// Refuses a folder that has folders of these names and no live run's journal: they are somebody else's, and
/// would be replaced.
pub(in crate::cli) fn refuse_foreign(folder: &Path) -> Result<(), InputError> {
    let ours = [JOURNAL.to_owned(), format!("{JOURNAL}.partial")].iter().any(|name| folder.join(name).is_file());
    match OWN.iter().find(|name| folder.join(name).is_dir()) {
        Some(name) if !ours => {
            let message = format!("holds a folder `{name}` that no live run has left: choose another folder");
            Err(InputError::new(folder, message).key("--out"))
        }
        _ => Ok(()),
    }
}

/// A run in real time.
pub(in crate::cli) struct LiveRun<'a> {
    pub(in crate::cli) simulation: &'a Simulation,
    /// Where its files go.
    pub(in crate::cli) folder: &'a Path,
    /// The scenario's.
    pub(in crate::cli) file: &'a Path,
    pub(in crate::cli) equipment: &'a Equipment,
    pub(in crate::cli) interrupts: &'a Interrupts,
    pub(in crate::cli) quiet: bool,
    /// Who else is told of everything.
    pub(in crate::cli) also: &'a mut dyn Journal,
}

impl LiveRun<'_> {
    /// Runs to the end, or until Ctrl-C or SIGTERM and what was in is done; writes everything.
    pub(in crate::cli) fn run(&mut self) -> anyhow::Result<Results> {
        #[expect(clippy::disallowed_methods, reason = "wall seconds go to run.json alone")]
        let begun = Instant::now();
        let LiveRun { simulation, folder, file, equipment, interrupts, quiet, also } = self;
        let (folder, quiet) = (*folder, *quiet);
        let (scenario, trace) = (&simulation.scenario, &simulation.inputs.trace.trace);
        let (images, own_store) = (folder.join("images"), folder.join("store"));
        // What an earlier run left there would be taken for this one's; `refuse_foreign` has seen to it that it is one's.
        for old in OWN.map(|name| folder.join(name)) {
            if old.is_dir() {
                std::fs::remove_dir_all(&old).with_context(|| format!("{}: cannot be removed", old.display()))?;
            }
        }
        make_folder(&images)?;
        let strangers = Strangers::OfOtherTenants;
        let Cached { store, warm, warnings, .. } = Cached::open(simulation, equipment, file, &own_store, strangers)?;
        let progress = Rc::new(Progress::real_time(trace.len() as u64, quiet));
        let said = Rc::new(RefCell::new(warnings.clone()));
        for warning in &warnings {
            progress.say(&format!("warning: {warning}"));
        }
        if !quiet {
            progress.say(&format!("loading the models onto {}", names(&equipment.devices)));
        }
        let limits = equipment.limits(Some((&simulation.inputs.profile, &scenario.gpus())));
        let encoder = equipment.embed(&limits)?;
        let setting = setting(scenario, trace, &images, (equipment, limits), &progress, &said)?;
        let mut live = Live::start(setting, store, &initial_allocation(scenario).targets, encoder)?;
        interrupts.end(live.intake());
        let mut records = (Metrics::new(simulation.settings(Keep::Rows, true)), Recorded::new(trace.len(), &warm));
        let ended = write_journal(simulation, &folder.join(JOURNAL), |journal| {
            let mut actions = Vec::new();
            let mut core = scenario.live_core(&simulation.inputs, warm, &mut actions);
            let mut journal = ((&mut records, Counted(&*progress)), (&mut **also, journal));
            for action in actions {
                journal.record(Time::ZERO, Record::Action(&action));
                live.submit(Time::ZERO, &action).map_err(RunError::Executor)?;
            }
            let mut inbox = Paced::new(arrivals(trace), live.intake().ended);
            replay(&mut core, &mut live, &mut inbox, &mut journal)
        })?;
        progress.finish();
        let (failures, lags) = live.finish();
        for failure in &failures {
            eprintln!("warning: {failure}");
        }
        said.borrow_mut().extend(failures);
        let (metrics, recorded) = records;
        let mut results = metrics.finish_run();
        if let Some(delays) = &mut results.summary.delays {
            delays.arrival_lag_s = delay(&lags);
        }
        let (prompts, images) = recorded.rows();
        results.warnings.extend(simulation.live_warnings(&results, prompts, images));
        let files = RunFolder::new(simulation, folder);
        files.write_rows(&results)?;
        files.write(&results, begun.elapsed().as_secs_f64(), &said.borrow())?;
        recorded.write(folder, trace)?;
        gallery::write(folder, trace, &results.requests, &scenario.model_names(), scenario.live.images)?;
        ended?;
        Ok(results)
    }
}

/// The image cache's content as an earlier run left it.
pub(in crate::cli) struct Cached {
    pub(in crate::cli) store: Store,
    /// What the core is to know of it, oldest first.
    pub(in crate::cli) warm: Vec<WarmImage>,
    /// Their numbers in the store and their tenants, where known.
    #[cfg_attr(not(feature = "serve"), expect(dead_code, reason = "the server alone names pictures outside"))]
    pub(in crate::cli) numbers: Vec<(u64, Option<TenantId>)>,
    /// What was wrong and is left out.
    pub(in crate::cli) warnings: Vec<String>,
}

/// Entries of the store that a run leaves aside, on disk, where nobody finds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Strangers {
    /// Entries of tenants that the trace does not name, where tenants are apart.
    OfOtherTenants,
    /// In any scope, entries of tenants that the trace does not name, and entries without a tenant.
    #[cfg_attr(not(feature = "serve"), expect(dead_code, reason = "keys are of a server"))]
    WithoutKnownOwner,
}

impl Cached {
    /// Opens the store that the scenario in `file` names, or else `own`.
    pub(in crate::cli) fn open(
        simulation: &Simulation,
        equipment: &Equipment,
        file: &Path,
        own: &Path,
        strangers: Strangers,
    ) -> Result<Self, InputError> {
        let (scenario, trace) = (&simulation.scenario, &simulation.inputs.trace.trace);
        let place = scenario.live.store.as_ref().map_or(own.to_owned(), |store| Scenario::resolve(file, store));
        let fingerprint = DualEncoder::fingerprint(&equipment.encoder)?;
        let disk = TestableDisk::new(Faults::from_environment());
        let Opened { store, mut found, mut warnings } = Store::open(&place, scenario.live.images, &fingerprint, disk)?;
        warnings.extend(set_strangers_aside(&mut found, strangers, scenario, trace));
        let known = |entry: &Found| entry.tenant.as_ref().and_then(|name| tenant(trace, name));
        let numbers = found.iter().map(|entry| (entry.number, known(entry))).collect();
        for (row, entry) in (0..).zip(&found) {
            store.adopt(ImageId::warm(row), entry);
        }
        let warm = found.into_iter().map(|entry| warm_image(entry, trace)).collect();
        Ok(Self { store, warm, numbers, warnings })
    }
}

/// The tenant of an entry, if the trace names it.
fn tenant(trace: &Trace, name: &str) -> Option<TenantId> {
    let names = trace.columns().tenants.as_ref()?.names();
    names.iter().position(|known| known == name).map(|at| TenantId(at as u32))
}

/// Leaves strangers in the store, and says how many.
fn set_strangers_aside(
    found: &mut Vec<Found>,
    strangers: Strangers,
    scenario: &Scenario,
    trace: &Trace,
) -> Option<String> {
    let named = |entry: &Found| entry.tenant.as_ref().map(|name| tenant(trace, name).is_some());
    let before = found.len();
    match strangers {
        Strangers::OfOtherTenants if scenario.tenants.scope == Scope::Shared => return None,
        Strangers::OfOtherTenants => found.retain(|entry| named(entry) != Some(false)),
        Strangers::WithoutKnownOwner => found.retain(|entry| named(entry) == Some(true)),
    }
    let aside = before - found.len();
    let whose = match strangers {
        Strangers::OfOtherTenants => "of tenants that the trace does not name",
        Strangers::WithoutKnownOwner => "of nobody who has a key",
    };
    (aside > 0).then(|| format!("{aside} entries of the store are {whose}: set aside, nobody finds them"))
}

fn warm_image(entry: Found, trace: &Trace) -> WarmImage {
    let tenant = entry.tenant.and_then(|name| tenant(trace, &name));
    WarmImage { key: entry.key, owner: tenant.map_or(Owner::Public, Owner::Tenant), bytes: None }
}

fn names(devices: &[Device]) -> String {
    let names: BTreeSet<String> = devices.iter().map(Device::to_string).collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

fn setting(
    scenario: &Scenario,
    trace: &Trace,
    images: &Path,
    (equipment, limits): (&Equipment, Limits),
    progress: &Rc<Progress>,
    said: &Rc<RefCell<Vec<String>>>,
) -> anyhow::Result<Setting> {
    let (progress, said) = (progress.clone(), said.clone());
    let tenants = trace.columns().tenants.is_some();
    let tenant = |row| trace.tenant_name(trace.tenant(row)).unwrap_or_default().to_owned();
    let (labels, format) = (file_names(trace), scenario.live.images);
    let images = images.to_owned();
    let book = KnownRequests {
        prompts: (0..trace.len()).map(|row| trace.prompt(row).unwrap_or_default().into()).collect(),
        tenants: tenants.then(|| (0..trace.len()).map(tenant).collect()),
        seed: scenario.seed,
        result: Box::new(move |request: RequestId| images.join(picture_name(&labels[request.row()], format))),
    };
    Ok(Setting {
        book: Box::new(book),
        models: scenario.model_names(),
        paint: equipment.paint(&limits)?,
        stepped: None,
        warn: Box::new(move |message| {
            progress.say(&format!("warning: {message}"));
            said.borrow_mut().push(message.to_owned());
        }),
        away: Setting::AWAY,
        limits,
        isolated: equipment.is_isolated(),
    })
}

pub(super) fn picture_name(label: &str, format: ImageFormat) -> String {
    format!("{label}.{}", format.extension())
}

/// What the picture of each row is called: its request id, if that is a plain file name on any system.
pub(in crate::cli) fn file_names(trace: &Trace) -> Vec<String> {
    let plain = |label: &str| {
        !label.is_empty()
            && label.len() <= 100
            && !label.starts_with(['.', '-'])
            && label.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.'))
    };
    // A made-up name must not be another request's.
    let name = |row| {
        let label = trace.label(row);
        if plain(&label) { label.into_owned() } else { format!("row~{row}") }
    };
    (0..trace.len()).map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedding::Embedding;
    use crate::scenario::Source;
    use crate::trace::Columns;

    #[test]
    fn where_tenants_are_apart_strangers_stay_in_the_store() {
        let entry = |number, tenant: Option<&str>| Found {
            number,
            key: Embedding::normalised(&[1.0]).expect("a direction"),
            tenant: tenant.map(str::to_owned),
            origins: Vec::new(),
        };
        let all = || vec![entry(1, Some("a")), entry(2, Some("x")), entry(3, None), entry(4, Some("b"))];
        let (arrivals, tenants) = (vec![Time::ZERO; 2], Some(["b", "a"].into_iter().collect()));
        let trace = Trace::new(Columns { arrivals, tenants, ..Columns::default() });
        let numbers = |found: &[Found]| found.iter().map(|entry| entry.number).collect::<Vec<_>>();
        let cases = [
            ("shared", Strangers::OfOtherTenants, vec![1, 2, 3, 4]),
            ("tenant", Strangers::OfOtherTenants, vec![1, 3, 4]),
            ("shared", Strangers::WithoutKnownOwner, vec![1, 4]),
            ("tenant", Strangers::WithoutKnownOwner, vec![1, 4]),
        ];
        for (scope, strangers, kept) in cases {
            let text = format!("name = \"a\"\ntrace = {{ requests = \"r.csv\" }}\ntenants.scope = \"{scope}\"\n");
            let scenario = Source::new(Path::new("s.toml"), text).and_then(|source| source.scenario(&[]));
            let mut found = all();
            let said = set_strangers_aside(&mut found, strangers, &scenario.expect("a scenario"), &trace);
            assert_eq!(numbers(&found), kept);
            assert_eq!(said.is_some(), kept.len() < 4);
        }
        let owners: Vec<Owner> = all().into_iter().map(|entry| warm_image(entry, &trace).owner).collect();
        let [a, b] = [1, 0].map(|number| Owner::Tenant(TenantId(number)));
        assert_eq!(owners, [a, Owner::Public, Owner::Public, b], "whom the trace does not name, nobody is");
    }
}
