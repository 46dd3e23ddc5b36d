//! Printer: the only way to standard output and standard error. `out!` prints a line of results, [`text`] a table,
//! [`json`] a document, `say!` a line that is no result.
//!
//! A reader that leaves (`modm ... | head -1`) ends the printing without a word, and the exit code is 0, as ripgrep's:
//! the command has done its work and still writes its files. A standard output that cannot take the results (a full
//! disk) is a failure, which [`end`] reports. Standard error has no other place to report its own failure to.

use std::fmt::Display;
use std::io::{self, Write};
use std::sync::OnceLock;

use serde::Serialize;

/// Failure that ended the printing of results.
static FAILURE: OnceLock<io::Error> = OnceLock::new();

/// Failure to print the results.
#[derive(Debug, thiserror::Error)]
#[error("standard output cannot be written: {0}")]
pub(super) struct PrintError(&'static io::Error);

/// Prints a text of results, e.g. a table, as it is. Styles are left out where standard output is no terminal.
pub(super) fn text(text: impl Display) {
    if FAILURE.get().is_some() {
        return;
    }
    let mut out = anstream::stdout().lock();
    let printed = out.write_all(text.to_string().as_bytes()).and_then(|()| out.flush());
    if let Err(failure) = printed {
        // Only the first failure counts.
        let _ = FAILURE.set(failure);
    }
}

/// Prints a line of results; `out!` formats it.
pub(super) fn line(line: impl Display) {
    text(format_args!("{line}\n"));
}

/// Prints results as JSON.
///
/// # Errors
/// Returns an error if the results cannot be written as JSON.
pub(super) fn json(results: &impl Serialize) -> serde_json::Result<()> {
    serde_json::to_string_pretty(results).map(line)
}

/// Prints a line on standard error; `say!` formats it.
pub(super) fn aside(line: impl Display) {
    let _ = anstream::stderr().lock().write_all(format!("{line}\n").as_bytes());
}

/// Ends the printing.
///
/// # Errors
/// Returns an error if results could not be printed, unless their reader has left.
pub(super) fn end() -> Result<(), PrintError> {
    match FAILURE.get() {
        Some(failure) if failure.kind() != io::ErrorKind::BrokenPipe => Err(PrintError(failure)),
        _ => Ok(()),
    }
}

/// Prints a line of results on standard output: takes what `format!` takes.
macro_rules! out {
    ($($argument:tt)*) => { $crate::cli::printer::line(format_args!($($argument)*)) };
}

/// Prints a line that is no result on standard error: takes what `format!` takes.
macro_rules! say {
    ($($argument:tt)*) => { $crate::cli::printer::aside(format_args!($($argument)*)) };
}
