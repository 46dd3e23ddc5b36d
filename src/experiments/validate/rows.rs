//! Live runs beside their simulations, as data.

use crate::metrics::fidelity::Compared;
use crate::metrics::summary::Summary;
use crate::time::Duration;

/// What a simulation was fed with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Level {
    /// The durations of the live run itself: what is left is the model of the loop.
    Measured,
    /// The profile alone: a prediction.
    Profile,
    /// The profile with every service time this many times as long, as the run's own were in the mean: what is left
    /// of the prediction's error once the machine was as fast as it was.
    Rescaled(f64),
}

/// A live run beside its simulations at one level.
#[derive(Clone, Debug)]
pub struct ValidatedRun {
    /// Offered load as a share of the workers' time; `None` for the trace as it is.
    pub load: Option<f64>,
    /// The trace's.
    pub seed: u64,
    /// What the simulations were fed with.
    pub level: Level,
    /// Measure by measure.
    pub rows: Vec<Compared>,
    /// Seconds by which the request that differs most differs.
    pub greatest_difference_s: f64,
    /// Of the simulations, all together.
    pub latencies: Vec<Duration>,
    /// Of the live run, rising.
    pub live_latencies: Vec<Duration>,
    /// Of the live run.
    pub live: Summary,
}

impl Level {
    /// As files have it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::Profile => "profile",
            Self::Rescaled(_) => "rescaled",
        }
    }

    /// What the service times are multiplied by, where they are.
    #[must_use]
    pub const fn factor(self) -> Option<f64> {
        match self {
            Self::Rescaled(factor) => Some(factor),
            Self::Measured | Self::Profile => None,
        }
    }
}

impl ValidatedRun {
    /// Returns a measure.
    #[must_use]
    pub fn row(&self, name: &str) -> Option<&Compared> {
        self.rows.iter().find(|row| row.name == name)
    }
}
