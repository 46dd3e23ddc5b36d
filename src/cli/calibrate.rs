//! `modm calibrate`: finds similarity bounds from pictures that are drawn here. Draws pictures, or reads the samples of
//! an earlier calibration, fits bounds, checks them on held-out requests, and writes a scenario with the bounds.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;

use super::arguments::{LibraryArguments, ScenarioArguments, share};
use super::printer;
use super::progress::Lines;
use crate::calibration::fit;
use crate::calibration::samples::Sample;
use crate::experiments::calibrate::{Calibration, SAMPLES, draw};
use crate::experiments::live::Equipment;
use crate::report::calibration::{CalibrationReport, PICTURES, SCENARIO, percent, prepare_output};
use crate::run_folder::WallTime;

/// Find the similarity bounds that keep a share of the large model's quality, from pictures drawn here
///
/// Draws the first requests of the trace with the large model, refines for each the most similar picture of an earlier
/// request with the first small model at several numbers of skipped steps, fits quality against similarity on half of
/// the requests and checks the bounds on the other half. Exit code 1 if no bound keeps the share.
#[derive(Debug, Args)]
pub(super) struct Calibrate {
    #[command(flatten)]
    common: ScenarioArguments,
    #[command(flatten)]
    library: LibraryArguments,
    /// Number of requests to draw, from the first of the trace; 200 if absent, or all of a shorter trace
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(3..=1_000_000))]
    prompts: Option<u32>,
    /// Numbers of skipped steps to try; 10, 20, 30, 50 and 60 % of models.steps if absent
    #[arg(long, value_name = "K,K", value_delimiter = ',')]
    skips: Vec<u32>,
    /// Share of the large model's mean quality to keep
    #[arg(long, value_name = "SHARE", default_value = "0.95", value_parser = share)]
    alpha: f64,
    /// Fit again from the samples of an earlier calibration, without drawing
    #[arg(long, value_name = "DIR", conflicts_with_all = ["prompts", "skips"])]
    from: Option<PathBuf>,
    /// Scores of the pictures of --from by another judge: CSV with columns `picture` and `score`
    #[arg(long, value_name = "FILE", requires = "from")]
    scores: Option<PathBuf>,
    /// Name of the measure of --scores; `score` if absent
    #[arg(long, value_name = "NAME", requires = "scores", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    measure: Option<String>,
}

pub(super) fn run(command: &Calibrate) -> anyhow::Result<()> {
    let begun = WallTime::begin();
    let common = &command.common;
    let (source, sets) = common.read()?;
    let mut calibration = Calibration::new(&source, &sets)?;
    let (drawn, file) = match &command.from {
        Some(folder) => command.earlier_samples(&mut calibration, folder)?,
        None => command.draw(&mut calibration)?,
    };
    let report = CalibrationReport {
        fitted: calibration.fit(&drawn, &file, command.alpha)?,
        calibration: &calibration,
        drawn: &drawn,
        alpha: command.alpha,
        from: command.from.as_deref(),
    };
    report.write(&common.out, begun.seconds())?;
    if common.json {
        printer::json(&report.json())?;
    } else {
        out!("{}", report.table());
        for line in report.sentences() {
            out!("{line}");
        }
    }
    if fit::bounds(&report.fitted.fits).is_empty() {
        bail!(
            "no similarity keeps {} of the large model's {}: {} has what was fitted; more requests (--prompts), fewer skipped steps (--skips) or a lower --alpha may do",
            percent(command.alpha),
            calibration.measure,
            common.out.join("calibration.csv").display()
        );
    }
    say!("scenario: {}", common.out.join(SCENARIO).display());
    Ok(())
}

impl Calibrate {
    /// Reads the samples of an earlier calibration, and judges them anew if there are scores.
    fn earlier_samples(
        &self,
        calibration: &mut Calibration<'_>,
        folder: &Path,
    ) -> anyhow::Result<(Vec<Sample>, PathBuf)> {
        let measure = self.measure.as_deref().unwrap_or("score");
        let read = calibration.earlier_samples(folder, self.scores.as_deref().map(|scores| (scores, measure)))?;
        prepare_output(&self.common.out, self.from.as_deref(), self.common.force)?;
        Ok(read)
    }

    /// Draws new samples, and returns them with the file that will hold them.
    fn draw(&self, calibration: &mut Calibration<'_>) -> anyhow::Result<(Vec<Sample>, PathBuf)> {
        let out = &self.common.out;
        let wishes = calibration.wishes(self.prompts, &self.skips, out.join(PICTURES))?;
        let (library, lines) = (self.library.open()?, Lines::new(self.common.quiet));
        let file = calibration.source.file();
        let equipment = Equipment::find_here(&calibration.scenario, file, &library, self.library.allow_cpu, &lines);
        let equipment = equipment.map_err(|error| calibration.place(error))?;
        prepare_output(out, None, self.common.force)?;
        Ok((draw(&wishes, &equipment, &lines)?, out.join(SAMPLES)))
    }
}
