//! The built-in catalogue of profiles through the program: scenarios that take it, what their outputs say of it, and
//! the way out for a GPU type that it lacks.

use std::fs;

use serde_json::Value;

use crate::program::{Folder, modm, root};

const SCENARIO: &str = r#"
name = "catalogue"
seed = 3
[trace.synthetic]
requests = 60
arrivals = { process = "poisson", rate_per_min = 8.0 }
[cluster]
gpus = [{ type = "h100", count = 2, usd_per_hour = 3.35 }]
[models]
profile = "catalogue"
large = "flux-dev"
small = ["flux-schnell"]
steps = { flux-dev = 50, flux-schnell = 4 }
schedule = { flux-dev = { shift = 3.158 }, flux-schnell = { shift = 1.0 } }
[[variant]]
name = "modm"
"#;

/// The same with a GPU type whose times are all assumed.
fn on(gpu: &str) -> String {
    SCENARIO.replace("\"h100\"", &format!("{gpu:?}"))
}

fn run<'a>(command: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&[command, "scenario.toml", "--out", "out", "--force", "--quiet"], more].concat()
}

fn warnings(folder: &Folder) -> Vec<String> {
    let all = folder.json("out/run.json")["warnings"].as_array().cloned().unwrap_or_default();
    all.iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

fn entries() -> Vec<Value> {
    let output = modm(&["profiles", "--json"]).output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_scenario_takes_the_catalogue_and_its_report_names_the_sources() {
    let folder = Folder::new(&[("scenario.toml", SCENARIO)]);
    folder.works(&run("simulate", &[]));
    assert!(!warnings(&folder).iter().any(|text| text.contains("assumed")), "both rows are published");
    folder.works(&run("compare", &["--no-range"]));
    let (text, page) = (folder.read("out/report.md"), folder.read("out/report.html"));
    assert!(page.contains("scenarios/profiles/catalogue.toml (built in)"));
    for said in ["the built-in catalogue", "h100 with flux-dev: published: 12.339 s for 50 steps", "pull/22986"] {
        assert!(text.contains(said) && page.contains(said), "{said}");
    }
    assert_eq!(folder.json("out/run.json")["inputs"], serde_json::json!([]), "no file but the scenario is read");
}

#[test]
fn a_run_with_assumed_times_says_so_everywhere() {
    let folder = Folder::new(&[("scenario.toml", &on("a40"))]);
    let said = "service times are assumed for 2 of 2 pairs of GPU type and model: a40 with flux-dev (assumed, from a40 \
                sd3.5-large by 0.7407 a step), a40 with flux-schnell (assumed, from a40 flux-dev by 1.0); measure";
    let screen = folder.works(&run("simulate", &[])).out;
    assert!(screen.replace('\n', " ").contains("service times are assumed for 2 of 2 pairs"), "{screen}");
    assert!(warnings(&folder).iter().any(|text| text.starts_with(said)), "{:?}", warnings(&folder));
    folder.works(&run("compare", &["--no-range"]));
    assert!(folder.read("out/report.md").contains(said) && folder.read("out/report.html").contains("2 of 2 pairs"));
    folder.works(&run("plan", &["--seeds", "1", "--attainment", "0.5", "--max-gpus", "4"]));
    assert!(folder.read("out/report.md").contains("service times are assumed for 2 of 2 pairs"));
}

#[test]
fn a_plan_mixes_types_of_the_catalogue() {
    let both = "count = 1, usd_per_hour = 3.35 }, { type = \"a40\", count = 1, usd_per_hour = 0.86 }";
    let mixed = SCENARIO.replace("count = 2, usd_per_hour = 3.35 }", both);
    let folder = Folder::new(&[("scenario.toml", &mixed)]);
    folder.works(&run("plan", &["--seeds", "1", "--attainment", "0.8", "--slo", "4", "--max-gpus", "3,3"]));
    let choice = &folder.json("out/plan.json")["choice"];
    let count = |group: usize| choice["gpus"][group].as_u64().unwrap();
    assert!(choice["holds"].as_bool().unwrap() && count(0) > 0 && count(1) > 0, "{choice}");
    let dollars = 3.35 * count(0) as f64 + 0.86 * count(1) as f64;
    assert!((choice["usd_per_hour"].as_f64().unwrap() - dollars).abs() < 1e-9, "{choice}");
    assert!(folder.read("out/report.md").contains("h100 with flux-dev: published") && warned(&folder), "both types");
}

/// Returns whether a plan's report says that half of its times are assumed.
fn warned(folder: &Folder) -> bool {
    folder.read("out/report.md").contains("service times are assumed for 2 of 4 pairs")
}

#[test]
fn a_gpu_type_that_is_not_there_leads_to_a_starter_that_runs_once_filled_in() {
    let folder = Folder::new(&[("scenario.toml", &on("b200"))]);
    let command = "modm profiles --starter b200 flux-dev flux-schnell";
    let refused = |words: &[&str]| {
        let (code, out, err) = folder.run(&run("simulate", &[])).parts();
        assert_eq!((code, out.as_str()), (2, ""), "{err}");
        assert!(words.iter().all(|word| err.contains(word)), "{err}");
        assert!(!folder.path("out").exists(), "nothing is written");
    };
    refused(&["GPU \"b200\" with model \"flux-dev\": has no [[service]] row", "it has (h200, flux-dev), (", command]);
    // The command of the message, as it stands there, writes the rows.
    let mut words: Vec<&str> = command.split(' ').skip(1).collect();
    words.extend(["--out", "b200.toml"]);
    folder.works(&words);
    let starter = folder.read("b200.toml");
    assert!(starter.contains("(h100: 0.24389)") && starter.contains("by TODO"), "{starter}");
    folder.write("scenario.toml", on("b200").replace("\"catalogue\"\nlarge", "\"b200.toml\"\nlarge"));
    refused(&["b200.toml:", "service.0.source = \"assumed, from h100 flux-dev by TODO\": has to be filled in"]);
    folder.write(
        "b200.toml",
        starter.replace("assumed, from h100", "measured, by hand, like h100").replace("TODO", "me"),
    );
    refused(&["service.0.step_s = nan: expected seconds"]);
    let filled = folder.read("b200.toml").replace("= nan", "= 0.1");
    folder.write("b200.toml", filled);
    folder.works(&run("simulate", &[]));
    assert_eq!(folder.run(&words).code, 2, "an earlier profile is not overwritten");
}

#[test]
fn a_starter_by_a_factor_runs_as_it_is_and_is_assumed() {
    let mixed = on("b200").replace("gpus = [", "gpus = [{ type = \"h100\", count = 1 }, ");
    let folder = Folder::new(&[("scenario.toml", &mixed.replace("\"catalogue\"\nlarge", "\"b200.toml\"\nlarge"))]);
    let rows = ["profiles", "--starter", "b200", "flux-dev", "flux-schnell", "--like", "H100", "--factor", "0.6"];
    folder.works(&[&rows[..], &["--with", "h100", "--out", "b200.toml"]].concat());
    folder.works(&run("simulate", &[]));
    let said =
        "assumed for 2 of 4 pairs of GPU type and model: b200 with flux-dev (assumed, from h100 flux-dev by 0.6)";
    assert!(warnings(&folder).iter().any(|text| text.contains(said)), "{:?}", warnings(&folder));
}

#[test]
fn other_profiles_name_the_catalogue_where_it_has_the_pair() {
    let folder = Folder::new(&[("scenario.toml", &SCENARIO.replace("profile = \"catalogue\"\n", ""))]);
    let (code, _, err) = folder.run(&run("simulate", &[])).parts();
    assert!(code == 2 && err.contains("the built-in catalogue has it: models.profile = \"catalogue\""), "{err}");
}

#[test]
fn flags_that_do_not_fit_are_refused() {
    let refused = |arguments: &[&str], words: &str| {
        let output = modm(&[&["profiles"], arguments].concat()).output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && output.stdout.is_empty() && err.contains(words), "{err}");
    };
    refused(&["--starter", "b200"], "2 values required");
    refused(&["--factor", "0.5"], "--starter");
    refused(&["--starter", "b200", "sdxl", "--factor", "0"], "expected a factor from 0.001 to 1000");
    refused(
        &["--starter", "b200", "sdxl", "--like", "b300"],
        "--like = b300: expected a GPU type of the catalogue: h100",
    );
    refused(&["--starter", "b200", "mine", "--factor", "2"], "--starter = mine: expected models of the catalogue");
}

#[test]
fn the_list_and_the_document_have_every_pair() {
    let entries = entries();
    assert_eq!(entries.len(), 48);
    let list = String::from_utf8(modm(&["profiles"]).output().unwrap().stdout).unwrap();
    assert!(list.contains("from h100 flux-dev by 2.4768") && list.contains("15 of 48 published"), "{list}");
    let page = fs::read_to_string(root().join("docs/profiles.md")).unwrap();
    for entry in &entries {
        let word = |key: &str| entry[key].as_str().unwrap();
        let (gpu, model, kind) = (word("gpu"), word("model"), word("kind"));
        let seconds = entry["generation_s"].as_f64().unwrap();
        let row = page.lines().find(|line| line.starts_with(&format!("| `{gpu}` |"))).unwrap();
        let header = page.lines().find(|line| line.starts_with("| GPU |") && line.contains("`sdxl`")).unwrap();
        let column = header.split('|').position(|cell| cell.trim() == format!("`{model}`")).unwrap();
        let cell = row.split('|').nth(column).unwrap().trim();
        let expected = if kind == "published" { format!("**{seconds:.2}**") } else { format!("{seconds:.2}") };
        assert_eq!(cell, expected, "{gpu} {model}");
        let price = entry["usd_per_hour"].as_f64().map_or_else(|| "-".to_owned(), |dollars| format!("{dollars:.2}"));
        assert_eq!(row.split('|').nth(2).unwrap().trim(), price, "{gpu}");
    }
}
