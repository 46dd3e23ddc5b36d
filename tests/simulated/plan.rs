//! `modm plan` through the program: the choice is that of trying every cluster, with less.

use std::path::Path;

use modm::experiments::Search;
use modm::experiments::plan::{PlanRow, Planning, Question};
use modm::metrics::Keep;
use modm::scenario::Source;

use crate::library::simulate;
use crate::program::{Answer, Folder};

const SCENARIO: &str = r#"
name = "plan"
[trace.synthetic]
requests = 1200
arrivals = { process = "poisson", rate_per_min = 7.0 }
[trace.synthetic.prompts]
topics = 200
[models]
small = ["sdxl"]
[allocation]
policy = "what_if"
"#;

fn plan(folder: &Folder, scenario: &str, more: &[&str]) -> serde_json::Value {
    folder.write("scenario.toml", scenario);
    let common = ["plan", "scenario.toml", "--out", "out", "--force", "--quiet", "--seeds", "1"];
    folder.works(&[&common[..], more].concat());
    folder.json("out/plan.json")
}

/// Share in time within twice a full generation on the MI210, with these GPUs.
fn attainment(folder: &Folder, gpus: &str, multiple: f64) -> f64 {
    let source = Source::read(&folder.path("scenario.toml")).unwrap();
    let sets = [
        format!("cluster.gpus={gpus}"),
        format!("slo.multiples=[{multiple}]"),
        format!("queue.deadline_multiple={multiple}"),
    ];
    simulate(&source, &sets, Keep::Nothing).summary.slo[0].attainment
}

#[test]
fn finds_what_trying_every_cluster_finds() {
    let folder = Folder::new(&[]);
    let plan = plan(&folder, SCENARIO, &["--max-gpus", "12", "--attainment", "0.97"]);
    let holds = |count: u64| attainment(&folder, &format!("[{{ type = \"mi210\", count = {count} }}]"), 2.0) >= 0.97;
    let smallest = (1..=12).find(|count| holds(*count)).unwrap();
    assert_eq!(plan["choice"]["gpus"], serde_json::json!([smallest]));
    assert!(plan["choice"]["holds"].as_bool().unwrap());
    assert!(plan["ruled_out_by_the_bound"].as_u64().unwrap() < smallest, "the bound rules out nothing that holds");
    let simulated = plan["simulated_requests"].as_u64().unwrap();
    assert!(simulated <= 5 * 1200, "{simulated} requests in place of {}", 12 * 1200);
    let rows = folder.read("out/plan.csv");
    assert!(rows.starts_with("gpus_mi210,holds,stopped,requests,late,attainment"), "{rows}");
    assert_eq!(rows.lines().count(), 1 + plan["tried"].as_array().unwrap().len());
}

#[test]
fn the_cheapest_mix_of_types_is_found_and_the_target_stays_in_seconds() {
    let folder = Folder::new(&[]);
    let gpus = "[cluster]\ngpus = [{ type = \"mi210\", count = 2, usd_per_hour = 1.0 }, { type = \"a40\", count = 2, usd_per_hour = 1.4 }]\n";
    let plan = plan(&folder, &format!("{SCENARIO}{gpus}"), &["--max-gpus", "8,5", "--attainment", "0.95"]);
    let mut best: Option<(f64, [u64; 2])> = None;
    for mi210 in 0..=8_u64 {
        for a40 in 0..=5_u64 {
            let dollars = mi210 as f64 + 1.4 * a40 as f64;
            if mi210 + a40 == 0 || best.is_some_and(|(least, _)| dollars >= least) {
                continue;
            }
            let groups = [("mi210", mi210), ("a40", a40)].into_iter().filter(|(_, count)| *count > 0);
            let groups: Vec<String> =
                groups.map(|(gpu, count)| format!("{{ type = \"{gpu}\", count = {count} }}")).collect();
            // Twice a full generation on the MI210, 183 s, whatever comes first.
            let multiple = if mi210 > 0 { 2.0 } else { 183.0 / 60.0 };
            if attainment(&folder, &format!("[{}]", groups.join(", ")), multiple) >= 0.95 {
                best = Some((dollars, [mi210, a40]));
            }
        }
    }
    let (dollars, mix) = best.unwrap();
    assert!((plan["choice"]["usd_per_hour"].as_f64().unwrap() - dollars).abs() < 1e-9, "{mix:?}: {:#}", plan["choice"]);
    assert!(plan["choice"]["usd_per_1000_images"].as_f64().unwrap() > 0.0);
}

#[test]
fn more_load_and_spare_workers_need_more() {
    let folder = Folder::new(&[]);
    let count = |more: &[&str]| {
        let plan = plan(&folder, SCENARIO, &[&["--max-gpus", "24", "--attainment", "0.95"], more].concat());
        plan["choice"]["gpus"][0].as_u64().unwrap()
    };
    let (usual, doubled, spare) = (count(&[]), count(&["--load", "2"]), count(&["--spare", "1"]));
    assert!(doubled > usual + 2, "{usual}, with twice the load {doubled}");
    assert!(spare > usual, "{usual}, with one down {spare}");
}

#[test]
fn a_quality_that_is_wanted_is_held_or_refused() {
    let folder = Folder::new(&[]);
    // Three times the load: with clusters of a few GPUs one more or less is more than ten points of hits.
    let usual = ["--max-gpus", "30", "--attainment", "0.95", "--set", "trace.synthetic.arrivals.rate_per_min=21"];
    let found = |least: &str| plan(&folder, SCENARIO, &[&usual[..], &["--quality", least]].concat());
    let low = found("0.5");
    let kept = low["choice"]["quality_kept"].as_f64().unwrap();
    assert!(kept > 0.9 && low["choice"]["quality_kind"] == "estimated", "{:#}", low["choice"]);
    assert!(low["choice"]["images"]["sdxl"].as_u64().unwrap() > 0);
    assert!(found("5")["choice"].is_null(), "no cluster keeps five times the quality");
    let profile = "source = \"test\"\n[[service]]\ngpu = \"mi210\"\nmodel = \"sd3.5-large\"\nstep_s = 1.83\nload_s = 20\n[[service]]\ngpu = \"mi210\"\nmodel = \"sdxl\"\nstep_s = 0.33\nload_s = 20\n";
    folder.write("profile.toml", profile);
    folder.write("scenario.toml", SCENARIO.replace("[models]", "[models]\nprofile = \"profile.toml\""));
    let Answer { code, err: said, .. } = folder.run(&["plan", "scenario.toml", "--out", "none", "--quality", "0.95"]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("--quality = 0.95: needs a score of \"sd3.5-large\" in the profile"), "{said}");
}

#[test]
fn a_cluster_that_was_stopped_has_no_measures() {
    let source = Source::new(Path::new("scenario.toml"), SCENARIO.to_owned()).unwrap();
    let most = vec![12];
    let question = Question { attainment: 0.97, most, alternatives: 0, at_ends: false, ..Question::default() };
    let mut planning = Planning::load(&question, &source, &[], Search::Direct, &()).unwrap();
    let answer = planning.answer(&()).unwrap();
    let stopped: Vec<&PlanRow> = answer.tried.iter().filter(|row| row.stopped).collect();
    assert!(stopped.iter().any(|row| row.requests > 1200), "one cluster holds a trace and not all: {stopped:#?}");
    for row in stopped {
        let counts = PlanRow { requests: row.requests, late: row.late, stopped: true, ..PlanRow::default() };
        assert_eq!(*row, PlanRow { gpus: row.gpus.clone(), ..counts });
    }
}

#[test]
fn says_when_nothing_holds_and_what_is_wrong() {
    let folder = Folder::new(&[]);
    let plan = plan(&folder, SCENARIO, &["--max-gpus", "2"]);
    assert!(plan["choice"].is_null());
    for (argument, value) in
        [("--max-gpus", "1,2"), ("--max-gpus", "0"), ("--attainment", "1.5"), ("--slo", "0"), ("--load", "x")]
    {
        let Answer { code, err: said, .. } = folder.run(&["plan", "scenario.toml", "--out", "none", argument, value]);
        assert_eq!(code, 2, "{said}");
        assert!(said.contains(argument) && !folder.path("none").exists(), "{said}");
    }
}

#[test]
fn a_plan_says_what_it_would_be_at_other_hit_rates() {
    let folder = Folder::new(&[]);
    // Three times the load: with clusters of a few GPUs one more or less is more than ten points of hits.
    let usual = ["--max-gpus", "30", "--attainment", "0.95", "--set", "trace.synthetic.arrivals.rate_per_min=21"];
    let found = plan(&folder, SCENARIO, &usual);
    let gpus = |row: &serde_json::Value| row["choice"]["gpus"][0].as_u64().unwrap();
    let other = found["at_other_hit_rates"].as_array().unwrap();
    let (lower, higher) = (&other[0], &other[1]);
    assert_eq!(other.len(), 2);
    for (row, points) in [(lower, -0.1), (higher, 0.1)] {
        let moved = row["hit_rate"].as_f64().unwrap() - row["usual_hit_rate"].as_f64().unwrap();
        assert!(row["reached"].as_bool().unwrap() && (moved - points).abs() <= 0.010_000_1, "{row}");
    }
    assert!(gpus(higher) <= gpus(&found) && gpus(&found) <= gpus(lower) && gpus(higher) < gpus(lower), "{found:#}");
    let page = folder.read("out/report.md");
    assert!(page.contains(&format!("{} x mi210; at ", gpus(lower))), "{page}");
    let vanilla = plan(&folder, SCENARIO, &[&usual[..2], &["--set", "system.policy=vanilla"]].concat());
    assert_eq!(vanilla["at_other_hit_rates"], serde_json::json!([]));
}
