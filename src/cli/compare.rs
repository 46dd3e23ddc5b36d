//! `modm compare`: runs each variant of a scenario on the same trace, then writes one report.

use std::num::NonZeroUsize;
use std::time::Instant;

use anyhow::Context;
use clap::Args;

use super::arguments::{FigureArguments, RangeArguments, ScenarioArguments, SearchArguments, count};
use super::progress::{Lines, Progress};
use crate::experiments::capacity::{self, Capacities, Question};
use crate::experiments::variants::{self, VariantRun};
use crate::experiments::{Counted, ExperimentError, profile_range, runs_of_range, threads};
use crate::metrics::warnings::{Warning, merged};
use crate::output::remove_file;
use crate::report::Run;
use crate::report::provenance::{of_variants, versions};
use crate::report::read::{CAPACITIES, INDEX, Index, Place};
use crate::run_folder::{RUN, RunFolder, write_run_json};
use crate::scenario::{Scenario, Source};

/// Run each [[variant]] of a scenario on the same trace and report the differences
#[derive(Debug, Args)]
pub(super) struct Compare {
    #[command(flatten)]
    common: ScenarioArguments,
    #[command(flatten)]
    search: SearchArguments,
    #[command(flatten)]
    figures: FigureArguments,
    #[command(flatten)]
    range: RangeArguments,
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
    #[expect(clippy::disallowed_methods, reason = "wall seconds go to run.json alone")]
    let begun = Instant::now();
    let common = &command.common;
    let (source, sets) = common.read()?;
    let base = source.scenario(&sets)?;
    let variants = variants::chosen(&base, &command.variants, &source)?;
    let planned = variants::plan(command.seeds, &source, &sets, &variants)?;
    if command.capacity {
        capacity::check(&planned, &source)?;
    }
    common.prepare_output()?;
    // The capacities come before the runs, because the runs drop the searches ahead that both need.
    let capacities = command.capacity.then(|| search_capacities(&planned, command, &base, &source)).transpose()?;
    // With --force, these files of an earlier comparison would be taken for those of this one, or for a comparison of
    // runs that were replaced, should this one be killed.
    for name in [INDEX, RUN, CAPACITIES, "capacity.csv"] {
        remove_file(&common.out.join(name))?;
    }
    if let Some(found) = &capacities {
        super::capacity::write(found, &common.out)?;
    }
    let warnings = run_all(&planned, command, &source)?;
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
    let comparison = super::write_index(&index, &common.out)?;
    super::write_report(&comparison, command.figures.look(), &common.out)?;
    write_run_json(&common.out, &base, &[], &comparison.stand_ins, begun.elapsed().as_secs_f64(), &[])?;
    if common.json {
        println!("{}", serde_json::to_string_pretty(&rows(&comparison.runs))?);
        return Ok(());
    }
    super::print_comparison(&comparison);
    eprintln!("report: {}", common.out.join("report.html").display());
    Ok(())
}

/// Searches the capacities of all planned runs.
fn search_capacities(
    planned: &[VariantRun],
    command: &Compare,
    base: &Scenario,
    source: &Source,
) -> Result<Capacities, ExperimentError> {
    let (question, threads) = (Question::of_scenario(base), threads(command.threads));
    let lines = Lines::new(command.common.quiet);
    capacity::prepare_searches(planned, command.search.search(), source, &lines);
    let mut found = capacity::search_all(planned, question, source, threads, &lines)?;
    if !command.range.no_range {
        found.ranges = capacity::ranges(planned, &found, question, source, threads)?;
    }
    Ok(found)
}

/// Returns the variant, the seed and the measures of each run as JSON.
pub(super) fn rows(runs: &[Run]) -> Vec<serde_json::Value> {
    let row = |run: &Run| serde_json::json!({ "variant": run.variant, "seed": run.seed, "summary": run.summary });
    runs.iter().map(row).collect()
}

/// Makes all planned runs and writes the files of each. Returns the warnings for a reader, in words.
fn run_all(planned: &[VariantRun], command: &Compare, source: &Source) -> anyhow::Result<Vec<String>> {
    // Only the run on the first trace of each variant gets a range.
    let is_first = |at: usize| planned[..at].iter().all(|other| other.variant != planned[at].variant);
    let has_range: Vec<bool> = (0..planned.len()).map(|at| !command.range.no_range && is_first(at)).collect();
    let runs = |(run, has_range): (&VariantRun, &bool)| {
        let runs = 1 + if *has_range { runs_of_range(&run.simulation) } else { 0 };
        runs * run.simulation.inputs.trace.trace.len() as u64
    };
    let progress = Progress::new(planned.iter().zip(&has_range).map(runs).sum(), command.common.quiet);
    let run = |at: usize| run_one(&planned[at], has_range[at], command, &progress);
    let (search, threads) = (command.search.search(), threads(command.threads));
    let results = variants::run_all(planned, search, source, threads, &progress, run)?;
    progress.finish();
    let warned: Vec<(String, Vec<Warning>)> = results.into_iter().collect::<anyhow::Result<_>>()?;
    Ok(merged(&warned))
}

/// Makes one run and writes its files. Returns the name of the variant and the warnings for a reader.
fn run_one(
    run: &VariantRun,
    has_range: bool,
    command: &Compare,
    progress: &Progress,
) -> anyhow::Result<(String, Vec<Warning>)> {
    #[expect(clippy::disallowed_methods, reason = "wall seconds go to run.json alone")]
    let begun = Instant::now();
    let folder = RunFolder::new(&run.simulation, command.common.out.join(&run.folder));
    let mut results = folder.run(Counted(progress)).with_context(|| format!("variant {}", run.variant))?;
    if has_range {
        results.summary.profile_range = profile_range(&run.simulation, 1, progress)?;
    }
    folder.write(&results, begun.elapsed().as_secs_f64(), &[])?;
    Ok((run.variant.clone(), results.warnings))
}
