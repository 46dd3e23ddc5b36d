//! Variants of a scenario, each on the same traces. `compare` runs them, and `capacity` searches their capacities.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::traces::of_seed;
use super::{ExperimentError, Progress, Search, SharedSearches, runs_of_range, spread, write_run};
use crate::input::InputError;
use crate::metrics::warnings::{Warning, merged};
use crate::published::Published;
use crate::run_folder::WallTime;
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

/// Returns the wanted variants as [`chosen`] does. A scenario without variants is one variant by itself.
///
/// # Errors
/// Returns an error if the scenario has none of a name, or if a name stands there twice.
pub fn chosen_or_itself(base: &Scenario, wanted: &[String], source: &Source) -> Result<Vec<Variant>, InputError> {
    if base.variant.is_empty() && wanted.is_empty() {
        let (set, published) = (toml::Table::new(), Published::default());
        return Ok(vec![Variant { name: base.name.clone(), set, published }]);
    }
    chosen(base, wanted, source)
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

/// Makes these runs, `threads` at a time, and writes the files of each to its folder in `out`. With `ranges`, the run
/// of each variant on its first trace also gets the range that the profile leaves open. Each trace is searched once,
/// and its search is dropped after the last of its runs. Returns the warnings for a reader, in words.
///
/// # Errors
/// Returns an error if threads cannot be started, if a run cannot come to an end, or if a file cannot be written.
pub fn run_all(
    runs: &[VariantRun],
    out: &Path,
    ranges: bool,
    search: Search,
    source: &Source,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Vec<String>, ExperimentError> {
    let is_first = |at: usize| runs[..at].iter().all(|other| other.variant != runs[at].variant);
    let has_range: Vec<bool> = (0..runs.len()).map(|at| ranges && is_first(at)).collect();
    let requests = |(run, has_range): (&VariantRun, &bool)| {
        let times = 1 + if *has_range { runs_of_range(&run.simulation) } else { 0 };
        times * run.simulation.inputs.trace.trace.len() as u64
    };
    let progress = progress.work_begins(runs.iter().zip(&has_range).map(requests).sum());
    let one = |at: usize| {
        let VariantRun { variant, folder, simulation } = &runs[at];
        // The runs at the ends of a range keep to one thread, because other variants have the others.
        let range = has_range[at].then_some(1);
        let made = write_run(simulation, &out.join(folder), false, range, WallTime::begin(), &*progress);
        made.map_err(ExperimentError::within(format!("variant {variant}")))
            .map(|results| (variant.clone(), results.warnings))
    };
    let traces = runs.iter().map(|run| (&run.simulation.inputs.trace, &run.simulation.scenario));
    let shared = SharedSearches::new(search, source.file(), traces);
    let made = spread(&shared.order(), threads, |&at| {
        shared.begin(at, &*progress);
        let result = one(at);
        shared.end(at);
        result
    })?;
    let warned: Vec<(String, Vec<Warning>)> = made.into_iter().collect::<Result<_, _>>()?;
    Ok(merged(&warned))
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
