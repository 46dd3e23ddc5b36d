//! Measured service times of models on GPU types, and their sources.
//!
//! Policies plan with these times. The simulator's draws (jitter) are in `sim`, so that no policy sees what a job will
//! really take.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::model::{Change, GpuId, ModelId, Work, refine_fraction};
use crate::time::Duration;

mod network;
mod quality;
mod sizes;
mod source;
mod uncertainty;

pub use quality::{OwnQuality, Quality};
pub use source::SourceKind;
pub use uncertainty::{End, MOST_SPREAD, Spread, SpreadKind, USUAL_SPREAD, range_around};

/// Content of a profile's TOML file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileFile {
    /// Source of the profile: who measured it, on what, and when.
    pub source: String,
    /// Service times, a row for each GPU type and model.
    pub service: Vec<Service>,
    /// Facts about GPU types beside the service times; optional.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpu: Vec<Gpu>,
    /// Times of the encoder. Scenarios name them in `retrieval.latency_s` and `retrieval.image_latency_s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<EncodingTimes>,
    /// Measurements from which the service rows were taken. They are for readers: nothing is computed from them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measurement: Vec<Measurement>,
    /// Measured quality of images, by model and skipped steps; optional.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quality: Vec<Quality>,
    /// Score of each model's own images, made without a cache; optional.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub own_quality: Vec<OwnQuality>,
}

/// Times and power of one model on one GPU type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// GPU type.
    pub gpu: String,
    /// Model name.
    pub model: String,
    /// Seconds of one denoising step in a batch of 1.
    pub step_s: f64,
    /// Seconds of encoding, decoding and the rest, per job.
    #[serde(default)]
    pub overhead_s: f64,
    /// Seconds of the text encoders, per job.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub text_s: f64,
    /// Seconds of the autoencoder for the image, per job in a batch of 1.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub decode_s: f64,
    /// Seconds of the autoencoder for the source of a hit, per job in a batch of 1.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub source_s: f64,
    /// Pixels of the images for which the times hold.
    #[serde(default = "usual_pixels", skip_serializing_if = "is_usual_pixels")]
    pub pixels: u64,
    /// Pairs of pixels and the time of `step_s`, `decode_s` and `source_s` as a multiple of the time in the row,
    /// rising. In between, the time is linear in the pixels. Outside, it is assumed to be in proportion to them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sizes: Vec<(u64, f64)>,
    /// Seconds by which a job is longer if its checkpoint is another than that of the worker's last job; `load_s` if
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_s: Option<f64>,
    /// Seconds by which a job is longer if its LoRAs are not those of the worker's last job.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lora_s: f64,
    /// Seconds to load the model onto this GPU.
    pub load_s: f64,
    /// Seconds of that load if the worker last held this other model, by its name; `load_s` for models that are not
    /// named. Models that share text encoders and an autoencoder change the denoiser alone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub load_after: BTreeMap<String, f64>,
    /// Coefficient of variation of a job's time; 0 for no variation.
    #[serde(default)]
    pub jitter_cv: f64,
    /// Share of a job's time that the job takes while no other worker of the cluster draws. `step_s` and `overhead_s`
    /// hold while all of the other workers draw. In between, the time is in proportion.
    #[serde(default = "whole", skip_serializing_if = "is_whole")]
    pub alone: f64,
    /// Time of a job while all other workers draw with this model, as a multiple of the time by `step_s` and
    /// `overhead_s`; 1 for models that are not named. Beside several models, the time is in proportion.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub beside: BTreeMap<String, f64>,
    /// Relative half-width of the 90 % range of these times: the mean time of a job on another machine or at a later
    /// time is within it in nine cases of ten. `modm profile` takes it from the spread between its rounds. If it is
    /// absent, [`USUAL_SPREAD`] is assumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<f64>,
    /// Source of the spread.
    #[serde(default, skip_serializing_if = "SpreadKind::is_assumed")]
    pub spread_kind: SpreadKind,
    /// Pairs of a number of requests and the time of their job as a multiple of the time of a job of one, rising. In
    /// between, the time is in proportion. Without pairs, requests are served one after the other. Beyond the last
    /// pair, the time grows in proportion to the number of requests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub batches: Vec<(u32, f64)>,
    /// Memory of the GPU that the model takes, its work included, in GB (10^9 bytes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_gb: Option<f64>,
    /// Watts while denoising.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_w: Option<f64>,
    /// Watts while loading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_w: Option<f64>,
    /// Watts while idle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_w: Option<f64>,
    /// Source of the row's times, if it is another than that of the whole profile. It begins with a word of
    /// [`SourceKind`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// Facts about a GPU type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gpu {
    /// GPU type.
    pub r#type: String,
    /// Memory of the GPU, in GB (10^9 bytes).
    pub memory_gb: f64,
    /// Price of one GPU, dollars an hour. It is for readers: a run counts the prices of its scenario.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usd_per_hour: Option<f64>,
    /// Source of the price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// Pixels of an image of 1024 x 1024, for which times hold unless their row says otherwise.
pub const USUAL_PIXELS: u64 = 1 << 20;

const fn usual_pixels() -> u64 {
    USUAL_PIXELS
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_usual_pixels(pixels: &u64) -> bool {
    *pixels == USUAL_PIXELS
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(seconds: &f64) -> bool {
    *seconds == 0.0
}

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

/// Mean seconds of embedding while the workers draw, with the way to the encoder and back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncodingTimes {
    /// Seconds to embed a prompt.
    pub prompt_s: f64,
    /// Seconds to embed a picture.
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
    /// Number of images drawn together.
    pub batch: u32,
    /// Activity of the other workers.
    pub neighbours: Neighbourhood,
    /// Seconds of one denoising step of the batch.
    pub step_s: f64,
    /// Seconds of one step that the model alone takes in its session, without the pipeline around it.
    pub bare_step_s: f64,
    /// Coefficient of variation of the times of steps.
    pub step_cv: f64,
    /// Seconds of a job beside its steps.
    pub overhead_s: f64,
    /// Coefficient of variation of the times of jobs.
    pub job_cv: f64,
    /// Seconds of a load whose files the system has in its cache.
    pub load_s: f64,
    /// Coefficient of variation of the times of loads.
    pub load_cv: f64,
    /// Growth of the memory of the process, in MB (10^6 bytes), if it can be seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<f64>,
    /// Number of jobs measured.
    pub jobs: u32,
}

/// Activity of the other workers while one worker was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Neighbourhood {
    /// Idle workers.
    Idle,
    /// Busy workers, which drew with the large model.
    Busy,
}

impl Neighbourhood {
    /// Returns the name in files: `idle` or `busy`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Busy => "busy",
        }
    }
}

impl Service {
    /// Returns a row in which nothing takes time. The caller fills it in.
    #[must_use]
    pub fn new(gpu: &str, model: &str) -> Self {
        Self {
            gpu: gpu.to_owned(),
            model: model.to_owned(),
            step_s: 0.0,
            overhead_s: 0.0,
            text_s: 0.0,
            decode_s: 0.0,
            source_s: 0.0,
            pixels: USUAL_PIXELS,
            sizes: Vec::new(),
            checkpoint_s: None,
            lora_s: 0.0,
            load_s: 0.0,
            load_after: BTreeMap::new(),
            jitter_cv: 0.0,
            alone: whole(),
            beside: BTreeMap::new(),
            spread: None,
            spread_kind: SpreadKind::Assumed,
            batches: Vec::new(),
            memory_gb: None,
            active_w: None,
            load_w: None,
            idle_w: None,
            source: None,
        }
    }

    /// Returns the seconds of a job of one request, without jitter and without a change of weights: `overhead_s +
    /// text_s + (step_s * (T - k) + decode_s + source_s) * growth` (docs/semantics.md, section 10).
    #[inline]
    pub fn job_s(&self, work: Work) -> f64 {
        self.job_s_at(work, if work.size.is_usual() { 1.0 } else { self.growth(work.size.pixels()) })
    }

    /// Returns the same for images whose size makes the times `growth` times those of the usual size.
    #[inline]
    pub fn job_s_at(&self, work: Work, growth: f64) -> f64 {
        let source_s = if work.skipped_steps > 0 { self.source_s } else { 0.0 };
        let drawn_s = self.step_s * f64::from(work.steps_run()) + self.decode_s + source_s;
        self.overhead_s + self.text_s + drawn_s * growth
    }

    /// Returns the seconds of a change of weights before a job.
    #[inline]
    pub fn change_s(&self, change: Change) -> f64 {
        if change.is_nothing() {
            return 0.0;
        }
        let checkpoint_s = self.checkpoint_s.unwrap_or(self.load_s);
        match change {
            Change::Nothing => 0.0,
            Change::Loras => self.lora_s,
            Change::Checkpoint => checkpoint_s,
            Change::Both => checkpoint_s + self.lora_s,
        }
    }

    /// Returns whether the row tells the parts of a job beside its steps apart.
    pub fn tells_parts(&self) -> bool {
        self.text_s + self.decode_s + self.source_s > 0.0
    }

    /// Returns the largest number of requests that a job may have.
    pub fn most(&self) -> u32 {
        self.batches.last().map_or(1, |(size, _)| *size)
    }

    /// Returns the time of a job of this many requests as a multiple of the time of a job of one.
    pub fn batch_factor(&self, requests: u32) -> f64 {
        let (mut below, mut factor) = (1, 1.0);
        for &(size, its) in &self.batches {
            if requests <= below {
                break;
            }
            // `below` and `factor` are the last point that was passed. The first point is one request at a factor of 1.
            let share = f64::from(requests.min(size) - below) / f64::from(size.max(below + 1) - below);
            (below, factor) = (size.min(requests), factor + share * (its - factor));
        }
        // Up to the largest size `below` is the number of requests by now, so that only larger jobs are in proportion
        // to it.
        factor * f64::from(requests.max(1)) / f64::from(below)
    }
}

/// Part of a profile that a scenario uses: every GPU type of its cluster with every model of its list. The rows are
/// found once, so that look-ups cannot fail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// Source of the profile: who measured it, on what, and when.
    pub source: String,
    models: usize,
    /// Service times by GPU type, then model.
    service: Vec<Service>,
    /// Least and greatest number of pixels for which the file has times, by row.
    #[serde(default)]
    known_pixels: Vec<(u64, u64)>,
    /// Memory by GPU type, in GB, if it is known.
    #[serde(default)]
    memory_gb: Vec<Option<f64>>,
    /// Multiples of a job's time beside each model, by GPU type, then model; empty if none are known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    beside: Vec<Vec<f64>>,
    /// Seconds of a load after each model, by GPU type, then model; empty if they are those of `load_s`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    load_after: Vec<Vec<f64>>,
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
        let memory = |gpu: &String| file.gpu.iter().find(|row| row.r#type == *gpu).map(|row| row.memory_gb);
        let memory_gb = gpus.iter().map(memory).collect();
        let beside = by_model(&service, models, |row| (&row.beside, 1.0));
        let load_after = by_model(&service, models, |row| (&row.load_after, row.load_s));
        let known_pixels = service.iter().map(Service::known_pixels).collect();
        let (source, models) = (file.source_of(&service), models.len());
        Ok(Self { source, models, service, known_pixels, memory_gb, beside, load_after })
    }

    /// Returns a profile of one GPU type on which nothing takes time. Runs that measure use it, since they expect no
    /// times.
    #[must_use]
    pub fn unmeasured(models: usize) -> Self {
        Self {
            source: "nothing was measured".into(),
            models,
            service: vec![Service::new("", ""); models],
            known_pixels: Vec::new(),
            memory_gb: Vec::new(),
            beside: Vec::new(),
            load_after: Vec::new(),
        }
    }

    /// Returns the row of a model on a GPU type.
    #[must_use]
    pub fn service(&self, gpu: GpuId, model: ModelId) -> &Service {
        &self.service[gpu.index() * self.models + model.index()]
    }

    /// Returns the time of a job while all other workers draw with a model, as a multiple of the time in the row, by
    /// that model; empty if none is known.
    #[must_use]
    pub fn beside(&self, gpu: GpuId, model: ModelId) -> &[f64] {
        self.beside.get(gpu.index() * self.models + model.index()).map_or(&[], Vec::as_slice)
    }

    /// Returns the memory of a GPU type, in GB, if it is known.
    pub fn memory_gb(&self, gpu: GpuId) -> Option<f64> {
        self.memory_gb.get(gpu.index()).copied().flatten()
    }

    /// Returns whether a GPU has room for these models at once. If the memory of the GPU or of a model is not known,
    /// the GPU has room for one model.
    pub fn fits(&self, gpu: GpuId, models: impl Iterator<Item = ModelId>) -> bool {
        let (mut count, mut sum) = (0, Some(0.0));
        for model in models {
            count += 1;
            // One model of unknown size leaves the sum unknown.
            sum = sum.zip(self.service(gpu, model).memory_gb).map(|(sum, memory)| sum + memory);
        }
        self.memory_gb(gpu).zip(sum).map_or(count <= 1, |(room, sum)| sum <= room)
    }

    /// Returns the profile for GPUs that hold one model at a time, as live workers do, whatever the GPUs have room for.
    #[must_use]
    pub fn one_at_a_time(&self) -> Self {
        Self { memory_gb: Vec::new(), ..self.clone() }
    }

    /// Returns the number of models.
    pub const fn models(&self) -> usize {
        self.models
    }

    /// Returns the full generations a minute of one worker: 60 / (`overhead_s` + `step_s` * T).
    pub fn images_per_minute(&self, gpu: GpuId, model: ModelId, total_steps: u32) -> f64 {
        60.0 / self.full_generation_s(gpu, model, total_steps)
    }

    /// Returns the seconds of one full generation of the usual size.
    pub fn full_generation_s(&self, gpu: GpuId, model: ModelId, total_steps: u32) -> f64 {
        self.service(gpu, model).job_s(Work::new(model, total_steps, 0))
    }

    /// Returns a work's share of a full generation of the usual size by its model, on a GPU type. It counts steps, and
    /// time where the row tells the parts of a job apart.
    pub fn share(&self, gpu: GpuId, work: Work, usual_steps: u32) -> f64 {
        let service = self.service(gpu, work.model);
        if service.tells_parts() {
            return service.job_s(work) / self.full_generation_s(gpu, work.model, usual_steps);
        }
        let growth = if work.size.is_usual() { 1.0 } else { service.growth(work.size.pixels()) };
        let steps = if work.total_steps == usual_steps {
            refine_fraction(work.skipped_steps, work.total_steps)
        } else {
            f64::from(work.steps_run()) / f64::from(usual_steps)
        };
        steps * growth
    }

    /// Returns whether loads depend on the model that the worker last held.
    pub const fn loads_differ(&self) -> bool {
        !self.load_after.is_empty()
    }

    /// Returns the time to load a model onto a GPU whose worker last held the model `from`, if any.
    pub fn load(&self, gpu: GpuId, from: Option<ModelId>, model: ModelId) -> Duration {
        let after = self.load_after.get(gpu.index() * self.models + model.index());
        let seconds = from.and_then(|from| after?.get(from.index()).copied());
        Duration::from_seconds_saturating(seconds.unwrap_or(self.service(gpu, model).load_s))
    }
}

/// Returns the values of each row by model; empty if no row names a model. `of` gives the values of a row that are
/// named, and the value of all other models.
fn by_model(
    service: &[Service],
    models: &[String],
    of: impl Fn(&Service) -> (&BTreeMap<String, f64>, f64),
) -> Vec<Vec<f64>> {
    if !service.iter().any(|row| models.iter().any(|model| of(row).0.contains_key(model))) {
        return Vec::new();
    }
    let values = |row: &Service| {
        let (named, others) = of(row);
        models.iter().map(|model| named.get(model).copied().unwrap_or(others)).collect()
    };
    service.iter().map(values).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &str = "source = \"test\"\n[[service]]\ngpu = \"a\"\nmodel = \"m\"\nstep_s = 0.5\nload_s = 2\n";

    fn parse(text: &str) -> ProfileFile {
        toml::from_str(text).expect("a profile")
    }

    #[test]
    fn reads_rows_and_selects_them() {
        let file = parse(ROW);
        let profile = Profile::select(&file, &["a".into()], &["m".into()]).expect("the row is there");
        assert!((profile.full_generation_s(GpuId(0), ModelId(0), 50) - 25.0).abs() < 1e-12);
        assert_eq!(Profile::select(&file, &["a".into()], &["x".into()]), Err(("a".into(), "x".into())));
    }

    #[test]
    fn a_load_after_a_model_that_shares_parts_has_its_own_time() {
        let own = "load_after = { l = 2.5 }\n";
        let row = |model: &str, more: &str| {
            format!("[[service]]\ngpu = \"a\"\nmodel = \"{model}\"\nstep_s = 1\nload_s = 20\n{more}")
        };
        let file = parse(&format!("source = \"test\"\n{}{}{}", row("l", ""), row("s", own), row("t", "")));
        let profile = Profile::select(&file, &["a".into()], &["l", "s", "t"].map(str::to_owned)).expect("its rows");
        let load = |from: Option<u16>, model: u16| profile.load(GpuId(0), from.map(ModelId), ModelId(model)).seconds();
        assert_eq!((load(Some(0), 1), load(Some(2), 1), load(None, 1), load(Some(1), 0)), (2.5, 20.0, 20.0, 20.0));
    }

    #[test]
    fn batches_are_in_proportion_between_what_was_measured() {
        let with = |batches: &[(u32, f64)]| {
            let text = format!("{ROW}batches = {batches:?}\n").replace('(', "[").replace(')', "]");
            parse(&text).service[0].clone()
        };
        let service = with(&[(2, 1.5), (4, 2.5), (8, 4.1)]);
        let factors = [1, 2, 3, 4, 6, 8].map(|size| service.batch_factor(size));
        for (factor, expected) in factors.into_iter().zip([1.0, 1.5, 2.0, 2.5, 3.3, 4.1]) {
            assert!((factor - expected).abs() < 1e-12, "{factor} {expected}");
        }
        assert_eq!((service.most(), service.batch_factor(1).to_bits()), (8, 1.0_f64.to_bits()));
        assert!((with(&[]).batch_factor(3) - 3.0).abs() < 1e-12, "one after the other");
    }

    #[test]
    fn a_gpu_has_room_for_what_fits() {
        let row = |model: &str, memory: f64| {
            format!("[[service]]\ngpu = \"a\"\nmodel = \"{model}\"\nstep_s = 1\nload_s = 1\nmemory_gb = {memory:?}\n")
        };
        let gpu = "[[gpu]]\ntype = \"a\"\nmemory_gb = 48\n";
        let text = format!("source = \"test\"\n{gpu}{}{}{}", row("l", 30.0), row("m", 18.0), row("s", 10.0));
        let models = ["l", "m", "s"].map(str::to_owned);
        let file = parse(&text);
        let profile = Profile::select(&file, &["a".into()], &models).expect("its rows are there");
        let fits = |models: &[u16]| profile.fits(GpuId(0), models.iter().copied().map(ModelId));
        let alone = profile.one_at_a_time();
        assert!(!alone.fits(GpuId(0), [ModelId(1), ModelId(2)].into_iter()), "whatever there is room for");
        assert!(fits(&[0]) && fits(&[0, 1]) && fits(&[1, 2]) && !fits(&[0, 1, 2]));
        let unknown = parse(&text.replace("memory_gb = 48", "memory_gb = 20"));
        let profile = Profile::select(&unknown, &["a".into()], &models).expect("its rows are there");
        assert!(!profile.fits(GpuId(0), [ModelId(0)].into_iter()), "too large by itself");
        let file = parse(&text.replace(gpu, ""));
        let profile = Profile::select(&file, &["a".into()], &models).expect("its rows are there");
        let two = [ModelId(1), ModelId(2)];
        assert!(profile.fits(GpuId(0), [ModelId(0)].into_iter()) && !profile.fits(GpuId(0), two.into_iter()));
    }
}
