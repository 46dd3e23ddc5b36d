//! Errors of inputs, in the same form everywhere: file, line, key, the value found and what is accepted. Every parser
//! returns [`InputError`]; the command line turns it into exit code 2. The functions of this module read, map and hash
//! input files.

use std::fmt;
use std::path::{Path, PathBuf};

pub mod toml;

/// Error of an input that cannot be used. The message is `file:line: key = found: accepted`, with the parts that apply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InputError {
    /// Path of the file, or the name of another source (`--set`, `variant "modm"`).
    pub file: PathBuf,
    /// Line of the file, counted from 1.
    pub line: Option<usize>,
    /// Column name, dotted key or flag.
    pub key: Option<String>,
    /// Value that was found, as written.
    pub found: Option<String>,
    /// Phrase that says what is accepted or how to correct the input.
    pub accepted: String,
}

impl InputError {
    /// Makes an error about a whole file. `accepted` says what is wrong and how to correct it.
    #[must_use]
    pub fn new(file: impl AsRef<Path>, accepted: impl Into<String>) -> Self {
        Self { file: file.as_ref().to_owned(), accepted: accepted.into(), ..Self::default() }
    }

    /// Sets the line, counted from 1.
    #[must_use]
    pub const fn line(mut self, line: usize) -> Self {
        self.line = Some(line);
        self
    }

    /// Sets the key or column and the value that was found there.
    #[must_use]
    pub fn value(mut self, key: impl Into<String>, found: impl fmt::Display) -> Self {
        self.key = Some(key.into());
        self.found = Some(shortened(&found.to_string()));
        self
    }

    /// Sets the key or column of an error that has no value to show.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Makes the error of a file that could not be opened or read.
    #[must_use]
    pub fn unreadable(file: impl AsRef<Path>, error: &std::io::Error) -> Self {
        Self::new(file, format!("cannot be read: {error}"))
    }
}

/// Reads a text file and leaves out a byte order mark.
///
/// # Errors
/// Returns an error if the file cannot be read or is not UTF-8.
pub fn text(file: impl AsRef<Path>) -> Result<String, InputError> {
    let file = file.as_ref();
    let bytes = std::fs::read(file).map_err(|error| InputError::unreadable(file, &error))?;
    let text = str::from_utf8(&bytes).map_err(|error| {
        // The text is not valid, so `line_of_offset` cannot take it. Everything before the first wrong byte is.
        let before = bytes.iter().take(error.valid_up_to()).filter(|&&byte| byte == b'\n').count();
        InputError::new(file, "expected UTF-8 text").line(before + 1)
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text).to_owned())
}

/// Returns the line, counted from 1, of a byte offset into a text.
#[must_use]
pub fn line_of_offset(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|&&byte| byte == b'\n').count() + 1
}

/// Maps a file into memory. A mapped file is read without a copy, and the system can reclaim its memory at any time.
///
/// # Errors
/// Returns an error if the file cannot be opened or is not a regular file.
pub fn map(file: impl AsRef<Path>) -> Result<memmap2::Mmap, InputError> {
    let file = file.as_ref();
    let unreadable = |error| InputError::unreadable(file, &error);
    let opened = std::fs::File::open(file).map_err(unreadable)?;
    // A folder opens without an error, and a pipe has no length to map. Both are refused here with words that name the
    // cause.
    if !opened.metadata().map_err(unreadable)?.is_file() {
        return Err(InputError::new(file, "is not a regular file"));
    }
    #[expect(unsafe_code, reason = "inputs are read-only; changing one during a run is outside what we promise")]
    let mapped = unsafe { memmap2::Mmap::map(&opened) };
    mapped.map_err(unreadable)
}

/// Returns the SHA-256 of a file, in hexadecimal. The results of a run name their inputs by it.
///
/// # Errors
/// Returns an error if the file cannot be read.
pub fn sha256(file: impl AsRef<Path>) -> Result<String, InputError> {
    Ok(sha256_of(&map(file)?))
}

/// Returns the SHA-256 of bytes, in hexadecimal.
#[must_use]
pub fn sha256_of(bytes: &[u8]) -> String {
    use sha2::Digest;
    hexadecimal(&sha2::Sha256::digest(bytes))
}

/// Returns bytes as hexadecimal digits.
#[must_use]
pub fn hexadecimal(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from_digit(digit.into(), 16).expect("four bits are a digit")).collect()
}

/// Shortens a text to 80 characters and escapes control characters, so that a message stays one short line.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut shown = String::new();
    for (count, character) in text.chars().enumerate() {
        if count == LONGEST {
            shown.push('…');
            break;
        }
        if character.is_control() { shown.extend(character.escape_default()) } else { shown.push(character) }
    }
    shown
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        match (&self.key, &self.found) {
            (Some(key), Some(found)) => write!(f, ": {key} = {found}: ")?,
            (Some(key), None) => write!(f, ": {key}: ")?,
            (None, _) => f.write_str(": ")?,
        }
        f.write_str(&self.accepted)
    }
}

impl std::error::Error for InputError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_file_line_key_value_and_what_is_accepted() {
        let error = InputError::new("a.csv", "expected seconds from 0").line(3).value("arrival_s", "\"x\"");
        assert_eq!(error.to_string(), "a.csv:3: arrival_s = \"x\": expected seconds from 0");
        assert_eq!(InputError::new("a.csv", "is empty").to_string(), "a.csv: is empty");
        let long = InputError::new("a.csv", "too long").value("prompt", "x".repeat(1000)).to_string();
        assert!(long.len() < 150, "{long}");
    }
}
