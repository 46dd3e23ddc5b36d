//! Record of a run: every event and action with its time, in order. Metrics are a fold over the records, whether these
//! are written to a file or not. Events that are read back and fed into a fresh core give the same actions.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::scheduler::{Action, Event};
use crate::time::Time;

/// Record that is borrowed from the loop.
#[derive(Clone, Copy, Debug)]
pub enum Record<'a> {
    /// Event that the core receives.
    Event(&'a Event),
    /// Action that the core answers with.
    Action(&'a Action),
}

/// Receiver of records, in order. A receiver cannot fail: a writer keeps its first error for later.
pub trait Journal {
    /// Takes one more record.
    fn record(&mut self, time: Time, record: Record<'_>);
}

/// Drops all records.
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

/// Record that is owned: a line of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Nanoseconds since the trace's zero.
    #[serde(rename = "t")]
    pub time: Time,
    /// Event or action.
    #[serde(flatten)]
    pub what: What,
}

/// Event or action that is owned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Event that the core receives.
    Event(Event),
    /// Action that the core answers with.
    Action(Action),
}

/// Keeps all records in memory, for tests and replays.
impl Journal for Vec<Line> {
    fn record(&mut self, time: Time, record: Record<'_>) {
        let what = match record {
            Record::Event(event) => What::Event(event.clone()),
            Record::Action(action) => What::Action(action.clone()),
        };
        self.push(Line { time, what });
    }
}
