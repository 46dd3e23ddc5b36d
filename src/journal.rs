//! Journals as files: a header, then records, each as one JSON object a line. `modm_core::journal` defines the records.

use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};

pub use modm_core::journal::*;

use crate::scheduler::{Action, Event};
use crate::time::Time;

/// Journal that writes each record as one JSON object a line.
#[derive(Debug)]
pub struct Writer<W: Write> {
    to: W,
    error: Option<io::Error>,
}

/// Counterpart of [`What`] that borrows the event or action, so that writing copies neither.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Borrowed<'a> {
    Event(&'a Event),
    Action(&'a Action),
}

#[derive(Serialize)]
struct BorrowedLine<'a> {
    t: Time,
    #[serde(flatten)]
    what: Borrowed<'a>,
}

impl<W: Write> Writer<W> {
    /// Starts a journal and writes its header.
    ///
    /// # Errors
    /// Returns an error if the header cannot be written.
    pub fn new(mut to: W, header: &impl Serialize) -> io::Result<Self> {
        serde_json::to_writer(&mut to, header)?;
        to.write_all(b"\n")?;
        Ok(Self { to, error: None })
    }

    /// Returns the destination of the journal, or the first error of all writes.
    ///
    /// # Errors
    /// Returns an error if any write failed.
    pub fn finish(self) -> io::Result<W> {
        self.error.map_or(Ok(self.to), Err)
    }
}

impl<W: Write> Journal for Writer<W> {
    fn record(&mut self, time: Time, record: Record<'_>) {
        // The loop cannot fail, so `finish` reports the error. Records after a gap would make the journal look
        // complete.
        if self.error.is_some() {
            return;
        }
        let what = match record {
            Record::Event(event) => Borrowed::Event(event),
            Record::Action(action) => Borrowed::Action(action),
        };
        let written = serde_json::to_writer(&mut self.to, &BorrowedLine { t: time, what });
        self.error = written.map_err(io::Error::from).and_then(|()| self.to.write_all(b"\n")).err();
    }
}

/// Reads the header and the records of a journal.
///
/// # Errors
/// Returns an error if reading fails or if a line is not valid. For such a line, the message has its number.
pub fn read<H: for<'de> Deserialize<'de>>(from: impl BufRead) -> io::Result<(H, Vec<Line>)> {
    let bad = |line: usize, error: &serde_json::Error| {
        io::Error::new(io::ErrorKind::InvalidData, format!("line {line}: {error}"))
    };
    let mut lines = from.lines();
    let first = lines.next().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "line 1: no header"))??;
    let header = serde_json::from_str(&first).map_err(|error| bad(1, &error))?;
    let records = lines.enumerate().map(|(index, line)| {
        let line = line?;
        // The header is line 1.
        serde_json::from_str(&line).map_err(|error| bad(index + 2, &error))
    });
    Ok((header, records.collect::<io::Result<_>>()?))
}
