//! Checks of a scenario that its types do not make. Errors name key, value and what is accepted; `source` adds the
//! line.

use std::path::Path;

use super::Scenario;
use crate::input::InputError;
use crate::model::{ModelId, ModelSet};
use crate::scheduler::routing::System;
use crate::time::{Duration, MAX_INPUT_S};

/// Largest number of workers, which are numbered by `u16`.
const MOST_WORKERS: usize = 65_535;
const MOST_STEPS: u32 = 100_000;
/// Largest seed, and largest number of bytes. Every reader of JSON keeps whole numbers exact up to this one, and
/// `--seeds` counts on from the seed.
const LARGEST_SEED: u64 = 1 << 53;
/// Names that a folder of results holds beside the folders of variants, so that no variant may have them.
const RESERVED: [&str; 9] = [
    "comparison.json",
    "comparison.csv",
    "figures",
    "report.html",
    "report.md",
    "run.json",
    "scenario.toml",
    "summary.json",
    "modm.partial",
];

/// Checks a scenario. Returns an error with the first thing that is wrong.
pub(super) fn check(scenario: &Scenario, file: &Path) -> Result<(), InputError> {
    let complaint = |key: &str, found: &dyn std::fmt::Display, accepted: &str| {
        Err(InputError::new(file, accepted).value(key, found))
    };
    if scenario.name.trim().is_empty() {
        return complaint("name", &"\"\"", "expected a name");
    }
    if scenario.seed > LARGEST_SEED {
        return complaint("seed", &scenario.seed, "expected a whole number from 0 to 9007199254740992 (2^53)");
    }
    // The order matters where one check relies on another: the cache's capacity is compared with the routing policy's
    // states, and a routing policy is built of checked bounds only.
    check_trace(scenario, file)?;
    check_cluster(scenario, file)?;
    if !(1..=MOST_STEPS).contains(&scenario.models.steps) {
        return complaint(
            "models.steps",
            &scenario.models.steps,
            "expected a number of denoising steps from 1 to 100000",
        );
    }
    check_bounds(scenario, file)?;
    scenario.check_approximation(file)?;
    seconds(file, "retrieval.latency_s", scenario.retrieval.latency_s)?;
    seconds(file, "retrieval.image_latency_s", scenario.retrieval.image_latency_s)?;
    check_index(scenario, file)?;
    seconds(file, "metrics.warmup_s", scenario.metrics.warmup_s)?;
    positive_seconds(file, "metrics.window_s", scenario.metrics.window_s)?;
    check_hits(scenario, file)?;
    check_cache(scenario, file)?;
    scenario.tenants.check(file)?;
    scenario.queue.check(file)?;
    scenario.batching.check(file)?;
    scenario.check_cascade(file)?;
    check_allocation(scenario, file)?;
    check_serving(scenario, file)?;
    scenario.check_faults(file)?;
    for (index, multiple) in scenario.slo.multiples.iter().enumerate() {
        if !(*multiple > 0.0 && *multiple <= 1e6) {
            return complaint(
                &format!("slo.multiples.{index}"),
                multiple,
                "expected a multiple above 0, at most 1000000",
            );
        }
    }
    scenario.encoder.check(file, "encoder")?;
    scenario.image_model.check(file, "image_model")?;
    scenario.live.check(file)?;
    scenario.serve.check(file)?;
    check_variants(scenario, file)
}

fn check_index(scenario: &Scenario, file: &Path) -> Result<(), InputError> {
    let retrieval = &scenario.retrieval;
    if retrieval.index.build(retrieval.measure_recall).is_some() {
        return Ok(());
    }
    let name = toml::Value::try_from(retrieval.index).map_or_else(|_| String::new(), |name| name.to_string());
    let way_out = "this modm was built without FAISS: build with --features faiss (docs/retrieval.md says what it \
                   needs), or use \"exact\"";
    Err(InputError::new(file, way_out).value("retrieval.index", name))
}

pub(super) fn seconds(file: &Path, key: &str, value: f64) -> Result<(), InputError> {
    if (0.0..=MAX_INPUT_S).contains(&value) {
        return Ok(());
    }
    Err(InputError::new(file, "expected seconds from 0 to ten years").value(key, value))
}

fn positive_seconds(file: &Path, key: &str, value: f64) -> Result<(), InputError> {
    // A positive number may still round to zero nanoseconds, which is no length of a period or a window.
    if Duration::from_seconds(value).is_some_and(|time| time > Duration::ZERO) && value <= MAX_INPUT_S {
        return Ok(());
    }
    Err(InputError::new(file, "expected seconds above 0 (at least a nanosecond) to ten years").value(key, value))
}

fn check_trace(scenario: &Scenario, file: &Path) -> Result<(), InputError> {
    let trace = &scenario.trace;
    match (&trace.requests, &trace.synthetic) {
        (None, None) => {
            let way_out = "expected `requests = \"requests.csv\"`, or a [trace.synthetic] section";
            Err(InputError::new(file, way_out).key("trace"))
        }
        (Some(_), Some(_)) => {
            let way_out = "expected either `requests` or [trace.synthetic], not both";
            Err(InputError::new(file, way_out).key("trace.synthetic"))
        }
        (Some(_), None) => Ok(()),
        (None, Some(synthetic)) => {
            let files =
                [("prompt_embeddings", &trace.prompt_embeddings), ("image_embeddings", &trace.image_embeddings)];
            if let Some((key, _)) = files.iter().find(|(_, path)| path.is_some()) {
                let way_out = "goes with `requests`; a synthetic trace's embeddings are made from its prompts";
                return Err(InputError::new(file, way_out).key(format!("trace.{key}")));
            }
            synthetic.check(file, "trace.synthetic")
        }
    }
}

fn check_cluster(scenario: &Scenario, file: &Path) -> Result<(), InputError> {
    for (index, group) in scenario.cluster.gpus.iter().enumerate() {
        if group.count == 0 {
            let key = format!("cluster.gpus.{index}.count");
            return Err(InputError::new(file, "expected at least 1").value(key, group.count));
        }
        if let Some(dollars) = group.usd_per_hour.filter(|dollars| !(0.0..=1e6).contains(dollars)) {
            let key = format!("cluster.gpus.{index}.usd_per_hour");
            return Err(InputError::new(file, "expected dollars from 0 to 1000000").value(key, dollars));
        }
    }
    if !(1..=MOST_WORKERS).contains(&scenario.workers()) {
        let message = format!("expected from 1 to {MOST_WORKERS} GPUs in all");
        return Err(InputError::new(file, message).value("cluster.gpus", format_args!("{} in all", scenario.workers())));
    }
    Ok(())
}

fn check_bounds(scenario: &Scenario, file: &Path) -> Result<(), InputError> {
    let own = match scenario.system.bounds {
        None => " (the policy's own bounds are for 50 steps: give `system.bounds`)",
        Some(_) => "",
    };
    // Systems that look nothing up have no bounds to check.
    if scenario.bounds().is_empty() && scenario.system.bounds.is_none() {
        return Ok(());
    }
    bounds(file, "system.bounds", scenario.bounds(), scenario.models.steps, own)
}

/// Checks a decision table. `key` is its place in the scenario. `own` is a remark for a table that is the policy's
/// default.
pub(super) fn bounds(file: &Path, key: &str, rows: &[(f64, u32)], steps: u32, own: &str) -> Result<(), InputError> {
    let mut previous: Option<f64> = None;
    if rows.is_empty() {
        return Err(InputError::new(file, "expected at least one [similarity, skipped steps]").value(key, "[]"));
    }
    for (index, &(bound, skipped)) in rows.iter().enumerate() {
        let row = |accepted: String| {
            let error = InputError::new(file, accepted).value(key, format!("[{bound}, {skipped}]"));
            InputError { key: Some(format!("{key}.{index}")), ..error }
        };
        // Cosines begin at -1. Similarities are clamped at 0, so a bound below 0 is met by every entry.
        if !bound.is_finite() || !(-1.0..=1.0).contains(&bound) {
            return Err(row("expected a similarity from -1 to 1".into()));
        }
        if previous.is_some_and(|before| bound <= before) {
            return Err(row("bounds rise strictly: expected more than the one before".into()));
        }
        if skipped >= steps {
            return Err(row(format!("expected skipped steps from 0 to {} (models.steps - 1){own}", steps - 1)));
        }
        previous = Some(bound);
    }
    Ok(())
}

fn check_cache(scenario: &Scenario, file: &Path) -> Result<(), InputError> {
    let cache = &scenario.cache;
    let least = scenario.states_per_entry().max(1) as u32;
    if cache.capacity < least {
        let message = if least == 1 {
            "expected at least 1".to_owned()
        } else {
            format!("expected at least {least}, the states of one entry: capacity counts states for nirvana")
        };
        return Err(InputError::new(file, message).value("cache.capacity", cache.capacity));
    }
    for (key, bytes) in [("capacity_bytes", cache.capacity_bytes), ("image_bytes", cache.image_bytes)] {
        if let Some(bytes) = bytes.filter(|bytes| !(1..=LARGEST_SEED).contains(bytes)) {
            let accepted = "expected bytes from 1 to 9007199254740992 (2^53)";
            return Err(InputError::new(file, accepted).value(format!("cache.{key}"), bytes));
        }
    }
    if let Some(age) = cache.max_age_s {
        positive_seconds(file, "cache.max_age_s", age)?;
    }
    if let Some(limit) = cache.near_duplicate.filter(|limit| !(*limit > 0.0 && *limit <= 1.0)) {
        return Err(
            InputError::new(file, "expected a similarity above 0, at most 1").value("cache.near_duplicate", limit)
        );
    }
    Ok(())
}

fn check_hits(scenario: &Scenario, file: &Path) -> Result<(), InputError> {
    let keys = [
        ("near_miss", scenario.metrics.near_miss, "expected a similarity from 0 to 1"),
        ("false_hit_similarity", scenario.metrics.false_hit_similarity, "expected a share from 0 to 1"),
    ];
    match keys.iter().find(|(_, value, _)| !(0.0..=1.0).contains(value)) {
        Some((key, value, accepted)) => Err(InputError::new(file, *accepted).value(format!("metrics.{key}"), value)),
        None => Ok(()),
    }
}

fn check_allocation(scenario: &Scenario, file: &Path) -> Result<(), InputError> {
    let allocation = &scenario.allocation;
    positive_seconds(file, "allocation.period_s", allocation.period_s)?;
    if !(0.0..=10.0).contains(&allocation.headroom) {
        return Err(
            InputError::new(file, "expected a share from 0 to 10").value("allocation.headroom", allocation.headroom)
        );
    }
    let ours = [
        ("window_s", allocation.window_s),
        ("calm_s", allocation.calm_s),
        ("gap_s", allocation.gap_s),
        ("cushion_s", allocation.cushion_s),
    ];
    for (key, value) in ours.into_iter().filter_map(|(key, value)| Some((key, value?))) {
        let key = format!("allocation.{key}");
        if key.ends_with("cushion_s") { seconds(file, &key, value)? } else { positive_seconds(file, &key, value)? }
    }
    if !(0.0..=1e6).contains(&allocation.load_price) {
        return Err(InputError::new(file, "expected a number from 0 to 1000000")
            .value("allocation.load_price", allocation.load_price));
    }
    if let Some(large) = allocation.initial_large
        && !(1..=scenario.workers()).contains(&(large as usize))
    {
        let message = format!("expected from 1 to {}, the number of workers", scenario.workers());
        return Err(InputError::new(file, message).value("allocation.initial_large", large));
    }
    if let Some(pid) = allocation.pid.0 {
        for (key, value) in [("kp", pid.kp), ("ki", pid.ki), ("kd", pid.kd)] {
            if !(value.is_finite() && value.abs() <= 1e6) {
                return Err(InputError::new(file, "expected a gain from -1000000 to 1000000")
                    .value(format!("allocation.pid.{key}"), value));
            }
        }
        if !(pid.dt > 0.0 && pid.dt <= 1e9) {
            return Err(
                InputError::new(file, "expected a time above 0, at most 1e9").value("allocation.pid.dt", pid.dt)
            );
        }
    }
    let cascade = scenario.allocation.policy == super::AllocationKind::Cascade;
    if scenario.drafts() && !(cascade || scenario.allocation.policy == super::AllocationKind::Static) {
        let message = "expected \"cascade\" or \"static\" for system.policy = \"cascade\"";
        return Err(InputError::new(file, message).key("allocation.policy"));
    }
    if cascade && scenario.system.policy == System::Modm {
        let message = "is for system.policy = \"cascade\": it decides on drafts";
        return Err(InputError::new(file, message).value("allocation.policy", "\"cascade\""));
    }
    if scenario.drafts() && (scenario.models.small.is_empty() || scenario.workers() < 2) {
        let message = "a cascade needs a light model (models.small) and a GPU for each of the two";
        return Err(InputError::new(file, message).value("cluster.gpus", format_args!("{} in all", scenario.workers())));
    }
    let monitored = scenario.allocation.policy != super::AllocationKind::Static;
    if scenario.system.policy.has_small_models() && scenario.models.small.is_empty() && monitored {
        let way_out = "the monitor needs a small model: name one, or set allocation.policy = \"static\"";
        return Err(InputError::new(file, way_out).value("models.small", "[]"));
    }
    let names = scenario.model_names();
    if let Some(twice) = names.iter().enumerate().find(|(index, name)| names[..*index].contains(name)) {
        return Err(
            InputError::new(file, "is in the list of models twice").value("models.small", format!("{:?}", twice.1))
        );
    }
    Ok(())
}

/// Checks that there is a place for every model of the list, and that some model may serve each kind of request.
fn check_serving(scenario: &Scenario, file: &Path) -> Result<(), InputError> {
    let names = scenario.model_names();
    if names.len() > ModelSet::MOST {
        let message = format!("expected at most {} models in all", ModelSet::MOST);
        return Err(InputError::new(file, message).value("models.small", format_args!("{} models", names.len() - 1)));
    }
    if !scenario.system.policy.has_small_models() {
        return Ok(());
    }
    let steps = if scenario.drafts() { Vec::new() } else { scenario.skipped_steps() };
    for name in scenario.models.serves.keys() {
        let key = format!("models.serves.{name}");
        if !names.contains(name) {
            let message = format!("is not a model of this scenario: expected one of {}", names.join(", "));
            return Err(InputError::new(file, message).key(key));
        }
    }
    let serving = scenario.serving();
    if scenario.drafts() && serving.of_misses() != ModelSet::EMPTY.with(ModelId::LARGE) {
        return Err(InputError::new(file, "a cascade's large model alone makes drafts again").key("models.serves"));
    }
    if serving.of_misses().is_empty() {
        return Err(InputError::new(file, "no model may serve misses: one must").key("models.serves"));
    }
    if let Some(skipped) = steps.iter().find(|skipped| serving.of_hits(**skipped).is_empty()) {
        let message = format!("no model may serve hits that skip {skipped} steps: one must");
        return Err(InputError::new(file, message).key("models.serves"));
    }
    check_held(scenario, &steps, file)
}

/// Checks that the first small model may serve every hit that small models serve, unless the policy is `what_if`. Only
/// `what_if` gives workers to more than one small model. Hits of another small model would wait behind every miss.
fn check_held(scenario: &Scenario, steps: &[u32], file: &Path) -> Result<(), InputError> {
    if scenario.allocation.policy == super::AllocationKind::WhatIf {
        return Ok(());
    }
    let (names, serving) = (scenario.model_names(), scenario.serving());
    let small = |skipped: u32| serving.of_hits(skipped).without(ModelSet::EMPTY.with(ModelId::LARGE));
    let first = ModelId(1);
    let left = steps.iter().find_map(|&skipped| {
        let others = small(skipped);
        others.iter().next().filter(|_| !others.contains(first)).map(|model| (skipped, &names[model.index()]))
    });
    let Some((skipped, model)) = left else { return Ok(()) };
    let message = format!(
        "hits that skip {skipped} steps are for {model}, and this allocation policy gives workers to the first small \
         model, {}, alone: let that one serve them, or set allocation.policy = \"what_if\"",
        names[first.index()]
    );
    Err(InputError::new(file, message).key("models.serves"))
}

fn check_variants(scenario: &Scenario, file: &Path) -> Result<(), InputError> {
    for (index, variant) in scenario.variant.iter().enumerate() {
        let name = &variant.name;
        let key = format!("variant.{index}.name");
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
        // Names with a dot first would be hidden, or be the folder itself or the one above.
        if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
            let message = "expected letters, digits, '-', '_', '+' and '.': it names a folder";
            return Err(InputError::new(file, message).value(key, format!("{name:?}")));
        }
        if RESERVED.contains(&name.as_str()) {
            let message = "is what a file of the results is called: expected another name";
            return Err(InputError::new(file, message).value(key, format!("{name:?}")));
        }
        if scenario.variant[..index].iter().any(|other| other.name == *name) {
            return Err(InputError::new(file, "names are unique").value(key, format!("{name:?}")));
        }
        for (measure, value) in variant.published.values() {
            if let Some(value) = value.filter(|value| !(1e-9..=1e9).contains(value)) {
                let key = format!("variant.{index}.published.{measure}");
                return Err(InputError::new(file, "expected a number above 0, at most 1e9").value(key, value));
            }
        }
        if let Some(own) = variant.set.keys().find(|key| key.starts_with("variant")) {
            return Err(
                InputError::new(file, "a variant cannot set variants").key(format!("variant.{index}.set.{own}"))
            );
        }
    }
    Ok(())
}
