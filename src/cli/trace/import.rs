//! `modm trace import`: turns logs, public traces and lists of prompts into `requests.csv` and `trace.json`.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::arguments::Expected;
use crate::cli::progress::{Pacing, line};
use crate::time::{MAX_INPUT_S, Time};
use crate::trace::REQUESTS;
use crate::trace::import::{
    self, ColumnChoice, Format, InputFile, Job, LogOptions, Options, Pace, Reading, Record, Selection, TimeUnit,
};

const EXAMPLES: &str = "\
Examples:
  modm trace import requests.csv --out traces/mine
      A service's log: CSV, TSV, JSON Lines or Parquet, also packed by gzip or zstd. The command says which columns it
      takes for what, and which rows it leaves out.
  modm trace import log.jsonl --column arrival_s=ts --column prompt=request.text --out traces/mine
      The same with columns of other names; `--column tenant=` reads no tenant.
  modm trace import BurstGPT_1.csv --prompts prompts.txt --rate-per-min 20 --out traces/mine
      Times of a log without prompts, with the prompts of a list.
  modm trace inspect traces/mine
      What came of it: rate, burstiness, repeats, locality.";

/// Files to import, and the changes to make to their requests.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Import {
    /// Log with times and prompts. Beside --prompts it gives the times, beside --arrivals the prompts
    #[arg(value_name = "LOG", required_unless_present_any = ["prompts", "arrivals"])]
    log: Option<PathBuf>,
    /// Format of the log; guessed if absent
    #[arg(long, value_name = "FORMAT", value_parser = format_parser(), requires = "log")]
    log_format: Option<Format>,
    /// Take a column of the log for a column of the trace (`arrival_s`, `prompt`, `tenant`, ...), by its name or by
    /// the dotted name of a key in JSON; OURS= reads none (repeatable)
    #[arg(long, value_name = "OURS=THEIRS", requires = "log")]
    column: Vec<ColumnChoice>,
    /// Unit of times that are numbers; by the column's name or the magnitude if absent
    #[arg(long, value_name = "UNIT", value_parser = unit_parser(), requires = "log")]
    time_unit: Option<TimeUnit>,
    /// File of prompts, taken in its order or, if it has times, in the order of time
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// Format of the prompts; guessed if absent
    #[arg(long, value_name = "FORMAT", value_parser = format_parser(), requires = "prompts")]
    prompts_format: Option<Format>,
    /// File of arrival times; those of the log or of the prompts' file if absent
    #[arg(long, value_name = "FILE")]
    arrivals: Option<PathBuf>,
    /// Format of the arrivals; guessed if absent
    #[arg(long, value_name = "FORMAT", value_parser = format_parser(), requires = "arrivals")]
    arrivals_format: Option<Format>,
    /// Sort a trace in modm's own format by arrival; equal times keep their order. LOG and other formats are always
    /// sorted
    #[arg(long)]
    sort: bool,
    /// Keep requests of a log or an alibaba-genai trace that are left out otherwise
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
    /// Give the requests of a tenant prompts that follow each other in the list, tenant by tenant, instead of prompts
    /// in order of arrival: users come back to their own prompts
    #[arg(long)]
    prompts_by_tenant: bool,
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
    /// Prompt embeddings, a row for each row of the log or of the prompts' file: .npy, .npz:ARRAY or .parquet:COLUMN;
    /// the rows of the result are written beside it
    #[arg(long, value_name = "FILE", conflicts_with = "merge")]
    prompt_embeddings: Option<PathBuf>,
    /// Image embeddings, in the same way
    #[arg(long, value_name = "FILE", conflicts_with = "merge")]
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
    /// Requests that failed or were pending, or whose status is unknown
    Unfinished,
    /// Requests that start from an image: image-to-image and inpainting
    ImageToImage,
}

fn format_parser() -> impl TypedValueParser<Value = Format> {
    PossibleValuesParser::new(Format::ALL.map(Format::name)).try_map(|name| name.parse::<Format>())
}

fn unit_parser() -> impl TypedValueParser<Value = TimeUnit> {
    PossibleValuesParser::new(TimeUnit::ALL.map(TimeUnit::symbol)).try_map(|symbol| {
        TimeUnit::ALL.into_iter().find(|unit| unit.symbol() == symbol).ok_or(Expected("a unit of time"))
    })
}

fn time(text: &str) -> Result<Time, Expected> {
    let seconds = text.parse().ok().filter(|seconds| (0.0..=MAX_INPUT_S).contains(seconds));
    seconds.and_then(Time::from_seconds).ok_or(Expected("seconds from 0 to ten years"))
}

fn positive(text: &str) -> Result<f64, Expected> {
    let number = text.parse().ok().filter(|number| (1e-9..=1e9).contains(number));
    number.ok_or(Expected("a number from 1e-9 to 1e9"))
}

pub(in crate::cli) fn run(arguments: &Import) -> anyhow::Result<()> {
    let record = import::run(&arguments.job(), &Bar::default())?;
    print_record(&record);
    let requests = arguments.out.join(REQUESTS);
    out!("wrote {} requests over {:.1} s: {}", record.requests, record.last_arrival_s, requests.display());
    Ok(())
}

/// Prints what was read, and what was done to it.
pub(in crate::cli) fn print_record(record: &Record) {
    for input in &record.inputs {
        let of = input.rows_of_file.map_or_else(String::new, |of| format!(" of {of}"));
        let rows = input.rows.map_or_else(String::new, |rows| format!(", {rows}{of} rows"));
        out!("{}: {}{rows}", input.role, input.file.display());
        input.notes.iter().for_each(|note| out!("  {note}"));
    }
    record.notes.iter().for_each(|note| out!("{note}"));
}

impl Import {
    fn job(&self) -> Job {
        let file = |file: &Option<PathBuf>, format| file.clone().map(|file| InputFile { file, format });
        let names_columns = !self.column.is_empty() || self.time_unit.is_some();
        Job {
            // A user who names columns or their unit says that the file is a log.
            log: file(&self.log, self.log_format.or(names_columns.then_some(Format::Log))),
            prompts: file(&self.prompts, self.prompts_format),
            arrivals: file(&self.arrivals, self.arrivals_format),
            options: Options {
                sort: self.sort,
                keep_unfinished: self.keep.contains(&Keep::Unfinished),
                keep_image_to_image: self.keep.contains(&Keep::ImageToImage),
                log: LogOptions { columns: self.column.clone(), time_unit: self.time_unit, ..LogOptions::default() },
            },
            selection: Selection {
                from: self.from,
                until: self.until,
                first: self.first.map(|first| first as usize),
                by_tenant: self.prompts_by_tenant,
                shuffle: self.shuffle,
                pace: self.rate_per_min.map(Pace::PerMinute).or(self.time_scale.map(Pace::Scale)),
            },
            merge: self.merge.clone(),
            prompt_embeddings: self.prompt_embeddings.clone(),
            image_embeddings: self.image_embeddings.clone(),
            out: self.out.clone(),
            force: self.force,
        }
    }
}

/// Bar for the file that is read, drawn on standard error: on a terminal, and as lines elsewhere.
#[derive(Default)]
pub(in crate::cli) struct Bar(RefCell<Option<(ProgressBar, Pacing)>>);

impl Reading for Bar {
    fn file_begins(&self, file: &Path, bytes: u64) {
        let style = ProgressStyle::with_template("reading {msg} {wide_bar} {bytes}/{total_bytes}, {eta} left");
        let bar = ProgressBar::new(bytes).with_message(file.display().to_string());
        // A template that does not parse would be a mistake here; the default style will do then.
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        *self.0.borrow_mut() = Some((bar, Pacing::of_log()));
    }

    fn bytes_read(&self, bytes: u64) {
        let file = self.0.borrow();
        let Some((bar, pace)) = &*file else { return };
        bar.set_position(bytes);
        if let Some(seconds) = pace.due().filter(|_| bar.is_hidden()) {
            say!("reading {}: {}", bar.message(), line(bytes, bar.length().unwrap_or(bytes), "bytes", seconds));
        }
    }

    fn file_ends(&self) {
        self.0.take().iter().for_each(|(bar, _)| bar.finish_and_clear());
    }
}
