//! Reference outcomes of docs/semantics.md, worked out by independent programs: every request and every
//! monitor tick of every case, through the binary.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::program::{self, Answer, modm, rows};

const SECOND_TOLERANCE: f64 = 1e-6;
const SIMILARITY_TOLERANCE: f64 = 1e-5;

fn cases() -> Result<Vec<PathBuf>> {
    let folder = program::root().join("tests/golden");
    let mut cases = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.join("case.json").exists() {
            cases.push(path);
        }
    }
    cases.sort();
    ensure!(cases.len() >= 14, "the cases are there");
    Ok(cases)
}

/// The scenario of a case, with its profile beside it.
fn write_scenario(case: &Path, parameters: &Value, folder: &Path) -> Result<PathBuf> {
    let own = case.join("requests.csv").exists();
    let input = if own { case.to_owned() } else { case.with_file_name("workload") };
    let service = |model: &str| {
        let times = &parameters[model];
        json!({ "gpu": "gpu", "model": model, "step_s": times["step_s"], "overhead_s": times["overhead_s"],
                "load_s": times["load_s"] })
    };
    let profile = json!({ "source": "golden", "service": [service("large"), service("small")] });
    fs::write(folder.join("profile.toml"), toml::to_string(&profile)?)?;
    let mut scenario = json!({
        "name": "golden",
        "trace": {
            "requests": input.join("requests.csv"),
            "prompt_embeddings": input.join("prompt_embeddings.npy"),
            "image_embeddings": input.join("image_embeddings.npy"),
        },
        "cluster": { "gpus": [{ "type": "gpu", "count": parameters["gpus"] }] },
        "models": { "profile": "profile.toml", "large": "large", "small": ["small"], "steps": parameters["steps"] },
        "system": { "policy": parameters["policy"] },
        "retrieval": { "latency_s": parameters["retrieval_s"] },
        "cache": { "capacity": parameters["cache_capacity"] },
        "allocation": { "initial_large": parameters["initial_large"] },
    });
    let warm = input.join("warm_images.npy");
    if warm.exists() {
        scenario["trace"]["warm_images"] = json!(warm);
    }
    if let Some(table) = parameters.get("k_table") {
        scenario["system"]["bounds"] = table.clone();
    }
    if let Some(admission) = parameters.get("admission") {
        scenario["cache"]["admission"] = admission.clone();
    }
    if let Some(monitor) = parameters.get("monitor") {
        for key in ["mode", "period_s", "headroom"] {
            scenario["allocation"][key] = monitor[key].clone();
        }
        let off = monitor["pid"].is_null();
        scenario["allocation"]["pid"] = if off { json!("off") } else { monitor["pid"].clone() };
    }
    let file = folder.join("scenario.toml");
    fs::write(&file, toml::to_string(&scenario)?)?;
    Ok(file)
}

/// Compares the columns of the expected rows; numbers of these columns within a tolerance.
fn compare(file: &str, expected: &Path, found: &Path, tolerances: &[(&str, f64)]) -> Result<()> {
    let (expected, found) = (rows(expected), rows(found));
    ensure!(expected.len() == found.len(), "{file}: {} rows, expected {}", found.len(), expected.len());
    for (index, (expected, found)) in expected.iter().zip(&found).enumerate() {
        for (column, wanted) in expected {
            let got = found.get(column).context(column.clone())?;
            let tolerance = tolerances.iter().find(|(name, _)| name == column).map(|(_, tolerance)| *tolerance);
            let equal = match (tolerance, wanted.parse::<f64>(), got.parse::<f64>()) {
                (Some(tolerance), Ok(wanted), Ok(got)) => (wanted - got).abs() <= tolerance,
                _ => wanted == got,
            };
            ensure!(equal, "{file} row {index}: {column} is {got:?}, expected {wanted:?}");
        }
    }
    Ok(())
}

fn check(case: &Path) -> Result<()> {
    let parameters = program::json(&case.join("case.json"));
    let folder = tempfile::tempdir()?;
    let scenario = write_scenario(case, &parameters, folder.path())?;
    let out = folder.path().join("out");
    Answer::to(modm(&["simulate"]).arg(scenario).arg("--out").arg(&out)).succeeded();
    let requests =
        [("start_s", SECOND_TOLERANCE), ("finish_s", SECOND_TOLERANCE), ("similarity", SIMILARITY_TOLERANCE)];
    compare("requests.csv", &case.join("expected_requests.csv"), &out.join("requests.csv"), &requests)?;
    let ticks = [("time_s", SECOND_TOLERANCE), ("controller_state", 1e-6)];
    compare("allocation.csv", &case.join("expected_allocation.csv"), &out.join("allocation.csv"), &ticks)
}

#[test]
fn every_request_and_tick_of_every_case_agrees() -> Result<()> {
    for case in cases()? {
        check(&case).with_context(|| case.display().to_string())?;
    }
    Ok(())
}
