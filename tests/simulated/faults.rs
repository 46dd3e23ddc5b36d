//! `[faults]` through the program: workers and nodes lost and back, slow spells, loads that fail. Nothing is lost, and
//! every worker second is accounted for. Random faults are in `tests/invariants.rs`.

use modm::metrics::{Keep, Results};
use modm::request::Outcome;
use modm::scenario::Source;

use crate::library::simulate;
use crate::program::Folder;

const SCENARIO: &str = r#"
name = "faults"
[trace.synthetic]
requests = 400
arrivals = { process = "constant", rate_per_min = 6.0 }
[trace.synthetic.prompts]
topics = 60
[cluster]
gpus = [{ type = "mi210", count = 2, node = "b" }, { type = "mi210", count = 6, node = "a" }]
"#;

fn run(faults: &str, policy: &str) -> Results {
    let folder = Folder::new(&[("scenario.toml", SCENARIO)]);
    let sets = [format!("faults.events={faults}"), format!("allocation.policy={policy}")];
    simulate(&Source::read(&folder.path("scenario.toml")).unwrap(), &sets, Keep::Rows)
}

fn all_completed(results: &Results) {
    assert_eq!(results.requests.len(), 400);
    assert!(results.requests.iter().all(|row| row.outcome == Outcome::Completed), "nothing is lost");
}

#[test]
fn a_node_that_is_lost_and_comes_back() {
    for policy in ["what_if", "modm"] {
        let results = run("[{ at_s = 600, for_s = 1200, what = \"down\", node = \"b\" }]", policy);
        all_completed(&results);
        let down: Vec<f64> = results.workers.iter().map(|worker| worker.down.seconds()).collect();
        assert!(down[2..].iter().all(|seconds| *seconds < 1e-9), "{policy}: {down:?}");
        assert!(down[..2].iter().all(|seconds| (seconds - 1200.0).abs() < 1e-9), "{policy}: {down:?}");
        let again = results.requests.iter().filter(|row| row.attempts > 1).count();
        assert!((1..=2).contains(&again), "{policy}: {again} were running there");
        assert!(results.workers[..2].iter().all(|worker| worker.loads >= 1), "they come back empty");
    }
}

#[test]
fn the_first_workers_lost_for_ever_leave_misses_to_others() {
    // The paper's monitor would go on counting on workers 0 to n - 1; ours looks at who is there.
    let results = run("[{ at_s = 300, what = \"down\", workers = [0, 1, 2] }]", "what_if");
    all_completed(&results);
    assert!(
        results
            .requests
            .iter()
            .filter(|row| row.arrival.seconds() > 400.0)
            .all(|row| { row.run.is_some_and(|run| run.worker.index() > 2) })
    );
}

#[test]
fn slow_workers_and_failing_loads() {
    let usual = run("[]", "static");
    let slow = run("[{ at_s = 0, what = \"slow\", workers = [0], factor = 2.0 }]", "static");
    all_completed(&slow);
    let mean = |results: &Results| results.workers[0].busy.seconds() / results.workers[0].jobs as f64;
    assert!((mean(&slow) / mean(&usual) - 2.0).abs() < 0.2, "{} and {}", mean(&slow), mean(&usual));
    let failing =
        run("[{ at_s = 0, for_s = 1e6, what = \"load_fails\", workers = [0, 1, 2, 3, 4, 5, 6, 7] }]", "what_if");
    all_completed(&failing);
    assert!(failing.requests.iter().all(|row| row.run.is_some_and(|run| run.model.is_large())), "no load succeeds");
}
