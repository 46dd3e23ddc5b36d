//! Importers of public traces and prompt lists, one file for each format. The parts that all sources have in common are
//! here. `combine` combines the prompts of one source with the arrivals of another.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::Serialize;

use crate::input::{self, InputError};
use crate::time::{Duration, Time};

use super::TextColumn;

mod alibaba;
mod azure;
mod combine;
mod container;
mod diffserve;
#[cfg(feature = "parquet")]
mod diffusiondb;
mod guess;
mod job;
mod log;
mod merge;
mod mjhq;
mod ours;
#[cfg(feature = "parquet")]
mod parquet_file;
mod parti_prompts;
mod prompt_list;
mod timestamp;

pub use combine::{Combined, Pace, Selection, combine};
pub use job::{InputFile, Job, ReadFile, Reading, Record, run};
pub use log::{BadChoice, ColumnChoice, LogField, TimeUnit};
pub use merge::merge;

/// Message about something that an import did and that users of the result should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// Number of rows that the note concerns, if it concerns rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Phrase that follows the count.
    pub text: String,
}

impl Note {
    /// Makes a note without a count.
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { count: None, text: text.into() }
    }

    /// Makes a note about `count` rows.
    pub(super) fn counted(count: usize, text: impl Into<String>) -> Self {
        Self { count: Some(count as u64), text: text.into() }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            Some(count) => write!(f, "{count} {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// Content of a file, in the order of its rows. Each column is as long as the others or absent.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// Arrival time of each request, from the source's zero.
    pub arrivals: Option<Vec<Time>>,
    /// Label of each request.
    pub request_ids: Option<TextColumn>,
    /// Prompt of each row.
    pub prompts: Option<TextColumn>,
    /// Number of the prompt that each request asks for, counted from 0 in a list of prompts.
    pub prompt_numbers: Option<Vec<u32>>,
    /// Number by which requests ask for each prompt, rising; absent where the number is the row.
    pub numbers: Option<Vec<u32>>,
    /// Name of the tenant of each request.
    pub tenants: Option<TextColumn>,
    /// Time from the arrival of each request to its deadline; `None` for a request without a deadline.
    pub deadlines: Option<Vec<Option<Duration>>>,
    /// Further columns by name.
    pub extra: Vec<(String, TextColumn)>,
    /// Notes on what was done to the rows.
    pub notes: Vec<Note>,
    /// Rows of the file that are used; all of them if absent.
    pub kept: Option<KeptRows>,
    /// Errors of those who need what the file does not have.
    pub missing: Missing,
}

/// Rows of a file that are used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptRows {
    /// Number in the file of each row of the source, from 0.
    pub rows: Vec<u32>,
    /// Number of rows of the file.
    pub of: usize,
}

/// Phrases for the errors of those who need what a file does not have; a general phrase if absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// Phrase about times of arrival.
    pub times: Option<String>,
    /// Phrase about prompts.
    pub prompts: Option<String>,
}

impl Source {
    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        let prompts = self.prompts.as_ref().map(TextColumn::len);
        self.arrivals.as_ref().map(Vec::len).or(prompts).unwrap_or(0)
    }

    /// Returns whether there are no rows. A source that was read has at least one.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Format that can be imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Requests in the format of this program, `requests.csv`.
    Modm,
    /// Prompts, one a line.
    PromptList,
    /// Parti prompts of Google, TSV.
    PartiPrompts,
    /// Prompts of MJHQ-30k, JSON.
    Mjhq,
    /// Prompts, users and times of `DiffusionDB`, parquet.
    DiffusionDb,
    /// Arrivals of the Azure LLM inference traces, CSV.
    Azure,
    /// Arrivals and prompt numbers of the `DiffServe` artifact, CSV without header.
    DiffServe,
    /// Requests of Alibaba's text-to-image service, CSV.
    Alibaba,
    /// Log of a service: CSV in any notation, JSON Lines, Parquet.
    Log,
}

impl Format {
    /// All formats, in the order in which the help lists them.
    pub const ALL: [Self; 9] = [
        Self::Modm,
        Self::PromptList,
        Self::PartiPrompts,
        Self::Mjhq,
        Self::DiffusionDb,
        Self::Azure,
        Self::DiffServe,
        Self::Alibaba,
        Self::Log,
    ];

    /// Returns the name of the format on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Modm => "modm",
            Self::PromptList => "list",
            Self::PartiPrompts => "parti-prompts",
            Self::Mjhq => "mjhq",
            Self::DiffusionDb => "diffusiondb",
            Self::Azure => "azure-llm",
            Self::DiffServe => "diffserve",
            Self::Alibaba => "alibaba-genai",
            Self::Log => "log",
        }
    }
}

/// Error of a text that names no format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected one of {}", Format::ALL.map(Format::name).join(", "))]
pub struct UnknownFormat;

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|format| format.name() == text).ok_or(UnknownFormat)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Options of the importers.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// True if requests in the format of this program may be out of order of arrival.
    pub sort: bool,
    /// True if requests that failed or were still pending are kept.
    pub keep_unfinished: bool,
    /// True if requests that start from an image are kept: image-to-image and inpainting.
    pub keep_image_to_image: bool,
    /// Options for logs.
    pub log: LogOptions,
}

/// Options for logs of services.
#[derive(Clone, Debug, Default)]
pub struct LogOptions {
    /// True if a table in the format of this program is read as a log: in any order, with times in any notation.
    pub preferred: bool,
    /// Columns that the user names; the others are guessed.
    pub columns: Vec<ColumnChoice>,
    /// Unit of times that are numbers; found from the column's name and the magnitude if absent.
    pub time_unit: Option<TimeUnit>,
}

/// Content of a file, as importers read it.
struct File<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    progress: &'a dyn Fn(u64),
}

/// Reads a file of a format. The format is guessed if it is not given. `progress` receives the number of bytes that
/// were read.
///
/// # Errors
/// Returns an error with the first thing that is wrong: file, line, column, value found and what is accepted.
pub fn read(
    path: &Path,
    format: Option<Format>,
    options: &Options,
    progress: &dyn Fn(u64),
) -> Result<(Format, Source), InputError> {
    let map = input::map(path)?;
    let content = container::unpack(path, &map)?;
    let bytes = &*content.bytes;
    let chosen = match format.map_or_else(|| guess::guess(path, bytes), Ok)? {
        Format::Modm if format.is_none() && options.log.preferred => Format::Log,
        chosen => chosen,
    };
    let names_columns =
        options.log.time_unit.is_some() || options.log.columns.iter().any(|choice| choice.theirs.is_some());
    if names_columns && chosen != Format::Log {
        let message = format!("the columns of {chosen} are fixed: --column and --time-unit go with --log-format log");
        return Err(InputError::new(path, message));
    }
    let file = File { path, bytes, progress };
    let mut source = match chosen {
        Format::Modm => ours::read(&file, options.sort)?,
        Format::PromptList => prompt_list::read(&file)?,
        Format::PartiPrompts => parti_prompts::read(&file)?,
        Format::Mjhq => mjhq::read(&file)?,
        Format::DiffusionDb => read_diffusiondb(&file)?,
        Format::Azure => azure::read(&file)?,
        Format::DiffServe => diffserve::read(&file)?,
        Format::Alibaba => alibaba::read(&file, options)?,
        Format::Log => log::read(&file, options)?,
    };
    if source.is_empty() {
        return Err(InputError::new(path, "expected at least one row that can be used"));
    }
    let mut notes: Vec<Note> = content.steps.into_iter().map(Note::new).collect();
    if format.is_none() {
        notes.push(Note::new(format!("format {chosen}, guessed from the file's name and content")));
    }
    source.notes.splice(0..0, notes);
    Ok((chosen, source))
}

#[cfg(feature = "parquet")]
fn read_diffusiondb(file: &File<'_>) -> Result<Source, InputError> {
    diffusiondb::read(file)
}

#[cfg(not(feature = "parquet"))]
fn read_diffusiondb(file: &File<'_>) -> Result<Source, InputError> {
    Err(without_parquet(file.path))
}

/// Makes the error of a Parquet file in a build that does not read them.
#[cfg(not(feature = "parquet"))]
fn without_parquet(path: &Path) -> InputError {
    InputError::new(path, "reading parquet is not built in: build with `--features parquet`, or write the table as CSV")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a text as a file with this name.
    #[expect(clippy::needless_pass_by_value, reason = "tests make their options on the spot")]
    pub(super) fn import(
        name: &str,
        content: &[u8],
        format: Option<Format>,
        options: Options,
    ) -> Result<Source, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let source = read(&path, format, &options, &|_| ()).map(|(_, source)| source);
        source.map_err(|error| error.to_string().replace(&format!("{}/", folder.path().display()), ""))
    }

    /// Reads a real file. If the file is not there, prints a message and returns `None`.
    #[expect(clippy::needless_pass_by_value, reason = "tests make their options on the spot")]
    pub(super) fn real(name: &str, options: Options) -> Option<Source> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(name);
        if !path.exists() {
            println!("skipped: {name} is not here");
            return None;
        }
        Some(read(&path, None, &options, &|_| ()).unwrap().1)
    }

    pub(super) fn notes(source: &Source) -> Vec<String> {
        source.notes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn nothing_panics_on_random_bytes() {
        use rand::RngExt;
        let starts = [
            "",
            "TIMESTAMP,x\n2023-11-16 18:17:03,",
            "Prompt\tCategory\tChallenge\tNote\n",
            "{\"a\":{\"category\":\"",
            "1.0,2\n",
            "ts,prompt,status\n2023-11-16 18:17:03,a,ok\n",
            "{\"ts\":1,\"prompt\":\"a\"}\n{\"turns\":[",
        ];
        for seed in 0..400 {
            let mut generator = crate::draw::stream(seed, crate::draw::Purpose::Test, 2);
            let mut bytes = starts[generator.random_range(0..starts.len())].as_bytes().to_vec();
            let length = generator.random_range(0..200);
            bytes.extend((0..length).map(|_| {
                if generator.random() { generator.random() } else { b"0,\"\n{}:-."[generator.random_range(0..9)] }
            }));
            for format in Format::ALL {
                let _ = import("x", &bytes, Some(format), Options::default());
            }
        }
    }

    #[test]
    fn empty_files_are_refused() {
        for format in Format::ALL {
            assert!(import("x", b"", Some(format), Options::default()).is_err(), "{format}");
        }
    }
}
