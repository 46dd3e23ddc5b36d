//! One run of an experiment, with all of its files.

use std::path::Path;

use super::{Counted, ExperimentError, Progress, profile_range};
use crate::metrics::Results;
use crate::run_folder::{RunFolder, WallTime};
use crate::simulation::Simulation;

/// Makes a run, and writes its files to `folder`, its journal among them if `journal` is true. `range` is the number of
/// threads for the runs at the ends of the range that the profile leaves open; these runs are left out if it is `None`.
/// The time that `run.json` states counts from `begun`.
///
/// # Errors
/// Returns an error if a run cannot come to an end, or if a file cannot be written.
pub fn write_run(
    simulation: &Simulation,
    folder: &Path,
    journal: bool,
    range: Option<usize>,
    begun: WallTime,
    progress: &dyn Progress,
) -> Result<Results, ExperimentError> {
    let folder = RunFolder::new(simulation, folder);
    let counted = Counted(progress);
    let mut results = if journal { folder.run_with_journal(counted)? } else { folder.run(counted)? };
    if let Some(threads) = range {
        results.summary.profile_range = profile_range(simulation, threads, progress)?;
    }
    folder.write(&results, begun.seconds(), &[])?;
    Ok(results)
}
