//! `modm validate` through the program, on the models of shapes: fed with its own durations a live run is repeated,
//! predictions are told apart, and what is refused.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::onnxruntime;
use crate::program::{self, Answer, Row, modm};

fn validate(out: &Path, more: &[&str]) -> Answer {
    onnxruntime::library();
    let mut command = modm(&["validate", "scenarios/fidelity.toml", "--jobs", "2", "--rounds", "1", "--out"]);
    command
        .arg(out)
        .args(["--set", "trace.synthetic.requests=40", "--set", "models.steps=26", "--set", "allocation.period_s=1"])
        .args(["--set", "system.bounds=[[0.80, 10], [0.90, 20]]"])
        .args(more);
    Answer::to(&mut command)
}

/// Facts that hold on any machine, however fast and however busy.
fn check(rows: &[Row], runs: usize) {
    let number = |row: &Row, column: &str| -> f64 { row[column].parse().unwrap() };
    let levels: BTreeSet<&str> = rows.iter().map(|row| row["level"].as_str()).collect();
    assert_eq!(levels, BTreeSet::from(["measured", "profile", "rescaled"]));
    let of = |level: &str, measure: &str| -> Vec<&Row> {
        rows.iter().filter(|row| row["level"] == level && row["measure"] == measure).collect()
    };
    for measure in ["same_decision", "same_source", "same_worker", "same_latency"] {
        let same = of("measured", measure);
        assert_eq!(same.len(), runs);
        assert!(same.iter().all(|row| row["simulated"] == "1.000000000"), "{measure}: {same:?}");
    }
    for row in rows.iter().filter(|row| row["level"] == "measured") {
        assert!(number(row, "error").abs() < 1e-9, "fed with its durations, a run is repeated: {row:?}");
        assert!(row["per_percent"].is_empty() && row["spread"].is_empty());
    }
    for measure in ["latency_mean", "service_per_request", "throughput", "busy_share", "hit_rate", "slo_2x"] {
        let predicted = of("profile", measure);
        assert_eq!(predicted.len(), runs, "{measure}");
        for row in predicted {
            let (live, simulated) = (number(row, "live"), number(row, "simulated"));
            let expected = match row["unit"].as_str() {
                "share" => (simulated - live) * 100.0,
                _ => (simulated - live) / live,
            };
            assert!((number(row, "error") - expected).abs() < 1e-6, "{row:?}");
            assert!(!row["per_percent"].is_empty(), "{row:?}");
        }
    }
    for row in of("rescaled", "service_per_request") {
        assert!((0.01..100.0).contains(&number(row, "factor")), "{row:?}");
    }
}

#[test]
fn a_validation_compares_live_runs_with_simulations_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let said = validate(&out, &["--loads", "0.5,0.8", "--draws", "4"]).succeeded().out;
    assert!(said.contains("At 50 % load") && said.contains("At 80 % load"), "{said}");
    assert!(said.contains("100.0 % of the decisions"), "{said}");
    let rows = program::rows(&out.join("validation.csv"));
    check(&rows, 2);
    let loads: BTreeSet<&str> = rows.iter().map(|row| row["load"].as_str()).collect();
    assert_eq!(loads, BTreeSet::from(["0.5", "0.8"]));
    let run = out.join("load-0.5/seed-42");
    for file in [
        "profile.toml",
        "report.html",
        "report.md",
        "run.json",
        "figures/latency-0.5.svg",
        "load-0.5/seed-42/profile.toml",
        "load-0.5/seed-42/live/journal.jsonl.gz",
        "load-0.5/seed-42/live/trace/warm_images.npy",
        "load-0.5/seed-42/measured/requests.csv",
        "load-0.5/seed-42/predicted/requests.csv",
    ] {
        assert!(out.join(file).is_file(), "{file}");
    }
    assert!(!run.join("warm").exists(), "the copy of the rehearsal's pictures is gone");
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    let (content, _) = page.split_once("<script>").unwrap();
    assert!(!content.contains("NaN") && content.contains("validation.csv"));
    for said in
        ["<nav aria-label=\"Contents\">", "system ", "Settings of the command line", "SHA-256 ", "Service times"]
    {
        assert!(content.contains(said), "{said}");
    }
    // Latencies are equal to the nanosecond, so the files have the same digits.
    let column = |folder: &str| -> Vec<String> {
        let requests = program::rows(&run.join(folder).join("requests.csv"));
        requests.iter().map(|row| row["latency_s"].clone()).collect()
    };
    assert_eq!(column("live"), column("measured"));
    assert_eq!(validate(&out, &[]).code, 2, "an earlier validation is kept");
}

#[test]
fn the_trace_as_it_is_is_validated_on_several_seeds() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let printed = validate(&out, &["--seeds", "2", "--draws", "2", "--json", "--quiet"]).succeeded().json();
    assert_eq!(printed.as_array().unwrap().len(), 6, "two runs at three levels");
    let rows = program::rows(&out.join("validation.csv"));
    check(&rows, 2);
    assert!(rows.iter().all(|row| row["load"].is_empty()));
    let seeds: BTreeSet<&str> = rows.iter().map(|row| row["seed"].as_str()).collect();
    assert_eq!(seeds, BTreeSet::from(["42", "43"]));
}

#[test]
fn what_cannot_be_validated_is_refused_before_anything_is_written() {
    for (more, words) in [
        (["--loads", "0.6,0"], "--loads = 0: expected shares of the workers' time"),
        (["--loads", "inf"], "--loads = inf"),
        (["--set", "live.store=somewhere"], "live.store"),
        (["--set", "system.policy=nirvana"], "system.policy"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let Answer { code, err: said, .. } = validate(&out, &more);
        assert_eq!(code, 2, "{more:?}: {said}");
        assert!(said.contains(words), "{more:?}: {said}");
        assert!(!out.exists());
    }
}
