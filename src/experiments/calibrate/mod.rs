//! Calibration: finds similarity bounds that keep a share of the large model's quality, from pictures that are drawn
//! here or from the samples of an earlier calibration. The bounds are fitted on half of the requests and checked on the
//! other half.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::calibration::check::{self, Check};
use crate::calibration::fit::{self, Fit};
use crate::calibration::samples::{self, Sample};
use crate::denoising::Denoising;
use crate::input::{self, InputError, sha256};
use crate::model::ModelId;
use crate::request::Shape;
use crate::scenario::{Fingerprint, Inputs, Override, Scenario, Source, TraceInputs};
use crate::scheduler::routing::System;

#[cfg(feature = "live")]
mod draw;
mod rooted;

#[cfg(feature = "live")]
pub use draw::draw;
pub use rooted::rooted;

/// Number of requests that are drawn, unless another number is asked for.
const PROMPTS: u32 = 200;
/// Numbers of skipped steps that are tried, unless others are asked for, in per cent of a full generation.
const SKIPS_PERCENT: [u32; 5] = [10, 20, 30, 50, 60];

/// Name of the measure of quality if the encoder judges the pictures.
pub const SIMILARITY: &str = "similarity";

/// Name of the file in which a calibration states its measure.
pub const RUN: &str = "run.json";

/// Name of the file of samples.
pub const SAMPLES: &str = "samples.csv";

/// Calibration of a scenario that was checked.
#[derive(Clone, Debug)]
pub struct Calibration<'a> {
    /// Scenario that is calibrated.
    pub scenario: Scenario,
    /// File of the scenario.
    pub source: &'a Source,
    sets: &'a [Override],
    /// Names of the large model and of the small model that refines.
    pub models: [String; 2],
    /// Name of the measure by which the pictures are judged.
    pub measure: String,
    /// Files that were read, with their SHA-256 hashes.
    pub inputs: Vec<(PathBuf, String)>,
}

/// Pictures to draw.
#[derive(Clone, Debug)]
pub struct WantedSamples {
    /// Prompts by row.
    pub prompts: Vec<Arc<str>>,
    /// Numbers of skipped steps, rising.
    pub skips: Vec<u32>,
    /// Steps and noise levels of the models.
    pub denoising: Denoising,
    /// Seed of all noise.
    pub seed: u64,
    /// Folder for the pictures.
    pub folder: PathBuf,
}

/// Bounds that were fitted, and their check on requests that were held out.
#[derive(Clone, Debug)]
pub struct Fitted {
    /// Fits by number of skipped steps.
    pub fits: Vec<Fit>,
    /// Check on held-out requests.
    pub check: Check,
}

/// Returns the names of the large model and of the small model that refines.
fn models(scenario: &Scenario, file: &Path) -> Result<[String; 2], InputError> {
    if scenario.system.policy != System::Modm {
        let message = "expected modm, the system that refines on a small model: --set system.policy=modm";
        let found = format!("{:?}", scenario.system.policy).to_lowercase();
        return Err(InputError::new(file, message).value("system.policy", found));
    }
    let small =
        scenario.models.small.first().ok_or_else(|| {
            InputError::new(file, "expected a small model, which refines").value("models.small", "[]")
        })?;
    Ok([scenario.models.large.clone(), small.clone()])
}

/// Reads the name of an earlier calibration's measure.
fn measure_of(folder: &Path) -> Result<String, InputError> {
    let file = folder.join(RUN);
    let text = input::text(&file)?;
    let read = serde_json::from_str::<serde_json::Value>(&text).ok();
    let measure = read.as_ref().and_then(|run| run["measure"].as_str()).map(str::to_owned);
    measure.ok_or_else(|| InputError::new(&file, "expected what `modm calibrate` writes, with its `measure`"))
}

impl<'a> Calibration<'a> {
    /// Makes a calibration, after a check that the scenario can be calibrated.
    ///
    /// # Errors
    /// Returns an error if the scenario cannot be used, or if it does not refine with a small model.
    pub fn new(source: &'a Source, sets: &'a [Override]) -> Result<Self, InputError> {
        let scenario = source.scenario(sets)?;
        let models = models(&scenario, source.file()).map_err(|error| source.place(error, sets))?;
        Ok(Self { scenario, source, sets, models, measure: SIMILARITY.into(), inputs: Vec::new() })
    }

    /// Adds to an error of the scenario the place of its cause: the scenario's file, or an override.
    #[must_use]
    pub fn place(&self, error: InputError) -> InputError {
        self.source.place(error, self.sets)
    }

    /// Reads the samples of an earlier calibration, and returns them with their file. If `scores` has a file of scores
    /// and the name of their measure, the samples are judged anew by these scores.
    ///
    /// # Errors
    /// Returns an error if a file cannot be used.
    pub fn earlier_samples(
        &mut self,
        folder: &Path,
        scores: Option<(&Path, &str)>,
    ) -> Result<(Vec<Sample>, PathBuf), InputError> {
        let file = folder.join(SAMPLES);
        let mut read = samples::read(&file, &self.models, self.scenario.models.large_steps())?;
        self.measure = match scores {
            Some((scores, measure)) => {
                samples::judge(&mut read, scores)?;
                self.inputs.push((scores.to_owned(), sha256(scores)?));
                measure.to_owned()
            }
            None => measure_of(folder)?,
        };
        self.inputs.push((file.clone(), sha256(&file)?));
        // `fit` groups the samples again. This call is for its errors, which show before anything is written.
        samples::grades(&read, &file)?;
        // The scenario that is written at the end needs the profile, so an error of the profile shows now.
        crate::scenario::read_profile(&self.scenario, self.source.file())?;
        Ok((read, file))
    }

    /// Reads the prompts of the first requests, and chooses the numbers of skipped steps. Pictures go to `folder`.
    ///
    /// # Errors
    /// Returns an error if an input cannot be used, or if the trace has too few requests.
    pub fn wishes(
        &mut self,
        prompts: Option<u32>,
        skips: &[u32],
        folder: PathBuf,
    ) -> Result<WantedSamples, InputError> {
        let (file, place) = (self.source.file(), |error| self.source.place(error, self.sets));
        let inputs = TraceInputs::load(&self.scenario, file, false).map_err(place)?;
        if inputs.trace.columns().prompts.is_none() {
            let error = InputError::new(file, "has no `prompt` column: a calibration draws prompts");
            return Err(place(error.key("trace.requests")));
        }
        let count = wanted_prompts(prompts, inputs.trace.requests())?;
        let skips = self.skips(skips)?;
        let print = |print: &Fingerprint| (print.file.clone(), print.sha256.clone());
        self.inputs.extend(inputs.files.iter().map(print));
        let inputs = Inputs::new(&self.scenario, file, inputs.into()).map_err(place)?;
        self.inputs.extend(inputs.files.iter().map(print));
        let trace = &inputs.trace.trace;
        // A request of several images has one prompt.
        let rows = (0..trace.len()).filter(|row| trace.place(*row).at == 0).take(count);
        let prompts: Vec<_> = rows.map(|row| trace.prompt(row).unwrap_or_default().into()).collect();
        Ok(WantedSamples { prompts, skips, denoising: self.scenario.denoising(), seed: self.scenario.seed, folder })
    }

    /// Fits bounds that keep a share `alpha` of the large model's quality, and checks them. `file` is the file of the
    /// samples.
    ///
    /// # Errors
    /// Returns an error if the samples are not complete.
    pub fn fit(&self, drawn: &[Sample], file: &Path, alpha: f64) -> Result<Fitted, InputError> {
        let grades = samples::grades(drawn, file)?;
        let fits = fit::fits(&grades, alpha);
        let bounds = fit::bounds(&fits);
        let check = check::check(&grades, &bounds, self.scenario.seed);
        Ok(Fitted { fits, check })
    }

    /// Returns the numbers of skipped steps, rising, each once.
    fn skips(&self, wanted: &[u32]) -> Result<Vec<u32>, InputError> {
        let steps = self.scenario.models.large_steps();
        // Shares are rounded up, so that a model of few steps gets no skip of 0.
        let shares = SKIPS_PERCENT.iter().map(|percent| (u64::from(steps) * u64::from(*percent)).div_ceil(100) as u32);
        let mut skips: Vec<u32> =
            if wanted.is_empty() { shares.filter(|k| *k < steps).collect() } else { wanted.to_vec() };
        if let Some(bad) = skips.iter().find(|k| **k == 0 || **k >= steps) {
            let message = format!("expected numbers of skipped steps from 1 to models.steps - 1 = {}", steps - 1);
            return Err(InputError::new("the command line", message).value("--skips", bad));
        }
        skips.sort_unstable();
        skips.dedup();
        // A small model of few steps starts at the same step for several of these: one says all that can be measured.
        let denoising = self.scenario.denoising();
        let own = |k: u32| denoising.skipped(ModelId(1), Shape::default(), k);
        if let Some(at) = (1..skips.len()).find(|at| !wanted.is_empty() && own(skips[*at - 1]) == own(skips[*at])) {
            let (one, other) = (skips[at - 1], skips[at]);
            let message = format!("{} skips {} of its own steps at {one} and at {other}", self.models[1], own(one));
            return Err(InputError::new("the command line", message).value("--skips", other));
        }
        skips.dedup_by_key(|k| own(*k));
        if skips.is_empty() {
            let message = "expected at least 2: with one there is nothing to skip";
            return Err(InputError::new(self.source.file(), message).value("models.steps", steps));
        }
        Ok(skips)
    }
}

/// Returns the number of requests to draw from a trace with `requests` requests.
fn wanted_prompts(wanted: Option<u32>, requests: usize) -> Result<usize, InputError> {
    let wanted = wanted.map_or((PROMPTS as usize).min(requests), |prompts| prompts as usize);
    // The first request has no earlier image. The second is the first one with a source for the fit, the third for the
    // check.
    if wanted > requests || wanted < 3 {
        let message = format!("expected 3 or more, and the trace has {requests} requests");
        return Err(InputError::new("the command line", message).value("--prompts", wanted));
    }
    Ok(wanted)
}
