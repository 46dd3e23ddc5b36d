//! Progress of an experiment, told to whoever wants to show it.

use crate::journal::{Journal, Record};
use crate::scheduler::Action;
use crate::time::Time;

/// Receiver of how far an experiment is. `()` shows nothing.
pub trait Progress: Sync {
    /// Begins a run of so many requests that is shown by itself, as live runs are.
    fn run_begins(&self, _requests: u64) {}

    /// Begins to draw so many pictures, each of which ends as a request does.
    fn pictures_begin(&self, _pictures: u64) {}

    /// Ends such a run, or the drawing.
    fn run_ends(&self) {}

    /// Counts a request that has ended in some run.
    fn request_ended(&self) {}

    /// Begins a search ahead for so many requests.
    fn search_begins(&self, _requests: u64) {}

    /// Counts requests that were searched for.
    fn searched(&self, _requests: u64) {}

    /// Ends a search ahead.
    fn search_ends(&self) {}

    /// Says a sentence on what happens.
    fn say(&self, _sentence: &str) {}
}

impl Progress for () {}

/// Journal that counts requests as they end.
#[derive(Clone, Copy)]
pub struct Counted<'a>(
    /// Receiver.
    pub &'a dyn Progress,
);

impl std::fmt::Debug for Counted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Counted")
    }
}

impl Journal for Counted<'_> {
    fn record(&mut self, _: Time, record: Record<'_>) {
        if let Record::Action(Action::Finish(_)) = record {
            self.0.request_ended();
        }
    }
}
