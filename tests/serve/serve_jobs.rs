//! Jobs that are on disk: what `modm serve` keeps of their prompts, and how they end.

use std::collections::BTreeMap;
use std::path::Path;

use modm::serve::clock::HostClock;
use modm::serve::ledger::{Job, Ledger, Status};
use serde_json::json;

use crate::served::{PROMPT, Served, pause};

const LONG: [&str; 2] = ["--set", "models.steps=200"];

fn start(data: &Path, more: &[&str]) -> Served {
    let flags: Vec<&str> = LONG.iter().chain(more).copied().collect();
    Served::start(data, &flags)
}

fn kill(mut server: Served) {
    server.child.kill().unwrap();
    server.child.wait().unwrap();
}

/// Submits jobs whose prompts must not be kept, or may be.
fn submit(server: &Served, cache: &str, jobs: u32) -> Vec<String> {
    let body = json!({ "prompt": PROMPT, "n": 10, "cache": cache });
    let submit = |_| {
        let (status, job) = server.json("POST", "/v1/jobs", Some(&body));
        assert_eq!(status, 202, "{job}");
        job["id"].as_str().unwrap().to_owned()
    };
    (0..jobs).map(submit).collect()
}

/// Jobs of a ledger that no server has open.
fn jobs(data: &Path) -> BTreeMap<String, Job> {
    let ledger = Ledger::open(data, &HostClock::new(), None).unwrap();
    ledger.newest_jobs(None, None, 100).unwrap().into_iter().map(|job| (job.id.clone(), job)).collect()
}

#[test]
fn a_prompt_that_must_not_be_kept_leaves_the_ledger_however_its_job_ends() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), &[]);
    let ids = submit(&server, "no-keep", 5);
    let kept = submit(&server, "auto", 1);
    kill(server);
    let on_disk = jobs(folder.path());
    assert!(on_disk.values().all(|job| job.status == Status::Queued && job.prompt == PROMPT), "{on_disk:?}");

    // There is room for one of the two jobs that have a turn. The second waits for room, the fifth for its turn.
    let server = start(folder.path(), &["--set", "serve.max_queue=12"]);
    pause(500);
    for id in [&ids[4], &ids[1]] {
        let (status, job) = server.json("DELETE", &format!("/v1/jobs/{id}"), None);
        assert_eq!((status, &job["status"]), (200, &json!("cancelled")), "{job}");
    }
    kill(server);
    let on_disk = jobs(folder.path());
    for id in [&ids[4], &ids[1]] {
        assert_eq!((on_disk[id].status, on_disk[id].prompt.as_str()), (Status::Cancelled, ""), "{id}");
    }

    // The others can never begin.
    let server = start(folder.path(), &["--set", "serve.max_queue=5"]);
    for id in ids.iter().chain(&kept) {
        server.ended(id);
    }
    assert!(server.terminate().success());
    let on_disk = jobs(folder.path());
    for id in [&ids[2], &ids[3]] {
        assert_eq!((on_disk[id].status, on_disk[id].prompt.as_str()), (Status::Failed, ""), "{id}");
    }
    assert!(ids.iter().all(|id| on_disk[id].prompt.is_empty()), "{on_disk:?}");
    assert_eq!(on_disk[&kept[0]].prompt, PROMPT, "a prompt that may be kept stays with its job");
}
