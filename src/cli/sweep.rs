//! `modm sweep`: runs every combination of the values of some keys, and writes one table. A combination that has run is
//! not run again, so a sweep that was stopped continues. `--merge` puts shards together and runs nothing.

use std::num::NonZeroUsize;

use clap::Args;

use super::arguments::{FigureArguments, ScenarioArguments, SearchArguments, count};
use super::printer;
use super::progress::Lines;
use crate::experiments::sweep::{self, Description, Parts, Shard, SweepRun, Vary};
use crate::experiments::{spread, threads};
use crate::output::write_atomic;
use crate::report::provenance::{of_runs, versions};
use crate::report::{SweepReport, SweepRow, sweep_csv, sweep_json, sweep_table, write_files};

/// Run every combination of some keys' values, in parallel, and write one table
#[derive(Debug, Args)]
#[command(after_help = "\
A combination that has run with the same build, inputs and settings is not run again: stop a sweep and give the same \
command to go on. What another build or other inputs have left is refused by name; --force runs it again. Shards may \
share --out, at the same time; --merge then writes the one sweep.csv, and names what is missing or does not fit.

  modm sweep scenarios/quickstart.toml --vary cache.capacity=500,1000,2000 --vary cache.eviction=fifo,lru --out results/sweep
  modm sweep scenarios/paper/slo-mi210.toml --vary variant=vanilla,modm-sdxl --vary trace.synthetic.arrivals.rate_per_min=6,14,22
  parallel modm sweep ... --shard {}/8 --out results/sweep ::: {1..8}         # GNU parallel
  modm sweep ... --shard $SLURM_ARRAY_TASK_ID/8 --out results/sweep           # sbatch --array=1-8
  modm sweep ... --shard $((JOB_COMPLETION_INDEX + 1))/8 --out /shared/sweep  # an indexed Kubernetes job
  modm sweep ... --shard $HQ_TASK_ID/64 --threads 1 --out results/sweep       # hq submit --array=1-64
  modm sweep ... --merge --out results/sweep                                  # after all shards")]
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
    /// Put together what the shards have left in --out, and run nothing; refuses parts that are missing, unfinished, or
    /// of different builds, inputs or settings
    #[arg(long, conflicts_with_all = ["shard", "force"])]
    merge: bool,
    /// Number of runs at a time; one for each core if absent
    #[arg(long, value_name = "N", value_parser = count)]
    threads: Option<NonZeroUsize>,
}

pub(super) fn run(command: &Sweep) -> anyhow::Result<()> {
    let common = &command.common;
    let (source, sets) = common.read()?;
    let varied: Vec<Vary> = command.vary.iter().map(|text| Vary::parse(text)).collect::<Result<_, _>>()?;
    let mut sweep = sweep::Sweep::load(&source, &sets, &varied, command.shard)?;
    let base = source.scenario(&sets)?;
    let description = Description::new(&source, &common.sets, &varied);
    let parts = Parts::read(&common.out, &sweep.runs)?;
    if command.merge {
        description.check_merge(&common.out, &parts)?;
    } else if !common.force {
        description.check_run(&common.out, &parts, command.shard)?;
    }
    let waiting = parts.waiting();
    if !command.merge {
        common.prepare_output()?;
        description.write(&common.out)?;
    }
    let finished = sweep.runs.len() - waiting.len();
    if finished > 0 && !command.merge && !common.quiet {
        say!("{finished} of {} combinations have run already", sweep.runs.len());
    }
    let (search, threads, lines) = (command.search.search(), threads(command.threads), Lines::new(common.quiet));
    let notes = sweep.run_all(&waiting, &common.out, search, threads, &lines)?;
    let mut in_order: Vec<&SweepRun> = sweep.runs.iter().collect();
    in_order.sort_unstable_by_key(|run| run.combination.index);
    let rows = spread(&in_order, threads, |run| SweepRow::read(&common.out, run))?;
    let rows: Vec<SweepRow> = rows.into_iter().collect::<Result<_, _>>()?;

    let keys: Vec<String> = varied.into_iter().map(|vary| vary.key).collect();
    let name =
        command.shard.map_or("sweep.csv".to_owned(), |shard| format!("sweep-{}-of-{}.csv", shard.number, shard.of));
    let table = common.out.join(name);
    write_atomic(&table, |to| std::io::Write::write_all(to, sweep_csv(&keys, &rows).as_bytes()))?;
    if common.json {
        printer::json(&sweep_json(&keys, &rows))?;
        return Ok(());
    }
    printer::text(sweep_table(&keys, &rows, super::width()));
    super::print_notes(sweep.stand_ins.iter().chain(&notes));
    if command.shard.is_some() {
        // A shard gets no report, because it is only a part. --merge reports the sweep when all shards have run.
        say!("table: {}", table.display());
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
    write_files(&super::drawn(report.files(command.figures.look()))?, &common.out)?;
    say!("report: {}, table: {}", common.out.join("report.html").display(), table.display());
    Ok(())
}
