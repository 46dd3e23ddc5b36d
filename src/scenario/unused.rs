//! Keys that are set and change nothing, because the policy in force overrides them or has no use for them. A key is
//! refused where the same layer of the scenario chose the policy, and reported in a note where the key is only
//! inherited.

use toml::{Table, Value};

use super::source::{FLAG, Override, flatten, within};
use super::{AllocationKind, Scenario};
use crate::input::{self, InputError};
use crate::scheduler::Late;
use crate::scheduler::allocation::Mode;
use crate::scheduler::routing::{Storage, System};
use crate::trace::asks::KeyPart;

/// Dotted key that changes nothing, with all keys below it.
struct Unused {
    key: &'static str,
    /// Reason why the keys change nothing, for messages.
    why: String,
    /// True if the system has no such part at all. One scenario often describes a cluster for several systems, so the
    /// keys only get a note, wherever they are set.
    is_absent: bool,
}

impl Unused {
    fn overridden(key: &'static str, why: impl Into<String>) -> Self {
        Self { key, why: why.into(), is_absent: false }
    }

    fn absent(key: &'static str, why: impl Into<String>) -> Self {
        Self { key, why: why.into(), is_absent: true }
    }
}

impl Scenario {
    /// Returns the keys that change nothing under the policies in force.
    fn unused(&self) -> Vec<Unused> {
        let mut unused = self.unused_by_system();
        unused.extend(self.unused_by_allocation());
        if self.discipline().late != Late::Best {
            unused.push(Unused::overridden("queue.fall_back", "is used with queue.late = \"best\" alone"));
        }
        if !matches!(self.discipline().late, Late::Last | Late::Best) {
            let why = "is used with queue.late = \"last\" or \"best\" alone";
            unused.push(Unused::overridden("queue.overdue_multiple", why));
        }
        unused
    }

    fn unused_by_system(&self) -> Vec<Unused> {
        let policy = self.system.policy;
        let name = policy.name();
        let because = |why: &str| format!("system.policy = \"{name}\" {why}");
        let mut unused = Vec::new();
        let storage = self.routing().storage();
        if policy.default_bounds().is_none() {
            let keys = ["system.bounds", "system.sigma_bounds"];
            unused.extend(keys.map(|key| Unused::overridden(key, because("looks nothing up"))));
        }
        if storage == Storage::None {
            unused.push(Unused::absent("cache", because("keeps no images")));
        }
        if !self.cache.key.contains(&KeyPart::Guidance) {
            let why = "is used with `guidance` in cache.key alone";
            unused.push(Unused::absent("cache.guidance_tolerance", why));
        }
        if storage != Storage::ByImage {
            unused.push(Unused::absent("retrieval.image_latency_s", because("does not retrieve by image")));
        }
        if matches!(policy, System::Nirvana | System::Pinecone) {
            unused.push(Unused::overridden("cache.eviction", because("brings its own eviction")));
            unused.push(Unused::overridden("cache.admission", because("keeps the images of misses")));
        }
        if policy == System::Pinecone {
            let keys = ["cache.aspect_limit", "cache.size_factor"];
            unused.extend(keys.map(|key| Unused::overridden(key, because("returns images as they are"))));
        }
        if policy == System::Nirvana {
            unused.push(Unused::overridden("cache.capacity_bytes", because("counts states: set cache.capacity")));
        }
        if !policy.has_small_models() {
            let why = because("has the large model on every worker");
            let keys = ["models.small", "models.serves", "allocation"];
            unused.extend(keys.map(|key| Unused::absent(key, why.clone())));
        }
        if policy != System::Modm {
            unused.push(Unused::absent("approximation", because("has no levels of approximation")));
        }
        if policy != System::Cascade {
            unused.push(Unused::absent("cascade", because("makes no drafts")));
        }
        unused
    }

    fn unused_by_allocation(&self) -> Vec<Unused> {
        if !self.system.policy.has_small_models() {
            return Vec::new(); // The whole section is unused, which `unused_by_system` reports.
        }
        let periodic = ["allocation.period_s", "allocation.headroom"];
        let monitor = ["allocation.mode", "allocation.pid", "allocation.switching", "allocation.least_small"];
        let drafts = ["allocation.queue_delay"];
        let what_if = [
            "allocation.window_s",
            "allocation.horizon_s",
            "allocation.gap_s",
            "allocation.cushion_s",
            "allocation.load_price",
            "allocation.late_price",
            "allocation.measure",
        ];
        let (name, unused): (&str, Vec<&'static str>) = match self.allocation.policy {
            AllocationKind::Static => ("static", [&periodic[..], &monitor, &drafts, &what_if].concat()),
            AllocationKind::Modm => ("modm", [&drafts[..], &what_if].concat()),
            AllocationKind::Cascade => ("cascade", [&monitor[..], &what_if].concat()),
            AllocationKind::WhatIf => ("what_if", [&periodic[..], &monitor, &drafts].concat()),
        };
        let why = format!("allocation.policy = \"{name}\" does not use it");
        let mut unused: Vec<Unused> = unused.into_iter().map(|key| Unused::overridden(key, why.clone())).collect();
        if self.allocation.policy == AllocationKind::Modm && self.allocation.mode == Mode::Throughput {
            let why = "allocation.mode = \"throughput\" plans without headroom";
            unused.push(Unused::absent("allocation.headroom", why));
        }
        if self.allocation.policy == AllocationKind::Modm && self.allocation.mode != Mode::Load {
            let why = "allocation.mode = \"load\" alone changes the small model";
            unused.push(Unused::overridden("allocation.switching", why));
        }
        unused
    }

    /// Sets the keys that change nothing back to their defaults, so that a resolved scenario can be read again.
    pub(super) fn reset_unused(&mut self) {
        for unused in self.unused() {
            match unused.key {
                "system.bounds" => self.system.bounds = None,
                "cache.guidance_tolerance" => {
                    self.cache.guidance_tolerance = super::Cache::default().guidance_tolerance;
                }
                "system.sigma_bounds" => self.system.sigma_bounds = None,
                "cache" => self.cache = super::Cache::default(),
                "retrieval.image_latency_s" => self.retrieval.image_latency_s = 0.0,
                "cache.aspect_limit" => self.cache.aspect_limit = super::Cache::default().aspect_limit,
                "cache.size_factor" => self.cache.size_factor = super::Cache::default().size_factor,
                "cache.admission" => self.cache.admission = crate::cache::Admission::default(),
                "cache.capacity_bytes" => self.cache.capacity_bytes = None,
                "models.small" => self.models.small = super::Models::default().small,
                "models.serves" => self.models.serves.clear(),
                "approximation" => self.approximation = super::ApproximationSection::default(),
                "cascade" => self.cascade = super::CascadeSection::default(),
                "queue.fall_back" => self.queue.fall_back = None,
                "queue.overdue_multiple" => self.queue.overdue_multiple = None,
                // All other keys are those of the allocation, but for `cache.eviction`: `resolved` sets it to the
                // eviction in force.
                key => self.allocation.reset(key),
            }
        }
    }
}

impl super::AllocationSection {
    fn reset(&mut self, key: &str) {
        let usual = Self::default();
        match key {
            "allocation" => *self = usual,
            "allocation.mode" => self.mode = usual.mode,
            "allocation.period_s" => self.period_s = usual.period_s,
            "allocation.headroom" => self.headroom = usual.headroom,
            "allocation.pid" => self.pid = usual.pid,
            "allocation.switching" => self.switching = usual.switching,
            "allocation.least_small" => self.least_small = None,
            "allocation.queue_delay" => self.queue_delay = usual.queue_delay,
            "allocation.window_s" => self.window_s = None,
            "allocation.horizon_s" => self.horizon_s = None,
            "allocation.gap_s" => self.gap_s = None,
            "allocation.cushion_s" => self.cushion_s = None,
            "allocation.load_price" => self.load_price = usual.load_price,
            "allocation.late_price" => self.late_price = usual.late_price,
            "allocation.measure" => self.measure = usual.measure,
            _ => {}
        }
    }
}

/// Layer of a scenario in which a key was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    File,
    /// Flag `--set`.
    Flag,
    /// Grid of a sweep, which always has combinations without effect, or settings of a command.
    Grid,
    Variant,
}

impl Layer {
    fn of_override(set: &Override) -> Self {
        match set {
            set if set.is_of_variant() => Self::Variant,
            set if set.origin == FLAG => Self::Flag,
            _ => Self::Grid,
        }
    }
}

/// Refuses keys that are set where the policy is chosen and change nothing there. Returns notes about the inherited
/// keys.
///
/// # Errors
/// Returns an error with the first key that is refused and the reason.
pub(super) fn check(
    scenario: &Scenario,
    file: &Table,
    overrides: &[Override],
    source: &std::path::Path,
) -> Result<Vec<String>, InputError> {
    let mut inherited: Vec<(String, String)> = Vec::new();
    let in_force = in_force(scenario);
    let of_variant = overrides.iter().any(Override::is_of_variant);
    // If a flag chooses another policy, keys that were set for the policy before are inherited and not refused.
    let chosen_by_flag = overrides.iter().any(Override::chooses_policy);
    // A scenario with variants is a template: some of its keys are meant only for some of the variants.
    let template = of_variant || !scenario.variant.is_empty() || chosen_by_flag;
    let unused = scenario.unused();
    for (key, value, layer) in leaves(file, overrides) {
        let present = present_name(&key);
        let found = unused.iter().find(|unused| within(unused.key, present));
        let found = found.filter(|_| !is_in_force(&in_force, present, &value));
        let Some(Unused { why, is_absent, .. }) = found else { continue };
        let chosen_here = match layer {
            Layer::Variant => true,
            Layer::Flag => !of_variant && !chosen_by_flag,
            Layer::File => !template,
            Layer::Grid => false,
        };
        if chosen_here && !*is_absent {
            let message = format!("changes nothing: {why}");
            return Err(InputError::new(source, message).value(key, input::toml::written(&value)));
        }
        // Several layers may set one key, which is named once.
        inherited.retain(|(other, _)| *other != key);
        inherited.push((key, why.clone()));
    }
    let mut notes: Vec<String> = Vec::new();
    while let Some((_, why)) = inherited.first().cloned() {
        let keys: Vec<&str> = inherited.iter().filter(|(_, other)| *other == why).map(|(key, _)| &**key).collect();
        notes.push(format!("{} changes nothing here: {why}", keys.join(", ")));
        inherited.retain(|(_, other)| *other != why);
    }
    Ok(notes)
}

/// Returns the present name of a key, which may have been set by its old one.
fn present_name(key: &str) -> &str {
    if key == "allocation.calm_s" { "allocation.horizon_s" } else { key }
}

/// Returns every value that is set, with its dotted key and its layer, from the file to the last override.
fn leaves(file: &Table, overrides: &[Override]) -> Vec<(String, Value, Layer)> {
    let mut found = Vec::new();
    flatten(file, "", &mut |key, value| {
        // The keys of variants are checked with the variant that sets them.
        if !key.starts_with("variant") {
            found.push((key, value.clone(), Layer::File));
        }
    });
    for set in overrides {
        let layer = Layer::of_override(set);
        match &set.value {
            Value::Table(table) => flatten(table, &set.key, &mut |key, value| found.push((key, value.clone(), layer))),
            value => found.push((set.key.clone(), value.clone(), layer)),
        }
    }
    found
}

/// Returns all settings in force, and defaults for the settings that are not in force.
fn in_force(scenario: &Scenario) -> Table {
    // Settings that were read can be written, so this never falls back on an empty table.
    Table::try_from(scenario.resolved()).unwrap_or_default()
}

/// Returns whether a value is the one in force anyway. A user who sets such a value is not misled.
fn is_in_force(in_force: &Table, key: &str, value: &Value) -> bool {
    // TOML tells 1 from 1.0. A setting does not.
    let number = |value: &Value| value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64));
    input::toml::look_up(in_force, key)
        .is_some_and(|other| other == value || number(other).is_some_and(|own| number(value) == Some(own)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Scenario, Source};

    const TRACE: &str = "name = \"s\"\n[trace.synthetic]\nrequests = 5\n";

    fn source(more: &str) -> Source {
        Source::new(std::path::Path::new("s.toml"), format!("{TRACE}{more}")).expect("TOML")
    }

    fn set(text: &str) -> Override {
        Override::parse(text).expect("KEY=VALUE")
    }

    fn variant(source: &Source, name: &str) -> Result<Scenario, InputError> {
        let base = source.scenario(&[]).expect("a scenario");
        let variant = base.variant.iter().find(|variant| variant.name == name).expect("a variant");
        source.scenario(&Source::variant_overrides(variant))
    }

    #[test]
    fn a_variant_keeps_policy_and_bounds_in_any_order_and_its_bounds_are_checked() {
        let source = source(
            "[[variant]]\nname = \"default\"\nset = { \"system.policy\" = \"pinecone\" }\n\
             [[variant]]\nname = \"strict\"\nset = { \"system.policy\" = \"pinecone\", \"system.bounds\" = [[0.95, 0]] }\n\
             [[variant]]\nname = \"table\"\nset = { system = { bounds = [[0.95, 0]], policy = \"pinecone\" } }\n\
             [[variant]]\nname = \"nonsense\"\nset = { \"system.policy\" = \"pinecone\", \"system.bounds\" = [[0.95, 50]] }\n",
        );
        assert_eq!(*variant(&source, "default").expect("a scenario").bounds(), [(0.80, 0)]);
        assert_eq!(*variant(&source, "strict").expect("a scenario").bounds(), [(0.95, 0)]);
        assert_eq!(*variant(&source, "table").expect("a scenario").bounds(), [(0.95, 0)]);
        let error = variant(&source, "nonsense").expect_err("50 of 50 steps").to_string();
        assert!(error.contains("nonsense") && error.contains("from 0 to 49"), "{error}");
        for sets in [
            ["system.policy=nirvana", "system.bounds=[[0.5, 5]]"],
            ["system.bounds=[[0.5, 5]]", "system.policy=nirvana"],
        ] {
            let scenario = source.scenario(&sets.map(set)).expect("a scenario");
            assert_eq!(*scenario.bounds(), [(0.5, 5)]);
        }
    }

    #[test]
    fn bounds_of_another_policy_are_dropped_with_a_note_and_those_of_the_same_are_kept() {
        let source = source("[system]\nbounds = [[0.26, 5]]\n");
        let pinecone = source.scenario(&[set("system.policy=pinecone")]).expect("a scenario");
        assert_eq!(*pinecone.bounds(), [(0.80, 0)]);
        assert!(pinecone.notes[0].contains("system.bounds"), "{:?}", pinecone.notes);
        let modm = source.scenario(&[set("system.policy=modm")]).expect("a scenario");
        assert_eq!(*modm.bounds(), [(0.26, 5)]);
    }

    #[test]
    fn what_changes_nothing_is_refused_where_it_is_set_and_noted_where_it_is_inherited() {
        let own = source("[system]\npolicy = \"nirvana\"\n[cache]\neviction = \"sieve\"\n");
        let error = own.scenario(&[]).expect_err("refused").to_string();
        assert!(error.contains("cache.eviction = \"sieve\"") && error.contains("brings its own eviction"), "{error}");

        let shared = source(
            "[cache]\neviction = \"sieve\"\n[[variant]]\nname = \"nirvana\"\nset = { \"system.policy\" = \"nirvana\" }\n\
             [[variant]]\nname = \"own\"\nset = { \"system.policy\" = \"nirvana\", \"cache.admission\" = \"large\" }\n",
        );
        let nirvana = variant(&shared, "nirvana").expect("a scenario");
        assert_eq!(nirvana.notes.len(), 1, "{:?}", nirvana.notes);
        assert!(nirvana.notes[0].starts_with("cache.eviction changes nothing here"), "{:?}", nirvana.notes);
        let error = variant(&shared, "own").expect_err("refused").to_string();
        assert!(error.contains("variant \"own\"") && error.contains("cache.admission = \"large\""), "{error}");
        assert!(shared.scenario(&[]).expect("modm uses it").notes.is_empty());

        let what_if = source("[allocation]\npolicy = \"what_if\"\n").scenario(&[set("allocation.mode=throughput")]);
        assert!(what_if.expect_err("refused").to_string().contains("allocation.policy = \"what_if\" does not use it"));
        for own in ["allocation.horizon_s=50", "allocation.calm_s=50"] {
            let error = source("").scenario(&[set(own)]).expect_err("refused").to_string();
            assert!(error.contains(&own.replace('=', " = ")) && error.contains("\"modm\" does not use it"), "{error}");
        }
        let old = source("[allocation]\npolicy = \"what_if\"\ncalm_s = 50\n").scenario(&[]).expect("a scenario");
        assert_eq!(old.allocation.horizon_s, Some(50.0));
        let flags = source("").scenario(&[set("allocation.policy=what_if"), set("allocation.mode=throughput")]);
        assert_eq!(flags.expect("a scenario").notes.len(), 1);
        let resized = source("[system]\npolicy = \"pinecone\"\n[cache]\nsize_factor = 2.0\n").scenario(&[]);
        assert!(resized.expect_err("refused").to_string().contains("returns images as they are"));
        // Setting a key to the value in force is allowed.
        let same = source("").scenario(&[set("system.policy=pinecone"), set("cache.eviction=fifo")]);
        assert!(same.expect("a scenario").notes.is_empty());
    }

    #[test]
    fn a_resolved_scenario_can_be_read_again() {
        for policy in ["vanilla", "nirvana", "pinecone", "cascade", "modm"] {
            let more = "[cache]\neviction = \"sieve\"\nadmission = \"large\"\n[allocation]\nload_price = 2.0\n\
                        [approximation]\nmemory = 5\n[[variant]]\nname = \"modm\"\n";
            let cascade = if policy == "cascade" { "static" } else { "modm" };
            let sets = [set(&format!("system.policy={policy}")), set(&format!("allocation.policy={cascade}"))];
            let source = source(more);
            let sets = if policy == "cascade" { &sets[..] } else { &sets[..1] };
            let resolved = source.scenario(sets).expect("a scenario").resolved();
            let text = toml::to_string_pretty(&resolved).expect("TOML");
            let again = Source::new(std::path::Path::new("s.toml"), text).expect("TOML").scenario(&[]);
            let again = again.unwrap_or_else(|error| panic!("{policy}: {error}"));
            assert_eq!(again.resolved(), resolved, "{policy}");
        }
    }

    #[test]
    fn hits_of_a_model_that_nobody_holds_are_refused() {
        let more = "[models]\nsmall = [\"sdxl\", \"sana-1.6b\"]\n[models.serves]\n\"sdxl\" = { hits = [5, 10] }\n\
                    \"sana-1.6b\" = { hits = [15, 25, 30] }\n";
        let source = source(more);
        let error = source.scenario(&[]).expect_err("refused").to_string();
        assert!(error.contains("skip 15 steps are for sana-1.6b"), "{error}");
        assert!(source.scenario(&[set("allocation.policy=static")]).is_err());
        let error = source.scenario(&[set("allocation.mode=load")]).expect_err("refused").to_string();
        assert!(error.contains("workers to one small model at a time: let sana-1.6b serve"), "{error}");
        assert!(source.scenario(&[set("allocation.policy=what_if")]).is_ok());
    }
}
