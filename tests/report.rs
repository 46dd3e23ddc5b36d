//! `modm report` through the program: a report made again is the same, results are merged, and two results are held against
//! each other. What a page does in a browser is tests/browser.

#![expect(clippy::unwrap_used, reason = "tests, and what only they call")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use assert_cmd::Command;

const SCENARIO: &str = r#"
name = "small"
[trace.synthetic]
requests = 300
arrivals = { process = "poisson", rate_per_min = 8.0 }
[trace.synthetic.prompts]
topics = 40
[cluster]
gpus = [{ type = "mi210", count = 6, usd_per_hour = 2.0 }]
[metrics]
warmup_s = 120.0
[allocation]
mode = "throughput"
[[variant]]
name = "vanilla"
set = { "system.policy" = "vanilla" }
[[variant]]
name = "modm"
"#;

fn modm(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::cargo_bin("modm").unwrap().args(arguments).current_dir(folder).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

fn results() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("scenario.toml"), SCENARIO).unwrap();
    let (code, _, err) =
        modm(folder.path(), &["compare", "scenario.toml", "--seeds", "2", "--out", "results", "--quiet"]);
    assert_eq!(code, 0, "{err}");
    folder
}

/// The report's own files.
fn report(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let own = ["report.html", "report.md", "comparison.csv"].map(|name| folder.join(name));
    let figures = fs::read_dir(folder.join("figures")).unwrap().map(|entry| entry.unwrap().path());
    own.into_iter().chain(figures).map(|path| (path.display().to_string(), fs::read(path).unwrap())).collect()
}

#[test]
fn a_report_made_again_is_the_same_byte_for_byte() {
    let folder = results();
    let place = folder.path().join("results");
    let before = report(&place);
    assert!(before.keys().any(|name| name.ends_with("workers-modm.csv")) && before.len() > 30, "{:?}", before.keys());
    fs::remove_dir_all(place.join("figures")).unwrap();
    fs::remove_file(place.join("report.html")).unwrap();
    let (code, out, err) = modm(folder.path(), &["report", "results"]);
    assert!(code == 0 && out.contains("req/min"), "{err}");
    assert!(report(&place) == before);
}

#[test]
fn results_are_merged() {
    let folder = results();
    let set = ["simulate", "scenario.toml", "--set", "allocation.policy=what_if", "--out", "ours", "--quiet"];
    assert_eq!(modm(folder.path(), &set).0, 0);
    let (code, out, err) = modm(folder.path(), &["report", "results", "ours", "--out", "both"]);
    assert_eq!(code, 0, "{err}");
    for variant in ["results: vanilla", "results: modm", "ours"] {
        assert!(out.contains(variant), "{variant} in {out}");
    }
    let table = fs::read_to_string(folder.path().join("both/comparison.csv")).unwrap();
    assert_eq!(table.lines().count(), 6, "four runs, one run, a header");
    assert_eq!(modm(folder.path(), &["report", "results", "ours"]).0, 2, "where to?");
    assert_eq!(modm(folder.path(), &["report", "results", "./results/", "--out", "twice"]).0, 2, "names clash");
}

#[test]
fn a_difference_beyond_the_bound_ends_with_3() {
    let folder = results();
    let again = ["compare", "scenario.toml", "--seeds", "2", "--out", "again", "--quiet"];
    assert_eq!(modm(folder.path(), &again).0, 0);
    let (code, out, _) = modm(folder.path(), &["report", "again", "--against", "results", "--bound", "0"]);
    assert_eq!((code, out.as_str()), (0, "no measure differs by more than 0 %\n"));
    let faster = [
        "compare",
        "scenario.toml",
        "--seeds",
        "2",
        "--set",
        "cache.capacity=30",
        "--out",
        "again",
        "--quiet",
        "--force",
    ];
    assert_eq!(modm(folder.path(), &faster).0, 0);
    let (code, out, err) = modm(folder.path(), &["report", "again", "--against", "results"]);
    assert_eq!(code, 3, "{err}");
    assert!(out.contains("hit_rate") && !out.contains("vanilla"), "{out}");
    let (code, out, _) = modm(folder.path(), &["report", "again", "--against", "results", "--json"]);
    let rows: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(code == 3 && rows.as_array().unwrap().iter().all(|row| row["variant"] == "modm"), "{rows}");
    let (code, _, err) = modm(folder.path(), &["report", "nowhere"]);
    assert!(code == 2 && err.contains("nowhere: holds no results"), "{err}");
    fs::write(folder.path().join("again/modm/seed-42/timeline.csv"), "time_s\n0\n").unwrap();
    let (code, _, err) = modm(folder.path(), &["report", "again"]);
    assert!(code == 2 && err.contains("timeline.csv: has no column \"arrivals\""), "{err}");
}
