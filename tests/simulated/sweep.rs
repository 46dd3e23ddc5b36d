//! `modm sweep` through the binary: each combination is the single run, byte for byte; it goes on where it was
//! stopped; shards put together are the whole, and parts that do not fit are refused by name; what is wrong is said
//! before anything is written.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::program::{Answer, Folder, modm};

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

/// Returns the content of every file in a folder.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    found
}

/// Checks that a sweep ends with exit code 2, says `messages` and writes nothing. Returns what it said.
fn refused(folder: &Folder, out: &str, arguments: &[&str], messages: &[&str]) -> String {
    let before = files(&folder.path("."));
    let Answer { code, err, .. } = run(folder, "sweep", out, &[&VARY, arguments].concat());
    assert_eq!(code, 2, "{err}");
    for message in messages {
        assert!(err.contains(message), "{message:?} is not in: {err}");
    }
    assert!(files(&folder.path(".")) == before, "{arguments:?} wrote something");
    err
}

/// Changes a JSON file as a sweep of another build would have written it.
fn set_build(file: &Path, version: &str, commit: &str) {
    let mut content = crate::program::json(file);
    content["modm"] = json!(version);
    content["commit"] = json!(commit);
    fs::write(file, content.to_string()).unwrap();
}

/// Returns the build of the program, as messages name it.
fn this_build(folder: &Folder, part: &str) -> String {
    let run = folder.json(&format!("{part}/run.json"));
    format!("modm {} (commit {})", run["modm"].as_str().unwrap(), run["commit"].as_str().unwrap())
}

const PARTS: [&str; 6] = [
    "00000_capacity=20_eviction=fifo",
    "00001_capacity=20_eviction=lru",
    "00002_capacity=20_eviction=random",
    "00003_capacity=100_eviction=fifo",
    "00004_capacity=100_eviction=lru",
    "00005_capacity=100_eviction=random",
];

#[test]
fn a_sweep_goes_on_where_it_was_stopped() {
    let folder = folder();
    sweep(&folder, "out", &[]);
    let table = fs::read(folder.path("out/sweep.csv")).unwrap();
    let [kept, lost] = [PARTS[0], PARTS[1]].map(|name| folder.path("out").join(name).join("run.json"));
    // A killed run leaves no run.json.
    fs::remove_file(&lost).unwrap();
    let before = fs::metadata(&kept).unwrap().modified().unwrap();
    let said = sweep(&folder, "out", &[]);
    assert!(said.contains("5 of 6 combinations have run already"), "{said}");
    assert_eq!(fs::read(folder.path("out/sweep.csv")).unwrap(), table);
    assert_eq!(fs::metadata(&kept).unwrap().modified().unwrap(), before, "what had run was left alone");
    assert!(lost.exists());
}

#[test]
fn what_others_have_run_is_named_before_it_is_run_again() {
    let folder = folder();
    sweep(&folder, "out", &[]);
    let table = fs::read(folder.path("out/sweep.csv")).unwrap();
    let [lost, older, changed] = [PARTS[1], PARTS[2], PARTS[4]].map(|name| folder.path("out").join(name));
    fs::remove_file(lost.join("run.json")).unwrap();
    set_build(&older.join("run.json"), "0.0.9", "0123456789ab");
    let settings = fs::read_to_string(changed.join("scenario.toml")).unwrap();
    fs::write(changed.join("scenario.toml"), settings.replace("seed = 7", "seed = 8")).unwrap();
    let build = this_build(&folder, &format!("out/{}", PARTS[0]));
    let of_older = format!("{}: was made by modm 0.0.9 (commit 0123456789ab), and this is {build}\n", PARTS[2]);
    let of_changed = format!("{}: has `seed = 8` in its scenario.toml, where `seed = 7` is expected\n", PARTS[4]);
    let all = ["out: --out: 2 of 6 combinations have run, but not with this build", &of_older, &of_changed, "--force"];
    let said = refused(&folder, "out", &[], &all);
    assert!(!said.contains(PARTS[1]), "an unfinished run is no hindrance: {said}");
    let said = refused(&folder, "out", &["--shard", "3/3"], &["1 of 2 combinations", &of_older]);
    assert!(!said.contains(PARTS[4]), "another shard's part is no hindrance: {said}");
    let said = sweep(&folder, "out", &["--force"]);
    assert!(said.contains("3 of 6 combinations have run already"), "{said}");
    assert_eq!(fs::read(folder.path("out/sweep.csv")).unwrap(), table);
    assert_eq!(fs::read_to_string(changed.join("scenario.toml")).unwrap(), settings);
}

#[test]
fn shards_of_two_builds_do_not_mix() {
    let folder = folder();
    sweep(&folder, "out", &["--shard", "1/3"]);
    // As another build would have left it, in the first shard's parts and in the description.
    set_build(&folder.path("out/sweep.json"), "0.1.0", "before");
    for part in [PARTS[0], PARTS[3]] {
        set_build(&folder.path("out").join(part).join("run.json"), "0.1.0", "before");
    }
    let begun = "out: --out: holds a sweep that was begun by modm 0.1.0 (commit before), and this is modm ";
    refused(&folder, "out", &["--shard", "2/3"], &[begun, "--force"]);
    sweep(&folder, "out", &["--shard", "2/3", "--force"]);
    sweep(&folder, "out", &["--shard", "3/3"]);
    let build = this_build(&folder, &format!("out/{}", PARTS[1]));
    let named =
        |part: &str| format!("{part} (shard 1 of 3): was made by modm 0.1.0 (commit before), and this is {build}\n");
    let way_out = "the same command with --shard 1/3 and --force in place of --merge";
    let all = ["--merge: 2 of 6 combinations cannot be merged", &named(PARTS[0]), &named(PARTS[3]), way_out];
    refused(&folder, "out", &["--merge"], &all);
    sweep(&folder, "out", &["--shard", "1/3", "--force"]);
    sweep(&folder, "out", &["--merge"]);
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
    let said = sweep(&folder, "shards", &["--merge"]);
    assert!(said.contains("report: ") && !said.contains("have run already"), "{said}");
    assert_eq!(fs::read(folder.path("shards/sweep.csv")).unwrap(), fs::read(folder.path("whole/sweep.csv")).unwrap());
    assert!(folder.path("shards/report.html").exists());
    // The command without --merge finds nothing left to run.
    let said = sweep(&folder, "shards", &[]);
    assert!(said.contains("6 of 6 combinations have run already"), "{said}");
}

#[test]
fn folders_of_shards_may_be_copied_into_one() {
    let folder = folder();
    sweep(&folder, "whole", &[]);
    for shard in ["1/2", "2/2"] {
        let out = format!("machine-{}", &shard[..1]);
        sweep(&folder, &out, &["--shard", shard]);
        crate::program::copy(&folder.path(&out), &folder.path("all"));
    }
    sweep(&folder, "all", &["--merge"]);
    assert_eq!(fs::read(folder.path("all/sweep.csv")).unwrap(), fs::read(folder.path("whole/sweep.csv")).unwrap());
}

#[test]
fn a_shard_without_a_combination_is_an_empty_table() {
    let folder = folder();
    sweep(&folder, "out", &["--shard", "7/7"]);
    let table = folder.read("out/sweep-7-of-7.csv");
    assert_eq!(table.lines().count(), 1, "{table}");
    assert!(table.starts_with("cache.capacity,cache.eviction,"), "{table}");
    for shard in 1..7 {
        sweep(&folder, "out", &["--shard", &format!("{shard}/7")]);
    }
    sweep(&folder, "out", &["--merge"]);
    assert_eq!(folder.rows("out/sweep.csv").len(), 6);
}

#[test]
fn a_merge_names_what_is_missing_and_runs_nothing() {
    let folder = folder();
    let message =
        "none: --merge: 6 of 6 combinations cannot be merged:\n  00000_capacity=20_eviction=fifo: is missing\n";
    refused(
        &folder,
        "none",
        &["--merge"],
        &[message, "the same command with --shard I/N in place of --merge, or without --shard"],
    );
    for shard in ["1/3", "3/3"] {
        sweep(&folder, "out", &["--shard", shard]);
    }
    fs::remove_file(folder.path("out").join(PARTS[3]).join("run.json")).unwrap();
    let messages = [
        "out: --merge: 3 of 6 combinations cannot be merged",
        "  00001_capacity=20_eviction=lru (shard 2 of 3): is missing\n",
        "  00003_capacity=100_eviction=fifo (shard 1 of 3): is unfinished: ",
        "  00004_capacity=100_eviction=lru (shard 2 of 3): is missing\n",
        "the same command with --shard I/3 in place of --merge, for I = 1,2",
    ];
    let said = refused(&folder, "out", &["--merge"], &messages);
    assert!(!said.contains(PARTS[0]) && !said.contains(PARTS[2]), "what is whole is not named: {said}");
    for shard in ["1/3", "2/3"] {
        sweep(&folder, "out", &["--shard", shard]);
    }
    sweep(&folder, "out", &["--merge"]);
    refused(&folder, "out", &["--merge", "--shard", "1/3"], &["'--merge' cannot be used with '--shard <I/N>'"]);
    refused(&folder, "out", &["--merge", "--force"], &["'--merge' cannot be used with '--force'"]);
}

/// Makes a folder whose scenario replays the requests of a file.
fn folder_with_trace() -> Folder {
    let folder = folder();
    folder.works(&["trace", "generate", "--from", "scenario.toml", "--out", "trace"]);
    let begin = SCENARIO.find("[trace.synthetic]").unwrap();
    let end = SCENARIO.find("[cluster]").unwrap();
    let trace = "[trace]\nrequests = \"trace/requests.csv\"\n";
    folder.write("scenario.toml", format!("{}{trace}{}", &SCENARIO[..begin], &SCENARIO[end..]));
    folder
}

#[test]
fn a_merge_names_parts_of_other_inputs() {
    let folder = folder_with_trace();
    let requests = folder.read("trace/requests.csv");
    sweep(&folder, "out", &["--shard", "1/2"]);
    // The last request comes no more.
    let shorter = requests.trim_end().rsplit_once('\n').unwrap().0;
    folder.write("trace/requests.csv", format!("{shorter}\n"));
    sweep(&folder, "out", &["--shard", "2/2"]);
    let hash = |part: &str| {
        let inputs = folder.json(&format!("out/{part}/run.json"))["inputs"].clone();
        let file = |name: &str| name.ends_with("requests.csv");
        let mut inputs = inputs.as_array().unwrap().iter();
        let input = inputs.find(|input| file(input["file"].as_str().unwrap())).unwrap();
        input["sha256"].as_str().unwrap()[..12].to_owned()
    };
    let (old, new) = (hash(PARTS[0]), hash(PARTS[1]));
    let changed = format!("requests.csv of SHA-256 {old}..., and the file has {new}... now\n");
    let named = [PARTS[0], PARTS[2], PARTS[4]].map(|part| format!("{part} (shard 1 of 2): was made from "));
    let said = refused(&folder, "out", &["--merge"], &[&named[0], &named[1], &named[2], &changed]);
    assert!(said.contains("3 of 6") && !said.contains(PARTS[1]), "{said}");
    refused(&folder, "out", &[], &["3 of 6 combinations have run, but not with this build", &changed]);
    sweep(&folder, "out", &["--shard", "1/2", "--force"]);
    sweep(&folder, "out", &["--merge"]);
    // Another scenario is another sweep.
    folder.write("scenario.toml", folder.read("scenario.toml").replace("seed = 7", "seed = 8"));
    refused(&folder, "out", &["--merge"], &["out: --out: holds another sweep, of other keys, values or scenario"]);
}

#[test]
fn gnu_parallel_runs_all_shards_at_once() {
    let folder = folder_with_trace();
    let home = folder.argument("home");
    fs::create_dir(&home).unwrap();
    let parallel = || {
        let mut command = Command::new("parallel");
        // Its files of state belong into no user's home.
        command.current_dir(folder.path(".")).env("HOME", &home).env("PARALLEL_HOME", &home);
        command
    };
    let version = parallel().arg("--version").output();
    assert!(
        version.is_ok_and(|output| output.stdout.starts_with(b"GNU parallel")),
        "this test needs GNU parallel: install it, e.g. sudo apt-get install parallel, or scripts/packages \"The test \
         of shards\" parallel"
    );
    // Each shard searches the trace by itself and stores the search beside the requests. The seventh is empty.
    let program = modm(&[]).get_program().to_str().unwrap().to_owned();
    let shard = [program.as_str(), "sweep", "scenario.toml", "--out", "shards", "--search", "ahead", "--threads", "1"];
    let mut command = parallel();
    command.args(["--will-cite", "--jobs", "7", "--halt", "soon,fail=1", "--quote"]);
    command.args([&shard[..], &VARY, &["--shard", "{}/7", ":::"]].concat());
    command.args(["1", "2", "3", "4", "5", "6", "7"]);
    Answer::to(&mut command).succeeded();
    sweep(&folder, "shards", &["--merge"]);
    let halves = |folder: PathBuf| {
        files(&folder).into_keys().filter(|file| file.extension().is_some_and(|end| end == "partial")).count()
    };
    assert_eq!((halves(folder.path("shards")), halves(folder.path("trace"))), (0, 0), "nothing half written stays");
    sweep(&folder, "whole", &["--search", "direct"]);
    assert!(fs::read(folder.path("shards/sweep.csv")).unwrap() == fs::read(folder.path("whole/sweep.csv")).unwrap());
    for part in PARTS {
        assert_same_run(&folder.path("shards").join(part), &folder.path("whole").join(part));
    }
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
