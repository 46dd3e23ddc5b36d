//! `modm policies`: what a scenario can choose between, a line each, with what each choice is not for.

use clap::Args;

use super::BOLD;
use crate::scenario::keys;

/// Keys that choose a policy, with their headings.
const CHOICES: [(&str, &str); 8] = [
    ("Systems", "system.policy"),
    ("Allocations", "allocation.policy"),
    ("Aims of the paper's monitor", "allocation.mode"),
    ("Admissions", "cache.admission"),
    ("Evictions", "cache.eviction"),
    ("Queue orders", "queue.order"),
    ("Late requests", "queue.late"),
    ("Indexes", "retrieval.index"),
];

/// List systems, allocations, evictions, queue orders and indexes, a line each, and what each is not for
#[derive(Debug, Args)]
#[command(after_help = "\
  modm scenario explain cache.eviction           # one of the keys in full
  modm compare SCENARIO --set allocation.policy=what_if --out results/what-if
docs/policies.md and docs/evictions.md say more, with measurements.")]
pub(super) struct Policies {
    /// Print the list as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: &Policies) {
    let found = CHOICES.iter().filter_map(|(heading, name)| Some((heading, keys::find(name).ok()?)));
    if command.json {
        let json = |(_, key): (&&str, keys::Key)| {
            let values = key.choices.iter().map(|choice| (choice.value.clone(), choice.meaning.clone().into()));
            (key.name, serde_json::Value::Object(values.collect()))
        };
        out!("{:#}", serde_json::Value::Object(found.map(json).collect()));
        return;
    }
    for (place, (heading, key)) in found.enumerate() {
        let default = key.default.as_deref().unwrap_or("by the system");
        let gap = if place == 0 { "" } else { "\n" };
        out!("{gap}{BOLD}{heading}{BOLD:#}: {} (default: {default})", key.name);
        let width = key.choices.iter().map(|choice| choice.value.len()).max().unwrap_or(0);
        for choice in &key.choices {
            out!("  {:<width$}  {}", choice.value, choice.meaning);
        }
    }
}
