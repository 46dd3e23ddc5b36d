//! Jobs that are on disk: what `modm serve` keeps of their prompts, and how they end.

use std::collections::BTreeMap;
use std::path::Path;

use modm::serve::clock::HostClock;
use modm::serve::ledger::{Job, Ledger, Status};
use serde_json::json;

use crate::program::{modm, pause};
use crate::served::{PROMPT, Served};

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

#[test]
fn a_repair_that_is_interrupted_loses_no_job() {
    if !cfg!(debug_assertions) {
        return eprintln!("skipped: panics are injected into programs with debug assertions");
    }
    let folder = tempfile::tempdir().unwrap();
    let (data, trigger) = (folder.path().join("data"), folder.path().join("panics"));
    let server = start(&data, &[]);
    let (status, made) = server.draw(&json!({ "prompt": PROMPT, "response_format": "url" }));
    assert_eq!(status, 200, "{made}");
    let picture = format!("{}.png", made["data"][0]["modm"]["id"].as_str().unwrap());
    let ids = submit(&server, "auto", 3);
    kill(server);
    let file = data.join("ledger.redb");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[64..320].fill(0);
    std::fs::write(&file, bytes).unwrap();
    // The repair ends before the new ledger has its place.
    std::fs::write(&trigger, "").unwrap();
    let run = |command: &str, plan: &str| {
        modm(&[command, data.to_str().unwrap()]).env("MODM_TEST_PANIC", plan).output().unwrap()
    };
    let interrupted = run("repair", &format!("repair={}", trigger.display()));
    assert!(!interrupted.status.success() && !trigger.exists(), "{interrupted:?}");
    // The row of the result is lost. Its file would be removed by the next start.
    let mut asides = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path());
    assert!(asides.any(|aside| aside.join("results").join(&picture).exists()), "{picture}");
    // A start does not take the folder for a new one.
    let refused = Ledger::open(&data, &HostClock::new(), None).err().expect("refused").to_string();
    assert!(refused.contains("modm repair"), "{refused}");
    let repaired = run("repair", "");
    assert!(repaired.status.success(), "{repaired:?}");
    let on_disk = jobs(&data);
    assert!(ids.iter().all(|id| on_disk[id].status == Status::Queued), "{on_disk:?}");
}
