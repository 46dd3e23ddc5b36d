//! `modm capacity` through the program: known systems in closed form, bisection against every rate of a grid, and what
//! it says where there is no limit or nothing holds. Also the bound on steady throughput.

use std::path::Path;
use std::sync::Arc;

use modm::metrics::Keep;
use modm::scenario::{Inputs, Override, Source};
use modm::simulation::Simulation;

use crate::library::simulate;
use crate::program::{Answer, Folder};

/// Seconds of a full generation of the built-in profile's SD3.5-Large on an MI210.
const FULL_S: f64 = 91.5;

const SMALL: &str = r#"
name = "small"
seed = 7
[trace]
warm_requests = 200
[trace.synthetic]
requests = 700
arrivals = { process = "poisson", rate_per_min = 2.0 }
[trace.synthetic.prompts]
topics = 60
repeats = 0.4
[cluster]
gpus = [{ type = "mi210", count = 3 }]
[[variant]]
name = "vanilla"
set = { "system.policy" = "vanilla" }
[[variant]]
name = "pinecone"
set = { "system.policy" = "pinecone" }
[[variant]]
name = "modm"
"#;

/// Writes a scenario, searches its capacities and returns `capacity.json`.
fn capacity(folder: &Folder, scenario: &str, more: &[&str]) -> serde_json::Value {
    folder.write("scenario.toml", scenario);
    folder.works(&[&["capacity", "scenario.toml", "--out", "out", "--force", "--quiet"], more].concat());
    folder.json("out/capacity.json")
}

/// Rows of one GPU with the large model alone, and these requests.
fn one_gpu(requests: &str) -> String {
    let cluster = "[cluster]\ngpus = [{ type = \"mi210\", count = 1 }]\n[system]\npolicy = \"vanilla\"\n";
    format!("name = \"one\"\n{requests}\n{cluster}")
}

#[test]
fn arrivals_at_equal_gaps_are_held_up_to_the_service_rate() {
    let folder = Folder::new(&[]);
    let arrivals: Vec<String> = (0..400).map(|row| format!("{}\n", 200 * row)).collect();
    let arrivals = arrivals.concat();
    folder.write("requests.csv", format!("arrival_s\n{arrivals}"));
    let found = capacity(&folder, &one_gpu("[trace]\nrequests = \"requests.csv\""), &["--slo", "2"]);
    // Request i waits i (full - gap); it is late once that is more than one generation, and 4 of 400 may be.
    let gap = FULL_S * (1.0 - 1.0 / 395.0);
    let expected = 200.0 / gap;
    let factor = found["rows"][0]["factor"].as_f64().unwrap();
    assert!(factor <= expected && factor * 1.0101 >= expected, "{factor}, expected {expected}");
    let rate = found["rows"][0]["trace_rate_per_min"].as_f64().unwrap();
    assert!((rate - 60.0 / 200.0).abs() < 1e-12, "the rate of one gap: {rate}");
    assert!(found["rows"][0]["attainment"].as_f64().unwrap() >= 0.99);
}

#[test]
fn one_server_with_poisson_arrivals_holds_what_queueing_theory_says() {
    let folder = Folder::new(&[]);
    let trace = "[trace.synthetic]\nrequests = 20000\narrivals = { process = \"poisson\", rate_per_min = 0.2 }";
    let found = capacity(&folder, &one_gpu(trace), &["--slo", "2", "--attainment", "0.9", "--seeds", "3"]);
    // M/D/1: at load r a request waits at most one service time with probability (1 - r) e^r, 0.9 at r = 0.3918.
    let load = |row: &serde_json::Value| row["rate_per_min"].as_f64().unwrap() * FULL_S / 60.0;
    let loads: Vec<f64> = found["rows"].as_array().unwrap().iter().map(load).collect();
    let mean = loads.iter().sum::<f64>() / loads.len() as f64;
    assert!((mean / 0.3918 - 1.0).abs() < 0.03, "{loads:?}");
}

/// Share in time within twice a full generation, at a multiple of the trace's rate.
fn attainment(simulation: &Simulation, factor: f64) -> f64 {
    let trace = Arc::new(simulation.inputs.trace.at_rate(factor));
    let inputs = Inputs { trace, ..simulation.inputs.clone() };
    let scaled = Simulation { scenario: simulation.scenario.clone(), inputs, actual: None };
    scaled.run_keeping(Keep::Nothing, ()).unwrap().summary.slo[0].attainment
}

#[test]
fn bisection_finds_what_every_rate_of_a_grid_says() {
    let folder = Folder::new(&[]);
    let found = capacity(&folder, SMALL, &["--up-to", "8", "--slo", "2", "--attainment", "0.95"]);
    let source = Source::read(&folder.path("scenario.toml")).unwrap();
    for row in found["rows"].as_array().unwrap() {
        let name = row["variant"].as_str().unwrap();
        let variants = source.scenario(&[]).unwrap().variant;
        let sets: Vec<Override> = Source::variant_overrides(variants.iter().find(|it| it.name == name).unwrap());
        let simulation = Simulation::load(&source, &sets).unwrap();
        let grid: Vec<f64> = (0..260).map(|step| 8.0 / 1.02_f64.powi(step)).take_while(|it| *it > 0.1).collect();
        let holds: Vec<bool> = grid.iter().map(|factor| attainment(&simulation, *factor) >= 0.95).collect();
        let highest = grid[holds.iter().position(|holds| *holds).unwrap()];
        let lowest_failing = grid[holds.iter().rposition(|holds| !holds).map_or(0, |at| at)];
        let factor = row["factor"].as_f64().unwrap();
        let attained = attainment(&simulation, factor);
        assert!((attained - row["attainment"].as_f64().unwrap()).abs() < 1e-12 && attained >= 0.95, "{name}");
        if lowest_failing > highest {
            // Monotone on the grid: no more than a step of the grid and of the bisection apart.
            assert!(factor >= highest / 1.0101 && factor <= highest * 1.0303, "{name}: {factor}, grid {highest}");
        } else {
            assert!(factor >= lowest_failing / 1.03 && factor <= highest * 1.0303, "{name}: {factor}");
        }
    }
    let rows = folder.read("out/capacity.csv");
    assert!(rows.starts_with("variant,seed,rate_per_min,factor,attainment,runs,"), "{rows}");
    assert_eq!(rows.lines().count(), 4);
    let page = folder.read("out/report.md");
    assert!(page.contains("the rate of vanilla") && page.contains("of the large model's quality"), "{page}");
    assert!(folder.path("out/figures/attainment-rate.svg").is_file());
}

#[test]
fn says_when_there_is_no_limit_and_when_nothing_holds() {
    let folder = Folder::new(&[]);
    let vanilla = ["--variants", "vanilla", "--up-to", "3"];
    let free = capacity(&folder, SMALL, &[&vanilla[..], &["--slo-s", "1000000"]].concat());
    assert_eq!((&free["rows"][0]["no_limit"], &free["rows"][0]["factor"]), (&true.into(), &3.0.into()));
    let page = folder.read("out/report.md");
    assert!(page.contains("no limit up to 3 times"), "{page}");
    let none = capacity(&folder, SMALL, &[&vanilla[..], &["--slo-s", "1"]].concat());
    assert_eq!((&none["rows"][0]["no_limit"], none["rows"][0].get("factor")), (&false.into(), None));
    let page = folder.read("out/report.md");
    assert!(page.contains("holds at no rate"), "{page}");
}

#[test]
fn stopped_runs_say_what_whole_runs_say() {
    let folder = Folder::new(&[]);
    let found = capacity(&folder, SMALL, &["--variants", "modm", "--up-to", "8"]);
    let simulation = Simulation::load(&Source::read(&folder.path("scenario.toml")).unwrap(), &[]).unwrap();
    for point in found["rows"][0]["points"].as_array().unwrap() {
        let whole = attainment(&simulation, point["factor"].as_f64().unwrap());
        assert_eq!(point["holds"].as_bool().unwrap(), whole >= 0.99, "{point}: {whole}");
        if let Some(share) = point["attainment"].as_f64() {
            assert!((share - whole).abs() < 1e-12, "{point}: {whole}");
        }
    }
}

#[test]
fn all_at_once_has_no_rate() {
    let folder = Folder::new(&[]);
    folder.write("requests.csv", "arrival_s\n5\n5\n");
    folder.write("scenario.toml", one_gpu("[trace]\nrequests = \"requests.csv\""));
    let Answer { code, err: said, .. } = folder.run(&["capacity", "scenario.toml", "--out", "none"]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("all its requests arrive at once") && !folder.path("none").exists(), "{said}");
}

/// Steady throughput of a system, and the share of its requests that it returns.
fn steady(source: &Source, sets: &[String]) -> (f64, f64) {
    let summary = simulate(source, sets, Keep::Nothing).summary;
    (summary.throughput_steady_per_min.unwrap(), summary.returned as f64 / summary.completed as f64)
}

#[test]
fn steady_throughput_credits_no_more_than_the_work_that_is_spared() {
    let source = Source::new(Path::new("scenario.toml"), SMALL.to_owned()).unwrap();
    let mut returned_some = 0;
    for seed in 0..4 {
        // From a cluster that keeps up with ease to one that is far behind.
        for rate in [0.5, 1.7, 2.5, 12.0] {
            for topics in [15, 400] {
                let usual = [
                    format!("seed={seed}"),
                    format!("trace.synthetic.arrivals.rate_per_min={rate}"),
                    format!("trace.synthetic.prompts.topics={topics}"),
                ];
                let system =
                    |policy: &str| steady(&source, &[&usual[..], &[format!("system.policy={policy}")]].concat());
                let ((vanilla, _), (pinecone, share)) = (system("vanilla"), system("pinecone"));
                let most = 1.0 / (1.0 - share);
                let ratio = pinecone / vanilla;
                assert!(ratio <= 1.01 * most, "seed {seed}, rate {rate}: {ratio} with {share} returned");
                if rate > 10.0 {
                    assert!(ratio > 0.97 * most.min(rate / vanilla), "far behind: {ratio} with {share} returned");
                }
                returned_some += u32::from(share > 0.05);
            }
        }
    }
    assert!(returned_some > 8, "there is something to credit");
}

#[test]
fn capacities_at_other_hit_rates_are_those_of_shifted_bounds() {
    let folder = Folder::new(&[]);
    let found = capacity(&folder, SMALL, &["--attainment", "0.95"]);
    let other = found["at_other_hit_rates"].as_array().unwrap();
    let variants: Vec<&str> = other.iter().map(|row| row["variant"].as_str().unwrap()).collect();
    assert_eq!(variants, ["pinecone", "pinecone", "modm", "modm"], "vanilla retrieves nothing");
    for pair in other.chunks(2) {
        let number = |row: &serde_json::Value, key: &str| row[key].as_f64().unwrap();
        let (lower, higher) = (&pair[0], &pair[1]);
        let name = lower["variant"].as_str().unwrap();
        assert!(number(lower, "by") >= 0.0 && number(higher, "by") <= 0.0, "{pair:?}");
        let usual = number(lower, "usual_hit_rate");
        for (row, wanted) in [(lower, usual - 0.1), (higher, usual + 0.1)] {
            let near = (number(row, "hit_rate") - wanted).abs() <= 0.010_000_1;
            assert_eq!(row["reached"].as_bool().unwrap(), near, "{row}");
        }
        let own = found["rows"].as_array().unwrap().iter().find(|row| row["variant"] == name).unwrap();
        let own = number(own, "rate_per_min");
        let (low, high) = (number(lower, "rate_per_min"), number(higher, "rate_per_min"));
        assert!(low <= 1.02 * own && own <= 1.02 * high && low < high, "{name}: {low} {own} {high}");
    }
    // One of MoDM's is what the program gives with these bounds.
    let modm = &other[2];
    assert_eq!(modm["reached"], true, "{modm}");
    let by = modm["by"].as_f64().unwrap();
    let bounds = [(0.25, 5), (0.27, 10), (0.28, 15), (0.29, 25), (0.30, 30)];
    let rows: Vec<String> = bounds.iter().map(|(bound, skipped)| format!("[{},{skipped}]", bound + by)).collect();
    let set = format!("system.bounds=[{}]", rows.join(","));
    let set = ["--attainment", "0.95", "--variants", "modm", "--set", &set];
    let again = capacity(&folder, SMALL, &set);
    assert_eq!(again["rows"][0]["rate_per_min"], modm["rate_per_min"]);
}

#[test]
fn the_report_says_what_other_hit_rates_give_and_a_comparison_leaves_it_out() {
    let folder = Folder::new(&[]);
    capacity(&folder, SMALL, &["--variants", "vanilla,modm"]);
    let page = folder.read("out/report.md");
    assert!(
        page.contains("- modm, hit rate ") && page.contains(" % (bounds + ") && page.contains(" % (bounds - "),
        "{page}"
    );
    let compare = ["compare", "scenario.toml", "--out", "compared", "--capacity", "--variants", "vanilla,modm"];
    folder.works(&[&compare[..], &["--quiet"]].concat());
    let compared = folder.read("compared/capacity.json");
    assert!(!compared.contains("at_other_hit_rates"), "{compared}");
}
