//! `modm live`: replays a trace in real time on real sessions. Reads and checks all inputs, runs one variant or several
//! in turn, and reports as `simulate` and `compare` do.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use clap::Args;

use super::arguments::{LibraryArguments, ScenarioArguments};
use super::progress::Lines;
use crate::experiments::live::{Equipment, LiveRun, prepare, refuse_foreign};
use crate::experiments::{Progress as _, variants};
use crate::input::InputError;
use crate::live::interrupts::Interrupts;
use crate::live::library::Library;
use crate::metrics::warnings;
use crate::output::remove_file;
use crate::report::figures::Look;
use crate::report::provenance::of_runs;
use crate::report::read::{INDEX, Index, Place};
use crate::report::{self, Comparison};
use crate::run_folder::{RUN, write_run_json};
use crate::scenario::{Override, Scenario, Source, TraceInputs, Variant};
use crate::simulation::Simulation;

/// Replay a trace in real time against real ONNX Runtime sessions
///
/// The latency of a request counts from its arrival time in the trace, even if the program takes the request in late.
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
}

pub(super) fn run(command: &Live) -> anyhow::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "wall seconds go to run.json alone")]
    let begun = Instant::now();
    let common = &command.common;
    let (source, sets) = common.read()?;
    let base = source.scenario(&sets)?;
    let chosen = chosen(command, &base, &source)?;
    let library = command.library.open()?;
    let lines = Rc::new(Lines::new(common.quiet));
    let planned = plan(command, &base, &chosen, (&source, &sets), &library)?;
    for run in &planned {
        refuse_foreign(&run.place(&common.out))?;
    }
    common.prepare_output()?;
    let interrupts = Interrupts::listen().context("signals cannot be listened for")?;
    // With --force, these files of an earlier command would be taken for those of runs whose files are replaced now.
    for name in [INDEX, RUN] {
        remove_file(&common.out.join(name))?;
    }
    let (mut runs, mut warned) = (Vec::new(), Vec::new());
    let mut stand_ins = Vec::new();
    let measured = format!("measured in real time on {}", library.build());
    let provenance = {
        let runs = planned.iter().map(|run| (run.name.clone(), &run.simulation.scenario));
        let files = planned.iter().flat_map(|run| run.simulation.files());
        of_runs((&source, &sets), runs, files, [measured.as_str()])
    };
    for run in planned {
        let place = run.place(&common.out);
        let Planned { name, folder, simulation, equipment } = run;
        if interrupts.heard() {
            eprintln!("warning: {name} was not begun");
            continue;
        }
        if chosen.len() > 1 {
            lines.say(&format!("{name}:"));
        }
        let mut run = LiveRun {
            simulation: &simulation,
            folder: &place,
            file: source.file(),
            equipment: &equipment,
            interrupts: &interrupts,
            progress: lines.clone(),
            also: &mut (),
        };
        let results = run.run().with_context(|| name.clone())?;
        warned.push((name.clone(), results.warnings));
        stand_ins.extend(simulation.stand_ins());
        runs.push(Place { variant: name, seed: simulation.scenario.seed, folder });
    }
    let index = Index {
        name: base.name.clone(),
        provenance,
        notes: warnings::merged(&warned),
        published: variants::published(chosen.iter().flatten()),
        stand_ins,
        scenario_toml: source.text().to_owned(),
        versions: versions(&base, &library),
        runs,
    };
    let comparison = super::write_index(&index, &common.out)?;
    tell(common, &base, &comparison, begun.elapsed().as_secs_f64())
}

/// Run that was checked and is still to come.
struct Planned {
    name: String,
    /// Folder for the files of the run, relative to the folder of the command.
    folder: PathBuf,
    simulation: Simulation,
    equipment: Equipment,
}

impl Planned {
    fn place(&self, out: &Path) -> PathBuf {
        // A path that is joined to an empty one would end in a slash.
        if self.folder.as_os_str().is_empty() { out.to_owned() } else { out.join(&self.folder) }
    }
}

/// Reads and checks the inputs of all runs. Runs of one trace share it.
fn plan(
    command: &Live,
    base: &Scenario,
    chosen: &[Option<Variant>],
    (source, sets): (&Source, &[Override]),
    library: &Library,
) -> Result<Vec<Planned>, InputError> {
    let mut planned = Vec::new();
    let mut trace: Option<(Scenario, Arc<TraceInputs>)> = None;
    for variant in chosen {
        let own = variant.iter().flat_map(Source::variant_overrides);
        let overrides: Vec<Override> = sets.iter().cloned().chain(own).collect();
        let scenario = source.scenario(&overrides)?;
        let known = trace.as_ref().filter(|(other, _)| other.same_trace(&scenario)).map(|(_, trace)| trace.clone());
        let simulation = prepare(source, &overrides, scenario.clone(), known, chosen.len() > 1)?;
        trace = Some((scenario, simulation.inputs.trace.clone()));
        let (file, allow_cpu) = (source.file(), command.library.allow_cpu);
        let equipment = Equipment::find(&simulation.scenario, file, library, allow_cpu, &Lines::new(false));
        let equipment = equipment.map_err(|error| source.place(error, &overrides))?;
        let name = variant.as_ref().map_or(&base.name, |variant| &variant.name).clone();
        let folder = variant.as_ref().map_or_else(PathBuf::new, |variant| PathBuf::from(&variant.name));
        planned.push(Planned { name, folder, simulation, equipment });
    }
    Ok(planned)
}

/// Returns the variants to run; `None` stands for the scenario itself.
fn chosen(command: &Live, base: &Scenario, source: &Source) -> Result<Vec<Option<Variant>>, InputError> {
    if command.variants.is_empty() {
        return Ok(vec![None]);
    }
    Ok(variants::chosen(base, &command.variants, source)?.into_iter().map(Some).collect())
}

/// Returns the versions and the seed that a report on runs in real time states.
pub(super) fn versions(base: &Scenario, library: &Library) -> Vec<(String, String)> {
    vec![
        ("modm".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ("commit".to_owned(), env!("MODM_COMMIT").to_owned()),
        ("ONNX Runtime".to_owned(), format!("1.{}", library.minor_version)),
        ("seed".to_owned(), base.seed.to_string()),
    ]
}

/// Writes the report and prints its table.
fn tell(common: &ScenarioArguments, base: &Scenario, comparison: &Comparison, wall_s: f64) -> anyhow::Result<()> {
    super::write_report(comparison, Look::default(), &common.out)?;
    if comparison.variants().len() > 1 {
        write_run_json(&common.out, base, &[], &comparison.stand_ins, wall_s, &[])?;
    }
    if common.json {
        match comparison.runs.as_slice() {
            [run] => println!("{}", serde_json::to_string_pretty(&run.summary)?),
            runs => println!("{}", serde_json::to_string_pretty(&super::compare::rows(runs))?),
        }
        return Ok(());
    }
    print!("{}", report::terminal(comparison, super::width()));
    super::print_notes(comparison.grounds());
    eprintln!("report: {}", common.out.join("report.html").display());
    Ok(())
}
