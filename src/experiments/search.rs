//! Whether runs look things up one by one, or among what was searched ahead for all of them. Results are the same, byte for byte;
//! only the time differs.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Progress, threads};
use crate::scenario::{LookedUp, Scenario, TraceInputs};

/// Way in which runs look up similar images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Search {
    /// Ahead where that takes less time in all.
    #[default]
    Auto,
    /// Once for each trace, before its runs; stored beside the trace's requests for the next experiment.
    Ahead,
    /// In each run.
    Direct,
}

impl Search {
    /// Searches what the runs of these scenarios over a trace will look up, if that should be done ahead. `file` is the file of
    /// the scenarios.
    pub fn prepare(self, trace: &TraceInputs, runs: &[&Scenario], file: &Path, progress: &dyn Progress) {
        let Some(first) = runs.first() else { return };
        for what in LookedUp::ALL {
            let wanted = runs.iter().any(|run| run.looks_up() == Some(what));
            let needed = || what == LookedUp::Images && runs.iter().any(|run| run.foresees());
            let worth = || trace.is_worth_searching(what, runs.iter().copied());
            let ahead = match self {
                Self::Auto => needed() || worth(),
                Self::Ahead => true,
                Self::Direct => needed(),
            };
            if !wanted || !ahead {
                continue;
            }
            progress.search_begins(trace.trace.len() as u64);
            let requests = first.requests_file(file);
            let searched = |requests| progress.searched(requests);
            let stored = trace.search_ahead(what, requests.as_deref(), threads(None), &searched);
            progress.search_ends();
            if let Err(error) = stored {
                progress.say(&format!("note: the search is not stored, and will be done again next time: {error}"));
            }
        }
    }
}

/// Runs over several traces, some over the same one: what they look up is searched when the first of them begins, and
/// let go when the last has ended.
#[derive(Debug)]
pub struct SharedSearches<'a> {
    search: Search,
    /// The scenario's file.
    file: &'a Path,
    traces: Vec<OneTrace<'a>>,
    /// By run, which trace.
    of: Vec<usize>,
}

#[derive(Debug)]
struct OneTrace<'a> {
    trace: &'a Arc<TraceInputs>,
    scenarios: Vec<&'a Scenario>,
    state: Mutex<TraceState>,
}

#[derive(Debug, Default)]
struct TraceState {
    searched: bool,
    ended: usize,
}

impl<'a> SharedSearches<'a> {
    /// Groups runs by the trace that they share; `file` is the file of the scenarios.
    #[must_use]
    pub fn new(
        search: Search,
        file: &'a Path,
        runs: impl Iterator<Item = (&'a Arc<TraceInputs>, &'a Scenario)>,
    ) -> Self {
        let (mut traces, mut of) = (Vec::<OneTrace<'a>>::new(), Vec::new());
        for (trace, scenario) in runs {
            let known = traces.iter().position(|known| Arc::ptr_eq(known.trace, trace));
            let at = known.unwrap_or_else(|| {
                traces.push(OneTrace { trace, scenarios: Vec::new(), state: Mutex::default() });
                traces.len() - 1
            });
            traces[at].scenarios.push(scenario);
            of.push(at);
        }
        Self { search, file, traces, of }
    }

    /// Returns the runs in an order in which few searches are needed at a time.
    #[must_use]
    pub fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.of.len()).collect();
        order.sort_by_key(|run| self.of[*run]);
        order
    }

    /// Begins a run; another over the same trace waits while this one searches.
    pub fn begin(&self, run: usize, progress: &dyn Progress) {
        let one = &self.traces[self.of[run]];
        let mut state = one.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.searched {
            self.search.prepare(one.trace, &one.scenarios, self.file, progress);
            state.searched = true;
        }
    }

    /// Ends a run.
    pub fn end(&self, run: usize) {
        let one = &self.traces[self.of[run]];
        let mut state = one.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.ended += 1;
        if state.ended == one.scenarios.len() {
            one.trace.searched.forget();
        }
    }
}
