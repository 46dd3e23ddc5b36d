//! `modm simulate`: one run against the simulated clock.

use std::time::Instant;

use clap::Args;

use super::arguments::{RangeArguments, ScenarioArguments, SearchArguments};
use super::parallel::threads;
use super::progress::Progress;
use super::run::Prepared;
use crate::metrics::warnings::Warning;
use crate::report::{self, Comparison, Run};

/// Run a scenario against the simulated clock
#[derive(Debug, Args)]
pub(super) struct Simulate {
    #[command(flatten)]
    common: ScenarioArguments,
    #[command(flatten)]
    search: SearchArguments,
    #[command(flatten)]
    range: RangeArguments,
    /// Also write journal.jsonl.gz: every event and action
    #[arg(long)]
    journal: bool,
}

pub(super) fn run(command: &Simulate) -> anyhow::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "wall seconds go to run.json alone")]
    let begun = Instant::now();
    let common = &command.common;
    let (source, overrides) = common.read()?;
    let prepared = Prepared::load(&source, &overrides)?;
    common.prepare_output()?;
    command.search.search.prepare(&prepared.inputs.trace, &[&prepared.scenario], source.file(), None, common.quiet);
    let runs = if command.range.no_range { 1 } else { prepared.runs_of_range() + 1 };
    let progress = Progress::new(runs * prepared.inputs.trace.trace.len() as u64, common.quiet);
    let mut results = if command.journal {
        prepared.run_with_journal(&common.out, &common.out.join("journal.jsonl.gz"), &progress)?
    } else {
        prepared.run_into(&common.out, &progress)?
    };
    if !command.range.no_range {
        results.summary.profile_range = prepared.profile_range(threads(None), &progress)?;
    }
    progress.finish();
    prepared.write(&common.out, &results, begun.elapsed().as_secs_f64(), &[])?;
    if common.json {
        println!("{}", serde_json::to_string_pretty(&results.summary)?);
        return Ok(());
    }
    let comparison = Comparison {
        name: prepared.scenario.name.clone(),
        runs: vec![Run {
            variant: prepared.scenario.name.clone(),
            seed: prepared.scenario.seed,
            summary: results.summary,
            timeline: results.timeline,
            latencies: results.latencies,
            ..Run::default()
        }],
        stand_ins: prepared.stand_ins(),
        notes: [prepared.scenario.notes.clone(), Warning::texts(&results.warnings)].concat(),
        ..Comparison::default()
    };
    print!("{}", report::terminal(&comparison, super::width()));
    super::print_notes(comparison.grounds());
    eprintln!("results in {}", common.out.display());
    Ok(())
}
