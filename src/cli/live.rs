//! `modm live`: replays a trace in real time on real sessions. Reads and checks all inputs, runs one variant or several
//! in turn, and reports as `simulate` and `compare` do.

use std::rc::Rc;

use anyhow::Context;
use clap::Args;

#[cfg(feature = "cluster")]
use super::arguments::cluster_address;
use super::arguments::{LibraryArguments, ScenarioArguments};
use super::printer;
use super::progress::Lines;
use crate::experiments::live::Fit;
use crate::experiments::{Progress, live, variants};
use crate::live::interrupts::Interrupts;
use crate::metrics::warnings::merged;
use crate::report::figures::Look;
use crate::report::provenance::{live_versions, of_runs};
use crate::report::read::{self, Index, Place};
use crate::report::{self, Comparison, write_files};
use crate::run_folder::{WallTime, write_run_json};
use crate::scenario::{Override, Scenario};

/// Replay a trace in real time against real ONNX Runtime sessions
///
/// The latency of a request counts from its arrival time in the trace, even if the program takes the request in late.
/// A synthetic trace is fitted to this machine first if the scenario has `live.fit_rate`: the models are measured for
/// some seconds, and the rates of the trace are scaled to what they can carry.
///
/// Ctrl-C or SIGTERM ends the intake: the requests that have arrived are finished and the results are written. A second
/// signal ends the program at once. The scenario's [live] section names the models, the encoder and the devices to use.
#[derive(Debug, Args)]
pub(super) struct Live {
    #[command(flatten)]
    common: ScenarioArguments,
    #[command(flatten)]
    library: LibraryArguments,
    /// Run these [[variant]]s one after the other on the same trace and compare them; the scenario as it is if absent
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    variants: Vec<String>,
    /// Replay the trace at its own rates, whatever `live.fit_rate` says
    #[arg(long)]
    no_fit: bool,
    /// Show queue, hit rate, workers by model, share in time, rate and time left while the run goes on: redrawn in a
    /// terminal, a line every ten seconds elsewhere
    #[arg(long, conflicts_with = "quiet")]
    watch: bool,
    /// Address of a NATS server that workers on other machines are found at (`live.cluster.url`); see `modm worker`
    #[cfg(feature = "cluster")]
    #[arg(long, value_name = "URL", env = "MODM_CLUSTER")]
    cluster: Option<String>,
}

pub(super) fn run(command: &Live) -> anyhow::Result<()> {
    let begun = WallTime::begin();
    let common = &command.common;
    let (source, mut sets) = common.read()?;
    if command.no_fit {
        sets.push(Override::parse("live.fit_rate=0")?);
    }
    #[cfg(feature = "cluster")]
    sets.extend(cluster_address(command.cluster.as_deref())?);
    let base = source.scenario(&sets)?;
    let chosen = match command.variants.as_slice() {
        [] => Vec::new(),
        wanted => variants::chosen(&base, wanted, &source)?,
    };
    let library = command.library.open()?;
    let lines: Rc<dyn Progress> = Rc::new(Lines::new(common.quiet).watching(command.watch));
    let allow_cpu = command.library.allow_cpu;
    let mut planned = live::plan(&source, &sets, &chosen, &library, allow_cpu, &common.out, &*lines)?;
    Fit::check(&source, &sets, &planned)?;
    common.keep_scenario()?;
    common.prepare_output()?;
    let fit = Fit::measure((&source, &sets), &planned, (&library, allow_cpu), &common.out, &lines)?;
    if let Some(fit) = &fit {
        let fitted = [sets.clone(), fit.sets()].concat();
        planned = live::plan(&source, &fitted, &chosen, &library, allow_cpu, &common.out, &*lines)?;
    }
    let interrupts = Interrupts::listen().context("signals cannot be listened for")?;
    // With --force, these files of an earlier command would be taken for those of runs whose files are replaced now.
    Index::remove(&common.out)?;
    let measured = format!("measured in real time on {}", library.build());
    let provenance = {
        let runs = planned.iter().map(|run| (run.name.clone(), &run.simulation.scenario));
        let files = planned.iter().flat_map(|run| run.simulation.files());
        of_runs((&source, &sets), runs, files, [measured.as_str()])
    };
    let made = live::run_all(planned, &common.out, &source, &interrupts, fit.as_ref(), &lines)?;
    let warned: Vec<_> = made.iter().map(|run| (run.name.clone(), run.warnings.clone())).collect();
    let index = Index {
        name: base.name.clone(),
        provenance,
        notes: fit.iter().map(Fit::sentence).chain(merged(&warned)).collect(),
        published: variants::published(&chosen),
        stand_ins: made.iter().flat_map(|run| run.stand_ins.clone()).collect(),
        scenario_toml: source.text().to_owned(),
        versions: live_versions(&base, library.minor_version),
        runs: made.into_iter().map(|run| Place { variant: run.name, seed: run.seed, folder: run.folder }).collect(),
    };
    index.write(&common.out)?;
    tell(common, &base, &read::comparison(&common.out, None)?, begun.seconds())
}

/// Writes the report and prints its table.
fn tell(common: &ScenarioArguments, base: &Scenario, comparison: &Comparison, wall_s: f64) -> anyhow::Result<()> {
    write_files(&super::drawn(report::files(comparison, Look::default()))?, &common.out)?;
    if comparison.variants().len() > 1 {
        write_run_json(&common.out, base, &[], &comparison.stand_ins, wall_s, &[])?;
    }
    if common.json {
        match comparison.runs.as_slice() {
            [run] => printer::json(&run.summary)?,
            runs => printer::json(&report::json(runs))?,
        }
        return Ok(());
    }
    printer::text(report::terminal(comparison, super::width()));
    super::print_notes(comparison.grounds());
    say!("report: {}", common.out.join("report.html").display());
    Ok(())
}
