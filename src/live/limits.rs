//! Time limits of calls that can hang: `[live.limits]`, and what it comes to with a profile. Plain data, read also where
//! the program was built without live mode; nothing is measured or enforced here.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::input::InputError;
use crate::model::{GpuId, ModelId};
use crate::profile::Profile;
use crate::scheduler::WorkerId;

/// `[live.limits]`: how long a call may take before its worker counts as lost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitSettings {
    /// Number of times that a step, an encoding, a decoding or a load may take what the profile expects.
    pub factor: f64,
    /// Seconds that a step may take whatever the profile expects; likewise what comes before the first and after the last.
    pub step_s: f64,
    /// Seconds that a load may take whatever the profile expects.
    pub load_s: f64,
    /// Seconds that the dual encoder may take for a prompt or a picture.
    pub encode_s: f64,
    /// Seconds that the disk may take to write, read or remove one picture.
    pub disk_s: f64,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self { factor: 20.0, step_s: 30.0, load_s: 120.0, encode_s: 10.0, disk_s: 30.0 }
    }
}

impl LimitSettings {
    /// The first value that cannot be used.
    ///
    /// # Errors
    /// Which, and what is accepted.
    pub fn check(&self, file: &Path) -> Result<(), InputError> {
        let wrong = |key: &str, value: f64, accepted: &str| {
            Err(InputError::new(file, accepted.to_owned()).value(format!("live.limits.{key}"), value))
        };
        if !(1.0..=1e6).contains(&self.factor) {
            return wrong("factor", self.factor, "expected a factor from 1 to 1000000");
        }
        let seconds =
            [("step_s", self.step_s), ("load_s", self.load_s), ("encode_s", self.encode_s), ("disk_s", self.disk_s)];
        match seconds.into_iter().find(|(_, value)| !(0.1..=86_400.0).contains(value)) {
            Some((key, value)) => wrong(key, value, "expected seconds, from 0.1 to 86400"),
            None => Ok(()),
        }
    }
}

/// Limits of one model on one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelLimits {
    /// Loading it.
    pub load: Duration,
    /// A denoising step.
    pub step: Duration,
    /// All that comes before the first step: reading the source, encoding text and source; and decoding after the last.
    pub around: Duration,
}

/// Limits of all calls of a run.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Limits by worker, then model.
    models: Vec<Vec<ModelLimits>>,
    /// Loading the dual encoder.
    pub load_encoder: Duration,
    /// The dual encoder, for a prompt or a picture.
    pub encode: Duration,
    /// One operation of the disk.
    pub disk: Duration,
}

impl Limits {
    /// Limits of so many models on workers of these GPU types: what the profile expects, times the factor, and at least
    /// what the settings say.
    #[must_use]
    pub fn new(settings: &LimitSettings, profile: &Profile, gpus: &[GpuId], models: usize) -> Self {
        let limit = |floor_s: f64, expected_s: f64| {
            // A profile may expect years: such a limit is none, and must not overflow.
            Duration::from_secs_f64((settings.factor * expected_s).max(floor_s).min(1e9))
        };
        let of = |gpu: GpuId, model: u16| {
            let service = profile.service(gpu, ModelId(model));
            ModelLimits {
                load: limit(settings.load_s, service.load_s),
                step: limit(settings.step_s, service.step_s),
                around: limit(settings.step_s, service.overhead_s + service.step_s),
            }
        };
        Self {
            models: gpus.iter().map(|gpu| (0..models as u16).map(|model| of(*gpu, model)).collect()).collect(),
            load_encoder: limit(settings.load_s, 0.0),
            encode: limit(settings.encode_s, 0.0),
            disk: limit(settings.disk_s, 0.0),
        }
    }

    /// Limits where nothing has been measured: what the settings say.
    #[must_use]
    pub fn unmeasured(settings: &LimitSettings, workers: usize, models: usize) -> Self {
        Self::new(settings, &Profile::unmeasured(models), &vec![GpuId(0); workers], models)
    }

    /// The longest that a call of a worker may take.
    #[must_use]
    pub fn longest(&self) -> Duration {
        let of = |limits: &ModelLimits| limits.load.max(limits.step + limits.around);
        self.models.iter().flatten().map(of).max().unwrap_or_default()
    }

    /// The limits of a model on a worker.
    #[must_use]
    pub fn model(&self, worker: WorkerId, model: ModelId) -> ModelLimits {
        self.models[worker.index()][model.index()]
    }

    /// The limits of all models on a worker, best model first.
    #[must_use]
    pub fn worker(&self, worker: WorkerId) -> &[ModelLimits] {
        &self.models[worker.index()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile;

    #[test]
    fn a_limit_is_a_multiple_of_what_is_expected_and_at_least_what_is_set() {
        let row =
            "source = \"test\"\n[[service]]\ngpu = \"a\"\nmodel = \"m\"\nstep_s = 5\noverhead_s = 1\nload_s = 2\n";
        let file = profile::parse(row, Path::new("profile.toml")).expect("a good profile");
        let profile = Profile::select(&file, &["a".into()], &["m".into()]).expect("the row is there");
        let limits = Limits::new(&LimitSettings::default(), &profile, &[GpuId(0)], 1);
        let seconds = Duration::from_secs;
        let expected = ModelLimits { load: seconds(120), step: seconds(100), around: seconds(120) };
        assert_eq!(limits.model(WorkerId(0), ModelId(0)), expected);
        let unmeasured = Limits::unmeasured(&LimitSettings::default(), 2, 1);
        assert_eq!(unmeasured.model(WorkerId(1), ModelId(0)).step, seconds(30));
    }
}
