//! A server whose parts are killed without warning, one after the other, while jobs come in: nothing that was accepted
//! is lost, nothing is there twice, and no picture reaches another job. `MODM_TEST_KILLS` says how many kills there
//! are.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Child, Stdio};

use serde_json::json;

use crate::nats::{Nats, shapes_worker};
use crate::program::{pause, signal, within};
use crate::served::{SHORT, Served, key, serve};

/// Number of kills if nothing else is asked for; scripts/nightly asks for 100.
const KILLS: usize = 12;
const PROMPTS: [&str; 4] = [
    "a small red circle at the top left on a white background",
    "a large blue square at the center on a white background",
    "a small green triangle at the bottom right on a white background",
    "a large yellow circle at the center on a black background",
];

/// Starts a worker of the shapes.
fn worker(url: &str, node: &str) -> Child {
    shapes_worker(url, node).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn end(mut child: Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn server(data: &Path, url: &str, keys: &Path, tenant: &str, faults: &str) -> Served {
    let mut command = serve(Path::new("scenarios/live-shapes.toml"), data);
    command.args(SHORT).args(["--cluster", url, "--set", "live.cluster.notice_s=1", "--keys"]).arg(keys);
    command.args(["--set", "live.limits.step_s=5", "--rate-per-min", "100000"]);
    if !faults.is_empty() {
        command.env("MODM_TEST_FAULTS", faults);
    }
    Served::launch(&mut command).with_key(tenant)
}

/// Job that was accepted: its tenant, its prompt.
type Accepted = BTreeMap<String, (usize, usize)>;

#[test]
fn kills_of_any_part_lose_nothing_and_double_nothing() {
    let kills = std::env::var("MODM_TEST_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (tenants, tables): (Vec<_>, Vec<_>) = ["alice", "bob"].map(|tenant| key(tenant, "")).into_iter().unzip();
    let keys = folder.path().join("keys.toml");
    std::fs::write(&keys, tables.join("\n")).unwrap();
    let mut nats = Nats::start(folder.path());
    let url = nats.url();
    let names = ["a", "b"];
    let mut workers: Vec<Child> = names.iter().map(|name| worker(&url, name)).collect();
    let mut served = server(&data, &url, &keys, &tenants[0], "");
    // Without the cache, a picture is a function of prompt and seed: what each job must get is drawn once before.
    let body = |prompt: usize| json!({ "prompt": PROMPTS[prompt], "seed": prompt, "cache": "off" });
    let expected: Vec<Vec<u8>> =
        (0..PROMPTS.len()).map(|prompt| result(&served, &submit(&served, &body(prompt)))).collect();
    assert!(expected.iter().enumerate().all(|(at, one)| !expected[..at].contains(one)), "the four differ");

    let mut accepted = Accepted::new();
    let mut number = 0;
    for kill in 0..kills {
        for _ in 0..8 {
            let (tenant, prompt) = (number % 2, number % PROMPTS.len());
            number += 1;
            served.key = Some(tenants[tenant].clone());
            accepted.insert(submit(&served, &body(prompt)), (tenant, prompt));
        }
        pause(100 + 97 * (kill as u64 % 7));
        match kill % 5 {
            at @ (0 | 1) => {
                workers[at].kill().unwrap();
                workers[at].wait().unwrap();
                workers[at] = worker(&url, names[at]);
            }
            2 => nats.restart(),
            3 => {
                // One that hangs for longer than it may be silent, and then goes on with what is no longer wanted.
                let hangs = workers[1].id();
                signal(hangs, "-STOP");
                pause(1800);
                signal(hangs, "-CONT");
            }
            _ => {
                served.child.kill().unwrap();
                served.child.wait().unwrap();
                // The disk of every second server is full for a while. If that is while it starts, it ends with a
                // sentence, and its supervisor starts it again.
                let full = if kill % 2 == 0 { "" } else { "from=250,until=270" };
                let start = |faults| server(&data, &url, &keys, &tenants[0], faults);
                served = catch_unwind(AssertUnwindSafe(|| start(full))).unwrap_or_else(|_| start(""));
            }
        }
    }
    let of = |tenant: usize| accepted.iter().filter(move |(_, (owner, _))| *owner == tenant);
    for (tenant, key) in tenants.iter().enumerate() {
        served.key = Some(key.clone());
        for (id, (_, prompt)) in of(tenant) {
            let job = served.ended(id);
            assert_eq!(job["status"], "completed", "{job}\n{}", served.log());
            assert_eq!(job["data"].as_array().unwrap().len(), 1, "one picture was asked for: {job}");
            assert_eq!(result(&served, id), expected[*prompt], "{job}: its own picture");
        }
        // What is another's is not there.
        for (id, _) in of(1 - tenant) {
            assert_eq!(served.json("GET", &format!("/v1/jobs/{id}"), None).0, 404);
        }
    }
    assert_eq!(accepted.len(), 8 * kills);
    println!("{kills} kills, {} jobs, each with its own picture", accepted.len());
    assert!(served.terminate().success());
    workers.into_iter().for_each(end);
}

/// Submits a job, again until it is accepted: a server that was just started may have no worker yet.
fn submit(served: &Served, body: &serde_json::Value) -> String {
    within(60, "the job is accepted", || {
        let (status, job) = served.json("POST", "/v1/jobs", Some(body));
        (status == 202).then(|| job["id"].as_str().unwrap().to_owned())
    })
}

/// Returns the bytes of the picture of a job that has ended.
fn result(served: &Served, id: &str) -> Vec<u8> {
    let job = served.ended(id);
    assert_eq!(job["status"], "completed", "{job}\n{}", served.log());
    let picture = job["data"][0]["modm"]["id"].as_str().unwrap();
    let (status, _, bytes) = served.answer("GET", &format!("/v1/images/{picture}"), None);
    assert_eq!(status, 200, "{job}");
    bytes
}
