//! What was measured of a model, job by job, so that rounds of measuring can be put together; and what it amounts to.

/// Jobs of one batch size.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    /// Pictures drawn together.
    pub batch: u32,
    /// Seconds of a step, the mean of each job.
    pub steps: Vec<f64>,
    /// Seconds of every step.
    pub spans: Vec<f64>,
    /// Seconds of the model alone in its session, run as often in turns with the jobs: what of a step is not ours.
    pub bare: Vec<f64>,
    /// Seconds of each job beyond its steps: reading a source, texts, noise, autoencoder.
    pub overheads: Vec<f64>,
    /// Seconds of each job.
    pub totals: Vec<f64>,
}

/// A model on a device, over all rounds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// Seconds of each load, files cached by the system.
    pub loads: Vec<f64>,
    /// What the process grew by when it was first loaded, MB (10^6 bytes): `None` on a GPU, whose memory is not seen from here.
    pub memory_mb: Option<f64>,
    /// By batch size.
    pub points: Vec<Samples>,
}

impl Samples {
    /// What the loop around the model costs: the median of a job's step over the model alone.
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
    /// Adds what a later round measured of the same model at the same batch sizes.
    pub fn extend(&mut self, later: Self) {
        if self.points.is_empty() {
            *self = later;
            return;
        }
        self.loads.extend(later.loads);
        for (own, other) in self.points.iter_mut().zip(later.points) {
            own.extend(other);
        }
    }
}

/// 0 of nothing.
#[must_use]
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// 0 of nothing.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

/// Standard deviation over mean.
#[must_use]
pub fn variation(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    if mean > 0.0 { (squares / values.len() as f64).sqrt() / mean } else { 0.0 }
}

/// The same without the tenth of the values that is farthest above: one stop of the host's is not the model's.
#[must_use]
pub fn usual_variation(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.truncate(sorted.len() - sorted.len() / 10);
    variation(&sorted)
}
