//! Files of one run, each under its name once it is whole.

use std::convert::Infallible;
use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;
use flate2::GzBuilder;
use serde_json::json;

use super::Prepared;
use crate::cli::make_folder;
use crate::cli::progress::Progress;
use crate::journal::{Journal, Writer};
use crate::metrics::warnings::Warning;
use crate::metrics::{Keep, Results, RowsInOrder};
use crate::output::{OutputError, write_atomic};
use crate::replay::RunError;
use crate::report::requests::{Columns, RequestsFile, requests};
use crate::report::run_files::{self, Names};
use crate::scenario::{Fingerprint, Scenario};

const REQUESTS: &str = "requests.csv";

impl Prepared {
    /// Runs to the end and writes `requests.csv` into `folder` while requests end: no row stays in memory.
    ///
    /// # Errors
    /// The run cannot come to an end, or the file cannot be written; there is none then.
    pub fn run_into(&self, folder: &Path, also: impl Journal) -> anyhow::Result<Results> {
        make_folder(folder)?;
        self.with_names(|names| {
            let mut run: Option<Result<Results, RunError<Infallible>>> = None;
            let written = write_atomic(&folder.join(REQUESTS), |to| {
                let mut file = RequestsFile::new(to, self.columns(), names)?;
                let quality = self.quality(false);
                let mut rows = RowsInOrder::new(quality, self.scenario.models.steps, |row| file.row(&row));
                let results = run.insert(self.run(Keep::Ends, (&mut rows, also)));
                rows.finish();
                if results.is_err() {
                    return Err(io::Error::other("the run came to no end"));
                }
                file.finish()
            });
            let results = run.transpose()?;
            written?;
            Ok(results.expect("a file is written around a run"))
        })
    }

    /// Runs to the end and writes `requests.csv` into `folder`, and a journal, on the way.
    ///
    /// # Errors
    /// The run cannot come to an end, or a file cannot be written.
    pub fn run_with_journal(&self, folder: &Path, journal: &Path, progress: &Progress) -> anyhow::Result<Results> {
        self.with_journal(journal, |journal| self.run_into(folder, (progress, journal)))?
    }

    /// Writes a journal of what `run` records.
    ///
    /// # Errors
    /// It cannot be written.
    pub(in crate::cli) fn with_journal<T>(
        &self,
        file: &Path,
        run: impl FnOnce(&mut dyn Journal) -> T,
    ) -> Result<T, OutputError> {
        let mut result = None;
        write_atomic(file, |to| {
            // No name and no time in the header: equal runs give equal bytes.
            let zip = GzBuilder::new().write(to, flate2::Compression::default());
            let mut journal = Writer::new(zip, &self.header())?;
            result = Some(run(&mut journal));
            journal.finish()?.finish()?.flush()
        })?;
        Ok(result.expect("a journal is written around a run"))
    }

    /// Returns the first line of a journal.
    pub(in crate::cli) fn header(&self) -> serde_json::Value {
        json!({
            "modm": env!("CARGO_PKG_VERSION"),
            "scenario": self.scenario.resolved(),
            "profile": *self.inputs.profile,
            "inputs": by_name(self.files()),
        })
    }

    /// Writes `requests.csv` of a run that kept its rows.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_rows(&self, folder: &Path, results: &Results) -> anyhow::Result<()> {
        make_folder(folder)?;
        let similarity_to_prompt = results.requests.iter().any(|row| row.similarity_to_prompt.is_some());
        let columns = Columns { similarity_to_prompt, ..self.columns() };
        let write = |names: &Names<'_>| {
            write_atomic(&folder.join(REQUESTS), |to| requests(to, &results.requests, columns, names))
        };
        Ok(self.with_names(write)?)
    }

    /// Writes the other files of a finished run into `folder`.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, folder: &Path, results: &Results, wall_s: f64, warnings: &[String]) -> anyhow::Result<()> {
        make_folder(folder)?;
        if results.cache.is_none() {
            // With --force, an earlier run's would be taken for this one's.
            let _ = std::fs::remove_file(folder.join("cache.csv"));
        }
        let toml = toml::to_string_pretty(&self.scenario.resolved()).context("the scenario as TOML")?;
        write_atomic(&folder.join("scenario.toml"), |to| to.write_all(toml.as_bytes()))?;
        self.with_names(|names| {
            run_files::all(results, names, |name, content| write_atomic(&folder.join(name), |to| content(to)))
        })?;
        let warnings: Vec<String> =
            Warning::texts(&results.warnings).into_iter().chain(warnings.iter().cloned()).collect();
        write_run_json(folder, &self.scenario, &by_name(self.files()), &self.stand_ins(), wall_s, &warnings)
    }

    /// Columns of `requests.csv` in a simulation.
    fn columns(&self) -> Columns {
        Columns { similarity_to_prompt: false, quality: self.quality(false).is_known() }
    }

    fn with_names<T>(&self, write: impl FnOnce(&Names<'_>) -> T) -> T {
        let types = self.scenario.gpu_types();
        let gpus: Vec<String> = self.scenario.gpus().iter().map(|gpu| types[gpu.index()].clone()).collect();
        write(&Names {
            trace: &self.inputs.trace.trace,
            models: &self.scenario.model_names(),
            gpus: &gpus,
            total_steps: self.scenario.models.steps,
        })
    }
}

/// Lists files with their fingerprints, as `run.json` and journals have them.
pub(super) fn by_name<'a>(files: impl IntoIterator<Item = &'a Fingerprint>) -> Vec<serde_json::Value> {
    files.into_iter().map(|print| json!({ "file": print.file, "sha256": print.sha256 })).collect()
}

/// Writes `run.json`: the one file that may differ between equal runs.
///
/// # Errors
/// It cannot be written.
pub(in crate::cli) fn write_run_json(
    folder: &Path,
    scenario: &Scenario,
    inputs: &[serde_json::Value],
    stand_ins: &[String],
    wall_s: f64,
    warnings: &[String],
) -> anyhow::Result<()> {
    let mut run = json!({
        "modm": env!("CARGO_PKG_VERSION"),
        "commit": env!("MODM_COMMIT"),
        "scenario": scenario.name,
        "seed": scenario.seed,
        "inputs": inputs,
        "stand_ins": stand_ins,
        "wall_s": wall_s,
    });
    if !warnings.is_empty() {
        run["warnings"] = json!(warnings);
    }
    write_atomic(&folder.join("run.json"), |to| {
        serde_json::to_writer_pretty(&mut *to, &run).map_err(io::Error::from)?;
        to.write_all(b"\n")
    })?;
    Ok(())
}
