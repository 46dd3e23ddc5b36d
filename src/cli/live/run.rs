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
use super::super::run::Prepared;
use super::interrupts::Interrupts;
use super::recorded::Recorded;
use super::{LibraryArguments, gallery, named};
use crate::cache::Scope;
use crate::image::ImageId;
use crate::input::InputError;
use crate::journal::{Journal, Record};
use crate::live::encoder::DualEncoder;
use crate::live::error::Error;
use crate::live::executor::{KnownRequests, Live, Paced, Setting};
use crate::live::library::Library;
use crate::live::painter::{Painter, Palette};
use crate::live::pipeline::{check, picture_size, size_multiple};
use crate::live::settings::{Device, ImageFormat};
use crate::live::store::{Found, Opened, RealDisk, Store};
use crate::live::worker::Paint;
use crate::metrics::real_time::delay;
use crate::metrics::{Metrics, Results};
use crate::replay::{Executor, replay};
use crate::request::{Owner, RequestId, TenantId};
use crate::scenario::{Scenario, arrivals, initial_allocation};
use crate::scheduler::{WarmImage, WorkerId};
use crate::time::Time;
use crate::trace::Trace;

/// The models, the encoder and the devices of a run, found and checked.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Equipment {
    pub(in crate::cli) library: Library,
    pub(in crate::cli) devices: Vec<Device>,
    pub(in crate::cli) palette: Arc<Palette>,
    pub(in crate::cli) encoder: PathBuf,
    pub(in crate::cli) encoder_device: Device,
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
        Ok(Self { library: library.clone(), devices, palette: Arc::new(palette), encoder, encoder_device })
    }

    /// Makes the workers.
    pub(in crate::cli) fn paint(&self) -> Box<dyn Fn(WorkerId) -> Box<dyn Paint>> {
        let (library, devices, palette) = (self.library.clone(), self.devices.clone(), self.palette.clone());
        Box::new(move |worker| Box::new(Painter::new(library.clone(), devices[worker.index()], palette.clone())))
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
    pub(in crate::cli) prepared: &'a Prepared,
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
    /// Runs to the end, or until Ctrl-C and what was in is done; writes everything.
    pub(in crate::cli) fn run(&mut self) -> anyhow::Result<Results> {
        #[expect(clippy::disallowed_methods, reason = "wall seconds go to run.json alone")]
        let begun = Instant::now();
        let LiveRun { prepared, folder, file, equipment, interrupts, quiet, also } = self;
        let (folder, quiet) = (*folder, *quiet);
        let (scenario, trace) = (&prepared.scenario, &prepared.inputs.trace.trace);
        let (images, own_store) = (folder.join("images"), folder.join("store"));
        // What an earlier run left there would be taken for this one's; `refuse_foreign` has seen to it that it is one's.
        for old in OWN.map(|name| folder.join(name)) {
            if old.is_dir() {
                std::fs::remove_dir_all(&old).with_context(|| format!("{}: cannot be removed", old.display()))?;
            }
        }
        make_folder(&images)?;
        let Cached { store, warm, warnings, .. } = Cached::open(prepared, equipment, file, &own_store)?;
        let progress = Rc::new(Progress::real_time(trace.len() as u64, quiet));
        let said = Rc::new(RefCell::new(warnings.clone()));
        for warning in &warnings {
            progress.say(&format!("warning: {warning}"));
        }
        if !quiet {
            progress.say(&format!("loading the models onto {}", names(&equipment.devices)));
        }
        let encoder = DualEncoder::open(&equipment.library, &equipment.encoder, equipment.encoder_device)?;
        let setting = setting(scenario, trace, &images, equipment, &progress, &said);
        let mut live = Live::start(setting, store, &initial_allocation(scenario).targets, Box::new(encoder))?;
        interrupts.end(live.intake());
        let mut records = (Metrics::new(prepared.settings(true, true)), Recorded::new(trace.len(), &warm));
        let ended = prepared.with_journal(&folder.join(JOURNAL), |journal| {
            let mut actions = Vec::new();
            let mut core = scenario.live_core(&prepared.inputs, warm, &mut actions);
            let mut journal = ((&mut records, &*progress), (&mut **also, journal));
            for action in actions {
                journal.record(Time::ZERO, Record::Action(&action));
                let Ok(()) = live.submit(Time::ZERO, action);
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
        prepared.write(folder, &results, begun.elapsed().as_secs_f64(), &said.borrow())?;
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
    /// Their numbers in the store.
    pub(in crate::cli) numbers: Vec<u64>,
    /// What was wrong and is left out.
    pub(in crate::cli) warnings: Vec<String>,
}

impl Cached {
    /// Opens the store that the scenario in `file` names, or else `own`.
    pub(in crate::cli) fn open(
        prepared: &Prepared,
        equipment: &Equipment,
        file: &Path,
        own: &Path,
    ) -> Result<Self, InputError> {
        let (scenario, trace) = (&prepared.scenario, &prepared.inputs.trace.trace);
        let place = scenario.live.store.as_ref().map_or(own.to_owned(), |store| Scenario::resolve(file, store));
        let fingerprint = DualEncoder::fingerprint(&equipment.encoder)?;
        let Opened { store, mut found, mut warnings } =
            Store::open(&place, scenario.live.images, &fingerprint, RealDisk)?;
        warnings.extend(set_strangers_aside(&mut found, scenario, trace));
        let numbers: Vec<u64> = found.iter().map(|entry| entry.number).collect();
        for (row, number) in (0..).zip(&numbers) {
            store.adopt(ImageId::warm(row), *number);
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

/// Where tenants are apart, entries of those that this trace does not name stay in the store, and nobody finds them.
fn set_strangers_aside(found: &mut Vec<Found>, scenario: &Scenario, trace: &Trace) -> Option<String> {
    if scenario.tenants.scope == Scope::Shared {
        return None;
    }
    let before = found.len();
    found.retain(|entry| entry.tenant.as_ref().is_none_or(|name| tenant(trace, name).is_some()));
    let aside = before - found.len();
    (aside > 0).then(|| format!("{aside} entries of the store are of tenants that the trace does not name: set aside"))
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
    equipment: &Equipment,
    progress: &Rc<Progress>,
    said: &Rc<RefCell<Vec<String>>>,
) -> Setting {
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
    Setting {
        book: Box::new(book),
        models: scenario.model_names(),
        paint: equipment.paint(),
        stepped: None,
        warn: Box::new(move |message| {
            progress.say(&format!("warning: {message}"));
            said.borrow_mut().push(message.to_owned());
        }),
        away: Setting::AWAY,
    }
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
        for (scope, kept) in [("shared", vec![1, 2, 3, 4]), ("tenant", vec![1, 3, 4])] {
            let text = format!("name = \"a\"\ntrace = {{ requests = \"r.csv\" }}\ntenants.scope = \"{scope}\"\n");
            let scenario = Source::new(Path::new("s.toml"), text).and_then(|source| source.scenario(&[]));
            let mut found = all();
            let said = set_strangers_aside(&mut found, &scenario.expect("a scenario"), &trace);
            assert_eq!(numbers(&found), kept);
            assert_eq!(said.is_some(), scope == "tenant");
        }
        let owners: Vec<Owner> = all().into_iter().map(|entry| warm_image(entry, &trace).owner).collect();
        let [a, b] = [1, 0].map(|number| Owner::Tenant(TenantId(number)));
        assert_eq!(owners, [a, Owner::Public, Owner::Public, b], "whom the trace does not name, nobody is");
    }
}
