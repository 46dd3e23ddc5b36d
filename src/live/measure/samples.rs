//! Samples of a model's times, by job, so that several rounds of measurements can be joined; and their statistics.

use std::collections::BTreeMap;

/// Samples of the jobs of one batch size.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    /// Number of pictures drawn together.
    pub batch: u32,
    /// Seconds of a step: the mean of each job.
    pub steps: Vec<f64>,
    /// Seconds of every step.
    pub spans: Vec<f64>,
    /// Seconds of the model alone in its session: the mean of as many runs as a job has steps, in turns with the jobs.
    /// The rest of a step's time is the cost of this program.
    pub bare: Vec<f64>,
    /// Seconds of each job beyond its steps: reading a source, text encoding, noise, autoencoder.
    pub overheads: Vec<f64>,
    /// Seconds of each job.
    pub totals: Vec<f64>,
}

/// Measurements of a model on a device, over all rounds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// Seconds of each load, with the files cached by the system.
    pub loads: Vec<f64>,
    /// Seconds of each load after another model that shares parts, by the place of that model among the models.
    pub loads_after: BTreeMap<usize, Vec<f64>>,
    /// Growth of the process over the first load and the jobs of the first round, in MB (10^6 bytes). `None` if the
    /// growth is below 1 MB or not known, and on a GPU, whose memory is not seen here.
    pub memory_mb: Option<f64>,
    /// Samples by batch size.
    pub points: Vec<Samples>,
}

impl Samples {
    /// Returns the cost of the loop around the model: the median ratio of a job's step to a run of the model alone.
    #[must_use]
    pub fn step_ratio(&self) -> f64 {
        median(&self.steps.iter().zip(&self.bare).map(|(step, bare)| step / bare).collect::<Vec<_>>())
    }

    fn extend(&mut self, later: Self) {
        self.steps.extend(later.steps);
        self.spans.extend(later.spans);
        self.bare.extend(later.bare);
        self.overheads.extend(later.overheads);
        self.totals.extend(later.totals);
    }
}

impl Measured {
    /// Adds the measurements of a later round, of the same model at the same batch sizes.
    pub fn extend(&mut self, later: Self) {
        if self.points.is_empty() {
            *self = later;
            return;
        }
        self.loads.extend(later.loads);
        for (other, loads) in later.loads_after {
            self.loads_after.entry(other).or_default().extend(loads);
        }
        for (own, other) in self.points.iter_mut().zip(later.points) {
            own.extend(other);
        }
    }
}

/// Returns the mean, or 0 if there are no values.
#[must_use]
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Returns the median, or 0 if there are no values.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

/// Returns the standard deviation divided by the mean, or 0 if the mean is not above 0.
#[must_use]
pub fn variation(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    if mean > 0.0 { (squares / values.len() as f64).sqrt() / mean } else { 0.0 }
}

/// Returns the variation without the largest tenth of the values: a pause of the host does not belong to the model.
#[must_use]
pub fn usual_variation(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.truncate(sorted.len() - sorted.len() / 10);
    variation(&sorted)
}
