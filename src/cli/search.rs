//! `--search`: whether the runs of a command look things up one by one, or among what was searched ahead for all of them.
//! What comes out is the same, byte for byte; only the time differs.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use clap::ValueEnum;

use super::parallel::threads;
use super::progress::Progress;
use crate::scenario::{LookedUp, Scenario, TraceInputs};

/// Requests from which on a search takes seconds.
const LONG: u64 = 20_000;

/// How runs look up similar images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Search {
    /// Ahead where that takes less time in all
    #[default]
    Auto,
    /// Once for each trace, before its runs; stored beside the trace's requests for the next command
    Ahead,
    /// In each run
    Direct,
}

impl Search {
    /// Searches what the runs of these scenarios over a trace will look up, if it should be. Shows how far it is; or,
    /// where `runs_progress` shows how far the runs are, says beside that what they wait for.
    pub(super) fn prepare(
        self,
        trace: &TraceInputs,
        runs: &[&Scenario],
        file: &Path,
        runs_progress: Option<&Progress>,
        quiet: bool,
    ) {
        let say = |line: &str| match runs_progress {
            _ if quiet => {}
            Some(progress) => progress.say(line),
            None => eprintln!("{line}"),
        };
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
            let requests = trace.trace.len() as u64;
            if runs_progress.is_some() && requests >= LONG {
                say(&format!("searching ahead for {requests} requests"));
            }
            let progress = Progress::searching(requests, quiet || runs_progress.is_some());
            let requests = first.requests_file(file);
            let stored = trace.search_ahead(what, requests.as_deref(), threads(None), &|done| progress.advance(done));
            progress.finish();
            if let Err(error) = stored {
                say(&format!("note: the search is not stored, and will be done again next time: {error}"));
            }
        }
    }
}

/// Runs over several traces, some over the same one: what they look up is searched when the first of them begins, and
/// let go when the last has ended.
#[derive(Debug)]
pub(super) struct SharedSearches<'a> {
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
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    searched: bool,
    ended: usize,
}

impl<'a> SharedSearches<'a> {
    pub(super) fn new(
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

    /// The runs in an order in which few searches are needed at a time.
    pub(super) fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.of.len()).collect();
        order.sort_by_key(|run| self.of[*run]);
        order
    }

    /// A run begins; another over the same trace waits while this one searches.
    pub(super) fn begin(&self, run: usize, progress: &Progress, quiet: bool) {
        let one = &self.traces[self.of[run]];
        let mut state = one.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.searched {
            self.search.prepare(one.trace, &one.scenarios, self.file, Some(progress), quiet);
            state.searched = true;
        }
    }

    /// A run has ended.
    pub(super) fn end(&self, run: usize) {
        let one = &self.traces[self.of[run]];
        let mut state = one.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.ended += 1;
        if state.ended == one.scenarios.len() {
            one.trace.searched.forget();
        }
    }
}
