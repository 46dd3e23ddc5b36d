//! `modm compare`: runs each variant of a scenario on the same trace, then writes one report.

use std::num::NonZeroUsize;

use clap::Args;

use super::arguments::{ExperimentArguments, count};
use super::printer;
use super::progress::Lines;
use crate::experiments::capacity::{self, Question};
use crate::experiments::threads;
use crate::experiments::variants::{self, VariantRun};
use crate::report::provenance::{of_variants, versions};
use crate::report::read::{Index, Place, comparison};
use crate::report::{self, write_files};
use crate::run_folder::{WallTime, write_run_json};

/// Run each [[variant]] of a scenario on the same trace and report the differences
#[derive(Debug, Args)]
pub(super) struct Compare {
    #[command(flatten)]
    experiment: ExperimentArguments,
    /// Variants to run, the first one the baseline; all if absent
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    variants: Vec<String>,
    /// Number of traces to repeat each variant on: a synthetic one is generated anew, a real one resampled by blocks of
    /// time
    #[arg(long, value_name = "N", default_value = "1", value_parser = count)]
    seeds: NonZeroUsize,
    /// Also find the highest rate of arrivals that each variant holds, and report it (as `modm capacity` does, up to 10
    /// times the trace's rate, 99 % within the first of slo.multiples)
    #[arg(long)]
    capacity: bool,
    /// Number of runs at a time; one for each core if absent
    #[arg(long, value_name = "N", value_parser = count)]
    threads: Option<NonZeroUsize>,
}

pub(super) fn run(command: &Compare) -> anyhow::Result<()> {
    let begun = WallTime::begin();
    let ExperimentArguments { common, search, figures, range } = &command.experiment;
    let (source, sets) = common.read()?;
    let base = source.scenario(&sets)?;
    let variants = variants::chosen(&base, &command.variants, &source)?;
    let planned = variants::plan(command.seeds, &source, &sets, &variants)?;
    if command.capacity {
        capacity::check(&planned, &source)?;
    }
    common.prepare_output()?;
    let (lines, threads) = (Lines::new(common.quiet), threads(command.threads));
    let (search, ranges) = (search.search(), !range.no_range);
    // The capacities come before the runs, because the runs drop the searches ahead that both need.
    let question = Question::of_scenario(&base);
    let find = || capacity::search_all(&planned, question, &source, search, threads, ranges, &lines);
    let capacities = command.capacity.then(find).transpose()?;
    // With --force, these files of an earlier comparison would be taken for those of this one, or for a comparison of
    // runs that were replaced, should this one be killed.
    Index::remove(&common.out)?;
    if let Some(found) = &capacities {
        super::capacity::write(found, &common.out)?;
    }
    let warnings = variants::run_all(&planned, &common.out, ranges, search, &source, threads, &lines)?;
    let place = |run: &VariantRun| Place {
        variant: run.variant.clone(),
        seed: run.simulation.scenario.seed,
        folder: run.folder.clone(),
    };
    let index = Index {
        name: base.name.clone(),
        runs: planned.iter().map(place).collect(),
        provenance: of_variants(&planned, &source, &sets),
        notes: variants::notes(&planned, command.seeds.get(), &base).into_iter().chain(warnings).collect(),
        published: variants::published(&variants),
        stand_ins: variants::stand_ins(&planned),
        scenario_toml: source.text().to_owned(),
        versions: versions(&base),
    };
    // The results are read again from disk, so that `modm report` makes the same report of them.
    index.write(&common.out)?;
    let comparison = comparison(&common.out, None)?;
    write_files(&super::drawn(report::files(&comparison, figures.look()))?, &common.out)?;
    write_run_json(&common.out, &base, &[], &comparison.stand_ins, begun.seconds(), &[])?;
    if common.json {
        printer::json(&report::json(&comparison.runs))?;
        return Ok(());
    }
    super::print_comparison(&comparison);
    say!("report: {}", common.out.join("report.html").display());
    Ok(())
}
