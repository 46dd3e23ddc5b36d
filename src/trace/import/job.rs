//! Import of one trace from its files to its folder: reads and combines the sources, merges other traces, selects the
//! rows of embeddings, and writes `requests.csv` with a record of where it came from.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Combined, Format, Note, Options, Selection, Source, combine, merge, read};
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

/// Files to import, the changes to make to their requests, and the folder for the trace. At least one of `prompts` and
/// `arrivals` is needed.
#[derive(Clone, Debug, Default)]
pub struct Job {
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
    /// Prompt embeddings, one row for each row of the prompts' file.
    pub prompt_embeddings: Option<PathBuf>,
    /// Image embeddings, one row for each row of the prompts' file.
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

/// Imports a trace, and returns the record that was written beside it.
///
/// # Errors
/// Returns an error if an input cannot be used, if the folder holds an earlier trace and `force` is false, or if a file
/// cannot be written.
pub fn run(job: &Job, reading: &dyn Reading) -> Result<Record, MakeError> {
    refuse_earlier(&job.out, &NAMES, job.force)?;
    let mut inputs = Vec::new();
    let (prompts, arrivals) = (job.prompts.iter().map(|file| (file, "prompts")), job.arrivals.iter());
    let mut sources: Vec<(&Path, Source)> = Vec::new();
    for (file, role) in arrivals.map(|file| (file, "arrivals")).chain(prompts) {
        sources.push((&file.file, read_source(file, role, job.options, reading, &mut inputs)?));
    }
    let mut sources = sources.iter().map(|(file, source)| (*file, source));
    let timing =
        sources.next().ok_or_else(|| InputError::new(&job.out, "expected a file of prompts or of arrivals for it"))?;
    let list = sources.next();
    let mut combined = combine(timing, list, &job.selection)?;
    merge_others(&job.merge, timing.0, &mut combined, &mut inputs)?;
    let rows = list.map_or(timing.1.len(), |(_, list)| list.len());
    let embeddings = [
        (read_embeddings(job.prompt_embeddings.as_deref(), rows)?, "prompt embeddings", PROMPT_EMBEDDINGS),
        (read_embeddings(job.image_embeddings.as_deref(), rows)?, "image embeddings", IMAGE_EMBEDDINGS),
    ];
    if let [(Some((first, prompts)), ..), (Some((file, images)), ..)] = &embeddings
        && prompts.dimension() != images.dimension()
    {
        let message = format!("expected {}, as in {}", prompts.dimension(), first.display());
        return Err(InputError::new(file, message).value("dimension", images.dimension()).into());
    }
    prepare(&job.out, &NAMES, job.force)?;
    for (matrix, role, name) in embeddings {
        let target = job.out.join(name);
        match matrix {
            Some((file, matrix)) => {
                write_embeddings(&matrix, &combined.prompt_rows, &target)?;
                let (sha256, rows) = (sha256(&file)?, Some(matrix.rows()));
                inputs.push(ReadFile { role, file, format: None, rows, sha256, notes: Vec::new() });
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
    options: Options,
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

/// Reads a file of embeddings, which must have this many rows.
fn read_embeddings(file: Option<&Path>, rows: usize) -> Result<Option<(PathBuf, EmbeddingMatrix)>, InputError> {
    let Some(file) = file else { return Ok(None) };
    let matrix = npy::read(file)?;
    if matrix.rows() != rows {
        let message = format!("expected {rows}, one for each row used of the prompts' file");
        return Err(InputError::new(file, message).value("rows", matrix.rows()));
    }
    Ok(Some((file.to_owned(), matrix)))
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
        inputs,
        notes: combined.notes,
    };
    write_atomic(&out.join(RECORD), |writer| {
        writer.write_all(serde_json::to_string_pretty(&record).map_err(io::Error::from)?.as_bytes())
    })?;
    Ok(record)
}
