//! Measured service times of models on GPU types, and where they come from.
//!
//! Policies plan with these; the simulator's draws (jitter) are `sim`'s business, so that no oracle
//! leaks into a policy.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::input::{self, InputError};
use crate::model::{GpuId, ModelId, Work};
use crate::time::{Duration, MAX_INPUT_S};

/// A profile as its TOML file has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileFile {
    /// Who measured this, on what, when.
    pub source: String,
    /// A row for each GPU type and model.
    pub service: Vec<Service>,
    /// What the encoder takes, for scenarios to name in `retrieval.latency_s` and `retrieval.image_latency_s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<EncodingTimes>,
    /// What the service rows were taken from; for readers, nothing is computed from it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measurement: Vec<Measurement>,
    /// Measured quality of images by what made them; optional.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quality: Vec<Quality>,
}

/// Times and power of one model on one GPU type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// GPU type.
    pub gpu: String,
    /// Model name.
    pub model: String,
    /// Seconds of one denoising step, batch 1.
    pub step_s: f64,
    /// Seconds of encoding, decoding and the rest, per job.
    #[serde(default)]
    pub overhead_s: f64,
    /// Seconds to bring the model onto this GPU.
    pub load_s: f64,
    /// Coefficient of variation of a job's time; 0 for none.
    #[serde(default)]
    pub jitter_cv: f64,
    /// The part of a job's time that it takes while no other worker of the cluster draws; `step_s` and `overhead_s`
    /// are those with all of them drawing, and in between it is in proportion.
    #[serde(default = "whole", skip_serializing_if = "is_whole")]
    pub alone: f64,
    /// Watts while denoising.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_w: Option<f64>,
    /// Watts while loading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_w: Option<f64>,
    /// Watts while idle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_w: Option<f64>,
}

const TIME: &str = "expected seconds from 0 to ten years";

const fn whole() -> f64 {
    1.0
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    clippy::float_cmp,
    reason = "serde passes a reference; the default itself"
)]
fn is_whole(part: &f64) -> bool {
    *part == whole()
}

/// Mean seconds of embedding, there and back, while the workers draw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncodingTimes {
    /// A prompt.
    pub prompt_s: f64,
    /// A picture.
    pub image_s: f64,
}

/// One measured point of a model on a GPU type: medians over jobs, and their spread.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// GPU type.
    pub gpu: String,
    /// Model name.
    pub model: String,
    /// Images drawn together.
    pub batch: u32,
    /// What the other workers did.
    pub neighbours: Neighbourhood,
    /// Seconds of one denoising step of the batch.
    pub step_s: f64,
    /// Seconds of the model alone in its session: what of a step is not the pipeline around it.
    pub bare_step_s: f64,
    /// Coefficient of variation of steps.
    pub step_cv: f64,
    /// Seconds of the rest of a job.
    pub overhead_s: f64,
    /// Coefficient of variation of jobs.
    pub job_cv: f64,
    /// Seconds of a load, its files cached by the system.
    pub load_s: f64,
    /// Coefficient of variation of loads.
    pub load_cv: f64,
    /// Growth of the process, MB (10^6 bytes), where it can be seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<f64>,
    /// Jobs measured.
    pub jobs: u32,
}

/// What the other workers did while one was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Neighbourhood {
    /// Nothing.
    Idle,
    /// They drew with the large model.
    Busy,
}

impl Neighbourhood {
    /// As it is written.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Busy => "busy",
        }
    }
}

/// Measured quality of images by what made them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quality {
    /// Model name.
    pub model: String,
    /// Steps skipped from a source image.
    pub skipped_steps: u32,
    /// What was measured, e.g. `clip`.
    pub measure: String,
    /// Its value.
    pub value: f64,
    /// Who measured it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

impl Service {
    /// Seconds of a job: `overhead_s + step_s * (T - k)`, without jitter.
    pub fn job_s(&self, work: Work) -> f64 {
        self.overhead_s + self.step_s * f64::from(work.steps_run())
    }

    fn complaint(&self) -> Option<(&'static str, f64, &'static str)> {
        let times = [("step_s", self.step_s), ("overhead_s", self.overhead_s), ("load_s", self.load_s)];
        if let Some((key, value)) = times.into_iter().find(|(_, value)| !(0.0..=MAX_INPUT_S).contains(value)) {
            return Some((key, value, TIME));
        }
        if !(0.0..=10.0).contains(&self.jitter_cv) {
            return Some(("jitter_cv", self.jitter_cv, "expected a coefficient of variation from 0 to 10"));
        }
        if !(0.01..=1.0).contains(&self.alone) {
            return Some(("alone", self.alone, "expected a part of a job's time, from 0.01 to 1"));
        }
        let powers = [("active_w", self.active_w), ("load_w", self.load_w), ("idle_w", self.idle_w)];
        powers
            .into_iter()
            .find_map(|(key, value)| value.filter(|watts| !(0.0..=1e6).contains(watts)).map(|watts| (key, watts)))
            .map(|(key, value)| (key, value, "expected watts from 0 to 1000000"))
    }
}

impl ProfileFile {
    /// Parses a profile; `file` names it in errors.
    ///
    /// # Errors
    /// What is wrong, with line, key and value.
    pub fn parse(text: &str, file: &Path) -> Result<Self, InputError> {
        let table = input::toml::parse(text, file)?;
        let place = |error: InputError| {
            let Some(key) = error.key.clone() else { return error };
            let placed = InputError { line: input::toml::line_of_key(text, &key), ..error };
            match input::toml::look_up(&table, &key).filter(|value| value.is_float() || value.is_integer()) {
                Some(written) => placed.value(key, input::toml::written(written)),
                None => placed,
            }
        };
        let profile: Self =
            input::toml::settings(&table, &["service.*", "encoding", "quality.*"], file).map_err(place)?;
        if profile.service.is_empty() {
            return Err(place(InputError::new(file, "expected at least one row").value("service", "[]")));
        }
        for (index, service) in profile.service.iter().enumerate() {
            if let Some((key, value, accepted)) = service.complaint() {
                return Err(place(InputError::new(file, accepted).value(format!("service.{index}.{key}"), value)));
            }
            let same = |other: &Service| other.gpu == service.gpu && other.model == service.model;
            if profile.service[..index].iter().any(same) {
                let message = format!("GPU {:?} with model {:?} has a row already", service.gpu, service.model);
                return Err(place(InputError::new(file, message).key(format!("service.{index}"))));
            }
        }
        let encoding = profile.encoding.unwrap_or_default();
        let times = [("encoding.prompt_s", encoding.prompt_s), ("encoding.image_s", encoding.image_s)];
        if let Some((key, value)) = times.into_iter().find(|(_, seconds)| !(0.0..=MAX_INPUT_S).contains(seconds)) {
            return Err(place(InputError::new(file, TIME).value(key, value)));
        }
        let bad = profile.quality.iter().enumerate().find(|(_, quality)| !quality.value.is_finite());
        if let Some((index, quality)) = bad {
            let key = format!("quality.{index}.value");
            return Err(place(InputError::new(file, "expected a finite number").value(key, quality.value)));
        }
        Ok(profile)
    }
}

/// The part of a profile that a scenario uses: every GPU type of its cluster with every model of its
/// list, found once so that look-ups cannot fail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// Who measured this, on what, when.
    pub source: String,
    models: usize,
    /// By GPU type, then model.
    service: Vec<Service>,
}

impl Profile {
    /// Picks the rows of these GPU types and models, in order.
    ///
    /// # Errors
    /// The first (GPU type, model) without a row.
    pub fn select(file: &ProfileFile, gpus: &[String], models: &[String]) -> Result<Self, (String, String)> {
        let mut service = Vec::with_capacity(gpus.len() * models.len());
        for gpu in gpus {
            for model in models {
                let row = file.service.iter().find(|row| row.gpu == *gpu && row.model == *model);
                service.push(row.ok_or_else(|| (gpu.clone(), model.clone()))?.clone());
            }
        }
        Ok(Self { source: file.source.clone(), models: models.len(), service })
    }

    /// One GPU type on which nothing takes time, for runs in which nothing is expected: those that measure.
    #[must_use]
    pub fn unmeasured(models: usize) -> Self {
        let row = Service {
            gpu: String::new(),
            model: String::new(),
            step_s: 0.0,
            overhead_s: 0.0,
            load_s: 0.0,
            jitter_cv: 0.0,
            alone: whole(),
            active_w: None,
            load_w: None,
            idle_w: None,
        };
        Self { source: "nothing was measured".into(), models, service: vec![row; models] }
    }

    /// The row of a model on a GPU type.
    #[must_use]
    pub fn service(&self, gpu: GpuId, model: ModelId) -> &Service {
        &self.service[gpu.index() * self.models + model.index()]
    }

    /// Number of models.
    pub const fn models(&self) -> usize {
        self.models
    }

    /// Full generations a minute of one worker: 60 / (`overhead_s` + `step_s` * T).
    pub fn images_per_minute(&self, gpu: GpuId, model: ModelId, total_steps: u32) -> f64 {
        60.0 / self.full_generation_s(gpu, model, total_steps)
    }

    /// Seconds of one full generation.
    pub fn full_generation_s(&self, gpu: GpuId, model: ModelId, total_steps: u32) -> f64 {
        self.service(gpu, model).job_s(Work { model, total_steps, skipped_steps: 0 })
    }

    /// Time to bring a model onto a GPU.
    pub fn load(&self, gpu: GpuId, model: ModelId) -> Duration {
        Duration::from_seconds_saturating(self.service(gpu, model).load_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &str = "source = \"test\"\n[[service]]\ngpu = \"a\"\nmodel = \"m\"\nstep_s = 0.5\nload_s = 2\n";

    fn parse(text: &str) -> Result<ProfileFile, String> {
        ProfileFile::parse(text, Path::new("profile.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn reads_rows_and_selects_them() {
        let file = parse(ROW).expect("a good profile");
        let profile = Profile::select(&file, &["a".into()], &["m".into()]).expect("the row is there");
        assert!((profile.full_generation_s(GpuId(0), ModelId(0), 50) - 25.0).abs() < 1e-12);
        assert_eq!(Profile::select(&file, &["a".into()], &["x".into()]), Err(("a".into(), "x".into())));
    }

    #[test]
    fn errors_name_line_key_and_value() {
        let negative = ROW.replace("0.5", "-0.5");
        assert_eq!(
            parse(&negative),
            Err("profile.toml:5: service.0.step_s = -0.5: expected seconds from 0 to ten years".into())
        );
        let unknown = format!("{ROW}colour = 1\n");
        assert!(
            parse(&unknown)
                .is_err_and(|error| error.starts_with("profile.toml:7: service.0.colour = 1: is not a key here"))
        );
        let twice = format!("{ROW}{}", &ROW["source = \"test\"\n".len()..]);
        assert!(parse(&twice).is_err_and(|error| error.contains("profile.toml:7")));
    }
}
