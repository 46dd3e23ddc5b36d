//! Serving beyond one request with one model on a GPU, and the outcomes of requests under load, through the
//! program's own reading of scenarios: batches, several models in memory, cascades, levels of approximation, admission
//! at arrival. Random worlds are in `tests/invariants.rs`.

use modm::metrics::{Keep, RequestRow, Results};
use modm::request::{Outcome, Rejection};
use modm::scenario::Source;

use crate::library::simulate;
use crate::program::Folder;

/// One second a request; two together take 1.5, four 2.
const PROFILE: &str = r#"
source = "test"
[[gpu]]
type = "g"
memory_gb = 40.0
[[service]]
gpu = "g"
model = "heavy"
step_s = 0.02
load_s = 20
batches = [[2, 1.5], [4, 2.0]]
memory_gb = 24.0
[[service]]
gpu = "g"
model = "light"
step_s = 0.002
load_s = 20
batches = [[2, 1.5], [4, 2.0]]
memory_gb = 10.0
"#;

const SCENARIO: &str = r#"
name = "serving"
[trace]
requests = "requests.csv"
[cluster]
gpus = [{ type = "g", count = 1 }]
[models]
profile = "profile.toml"
large = "heavy"
small = ["light"]
[system]
policy = "vanilla"
[slo]
multiples = [2.0]
"#;

/// Requests at these seconds.
fn trace(arrivals: impl Iterator<Item = f64>) -> String {
    let rows: Vec<String> = arrivals.map(|arrival| arrival.to_string()).collect();
    format!("arrival_s\n{}\n", rows.join("\n"))
}

/// A run with requests at these seconds.
fn run(arrivals: &[f64], sets: &[&str]) -> Results {
    let folder = Folder::new(&[]);
    folder.write("requests.csv", trace(arrivals.iter().copied()));
    folder.write("profile.toml", PROFILE);
    with(&folder, SCENARIO, sets)
}

fn with(folder: &Folder, scenario: &str, sets: &[&str]) -> Results {
    folder.write("scenario.toml", scenario);
    simulate(&Source::read(&folder.path("scenario.toml")).unwrap(), sets, Keep::Rows)
}

/// Start and finish of each request, in milliseconds.
fn times(results: &Results) -> Vec<(u64, u64)> {
    let ms = |time: modm::time::Time| time.nanoseconds() / 1_000_000;
    let time = |row: &RequestRow| (ms(row.run.unwrap().start), ms(row.finish));
    results.requests.iter().map(time).collect()
}

#[test]
fn jobs_form_from_what_waits() {
    let arrivals = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 5.0];
    let alone = run(&arrivals, &[]);
    let one_by_one = [(0, 1000), (1000, 2000), (2000, 3000), (3000, 4000), (4000, 5000), (5000, 6000), (6000, 7000)];
    assert_eq!(times(&alone), one_by_one);
    assert_eq!(alone.summary.requests_per_job, None);
    let loose = ["batching.size=4", "queue.deadline_multiple=100"];
    let together = run(&arrivals, &loose);
    // The first goes at once; four of those that wait make a job, of 2 s; the last of them goes alone.
    let four = [(1000, 3000); 4];
    assert_eq!(times(&together)[..5], [[(0, 1000)].as_slice(), &four].concat());
    assert_eq!(times(&together)[5..], [(3000, 4000), (5000, 6000)]);
    assert_eq!(together.summary.requests_per_job, Some(7.0 / 4.0));
    // Waiting for others: as long as allowed, or until there are enough.
    let waits = [&loose[..], &["batching.wait_s=0.25"]].concat();
    assert_eq!(times(&run(&[0.0, 0.1, 0.2, 0.5], &waits))[..3], [(250, 2000); 3], "three take 1.75 s");
    assert_eq!(times(&run(&[0.0, 0.1, 0.2, 0.2, 0.5], &waits))[..4], [(200, 2200); 4]);
}

#[test]
fn no_request_is_late_for_the_company() {
    // Due 2.2 s after they arrive: behind the first, two are done in time together, three are not.
    let sets = ["batching.size=4", "queue.deadline_multiple=2.2"];
    let arrivals = [0.0, 0.4, 0.4, 0.4];
    assert_eq!(times(&run(&arrivals, &sets)), [(0, 1000), (1000, 2500), (1000, 2500), (2500, 3500)]);
    let large = [&sets[..], &["batching.by_deadline=false"]].concat();
    assert_eq!(times(&run(&arrivals, &large)), [(0, 1000), (1000, 2750), (1000, 2750), (1000, 2750)]);
    // A job that waits for others starts when it would otherwise be late: 1.2 s before 2.2 s is too early to need it.
    let patient = [&sets[..], &["batching.wait_s=10"]].concat();
    assert_eq!(times(&run(&[0.0], &patient)), [(1200, 2200)]);
}

#[test]
fn a_cascade_makes_unsure_drafts_again() {
    let folder = Folder::new(&[]);
    folder.write("profile.toml", PROFILE);
    folder.write("requests.csv", "arrival_s\n0\n0\n0\n3\n3\n");
    folder.write("scores.csv", "id,light\n1,0.9\n2,0.3\n3,0.8\n");
    let sets = [
        "system.policy=cascade",
        "cluster.gpus=[{ type = \"g\", count = 2 }]",
        "allocation.policy=static",
        "cascade.threshold=0.8",
        "cascade.confidences=scores.csv",
    ];
    let results = with(&folder, SCENARIO, &sets);
    let words: Vec<_> = results.requests.iter().map(|row| (row.decision.unwrap().kind.word(), row.attempts)).collect();
    assert_eq!(words, [("draft", 1), ("miss", 2), ("draft", 1), ("draft", 1), ("miss", 2)]);
    // Drafts take 0.1 s each, one after the other; the second is made again from 0.2 s on.
    assert_eq!(times(&results)[..3], [(0, 100), (200, 1200), (200, 300)]);
    let made = &results.summary.completed_by_model;
    assert_eq!((made["light"], made["heavy"]), (3, 2));
    assert_eq!(results.summary.hit_rate, Some(0.0));
}

#[test]
fn a_cascade_s_allocation_follows_the_load() {
    let folder = Folder::new(&[]);
    folder.write("profile.toml", PROFILE.replace("load_s = 20", "load_s = 0.5"));
    // One request a second for a minute, then eight a second for another.
    let arrivals = (0..60).map(f64::from).chain((0..480).map(|i| 60.0 + f64::from(i) / 8.0));
    folder.write("requests.csv", trace(arrivals));
    let sets = [
        "system.policy=cascade",
        "cluster.gpus=[{ type = \"g\", count = 4 }]",
        "allocation.policy=cascade",
        "allocation.period_s=5",
        "batching.size=4",
        "queue.deadline_multiple=6",
        "slo.multiples=[6]",
    ];
    let results = with(&folder, SCENARIO, &sets);
    let thresholds: Vec<f64> = results.ticks.iter().map(|row| row.tick.threshold.unwrap()).collect();
    assert!(thresholds[..12].iter().all(|threshold| *threshold >= 1.0), "all are made again at first: {thresholds:?}");
    assert!(thresholds[14..].iter().all(|threshold| *threshold < 1.0), "not all under load: {thresholds:?}");
    let slo = &results.summary.slo[0];
    assert!(slo.attainment > 0.9, "{slo:?}");
    assert!(slo.least_violation_rate.unwrap() <= slo.violation_rate);
}

#[test]
fn a_cascade_s_allocation_counts_all_that_waits() {
    let folder = Folder::new(&[]);
    folder.write("profile.toml", PROFILE);
    let overloaded = |burst: u32, queue_delay: &str| {
        // One request a second, then a burst just before the decision at 60 s; four of a job take 0.2 s and 2 s.
        let arrivals = (0..50).map(f64::from).chain((0..burst).map(|i| 59.9 + f64::from(i) * 1e-5)).chain([200.0]);
        folder.write("requests.csv", trace(arrivals));
        let queue_delay = format!("allocation.queue_delay={queue_delay}");
        let sets = [
            "system.policy=cascade",
            "cluster.gpus=[{ type = \"g\", count = 4 }]",
            "allocation.policy=cascade",
            "allocation.period_s=60",
            "batching.size=4",
            "queue.deadline_multiple=6",
            "cascade.threshold=0",
            &queue_delay,
        ];
        let results = with(&folder, SCENARIO, &sets);
        results.ticks[0].tick.overloaded.unwrap()
    };
    // Three light workers make 60 drafts a second and have less than 6 s for those that wait.
    assert!(!overloaded(100, "throughput"));
    assert!(overloaded(500, "throughput"), "16 for each worker would be made in time");
    // By Little's law 100 drafts wait for 40 s where 150 requests came in a minute; 3 drafts for 3 s.
    assert!(overloaded(100, "arrival_rate"));
    assert!(!overloaded(3, "arrival_rate"));
}

/// Savings are compared with each other and with nothing else; requests come too far apart to meet.
#[test]
fn a_factor_to_all_service_times_changes_no_eviction() {
    let scenario = r#"
        name = "gdsf"
        [trace.synthetic]
        requests = 1500
        arrivals = { process = "poisson", rate_per_min = 0.001 }
        [trace.synthetic.prompts]
        topics = 60
        [cluster]
        gpus = [{ type = "g", count = 2 }]
        [models]
        profile = "profile.toml"
        large = "heavy"
        small = ["light"]
        [cache]
        capacity = 100
        eviction = "gdsf"
        [allocation]
        policy = "static"
        initial_large = 1
    "#;
    let decisions = |factor: f64| {
        let folder = Folder::new(&[]);
        let times = |line: &str| match line.split_once("step_s = ") {
            Some(("", seconds)) => format!("step_s = {:?}", factor * seconds.parse::<f64>().unwrap()),
            _ => line.to_owned(),
        };
        let profile: Vec<String> = PROFILE.lines().map(times).collect();
        folder.write("profile.toml", profile.join("\n"));
        let results = with(&folder, scenario, &[]);
        results.requests.iter().map(|row| row.decision.unwrap()).collect::<Vec<_>>()
    };
    let usual = decisions(1.0);
    let skips: std::collections::BTreeSet<u32> = usual.iter().map(|decision| decision.skipped_steps).collect();
    assert!(skips.len() > 3, "hits save differently: {skips:?}");
    for factor in [1.832, 0.0037, 7.3] {
        assert_eq!(decisions(factor), usual, "{factor}");
    }
}

/// Hits and misses in turns on one worker that both of the models fit on, or not.
#[test]
fn models_that_fit_together_need_no_load_between_them() {
    let scenario = r#"
        name = "memory"
        [trace.synthetic]
        requests = 1000
        arrivals = { process = "steps", steps = [[200.0, 30.0], [400.0, 110.0], [600.0, 30.0], [900.0, 110.0]] }
        [trace.synthetic.prompts]
        topics = 20
        [cluster]
        gpus = [{ type = "g", count = 2 }]
        [models]
        profile = "profile.toml"
        large = "heavy"
        small = ["light"]
        [allocation]
        period_s = 20
        mode = "throughput"
        pid = "off"
    "#;
    let loads = |memory: &str| {
        let folder = Folder::new(&[]);
        let profile = PROFILE.replace("memory_gb = 40.0", memory);
        folder.write("profile.toml", profile);
        let results = with(&folder, scenario, &[]);
        let (loads, changes) = (results.summary.model_loads, results.ticks.windows(2));
        let changes = changes.filter(|pair| pair[0].tick.targets != pair[1].tick.targets).count();
        assert!(results.requests.iter().all(|row| row.outcome == Outcome::Completed));
        (loads, changes)
    };
    let (apart, changes) = loads("memory_gb = 30.0");
    let (together, _) = loads("memory_gb = 34.0");
    assert!(apart >= 3 && changes >= 3, "{apart} loads, {changes} changes");
    assert!((1..=2).contains(&together), "each worker loads what it did not begin with, once: {together}");
}

#[test]
fn who_cannot_be_in_time_is_turned_away_at_once() {
    // Each takes a second and is due 2.5 s after it arrives.
    let arrivals = [0.0, 0.0, 0.0, 0.0, 1.2];
    let results = run(&arrivals, &["queue.admission=true", "queue.deadline_multiple=2.5"]);
    let outcomes: Vec<_> = results.requests.iter().map(|row| (row.outcome.clone(), row.finish.nanoseconds())).collect();
    let second = 1_000_000_000;
    assert_eq!(outcomes[0], (Outcome::Completed, second));
    assert_eq!(outcomes[1], (Outcome::Completed, 2 * second));
    for behind in &outcomes[2..4] {
        assert_eq!(*behind, (Outcome::Rejected(Rejection::Behind { others: 1 }), 0));
    }
    assert_eq!(outcomes[4], (Outcome::Completed, 3 * second));
    assert!(run(&arrivals, &["queue.deadline_multiple=2.5"]).requests.iter().all(RequestRow::completed));
}

#[test]
fn hits_go_further_under_load_within_the_floor() {
    let scenario = r#"
        name = "levels"
        [trace]
        warm_requests = 3000
        [trace.synthetic]
        requests = 6000
        arrivals = { process = "steps", steps = [[18000.0, 12.0], [20000.0, 30.0], [30000.0, 8.0]] }
        [trace.synthetic.prompts]
        topics = 5000
        [cluster]
        gpus = [{ type = "mi210", count = 10 }]
        [models]
        small = ["sdxl"]
        [allocation]
        mode = "throughput"
        [approximation]
        floor = 0.95
        quality = 0.95
        memory = 2000
        [[approximation.level]]
        from = 1.0
        quality = 0.90
        bounds = [[0.22, 10], [0.25, 25], [0.28, 35]]
    "#;
    let folder = Folder::new(&[]);
    let usual = with(&folder, scenario, &["approximation.level=[]"]);
    let results = with(&folder, scenario, &[]);
    let (kept, levels) = (results.summary.assumed_quality.unwrap(), &results.summary.hits_by_level);
    assert!(kept >= 0.95 && levels[1] > 100, "{kept} {levels:?}");
    assert_eq!(usual.summary.assumed_quality, None);
    let late = |results: &Results| results.summary.slo[0].violation_rate;
    assert!(late(&results) < 0.8 * late(&usual), "{} {}", late(&results), late(&usual));
    let last = results.requests.iter().rev().take(300);
    assert!(last.filter_map(|row| row.decision).all(|decision| decision.level == 0), "it goes back");
}
