//! Time limits of calls that can hang: the section `[live.limits]` of a scenario, and the limits that follow from the
//! section and a profile. The settings are plain data, which programs built without live mode read, too. Nothing is
//! measured or enforced here.

use std::path::Path;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::input::InputError;
use crate::model::{GpuId, ModelId, Size};
use crate::profile::Profile;
use crate::scheduler::WorkerId;

/// Section `[live.limits]` of a scenario: limits after which the worker of a call counts as lost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitSettings {
    /// Factor on the time that the profile expects for a step, an encoding, a decoding or a load.
    pub factor: f64,
    /// Smallest limit of a step, in seconds, whatever the profile expects. The same smallest limit holds for the work
    /// before the first step and after the last step.
    pub step_s: f64,
    /// Smallest limit of a load, in seconds, whatever the profile expects.
    pub load_s: f64,
    /// Limit of the dual encoder for one prompt or picture, in seconds.
    pub encode_s: f64,
    /// Limit of the disk for writing, reading or removing one picture, in seconds.
    pub disk_s: f64,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self { factor: 20.0, step_s: 30.0, load_s: 120.0, encode_s: 10.0, disk_s: 30.0 }
    }
}

impl LimitSettings {
    /// Checks that all values can be used.
    ///
    /// # Errors
    /// Returns an error for the first value that cannot be used, with the values that are accepted.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelLimits {
    /// Time that a load may take.
    pub load: Duration,
    /// Time that a denoising step may take.
    pub step: Duration,
    /// Time that the work around the steps may take: reading the source and encoding text and source before the first
    /// step, and decoding after the last step.
    pub around: Duration,
}

impl ModelLimits {
    /// Returns the limits for pictures of a size: longer in proportion if they have more pixels than those of the
    /// `usual` width and height, for which these limits are.
    #[must_use]
    pub fn of_size(self, size: Size, usual: [u32; 2]) -> Self {
        let factor = size.pixels() as f64 / usual.map(f64::from).iter().product::<f64>();
        if factor <= 1.0 {
            return self;
        }
        let grown =
            |limit: Duration| Duration::try_from_secs_f64(limit.as_secs_f64() * factor).unwrap_or(Duration::MAX);
        Self { load: self.load, step: grown(self.step), around: grown(self.around) }
    }
}

/// Limits of all calls of a run.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Limits by worker, then by model.
    models: Vec<Vec<ModelLimits>>,
    /// Time that the load of the dual encoder may take.
    pub load_encoder: Duration,
    /// Time that the dual encoder may take for one prompt or picture.
    pub encode: Duration,
    /// Time that one operation of the disk may take.
    pub disk: Duration,
}

impl Limits {
    /// Computes the limits of so many models on workers of these GPU types. A limit is the time that the profile
    /// expects, times the factor, and at least the value of the settings.
    #[must_use]
    pub fn new(settings: &LimitSettings, profile: &Profile, gpus: &[GpuId], models: usize) -> Self {
        let limit = |floor_s: f64, expected_s: f64| {
            // A profile may expect years. The cap avoids an overflow; a limit of that size limits nothing.
            Duration::from_secs_f64((settings.factor * expected_s).max(floor_s).min(1e9))
        };
        let of = |gpu: GpuId, model: u16| {
            let service = profile.service(gpu, ModelId(model));
            let beside_s = service.overhead_s + service.text_s + service.decode_s + service.source_s;
            ModelLimits {
                load: limit(settings.load_s, service.load_s),
                step: limit(settings.step_s, service.step_s),
                around: limit(settings.step_s, beside_s + service.step_s),
            }
        };
        Self {
            models: gpus.iter().map(|gpu| (0..models as u16).map(|model| of(*gpu, model)).collect()).collect(),
            // A profile has no times of the encoder and the disk.
            load_encoder: limit(settings.load_s, 0.0),
            encode: limit(settings.encode_s, 0.0),
            disk: limit(settings.disk_s, 0.0),
        }
    }

    /// Computes the limits if nothing has been measured: the values of the settings.
    #[must_use]
    pub fn unmeasured(settings: &LimitSettings, workers: usize, models: usize) -> Self {
        Self::new(settings, &Profile::unmeasured(models), &vec![GpuId(0); workers], models)
    }

    /// Returns the longest time that a call of a worker may take.
    #[must_use]
    pub fn longest(&self) -> Duration {
        let of = |limits: &ModelLimits| limits.load.max(limits.step + limits.around);
        self.models.iter().flatten().map(of).max().unwrap_or_default()
    }

    /// Returns the limits of a model on a worker.
    #[must_use]
    pub fn model(&self, worker: WorkerId, model: ModelId) -> ModelLimits {
        self.models[worker.index()][model.index()]
    }

    /// Returns the limits of all models on a worker, best model first.
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
