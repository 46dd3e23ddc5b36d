//! Rate of arrivals that offers a load, found by simulations of a rehearsal's requests at many rates.

use super::experiment::LiveOutcome;
use super::simulated::{Prediction, simulation};
use crate::experiments::ExperimentError;
use crate::metrics::Keep;
use crate::profile::ProfileFile;
use crate::scenario::Source;

/// Number of halvings of the range in which the gap is searched. The gap is then known to a millionth.
const HALVINGS: u32 = 24;

/// Returns the mean seconds between arrivals at which the rehearsal's requests ask for the share `load` of the workers'
/// time. If the cache is to be `warm`, only the second half of the requests arrives, and the first half is in the
/// cache.
pub(super) fn gap_for(
    load: f64,
    rehearsal: &LiveOutcome,
    warm: bool,
    profile: &ProfileFile,
    source: &Source,
) -> Result<f64, ExperimentError> {
    let before = if warm { rehearsal.results.requests.len() as u32 / 2 } else { 0 };
    let base = simulation(rehearsal, before, source)?;
    let prediction = Prediction::new(&base, profile, 1.0)?;
    let mean_gap_s = base.inputs.trace.trace.mean_rate_per_min().map_or(0.0, |rate| 60.0 / rate);
    let offered = |stretch: f64| -> Result<f64, ExperimentError> {
        let mut run = base.clone();
        run.inputs.trace = std::sync::Arc::new(base.inputs.trace.stretched(stretch));
        let span_s = run.inputs.trace.trace.arrivals().last().map_or(0.0, |last| last.seconds());
        let results = run.run_with(prediction.latency(0), Keep::Nothing, ())?;
        let busy_s: f64 = results.workers.iter().map(|worker| worker.busy.seconds()).sum();
        Ok(busy_s / (span_s * results.workers.len() as f64))
    };
    // The faster requests arrive, the more of the time they ask for.
    let (mut fast, mut slow) = (1.0 / 64.0, 64.0);
    for _ in 0..HALVINGS {
        // The ends are factors, so the middle is their geometric mean.
        let middle = f64::sqrt(fast * slow);
        if offered(middle)? > load { fast = middle } else { slow = middle }
    }
    Ok(f64::sqrt(fast * slow) * mean_gap_s)
}
