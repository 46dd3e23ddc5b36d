//! `--search`: whether the runs of a command look things up one by one, or among what was searched ahead for all of them.
//! What comes out is the same, byte for byte; only the time differs.

use std::path::Path;
use std::sync::Arc;

use clap::ValueEnum;

use super::parallel::threads;
use super::progress::Progress;
use crate::scenario::{LookedUp, Scenario, TraceInputs};

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
    /// Searches what the runs of these scenarios over a trace will look up, if it should be.
    pub(super) fn prepare(self, trace: &TraceInputs, runs: &[&Scenario], file: &Path, say: &dyn Fn(&str), quiet: bool) {
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
            let progress = Progress::searching(trace.trace.len() as u64, quiet);
            let requests = first.requests_file(file);
            let stored = trace.search_ahead(what, requests.as_deref(), threads(None), &|done| progress.advance(done));
            progress.finish();
            if let (Err(error), false) = (&stored, quiet) {
                say(&format!("note: the search is not stored, and will be done again next time: {error}"));
            }
        }
    }

    /// The same for runs over several traces.
    pub(super) fn prepare_all<'a>(
        self,
        runs: impl Iterator<Item = (&'a Arc<TraceInputs>, &'a Scenario)>,
        file: &Path,
        quiet: bool,
    ) {
        let mut traces: Vec<(&Arc<TraceInputs>, Vec<&Scenario>)> = Vec::new();
        for (trace, scenario) in runs {
            match traces.iter_mut().find(|(known, _)| Arc::ptr_eq(known, trace)) {
                Some((_, scenarios)) => scenarios.push(scenario),
                None => traces.push((trace, vec![scenario])),
            }
        }
        for (trace, scenarios) in traces {
            self.prepare(trace, &scenarios, file, &|line| eprintln!("{line}"), quiet);
        }
    }
}
