//! What people read after a run: CSV, tables, figures and one HTML page, from finished measures.
//!
//! Everything is rendered in memory and is a function of its input, byte for byte; writing files is
//! the command line's business. Nothing here computes a measure of a run: that is `metrics`.

use std::collections::BTreeMap;

use crate::experiments::capacity::Capacities;
use crate::metrics::summary::Summary;
use crate::metrics::timeline::Timeline;
use crate::published::Published;
use crate::time::Duration;

pub mod against;
pub mod audit;
pub mod calibration;
mod capacity;
mod comparison_csv;
pub mod figures;
mod hit_rate;
mod html;
pub mod measures;
mod plan;
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
pub use sweep_csv::{SweepRow, sweep_csv};
pub use table::{markdown, sweep_table, terminal};
pub use verdict::{Verdict, verdict};

use figures::Look;
use provenance::Provenance;
use statistics::Estimate;

/// One run: a variant under a seed.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// The variant's name.
    pub variant: String,
    /// The seed.
    pub seed: u64,
    /// Its measures.
    pub summary: Summary,
    /// Its windows of time.
    pub timeline: Timeline,
    /// Latencies of its completed requests, sorted.
    pub latencies: Vec<Duration>,
    /// Large workers that its monitor wanted: seconds and number.
    pub wanted: Vec<(f64, u32)>,
    /// Its hits by the age of what they started from, youngest first: what an age is called, and how many.
    pub ages: Vec<(String, u64)>,
    /// A window of time, and what its workers did there; of a variant's first seed only.
    pub window: Option<read::WindowS>,
    /// By worker and time; loads and losses after the jobs.
    pub spans: Vec<read::Span>,
}

/// Runs of the same trace under different variants, and what a reader must know of them.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// The scenario's name.
    pub name: String,
    /// Runs, a variant's together; the first run's variant is the baseline.
    pub runs: Vec<Run>,
    /// Policies, settings of the command line, inputs and service times.
    pub provenance: Provenance,
    /// What seeds vary, what the profile lacks: one sentence each.
    pub notes: Vec<String>,
    /// What others published of its variants.
    pub published: BTreeMap<String, Published>,
    /// Capacities of its variants, where they were searched.
    pub capacities: Option<Capacities>,
    /// Stand-ins that were used, in words; figures carry a mark of them.
    pub stand_ins: Vec<String>,
    /// The scenario as resolved.
    pub scenario_toml: String,
    /// Program version, commit, seed: name and value.
    pub versions: Vec<(String, String)>,
}

impl Comparison {
    /// Variants in the order given, the baseline first.
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

    /// The runs of a variant, one a seed.
    pub fn runs_of<'a>(&'a self, variant: &'a str) -> impl Iterator<Item = &'a Run> {
        self.runs.iter().filter(move |run| run.variant == variant)
    }

    /// Notes on what the numbers rest on: sources of service times, stand-ins, then notes.
    pub fn grounds(&self) -> impl Iterator<Item = String> {
        self.provenance.sources().chain(self.stand_ins.iter().chain(&self.notes).cloned())
    }

    /// All that the numbers rest on.
    fn all_grounds(&self) -> html::Grounds<'_> {
        html::Grounds {
            provenance: &self.provenance,
            stand_ins: &self.stand_ins,
            notes: &self.notes,
            versions: &self.versions,
            scenario_toml: &self.scenario_toml,
        }
    }

    /// Where its numbers come from, in short.
    fn origin(&self) -> String {
        figures::origin(&self.name, self.seeds(), &self.stand_ins)
    }

    /// Number of different seeds.
    #[must_use]
    pub fn seeds(&self) -> usize {
        let seeds: std::collections::BTreeSet<u64> = self.runs.iter().map(|run| run.seed).collect();
        seeds.len()
    }

    /// The baseline's run on the same seed: the same requests.
    #[must_use]
    pub fn baseline_of(&self, run: &Run) -> Option<&Run> {
        let baseline = &self.runs.first()?.variant;
        self.runs.iter().find(|other| other.variant == *baseline && other.seed == run.seed)
    }

    /// What was published of a variant: of a ratio, times what the baseline has here.
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

    /// A measure of a variant over its seeds.
    #[must_use]
    pub fn estimate(&self, variant: &str, measure: impl Fn(&Summary) -> Option<f64>) -> Option<Estimate> {
        statistics::estimate(self.runs_of(variant).filter_map(|run| measure(&run.summary)))
    }

    /// A measure of a variant over the baseline's, seed by seed.
    #[must_use]
    pub fn ratio(&self, variant: &str, measure: impl Fn(&Summary) -> Option<f64>) -> Option<Estimate> {
        statistics::estimate(self.runs_of(variant).filter_map(|run| {
            let baseline = self.baseline_of(run)?;
            statistics::ratio(measure(&run.summary)?, measure(&baseline.summary)?)
        }))
    }
}

/// A file of a report, still in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportFile {
    /// Where it goes within the folder of the comparison, with `/` between parts.
    pub path: String,
    /// What it holds.
    pub bytes: Vec<u8>,
}

impl ReportFile {
    /// A file of text.
    fn new(path: &str, text: String) -> Self {
        Self { path: path.to_owned(), bytes: text.into_bytes() }
    }
}

/// All files of a comparison's report: `comparison.csv`, `report.html`, `report.md` and, for each figure,
/// `figures/NAME.svg`, `.png`, `.pdf` and `.csv`; the figures' files have that look.
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

/// Throughput while requests arrive: what comes after the last arrival says little of a queue that grew.
fn steady(summary: &Summary) -> Option<f64> {
    summary.throughput_steady_per_min.or(summary.throughput_per_min)
}

/// SLO attainment at a multiple.
fn attainment_at(summary: &Summary, multiple: f64) -> Option<f64> {
    Some(summary.slo.iter().find(|slo| slo.multiple.total_cmp(&multiple).is_eq())?.attainment)
}

#[cfg(test)]
pub(crate) mod sample;
