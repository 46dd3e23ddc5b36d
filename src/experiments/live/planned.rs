//! Several live runs in turn, one for each variant of a scenario. All are checked before the first begins.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use super::{Equipment, Fit, LiveRun, asks, prepare, refuse_foreign};
use crate::experiments::{ExperimentError, Progress};
use crate::input::InputError;
use crate::live::interrupts::Interrupts;
use crate::live::library::Library;
use crate::metrics::warnings::Warning;
use crate::scenario::{Override, Scenario, Source, TraceInputs, Variant};
use crate::simulation::Simulation;

/// Run that was checked and is still to come.
#[derive(Debug)]
pub struct PlannedRun {
    /// Name of the variant, or of the scenario.
    pub name: String,
    /// Folder for the files of the run, relative to the folder of the command.
    pub folder: PathBuf,
    /// Simulation of the run, with all of its inputs.
    pub simulation: Simulation,
    equipment: Equipment,
}

/// Live run that was made. Its measures are in its folder.
#[derive(Debug)]
pub struct MadeRun {
    /// Name of the variant, or of the scenario.
    pub name: String,
    /// Folder with the files of the run, relative to the folder of the command.
    pub folder: PathBuf,
    /// Seed of the run.
    pub seed: u64,
    /// Warnings for a reader.
    pub warnings: Vec<Warning>,
    /// Stand-ins that the run used.
    pub stand_ins: Vec<String>,
}

impl PlannedRun {
    /// Returns the folder of the run in the folder `out` of the command.
    fn place(&self, out: &Path) -> PathBuf {
        // A path that is joined to an empty one would end in a slash.
        if self.folder.as_os_str().is_empty() { out.to_owned() } else { out.join(&self.folder) }
    }
}

/// Reads and checks the inputs of the runs of these variants, or of the scenario itself if there are none. Runs of one
/// trace share it. Refuses an `out` with folders that a run would replace and that no live run has left.
///
/// # Errors
/// Returns an error if an input, a model or a device cannot be used, or if a folder holds something else.
pub fn plan(
    source: &Source,
    sets: &[Override],
    variants: &[Variant],
    library: &Library,
    allow_cpu: bool,
    out: &Path,
    progress: &dyn Progress,
) -> Result<Vec<PlannedRun>, InputError> {
    let mut planned = Vec::new();
    let mut trace: Option<(Scenario, Arc<TraceInputs>)> = None;
    let chosen: Vec<Option<&Variant>> =
        if variants.is_empty() { vec![None] } else { variants.iter().map(Some).collect() };
    for variant in &chosen {
        let own = variant.iter().flat_map(|variant| Source::variant_overrides(variant));
        let overrides: Vec<Override> = sets.iter().cloned().chain(own).collect();
        let scenario = source.scenario(&overrides)?;
        let known = trace.as_ref().filter(|(other, _)| other.same_trace(&scenario)).map(|(_, trace)| trace.clone());
        let simulation = prepare(source, &overrides, scenario.clone(), known, chosen.len() > 1)?;
        let name = variant.map_or(&scenario.name, |variant| &variant.name).clone();
        let folder = variant.map_or_else(PathBuf::new, |variant| PathBuf::from(&variant.name));
        trace = Some((scenario, simulation.inputs.trace.clone()));
        let equipment = Equipment::find(&simulation.scenario, source.file(), library, allow_cpu, progress);
        let equipment = equipment.map_err(|error| source.place(error, &overrides))?;
        let trace_of_run = &simulation.inputs.trace.trace;
        asks::check(trace_of_run, &simulation.scenario, source.file(), &equipment)
            .map_err(|error| source.place(error, &overrides))?;
        planned.push(PlannedRun { name, folder, simulation, equipment });
    }
    planned.iter().try_for_each(|run| refuse_foreign(&run.place(out)))?;
    Ok(planned)
}

/// Makes these runs one after the other, and writes the files of each to its folder in `out`. `fit` is what was
/// measured for their rates. After an interruption, the runs that are still to come are left out.
///
/// # Errors
/// Returns an error if a run cannot begin or continue, or if a file cannot be written.
pub fn run_all(
    planned: Vec<PlannedRun>,
    out: &Path,
    source: &Source,
    interrupts: &Interrupts,
    fit: Option<&Fit>,
    progress: &Rc<dyn Progress>,
) -> Result<Vec<MadeRun>, ExperimentError> {
    let several = planned.len() > 1;
    let mut made = Vec::new();
    for run in planned {
        let place = run.place(out);
        let PlannedRun { name, folder, simulation, equipment } = run;
        if interrupts.heard() {
            progress.say(&format!("warning: {name} was not begun"));
            continue;
        }
        if several {
            progress.say(&format!("{name}:"));
        }
        let mut run = LiveRun {
            simulation: &simulation,
            folder: &place,
            file: source.file(),
            equipment: &equipment,
            interrupts,
            fit,
            progress: progress.clone(),
            also: &mut (),
        };
        let results = run.run().map_err(ExperimentError::within(name.clone()))?;
        let (seed, stand_ins) = (simulation.scenario.seed, simulation.stand_ins());
        made.push(MadeRun { name, folder, seed, warnings: results.warnings, stand_ins });
    }
    Ok(made)
}
