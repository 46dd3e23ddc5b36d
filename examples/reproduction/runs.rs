//! Finished runs on disk: folders of `modm compare`, with one seed or several, and of `modm sweep`.

use std::path::PathBuf;

use anyhow::{Context, bail};
use modm::metrics::summary::Summary;
use modm::published::Published;
use modm::report::read::{INDEX, Index};

use crate::page::Measured;

/// Folder that holds a folder for each experiment.
pub(crate) struct Runs(PathBuf);

impl Runs {
    pub(crate) const fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// Returns whether an experiment was run.
    pub(crate) fn has(&self, experiment: &str) -> bool {
        self.0.join(experiment).is_dir()
    }

    /// Returns the path of a file of a run with one seed.
    pub(crate) fn file(&self, experiment: &str, variant: &str, name: &str) -> PathBuf {
        self.0.join(experiment).join(variant).join(name)
    }

    /// Returns the published figures of a variant, as the scenario states them.
    pub(crate) fn published(&self, experiment: &str, variant: &str) -> anyhow::Result<Published> {
        let index: Index = read(&self.0.join(experiment).join(INDEX))?;
        let known = index.published.get(variant).copied();
        known.with_context(|| format!("{experiment}, {variant}: the scenario states nothing published"))
    }

    /// Returns the runs of a sweep over variants and one number: variant, number as written, and summary of each run.
    pub(crate) fn swept(&self, experiment: &str) -> anyhow::Result<Vec<(String, String, Summary)>> {
        let folder = self.0.join(experiment);
        let mut table = csv::Reader::from_path(folder.join("sweep.csv"))?;
        let at = table.headers()?.iter().position(|name| name == "folder").context("sweep.csv names no folders")?;
        let rows = table.records().map(|record| {
            let record = record?;
            let summary = read(&folder.join(&record[at]).join("summary.json"))?;
            Ok((record[0].to_owned(), record[1].to_owned(), summary))
        });
        rows.collect()
    }

    /// Returns the runs of a sweep over one key: value as written, and summary of each run.
    pub(crate) fn swept_by_one(&self, experiment: &str) -> anyhow::Result<Vec<(String, Summary)>> {
        let folder = self.0.join(experiment);
        let mut table = csv::Reader::from_path(folder.join("sweep.csv"))?;
        let at = table.headers()?.iter().position(|name| name == "folder").context("sweep.csv names no folders")?;
        let rows = table.records().map(|record| {
            let record = record?;
            Ok((record[0].to_owned(), read(&folder.join(&record[at]).join("summary.json"))?))
        });
        rows.collect()
    }

    /// Returns the summaries of a variant, in the order of seeds.
    pub(crate) fn summaries(&self, experiment: &str, variant: &str) -> anyhow::Result<Vec<Summary>> {
        let folder = self.0.join(experiment).join(variant);
        let one = folder.join("summary.json");
        let mut files = Vec::new();
        if one.is_file() {
            files.push(one);
        } else {
            let entries = std::fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
            for entry in entries {
                files.push(entry?.path().join("summary.json"));
            }
            files.sort();
        }
        if files.is_empty() {
            bail!("{}: no run", folder.display());
        }
        files.iter().map(read).collect()
    }

    /// Returns one measure of a variant.
    pub(crate) fn measure(
        &self,
        experiment: &str,
        variant: &str,
        measure: impl Fn(&Summary) -> Option<f64>,
    ) -> anyhow::Result<Measured> {
        let values: Option<Vec<f64>> = self.summaries(experiment, variant)?.iter().map(measure).collect();
        Ok(Measured(values.with_context(|| format!("{experiment}, {variant}: a measure is absent"))?))
    }

    /// Returns one measure of a variant over the same measure of the variant `to`, seed by seed.
    pub(crate) fn ratio(
        &self,
        experiment: &str,
        variant: &str,
        to: &str,
        measure: impl Fn(&Summary) -> Option<f64> + Copy,
    ) -> anyhow::Result<Measured> {
        let over = self.measure(experiment, variant, measure)?;
        let under = self.measure(experiment, to, measure)?;
        Ok(Measured(over.0.iter().zip(&under.0).map(|(over, under)| over / under).collect()))
    }
}

fn read<T: serde::de::DeserializeOwned>(file: &PathBuf) -> anyhow::Result<T> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    serde_json::from_str(&text).with_context(|| file.display().to_string())
}

/// Returns the throughput while requests arrive, in requests a minute.
pub(crate) fn steady(summary: &Summary) -> Option<f64> {
    summary.throughput_steady_per_min
}

/// Returns the share of the requests in time, for a latency target that is a multiple of one full generation.
pub(crate) fn attainment(summary: &Summary, multiple: f64) -> Option<f64> {
    summary.slo.iter().find(|slo| slo.multiple.total_cmp(&multiple).is_eq()).map(|slo| slo.attainment)
}
