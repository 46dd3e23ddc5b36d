//! `modm sweep`: every combination of some keys' values, each a run of its own, and one table. What has run is not run
//! again, so that a sweep that was stopped goes on, and shards are put together by running it without `--shard`.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use serde_json::json;

use super::arguments::{FigureArguments, ScenarioArguments, SearchArguments};
use super::parallel::{count, spread, threads};
use super::progress::Progress;
use super::run::{Prepared, finished};
use super::search::Search;
use crate::input::InputError;
use crate::metrics::warnings::{self, Warning};
use crate::output::write_atomic;
use crate::report::{Sweep as Report, SweepRow, read, saturation, sweep_csv, sweep_table};
use crate::scenario::{Fingerprint, Inputs, Override, Scenario, Source, TraceInputs};

mod vary;

use vary::{Combination, Shard, Vary};

/// Says what a folder holds, so that another sweep does not mix with it.
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
    /// Only combinations I, I + N, I + 2 N, ... of them all
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Runs at a time
    #[arg(long, value_name = "N", value_parser = count)]
    threads: Option<NonZeroUsize>,
}

/// A combination, checked, and where its files go.
#[derive(Debug)]
struct Planned {
    combination: Combination,
    scenario: Scenario,
    overrides: Vec<Override>,
    folder: PathBuf,
    /// Which of the traces it replays.
    trace: usize,
}

/// A trace that several combinations replay, there while some of them have not.
#[derive(Debug)]
struct Shared {
    /// The first that replays it.
    scenario: Scenario,
    overrides: Vec<Override>,
    /// Whether any of them looks anything up.
    retrieves: bool,
    files: Vec<Fingerprint>,
    /// What is still to be run.
    runs: Vec<Scenario>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    trace: Option<Arc<TraceInputs>>,
    /// Whether it has been seen to that its runs find what they look up.
    searched: bool,
    left: usize,
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
    let (planned, mut traces) = plan(&source, &sets, combinations, &common.out)?;
    let ready = check_inputs(&source, &planned, &traces)?;
    prepare_output(command, &source, &varied)?;

    let (mut rows, waiting) = split_finished(&planned, &ready)?;
    if !rows.is_empty() && !common.quiet {
        eprintln!("{} of {} combinations have run already", rows.len(), planned.len());
    }
    let progress = Progress::new(waiting.iter().map(|plan| requests(plan, &traces)).sum(), common.quiet);
    share(&waiting, &mut traces);
    let search = command.search.search;
    let run = |plan: &&Planned| run_one(plan, &source, &traces, search, &progress);
    let results = spread(&waiting, threads(command.threads), run)?;
    progress.finish();
    let names: Vec<String> = waiting.iter().map(|plan| plan.combination.name()).collect();
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
    super::print_notes(ready.stand_ins.iter().chain(&notes));
    if command.shard.is_some() {
        // A part is no picture of the whole: without --shard a sweep that has run is only reported.
        eprintln!("table: {}", table.display());
        return Ok(());
    }
    let named = planned.iter().map(|plan| (plan.combination.values.join(", "), &plan.scenario));
    let sources = ready.service_times.iter().map(String::as_str);
    let sweep = Report {
        provenance: super::provenance::of_runs((&source, &sets), named, ready.files.iter().flatten(), sources),
        versions: super::compare::versions(&base),
        name: base.name,
        keys,
        rows,
        stand_ins: ready.stand_ins,
        notes,
        scenario_toml: source.text().to_owned(),
    };
    super::write_files(&sweep.files(command.figures.look()).context("the report's figures")?, &common.out)?;
    eprintln!("report: {}, table: {}", common.out.join("report.html").display(), table.display());
    Ok(())
}

/// Tells each trace which runs it waits for; one that nothing waits for is given up.
fn share(waiting: &[&Planned], traces: &mut [Shared]) {
    for plan in waiting {
        traces[plan.trace].runs.push(plan.scenario.clone());
    }
    for shared in traces {
        let state = shared.state.get_mut().expect("no thread yet");
        state.left = shared.runs.len();
        state.trace.take_if(|_| state.left == 0);
    }
}

/// Takes the rows of what has run; `names` are those of the combinations. Returns what a reader must be warned of.
fn take_rows(
    results: Vec<anyhow::Result<(Row, Vec<Warning>)>>,
    names: &[String],
    rows: &mut Vec<Row>,
) -> anyhow::Result<Vec<String>> {
    let mut warned = Vec::new();
    for (result, name) in results.into_iter().zip(names) {
        let (row, warnings) = result?;
        rows.push(row);
        warned.push((name.clone(), warnings));
    }
    Ok(warnings::of_many(&warned))
}

/// Checks every combination and finds the traces that they share; those of one trace stand together.
fn plan(
    source: &Source,
    sets: &[Override],
    combinations: Vec<Combination>,
    out: &Path,
) -> Result<(Vec<Planned>, Vec<Shared>), InputError> {
    let mut traces: Vec<Shared> = Vec::new();
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    let mut planned = Vec::with_capacity(combinations.len());
    for combination in combinations {
        let overrides: Vec<Override> = sets.iter().chain(&combination.overrides).cloned().collect();
        let scenario = source.scenario(&overrides)?;
        let retrieves = Inputs::retrieves(scenario.system.policy);
        let trace = *known.entry(scenario.trace_settings()).or_insert(traces.len());
        if let Some(shared) = traces.get_mut(trace) {
            shared.retrieves |= retrieves;
        } else {
            let same_files = traces.iter().find(|shared| shared.scenario.trace == scenario.trace);
            let files = match same_files {
                Some(shared) => shared.files.clone(),
                None => TraceInputs::fingerprints(&scenario, source.file())
                    .map_err(|error| source.place(error, &overrides))?,
            };
            let (scenario, overrides) = (scenario.clone(), overrides.clone());
            traces.push(Shared { scenario, overrides, retrieves, files, runs: Vec::new(), state: Mutex::default() });
        }
        let folder = out.join(combination.folder());
        planned.push(Planned { combination, scenario, overrides, folder, trace });
    }
    planned.sort_by_key(|plan| plan.trace);
    Ok((planned, traces))
}

/// What is known of the inputs before anything runs.
struct Ready {
    /// By combination planned: the files it depends on.
    files: Vec<Vec<Fingerprint>>,
    stand_ins: Vec<String>,
    /// Sources of service times.
    service_times: BTreeSet<String>,
}

/// Reads each trace file once and every profile, so that what is wrong with them is said before anything runs.
/// Synthetic traces, and others from the same files, are made when their turn comes.
fn check_inputs(source: &Source, planned: &[Planned], traces: &[Shared]) -> Result<Ready, InputError> {
    for (at, shared) in traces.iter().enumerate() {
        let files_are_new = traces[..at].iter().all(|other| other.scenario.trace != shared.scenario.trace);
        if at == 0 || (shared.scenario.trace.synthetic.is_none() && files_are_new) {
            let trace = shared.load(source)?;
            shared.state.lock().expect("no thread yet").trace = Some(trace);
        }
    }
    let any = traces.iter().find_map(|shared| shared.state.lock().expect("no thread yet").trace.clone());
    let any = any.expect("the first trace was loaded");
    let mut stand_ins: Vec<String> = planned.iter().flat_map(|plan| any.stand_ins_of(&plan.scenario)).collect();
    stand_ins.sort();
    stand_ins.dedup();
    let mut service_times = BTreeSet::new();
    let files = planned.iter().map(|plan| {
        let inputs = Inputs::new(&plan.scenario, source.file(), any.clone());
        let inputs = inputs.map_err(|error| source.place(error, &plan.overrides))?;
        service_times.insert(inputs.profile.source.clone());
        Ok(traces[plan.trace].files.iter().cloned().chain(inputs.files).collect())
    });
    let files = files.collect::<Result<_, InputError>>()?;
    Ok(Ready { files, stand_ins, service_times })
}

/// Refuses a folder that holds anything but this very sweep.
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
    // Another shard may have been quicker.
    if std::fs::read_to_string(&file).ok().as_ref() == Some(&text) { Ok(()) } else { Ok(written?) }
}

type Row = (usize, SweepRow);

/// Rows of what has run already, and what has not.
fn split_finished<'a>(planned: &'a [Planned], ready: &Ready) -> anyhow::Result<(Vec<Row>, Vec<&'a Planned>)> {
    let (mut rows, mut waiting) = (Vec::new(), Vec::new());
    for (plan, files) in planned.iter().zip(&ready.files) {
        match finished(&plan.folder, &plan.scenario, files)? {
            Some(_) => rows.push(plan.row()?),
            None => waiting.push(plan),
        }
    }
    Ok((rows, waiting))
}

/// How many requests a run replays, for its share of the progress.
fn requests(plan: &Planned, traces: &[Shared]) -> u64 {
    if let Some(synthetic) = &plan.scenario.trace.synthetic {
        return u64::from(synthetic.requests.saturating_sub(plan.scenario.trace.warm_requests));
    }
    let same = traces.iter().filter(|shared| shared.scenario.trace == plan.scenario.trace);
    let lengths = same
        .filter_map(|shared| shared.state.lock().expect("no thread yet").trace.as_ref().map(|trace| trace.trace.len()));
    lengths.max().unwrap_or(0) as u64
}

impl Planned {
    /// What has been written of it.
    fn row(&self) -> anyhow::Result<Row> {
        let folder = self.combination.folder();
        let run = read::run(&self.folder, &folder, self.scenario.seed, None)?;
        let growing = saturation::still_growing(&run);
        let values = self.combination.values.clone();
        Ok((self.combination.index, SweepRow { values, summary: run.summary, folder, growing }))
    }
}

impl Shared {
    fn load(&self, source: &Source) -> Result<Arc<TraceInputs>, InputError> {
        let trace = TraceInputs::load(&self.scenario, source.file(), self.retrieves);
        Ok(Arc::new(trace.map_err(|error| source.place(error, &self.overrides))?))
    }

    /// The trace, made and searched now if nobody has yet.
    fn take(&self, source: &Source, search: Search, progress: &Progress) -> Result<Arc<TraceInputs>, InputError> {
        let mut state = self.state.lock().expect("no run panics while it holds the lock");
        let trace = match &state.trace {
            Some(trace) => trace.clone(),
            None => self.load(source)?,
        };
        if !state.searched {
            let runs: Vec<&Scenario> = self.runs.iter().collect();
            search.prepare(&trace, &runs, source.file(), Some(progress), progress.is_quiet());
        }
        (state.trace, state.searched) = (Some(trace.clone()), true);
        Ok(trace)
    }

    /// One run fewer needs the trace.
    fn leave(&self) {
        let mut state = self.state.lock().expect("no run panics while it holds the lock");
        state.left -= 1;
        if state.left == 0 {
            state.trace = None;
        }
    }
}

fn run_one(
    plan: &Planned,
    source: &Source,
    traces: &[Shared],
    search: Search,
    progress: &Progress,
) -> anyhow::Result<(Row, Vec<Warning>)> {
    #[expect(clippy::disallowed_methods, reason = "wall seconds go to run.json alone")]
    let begun = Instant::now();
    let shared = &traces[plan.trace];
    let trace = shared.take(source, search, progress)?;
    let prepared = Prepared::with_trace(plan.scenario.clone(), source, &plan.overrides, trace)?;
    let results = prepared
        .run_into(&plan.folder, progress)
        .with_context(|| format!("combination {}", plan.combination.folder()))?;
    prepared.write(&plan.folder, &results, begun.elapsed().as_secs_f64(), &[])?;
    drop(prepared);
    shared.leave();
    Ok((plan.row()?, results.warnings))
}
