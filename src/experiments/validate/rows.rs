//! Live runs beside their simulations, as data.

use crate::metrics::fidelity::Compared;
use crate::metrics::summary::Summary;
use crate::time::Duration;

/// Source of the durations in a simulation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Level {
    /// Durations of the live run itself. The error that is left is that of the model of the loop.
    Measured,
    /// Durations of the profile alone: a prediction.
    Profile,
    /// Durations of the profile with every service time this many times as long, so that their mean is that of the run.
    /// The error that is left is the prediction's own, without the part that comes from the speed of the machine at
    /// that time.
    Rescaled(f64),
}

/// Live run beside its simulations at one level.
#[derive(Clone, Debug)]
pub struct ValidatedRun {
    /// Offered load as a share of the workers' time; `None` for the trace as it is.
    pub load: Option<f64>,
    /// Seed of the trace.
    pub seed: u64,
    /// Source of the durations in the simulations.
    pub level: Level,
    /// Comparisons, one for each measure.
    pub rows: Vec<Compared>,
    /// Largest difference between the latencies of a request live and simulated, in seconds.
    pub greatest_difference_s: f64,
    /// Latencies of all simulations together.
    pub latencies: Vec<Duration>,
    /// Latencies of the live run, rising.
    pub live_latencies: Vec<Duration>,
    /// Measures of the live run.
    pub live: Summary,
}

impl Level {
    /// Returns the name of the level in files.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::Profile => "profile",
            Self::Rescaled(_) => "rescaled",
        }
    }

    /// Returns the factor on the service times; `None` if they are not multiplied.
    #[must_use]
    pub const fn factor(self) -> Option<f64> {
        match self {
            Self::Rescaled(factor) => Some(factor),
            Self::Measured | Self::Profile => None,
        }
    }
}

impl ValidatedRun {
    /// Returns the comparison of a measure.
    #[must_use]
    pub fn row(&self, name: &str) -> Option<&Compared> {
        self.rows.iter().find(|row| row.name == name)
    }
}
