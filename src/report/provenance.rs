//! Provenance of the numbers of a report: policies, settings of the command line, inputs with their hashes, service
//! times. Every report states it in the same words: `report.html` as a section, `report.md` as a list.

use serde::{Deserialize, Serialize};

use crate::experiments::variants::VariantRun;
use crate::input::toml::look_up;
use crate::scenario::{Fingerprint, Override, Scenario, Source, built_in_profile};

/// Origin of the numbers of a report, besides the scenario itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Provenance {
    /// Policies by variant, in words.
    pub policies: Vec<(String, String)>,
    /// Keys and values that the command line set; `None` if the result does not record them.
    pub sets: Option<Vec<(String, String)>>,
    /// Input files with their SHA-256.
    pub inputs: Vec<(String, String)>,
    /// Sources of service times and powers.
    pub service_times: Vec<String>,
}

/// Maximum number of runs that are named before the policies that they share.
const MOST_NAMED: usize = 4;

/// Settings that are policies: the name of each, and its keys in a resolved scenario.
const POLICIES: [(&str, &[&str]); 7] = [
    ("system", &["system.policy"]),
    ("models", &["models.large", "models.small"]),
    ("allocation", &["allocation.policy", "allocation.mode"]),
    ("queue", &["queue.order", "queue.late"]),
    ("eviction", &["cache.eviction"]),
    ("admission", &["cache.admission"]),
    ("bounds", &["system.bounds"]),
];

/// Systems without an image cache, for which settings of the cache have no effect.
const WITHOUT_CACHE: [&str; 2] = ["vanilla", "cascade"];

/// Systems with the large model on every worker, for which small models and the allocation have no effect.
const WITHOUT_SMALL_MODELS: [&str; 3] = ["vanilla", "nirvana", "pinecone"];

/// Systems that keep the images of misses, whatever `cache.admission` is.
const KEEPING_MISSES: [&str; 2] = ["nirvana", "pinecone"];

/// Describes the policies of a resolved scenario: "system modm; models sd3.5-large, sdxl; allocation modm, ...".
#[must_use]
pub fn policies(settings: &toml::Table) -> String {
    let words = POLICIES.iter().filter_map(|(name, keys)| {
        let values: Vec<String> = keys.iter().filter_map(|key| in_force(settings, key)).collect();
        (!values.is_empty()).then(|| format!("{name} {}", values.join(", ")))
    });
    words.collect::<Vec<_>>().join("; ")
}

/// Returns the value of a key that is in force in a resolved scenario; `None` if the key changes nothing there. A
/// resolved scenario has the defaults of such keys, which would pass for settings.
fn in_force(settings: &toml::Table, key: &str) -> Option<String> {
    let value = |key: &str| look_up(settings, key).map(written);
    let system = value("system.policy").unwrap_or_default();
    let is_one_of = |systems: &[&str]| systems.contains(&system.as_str());
    match key {
        "cache.eviction" | "cache.admission" | "system.bounds" if is_one_of(&WITHOUT_CACHE) => None,
        "cache.admission" if is_one_of(&KEEPING_MISSES) => Some("miss".to_owned()),
        "models.small" | "allocation.policy" | "allocation.mode" if is_one_of(&WITHOUT_SMALL_MODELS) => None,
        // Only the monitor has modes.
        "allocation.mode" => value(key).filter(|_| value("allocation.policy").is_none_or(|policy| policy == "modm")),
        _ => value(key),
    }
}

/// Formats a value for readers: text without quotes, lists without brackets, a tagged table as its tag and its
/// settings.
fn written(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Array(values) if values.iter().all(toml::Value::is_str) => {
            values.iter().map(written).collect::<Vec<_>>().join(", ")
        }
        toml::Value::Table(table) => {
            let pair = |(key, value): (&String, &toml::Value)| match value {
                toml::Value::Table(inner) if inner.is_empty() => key.clone(),
                value => format!("{key} {}", written(value)),
            };
            table.iter().map(pair).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

impl Provenance {
    /// Adds the policies of named runs. Runs with equal policies share a line.
    pub fn add_policies(&mut self, runs: impl IntoIterator<Item = (String, String)>) {
        let mut found: Vec<(Vec<String>, String)> = Vec::new();
        for (name, words) in runs {
            match found.iter_mut().find(|(_, other)| *other == words) {
                Some((names, _)) if names.contains(&name) => {}
                Some((names, _)) => names.push(name),
                None => found.push((vec![name], words)),
            }
        }
        let joined = |names: Vec<String>| {
            let more = names.len().saturating_sub(MOST_NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("{}{more}", names.into_iter().take(MOST_NAMED).collect::<Vec<_>>().join("; "))
        };
        self.policies.extend(found.into_iter().map(|(names, words)| (joined(names), words)));
    }

    /// Returns sentences for a list. Sources of service times are not among them, because a terminal shows them as
    /// notes as well.
    pub(super) fn lines(&self) -> Vec<String> {
        let policies = self.policies.iter().map(|(name, words)| format!("policies of {name}: {words}"));
        let sets = self.sets.iter().flatten().map(|(key, value)| format!("set on the command line: {key} = {value}"));
        let inputs = self.inputs.iter().map(|(name, sha256)| format!("input {name}: SHA-256 {sha256}"));
        policies.chain(sets).chain(inputs).collect()
    }

    /// Returns the sources of service times as sentences.
    pub(super) fn sources(&self) -> impl Iterator<Item = String> {
        self.service_times.iter().map(|source| format!("service times: {source}"))
    }

    /// Adds the provenance of another report. The names of its variants and files get the prefix `name: `.
    pub fn merge(&mut self, name: &str, other: Self) {
        let named =
            |pairs: Vec<(String, String)>| pairs.into_iter().map(|(key, value)| (format!("{name}: {key}"), value));
        self.policies.extend(named(other.policies));
        if let Some(sets) = other.sets {
            self.sets.get_or_insert_default().extend(named(sets));
        }
        self.inputs.extend(named(other.inputs));
        self.service_times.extend(other.service_times.into_iter().map(|source| format!("{name}: {source}")));
    }
}

/// Collects the provenance of named runs of a scenario: policies, settings of the command line, the scenario's file and
/// all other files that were read, and the sources of the service times.
#[must_use]
pub fn of_runs<'a>(
    (source, sets): (&Source, &[Override]),
    runs: impl IntoIterator<Item = (String, &'a Scenario)>,
    files: impl IntoIterator<Item = &'a Fingerprint>,
    service_times: impl IntoIterator<Item = &'a str>,
) -> Provenance {
    let (mut named, mut built_in) = (Vec::new(), Vec::new());
    for (name, scenario) in runs {
        let settings = toml::Table::try_from(scenario.resolved()).unwrap_or_default();
        named.push((name, policies(&settings)));
        built_in.extend(built_in_profile(scenario));
    }
    let input = |print: &Fingerprint| (print.file.display().to_string(), print.sha256.clone());
    let mut read: Vec<(String, String)> = files.into_iter().map(input).collect();
    read.sort();
    read.dedup();
    let mut built_in: Vec<(String, String)> =
        built_in.into_iter().map(|print| (format!("{} (built in)", print.file.display()), print.sha256)).collect();
    built_in.sort();
    built_in.dedup();
    let mut sources: Vec<String> = service_times.into_iter().map(str::to_owned).collect();
    sources.sort();
    sources.dedup();
    let mut provenance = Provenance {
        policies: Vec::new(),
        sets: Some(sets.iter().map(|set| (set.key.clone(), set.value.to_string())).collect()),
        inputs: std::iter::once(input(&source.fingerprint())).chain(built_in).chain(read).collect(),
        service_times: sources,
    };
    provenance.add_policies(named);
    provenance
}

/// Collects the provenance of variants and their runs.
#[must_use]
pub fn of_variants(runs: &[VariantRun], source: &Source, sets: &[Override]) -> Provenance {
    let named = runs.iter().map(|run| (run.variant.clone(), &run.simulation.scenario));
    let files = runs.iter().flat_map(|run| run.simulation.files());
    let service_times = runs.iter().map(|run| run.simulation.inputs.profile.source.as_str());
    of_runs((source, sets), named, files, service_times)
}

/// Returns the versions and the seed that a report states.
#[must_use]
pub fn versions(scenario: &Scenario) -> Vec<(String, String)> {
    let versions = [
        ("modm", env!("CARGO_PKG_VERSION").to_owned()),
        ("commit", env!("MODM_COMMIT").to_owned()),
        ("seed", scenario.seed.to_string()),
    ];
    versions.map(|(name, value)| (name.to_owned(), value)).to_vec()
}

/// Returns the versions and the seed that a report on runs in real time states. `minor` is the minor version of ONNX
/// Runtime.
#[must_use]
pub fn live_versions(scenario: &Scenario, minor: u32) -> Vec<(String, String)> {
    let mut versions = versions(scenario);
    let seed = versions.len() - 1;
    versions.insert(seed, ("ONNX Runtime".to_owned(), format!("1.{minor}")));
    versions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> toml::Table {
        text.parse().expect("TOML")
    }

    #[test]
    fn policies_are_those_in_force() {
        let text = "[system]\npolicy = \"modm\"\nbounds = [[0.25, 5], [0.3, 25]]\n[models]\nlarge = \"sd3.5-large\"\n\
                    small = [\"sdxl\", \"sana\"]\n[allocation]\npolicy = \"modm\"\nmode = \"quality\"\n\
                    [cache]\neviction = { lru = {} }\nadmission = \"all\"\n";
        assert_eq!(
            policies(&settings(text)),
            "system modm; models sd3.5-large, sdxl, sana; allocation modm, quality; eviction lru; admission all; \
             bounds [[0.25, 5], [0.3, 25]]"
        );
    }

    #[test]
    fn settings_that_a_system_does_not_use_are_left_out() {
        let words = |set: &str| {
            let text = format!("name = \"a\"\n[trace]\nrequests = \"r.csv\"\n[system]\npolicy = {set}\n");
            let source = Source::new(std::path::Path::new("a.toml"), text).expect("TOML");
            let scenario = source.scenario(&[]).expect("a scenario");
            policies(&toml::Table::try_from(scenario.resolved()).expect("settings"))
        };
        assert_eq!(words("\"vanilla\""), "system vanilla; models sd3.5-large; queue oldest, in_turn");
        let pinecone = "system pinecone; models sd3.5-large; queue oldest, in_turn; eviction fifo; admission miss; \
                        bounds [[0.8, 0]]";
        assert_eq!(words("\"pinecone\""), pinecone);
        let nirvana = "system nirvana; models sd3.5-large; queue oldest, in_turn; eviction lcbfu; admission miss; \
                       bounds [[0.5, 5]]";
        assert_eq!(words("\"nirvana\"\nbounds = [[0.5, 5]]"), nirvana);
        let cascade = "system cascade; models sd3.5-large, sdxl; allocation cascade; queue oldest, in_turn";
        assert_eq!(words("\"cascade\"\n[allocation]\npolicy = \"cascade\""), cascade);
        let fixed = words("\"modm\"\n[allocation]\npolicy = \"static\"");
        assert!(fixed.starts_with("system modm; models sd3.5-large, sdxl; allocation static; queue "), "{fixed}");
    }

    #[test]
    fn a_live_report_states_the_library_before_the_seed() {
        let text = "name = \"a\"\nseed = 7\n[trace]\nrequests = \"a.csv\"\n".to_owned();
        let source = Source::new(std::path::Path::new("a.toml"), text).expect("TOML");
        let scenario = source.scenario(&[]).expect("a scenario");
        let found = live_versions(&scenario, 22);
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["modm", "commit", "ONNX Runtime", "seed"]);
        assert_eq!((found[2].1.as_str(), found[3].1.as_str()), ("1.22", "7"));
    }

    #[test]
    fn runs_with_equal_policies_share_a_line() {
        let mut provenance = Provenance::default();
        let run = |name: &str, words: &str| (name.to_owned(), words.to_owned());
        provenance
            .add_policies((0..7).map(|n| run(&format!("modm, {n}"), "system modm")).chain([run("v", "system v")]));
        let first = "modm, 0; modm, 1; modm, 2; modm, 3 and 3 more";
        assert_eq!(provenance.policies, [run(first, "system modm"), run("v", "system v")]);
    }
}
