//! The record of a run: every event and action with its time, in order. Metrics are a fold over this
//! stream, written to a file or not; events read back and fed into a fresh core give the same actions.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::scheduler::{Action, Event};
use crate::time::Time;

/// One record, borrowed from the loop.
#[derive(Clone, Copy, Debug)]
pub enum Record<'a> {
    /// Event that the core was told.
    Event(&'a Event),
    /// Action that it answered with.
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
    /// Event or action.
    #[serde(flatten)]
    pub what: What,
}

/// An event or an action.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Event that the core was told.
    Event(Event),
    /// Action that it answered with.
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
