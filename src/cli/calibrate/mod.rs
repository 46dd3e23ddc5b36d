//! `modm calibrate`: similarity bounds from pictures drawn here. Draws (or reads an earlier calibration's
//! samples), fits, checks on held-out requests, and writes a scenario with the bounds.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;

use super::arguments::{ScenarioArguments, share};
use super::live::{Equipment, LibraryArguments};
use crate::calibration::samples::{self, Sample};
use crate::calibration::{check, fit};
use crate::input::{InputError, sha256};
use crate::scenario::{Inputs, Override, Scenario, Source, TraceInputs};
use crate::scheduler::routing::System;

mod draw;
mod results;
mod rooted;

/// Requests drawn, unless told otherwise.
const PROMPTS: u32 = 200;
/// Skipped steps tried, unless told otherwise: per cent of a full generation.
const SKIPS_PERCENT: [u32; 5] = [10, 20, 30, 50, 60];

/// Find the similarity bounds that keep a share of the large model's quality, from pictures drawn here
///
/// Draws the first requests of the trace with the large model, refines for each the most similar picture of an
/// earlier request with the first small model at several numbers of skipped steps, fits quality against
/// similarity on half of the requests and checks the bounds on the other half. Exit code 1 if no bound keeps it.
#[derive(Debug, Args)]
pub(super) struct Calibrate {
    #[command(flatten)]
    common: ScenarioArguments,
    #[command(flatten)]
    library: LibraryArguments,
    /// Requests to draw, the first of the trace; without it 200, or all there are
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(3..=1_000_000))]
    prompts: Option<u32>,
    /// Skipped steps to try; without it 10, 20, 30, 50 and 60 % of models.steps
    #[arg(long, value_name = "K,K", value_delimiter = ',')]
    skips: Vec<u32>,
    /// Share of the large model's mean quality to keep
    #[arg(long, value_name = "SHARE", default_value = "0.95", value_parser = share)]
    alpha: f64,
    /// Fit again from the samples of an earlier calibration, without drawing
    #[arg(long, value_name = "DIR", conflicts_with_all = ["prompts", "skips"])]
    from: Option<PathBuf>,
    /// With --from: scores of its pictures by another judge, CSV with columns `picture` and `score`
    #[arg(long, value_name = "FILE", requires = "from")]
    scores: Option<PathBuf>,
    /// What --scores measures; without it `score`
    #[arg(long, value_name = "NAME", requires = "scores", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    measure: Option<String>,
}

/// What the quality of pictures is called where the encoder judges.
const SIMILARITY: &str = "similarity";

/// A calibration, its inputs read and checked.
struct Plan<'a> {
    command: &'a Calibrate,
    scenario: Scenario,
    source: &'a Source,
    sets: &'a [Override],
    /// Names of the large model and of the small one that refines.
    models: [String; 2],
    measure: String,
    /// What was read, in `run.json`.
    inputs: Vec<(PathBuf, String)>,
}

pub(super) fn run(command: &Calibrate) -> anyhow::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "wall seconds go to run.json alone")]
    let begun = Instant::now();
    let (source, sets) = command.common.read()?;
    let scenario = source.scenario(&sets)?;
    let models = models(&scenario, source.file()).map_err(|error| source.place(error, &sets))?;
    let mut plan = Plan {
        command,
        scenario,
        source: &source,
        sets: &sets,
        models,
        measure: SIMILARITY.into(),
        inputs: Vec::new(),
    };
    let (drawn, file) = match &command.from {
        Some(folder) => plan.samples_of(folder)?,
        None => plan.drawn()?,
    };
    let grades = samples::grades(&drawn, &file)?;
    let fits = fit::fits(&grades, command.alpha);
    let bounds = fit::bounds(&fits);
    let checked = check::check(&grades, &bounds, plan.scenario.seed);
    results::write(&plan, &drawn, &fits, &checked, begun.elapsed().as_secs_f64())?;
    results::tell(&plan, &fits, &checked)
}

/// The two models of a system that refines with small ones.
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

impl Plan<'_> {
    /// The samples of an earlier calibration, judged anew if there are scores; and their file.
    fn samples_of(&mut self, folder: &Path) -> anyhow::Result<(Vec<Sample>, PathBuf)> {
        let file = folder.join("samples.csv");
        let mut read = samples::read(&file, &self.models, self.scenario.models.steps)?;
        self.measure = match &self.command.scores {
            Some(scores) => {
                samples::judge(&mut read, scores)?;
                self.inputs.push((scores.clone(), sha256(scores)?));
                self.command.measure.clone().unwrap_or_else(|| "score".to_owned())
            }
            None => results::measure_of(folder)?,
        };
        self.inputs.push((file.clone(), sha256(&file)?));
        samples::grades(&read, &file)?;
        let same = |out: &Path| Some(std::fs::canonicalize(out).ok()? == std::fs::canonicalize(folder).ok()?);
        if same(&self.command.common.out) == Some(true) {
            let message = "is the calibration that --from reads: choose another folder";
            return Err(InputError::new(&self.command.common.out, message).key("--out").into());
        }
        // What is written at the end must have what it needs.
        crate::scenario::read_profile(&self.scenario, self.source.file())?;
        self.prepare_output()?;
        Ok((read, file))
    }

    /// Samples drawn here.
    fn drawn(&mut self) -> anyhow::Result<(Vec<Sample>, PathBuf)> {
        let (file, place) = (self.source.file(), |error| self.source.place(error, self.sets));
        let inputs = TraceInputs::load(&self.scenario, file, false).map_err(place)?;
        if inputs.trace.columns().prompts.is_none() {
            let error = InputError::new(file, "has no `prompt` column: a calibration draws prompts");
            return Err(place(error.key("trace.requests")).into());
        }
        let count = self.prompts(inputs.trace.len())?;
        let skips = self.skips()?;
        self.inputs.extend(inputs.files.iter().map(|print| (print.file.clone(), print.sha256.clone())));
        let inputs = Inputs::new(&self.scenario, file, inputs.into()).map_err(place)?;
        self.inputs.extend(inputs.files.iter().map(|print| (print.file.clone(), print.sha256.clone())));
        let library = self.command.library.open()?;
        let equipment = Equipment::of(&self.scenario, file, &library, &self.command.library).map_err(place)?;
        self.prepare_output()?;
        let trace = &inputs.trace.trace;
        let prompts: Vec<_> = (0..count).map(|row| trace.prompt(row).unwrap_or_default().into()).collect();
        let out = &self.command.common.out;
        let wanted = draw::Wishes {
            prompts,
            skips,
            steps: self.scenario.models.steps,
            seed: self.scenario.seed,
            folder: out.join(results::PICTURES),
        };
        Ok((draw::samples(&wanted, &equipment, self.command.common.quiet)?, out.join("samples.csv")))
    }

    fn prompts(&self, requests: usize) -> Result<usize, InputError> {
        let wanted = self.command.prompts.map_or((PROMPTS as usize).min(requests), |prompts| prompts as usize);
        if wanted > requests || wanted < 3 {
            let message = format!("expected 3 or more, and the trace has {requests} requests");
            return Err(InputError::new("the command line", message).value("--prompts", wanted));
        }
        Ok(wanted)
    }

    /// Rising, each once.
    fn skips(&self) -> Result<Vec<u32>, InputError> {
        let steps = self.scenario.models.steps;
        let shares = SKIPS_PERCENT.iter().map(|percent| (u64::from(steps) * u64::from(*percent)).div_ceil(100) as u32);
        let mut skips: Vec<u32> = if self.command.skips.is_empty() {
            shares.filter(|k| *k < steps).collect()
        } else {
            self.command.skips.clone()
        };
        if let Some(bad) = skips.iter().find(|k| **k == 0 || **k >= steps) {
            let message = format!("expected numbers of skipped steps from 1 to models.steps - 1 = {}", steps - 1);
            return Err(InputError::new("the command line", message).value("--skips", bad));
        }
        skips.sort_unstable();
        skips.dedup();
        if skips.is_empty() {
            let message = "expected at least 2: with one there is nothing to skip";
            return Err(InputError::new(self.source.file(), message).value("models.steps", steps));
        }
        Ok(skips)
    }

    /// Makes the folder; what an earlier calibration has left there is taken away.
    fn prepare_output(&self) -> anyhow::Result<()> {
        let out = &self.command.common.out;
        let pictures = out.join(results::PICTURES);
        if pictures.is_dir() && !out.join("run.json").is_file() && !out.join("samples.csv").is_file() {
            let message =
                format!("holds a folder `{}` that no calibration has left: choose another folder", results::PICTURES);
            return Err(InputError::new(out, message).key("--out").into());
        }
        crate::output::prepare(
            out,
            &["run.json", "summary.json", "comparison.csv", "samples.csv"],
            self.command.common.force,
        )?;
        results::clear(out)
    }
}
