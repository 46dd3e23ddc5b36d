//! `modm compare`: the same trace under each variant of a scenario, then one report.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use clap::Args;

use super::arguments::{FigureArguments, RangeArguments, ScenarioArguments, SearchArguments};
use super::capacity::{self, Question};
use super::parallel::{count, spread, threads};
use super::progress::Progress;
use super::run::{Prepared, of_seed, write_run_json};
use super::search::SharedSearches;
use crate::input::InputError;
use crate::metrics::warnings::{self, Warning};
use crate::published::Published;
use crate::report::Run;
use crate::report::provenance::Provenance;
use crate::report::read::{CAPACITIES, Index, Place};
use crate::scenario::{Inputs, Override, Scenario, Source, TraceInputs, Variant};

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
    /// Only these variants, the first one the baseline
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    variants: Vec<String>,
    /// Repeat each variant on this many traces: a synthetic one is generated anew, a real one resampled by blocks of time
    #[arg(long, value_name = "N", default_value = "1", value_parser = count)]
    seeds: NonZeroUsize,
    /// Also find the highest rate of arrivals that each variant holds, and report by it (as `modm capacity` does, up to
    /// 10 times the trace's rate, 99 % within the first of slo.multiples)
    #[arg(long)]
    capacity: bool,
    /// Runs at a time
    #[arg(long, value_name = "N", value_parser = count)]
    threads: Option<NonZeroUsize>,
}

/// One run to do: which variant on which trace, and where its files go.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) variant: String,
    folder: PathBuf,
    pub(super) prepared: Prepared,
}

pub(super) fn run(command: &Compare) -> anyhow::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "wall seconds go to run.json alone")]
    let begun = Instant::now();
    let common = &command.common;
    let (source, sets) = common.read()?;
    let base = source.scenario(&sets)?;
    let variants = chosen(&base, &command.variants, &source)?;
    let planned = plan(common, command.seeds, &source, &sets, &variants)?;
    if command.capacity {
        capacity::check(&planned, &source)?;
    }
    common.prepare_output()?;
    if command.capacity {
        // Before the runs, which let go of the searches that both need.
        let question = Question::of_scenario(&base);
        capacity::prepare_searches(&planned, command.search.search, source.file(), common.quiet);
        let threads = threads(command.threads);
        let mut found = capacity::search_all(&planned, question, &source, threads, common.quiet)?;
        if !command.range.no_range {
            found.ranges = capacity::ranges(&planned, &found, question, &source, threads)?;
        }
        capacity::write(&found, &common.out)?;
    } else {
        // With --force, an earlier comparison's would be taken for this one's.
        for name in [CAPACITIES, "capacity.csv"] {
            let _ = std::fs::remove_file(common.out.join(name));
        }
    }
    let warnings = run_all(&planned, command, source.file())?;
    let place = |plan: &Planned| Place {
        variant: plan.variant.clone(),
        seed: plan.prepared.scenario.seed,
        folder: plan.folder.strip_prefix(&common.out).unwrap_or(&plan.folder).to_owned(),
    };
    let index = Index {
        name: base.name.clone(),
        runs: planned.iter().map(place).collect(),
        provenance: provenance(&planned, &source, &sets),
        notes: notes(&planned, command.seeds.get(), &base).into_iter().chain(warnings).collect(),
        published: published(&variants),
        stand_ins: stand_ins(&planned),
        scenario_toml: source.text().to_owned(),
        versions: versions(&base),
    };
    // What was written is read again, so that `modm report` makes the same of it.
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

/// Runs for programs: variant, seed and measures of each.
pub(super) fn rows(runs: &[Run]) -> Vec<serde_json::Value> {
    let row = |run: &Run| serde_json::json!({ "variant": run.variant, "seed": run.seed, "summary": run.summary });
    runs.iter().map(row).collect()
}

/// What others published of variants.
pub(super) fn published<'a>(variants: impl IntoIterator<Item = &'a Variant>) -> BTreeMap<String, Published> {
    let known = variants.into_iter().filter(|variant| !variant.published.is_empty());
    known.map(|variant| (variant.name.clone(), variant.published)).collect()
}

/// The variants to run, in the order asked for.
pub(super) fn chosen(base: &Scenario, wanted: &[String], source: &Source) -> Result<Vec<Variant>, InputError> {
    let names: Vec<&str> = base.variant.iter().map(|variant| variant.name.as_str()).collect();
    if names.is_empty() {
        let way_out = "has no [[variant]] to compare: add some, or run it with `modm simulate`";
        return Err(InputError::new(source.file(), way_out));
    }
    if wanted.is_empty() {
        return Ok(base.variant.clone());
    }
    if let Some(twice) = wanted.iter().enumerate().find(|(index, name)| wanted[..*index].contains(name)) {
        return Err(InputError::new("the command line", "expected each variant once").value("--variants", twice.1));
    }
    let find = |name: &String| {
        let found = base.variant.iter().find(|variant| variant.name == *name).cloned();
        let message = || format!("expected some of {}", names.join(", "));
        found.ok_or_else(|| InputError::new("the command line", message()).value("--variants", name))
    };
    wanted.iter().map(find).collect()
}

/// Reads everything for every run; traces that several runs share are read once.
pub(super) fn plan(
    common: &ScenarioArguments,
    seeds: NonZeroUsize,
    source: &Source,
    sets: &[Override],
    variants: &[Variant],
) -> Result<Vec<Planned>, InputError> {
    let mut traces: Vec<(Scenario, Arc<TraceInputs>)> = Vec::new();
    let mut planned = Vec::new();
    let scenarios = variants.iter().map(|variant| {
        let overrides: Vec<Override> = sets.iter().cloned().chain(Source::variant_overrides(variant)).collect();
        Ok((variant, source.scenario(&overrides)?, overrides))
    });
    let scenarios: Vec<(&Variant, Scenario, Vec<Override>)> = scenarios.collect::<Result<_, InputError>>()?;
    let retrieves = scenarios.iter().any(|(_, scenario, _)| Inputs::retrieves(scenario.system.policy));
    let known = |traces: &[(Scenario, Arc<TraceInputs>)], wanted: &Scenario| {
        traces.iter().find(|(other, _)| other.same_trace(wanted)).map(|(_, trace)| trace.clone())
    };
    for (variant, itself, overrides) in scenarios {
        for index in 0..seeds.get() as u64 {
            let mut scenario = itself.clone();
            scenario.seed = scenario.seed.wrapping_add(index);
            let trace = if let Some(trace) = known(&traces, &scenario) {
                trace
            } else {
                let fresh = of_seed(&itself, index, known(&traces, &itself).as_ref(), source, retrieves);
                let fresh = Arc::new(fresh.map_err(|error| source.place(error, &overrides))?);
                traces.push((scenario.clone(), fresh.clone()));
                fresh
            };
            let seed = format!("seed-{}", scenario.seed);
            let folder = common.out.join(&variant.name);
            let folder = if seeds.get() > 1 { folder.join(seed) } else { folder };
            let prepared = Prepared::with_trace(scenario, source, &overrides, trace)?;
            planned.push(Planned { variant: variant.name.clone(), folder, prepared });
        }
    }
    Ok(planned)
}

/// Runs everything planned, and writes what each run has. Returns what a reader must be warned of.
fn run_all(planned: &[Planned], command: &Compare, file: &Path) -> anyhow::Result<Vec<String>> {
    let quiet = command.common.quiet;
    // Ranges are those of each variant's first trace.
    let is_first = |at: usize| planned[..at].iter().all(|other| other.variant != planned[at].variant);
    let has_range: Vec<bool> = (0..planned.len()).map(|at| !command.range.no_range && is_first(at)).collect();
    let runs = |(run, has_range): (&Planned, &bool)| {
        let runs = 1 + if *has_range { run.prepared.runs_of_range() } else { 0 };
        runs * run.prepared.inputs.trace.trace.len() as u64
    };
    let total = planned.iter().zip(&has_range).map(runs).sum();
    let progress = Progress::new(total, quiet);
    let runs = planned.iter().map(|plan| (&plan.prepared.inputs.trace, &plan.prepared.scenario));
    let shared = SharedSearches::new(command.search.search, file, runs);
    let results = spread(&shared.order(), threads(command.threads), |&at| {
        shared.begin(at, &progress, quiet);
        let run = run_one(&planned[at], has_range[at], &progress);
        shared.end(at);
        run
    })?;
    progress.finish();
    let warned: Vec<(String, Vec<Warning>)> = results.into_iter().collect::<anyhow::Result<_>>()?;
    Ok(warnings::merged(&warned))
}

/// Runs once and writes the files. Returns the variant and what a reader must be warned of.
fn run_one(plan: &Planned, has_range: bool, progress: &Progress) -> anyhow::Result<(String, Vec<Warning>)> {
    #[expect(clippy::disallowed_methods, reason = "wall seconds go to run.json alone")]
    let begun = Instant::now();
    let mut results =
        plan.prepared.run_into(&plan.folder, progress).with_context(|| format!("variant {}", plan.variant))?;
    if has_range {
        results.summary.profile_range = plan.prepared.profile_range(1, progress)?;
    }
    plan.prepared.write(&plan.folder, &results, begun.elapsed().as_secs_f64(), &[])?;
    Ok((plan.variant.clone(), results.warnings))
}

pub(super) fn stand_ins(planned: &[Planned]) -> Vec<String> {
    let mut all: Vec<String> = planned.iter().flat_map(|run| run.prepared.stand_ins()).collect();
    all.sort();
    all.dedup();
    all
}

pub(super) fn notes(planned: &[Planned], seeds: usize, base: &Scenario) -> Vec<String> {
    let mut notes = Vec::new();
    for run in planned.iter().filter(|run| run.prepared.scenario.seed == base.seed) {
        notes.extend(run.prepared.scenario.notes.iter().map(|note| format!("{}: {note}", run.variant)));
    }
    if seeds > 1 {
        let how = if base.trace.synthetic.is_some() {
            "the synthetic trace is generated anew for each seed"
        } else {
            "the first seed is the trace as it is; for the others its blocks of ten minutes are put in a seeded order"
        };
        notes.push(format!("{seeds} seeds: {how}"));
    }
    notes
}

/// Provenance of the numbers of runs.
pub(super) fn provenance(planned: &[Planned], source: &Source, sets: &[Override]) -> Provenance {
    let runs = planned.iter().map(|run| (run.variant.clone(), &run.prepared.scenario));
    let files = planned.iter().flat_map(|run| run.prepared.files());
    let service_times = planned.iter().map(|run| run.prepared.inputs.profile.source.as_str());
    super::provenance::of_runs((source, sets), runs, files, service_times)
}

/// Versions and seed, for a report.
pub(super) fn versions(base: &Scenario) -> Vec<(String, String)> {
    let versions = [
        ("modm", env!("CARGO_PKG_VERSION").to_owned()),
        ("commit", env!("MODM_COMMIT").to_owned()),
        ("seed", base.seed.to_string()),
    ];
    versions.map(|(name, value)| (name.to_owned(), value)).to_vec()
}
