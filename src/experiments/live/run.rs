//! One run in real time, and its files.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;

use super::recorded::Recorded;
use super::{Cached, Equipment, Fit, Staff, Strangers, asks, gallery};
use crate::experiments::{Counted, ExperimentError, Progress, Watched, Watching};
use crate::input::InputError;
use crate::journal::{Journal, Record};
use crate::live::executor::{KnownRequests, Live, Paced, Setting};
use crate::live::interrupts::Interrupts;
use crate::live::limits::Limits;
use crate::live::settings::Device;
use crate::metrics::real_time::delay;
use crate::metrics::{Keep, Metrics, Results};
use crate::model::{GpuId, ModelId};
use crate::output::make_folder;
use crate::replay::{Executor, RunError, replay};
use crate::request::RequestId;
use crate::run_folder::{JOURNAL, RunFolder, WallTime, write_journal};
use crate::scenario::{Scenario, arrivals, initial_allocation};
use crate::simulation::Simulation;
use crate::time::{Duration, Time};
use crate::trace::Trace;

use super::names::{file_names, picture_name};

/// Names of the folders of a live run. The next live run in the same place removes them and makes them anew.
const OWN: [&str; 3] = ["images", "trace", "store"];

/// Refuses a folder that has subfolders named like those of a live run, but no journal of a live run. The subfolders
/// belong to something else, and a live run would replace them.
///
/// # Errors
/// Returns an error if there are such subfolders.
pub fn refuse_foreign(folder: &Path) -> Result<(), InputError> {
    let ours = [JOURNAL.to_owned(), format!("{JOURNAL}.partial")].iter().any(|name| folder.join(name).is_file());
    match OWN.iter().find(|name| folder.join(name).is_dir()) {
        Some(name) if !ours => {
            let message = format!("holds a folder `{name}` that no live run has left: choose another folder");
            Err(InputError::new(folder, message).key("--out"))
        }
        _ => Ok(()),
    }
}

/// Run in real time.
pub struct LiveRun<'a> {
    /// Scenario, trace and profile.
    pub simulation: &'a Simulation,
    /// Folder for the files of the run.
    pub folder: &'a Path,
    /// File of the scenario.
    pub file: &'a Path,
    /// Models, encoder and devices.
    pub equipment: &'a Equipment,
    /// Signals that end the run.
    pub interrupts: &'a Interrupts,
    /// Measurement that the rates of the trace were fitted to, for `run.json`.
    pub fit: Option<&'a Fit>,
    /// Receiver of progress and warnings.
    pub progress: Rc<dyn Progress>,
    /// Further journal, which records every event and action.
    pub also: &'a mut dyn Journal,
}

impl std::fmt::Debug for LiveRun<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveRun").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl LiveRun<'_> {
    /// Runs to the end, and writes all files. After Ctrl-C or SIGTERM, only the requests that have arrived are
    /// finished.
    ///
    /// # Errors
    /// Returns an error if the run cannot begin or continue, or if a file cannot be written.
    ///
    /// # Panics
    /// Never, because a journal that is written to a file always has an end.
    pub fn run(&mut self) -> Result<Results, ExperimentError> {
        let begun = WallTime::begin();
        let LiveRun { simulation, folder, file, equipment, interrupts, fit, progress, also } = self;
        let folder = *folder;
        let (scenario, trace) = (&simulation.scenario, &simulation.inputs.trace.trace);
        // Runs of `validate` are not planned one by one.
        asks::check(trace, scenario, file, equipment)?;
        let limits = equipment.limits(Some((&simulation.inputs.profile, &scenario.gpus())));
        if let Some(cluster) = &equipment.cluster {
            progress.say(&format!("waiting for {} workers at {}", scenario.workers(), cluster.url));
        }
        // Before anything is written: there may be no cluster.
        let staff = equipment.staff(scenario, &limits, true, progress.anywhere())?;
        let (images, own_store) = (folder.join("images"), folder.join("store"));
        // Files of an earlier run would be taken for files of this one. `refuse_foreign` has checked that the folders
        // are a live run's.
        for old in OWN.map(|name| folder.join(name)) {
            if old.is_dir() {
                std::fs::remove_dir_all(&old).map_err(ExperimentError::file(&old, "cannot be removed"))?;
            }
        }
        make_folder(&images)?;
        let strangers = Strangers::OfOtherTenants;
        let mut numbering = trace.numbering(&scenario.key_rule());
        let opened = Cached::open(simulation, equipment, file, &own_store, strangers, &mut numbering)?;
        let Cached { store, warm, warnings, .. } = opened;
        progress.run_begins(trace.len() as u64);
        let said = Rc::new(RefCell::new(warnings.clone()));
        for warning in &warnings {
            progress.say(&format!("warning: {warning}"));
        }
        if equipment.cluster.is_none() {
            progress.say(&format!("loading the models onto {}", names(&equipment.devices)));
        }
        if let Some(elsewhere) = &staff.elsewhere {
            elsewhere.give_sources(store.sources());
        }
        let encoder = equipment.embed(&limits)?;
        let setting = setting(scenario, trace, &images, (equipment, staff, limits), progress, &said);
        let mut live = Live::start(setting, store, &initial_allocation(scenario).targets, encoder)?;
        interrupts.end(live.intake());
        let mut records = (Metrics::new(simulation.settings(Keep::Rows, true)), Recorded::new(trace.len(), &warm));
        let ended = write_journal(simulation, &folder.join(JOURNAL), |journal| {
            let mut actions = Vec::new();
            let mut core = scenario.of_size(equipment.palette.size).live_core(&simulation.inputs, warm, &mut actions);
            let mut watching = Watching::new(watched(simulation), &**progress);
            let mut journal = ((&mut records, Counted(&**progress)), ((&mut **also, watching.as_mut()), journal));
            for action in actions {
                journal.record(Time::ZERO, Record::Action(&action));
                live.submit(Time::ZERO, &action).map_err(RunError::Executor)?;
            }
            let mut inbox = Paced::new(arrivals(trace), live.intake().ended);
            replay(&mut core, &mut live, &mut inbox, &mut journal)
        })?;
        progress.run_ends();
        let (failures, lags) = live.finish();
        for failure in &failures {
            progress.say(&format!("warning: {failure}"));
        }
        said.borrow_mut().extend(failures);
        let (metrics, recorded) = records;
        let mut results = metrics.finish_run();
        if let Some(delays) = &mut results.summary.delays {
            delays.arrival_lag_s = delay(&lags);
        }
        let (prompts, images) = recorded.rows();
        results.warnings.extend(simulation.live_warnings(&results, prompts, images));
        let files = RunFolder::new(simulation, folder).noting(fit.map(|fit| ("fit", fit.json())));
        files.write_rows(&results)?;
        files.write(&results, begun.seconds(), &said.borrow())?;
        recorded.write(folder, trace)?;
        gallery::write(folder, trace, &results.requests, &scenario.model_names(), scenario.live.images)?;
        // A run that failed leaves its files too, so its error is returned only now.
        ended?;
        Ok(results)
    }
}

/// Returns what the figures of a run rest on.
fn watched(simulation: &Simulation) -> Watched {
    let (scenario, trace) = (&simulation.scenario, &simulation.inputs.trace.trace);
    let steps = scenario.models.large_steps();
    let full_s = simulation.inputs.profile.full_generation_s(GpuId(0), ModelId::LARGE, steps);
    let multiple = scenario.slo.multiples.first().copied().unwrap_or(2.0);
    Watched {
        models: scenario.model_names(),
        targets: initial_allocation(scenario).targets,
        slo: (Duration::from_seconds_saturating(multiple * full_s), multiple),
        requests: trace.len() as u64,
        last: trace.arrivals().last().copied().unwrap_or_default(),
    }
}

fn names(devices: &[Device]) -> String {
    let names: BTreeSet<String> = devices.iter().map(Device::to_string).collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

fn setting(
    scenario: &Scenario,
    trace: &Trace,
    images: &Path,
    (equipment, staff, limits): (&Equipment, Staff, Limits),
    progress: &Rc<dyn Progress>,
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
        details: asks::details(trace, &equipment.checkpoints),
        seed: scenario.seed,
        result: Box::new(move |request: RequestId| images.join(picture_name(&labels[request.row()], format))),
    };
    Setting {
        book: Box::new(book),
        models: scenario.model_names(),
        checkpoints: equipment.checkpoints.clone(),
        size: equipment.palette.size,
        paint: staff.paint,
        stepped: None,
        warn: Box::new(move |message| {
            progress.say(&format!("warning: {message}"));
            said.borrow_mut().push(message.to_owned());
        }),
        away: Setting::AWAY,
        limits,
        elsewhere: staff.elsewhere,
        isolated: staff.isolated,
    }
}
