//! `[network]` through the library and the program: a network that takes no time changes nothing, a slow one shows in
//! the measures, and a plan says whether another node helps. Times by hand are in `crates/core/src/sim/tests.rs`.

use modm::metrics::{Keep, Results};
use modm::scenario::Source;

use crate::library::simulate;
use crate::program::{Answer, Folder};

const SCENARIO: &str = r#"
name = "network"
[trace.synthetic]
requests = 600
arrivals = { process = "poisson", rate_per_min = 7.0 }
[trace.synthetic.prompts]
topics = 100
[models]
small = ["sdxl"]
[cluster]
gpus = [{ type = "mi210", count = 8 }]
"#;

/// Simulates the scenario with settings of the command line.
fn run(sets: &[&str]) -> Results {
    let folder = Folder::new(&[("scenario.toml", SCENARIO)]);
    simulate(&Source::read(&folder.path("scenario.toml")).unwrap(), sets, Keep::Rows)
}

/// Network over which nothing takes time.
const INSTANT: [&str; 4] =
    ["network.workers_per_node=3", "network.latency_ms=0", "network.bandwidth_gbps=1e6", "network.picture_bytes=1"];

/// Network whose scheduler's link takes 1.12 s for a picture.
const SLOW: [&str; 4] =
    ["network.workers_per_node=4", "network.latency_ms=50", "network.bandwidth_gbps=0.01", "network.sources=0"];

#[test]
fn a_network_that_takes_no_time_changes_nothing() {
    let faults = "faults.events=[{ at_s = 500, for_s = 900, what = \"down\", workers = [0, 5] }, \
                  { at_s = 0, for_s = 3000, what = \"slow\", workers = [2], factor = 1.7 }]";
    for more in [&[][..], &["allocation.policy=what_if", faults], &["system.policy=nirvana"]] {
        let (mut without, mut with) = (run(more), run(&[&INSTANT[..], more].concat()));
        let network = with.summary.network.unwrap();
        let hits: u64 = with.summary.hits_by_skipped_steps.values().sum();
        assert_eq!(network.sources_fetched + network.sources_kept, hits - with.summary.returned);
        with.summary.network = None;
        // Over a network the bound does not count that slow workers draw longer.
        for results in [&mut without, &mut with] {
            results.ends.iter_mut().for_each(|end| end.least_work = 0);
            results.summary.slo.iter_mut().for_each(|slo| slo.least_violation_rate = None);
        }
        assert!(with == without, "{more:?}");
    }
}

#[test]
fn transfers_make_jobs_longer_and_fill_the_link() {
    let (without, slow) = (run(&[]), run(&SLOW));
    let kept = run(&[&SLOW[..3], &["network.sources=1000"]].concat());
    assert_eq!(without.summary.network, None);
    let (network, less) = (slow.summary.network.unwrap(), kept.summary.network.unwrap());
    assert_eq!(network.bytes_in, 600 * 1_400_000);
    assert_eq!(network.bytes_out, network.sources_fetched * 1_400_000);
    assert_eq!(network.sources_kept, 0);
    let busy_s = network.busy_in * slow.summary.makespan_s;
    assert!((busy_s - 600.0 * 1.12).abs() < 1e-6, "{busy_s}");
    assert!(less.sources_kept > less.sources_fetched && less.sources_fetched > 0, "{less:?}");
    // The order and the way back take 0.1 s, the picture at least 1.12 s.
    let shortest = |results: &Results, model: u16| {
        let runs = results.requests.iter().filter_map(|row| Some((row.run?, row)));
        let own =
            runs.filter(|(run, row)| run.model.0 == model && row.decision.is_some_and(|made| !made.kind.is_hit()));
        own.map(|(run, row)| row.finish.since(run.start).seconds()).fold(f64::INFINITY, f64::min)
    };
    let longer = shortest(&slow, 0) - shortest(&without, 0);
    assert!((longer - 1.22).abs() < 1e-6, "{longer}");
}

#[test]
fn the_totals_are_in_the_summary_and_in_the_table() {
    let folder = Folder::new(&[("scenario.toml", SCENARIO)]);
    let sets: Vec<&str> = SLOW.iter().flat_map(|set| ["--set", set]).collect();
    let out = ["simulate", "scenario.toml", "--out", "out", "--no-range"];
    let shown = folder.works(&[&out[..], &sets].concat()).out;
    assert!(shown.contains("link busy"), "{shown}");
    let network = &folder.json("out/summary.json")["network"];
    assert!(
        network["busy_in"].as_f64().unwrap() > 0.1 && network["sources_fetched"].as_u64().unwrap() > 0,
        "{network}"
    );
    let shown = folder.works(&["simulate", "scenario.toml", "--out", "plain", "--no-range"]).out;
    assert!(!shown.contains("link busy") && folder.json("plain/summary.json").get("network").is_none(), "{shown}");
}

/// Number of GPUs in the cheapest cluster that holds; `None` if no cluster does.
fn planned(network: &[&str]) -> Option<u64> {
    let folder = Folder::new(&[("scenario.toml", SCENARIO)]);
    let common = ["plan", "scenario.toml", "--out", "out", "--quiet", "--seeds", "1", "--no-range"];
    let target = ["--max-gpus", "24", "--attainment", "0.95", "--alternatives", "0"];
    let sets: Vec<&str> = network.iter().flat_map(|set| ["--set", set]).collect();
    folder.works(&[&common[..], &target, &sets].concat());
    folder.json("out/plan.json")["choice"]["gpus"][0].as_u64()
}

#[test]
fn a_plan_says_whether_another_node_helps() {
    let (nodes, alone) = ("network.workers_per_node=2", planned(&[]).unwrap());
    // A picture takes 11.2 s, and one comes every 8.6 s: no number of nodes gets them over the scheduler's link.
    assert_eq!(planned(&[nodes, "network.bandwidth_gbps=0.001"]), None);
    // Each node has such a link, and the scheduler a fast one: more nodes carry what few cannot.
    let links = [nodes, "network.bandwidth_gbps=10", "network.node_bandwidth_gbps=0.0005"];
    let apart = planned(&links).unwrap();
    assert!(apart > alone, "{apart} GPUs, and {alone} without a network");
    // Links of a fast network are no reason for more.
    assert_eq!(planned(&[nodes]), Some(alone));
}

#[test]
fn a_live_run_refuses_the_section() {
    let folder = Folder::new(&[("scenario.toml", SCENARIO)]);
    let Answer { code, err, .. } = folder.run(&["live", "scenario.toml", "--out", "out", "--set", INSTANT[0]]);
    if cfg!(feature = "live") {
        assert_eq!(code, 2, "{err}");
        assert!(err.contains("network: is for simulated runs"), "{err}");
    }
}
