//! Import of one trace from its files to its folder: reads and combines the sources, merges other traces, selects the
//! rows of embeddings, and writes `requests.csv` with a record of where it came from.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{
    ColumnChoice, Combined, Format, LogField, LogOptions, Note, Options, Selection, Source, combine, merge, read,
};
use crate::embedding::EmbeddingMatrix;
use crate::input::{InputError, sha256};
use crate::output::{OutputError, prepare, refuse_earlier, remove_file, write_atomic};
use crate::trace::{
    IMAGE_EMBEDDINGS, MakeError, PROMPT_EMBEDDINGS, RECORD, REQUESTS, Trace, TraceFiles, npy, write_requests,
};

/// Files that an import writes, and refuses to overwrite.
const NAMES: [&str; 4] = [REQUESTS, RECORD, PROMPT_EMBEDDINGS, IMAGE_EMBEDDINGS];

/// File to read, and its format; the format is guessed if it is absent.
#[derive(Clone, Debug)]
pub struct InputFile {
    /// Path of the file.
    pub file: PathBuf,
    /// Format of the file.
    pub format: Option<Format>,
}

/// Files to import, the changes to make to their requests, and the folder for the trace. At least one of `log`,
/// `prompts` and `arrivals` is needed.
#[derive(Clone, Debug, Default)]
pub struct Job {
    /// File with times and prompts, e.g. a service's log. Beside `prompts` it gives the times, beside `arrivals` the
    /// prompts. It is not read if both are there.
    pub log: Option<InputFile>,
    /// File of prompts, taken in its order or, if it has times, in the order of time.
    pub prompts: Option<InputFile>,
    /// File of arrival times; the times of the prompts' file if absent.
    pub arrivals: Option<InputFile>,
    /// Options of the importers.
    pub options: Options,
    /// Changes to the requests.
    pub selection: Selection,
    /// Traces in the format of this program that are merged into the result by time.
    pub merge: Vec<PathBuf>,
    /// Prompt embeddings, a row for each row of the prompts' file or for each row of it that is used: `.npy`,
    /// `FILE.npz:ARRAY` or `FILE.parquet:COLUMN`.
    pub prompt_embeddings: Option<PathBuf>,
    /// Image embeddings, in the same way.
    pub image_embeddings: Option<PathBuf>,
    /// Folder for the trace.
    pub out: PathBuf,
    /// True if an earlier trace in the folder is overwritten.
    pub force: bool,
}

/// File that was read for a trace.
#[derive(Clone, Debug, Serialize)]
pub struct ReadFile {
    /// Use of the file, e.g. `prompts`.
    pub role: &'static str,
    /// Path of the file.
    pub file: PathBuf,
    /// Name of the file's format; absent for embeddings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<&'static str>,
    /// Number of rows, if the file has rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<usize>,
    /// Number of rows of the file, if some of them are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows_of_file: Option<usize>,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Notes on what was done to the rows.
    pub notes: Vec<Note>,
}

/// Content of `trace.json`: the origin of a trace, and the changes that were made to it.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// Command that made the trace.
    pub made_by: &'static str,
    /// Version of this program.
    pub version: &'static str,
    /// Number of requests.
    pub requests: usize,
    /// Time of the last arrival in seconds.
    pub last_arrival_s: f64,
    /// True if requests have prompts.
    pub has_prompts: bool,
    /// Number of tenants; absent if requests name none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenants: Option<usize>,
    /// Files that were read.
    pub inputs: Vec<ReadFile>,
    /// Notes on the changes.
    pub notes: Vec<Note>,
}

/// Receiver of the progress of an import. `()` shows nothing.
pub trait Reading {
    /// Begins a file of this many bytes.
    fn file_begins(&self, _file: &Path, _bytes: u64) {}

    /// Says how many bytes of the file were read so far.
    fn bytes_read(&self, _bytes: u64) {}

    /// Ends the file.
    fn file_ends(&self) {}
}

impl Reading for () {}

impl Job {
    /// Returns the files to read, that of the times first, with their uses and the options to read them with.
    fn files(&self) -> Vec<(&InputFile, &'static str, Options)> {
        let log = self.log.as_ref().filter(|_| self.prompts.is_none() || self.arrivals.is_none());
        let mut files = Vec::new();
        // The options name columns of the log, so the file beside it is read without them.
        let beside = Options { log: LogOptions::default(), ..self.options.clone() };
        let options = |of_log: bool| if of_log || log.is_none() { self.options.clone() } else { beside.clone() };
        if let Some(arrivals) = &self.arrivals {
            files.push((arrivals, "arrivals", options(false)));
        }
        if let Some(log) = log {
            let mut options = options(true);
            options.log.preferred = true;
            if self.prompts.is_some() && options.log.columns.iter().all(|choice| choice.ours != LogField::Prompt) {
                // Prompts come from the other file, so a row without one is a request too.
                options.log.columns.push(ColumnChoice { ours: LogField::Prompt, theirs: None });
            }
            files.push((log, "log", options));
        }
        if let Some(prompts) = &self.prompts {
            files.push((prompts, "prompts", options(false)));
        }
        files
    }
}

/// Refuses a folder whose trace is one of the files to read: it would be replaced, also with `force`.
fn keep_inputs(job: &Job) -> Result<(), InputError> {
    let place = |path: &Path| path.canonicalize().ok();
    let replaced = place(&job.out.join(REQUESTS));
    let read = [&job.log, &job.prompts, &job.arrivals].into_iter().flatten().map(|input| &input.file).chain(&job.merge);
    match read.into_iter().find(|file| replaced.is_some() && place(file) == replaced) {
        Some(file) => {
            let message = "is what is read, and the trace would replace it: choose another folder by --out";
            Err(InputError::new(file, message))
        }
        None => Ok(()),
    }
}

/// Imports a trace, and returns the record that was written beside it.
///
/// # Errors
/// Returns an error if an input cannot be used, if the folder holds an earlier trace and `force` is false, or if a file
/// cannot be written.
pub fn run(job: &Job, reading: &dyn Reading) -> Result<Record, MakeError> {
    keep_inputs(job)?;
    refuse_earlier(&job.out, &NAMES, job.force)?;
    let mut inputs = Vec::new();
    let mut sources: Vec<(&Path, Source)> = Vec::new();
    for (file, role, options) in job.files() {
        sources.push((&file.file, read_source(file, role, &options, reading, &mut inputs)?));
    }
    let mut sources = sources.iter().map(|(file, source)| (*file, source));
    let timing =
        sources.next().ok_or_else(|| InputError::new(&job.out, "expected a log, or a file of prompts or arrivals"))?;
    let list = sources.next();
    let mut combined = combine(timing, list, &job.selection)?;
    merge_others(&job.merge, timing.0, &mut combined, &mut inputs)?;
    let rows_of = list.map_or(timing.1, |(_, list)| list);
    let embeddings = [
        (read_embeddings(job.prompt_embeddings.as_deref(), rows_of)?, "prompt embeddings", PROMPT_EMBEDDINGS),
        (read_embeddings(job.image_embeddings.as_deref(), rows_of)?, "image embeddings", IMAGE_EMBEDDINGS),
    ];
    if let [(Some(prompts), ..), (Some(images), ..)] = &embeddings
        && prompts.matrix.dimension() != images.matrix.dimension()
    {
        let message = format!("expected {}, as in {}", prompts.matrix.dimension(), prompts.file.display());
        return Err(InputError::new(&images.file, message).value("dimension", images.matrix.dimension()).into());
    }
    prepare(&job.out, &NAMES, job.force)?;
    for (read, role, name) in embeddings {
        let target = job.out.join(name);
        match read {
            Some(ReadEmbeddings { file, matrix }) => {
                write_embeddings(&matrix, &combined.prompt_rows, &target)?;
                let (sha256, rows) = (sha256(&file)?, Some(matrix.rows()));
                inputs.push(ReadFile { role, file, format: None, rows, rows_of_file: None, sha256, notes: Vec::new() });
            }
            // The embeddings of an earlier trace do not belong to this one.
            None if job.force => remove_file(&target)?,
            None => {}
        }
    }
    write(&job.out, combined, inputs)
}

fn read_source(
    InputFile { file, format }: &InputFile,
    role: &'static str,
    options: &Options,
    reading: &dyn Reading,
    inputs: &mut Vec<ReadFile>,
) -> Result<Source, InputError> {
    reading.file_begins(file, std::fs::metadata(file).map_or(0, |metadata| metadata.len()));
    let (format, source) = read(file, *format, options, &|done| reading.bytes_read(done))?;
    reading.file_ends();
    inputs.push(ReadFile {
        role,
        file: file.clone(),
        format: Some(format.name()),
        rows: Some(source.len()),
        rows_of_file: source.kept.as_ref().map(|kept| kept.of).filter(|&of| of != source.len()),
        sha256: sha256(file)?,
        notes: source.notes.clone(),
    });
    Ok(source)
}

/// Merges traces in the format of this program into the combined trace, whose arrivals came from the file `first`.
fn merge_others(
    files: &[PathBuf],
    first: &Path,
    combined: &mut Combined,
    inputs: &mut Vec<ReadFile>,
) -> Result<(), InputError> {
    if files.is_empty() {
        return Ok(());
    }
    let mut others: Vec<(&Path, Trace)> = Vec::new();
    for file in files {
        let trace = crate::trace::read(&TraceFiles { requests: file.clone(), ..TraceFiles::default() })?;
        inputs.push(ReadFile {
            role: "merged",
            file: file.clone(),
            format: Some(Format::Modm.name()),
            rows: Some(trace.len()),
            rows_of_file: None,
            sha256: sha256(file)?,
            notes: Vec::new(),
        });
        others.push((file, trace));
    }
    let parts = others.iter().map(|(file, trace)| (*file, trace));
    let parts: Vec<_> = std::iter::once((first, &combined.trace)).chain(parts).collect();
    let (trace, notes) = merge(&parts)?;
    combined.trace = trace;
    combined.notes.extend(notes);
    Ok(())
}

/// Embeddings for the rows of a source.
struct ReadEmbeddings {
    /// File that they are in.
    file: PathBuf,
    matrix: EmbeddingMatrix,
}

/// Reads a file of embeddings: a row for each row of the source that is used, or for each row of its file.
fn read_embeddings(path: Option<&Path>, source: &Source) -> Result<Option<ReadEmbeddings>, InputError> {
    let Some(path) = path else { return Ok(None) };
    let (file, matrix) = match parquet_column(path) {
        Some((file, column)) => {
            let matrix = read_parquet_column(&file, &column)?;
            (file, matrix)
        }
        None => (npy::file_and_array(path).0, npy::read(path)?),
    };
    let used = source.len();
    let matrix = match &source.kept {
        _ if matrix.rows() == used => matrix,
        Some(kept) if matrix.rows() == kept.of => matrix.select(&kept.rows),
        _ => {
            let all = source.kept.as_ref().map(|kept| kept.of).filter(|&all| all != used);
            let or_all = all.map_or_else(String::new, |all| format!(", or {all}, one for each row of the file"));
            let message = format!("expected {used}, one for each row used of the prompts' file{or_all}");
            return Err(InputError::new(path, message).value("rows", matrix.rows()));
        }
    };
    Ok(Some(ReadEmbeddings { file, matrix }))
}

/// Returns the file and the column that a path names: `file.parquet:column`.
fn parquet_column(path: &Path) -> Option<(PathBuf, String)> {
    const END: &str = ".parquet:";
    let text = path.to_str().filter(|_| !path.exists())?;
    let (file, column) = text.split_at(text.rfind(END)? + END.len());
    Some((file.trim_end_matches(':').into(), column.to_owned()))
}

#[cfg(feature = "parquet")]
fn read_parquet_column(file: &Path, column: &str) -> Result<EmbeddingMatrix, InputError> {
    let (dimension, components) = super::parquet_file::embeddings(file, column)?;
    if dimension == 0 {
        return Err(InputError::new(file, "expected at least one row with at least one number").key(column));
    }
    npy::matrix(file, dimension, components)
}

#[cfg(not(feature = "parquet"))]
fn read_parquet_column(file: &Path, _column: &str) -> Result<EmbeddingMatrix, InputError> {
    Err(super::without_parquet(file))
}

/// Writes the rows of a matrix that belong to the requests of the result.
fn write_embeddings(matrix: &EmbeddingMatrix, chosen: &[u32], target: &Path) -> Result<(), OutputError> {
    let values = chosen.iter().flat_map(|&row| matrix.row(row as usize).iter().copied());
    write_atomic(target, |writer| npy::write(writer, chosen.len(), matrix.dimension(), values))
}

/// Writes the requests, and then their record.
fn write(out: &Path, combined: Combined, inputs: Vec<ReadFile>) -> Result<Record, MakeError> {
    let trace = &combined.trace;
    write_atomic(&out.join(REQUESTS), |writer| write_requests(writer, trace))?;
    let record = Record {
        made_by: "modm trace import",
        version: env!("CARGO_PKG_VERSION"),
        requests: trace.len(),
        last_arrival_s: trace.arrivals().last().map_or(0.0, |last| last.seconds()),
        has_prompts: trace.columns().prompts.is_some(),
        tenants: trace.columns().tenants.as_ref().map(|tenants| tenants.names().len()),
        inputs,
        notes: combined.notes,
    };
    write_atomic(&out.join(RECORD), |writer| {
        writer.write_all(serde_json::to_string_pretty(&record).map_err(io::Error::from)?.as_bytes())
    })?;
    Ok(record)
}
