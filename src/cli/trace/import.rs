//! `modm trace import`: turns public traces and lists of prompts into `requests.csv` and `trace.json`.

use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::cli::arguments::Expected;
use crate::embedding::EmbeddingMatrix;
use crate::input::{InputError, sha256};
use crate::output::{OutputError, prepare, refuse_earlier, write_atomic};
use crate::time::{MAX_INPUT_S, Time};
use crate::trace::import::{Combined, Format, Note, Options, Pace, Selection, Source, combine, merge, read};
use crate::trace::{Trace, TraceFiles, npy, write_requests};

const REQUESTS: &str = "requests.csv";
const RECORD: &str = "trace.json";
const PROMPT_EMBEDDINGS: &str = "prompt_embeddings.npy";
const IMAGE_EMBEDDINGS: &str = "image_embeddings.npy";

/// Files to import, and the changes to make to their requests.
#[derive(Debug, Args)]
pub(in crate::cli) struct Import {
    /// File of prompts, taken in its order or, if it has times, in the order of time
    #[arg(long, value_name = "FILE", required_unless_present = "arrivals")]
    prompts: Option<PathBuf>,
    /// Format of the prompts; guessed if absent
    #[arg(long, value_name = "FORMAT", value_parser = format_parser(), requires = "prompts")]
    prompts_format: Option<Format>,
    /// File of arrival times; the times of the prompts' file if absent
    #[arg(long, value_name = "FILE")]
    arrivals: Option<PathBuf>,
    /// Format of the arrivals; guessed if absent
    #[arg(long, value_name = "FORMAT", value_parser = format_parser(), requires = "arrivals")]
    arrivals_format: Option<Format>,
    /// Sort a trace in modm's own format by arrival; equal times keep their order. Other formats are always sorted
    #[arg(long)]
    sort: bool,
    /// Keep requests of an alibaba-genai trace that are dropped otherwise
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    keep: Vec<Keep>,
    /// Leave out requests that arrive before this time of the file; the time becomes zero
    #[arg(long, value_name = "SECONDS", value_parser = time)]
    from: Option<Time>,
    /// Leave out requests that arrive at or after this time of the file
    #[arg(long, value_name = "SECONDS", value_parser = time)]
    until: Option<Time>,
    /// Keep the first N requests
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    first: Option<u32>,
    /// Permute the prompts with this seed: the same prompts and arrivals, without locality
    #[arg(long, value_name = "SEED")]
    shuffle: Option<u64>,
    /// Stretch all gaps by one factor, so that requests arrive at this rate a minute from the first to the last
    #[arg(long, value_name = "RATE", value_parser = positive, conflicts_with = "time_scale")]
    rate_per_min: Option<f64>,
    /// Multiply every arrival time by this factor
    #[arg(long, value_name = "FACTOR", value_parser = positive)]
    time_scale: Option<f64>,
    /// Merge a trace in modm's own format into the result, by time (repeatable)
    #[arg(long, value_name = "FILE")]
    merge: Vec<PathBuf>,
    /// Prompt embeddings, one row for each row of the prompts' file; the rows of the result are written beside it
    #[arg(long, value_name = "NPY", conflicts_with = "merge")]
    prompt_embeddings: Option<PathBuf>,
    /// Image embeddings, one row for each row of the prompts' file; the rows of the result are written beside it
    #[arg(long, value_name = "NPY", conflicts_with = "merge")]
    image_embeddings: Option<PathBuf>,
    /// Folder for the trace
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Overwrite an earlier trace there
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Keep {
    /// Requests that failed or were pending
    Unfinished,
    /// Requests that start from an image: image-to-image and inpainting
    ImageToImage,
}

fn format_parser() -> impl TypedValueParser<Value = Format> {
    PossibleValuesParser::new(Format::ALL.map(Format::name)).try_map(|name| name.parse::<Format>())
}

fn time(text: &str) -> Result<Time, Expected> {
    let seconds = text.parse().ok().filter(|seconds| (0.0..=MAX_INPUT_S).contains(seconds));
    seconds.and_then(Time::from_seconds).ok_or(Expected("seconds from 0 to ten years"))
}

fn positive(text: &str) -> Result<f64, Expected> {
    let number = text.parse().ok().filter(|number| (1e-9..=1e9).contains(number));
    number.ok_or(Expected("a number from 1e-9 to 1e9"))
}

/// File that was read for the trace.
#[derive(Serialize)]
struct Input {
    role: &'static str,
    file: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rows: Option<usize>,
    sha256: String,
    notes: Vec<Note>,
}

/// Content of `trace.json`: the origin of a trace, and the changes that were made to it.
#[derive(Serialize)]
struct Record {
    made_by: &'static str,
    version: &'static str,
    requests: usize,
    last_arrival_s: f64,
    inputs: Vec<Input>,
    notes: Vec<Note>,
}

pub(in crate::cli) fn run(arguments: &Import) -> anyhow::Result<()> {
    let out = &arguments.out;
    let names = [REQUESTS, RECORD, PROMPT_EMBEDDINGS, IMAGE_EMBEDDINGS];
    refuse_earlier(out, &names, arguments.force)?;
    let mut inputs = Vec::new();
    let prompts = arguments.prompts.as_deref().map(|file| (file, arguments.prompts_format, "prompts"));
    let arrivals = arguments.arrivals.as_deref().map(|file| (file, arguments.arrivals_format, "arrivals"));
    let mut sources: Vec<(&Path, Source)> = Vec::new();
    for (file, format, role) in arrivals.into_iter().chain(prompts) {
        sources.push((file, read_source(file, format, role, arguments, &mut inputs)?));
    }
    let selection = Selection {
        from: arguments.from,
        until: arguments.until,
        first: arguments.first.map(|first| first as usize),
        shuffle: arguments.shuffle,
        pace: arguments.rate_per_min.map(Pace::PerMinute).or(arguments.time_scale.map(Pace::Scale)),
    };
    let mut sources = sources.iter().map(|(file, source)| (*file, source));
    let timing = sources.next().expect("the command line asks for one file at least");
    let list = sources.next();
    let mut combined = combine(timing, list, &selection)?;
    merge_others(arguments, timing.0, &mut combined, &mut inputs)?;
    let rows = list.map_or(timing.1.len(), |(_, list)| list.len());
    let prompt_embeddings = read_embeddings(arguments.prompt_embeddings.as_deref(), rows)?;
    let image_embeddings = read_embeddings(arguments.image_embeddings.as_deref(), rows)?;
    if let (Some((first, prompts)), Some((file, images))) = (&prompt_embeddings, &image_embeddings)
        && prompts.dimension() != images.dimension()
    {
        let message = format!("expected {}, as in {}", prompts.dimension(), first.display());
        return Err(InputError::new(file, message).value("dimension", images.dimension()).into());
    }
    prepare(out, &names, arguments.force)?;
    let embeddings = [
        (prompt_embeddings, "prompt embeddings", PROMPT_EMBEDDINGS),
        (image_embeddings, "image embeddings", IMAGE_EMBEDDINGS),
    ];
    for (matrix, role, name) in embeddings {
        match matrix {
            Some((file, matrix)) => {
                write_embeddings(&matrix, &combined.prompt_rows, &out.join(name))?;
                let (sha256, rows) = (sha256(&file)?, Some(matrix.rows()));
                inputs.push(Input { role, file, format: None, rows, sha256, notes: Vec::new() });
            }
            // The embeddings of an earlier trace do not belong to this one.
            None if arguments.force && out.join(name).exists() => std::fs::remove_file(out.join(name))?,
            None => {}
        }
    }
    write(out, &combined, inputs)
}

fn read_source(
    file: &Path,
    format: Option<Format>,
    role: &'static str,
    arguments: &Import,
    inputs: &mut Vec<Input>,
) -> anyhow::Result<Source> {
    let options = Options {
        sort: arguments.sort,
        keep_unfinished: arguments.keep.contains(&Keep::Unfinished),
        keep_image_to_image: arguments.keep.contains(&Keep::ImageToImage),
    };
    let bytes = std::fs::metadata(file).map_or(0, |metadata| metadata.len());
    let bar = indicatif::ProgressBar::new(bytes); // drawn on standard error, on a terminal only
    let template = "reading {msg} {wide_bar} {bytes}/{total_bytes}, {eta} left";
    bar.set_style(indicatif::ProgressStyle::with_template(template)?);
    bar.set_message(file.display().to_string());
    let (format, source) = read(file, format, options, &|done| bar.set_position(done))?;
    bar.finish_and_clear();
    inputs.push(Input {
        role,
        file: file.to_owned(),
        format: Some(format.name()),
        rows: Some(source.len()),
        sha256: sha256(file)?,
        notes: source.notes.clone(),
    });
    Ok(source)
}

fn merge_others(
    arguments: &Import,
    first: &Path,
    combined: &mut Combined,
    inputs: &mut Vec<Input>,
) -> anyhow::Result<()> {
    if arguments.merge.is_empty() {
        return Ok(());
    }
    let mut others: Vec<(&Path, Trace)> = Vec::new();
    for file in &arguments.merge {
        let trace = crate::trace::read(&TraceFiles { requests: file.clone(), ..TraceFiles::default() })?;
        let (format, rows) = (Some(Format::Modm.name()), Some(trace.len()));
        inputs.push(Input {
            role: "merged",
            file: file.clone(),
            format,
            rows,
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

fn write(out: &Path, combined: &Combined, inputs: Vec<Input>) -> anyhow::Result<()> {
    let trace = &combined.trace;
    let requests = out.join(REQUESTS);
    write_atomic(&requests, |writer| write_requests(writer, trace))?;
    for input in &inputs {
        let rows = input.rows.map_or_else(String::new, |rows| format!(", {rows} rows"));
        println!("{}: {}{rows}", input.role, input.file.display());
        input.notes.iter().for_each(|note| println!("  {note}"));
    }
    combined.notes.iter().for_each(|note| println!("{note}"));
    let last_arrival_s = trace.arrivals().last().map_or(0.0, |last| last.seconds());
    println!("wrote {} requests over {last_arrival_s:.1} s: {}", trace.len(), requests.display());
    let record = Record {
        made_by: "modm trace import",
        version: env!("CARGO_PKG_VERSION"),
        requests: trace.len(),
        last_arrival_s,
        inputs,
        notes: combined.notes.clone(),
    };
    let json = serde_json::to_string_pretty(&record)?;
    write_atomic(&out.join(RECORD), |writer| std::io::Write::write_all(writer, json.as_bytes()))?;
    Ok(())
}
