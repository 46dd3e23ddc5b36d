//! `modm live`: a trace replayed in real time against real sessions. Reads and checks all it needs, runs one
//! variant or several in turn, and reports as `simulate` and `compare` do.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use clap::Args;

use super::arguments::ScenarioArguments;
use crate::experiments::{Simulation, variants};
use crate::input::InputError;
use crate::live::isolated::probe;
use crate::live::library::Library;
use crate::live::settings::{Device, Processor};
use crate::metrics::warnings;
use crate::report::figures::Look;
use crate::report::provenance::of_runs;
use crate::report::read::{Index, Place};
use crate::report::run_folder::write_run_json;
use crate::report::{self, Comparison};
use crate::scenario::{Inputs, Override, Scenario, Source, TraceInputs, Variant};
use crate::scheduler::routing::System;

mod gallery;
mod interrupts;
mod recorded;
mod run;

pub(super) use interrupts::Interrupts;
#[cfg(feature = "serve")]
pub(super) use run::{Cached, Strangers};
pub(super) use run::{Equipment, LiveRun, file_names, refuse_foreign};

/// Where ONNX Runtime is, and what may stand in for a GPU.
#[derive(Debug, Args)]
pub(super) struct LibraryArguments {
    /// ONNX Runtime's library, or its folder; else `ORT_DYLIB_PATH`, what `scripts/install_onnxruntime` installed, or the system's
    #[arg(long, value_name = "PATH")]
    pub(super) onnxruntime: Option<PathBuf>,
    /// Run on the CPU where a CUDA device cannot start, in place of refusing
    #[arg(long)]
    pub(super) allow_cpu: bool,
}

/// Replay a trace in real time against real ONNX Runtime sessions
///
/// Latency counts from when a request was due in the trace, however late the program was. Ctrl-C or SIGTERM ends
/// the intake, finishes what has arrived and writes the results; a second one ends the program at once.
/// The scenario's [live] section says which models, encoder and devices to use.
#[derive(Debug, Args)]
pub(super) struct Live {
    #[command(flatten)]
    common: ScenarioArguments,
    #[command(flatten)]
    library: LibraryArguments,
    /// Run these [[variant]]s one after the other on the same trace and compare them; without it, the scenario as it is
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    variants: Vec<String>,
}

impl LibraryArguments {
    /// Opens the library.
    pub(super) fn open(&self) -> Result<Library, InputError> {
        Library::open(self.onnxruntime.as_deref())
    }

    /// The devices as they can be had: a CUDA device that cannot start is refused, or replaced if that is allowed.
    /// `(file, key)` is where they are named.
    pub(super) fn devices(
        &self,
        library: &Library,
        wanted: &[Device],
        (file, key): (&Path, &str),
    ) -> Result<Vec<Device>, InputError> {
        let one = |device: &Device| {
            if device.processor == Processor::Cpu {
                return Ok(*device);
            }
            match probe(library, *device) {
                Ok(()) => Ok(*device),
                Err(error) if self.allow_cpu => {
                    eprintln!("warning: {} cannot start, the CPU is used in its place: {error}", device.name());
                    Ok(Device::cpu(device.number))
                }
                Err(error) => {
                    let way_out =
                        format!("cannot start: {error}. `modm doctor` says more; --allow-cpu runs on the CPU");
                    Err(InputError::new(file, way_out).value(key, device.name()))
                }
            }
        };
        wanted.iter().map(one).collect()
    }
}

pub(super) fn run(command: &Live) -> anyhow::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "wall seconds go to run.json alone")]
    let begun = Instant::now();
    let common = &command.common;
    let (source, sets) = common.read()?;
    let base = source.scenario(&sets)?;
    let chosen = chosen(command, &base, &source)?;
    let library = command.library.open()?;
    let mut planned = Vec::new();
    let mut trace: Option<(Scenario, Arc<TraceInputs>)> = None;
    for variant in &chosen {
        let own = variant.iter().flat_map(Source::variant_overrides);
        let overrides: Vec<Override> = sets.iter().cloned().chain(own).collect();
        let scenario = source.scenario(&overrides)?;
        let known = trace.as_ref().filter(|(other, _)| other.same_trace(&scenario)).map(|(_, trace)| trace.clone());
        let simulation = prepare(&source, &overrides, scenario.clone(), known, chosen.len() > 1)?;
        trace = Some((scenario, simulation.inputs.trace.clone()));
        let equipment = Equipment::of(&simulation.scenario, source.file(), &library, &command.library);
        let equipment = equipment.map_err(|error| source.place(error, &overrides))?;
        let name = variant.as_ref().map_or(&base.name, |variant| &variant.name).clone();
        let folder = if variant.is_some() { common.out.join(&name) } else { common.out.clone() };
        planned.push((name, folder, simulation, equipment));
    }
    for (_, folder, ..) in &planned {
        refuse_foreign(folder)?;
    }
    common.prepare_output()?;
    let interrupts = Interrupts::listen().context("signals cannot be listened for")?;
    let (mut runs, mut warned) = (Vec::new(), Vec::new());
    let mut stand_ins = Vec::new();
    let measured = format!("measured in real time on {}", library.build());
    let provenance = {
        let runs = planned.iter().map(|(name, _, simulation, _)| (name.clone(), &simulation.scenario));
        let files = planned.iter().flat_map(|(_, _, simulation, _)| simulation.files());
        of_runs((&source, &sets), runs, files, [measured.as_str()])
    };
    for (name, folder, simulation, equipment) in planned {
        if interrupts.heard() {
            eprintln!("warning: {name} was not begun");
            continue;
        }
        if !common.quiet && chosen.len() > 1 {
            eprintln!("{name}:");
        }
        let mut run = LiveRun {
            simulation: &simulation,
            folder: &folder,
            file: source.file(),
            equipment: &equipment,
            interrupts: &interrupts,
            quiet: common.quiet,
            also: &mut (),
        };
        let results = run.run().with_context(|| name.clone())?;
        warned.push((name.clone(), results.warnings));
        stand_ins.extend(simulation.stand_ins());
        let within = folder.strip_prefix(&common.out).unwrap_or(&folder).to_owned();
        runs.push(Place { variant: name, seed: simulation.scenario.seed, folder: within });
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

/// Variants that are run; `None` for the scenario itself.
fn chosen(command: &Live, base: &Scenario, source: &Source) -> Result<Vec<Option<Variant>>, InputError> {
    if command.variants.is_empty() {
        return Ok(vec![None]);
    }
    Ok(variants::chosen(base, &command.variants, source)?.into_iter().map(Some).collect())
}

/// What a report on real time names.
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

/// Reads what a live run needs: a trace with prompts, and nothing made up.
pub(super) fn prepare(
    source: &Source,
    overrides: &[Override],
    scenario: Scenario,
    known: Option<Arc<TraceInputs>>,
    several: bool,
) -> Result<Simulation, InputError> {
    let file = source.file();
    let wrong = |error: InputError| Err(source.place(error, overrides));
    if scenario.system.policy == System::Nirvana {
        let way_out = "is not run live: it keeps intermediate states, and live mode final images; expected vanilla, pinecone or modm";
        return wrong(InputError::new(file, way_out).value("system.policy", "\"nirvana\""));
    }
    if scenario.drafts() {
        let way_out = "is for simulated runs: nobody judges drafts here; expected vanilla, pinecone or modm";
        return wrong(InputError::new(file, way_out).value("system.policy", "\"cascade\""));
    }
    if scenario.batching.size > 1 {
        let way_out = "is for simulated runs: a live worker draws its pictures one after the other";
        return wrong(InputError::new(file, way_out).value("batching.size", scenario.batching.size));
    }
    if scenario.foresees() {
        let way_out = "knows the future: expected any other eviction for a live run";
        return wrong(InputError::new(file, way_out).value("cache.eviction", "\"farthest\""));
    }
    if let Some(bytes) = scenario.cache.capacity_bytes {
        let way_out =
            "is for simulated runs: a live run learns a picture's size after it is in the cache; give `capacity`";
        return wrong(InputError::new(file, way_out).value("cache.capacity_bytes", bytes));
    }
    if !scenario.faults.events.is_empty() {
        let way_out = "are for simulated runs: a live run has faults of its own";
        return wrong(InputError::new(file, way_out).key("faults.events"));
    }
    if scenario.trace.warm_requests > 0 || scenario.trace.warm_images.is_some() {
        let key = if scenario.trace.warm_requests > 0 { "trace.warm_requests" } else { "trace.warm_images" };
        let way_out =
            "has embeddings without pictures: a live run is warm with what live.store holds from an earlier one";
        return wrong(InputError::new(file, way_out).key(key));
    }
    let trace = if let Some(trace) = known {
        trace
    } else {
        let read = TraceInputs::load(&scenario, file, false).map_err(|error| source.place(error, overrides))?;
        Arc::new(read)
    };
    if several && scenario.live.store.is_some() {
        let way_out = "goes without --variants: each would begin with the pictures of the one before";
        return wrong(InputError::new(file, way_out).key("live.store"));
    }
    if trace.trace.columns().prompts.is_none() {
        return wrong(InputError::new(file, "has no `prompt` column: a live run draws prompts").key("trace.requests"));
    }
    let inputs = Inputs::new(&scenario, file, trace).map_err(|error| source.place(error, overrides))?;
    Ok(Simulation { scenario, inputs, actual: None })
}

/// A folder that the scenario must name.
fn named<'a>(file: &Path, key: &str, folder: Option<&'a PathBuf>) -> Result<&'a PathBuf, InputError> {
    folder.ok_or_else(|| InputError::new(file, "is needed for a live run: the folder of the exported model").key(key))
}
