//! Live runs: replay the trace of a scenario in real time on real sessions, and write all files of the run.

use std::sync::Arc;

use crate::input::InputError;
use crate::scenario::{Inputs, Override, Scenario, Source, TraceInputs};
use crate::scheduler::routing::System;
use crate::simulation::Simulation;

mod asks;
mod cached;
mod equipment;
mod fit;
mod gallery;
mod names;
mod planned;
mod recorded;
mod run;
mod staff;

pub use cached::{Cached, Strangers};
pub use equipment::{Equipment, available_devices};
pub use fit::Fit;
pub use names::{file_names, picture_name};
pub use planned::{MadeRun, PlannedRun, plan, run_all};
pub use recorded::recorded_keys;
pub use run::{LiveRun, refuse_foreign};
pub use staff::{SayAnywhere, Staff};

/// Reads the inputs of a live run, and refuses a scenario that only a simulated run can follow. `known` is the trace if
/// it was read already. `several` is true if the run is one of several.
///
/// # Errors
/// Returns an error if the scenario is not for live runs, or if an input cannot be used.
pub fn prepare(
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
    if scenario.network.is_some() {
        let way_out = "is for simulated runs: a live run has a network of its own";
        return wrong(InputError::new(file, way_out).key("network"));
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
