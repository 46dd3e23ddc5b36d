//! Files of a calibration, and its result in sentences and as JSON.

use std::io::{self, Write};
use std::path::Path;

use serde_json::{Value, json};

use super::{csv, percent, terminal};
use crate::calibration::check::{Checked, LEAST_HITS, Verdict};
use crate::calibration::fit::{self, Fit};
use crate::calibration::samples::{self, Sample};
use crate::experiments::ExperimentError;
use crate::experiments::calibrate::{Calibration, Fitted, RUN, SAMPLES, SIMILARITY, rooted};
use crate::input::InputError;
use crate::model::ModelId;
use crate::output::{self, OutputError, remove_file, write_atomic};
use crate::profile::{self, ProfileFile, Quality};
use crate::report::figures::{self, DrawError};
use crate::request::Shape;
use crate::scenario::read_profile;

/// Name of the folder of images.
pub const PICTURES: &str = "pictures";
const PROFILE: &str = "profile.toml";
/// Name of the scenario file that has the fitted bounds.
pub const SCENARIO: &str = "scenario.toml";

/// Reason why a calibration has no files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// Output file that cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// Figure that cannot be drawn.
    #[error("the figure: {0}")]
    Figure(#[from] DrawError),
    /// Profile that cannot be read, although the quality of this calibration is to be added to it.
    #[error(transparent)]
    Input(#[from] InputError),
}

/// Makes the folder for the files of a calibration, and removes the files that an earlier calibration left in it.
/// `from` is the folder of the samples, if an earlier calibration drew them.
///
/// # Errors
/// Returns an error if the folder holds something else, or an earlier calibration while `force` is false, or if a file
/// cannot be removed.
pub fn prepare_output(out: &Path, from: Option<&Path>, force: bool) -> Result<(), ExperimentError> {
    let refused = |message: String| Err(InputError::new(out, message).key("--out").into());
    let real = |folder: &Path| std::fs::canonicalize(folder).ok();
    if real(out).is_some() && from.and_then(real) == real(out) {
        return refused("is the calibration that --from reads: choose another folder".to_owned());
    }
    if out.join(PICTURES).is_dir() && !out.join(RUN).is_file() && !out.join(SAMPLES).is_file() {
        return refused(format!("holds a folder `{PICTURES}` that no calibration has left: choose another folder"));
    }
    output::prepare(out, &[RUN, "summary.json", "comparison.csv", SAMPLES], force)?;
    Ok(clear(out)?)
}

/// Removes files and folders that a reader would take for the results of this calibration although an earlier one wrote
/// them.
fn clear(out: &Path) -> Result<(), OutputError> {
    let pictures = out.join(PICTURES);
    if pictures.is_dir() {
        std::fs::remove_dir_all(&pictures).map_err(|reason| OutputError { path: pictures, reason })?;
    }
    [RUN, SAMPLES, "calibration.csv", "calibration.svg", PROFILE, SCENARIO]
        .iter()
        .try_for_each(|name| remove_file(&out.join(name)))
}

/// Calibration that was made, with all data that its files contain.
#[derive(Debug)]
pub struct CalibrationReport<'a> {
    /// Calibration that was run: scenario, models, measure and inputs.
    pub calibration: &'a Calibration<'a>,
    /// Samples: the images with their origin and quality.
    pub drawn: &'a [Sample],
    /// Fitted bounds and their check.
    pub fitted: Fitted,
    /// Share of the large model's quality that hits must keep.
    pub alpha: f64,
    /// Folder of the samples, if an earlier calibration drew them; `None` if this one did.
    pub from: Option<&'a Path>,
}

impl CalibrationReport<'_> {
    /// Writes every file but the images. `profile.toml` and `scenario.toml` are only written if there are bounds;
    /// `run.json` is written last.
    ///
    /// # Errors
    /// A file cannot be written, the figure cannot be drawn, or the profile cannot be read.
    ///
    /// # Panics
    /// Never panics: a scenario can be written as TOML.
    pub fn write(&self, out: &Path, wall_s: f64) -> Result<(), WriteError> {
        let Self { calibration: plan, drawn, fitted: Fitted { fits, check }, alpha, from } = self;
        let text = |name: &str, text: &str| write_atomic(&out.join(name), |to| to.write_all(text.as_bytes()));
        write_atomic(&out.join(SAMPLES), |to| samples::write(to, drawn, &plan.models))?;
        text("calibration.csv", &csv(fits, check, *alpha))?;
        let figure = figures::calibration(&plan.scenario.name, &plan.measure, *alpha, fits);
        text("calibration.svg", &figure.svg(figures::Look::default())?)?;
        let bounds = fit::bounds(fits);
        if !bounds.is_empty() {
            let (mut profile, _, _) = read_profile(&plan.scenario, plan.source.file())?;
            self.add_quality(&mut profile);
            profile::write(&profile, &out.join(PROFILE))?;
            let mut scenario = rooted(&plan.scenario, plan.source.file(), out);
            scenario.system.bounds = Some(bounds);
            scenario.models.profile = Some(PROFILE.into());
            text(SCENARIO, &toml::to_string_pretty(&scenario).expect("a scenario is TOML"))?;
        }
        let inputs: Vec<Value> =
            plan.inputs.iter().map(|(file, sha256)| json!({ "file": file, "sha256": sha256 })).collect();
        let run = json!({
            "modm": env!("CARGO_PKG_VERSION"),
            "commit": env!("MODM_COMMIT"),
            "scenario": plan.scenario.name,
            "seed": plan.scenario.seed,
            "measure": plan.measure,
            "alpha": alpha,
            "from": from,
            "inputs": inputs,
            "wall_s": wall_s,
        });
        write_atomic(&out.join(RUN), |to| {
            serde_json::to_writer_pretty(&mut *to, &run).map_err(io::Error::from)?;
            to.write_all(b"\n")
        })?;
        Ok(())
    }

    /// Adds rows of this measure to a profile. Earlier rows of the same measure and models are replaced.
    fn add_quality(&self, profile: &mut ProfileFile) {
        let (plan, check) = (self.calibration, &self.fitted.check);
        let ours = |row: &Quality| row.measure == plan.measure && plan.models.contains(&row.model);
        profile.quality.retain(|row| !ours(row));
        let row = |model: usize, skipped_steps: u32, value: f64, of: String| Quality {
            model: plan.models[model].clone(),
            skipped_steps,
            measure: plan.measure.clone(),
            value,
            source: Some(format!("modm {} calibrate, {}: {of}", env!("CARGO_PKG_VERSION"), plan.scenario.name)),
        };
        for (model, value) in check.models.into_iter().enumerate() {
            profile.quality.push(row(model, 0, value, format!("{} held-out requests", check.requests)));
        }
        for checked in &check.by_bound {
            // A kind of hit that did not occur gets no row: its quality is unknown.
            if let (Some(k), Some(worth)) = (checked.skipped_steps, checked.worth) {
                // The small model refines, so the images of hits are its own, and so are the steps.
                let own = plan.scenario.denoising().skipped(ModelId(1), Shape::default(), k);
                profile.quality.push(row(1, own, worth.quality, format!("{} held-out hits", checked.hits)));
            }
        }
    }

    /// Returns sentences that say whether the bounds hold on the held-out requests.
    #[must_use]
    pub fn sentences(&self) -> Vec<String> {
        let (plan, check, alpha) = (self.calibration, &self.fitted.check, self.alpha);
        let [large, small] = check.models;
        let judge = if plan.measure == SIMILARITY { "similarity of prompt and picture" } else { plan.measure.as_str() };
        let mut lines = vec![format!(
            "quality is {judge}; on {} held-out requests (even rows) {large:.3} for {}, {small:.3} for {} alone",
            check.requests, plan.models[0], plan.models[1]
        )];
        if check.by_bound.is_empty() {
            return lines;
        }
        let share = check.all.hits as f64 / check.requests.max(1) as f64;
        lines.push(format!("hits among them: {} ({})", check.all.hits, percent(share)));
        lines.push(match check.all.worth.zip(check.all.verdict(alpha)) {
            None => "note: none of them would be a hit: the bounds are not checked".to_owned(),
            Some((worth, verdict)) => {
                let (low, high) = worth.interval;
                let of = format!(
                    "{} of the large model's quality ({} to {})",
                    percent(worth.ratio),
                    percent(low),
                    percent(high)
                );
                match verdict {
                    Verdict::TooFew => {
                        format!("note: hits keep {of}: too few to say whether alpha holds, expected {LEAST_HITS} or more (--prompts)")
                    }
                    Verdict::Holds => format!("hits keep {of}: alpha holds"),
                    Verdict::Open => format!("note: hits keep {of}: whether alpha holds, so few do not say"),
                    Verdict::Fails => format!("note: hits keep {of}: alpha does not hold"),
                }
            }
        });
        lines
    }

    /// Returns the results as JSON, for programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let (plan, Fitted { fits, check }, alpha) = (self.calibration, &self.fitted, self.alpha);
        let checked = |checked: &Checked| {
            let mut found = json!({ "hits": checked.hits });
            if let Some((worth, verdict)) = checked.worth.as_ref().zip(checked.verdict(alpha)) {
                found["quality"] = json!(worth.quality);
                found["large_quality"] = json!(worth.large);
                found["ratio"] = json!(worth.ratio);
                found["ratio_95"] = json!([worth.interval.0, worth.interval.1]);
                found["holds"] = json!(verdict.word());
            }
            found
        };
        let of = |fit: &Fit| {
            let held_out = check.by_bound.iter().find(|checked| checked.skipped_steps == Some(fit.skipped_steps));
            let mut of_fit = json!({
                "skipped_steps": fit.skipped_steps,
                "bound": fit.bound,
                "kept": fit.kept,
                "pairs": fit.pairs.len(),
                "pairs_above": fit.pairs_above(),
                "held_out": held_out.map(checked),
            });
            // The noise is what carries over to models of other steps (`system.sigma_bounds`).
            let denoising = plan.scenario.denoising();
            if denoising.is_known() {
                of_fit["sigma"] = json!(denoising.allowed(fit.skipped_steps));
            }
            of_fit
        };
        json!({
            "measure": plan.measure,
            "alpha": alpha,
            "bounds": fit::bounds(fits),
            "skips": fits.iter().map(of).collect::<Vec<_>>(),
            "held_out": {
                "requests": check.requests,
                "large_quality": check.models[0],
                "small_quality": check.models[1],
                "all": checked(&check.all),
            },
        })
    }

    /// Returns the table for a terminal.
    #[must_use]
    pub fn table(&self) -> String {
        terminal(&self.fitted.fits, &self.fitted.check, self.alpha)
    }
}
