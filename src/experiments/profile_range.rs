//! Measures at the ends of the range that a profile leaves open, from runs with longer and shorter service times.

use super::{Counted, ExperimentError, Progress, spread};
use crate::metrics::profile_range::{Headlines, ProfileRange};
use crate::profile::End;
use crate::simulation::Simulation;

/// Returns the number of runs that [`profile_range`] takes.
#[must_use]
pub fn runs_of_range(simulation: &Simulation) -> u64 {
    if simulation.inputs.profile.spread().share > 0.0 { End::ALL.len() as u64 } else { 0 }
}

/// Makes the runs at the ends of the range that the profile leaves open, `threads` at a time; `None` if the profile
/// leaves nothing open.
///
/// # Errors
/// Returns an error if a run cannot come to an end.
pub fn profile_range(
    simulation: &Simulation,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Option<ProfileRange>, ExperimentError> {
    let profile = &simulation.inputs.profile;
    if runs_of_range(simulation) == 0 {
        return Ok(None);
    }
    let run = |end: &End| Ok(Headlines::of_run(&simulation.at_end(*end).run_once(Counted(progress))?.summary));
    let found: Vec<Result<Headlines, ExperimentError>> =
        if threads == 1 { End::ALL.iter().map(run).collect() } else { spread(&End::ALL, threads, run)? };
    Ok(Some(ProfileRange::new(profile, found.into_iter().collect::<Result<Vec<_>, _>>()?)))
}
