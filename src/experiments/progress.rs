//! Progress of an experiment, for whatever shows it.

use std::sync::Arc;

use super::Figures;
use crate::journal::{Journal, Record};
use crate::scheduler::Action;
use crate::time::Time;

/// Receiver of the progress of an experiment. `()` shows nothing.
pub trait Progress: Sync {
    /// Begins a run of this many requests that is shown by itself, as live runs are.
    fn run_begins(&self, _requests: u64) {}

    /// Begins to draw this many pictures. Each picture is counted as a request is when it ends.
    fn pictures_begin(&self, _pictures: u64) {}

    /// Ends the run or the drawing that was begun.
    fn run_ends(&self) {}

    /// Begins work on this many requests, in many runs or in batches. Returns the receiver of its progress. The work
    /// has ended when the receiver is dropped.
    fn work_begins(&self, _requests: u64) -> Box<dyn Progress> {
        Box::new(())
    }

    /// Counts a request that has ended in some run.
    fn request_ended(&self) {}

    /// Counts requests that have ended together, as a batch.
    fn requests_ended(&self, _requests: u64) {}

    /// Begins a search ahead for this many requests.
    fn search_begins(&self, _requests: u64) {}

    /// Counts requests that were searched for.
    fn searched(&self, _requests: u64) {}

    /// Ends a search ahead.
    fn search_ends(&self) {}

    /// Returns whether the figures of live runs are shown, which cost a look at every event.
    fn watches(&self) -> bool {
        false
    }

    /// Shows the figures of a live run as they are now.
    fn figures(&self, _figures: &Figures<'_>) {}

    /// Says a sentence about the experiment.
    fn say(&self, _sentence: &str) {}

    /// Returns a function that says sentences from any thread.
    fn anywhere(&self) -> Arc<dyn Fn(&str) + Send + Sync> {
        Arc::new(|_| {})
    }
}

impl Progress for () {}

/// Journal that counts requests as they end.
#[derive(Clone, Copy)]
pub struct Counted<'a>(
    /// Receiver of the counts.
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
