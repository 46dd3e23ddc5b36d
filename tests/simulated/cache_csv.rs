//! `cache.csv` through the binary: its rows add up to what `summary.json` says, for every system that keeps images, and
//! where nothing is kept there is none.

use std::collections::BTreeMap;

use crate::program::{Folder, Row};

const SCENARIO: &str = r#"
name = "cache"
seed = 7
[trace]
warm_requests = 40
[trace.synthetic]
requests = 440
arrivals = { process = "poisson", rate_per_min = 12.0 }
prompts = { topics = 30, session_requests = 6.0 }
[cluster]
gpus = [{ type = "mi210", count = 16 }]
[cache]
capacity = 50
max_age_s = 240.0
[[variant]]
name = "vanilla"
set = { "system.policy" = "vanilla" }
[[variant]]
name = "nirvana"
set = { "system.policy" = "nirvana" }
[[variant]]
name = "pinecone"
set = { "system.policy" = "pinecone" }
[[variant]]
name = "modm"
[[variant]]
name = "bytes"
set = { "cache.capacity_bytes" = 50000, "cache.image_bytes" = 1000 }
"#;

/// Rows of a table, of which there is at least one.
struct Table(Vec<Row>);

impl Table {
    fn cells(&self, column: &str) -> impl Iterator<Item = &str> {
        self.0.iter().map(move |row| row[column].as_str())
    }

    fn counts(&self, column: &str) -> Vec<u64> {
        self.cells(column).map(|cell| cell.parse().unwrap()).collect()
    }

    fn sum(&self, column: &str) -> u64 {
        self.counts(column).iter().sum()
    }

    /// Sums of the columns whose names begin like this, by the rest of the name.
    fn sums(&self, prefix: &str) -> BTreeMap<&str, u64> {
        let names = self.0[0].keys().filter_map(|name| Some((name.strip_prefix(prefix)?, name)));
        names.map(|(rest, name)| (rest, self.sum(name))).collect()
    }
}

/// Returns how many were evicted, and how many expired.
fn check(folder: &Folder, variant: &str) -> [u64; 2] {
    let table = |name: &str| Table(folder.rows(&format!("out/{variant}/{name}")));
    let (cache, requests) = (table("cache.csv"), table("requests.csv"));
    let summary = folder.json(&format!("out/{variant}/summary.json"));
    let said = |key: &str| summary["cache"][key].as_u64().unwrap();
    // What came and did not leave is there, at the end of every window.
    let [inserts, evictions, expiries, unreadable] =
        ["inserts", "evictions", "expiries", "unreadable"].map(|column| cache.counts(column));
    let mut held = 0;
    for (row, entries) in cache.counts("entries").iter().enumerate() {
        held = held + inserts[row] - evictions[row] - expiries[row] - unreadable[row];
        assert_eq!(held, *entries, "row {row}");
    }
    assert_eq!(held, said("entries_at_end"));
    for key in ["inserts", "evictions", "expiries", "near_misses"] {
        assert_eq!(cache.sum(key), said(key), "{key}");
    }
    assert_eq!(said("inserts") - said("evictions") - said("expiries"), held);
    // Every request is a search, and every hit has its steps and its age.
    let (by_steps, by_age) = (cache.sums("hits_k"), cache.sums("hits_age_"));
    let hits: u64 = by_steps.values().sum();
    assert!(hits > 0 && hits == by_age.values().sum::<u64>());
    assert_eq!((cache.sum("searches"), cache.sum("misses")), (400, 400 - hits));
    assert_eq!(by_age["600s"] + by_age["60s"], hits, "none grows older");
    for (steps, count) in by_steps {
        assert_eq!(count, summary["hits_by_skipped_steps"][steps].as_u64().unwrap_or(0), "{steps} steps");
    }
    let misses = requests.cells("decision").filter(|decision| *decision == "miss").count();
    assert_eq!(cache.sum("misses"), misses as u64);
    assert!(cache.cells("false_hits").all(str::is_empty), "a simulated run has no pictures");
    assert!(summary["cache"].get("false_hits").is_none());
    ["evictions", "expiries"].map(said)
}

#[test]
fn rows_add_up_to_the_summary() {
    let folder = Folder::new(&[("scenario.toml", SCENARIO)]);
    folder.works(&["compare", "scenario.toml", "--out", "out", "--quiet"]);
    let left = ["nirvana", "pinecone", "modm", "bytes"].map(|variant| check(&folder, variant));
    assert!(left[0][0] > 0, "Nirvana's entries leave with their last states: {left:?}");
    assert!(left[2].iter().all(|count| *count > 0) && left[3] == left[2], "by both causes: {left:?}");
    assert!(!folder.path("out/vanilla/cache.csv").exists());
    let summary = folder.read("out/vanilla/summary.json");
    assert!(!summary.contains("\"cache\""), "{summary}");
    // Where sizes are known, what is held is entries of this size; elsewhere only that nothing is.
    let known = Table(folder.rows("out/bytes/cache.csv"));
    let bytes: Vec<u64> = known.counts("entries").iter().map(|entries| entries * 1000).collect();
    assert_eq!(known.counts("bytes"), bytes);
    assert!(Table(folder.rows("out/modm/cache.csv")).cells("bytes").all(str::is_empty));
    assert!(folder.rows("out/pinecone/cache.csv")[0].contains_key("hits_k50"), "a return spares all steps");
}
