//! Reference outcomes of docs/semantics.md, worked out by independent programs: every request and every
//! monitor tick of every case, through the binary.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const SECOND_TOLERANCE: f64 = 1e-6;
const SIMILARITY_TOLERANCE: f64 = 1e-5;

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut cases: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("case.json").exists())
        .collect();
    cases.sort();
    assert!(cases.len() >= 14, "the cases are there");
    cases
}

/// The scenario of a case, with its profile beside it.
fn write_scenario(case: &Path, parameters: &Value, folder: &Path) -> PathBuf {
    let own = case.join("requests.csv").exists();
    let input = if own { case.to_owned() } else { case.with_file_name("workload") };
    let mut profile = "source = \"golden\"\n".to_owned();
    for model in ["large", "small"] {
        let service = &parameters[model];
        write!(
            profile,
            "[[service]]\ngpu = \"gpu\"\nmodel = \"{model}\"\nstep_s = {}\noverhead_s = {}\nload_s = {}\n",
            service["step_s"], service["overhead_s"], service["load_s"]
        )
        .unwrap();
    }
    fs::write(folder.join("profile.toml"), profile).unwrap();
    let mut text = format!(
        "name = \"golden\"\n[trace]\nrequests = {:?}\nprompt_embeddings = {:?}\nimage_embeddings = {:?}\n",
        input.join("requests.csv"),
        input.join("prompt_embeddings.npy"),
        input.join("image_embeddings.npy")
    );
    let warm = input.join("warm_images.npy");
    if warm.exists() {
        writeln!(text, "warm_images = {warm:?}").unwrap();
    }
    writeln!(text, "[cluster]\ngpus = [{{ type = \"gpu\", count = {} }}]", parameters["gpus"]).unwrap();
    writeln!(
        text,
        "[models]\nprofile = \"profile.toml\"\nlarge = \"large\"\nsmall = [\"small\"]\nsteps = {}",
        parameters["steps"]
    )
    .unwrap();
    writeln!(text, "[system]\npolicy = {}", parameters["policy"]).unwrap();
    if let Some(table) = parameters.get("k_table") {
        writeln!(text, "bounds = {table}").unwrap();
    }
    writeln!(text, "[retrieval]\nlatency_s = {}", parameters["retrieval_s"]).unwrap();
    writeln!(text, "[cache]\ncapacity = {}", parameters["cache_capacity"]).unwrap();
    if let Some(admission) = parameters.get("admission") {
        writeln!(text, "admission = {admission}").unwrap();
    }
    writeln!(text, "[allocation]\ninitial_large = {}", parameters["initial_large"]).unwrap();
    if let Some(monitor) = parameters.get("monitor") {
        writeln!(
            text,
            "mode = {}\nperiod_s = {}\nheadroom = {}",
            monitor["mode"], monitor["period_s"], monitor["headroom"]
        )
        .unwrap();
        match &monitor["pid"] {
            Value::Null => text.push_str("pid = \"off\"\n"),
            pid => {
                let gain = |key: &str| pid[key].to_string();
                let gains = ["kp", "ki", "kd", "dt"].map(|key| format!("{key} = {}", gain(key)));
                writeln!(text, "pid = {{ {} }}", gains.join(", ")).unwrap();
            }
        }
    }
    let scenario = folder.join("scenario.toml");
    fs::write(&scenario, text).unwrap();
    scenario
}

/// Rows of a CSV file as (header, fields).
fn rows(path: &Path) -> Vec<Vec<(String, String)>> {
    let mut reader = csv::Reader::from_path(path).unwrap();
    let header: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
    reader
        .records()
        .map(|record| header.iter().cloned().zip(record.unwrap().iter().map(str::to_owned)).collect())
        .collect()
}

fn field<'a>(row: &'a [(String, String)], name: &str) -> &'a str {
    &row.iter().find(|(column, _)| column == name).unwrap_or_else(|| panic!("no column {name}")).1
}

/// Compares the columns of the expected rows; numbers of these columns within a tolerance.
fn compare(case: &str, file: &str, expected: &Path, found: &Path, tolerances: &[(&str, f64)]) {
    let (expected, found) = (rows(expected), rows(found));
    assert_eq!(expected.len(), found.len(), "{case}: rows of {file}");
    for (index, (expected, found)) in expected.iter().zip(&found).enumerate() {
        for (column, wanted) in expected {
            let got = field(found, column);
            let tolerance = tolerances.iter().find(|(name, _)| name == column).map(|(_, tolerance)| *tolerance);
            let equal = match (tolerance, wanted.parse::<f64>(), got.parse::<f64>()) {
                (Some(tolerance), Ok(wanted), Ok(got)) => (wanted - got).abs() <= tolerance,
                _ => wanted == got,
            };
            assert!(equal, "{case}: {file} row {index}: {column} is {got:?}, expected {wanted:?}");
        }
    }
}

#[test]
fn every_request_and_tick_of_every_case_agrees() {
    for case in cases() {
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        let parameters: Value = serde_json::from_str(&fs::read_to_string(case.join("case.json")).unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let scenario = write_scenario(&case, &parameters, folder.path());
        let out = folder.path().join("out");
        let run = Command::new(env!("CARGO_BIN_EXE_modm"))
            .args(["simulate".as_ref(), scenario.as_os_str(), "--out".as_ref(), out.as_os_str()])
            .output()
            .unwrap();
        assert!(run.status.success(), "{name}: {}", String::from_utf8_lossy(&run.stderr));
        let seconds = [("start_s", SECOND_TOLERANCE), ("finish_s", SECOND_TOLERANCE)];
        let requests = [seconds.as_slice(), &[("similarity", SIMILARITY_TOLERANCE)]].concat();
        compare(&name, "requests.csv", &case.join("expected_requests.csv"), &out.join("requests.csv"), &requests);
        let ticks = [("time_s", SECOND_TOLERANCE), ("controller_state", 1e-6)];
        compare(&name, "allocation.csv", &case.join("expected_allocation.csv"), &out.join("allocation.csv"), &ticks);
    }
}
