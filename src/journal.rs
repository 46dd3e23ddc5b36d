//! The record of a run: every event and action with its time, in order. Metrics are a fold over this
//! stream, written to a file or not; events read back and fed into a fresh core give the same actions.

use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};

use crate::scheduler::{Action, Event};
use crate::time::Time;

/// One record, borrowed from the loop.
#[derive(Clone, Copy, Debug)]
pub enum Record<'a> {
    /// What the core was told.
    Event(&'a Event),
    /// What it answered.
    Action(&'a Action),
}

/// Takes records in order. Cannot fail: a writer keeps its first error for later.
pub trait Journal {
    /// One more record.
    fn record(&mut self, time: Time, record: Record<'_>);
}

/// Keeps nothing.
impl Journal for () {
    fn record(&mut self, _: Time, _: Record<'_>) {}
}

impl<J: Journal + ?Sized> Journal for &mut J {
    fn record(&mut self, time: Time, record: Record<'_>) {
        (**self).record(time, record);
    }
}

impl<J: Journal> Journal for Option<J> {
    fn record(&mut self, time: Time, record: Record<'_>) {
        if let Some(journal) = self {
            journal.record(time, record);
        }
    }
}

impl<A: Journal, B: Journal> Journal for (A, B) {
    fn record(&mut self, time: Time, record: Record<'_>) {
        self.0.record(time, record);
        self.1.record(time, record);
    }
}

/// One record, owned: a line of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Nanoseconds since the trace's zero.
    #[serde(rename = "t")]
    pub time: Time,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// An event or an action.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// What the core was told.
    Event(Event),
    /// What it answered.
    Action(Action),
}

/// Keeps everything in memory, for tests and replays.
impl Journal for Vec<Line> {
    fn record(&mut self, time: Time, record: Record<'_>) {
        let what = match record {
            Record::Event(event) => What::Event(event.clone()),
            Record::Action(action) => What::Action(action.clone()),
        };
        self.push(Line { time, what });
    }
}

/// Writes one JSON object a line.
#[derive(Debug)]
pub struct Writer<W: Write> {
    to: W,
    error: Option<io::Error>,
}

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
    /// Starts a journal with its header.
    ///
    /// # Errors
    /// Writing failed.
    pub fn new(mut to: W, header: &impl Serialize) -> io::Result<Self> {
        serde_json::to_writer(&mut to, header)?;
        to.write_all(b"\n")?;
        Ok(Self { to, error: None })
    }

    /// The first error of all writes, or what was written to.
    ///
    /// # Errors
    /// Writing failed at some point.
    pub fn finish(self) -> io::Result<W> {
        self.error.map_or(Ok(self.to), Err)
    }
}

impl<W: Write> Journal for Writer<W> {
    fn record(&mut self, time: Time, record: Record<'_>) {
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

/// Reads a journal: its header and its records.
///
/// # Errors
/// Reading failed, or a line is not what a journal holds; the message names the line.
pub fn read<H: for<'de> Deserialize<'de>>(from: impl BufRead) -> io::Result<(H, Vec<Line>)> {
    let bad = |line: usize, error: &serde_json::Error| {
        io::Error::new(io::ErrorKind::InvalidData, format!("line {line}: {error}"))
    };
    let mut lines = from.lines();
    let first = lines.next().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "line 1: no header"))??;
    let header = serde_json::from_str(&first).map_err(|error| bad(1, &error))?;
    let records = lines.enumerate().map(|(index, line)| {
        let line = line?;
        serde_json::from_str(&line).map_err(|error| bad(index + 2, &error))
    });
    Ok((header, records.collect::<io::Result<_>>()?))
}
