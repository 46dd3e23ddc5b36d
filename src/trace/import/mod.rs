//! Public traces and prompt lists turned into ours: one file a format. What sources have in common is
//! here; `combine` puts prompts of one and arrivals of another together.

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
mod diffserve;
#[cfg(feature = "parquet")]
mod diffusiondb;
mod merge;
mod mjhq;
mod ours;
mod parti_prompts;
mod prompt_list;
mod timestamp;

pub use combine::{Combined, Pace, Selection, combine};
pub use merge::merge;

/// Something an import did that whoever uses the result should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// How many rows it concerns, where it concerns rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// What, as a phrase that follows the count.
    pub text: String,
}

impl Note {
    /// A note without a count.
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { count: None, text: text.into() }
    }

    /// A note about this many rows.
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

/// What a file has, in the order of its rows; each column is as long as the others or absent.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// When each request arrives, since the source's zero.
    pub arrivals: Option<Vec<Time>>,
    /// Labels of requests.
    pub request_ids: Option<TextColumn>,
    /// Prompts.
    pub prompts: Option<TextColumn>,
    /// Which prompt of a list each request asks for, by its number from 0.
    pub prompt_numbers: Option<Vec<u32>>,
    /// Under which number each prompt is asked for, rising, where that is not its row.
    pub numbers: Option<Vec<u32>>,
    /// Who asks.
    pub tenants: Option<TextColumn>,
    /// How long after its arrival each request should be finished, if it says so.
    pub deadlines: Option<Vec<Option<Duration>>>,
    /// Further columns by name.
    pub extra: Vec<(String, TextColumn)>,
    /// What was done to the rows.
    pub notes: Vec<Note>,
}

impl Source {
    /// Number of rows.
    pub fn len(&self) -> usize {
        let prompts = self.prompts.as_ref().map(TextColumn::len);
        self.arrivals.as_ref().map(Vec::len).or(prompts).unwrap_or(0)
    }

    /// Whether there are no rows; a source that was read has some.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A format that can be imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Our own `requests.csv`.
    Modm,
    /// One prompt a line.
    PromptList,
    /// Google's Parti prompts, TSV.
    PartiPrompts,
    /// The prompts of MJHQ-30k, JSON.
    Mjhq,
    /// Prompts, users and times of `DiffusionDB`, parquet.
    DiffusionDb,
    /// Arrivals of the Azure LLM inference traces, CSV.
    Azure,
    /// Arrivals and prompt numbers of the `DiffServe` artifact, CSV without header.
    DiffServe,
    /// Requests of Alibaba's text-to-image service, CSV.
    Alibaba,
}

impl Format {
    /// All formats, in the order in which help lists them.
    pub const ALL: [Self; 8] = [
        Self::Modm,
        Self::PromptList,
        Self::PartiPrompts,
        Self::Mjhq,
        Self::DiffusionDb,
        Self::Azure,
        Self::DiffServe,
        Self::Alibaba,
    ];

    /// The word for it on the command line.
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
        }
    }
}

impl FromStr for Format {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|format| format.name() == text);
        known.ok_or_else(|| format!("expected one of {}", Self::ALL.map(Self::name).join(", ")))
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What importers are asked to keep.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Our own format may be out of order of arrival.
    pub sort: bool,
    /// Keep requests that failed or were still pending.
    pub keep_unfinished: bool,
    /// Keep requests that start from an image: image-to-image and inpainting.
    pub keep_image_to_image: bool,
}

/// A file's content as importers read it.
struct File<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    progress: &'a dyn Fn(u64),
}

/// Reads a file of a format, guessed where none is given; `progress` hears how many bytes were read.
///
/// # Errors
/// The first thing wrong: file, line, column, value found and what is accepted.
pub fn read(
    path: &Path,
    format: Option<Format>,
    options: Options,
    progress: &dyn Fn(u64),
) -> Result<(Format, Source), InputError> {
    let map = input::map(path)?;
    let bytes = map.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&map);
    let chosen = format.map_or_else(|| guess(path, bytes), Ok)?;
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
    };
    if source.is_empty() {
        return Err(InputError::new(path, "expected at least one row that can be used"));
    }
    if format.is_none() {
        source.notes.insert(0, Note::new(format!("format {chosen}, guessed from the file's name and content")));
    }
    Ok((chosen, source))
}

#[cfg(feature = "parquet")]
fn read_diffusiondb(file: &File<'_>) -> Result<Source, InputError> {
    diffusiondb::read(file)
}

#[cfg(not(feature = "parquet"))]
fn read_diffusiondb(file: &File<'_>) -> Result<Source, InputError> {
    Err(InputError::new(file.path, "reading parquet is not built in: build with `--features parquet`"))
}

/// The format that a file's first line or name gives away.
fn guess(path: &Path, bytes: &[u8]) -> Result<Format, InputError> {
    let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(&line[..line.len().min(4096)]);
    let line = line.trim();
    let columns: Vec<&str> = line.split(',').map(str::trim).collect();
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let format = if bytes.starts_with(b"PAR1") || extension == "parquet" {
        Format::DiffusionDb
    } else if columns.contains(&"arrival_s") {
        Format::Modm
    } else if columns.contains(&"gmt_create") {
        Format::Alibaba
    } else if columns.first() == Some(&"TIMESTAMP") {
        Format::Azure
    } else if line.starts_with("Prompt\t") {
        Format::PartiPrompts
    } else if line.starts_with('{') && extension == "json" {
        Format::Mjhq
    } else if columns.len() == 2 && columns.iter().all(|field| field.parse::<f64>().is_ok()) {
        Format::DiffServe
    } else if matches!(extension, "txt" | "lst" | "") {
        Format::PromptList
    } else {
        let formats = Format::ALL.map(Format::name).join(", ");
        let message =
            format!("the format is not recognised: say which with --prompts-format or --arrivals-format: {formats}");
        return Err(InputError::new(path, message).line(1).value("first line", line));
    };
    Ok(format)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a text as a file of this name.
    pub(super) fn import(
        name: &str,
        content: &[u8],
        format: Option<Format>,
        options: Options,
    ) -> Result<Source, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let source = read(&path, format, options, &|_| ()).map(|(_, source)| source);
        source.map_err(|error| error.to_string().replace(&format!("{}/", folder.path().display()), ""))
    }

    /// A real file, or `None` and a word about it where it is not there.
    pub(super) fn real(name: &str, options: Options) -> Option<Source> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(name);
        if !path.exists() {
            println!("skipped: {name} is not here");
            return None;
        }
        Some(read(&path, None, options, &|_| ()).unwrap().1)
    }

    pub(super) fn notes(source: &Source) -> Vec<String> {
        source.notes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn guesses_formats() {
        let guess = |name: &str, text: &str| guess(Path::new(name), text.as_bytes()).map_err(|error| error.to_string());
        assert_eq!(guess("a.csv", "request_id,arrival_s\n"), Ok(Format::Modm));
        assert_eq!(guess("a.txt", "a cat, red\n"), Ok(Format::PromptList));
        assert_eq!(guess("a.tsv", "Prompt\tCategory\n"), Ok(Format::PartiPrompts));
        assert_eq!(guess("a.json", "{\"a\":"), Ok(Format::Mjhq));
        assert_eq!(guess("metadata.parquet", "PAR1"), Ok(Format::DiffusionDb));
        assert_eq!(guess("a.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"), Ok(Format::Azure));
        assert_eq!(guess("a.txt", "368.0,1236\n"), Ok(Format::DiffServe));
        assert_eq!(guess("a.csv", "gmt_create,predict_type\n"), Ok(Format::Alibaba));
        assert!(
            guess("a.csv", "x,y\n").unwrap_err().starts_with("a.csv:1: first line = x,y: the format is not recognised")
        );
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
