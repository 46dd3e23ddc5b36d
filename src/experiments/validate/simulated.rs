//! Simulated side of a validation: a live run's own requests and embeddings, with its own durations or with those of a
//! profile.

use std::path::Path;
use std::sync::Arc;

use super::experiment::LiveOutcome;
use super::{Level, ValidatedRun};
use crate::draw::{Purpose, normal, stream};
use crate::experiments::{ExperimentError, spread, threads};
use crate::metrics::fidelity::{self, Compared, Unit};
use crate::metrics::{Keep, Results};
use crate::profile::{Profile, ProfileFile, Service};
use crate::run_folder::RunFolder;
use crate::scenario::{Override, Source};
use crate::sim::ProfileLatency;
use crate::simulation::Simulation;
use crate::time::Duration;

/// Returns the simulation that repeats a live run. The first `before` requests are not replayed, but warm the cache.
pub(super) fn simulation(lived: &LiveOutcome, before: u32, source: &Source) -> Result<Simulation, ExperimentError> {
    let files = files_of(&lived.folder.join("live"), &lived.folder.join("profile.toml"), before);
    let sets: Vec<_> = lived.sets.iter().cloned().chain(files).collect();
    Ok(Simulation::load(source, &sets)?)
}

/// Durations by a profile with all service times multiplied by a factor. Policies use the run's own profile.
pub(super) struct Prediction {
    base: ProfileLatency,
}

impl Prediction {
    pub(super) fn new(run: &Simulation, file: &ProfileFile, factor: f64) -> Result<Self, ExperimentError> {
        let scaled =
            ProfileFile { service: file.service.iter().map(|row| row.times(factor)).collect(), ..file.clone() };
        let scenario = &run.scenario;
        let profile = Profile::select(&scaled, &scenario.gpu_types(), &scenario.model_names())
            .map_err(|(gpu, model)| ExperimentError::Failed(format!("{model} was not measured on {gpu}")))?;
        let encoding = file.encoding.unwrap_or_default();
        let base = ProfileLatency {
            profile: Arc::new(profile),
            seed: scenario.seed,
            retrieval: Duration::from_seconds_saturating(encoding.prompt_s),
            image_encoding: Duration::from_seconds_saturating(encoding.image_s),
        };
        Ok(Self { base })
    }

    /// Returns the durations with the jitter of a draw.
    pub(super) fn latency(&self, draw: u32) -> ProfileLatency {
        ProfileLatency { seed: self.base.seed.wrapping_add(u64::from(draw)), ..self.base.clone() }
    }
}

/// Returns the comparisons of the mean delays before routing and after completion. With the run's own durations, live
/// and simulated delays are the same.
fn delays(lived: &LiveOutcome, level: Level, profile: &ProfileFile) -> Vec<Compared> {
    let encoding = profile.encoding.unwrap_or_default();
    let named = [("retrieval_mean", encoding.prompt_s), ("image_encoding_mean", encoding.image_s)];
    let row = |((name, simulated), live): ((&str, f64), Option<f64>)| {
        let live = live?;
        let simulated = if level == Level::Measured { live } else { simulated };
        Some(Compared::new(name, Unit::Seconds, live, simulated))
    };
    named.into_iter().zip(lived.durations.delays_s()).filter_map(row).collect()
}

/// Relative change of the service times, for the sensitivity of measures.
const HUNDREDTH: f64 = 0.01;

/// Number of simulations from which a predicted range is taken.
const RANGE_DRAWS: u32 = 100;

/// Quantile of the normal distribution at the end of a range of 90 %.
const NORMAL_90: f64 = 1.645;

/// Returns the factor on all service times of one draw. The factor is lognormal, and within the profile's spread in
/// nine cases of ten. Draws come in pairs, one as much longer as the other is shorter, so that they are centred.
fn machine_factor(profile: &ProfileFile, seed: u64, draw: u32) -> f64 {
    let spread = profile.service.iter().map(Service::known_to).fold(0.0, f64::max);
    let mut draws = stream(seed, Purpose::Machine, u64::from(draw / 2));
    let log = normal(&mut draws) * libm::log1p(spread) / NORMAL_90;
    libm::exp(if draw.is_multiple_of(2) { log } else { -log })
}

/// Number of rounds in which the factor of [`Level::Rescaled`] settles.
const SETTLING: u32 = 3;

/// Compares a live run with its simulations at every level.
pub(super) fn compare(
    lived: &LiveOutcome,
    profile: &ProfileFile,
    draws: u32,
    source: &Source,
) -> Result<Vec<ValidatedRun>, ExperimentError> {
    let run = simulation(lived, 0, source)?;
    let models = run.scenario.model_names();
    let live = &lived.results;
    let level = |level: Level, simulated: &[Results], rows: Vec<Compared>| ValidatedRun {
        load: lived.load,
        seed: lived.seed,
        level,
        rows: [rows, delays(lived, level, profile)].concat(),
        greatest_difference_s: fidelity::greatest_difference_s(live, &simulated[0]),
        latencies: simulated.iter().flat_map(|run| run.latencies.iter().copied()).collect(),
        live_latencies: live.latencies.clone(),
        live: live.summary.clone(),
    };
    let repeated = vec![run.run_with(lived.durations.clone(), Keep::Rows, ())?];
    let write = |folder: &str, results: &Results| {
        let folder = RunFolder::new(&run, lived.folder.join(folder));
        folder.write_rows(results)?;
        folder.write(results, 0.0, &[])
    };
    write("measured", &repeated[0])?;
    let predict = |factor: f64| -> Result<Vec<Results>, ExperimentError> {
        let prediction = Prediction::new(&run, profile, factor)?;
        let all: Vec<u32> = (0..draws).collect();
        let runs = spread(&all, threads(None), |draw| run.run_with(prediction.latency(*draw), Keep::Rows, ()))?;
        Ok(runs.into_iter().collect::<Result<_, _>>()?)
    };
    let with_sensitivity = |factor: f64| -> Result<(Vec<Results>, Vec<Compared>), ExperimentError> {
        let simulated = predict(factor)?;
        let mut rows = fidelity::compare(live, &simulated, &models);
        let (slower, faster) = (predict(factor * (1.0 + HUNDREDTH))?, predict(factor * (1.0 - HUNDREDTH))?);
        fidelity::sensitivity(&mut rows, live, &slower, &faster, &models);
        Ok((simulated, rows))
    };
    let (predicted, mut rows) = with_sensitivity(1.0)?;
    let uncertain = |draw: &u32| -> Result<Results, ExperimentError> {
        let factor = machine_factor(profile, run.scenario.seed, *draw);
        Ok(run.run_with(Prediction::new(&run, profile, factor)?.latency(*draw), Keep::Rows, ())?)
    };
    let all: Vec<u32> = (0..RANGE_DRAWS).collect();
    let uncertain = spread(&all, threads(None), uncertain)?.into_iter().collect::<Result<Vec<_>, ExperimentError>>()?;
    fidelity::ranges(&mut rows, live, &uncertain, &models);
    write("predicted", &predicted[0])?;
    // The factor is how much longer jobs took in the run than by the profile, kind by kind. It is one number, which
    // stands for the speed of the machine in that minute. Work that takes longer overlaps more, and takes longer still
    // for that reason, so a few rounds settle the factor.
    let mut factor = fidelity::service_ratio(live, &predicted);
    for _ in 1..SETTLING {
        factor *= fidelity::service_ratio(live, &predict(factor)?);
    }
    let (rescaled, rescaled_rows) = with_sensitivity(factor)?;
    Ok(vec![
        level(Level::Measured, &repeated, fidelity::compare(live, &repeated, &models)),
        level(Level::Profile, &predicted, rows),
        level(Level::Rescaled(factor), &rescaled, rescaled_rows),
    ])
}

/// Returns the override of a key that this command sets.
pub(super) fn set(key: &str, value: toml::Value) -> Override {
    Override { key: key.to_owned(), value, origin: "modm validate".to_owned() }
}

/// Returns the overrides that make a scenario read the files that a live run left. The first `before` requests count as
/// warm requests.
fn files_of(run: &Path, profile: &Path, before: u32) -> Vec<Override> {
    let text = |path: &Path| toml::Value::String(path.display().to_string());
    let files = [
        ("requests", "requests.csv"),
        ("prompt_embeddings", "prompt_embeddings.npy"),
        ("image_embeddings", "image_embeddings.npy"),
        // The file exists if the run began warm.
        ("warm_images", "warm_images.npy"),
    ];
    let files = files.map(|(key, name)| (key, run.join("trace").join(name)));
    let there = files.iter().filter(|(key, file)| *key != "warm_images" || file.is_file());
    let mut trace: toml::Table = there.map(|(key, file)| ((*key).to_owned(), text(file))).collect();
    if before > 0 {
        trace.insert("warm_requests".to_owned(), toml::Value::Integer(before.into()));
    }
    // The section is replaced as a whole: a synthetic trace of the scenario must not stay beside the files.
    vec![set("trace", toml::Value::Table(trace)), set("models.profile", text(profile))]
}
