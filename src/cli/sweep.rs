//! `modm sweep`: runs every combination of the values of some keys, and writes one table. A combination that has run is
//! not run again, so a sweep that was stopped continues, and the command without `--shard` puts shards together.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use serde_json::json;

use super::arguments::{FigureArguments, ScenarioArguments, SearchArguments, count};
use super::progress::Progress;
use crate::experiments::sweep::{self, Shard, SweepRun, Vary};
use crate::experiments::{Counted, threads};
use crate::input::InputError;
use crate::metrics::warnings::{self, Warning};
use crate::output::write_atomic;
use crate::report::provenance::{of_runs, versions};
use crate::report::{SweepReport, SweepRow, read, saturation, sweep_csv, sweep_table};
use crate::run_folder::{RunFolder, finished};
use crate::scenario::Source;
use crate::simulation::Simulation;

/// Name of the file that describes the sweep in a folder, so that another sweep does not mix with it.
const DESCRIPTION: &str = "sweep.json";

/// Run every combination of some keys' values, in parallel, and write one table
#[derive(Debug, Args)]
#[command(after_help = "\
A combination that has run with the same program, inputs and settings is not run again: stop a sweep and give the \
same command to go on. Shards may share --out; the same command without --shard then writes the one sweep.csv.

  modm sweep scenarios/quickstart.toml --vary cache.capacity=500,1000,2000 --vary cache.eviction=fifo,lru --out results/sweep
  modm sweep scenarios/paper/slo-mi210.toml --vary variant=vanilla,modm-sdxl --vary trace.synthetic.arrivals.rate_per_min=6,14,22
  modm sweep ... --shard $SLURM_ARRAY_TASK_ID/8 --out results/sweep        # sbatch --array=1-8
  modm sweep ... --shard $((JOB_COMPLETION_INDEX + 1))/8 --out /shared/sweep  # an indexed Kubernetes job")]
pub(super) struct Sweep {
    #[command(flatten)]
    common: ScenarioArguments,
    #[command(flatten)]
    search: SearchArguments,
    #[command(flatten)]
    figures: FigureArguments,
    /// A scenario key, or `variant`, and its values (repeatable); a comma inside brackets or quotes belongs to a value
    #[arg(long, value_name = "KEY=V1,V2", required = true)]
    vary: Vec<String>,
    /// Shard of the combinations to run: the I-th, the (I + N)-th, the (I + 2 N)-th and so on
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Number of runs at a time; one for each core if absent
    #[arg(long, value_name = "N", value_parser = count)]
    threads: Option<NonZeroUsize>,
}

pub(super) fn run(command: &Sweep) -> anyhow::Result<()> {
    let common = &command.common;
    let (source, sets) = common.read()?;
    let varied: Vec<Vary> = command.vary.iter().map(|text| Vary::parse(text)).collect::<Result<_, _>>()?;
    let mut combinations = Vary::combinations(&varied)?;
    combinations.retain(|combination| command.shard.is_none_or(|shard| shard.has(combination)));
    let base = source.scenario(&sets)?;
    for combination in &mut combinations {
        combination.expand_variant(&base.variant)?;
    }
    let mut sweep = sweep::Sweep::load(&source, &sets, combinations)?;
    prepare_output(command, &source, &varied)?;

    let (mut rows, waiting) = split_finished(&sweep.runs, command)?;
    if !rows.is_empty() && !common.quiet {
        eprintln!("{} of {} combinations have run already", rows.len(), sweep.runs.len());
    }
    let requests = waiting.iter().map(|at| sweep.requests(&sweep.runs[*at])).sum();
    let progress = Progress::new(requests, common.quiet);
    let run = |run: &SweepRun, simulation: &Simulation| run_one(run, simulation, command, &progress);
    let results = sweep.run_all(&waiting, command.search.search(), threads(command.threads), &progress, run)?;
    progress.finish();
    let names: Vec<String> = waiting.iter().map(|at| sweep.runs[*at].combination.name()).collect();
    let notes = take_rows(results, &names, &mut rows)?;
    rows.sort_unstable_by_key(|(index, _)| *index);
    let rows: Vec<SweepRow> = rows.into_iter().map(|(_, row)| row).collect();

    let keys: Vec<String> = varied.into_iter().map(|vary| vary.key).collect();
    let name =
        command.shard.map_or("sweep.csv".to_owned(), |shard| format!("sweep-{}-of-{}.csv", shard.number, shard.of));
    let table = common.out.join(name);
    write_atomic(&table, |to| std::io::Write::write_all(to, sweep_csv(&keys, &rows).as_bytes()))?;
    if common.json {
        let rows: Vec<_> = rows
            .iter()
            .map(|row| {
                let values: serde_json::Map<String, serde_json::Value> =
                    keys.iter().cloned().zip(row.values.iter().map(|value| json!(value))).collect();
                json!({ "values": values, "folder": row.folder, "summary": row.summary })
            })
            .collect();
        println!("{}", serde_json::to_string_pretty(&rows)?);
        return Ok(());
    }
    print!("{}", sweep_table(&keys, &rows, super::width()));
    super::print_notes(sweep.stand_ins.iter().chain(&notes));
    if command.shard.is_some() {
        // A shard gets no report, because it is only a part. Without --shard, the command reports a sweep that has run.
        eprintln!("table: {}", table.display());
        return Ok(());
    }
    let named = sweep.runs.iter().map(|run| (run.combination.values.join(", "), &run.scenario));
    let files = sweep.runs.iter().flat_map(|run| &run.files);
    let sources = sweep.service_times.iter().map(String::as_str);
    let report = SweepReport {
        provenance: of_runs((&source, &sets), named, files, sources),
        versions: versions(&base),
        name: base.name,
        keys,
        rows,
        stand_ins: sweep.stand_ins,
        notes,
        scenario_toml: source.text().to_owned(),
    };
    super::write_files(&report.files(command.figures.look()).context("the report's figures")?, &common.out)?;
    eprintln!("report: {}, table: {}", common.out.join("report.html").display(), table.display());
    Ok(())
}

/// Adds the rows of the runs that were made to `rows`. `names` are the names of their combinations. Returns the
/// warnings for a reader, in words.
fn take_rows(
    results: Vec<anyhow::Result<(NumberedRow, Vec<Warning>)>>,
    names: &[String],
    rows: &mut Vec<NumberedRow>,
) -> anyhow::Result<Vec<String>> {
    let mut warned = Vec::new();
    for (result, name) in results.into_iter().zip(names) {
        let (row, warnings) = result?;
        rows.push(row);
        warned.push((name.clone(), warnings));
    }
    Ok(warnings::of_many(&warned))
}

/// Makes the output folder. Refuses a folder that holds another sweep or a run, unless `--force` is given.
fn prepare_output(command: &Sweep, source: &Source, varied: &[Vary]) -> anyhow::Result<()> {
    let common = &command.common;
    common.prepare_output()?;
    let description = json!({
        "scenario": std::fs::read_to_string(source.file()).unwrap_or_default(),
        "sets": common.sets,
        "vary": varied.iter().map(|vary| json!({ "key": vary.key, "values": vary.values })).collect::<Vec<_>>(),
    });
    let file = common.out.join(DESCRIPTION);
    let text = format!("{description:#}\n");
    let there = std::fs::read_to_string(&file).ok();
    if there.as_ref() == Some(&text) {
        return Ok(());
    }
    if there.is_some() && !common.force {
        let message =
            "holds another sweep, of other keys, values or scenario: choose another folder, or use it with --force";
        return Err(InputError::new(&common.out, message).key("--out").into());
    }
    let written = write_atomic(&file, |to| std::io::Write::write_all(to, text.as_bytes()));
    // Another shard may have written the file first.
    if std::fs::read_to_string(&file).ok().as_ref() == Some(&text) { Ok(()) } else { Ok(written?) }
}

type NumberedRow = (usize, SweepRow);

impl Sweep {
    /// Returns the folder of a run.
    fn folder(&self, run: &SweepRun) -> PathBuf {
        self.common.out.join(run.combination.folder())
    }

    /// Reads the row of a run from its folder.
    fn row(&self, run: &SweepRun) -> Result<NumberedRow, InputError> {
        let folder = run.combination.folder();
        let read = read::run(&self.folder(run), &folder, run.scenario.seed, None)?;
        let growing = saturation::still_growing(&read);
        let values = run.combination.values.clone();
        Ok((run.combination.index, SweepRow { values, summary: read.summary, folder, growing }))
    }
}

/// Returns the rows of the runs that are finished, and the indices of the other runs.
fn split_finished(runs: &[SweepRun], command: &Sweep) -> Result<(Vec<NumberedRow>, Vec<usize>), InputError> {
    let (mut rows, mut waiting) = (Vec::new(), Vec::new());
    for (at, run) in runs.iter().enumerate() {
        match finished(&command.folder(run), &run.scenario, &run.files)? {
            Some(_) => rows.push(command.row(run)?),
            None => waiting.push(at),
        }
    }
    Ok((rows, waiting))
}

fn run_one(
    run: &SweepRun,
    simulation: &Simulation,
    command: &Sweep,
    progress: &Progress,
) -> anyhow::Result<(NumberedRow, Vec<Warning>)> {
    #[expect(clippy::disallowed_methods, reason = "wall seconds go to run.json alone")]
    let begun = Instant::now();
    let folder = RunFolder::new(simulation, command.folder(run));
    let results = folder.run(Counted(progress)).with_context(|| format!("combination {}", run.combination.folder()))?;
    folder.write(&results, begun.elapsed().as_secs_f64(), &[])?;
    Ok((command.row(run)?, results.warnings))
}
