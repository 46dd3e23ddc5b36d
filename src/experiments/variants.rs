//! Variants of a scenario, each on the same traces. `compare` runs them, and `capacity` searches their capacities.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use super::traces::of_seed;
use super::{ExperimentError, Progress, Search, SharedSearches, spread};
use crate::input::InputError;
use crate::published::Published;
use crate::scenario::{Inputs, Override, Scenario, Source, TraceInputs, Variant};
use crate::simulation::Simulation;

/// Run of a variant on one trace.
#[derive(Debug)]
pub struct VariantRun {
    /// Name of the variant.
    pub variant: String,
    /// Folder for the files of the run, relative to the folder of the experiment.
    pub folder: PathBuf,
    /// Simulation of the run.
    pub simulation: Simulation,
}

/// Returns the published figures of variants, by name.
pub fn published<'a>(variants: impl IntoIterator<Item = &'a Variant>) -> BTreeMap<String, Published> {
    let known = variants.into_iter().filter(|variant| !variant.published.is_empty());
    known.map(|variant| (variant.name.clone(), variant.published)).collect()
}

/// Returns the wanted variants in the order in which they are asked for, or all variants if none is named.
///
/// # Errors
/// Returns an error if the scenario has no variants or none of a name, or if a name stands there twice.
pub fn chosen(base: &Scenario, wanted: &[String], source: &Source) -> Result<Vec<Variant>, InputError> {
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

/// Reads the inputs of every variant on `seeds` traces. A trace that several runs share is read once.
///
/// # Errors
/// Returns an error if an input cannot be used.
pub fn plan(
    seeds: NonZeroUsize,
    source: &Source,
    sets: &[Override],
    variants: &[Variant],
) -> Result<Vec<VariantRun>, InputError> {
    let mut traces: Vec<(Scenario, Arc<TraceInputs>)> = Vec::new();
    let mut planned = Vec::new();
    let scenarios = variants.iter().map(|variant| {
        let overrides: Vec<Override> = sets.iter().cloned().chain(Source::variant_overrides(variant)).collect();
        Ok((variant, source.scenario(&overrides)?, overrides))
    });
    let scenarios: Vec<(&Variant, Scenario, Vec<Override>)> = scenarios.collect::<Result<_, InputError>>()?;
    // Runs share traces, so traces get embeddings if any of the systems looks something up.
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
                // The trace of the first seed is known by now. Those of the other seeds are made from it.
                let fresh = of_seed(&itself, index, known(&traces, &itself).as_ref(), source, retrieves);
                let fresh = Arc::new(fresh.map_err(|error| source.place(error, &overrides))?);
                traces.push((scenario.clone(), fresh.clone()));
                fresh
            };
            let seed = format!("seed-{}", scenario.seed);
            let folder = PathBuf::from(&variant.name);
            let folder = if seeds.get() > 1 { folder.join(seed) } else { folder };
            let simulation = Simulation::with_trace(scenario, source, &overrides, trace)?;
            planned.push(VariantRun { variant: variant.name.clone(), folder, simulation });
        }
    }
    Ok(planned)
}

/// Calls `run` with the index of each of these runs, `threads` at a time, and returns the results trace by trace. Each
/// trace is searched once, and its search is dropped after the last of its runs.
///
/// # Errors
/// Returns an error if threads cannot be started.
pub fn run_all<R: Send>(
    runs: &[VariantRun],
    search: Search,
    source: &Source,
    threads: usize,
    progress: &dyn Progress,
    run: impl Fn(usize) -> R + Sync,
) -> Result<Vec<R>, ExperimentError> {
    let traces = runs.iter().map(|run| (&run.simulation.inputs.trace, &run.simulation.scenario));
    let shared = SharedSearches::new(search, source.file(), traces);
    spread(&shared.order(), threads, |&at| {
        shared.begin(at, progress);
        let result = run(at);
        shared.end(at);
        result
    })
}

/// Returns the stand-ins that these runs use.
#[must_use]
pub fn stand_ins(runs: &[VariantRun]) -> Vec<String> {
    let mut all: Vec<String> = runs.iter().flat_map(|run| run.simulation.stand_ins()).collect();
    all.sort();
    all.dedup();
    all
}

/// Returns the notes of the variants' scenarios, and a note on how the traces of several seeds differ.
#[must_use]
pub fn notes(runs: &[VariantRun], seeds: usize, base: &Scenario) -> Vec<String> {
    let mut notes = Vec::new();
    // The notes are the same for every seed, so those of the first are enough.
    for run in runs.iter().filter(|run| run.simulation.scenario.seed == base.seed) {
        notes.extend(run.simulation.scenario.notes.iter().map(|note| format!("{}: {note}", run.variant)));
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
