//! `modm sweep` through the binary: each combination is the single run, byte for byte; it goes on where it was
//! stopped; shards put together are the whole; what is wrong is said before anything is written.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

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

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("scenario.toml"), SCENARIO).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn modm(&self, command: &str, out: &str, arguments: &[&str]) -> Output {
        let mut program = Command::new(env!("CARGO_BIN_EXE_modm"));
        program.current_dir(&self.0).args([command, "scenario.toml", "--out", out]).args(arguments).output().unwrap()
    }

    fn sweep(&self, out: &str, arguments: &[&str]) -> String {
        let run = self.modm("sweep", out, &[&VARY, arguments].concat());
        let error = String::from_utf8(run.stderr).unwrap();
        assert!(run.status.success(), "{error}");
        error
    }

    fn rows(&self, table: &str) -> Vec<BTreeMap<String, String>> {
        let mut reader = csv::Reader::from_path(self.path(table)).unwrap();
        let header: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
        let records: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>().unwrap();
        records.iter().map(|record| header.iter().cloned().zip(record.iter().map(str::to_owned)).collect()).collect()
    }
}

fn assert_same_run(one: &Path, other: &Path) {
    for file in FILES {
        assert!(fs::read(one.join(file)).unwrap() == fs::read(other.join(file)).unwrap(), "{}: {file}", one.display());
    }
}

#[test]
fn each_combination_is_the_single_run() {
    let folder = Folder::new();
    // Searched once for all; each alone searches for itself.
    folder.sweep("out", &["--threads", "2", "--search", "ahead"]);
    let rows = folder.rows("out/sweep.csv");
    assert_eq!(rows.len(), 6);
    let mut hit_rates = Vec::new();
    for row in &rows {
        let capacity = format!("cache.capacity={}", row["cache.capacity"]);
        let eviction = format!("cache.eviction={}", row["cache.eviction"]);
        let out = format!("single-{}", row["folder"]);
        let single = folder.modm(
            "simulate",
            &out,
            &["--quiet", "--no-range", "--search", "direct", "--set", &capacity, "--set", &eviction],
        );
        assert!(single.status.success());
        assert_same_run(&folder.path("out").join(&row["folder"]), &folder.path(&out));
        let summary: serde_json::Value =
            serde_json::from_slice(&fs::read(folder.path(&out).join("summary.json")).unwrap()).unwrap();
        assert_eq!(summary["hit_rate"].as_f64(), row["hit_rate"].parse().ok(), "{row:?}");
        hit_rates.push(row["hit_rate"].clone());
    }
    hit_rates.sort();
    hit_rates.dedup();
    assert!(hit_rates.len() > 2, "the combinations do differ: {hit_rates:?}");
}

#[test]
fn a_sweep_goes_on_where_it_was_stopped() {
    let folder = Folder::new();
    folder.sweep("out", &[]);
    let table = fs::read(folder.path("out/sweep.csv")).unwrap();
    let rows = folder.rows("out/sweep.csv");
    let [lost, changed] = [&rows[1]["folder"], &rows[4]["folder"]].map(|name| folder.path("out").join(name));
    // As a killed run leaves it, and as another input would.
    fs::remove_file(lost.join("run.json")).unwrap();
    let settings = fs::read_to_string(changed.join("scenario.toml")).unwrap();
    fs::write(changed.join("scenario.toml"), settings.replace("seed = 7", "seed = 8")).unwrap();
    let kept = folder.path("out").join(&rows[0]["folder"]).join("run.json");
    let before = fs::metadata(&kept).unwrap().modified().unwrap();
    let said = folder.sweep("out", &[]);
    assert!(said.contains("4 of 6 combinations have run already"), "{said}");
    assert_eq!(fs::read(folder.path("out/sweep.csv")).unwrap(), table);
    assert_eq!(fs::metadata(&kept).unwrap().modified().unwrap(), before, "what had run was left alone");
    assert_eq!(fs::read_to_string(changed.join("scenario.toml")).unwrap(), settings);
}

#[test]
fn shards_put_together_are_the_whole() {
    let folder = Folder::new();
    folder.sweep("whole", &[]);
    for shard in ["2/3", "1/3", "3/3"] {
        folder.sweep("shards", &["--shard", shard]);
    }
    assert_eq!(folder.rows("shards/sweep-1-of-3.csv").len(), 2);
    assert!(!folder.path("shards/sweep.csv").exists());
    let said = folder.sweep("shards", &[]);
    assert!(said.contains("6 of 6 combinations have run already"), "{said}");
    assert_eq!(fs::read(folder.path("shards/sweep.csv")).unwrap(), fs::read(folder.path("whole/sweep.csv")).unwrap());
}

#[test]
fn varied_traces_and_systems_are_each_their_own() {
    let folder = Folder::new();
    let vary =
        ["--vary", "seed=1,2", "--vary", "system.policy=vanilla,modm", "--vary", "trace.synthetic.requests=50,60"];
    let run = folder.modm("sweep", "out", &[&vary[..], &["--json"]].concat());
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let printed: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
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
    let folder = Folder::new();
    let refused = |arguments: &[&str], message: &str| {
        let run = folder.modm("sweep", "none", arguments);
        let error = String::from_utf8(run.stderr).unwrap();
        assert_eq!(run.status.code(), Some(2), "{error}");
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
    folder.sweep("out", &[]);
    let other = folder.modm("sweep", "out", &["--vary", "cache.capacity=30"]);
    assert_eq!(other.status.code(), Some(2));
    assert!(String::from_utf8(other.stderr).unwrap().contains("holds another sweep"));
    assert!(folder.modm("sweep", "out", &["--vary", "cache.capacity=30", "--force"]).status.success());
}
