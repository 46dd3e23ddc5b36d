//! What a calibration writes and says.

use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::{Plan, SIMILARITY, rooted};
use crate::calibration::check::{Check, Checked, LEAST_HITS, Verdict};
use crate::calibration::fit::{self, Fit};
use crate::calibration::samples::{self, Sample};
use crate::input::{self, InputError};
use crate::output::write_atomic;
use crate::profile::{ProfileFile, Quality};
use crate::report;
use crate::scenario::read_profile;

/// Folder of the pictures.
pub(super) const PICTURES: &str = "pictures";
const PROFILE: &str = "profile.toml";
const SCENARIO: &str = "scenario.toml";
const RUN: &str = "run.json";

/// Takes away what would be taken for this calibration's.
pub(super) fn clear(out: &Path) -> anyhow::Result<()> {
    let pictures = out.join(PICTURES);
    if pictures.is_dir() {
        std::fs::remove_dir_all(&pictures).with_context(|| format!("{}: cannot be removed", pictures.display()))?;
    }
    for name in [RUN, "samples.csv", "calibration.csv", "calibration.svg", PROFILE, SCENARIO] {
        let file = out.join(name);
        if file.exists() {
            std::fs::remove_file(&file).with_context(|| format!("{}: cannot be removed", file.display()))?;
        }
    }
    Ok(())
}

/// What an earlier calibration measured.
pub(super) fn measure_of(folder: &Path) -> Result<String, InputError> {
    let file = folder.join(RUN);
    let text = input::text(&file)?;
    let read = serde_json::from_str::<Value>(&text).ok();
    let measure = read.as_ref().and_then(|run| run["measure"].as_str()).map(str::to_owned);
    measure.ok_or_else(|| InputError::new(&file, "expected what `modm calibrate` writes, with its `measure`"))
}

/// Writes everything but pictures; `run.json` last.
pub(super) fn write(plan: &Plan<'_>, drawn: &[Sample], fits: &[Fit], check: &Check, wall_s: f64) -> anyhow::Result<()> {
    let (out, alpha) = (&plan.command.common.out, plan.command.alpha);
    let text = |name: &str, text: &str| write_atomic(&out.join(name), |to| to.write_all(text.as_bytes()));
    write_atomic(&out.join("samples.csv"), |to| samples::write(to, drawn, &plan.models))?;
    text("calibration.csv", &report::calibration::csv(fits, check, alpha))?;
    let figure = report::figures::calibration(&plan.scenario.name, &plan.measure, alpha, fits);
    text("calibration.svg", &figure.svg(report::figures::Look::default())?)?;
    let bounds = fit::bounds(fits);
    if !bounds.is_empty() {
        let (mut profile, _, _) = read_profile(&plan.scenario, plan.source.file())?;
        add_quality(&mut profile, plan, check);
        crate::cli::profile::write(&profile, &out.join(PROFILE))?;
        let mut scenario = rooted::rooted(&plan.scenario, plan.source.file(), out);
        scenario.system.bounds = Some(bounds);
        scenario.models.profile = Some(PROFILE.into());
        text(SCENARIO, &toml::to_string_pretty(&scenario).context("the scenario as TOML")?)?;
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
        "from": plan.command.from,
        "inputs": inputs,
        "wall_s": wall_s,
    });
    write_atomic(&out.join(RUN), |to| {
        serde_json::to_writer_pretty(&mut *to, &run).map_err(io::Error::from)?;
        to.write_all(b"\n")
    })?;
    Ok(())
}

/// Rows of this measure, in place of earlier ones of the same models.
fn add_quality(profile: &mut ProfileFile, plan: &Plan<'_>, check: &Check) {
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
        // A kind of hit that did not occur is not made up.
        if let (Some(k), Some(worth)) = (checked.skipped_steps, checked.worth) {
            profile.quality.push(row(1, k, worth.quality, format!("{} held-out hits", checked.hits)));
        }
    }
}

/// Prints what was found.
///
/// # Errors
/// There is no bound.
pub(super) fn tell(plan: &Plan<'_>, fits: &[Fit], check: &Check) -> anyhow::Result<()> {
    let (common, alpha) = (&plan.command.common, plan.command.alpha);
    if common.json {
        println!("{}", serde_json::to_string_pretty(&summary(plan, fits, check))?);
    } else {
        println!("{}", report::calibration::terminal(fits, check, alpha));
        for line in said(plan, check) {
            println!("{line}");
        }
    }
    if fit::bounds(fits).is_empty() {
        bail!(
            "no similarity keeps {} of the large model's {}: {} has what was fitted; more requests (--prompts), fewer skipped steps (--skips) or a lower --alpha may do",
            report::calibration::percent(alpha),
            plan.measure,
            common.out.join("calibration.csv").display()
        );
    }
    eprintln!("scenario: {}", common.out.join(SCENARIO).display());
    Ok(())
}

/// Whether the bounds hold where they were not fitted.
fn said(plan: &Plan<'_>, check: &Check) -> Vec<String> {
    let alpha = plan.command.alpha;
    let percent = report::calibration::percent;
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

fn summary(plan: &Plan<'_>, fits: &[Fit], check: &Check) -> Value {
    let alpha = plan.command.alpha;
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
        json!({
            "skipped_steps": fit.skipped_steps,
            "bound": fit.bound,
            "kept": fit.kept,
            "pairs": fit.pairs.len(),
            "pairs_above": fit.pairs_above(),
            "held_out": held_out.map(checked),
        })
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
