//! Reports for readers: CSV, tables, figures and one HTML page, made from finished measures.
//!
//! A report is rendered in memory and depends only on its input, byte for byte. The caller writes the files with
//! [`write_files`]; only a calibration's report writes its own. Reports compute no measure of a run: `metrics` does.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use crate::experiments::capacity::Capacities;
use crate::metrics::summary::Summary;
use crate::metrics::timeline::Timeline;
use crate::output::{OutputError, make_folder, write_atomic};
use crate::published::Published;
use crate::time::Duration;

pub mod against;
pub mod audit;
pub mod calibration;
mod capacity;
mod columns;
mod comparison_csv;
pub mod figures;
mod hit_rate;
mod html;
pub mod inspection;
pub mod measures;
mod plan;
pub mod profile;
mod profile_range;
pub mod provenance;
mod quality;
pub mod read;
pub mod saturation;
pub mod statistics;
mod sweep;
mod sweep_csv;
mod table;
pub mod validation;
mod verdict;

pub use capacity::{CapacityReport, capacity_table};
pub use comparison_csv::comparison_csv;
pub use figures::DrawError;
pub use plan::{PlanReport, plan_table};
pub use sweep::SweepReport;
pub use sweep_csv::{SweepRow, sweep_csv, sweep_json};
pub use table::{markdown, sweep_table, terminal};
pub use verdict::{Verdict, verdict};

use figures::Look;
use provenance::Provenance;
use statistics::Estimate;

/// Run of a variant under one seed.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// Name of the variant.
    pub variant: String,
    /// Seed of the run.
    pub seed: u64,
    /// Measures of the run.
    pub summary: Summary,
    /// Windows of time of the run.
    pub timeline: Timeline,
    /// Latencies of the completed requests, sorted.
    pub latencies: Vec<Duration>,
    /// Numbers of large workers that the monitor wanted, each with its time in seconds.
    pub wanted: Vec<(f64, u32)>,
    /// Number of hits by the age of the cached image that they started from, with the name of the age. The youngest age
    /// is first.
    pub ages: Vec<(String, u64)>,
    /// Window of time that `spans` covers; only for the first seed of a variant.
    pub window: Option<read::WindowS>,
    /// Spans of the workers in the window, by worker and time. Loads and losses come after the jobs.
    pub spans: Vec<read::Span>,
}

/// Runs of the same trace under different variants, with all that their report contains.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// Name of the scenario.
    pub name: String,
    /// Runs, grouped by variant. The variant of the first run is the baseline.
    pub runs: Vec<Run>,
    /// Policies, settings of the command line, inputs, and sources of the service times.
    pub provenance: Provenance,
    /// Sentences on what the seeds vary and on what the profile lacks.
    pub notes: Vec<String>,
    /// Figures that others published, by variant.
    pub published: BTreeMap<String, Published>,
    /// Capacities of the variants, if they were searched.
    pub capacities: Option<Capacities>,
    /// Stand-ins that were used, in words. Figures mention that there are stand-ins.
    pub stand_ins: Vec<String>,
    /// Scenario as resolved, as TOML text.
    pub scenario_toml: String,
    /// Names and values of what produced the results: program version, commit, seed.
    pub versions: Vec<(String, String)>,
}

impl Comparison {
    /// Returns the variants in the order of the runs, the baseline first.
    #[must_use]
    pub fn variants(&self) -> Vec<&str> {
        let mut variants: Vec<&str> = Vec::new();
        for run in &self.runs {
            if !variants.contains(&run.variant.as_str()) {
                variants.push(&run.variant);
            }
        }
        variants
    }

    /// Returns the runs of a variant, one for each seed.
    pub fn runs_of<'a>(&'a self, variant: &'a str) -> impl Iterator<Item = &'a Run> {
        self.runs.iter().filter(move |run| run.variant == variant)
    }

    /// Returns sentences on what the numbers rest on: sources of service times, then stand-ins, then notes.
    pub fn grounds(&self) -> impl Iterator<Item = String> {
        self.provenance.sources().chain(self.stand_ins.iter().chain(&self.notes).cloned())
    }

    /// Returns all information that the numbers rest on.
    fn all_grounds(&self) -> html::Grounds<'_> {
        html::Grounds {
            provenance: &self.provenance,
            stand_ins: &self.stand_ins,
            notes: &self.notes,
            versions: &self.versions,
            scenario_toml: &self.scenario_toml,
        }
    }

    /// Returns the origin of the numbers, in short.
    fn origin(&self) -> String {
        figures::origin(&self.name, self.seeds(), &self.stand_ins)
    }

    /// Returns the number of different seeds.
    #[must_use]
    pub fn seeds(&self) -> usize {
        let seeds: std::collections::BTreeSet<u64> = self.runs.iter().map(|run| run.seed).collect();
        seeds.len()
    }

    /// Returns the baseline's run with the same seed, that is, with the same requests.
    #[must_use]
    pub fn baseline_of(&self, run: &Run) -> Option<&Run> {
        let baseline = &self.runs.first()?.variant;
        self.runs.iter().find(|other| other.variant == *baseline && other.seed == run.seed)
    }

    /// Returns the published value for a variant. A published ratio is multiplied by the baseline's value in this
    /// comparison.
    fn published_value(
        &self,
        variant: &str,
        value: impl Fn(&Published) -> Option<f64>,
        ratio: impl Fn(&Published) -> Option<f64>,
        measure: impl Fn(&Summary) -> Option<f64>,
    ) -> Option<f64> {
        let published = self.published.get(variant)?;
        let baseline = self.variants().first().and_then(|first| Some(self.estimate(first, measure)?.mean));
        value(published).or_else(|| Some(ratio(published)? * baseline?))
    }

    /// Estimates a measure of a variant over its seeds.
    #[must_use]
    pub fn estimate(&self, variant: &str, measure: impl Fn(&Summary) -> Option<f64>) -> Option<Estimate> {
        statistics::estimate(self.runs_of(variant).filter_map(|run| measure(&run.summary)))
    }

    /// Estimates the ratio of a variant's measure to the baseline's, seed by seed.
    #[must_use]
    pub fn ratio(&self, variant: &str, measure: impl Fn(&Summary) -> Option<f64>) -> Option<Estimate> {
        statistics::estimate(self.runs_of(variant).filter_map(|run| {
            let baseline = self.baseline_of(run)?;
            statistics::ratio(measure(&run.summary)?, measure(&baseline.summary)?)
        }))
    }
}

/// File of a report, held in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportFile {
    /// Path of the file within the folder of the comparison, with `/` between parts.
    pub path: String,
    /// Content of the file.
    pub bytes: Vec<u8>,
}

impl ReportFile {
    /// Makes a file of text.
    fn new(path: &str, text: String) -> Self {
        Self { path: path.to_owned(), bytes: text.into_bytes() }
    }
}

/// Writes files into a folder and its subfolders.
///
/// # Errors
/// Returns an error if a file cannot be written.
pub fn write_files(files: &[ReportFile], folder: &Path) -> Result<(), OutputError> {
    for file in files {
        let path = folder.join(&file.path);
        path.parent().map_or(Ok(()), make_folder)?;
        write_atomic(&path, |to| to.write_all(&file.bytes))?;
    }
    Ok(())
}

/// Returns the variant, the seed and the measures of each run as JSON.
#[must_use]
pub fn json(runs: &[Run]) -> serde_json::Value {
    let row = |run: &Run| serde_json::json!({ "variant": run.variant, "seed": run.seed, "summary": run.summary });
    runs.iter().map(row).collect()
}

/// Returns all files of a comparison's report: the CSV files, `report.html`, `report.md` and, for each figure,
/// `figures/NAME.svg`, `.png`, `.pdf` and `.csv`. `look` is the look of the figures' files.
///
/// # Errors
/// See [`DrawError`].
pub fn files(comparison: &Comparison, look: Look) -> Result<Vec<ReportFile>, DrawError> {
    let verdict = verdict(comparison);
    let mut tables = vec![ReportFile::new("comparison.csv", comparison_csv(comparison))];
    tables.extend(comparison.capacities.as_ref().map(capacity::csv_file));
    tables.extend(profile_range::csv_file(comparison));
    let markdown = table::page(comparison, &verdict);
    html::files(&comparison.name, tables, markdown, &figures::figures(comparison), look, |page, drawn| {
        html::write(page, comparison, &verdict, drawn)
    })
}

/// Returns the throughput while requests arrive, if the run has it. The time after the last arrival says little about a
/// queue that grew.
fn steady(summary: &Summary) -> Option<f64> {
    summary.throughput_steady_per_min.or(summary.throughput_per_min)
}

/// Returns the SLO attainment at a multiple.
fn attainment_at(summary: &Summary, multiple: f64) -> Option<f64> {
    Some(summary.slo.iter().find(|slo| slo.multiple.total_cmp(&multiple).is_eq())?.attainment)
}

#[cfg(test)]
pub(crate) mod sample;
