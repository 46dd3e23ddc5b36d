//! Profiling: times of a scenario's models on its devices, by themselves and while all the work of a live run goes on.

use std::path::Path;
use std::rc::Rc;

use super::live::Equipment;
use super::{ExperimentError, Progress};
use crate::input::InputError;
use crate::live::library::Library;
use crate::live::measure::Plan;
use crate::output::refuse_file;
use crate::profile::ProfileFile;
use crate::scenario::{Scenario, Source};

mod measurements;
mod under_load;

pub use measurements::{Measurements, NEIGHBOURS};

/// Least number of denoising steps. A refiner runs half of them, and a step is measured between two others.
const LEAST_STEPS: u32 = 4;

/// Number of model loads to measure in all rounds together; at least two in each round.
const LOADS: u32 = 5;

/// Measurements to make.
#[derive(Clone, Debug)]
pub struct Question {
    /// Batch sizes; 1 is always measured.
    pub batches: Vec<u32>,
    /// Number of jobs of each kind.
    pub jobs: u32,
    /// Number of rounds over which the jobs are spread, so that a slow minute of the machine affects all kinds alike;
    /// at least one is made.
    pub rounds: u32,
}

/// Checks the file for the profile and the number of steps, so that errors do not show after minutes of measuring.
///
/// # Errors
/// Returns an error if the file exists and `force` is false, if its folder does not exist, or if a generation has too
/// few steps.
pub fn check(out: &Path, force: bool, scenario: &Scenario, source: &Source) -> Result<(), InputError> {
    refuse_file(out, force)?;
    let folder = folder_of(out);
    if !folder.is_dir() {
        return Err(InputError::new(folder, "is no folder: make it, or choose another").key("--out"));
    }
    check_steps(scenario, source)
}

/// Checks that every generation has enough steps to measure one.
///
/// # Errors
/// Returns an error if a generation has too few steps.
pub fn check_steps(scenario: &Scenario, source: &Source) -> Result<(), InputError> {
    let steps = scenario.model_names().into_iter().map(|name| scenario.models.steps_of(&name));
    if let Some(few) = steps.min().filter(|steps| *steps < LEAST_STEPS) {
        let message = format!("expected at least {LEAST_STEPS}: a step is measured between two");
        return Err(InputError::new(source.file(), message).value("models.steps", few));
    }
    Ok(())
}

/// Returns the folder of a file; that of the process for a file without a folder.
fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// Measures the models and the encoder of a scenario. Returns the profile for `out`, and warnings for a reader. Live
/// runs that are part of the measurement keep their files beside `out` while they last.
///
/// # Errors
/// Returns an error if a model does not load or does not draw.
pub fn measure(
    scenario: &Scenario,
    equipment: &Equipment,
    question: &Question,
    out: &Path,
    progress: &Rc<dyn Progress>,
) -> Result<(ProfileFile, Vec<String>), ExperimentError> {
    let (Question { batches, jobs, .. }, rounds) = (question, question.rounds.max(1));
    let plan = Plan {
        steps: scenario.models.large_steps(),
        jobs: jobs.div_ceil(rounds),
        loads: LOADS.div_ceil(rounds).max(2),
        prompts: PROMPTS.map(str::to_owned).to_vec(),
    };
    let mut batches = [batches.as_slice(), &[1]].concat();
    batches.sort_unstable();
    batches.dedup();
    let mut measured = Measurements::default();
    for round in 1..=rounds {
        let say = |what: &str| progress.say(&format!("round {round} of {rounds}: {what}"));
        measured.round(scenario, equipment, &batches, &plan, &say)?;
        say("all that a live run does");
        measured.under_load(scenario, equipment, plan.jobs, folder_of(out), progress)?;
    }
    Ok(measured.profile(scenario, &source_of(&equipment.library)))
}

/// Returns the source of measurements in words: this program, the library of ONNX Runtime, and the machine.
#[must_use]
pub fn source_of(library: &Library) -> String {
    format!(
        "modm {} profile, commit {}, {}, {}",
        env!("CARGO_PKG_VERSION"),
        env!("MODM_COMMIT"),
        library.build(),
        host()
    )
}

/// Prompts that any of the models can draw.
pub const PROMPTS: [&str; 3] = [
    "a large red star at the center on a blue background",
    "a green square above a yellow circle on a white background",
    "a small blue heart at the top left on a gray background",
];

/// Returns the processor and the number of threads, as far as the system states them.
fn host() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name.trim().to_owned()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{} with {threads} threads", name.unwrap_or_else(|| std::env::consts::ARCH.to_owned()))
}
