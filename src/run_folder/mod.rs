//! Folder of one run. A file gets its name once it is whole. The module also says what an earlier run in a folder is.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use flate2::GzBuilder;
use serde_json::json;

use crate::journal::{Journal, Writer};
use crate::metrics::warnings::Warning;
use crate::metrics::{Keep, Results, RowsInOrder};
use crate::output::{OutputError, make_folder, remove_file, write_atomic};
use crate::replay::RunError;
use crate::scenario::Scenario;
use crate::simulation::{Simulation, by_name};

mod earlier;
mod files;
mod requests;

pub use earlier::{Build, Difference, EarlierRun, Missing, earlier_run};
use files::Names;
use requests::{Columns, RequestsFile, requests};

const REQUESTS: &str = "requests.csv";
/// Name of the file that is written last: [`earlier_run`] takes a folder that has it for a run that came to its end.
pub const RUN: &str = "run.json";

/// Name of the file with a run's journal.
pub const JOURNAL: &str = "journal.jsonl.gz";

/// Time on the wall that a command or a run takes. It goes to `run.json` alone, so that equal runs give equal results.
#[derive(Clone, Copy, Debug)]
pub struct WallTime(Instant);

impl WallTime {
    /// Begins to measure.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "wall seconds go to run.json alone")]
    pub fn begin() -> Self {
        Self(Instant::now())
    }

    /// Returns the seconds since the beginning.
    #[must_use]
    pub fn seconds(self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

/// Error because of which the files of a run are not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// File that cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// Run that cannot come to an end.
    #[error(transparent)]
    Run(#[from] RunError<Infallible>),
}

/// Folder for the files of a run.
#[derive(Debug)]
pub struct RunFolder<'a> {
    simulation: &'a Simulation,
    folder: PathBuf,
    /// Further entry of `run.json`.
    note: Option<(&'static str, serde_json::Value)>,
}

impl<'a> RunFolder<'a> {
    /// Names the folder of a run. The folder is made when the first file is written.
    #[must_use]
    pub fn new(simulation: &'a Simulation, folder: impl AsRef<Path>) -> Self {
        Self { simulation, folder: folder.as_ref().to_owned(), note: None }
    }

    /// Adds an entry to `run.json`: a key and a value.
    #[must_use]
    pub fn noting(self, note: Option<(&'static str, serde_json::Value)>) -> Self {
        Self { note, ..self }
    }

    /// Runs to the end, and writes `requests.csv` while requests end, so that no row stays in memory.
    ///
    /// # Errors
    /// Returns an error if the run cannot come to an end, or if the file cannot be written. There is no file then.
    pub fn run(&self, also: impl Journal) -> Result<Results, FolderError> {
        self.with_names(|names| {
            let mut run: Option<Result<Results, RunError<Infallible>>> = None;
            let written = self.replace_rows(|to| {
                let mut file = RequestsFile::new(to, self.columns(), names)?;
                let (quality, denoising) = (self.simulation.quality(false), self.simulation.scenario.denoising());
                let mut rows = RowsInOrder::new(quality, denoising, |row| file.row(&row));
                let results = run.insert(self.simulation.run_keeping(Keep::Ends, (&mut rows, also)));
                rows.finish();
                if results.is_err() {
                    return Err(io::Error::other("the run came to no end"));
                }
                file.finish()
            });
            // The error of the run says more than the error of the file, which was given up because of it.
            let results = run.transpose()?;
            written?;
            Ok(results.expect("a file is written around a run"))
        })
    }

    /// Runs to the end, and writes `requests.csv` and a journal while requests end.
    ///
    /// # Errors
    /// Returns an error if the run cannot come to an end, or if a file cannot be written.
    pub fn run_with_journal(&self, also: impl Journal) -> Result<Results, FolderError> {
        make_folder(&self.folder)?;
        write_journal(self.simulation, &self.folder.join(JOURNAL), |journal| self.run((also, journal)))?
    }

    /// Writes `requests.csv` of a run that kept its rows.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub fn write_rows(&self, results: &Results) -> Result<(), OutputError> {
        let similarity_to_prompt = results.requests.iter().any(|row| row.similarity_to_prompt.is_some());
        let columns = Columns { similarity_to_prompt, ..self.columns() };
        self.with_names(|names| self.replace_rows(|to| requests(to, &results.requests, columns, names)))
    }

    /// Writes all other files of a finished run. `warnings` are added to those of the results.
    ///
    /// # Errors
    /// Returns an error if a file cannot be written.
    pub fn write(&self, results: &Results, wall_s: f64, warnings: &[String]) -> Result<(), OutputError> {
        let folder = self.folder.as_path();
        make_folder(folder)?;
        remove_file(&folder.join(RUN))?;
        if results.cache.is_none() {
            // With --force, the file of an earlier run would be taken for this run's.
            remove_file(&folder.join("cache.csv"))?;
        }
        let scenario = &self.simulation.scenario;
        let toml = as_toml(scenario);
        write_atomic(&folder.join("scenario.toml"), |to| to.write_all(toml.as_bytes()))?;
        self.with_names(|names| {
            files::all(results, names, |name, content| write_atomic(&folder.join(name), |to| content(to)))
        })?;
        let warnings: Vec<String> =
            Warning::texts(&results.warnings).into_iter().chain(warnings.iter().cloned()).collect();
        let inputs = by_name(self.simulation.files());
        let stand_ins = self.simulation.stand_ins();
        run_json(folder, scenario, &inputs, &stand_ins, wall_s, &warnings, self.note.as_ref())
    }

    /// Writes `requests.csv`, the first file of a run. The `run.json` of an earlier run is removed when the rows are
    /// complete and before they take the place of the earlier ones: a run that fails leaves the folder as it was, and a
    /// process that is killed between two files leaves those of two runs, which must not pass for a finished run.
    fn replace_rows(&self, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<(), OutputError> {
        make_folder(&self.folder)?;
        write_atomic(&self.folder.join(REQUESTS), |to| {
            write(to)?;
            remove_file(&self.folder.join(RUN)).map_err(|error| error.reason)
        })
    }

    /// Returns the columns of `requests.csv` in a simulation.
    fn columns(&self) -> Columns {
        let Simulation { scenario, inputs, .. } = self.simulation;
        Columns {
            similarity_to_prompt: false,
            quality: self.simulation.quality(false).is_known(),
            sigma: scenario.denoising().is_known(),
            image: inputs.trace.trace.columns().places.is_some(),
        }
    }

    fn with_names<T>(&self, write: impl FnOnce(&Names<'_>) -> T) -> T {
        let scenario = &self.simulation.scenario;
        let types = scenario.gpu_types();
        let gpus: Vec<String> = scenario.gpus().iter().map(|gpu| types[gpu.index()].clone()).collect();
        write(&Names {
            trace: &self.simulation.inputs.trace.trace,
            models: &scenario.model_names(),
            gpus: &gpus,
            denoising: scenario.denoising(),
        })
    }
}

/// Writes a journal of what `run` records.
///
/// # Errors
/// Returns an error if the journal cannot be written.
pub fn write_journal<T>(
    simulation: &Simulation,
    file: &Path,
    run: impl FnOnce(&mut dyn Journal) -> T,
) -> Result<T, OutputError> {
    let mut result = None;
    write_atomic(file, |to| {
        // The header has no name and no time, so that equal runs give equal bytes.
        let zip = GzBuilder::new().write(to, flate2::Compression::default());
        let mut journal = Writer::new(zip, &simulation.header())?;
        result = Some(run(&mut journal));
        journal.finish()?.finish()?.flush()
    })?;
    Ok(result.expect("a journal is written around a run"))
}

/// Writes `run.json`, the one file that may differ between equal runs.
///
/// # Errors
/// Returns an error if the file cannot be written.
pub fn write_run_json(
    folder: &Path,
    scenario: &Scenario,
    inputs: &[serde_json::Value],
    stand_ins: &[String],
    wall_s: f64,
    warnings: &[String],
) -> Result<(), OutputError> {
    run_json(folder, scenario, inputs, stand_ins, wall_s, warnings, None)
}

/// Writes `run.json` with a further entry.
fn run_json(
    folder: &Path,
    scenario: &Scenario,
    inputs: &[serde_json::Value],
    stand_ins: &[String],
    wall_s: f64,
    warnings: &[String],
    note: Option<&(&str, serde_json::Value)>,
) -> Result<(), OutputError> {
    let build = Build::current();
    let mut run = json!({
        "modm": build.version,
        "commit": build.commit,
        "scenario": scenario.name,
        "seed": scenario.seed,
        "inputs": inputs,
        "stand_ins": stand_ins,
        "wall_s": wall_s,
    });
    if !warnings.is_empty() {
        run["warnings"] = json!(warnings);
    }
    if let Some((key, value)) = note {
        run[*key] = value.clone();
    }
    write_atomic(&folder.join(RUN), |to| {
        serde_json::to_writer_pretty(&mut *to, &run).map_err(io::Error::from)?;
        to.write_all(b"\n")
    })
}

/// Returns the settings of a scenario with all defaults, in the form of `scenario.toml`.
fn as_toml(scenario: &Scenario) -> String {
    toml::to_string_pretty(&scenario.resolved()).expect("a scenario came from TOML")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Keep;
    use crate::scenario::{Fingerprint, Override, Source};

    fn simulation(set: &str) -> Simulation {
        let text =
            "name = \"a\"\ntrace.synthetic = { requests = 20 }\ncluster.gpus = [{ type = \"mi210\", count = 2 }]\n";
        let source = Source::new(Path::new("a.toml"), text.to_owned()).unwrap();
        Simulation::load(&source, &[Override::parse(set).unwrap()]).unwrap()
    }

    /// Returns whether a folder holds a finished run of a simulation.
    fn is_finished(folder: &Path, run: &Simulation) -> bool {
        let files: Vec<Fingerprint> = run.files().cloned().collect();
        matches!(earlier_run(folder, &run.scenario, &files).unwrap(), EarlierRun::Finished(_))
    }

    #[test]
    fn a_folder_whose_files_are_replaced_holds_no_finished_run() {
        let (one, other) = (simulation("seed=1"), simulation("seed=2"));
        let place = tempfile::tempdir().unwrap();
        let (folder, earlier) = (RunFolder::new(&other, place.path()), RunFolder::new(&one, place.path()));
        let write = || {
            let results = earlier.run(()).unwrap();
            earlier.write(&results, 0.0, &[]).unwrap();
            assert!(is_finished(place.path(), &one));
        };
        let finished = || is_finished(place.path(), &one) || is_finished(place.path(), &other);
        write();
        // A killed process leaves `requests.csv` of this run beside the other files of the earlier one.
        let results = folder.run(()).unwrap();
        assert!(!finished(), "the rows are those of another run");
        write();
        folder.write_rows(&other.run_keeping(Keep::Rows, ()).unwrap()).unwrap();
        assert!(!finished(), "the rows are those of another run");
        write();
        // A folder in the place of a file stops the writer in the middle, as a kill does.
        std::fs::remove_file(place.path().join("summary.json")).unwrap();
        std::fs::create_dir(place.path().join("summary.json")).unwrap();
        folder.write(&results, 0.0, &[]).unwrap_err();
        assert!(!place.path().join(RUN).exists(), "the settings are new and the measures old");
    }

    #[test]
    fn a_run_that_fails_leaves_the_folder_as_it_was() {
        let place = tempfile::tempdir().unwrap();
        let one = simulation("seed=1");
        let earlier = RunFolder::new(&one, place.path());
        let results = earlier.run(()).unwrap();
        earlier.write(&results, 0.0, &[]).unwrap();
        let rows = || std::fs::read(place.path().join(REQUESTS)).unwrap();
        let before = rows();
        let stuck = simulation("faults.events=[{ at_s = 1, what = \"down\", workers = [0, 1] }]");
        RunFolder::new(&stuck, place.path()).run(()).unwrap_err();
        assert!(is_finished(place.path(), &one) && rows() == before);
    }
}
