//! `modm simulate`: runs a scenario once against the simulated clock.

use clap::Args;

use super::arguments::{RangeArguments, ScenarioArguments, SearchArguments};
use super::printer;
use super::progress::{Lines, Progress};
use crate::experiments::{runs_of_range, threads, write_run};
use crate::metrics::warnings::Warning;
use crate::report::{self, Comparison, Run};
use crate::run_folder::WallTime;
use crate::simulation::Simulation;

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
    let begun = WallTime::begin();
    let common = &command.common;
    let (source, overrides) = common.read()?;
    let simulation = Simulation::load(&source, &overrides)?;
    common.keep_scenario()?;
    common.prepare_output()?;
    let search = command.search.search();
    search.prepare(&simulation.inputs.trace, &[&simulation.scenario], source.file(), &Lines::new(common.quiet));
    let range = (!command.range.no_range).then(|| threads(None));
    let runs = if range.is_some() { runs_of_range(&simulation) + 1 } else { 1 };
    let progress = Progress::new(runs * simulation.inputs.trace.trace.len() as u64, common.quiet);
    let results = write_run(&simulation, &common.out, command.journal, range, begun, &progress)?;
    progress.finish();
    if common.json {
        printer::json(&results.summary)?;
        return Ok(());
    }
    let comparison = Comparison {
        name: simulation.scenario.name.clone(),
        runs: vec![Run {
            variant: simulation.scenario.name.clone(),
            seed: simulation.scenario.seed,
            summary: results.summary,
            timeline: results.timeline,
            latencies: results.latencies,
            ..Run::default()
        }],
        stand_ins: simulation.stand_ins(),
        notes: [simulation.scenario.notes.clone(), Warning::texts(&results.warnings)].concat(),
        ..Comparison::default()
    };
    printer::text(report::terminal(&comparison, super::width()));
    super::print_notes(comparison.grounds());
    say!("results in {}", common.out.display());
    Ok(())
}
