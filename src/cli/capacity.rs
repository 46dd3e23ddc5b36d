//! `modm capacity`: finds the highest rate of arrivals that each variant holds.

use std::num::NonZeroUsize;
use std::path::Path;

use clap::Args;

use super::arguments::{ExperimentArguments, count, positive, share};
use super::printer;
use super::progress::Lines;
use crate::experiments::capacity::{self, ATTAINMENT, Capacities, Question, Target, UP_TO};
use crate::experiments::{threads, variants};
use crate::output::write_atomic;
use crate::report::provenance::{of_variants, versions};
use crate::report::read::CAPACITIES;
use crate::report::{CapacityReport, capacity_table, write_files};
use crate::run_folder::{WallTime, write_run_json};

/// Find the highest rate of arrivals that each variant holds
#[derive(Debug, Args)]
#[command(after_help = "\
Only the gaps between arrivals are scaled: deadlines, outages, the warm-up and periods stay as they are. A system that \
holds at the largest factor has no limit up to it. A scenario without [[variant]] is one variant.

  modm capacity scenarios/quickstart.toml --out results/capacity
  modm capacity scenarios/quickstart.toml --slo-s 120 --attainment 0.95 --variants vanilla,modm-sdxl --out results/capacity
  modm capacity scenarios/quickstart.toml --seeds 3 --up-to 20 --out results/capacity")]
pub(super) struct CapacityCommand {
    #[command(flatten)]
    experiment: ExperimentArguments,
    /// Latency target, as a number of full generations on the large model (first GPU type); the first of slo.multiples
    /// if absent
    #[arg(long, value_name = "MULTIPLE", value_parser = positive, conflicts_with = "slo_s")]
    slo: Option<f64>,
    /// Latency target in seconds
    #[arg(long, value_name = "SECONDS", value_parser = positive)]
    slo_s: Option<f64>,
    /// Share of the requests that must be in time
    #[arg(long, value_name = "SHARE", default_value_t = ATTAINMENT, value_parser = share)]
    attainment: f64,
    /// Largest factor on the trace's rate that is tried
    #[arg(long, value_name = "FACTOR", default_value_t = UP_TO, value_parser = positive)]
    up_to: f64,
    /// Variants to search, the first one the baseline; all if absent
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    variants: Vec<String>,
    /// Number of traces to search on: a synthetic one is generated anew, a real one resampled by blocks of time
    #[arg(long, value_name = "N", default_value = "1", value_parser = count)]
    seeds: NonZeroUsize,
    /// Number of searches at a time; one for each core if absent
    #[arg(long, value_name = "N", value_parser = count)]
    threads: Option<NonZeroUsize>,
}

pub(super) fn run(command: &CapacityCommand) -> anyhow::Result<()> {
    let begun = WallTime::begin();
    let ExperimentArguments { common, search, figures, range } = &command.experiment;
    let (source, sets) = common.read()?;
    let base = source.scenario(&sets)?;
    let variants = variants::chosen_or_itself(&base, &command.variants, &source)?;
    let planned = variants::plan(command.seeds, &source, &sets, &variants)?;
    let usual = Question::of_scenario(&base);
    let given = command.slo.map(Target::SloMultiple).or(command.slo_s.map(Target::SloS));
    let target = given.unwrap_or(usual.target);
    let question = Question { target, attainment: command.attainment, up_to: command.up_to };
    capacity::check(&planned, &source)?;
    common.prepare_output()?;
    let (lines, threads) = (Lines::new(common.quiet), threads(command.threads));
    let (search, ranges) = (search.search(), !range.no_range);
    let mut capacities = capacity::search_all(&planned, question, &source, search, threads, ranges, &lines)?;
    let more = capacity::examine_all(&planned, &capacities, question, &source, threads)?;
    capacities.at_other_hit_rates = more.at_other_hit_rates;
    let text = write(&capacities, &common.out)?;
    let report = CapacityReport {
        name: base.name.clone(),
        published: variants::published(&variants),
        seeds: command.seeds.get(),
        stand_ins: variants::stand_ins(&planned),
        provenance: of_variants(&planned, &source, &sets),
        notes: variants::notes(&planned, command.seeds.get(), &base).into_iter().chain(more.warnings.clone()).collect(),
        scenario_toml: source.text().to_owned(),
        versions: versions(&base),
        capacities,
    };
    write_files(&super::drawn(report.files(figures.look()))?, &common.out)?;
    write_run_json(&common.out, &base, &[], &report.stand_ins, begun.seconds(), &more.warnings)?;
    if common.json {
        printer::text(text);
        return Ok(());
    }
    printer::text(capacity_table(&report.capacities, &report.published, super::width()));
    super::print_verdict(&report.sentence());
    super::print_notes(report.caveats());
    say!("report: {}", common.out.join("report.html").display());
    Ok(())
}

/// Writes `capacity.json`, and returns its text.
pub(super) fn write(capacities: &Capacities, folder: &Path) -> anyhow::Result<String> {
    let text = serde_json::to_string_pretty(capacities)? + "\n";
    write_atomic(&folder.join(CAPACITIES), |to| std::io::Write::write_all(to, text.as_bytes()))?;
    Ok(text)
}
