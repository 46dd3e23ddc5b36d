//! `modm trace import`: turns public traces and lists of prompts into `requests.csv` and `trace.json`.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::arguments::Expected;
use crate::cli::progress::{Pacing, line};
use crate::time::{MAX_INPUT_S, Time};
use crate::trace::REQUESTS;
use crate::trace::import::{self, Format, InputFile, Job, Options, Pace, Reading, Selection};

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
    /// Give the requests of a tenant prompts that follow each other in the list, tenant by tenant, instead of prompts
    /// in order of arrival: users come back to their own prompts
    #[arg(long, requires = "arrivals")]
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

pub(in crate::cli) fn run(arguments: &Import) -> anyhow::Result<()> {
    let record = import::run(&arguments.job(), &Bar::default())?;
    for input in &record.inputs {
        let rows = input.rows.map_or_else(String::new, |rows| format!(", {rows} rows"));
        out!("{}: {}{rows}", input.role, input.file.display());
        input.notes.iter().for_each(|note| out!("  {note}"));
    }
    record.notes.iter().for_each(|note| out!("{note}"));
    let requests = arguments.out.join(REQUESTS);
    out!("wrote {} requests over {:.1} s: {}", record.requests, record.last_arrival_s, requests.display());
    Ok(())
}

impl Import {
    fn job(&self) -> Job {
        let file = |file: &Option<PathBuf>, format| file.clone().map(|file| InputFile { file, format });
        Job {
            prompts: file(&self.prompts, self.prompts_format),
            arrivals: file(&self.arrivals, self.arrivals_format),
            options: Options {
                sort: self.sort,
                keep_unfinished: self.keep.contains(&Keep::Unfinished),
                keep_image_to_image: self.keep.contains(&Keep::ImageToImage),
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
struct Bar(RefCell<Option<(ProgressBar, Pacing)>>);

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
