//! Way in which runs look up similar images: each run by itself, or in the results of a search that was done ahead for
//! all runs. Results are the same, byte for byte; only the time differs.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Progress, threads};
use crate::scenario::{LookedUp, Scenario, TraceInputs};

/// Way in which runs look up similar images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Search {
    /// Search ahead of the runs, if that takes less time in total.
    #[default]
    Auto,
    /// Search once for each trace, before its runs. The search is stored beside the trace's requests for the next
    /// experiment.
    Ahead,
    /// Search in each run.
    Direct,
}

impl Search {
    /// Searches ahead what the runs of these scenarios over a trace will look up, if that should be done ahead. `file`
    /// is the file of the scenarios.
    pub fn prepare(self, trace: &TraceInputs, runs: &[&Scenario], file: &Path, progress: &dyn Progress) {
        let Some(first) = runs.first() else { return };
        for what in LookedUp::ALL {
            let wanted = runs.iter().any(|run| run.looks_up() == Some(what));
            // An eviction policy that knows the future needs the search ahead whatever the way.
            let needed = || what == LookedUp::Images && runs.iter().any(|run| run.foresees());
            let worth = || trace.is_worth_searching(what, runs.iter().copied());
            let ahead = match self {
                Self::Auto => needed() || worth(),
                Self::Ahead => true,
                Self::Direct => needed(),
            };
            // Where requests differ, each kind of image has an index of its own, which no search ahead serves.
            if !wanted || !ahead || trace.trace.differs() && !needed() {
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

/// Searches ahead for runs over several traces, some of them over the same one. A trace is searched when the first of
/// its runs begins, and the search is dropped when the last has ended.
#[derive(Debug)]
pub struct SharedSearches<'a> {
    search: Search,
    /// File of the scenarios.
    file: &'a Path,
    traces: Vec<OneTrace<'a>>,
    /// Index of the trace, by run.
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

    /// Returns the indices of the runs, trace by trace, so that few searches are needed at a time.
    #[must_use]
    pub fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.of.len()).collect();
        order.sort_by_key(|run| self.of[*run]);
        order
    }

    /// Begins a run, and searches ahead if no run of its trace has done so. Other runs of the trace wait meanwhile.
    pub fn begin(&self, run: usize, progress: &dyn Progress) {
        let one = &self.traces[self.of[run]];
        let mut state = one.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.searched {
            self.search.prepare(one.trace, &one.scenarios, self.file, progress);
            state.searched = true;
        }
    }

    /// Ends a run, and drops the search after the last run of its trace.
    pub fn end(&self, run: usize) {
        let one = &self.traces[self.of[run]];
        let mut state = one.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.ended += 1;
        if state.ended == one.scenarios.len() {
            one.trace.searched.forget();
        }
    }
}
