//! `modm sweep` through the binary: each combination is the single run, byte for byte; it goes on where it was
//! stopped; shards put together are the whole; what is wrong is said before anything is written.

use std::fs;
use std::path::Path;

use crate::program::{Answer, Folder};

const SCENARIO: &str = r#"
name = "sweep"
seed = 7
[trace.synthetic]
requests = 200
arrivals = { process = "poisson", rate_per_min = 12.0 }
prompts = { topics = 30, session_requests = 6.0 }
[cluster]
gpus = [{ type = "mi210", count = 4 }]
"#;

const VARY: [&str; 4] = ["--vary", "cache.capacity=20,100", "--vary", "cache.eviction=fifo,lru,random"];

/// Files that a run writes and that depend on nothing but its inputs.
const FILES: [&str; 8] = [
    "scenario.toml",
    "requests.csv",
    "allocation.csv",
    "workers.csv",
    "absences.csv",
    "timeline.csv",
    "cache.csv",
    "summary.json",
];

fn folder() -> Folder {
    Folder::new(&[("scenario.toml", SCENARIO)])
}

/// Runs a command over the scenario of a folder.
fn run(folder: &Folder, command: &str, out: &str, arguments: &[&str]) -> Answer {
    folder.run(&[&[command, "scenario.toml", "--out", out], arguments].concat())
}

/// Runs a sweep that works; returns what it said.
fn sweep(folder: &Folder, out: &str, arguments: &[&str]) -> String {
    run(folder, "sweep", out, &[&VARY, arguments].concat()).succeeded().err
}

fn assert_same_run(one: &Path, other: &Path) {
    for file in FILES {
        assert!(fs::read(one.join(file)).unwrap() == fs::read(other.join(file)).unwrap(), "{}: {file}", one.display());
    }
}

#[test]
fn each_combination_is_the_single_run() {
    let folder = folder();
    // Searched once for all; each alone searches for itself.
    sweep(&folder, "out", &["--threads", "2", "--search", "ahead"]);
    let rows = folder.rows("out/sweep.csv");
    assert_eq!(rows.len(), 6);
    let mut hit_rates = Vec::new();
    for row in &rows {
        let capacity = format!("cache.capacity={}", row["cache.capacity"]);
        let eviction = format!("cache.eviction={}", row["cache.eviction"]);
        let out = format!("single-{}", row["folder"]);
        let single = run(
            &folder,
            "simulate",
            &out,
            &["--quiet", "--no-range", "--search", "direct", "--set", &capacity, "--set", &eviction],
        );
        assert_eq!(single.code, 0);
        assert_same_run(&folder.path("out").join(&row["folder"]), &folder.path(&out));
        let summary = folder.json(&format!("{out}/summary.json"));
        assert_eq!(summary["hit_rate"].as_f64(), row["hit_rate"].parse().ok(), "{row:?}");
        hit_rates.push(row["hit_rate"].clone());
    }
    hit_rates.sort();
    hit_rates.dedup();
    assert!(hit_rates.len() > 2, "the combinations do differ: {hit_rates:?}");
}

#[test]
fn a_sweep_goes_on_where_it_was_stopped() {
    let folder = folder();
    sweep(&folder, "out", &[]);
    let table = fs::read(folder.path("out/sweep.csv")).unwrap();
    let rows = folder.rows("out/sweep.csv");
    let [lost, changed] = [&rows[1]["folder"], &rows[4]["folder"]].map(|name| folder.path("out").join(name));
    // As a killed run leaves it, and as another input would.
    fs::remove_file(lost.join("run.json")).unwrap();
    let settings = fs::read_to_string(changed.join("scenario.toml")).unwrap();
    fs::write(changed.join("scenario.toml"), settings.replace("seed = 7", "seed = 8")).unwrap();
    let kept = folder.path("out").join(&rows[0]["folder"]).join("run.json");
    let before = fs::metadata(&kept).unwrap().modified().unwrap();
    let said = sweep(&folder, "out", &[]);
    assert!(said.contains("4 of 6 combinations have run already"), "{said}");
    assert_eq!(fs::read(folder.path("out/sweep.csv")).unwrap(), table);
    assert_eq!(fs::metadata(&kept).unwrap().modified().unwrap(), before, "what had run was left alone");
    assert_eq!(fs::read_to_string(changed.join("scenario.toml")).unwrap(), settings);
}

#[test]
fn shards_put_together_are_the_whole() {
    let folder = folder();
    sweep(&folder, "whole", &[]);
    for shard in ["2/3", "1/3", "3/3"] {
        sweep(&folder, "shards", &["--shard", shard]);
    }
    assert_eq!(folder.rows("shards/sweep-1-of-3.csv").len(), 2);
    assert!(!folder.path("shards/sweep.csv").exists());
    let said = sweep(&folder, "shards", &[]);
    assert!(said.contains("6 of 6 combinations have run already"), "{said}");
    assert_eq!(fs::read(folder.path("shards/sweep.csv")).unwrap(), fs::read(folder.path("whole/sweep.csv")).unwrap());
}

#[test]
fn a_shard_without_a_combination_is_an_empty_table() {
    let folder = folder();
    sweep(&folder, "out", &["--shard", "7/7"]);
    let table = folder.read("out/sweep-7-of-7.csv");
    assert_eq!(table.lines().count(), 1, "{table}");
    assert!(table.starts_with("cache.capacity,cache.eviction,"), "{table}");
}

#[test]
fn varied_traces_and_systems_are_each_their_own() {
    let folder = folder();
    let vary =
        ["--vary", "seed=1,2", "--vary", "system.policy=vanilla,modm", "--vary", "trace.synthetic.requests=50,60"];
    let printed = run(&folder, "sweep", "out", &[&vary[..], &["--json"]].concat()).succeeded().json();
    assert_eq!(printed.as_array().unwrap().len(), 8);
    let rows = folder.rows("out/sweep.csv");
    assert_eq!(rows.len(), 8);
    for (row, printed) in rows.iter().zip(printed.as_array().unwrap()) {
        assert_eq!(printed["values"]["seed"], row["seed"]);
        assert_eq!(row["requests"], row["trace.synthetic.requests"]);
        assert_eq!(row["cache.inserts"].is_empty(), row["system.policy"] == "vanilla", "{row:?}");
    }
}

#[test]
fn what_is_wrong_is_said_before_anything_is_written() {
    let folder = folder();
    let refused = |arguments: &[&str], message: &str| {
        let Answer { code, err: error, .. } = run(&folder, "sweep", "none", arguments);
        assert_eq!(code, 2, "{error}");
        assert!(error.contains(message), "{error}");
        assert!(!folder.path("none").exists(), "{arguments:?} wrote something");
    };
    refused(&["--vary", "variant=nix"], "--vary = variant=nix: expected some of ");
    refused(&["--vary", "cache.capacity"], "--vary = cache.capacity: expected KEY=V1,V2,...");
    refused(&["--vary", "cache.capacity=5,5"], "expected each value once: 5 stands there twice");
    refused(&["--vary", "cache.capacity=5,0"], "--vary: cache.capacity = 0: expected at least 1");
    refused(&["--vary", "cache.capacitty=5"], "--vary: cache.capacitty = 5: is not a key here");
    refused(&["--vary", "seed=1", "--vary", "seed=2"], "expected each key once");
    refused(&["--vary", "models.profile=none.toml"], "none.toml: cannot be read");
    refused(&["--vary", "seed=1", "--shard", "3/2"], "expected I/N, shard I of N, from 1/N to N/N");
    refused(&[], "--vary <KEY=V1,V2>");
    // A folder that holds another sweep.
    sweep(&folder, "out", &[]);
    let other = run(&folder, "sweep", "out", &["--vary", "cache.capacity=30"]);
    assert_eq!(other.code, 2);
    assert!(other.err.contains("holds another sweep"));
    assert_eq!(run(&folder, "sweep", "out", &["--vary", "cache.capacity=30", "--force"]).code, 0);
}
