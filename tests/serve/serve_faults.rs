//! `modm serve` through the program, on the models of shapes, when its worker processes hang, crash or are killed, when
//! a request fails by itself, and when the end of what is in does not come. A process that is stopped (SIGSTOP) hangs
//! as one does whose native call never returns.

#![cfg(all(feature = "serve", target_os = "linux"))]
use std::fs;
use std::path::Path;
use std::process::ExitStatus;
use std::thread::JoinHandle;

use serde_json::{Value, json};

use crate::program::{copy, now, pause, root, signal, within};
use crate::served::{PROMPT, Served, serve};

const SHORT: [&str; 6] = [
    "--set",
    "models.steps=26",
    "--set",
    "system.bounds=[[0.80, 10], [0.90, 20]]",
    "--set",
    "live.limits={step_s=3, encode_s=3, load_s=60}",
];
const WORKERS: &str = "worker cpu";
const ENCODER: &str = "encoder cpu";

fn start(scenario: &Path, data: &Path, more: &[&str]) -> Served {
    Served::launch(serve(scenario, data).args(SHORT).args(more))
}

fn start_shapes(data: &Path, more: &[&str]) -> Served {
    start(Path::new("scenarios/live-shapes.toml"), data, more)
}

fn draw(server: &Served, prompt: &str) -> (u16, Value) {
    server.draw(&json!({ "prompt": prompt }))
}

/// Begins to wait for a picture.
fn drawing(server: &Served, prompt: &str) -> JoinHandle<(u16, Value)> {
    let request = server.agent.post(format!("{}/v1/images/generations", server.address));
    let body = json!({ "prompt": prompt }).to_string();
    std::thread::spawn(move || {
        let answered = request.header("content-type", "application/json").send(body).unwrap();
        let (parts, mut body) = answered.into_parts();
        (parts.status.as_u16(), serde_json::from_slice(&body.read_to_vec().unwrap()).unwrap())
    })
}

/// Submits a job; returns its id.
fn job(server: &Served, prompt: &str) -> String {
    let (status, job) = server.json("POST", "/v1/jobs", Some(&json!({ "prompt": prompt })));
    assert_eq!(status, 202, "{job}");
    job["id"].as_str().unwrap().to_owned()
}

fn worker_states(server: &Served) -> Vec<String> {
    let status = server.get("/v1/status");
    status["workers"].as_array().unwrap().iter().map(|worker| worker["state"].to_string()).collect()
}

/// Value of a counter; 0 while it is not there.
fn counter(server: &Served, name: &str) -> u64 {
    let text = server.text("/metrics").1;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.map_or(0, |value| value.trim().parse().unwrap())
}

fn wait(server: &mut Served, most_s: u64) -> ExitStatus {
    within(most_s, "the server ends", || server.child.try_wait().unwrap())
}

/// Processes of one kind that a process has started, oldest first.
fn children(parent: u32, kind: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let after = stat.rsplit(')').next().unwrap();
        let parent_of_it: u32 = after.split_whitespace().nth(1).unwrap().parse().unwrap();
        if parent_of_it == parent && String::from_utf8_lossy(&words).contains(kind) {
            found.push(id);
        }
    }
    found.sort_unstable();
    found
}

/// Returns whether a process is there and no zombie.
fn is_alive(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next()).is_some_and(|state| state != "Z")
}

fn all_gone(processes: &[u32]) {
    within(5, "its processes end", || processes.iter().all(|process| !is_alive(*process)).then_some(()));
}

#[test]
fn workers_that_hang_cost_their_jobs_and_a_load_and_the_request_is_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let server = start_shapes(folder.path(), &[]);
    assert_eq!(server.text("/readyz"), (200, "ready\n".to_owned()));
    let workers = children(server.child.id(), WORKERS);
    assert_eq!(workers.len(), 2, "a process each");
    for worker in &workers {
        signal(*worker, "-STOP");
    }
    let jobs = [job(&server, PROMPT), job(&server, "a large blue square at the bottom right on white")];
    let unready = within(30, "no worker is ready", || {
        let (status, text) = server.text("/readyz");
        (status == 503).then_some(text)
    });
    assert!(unready.starts_with("no worker: "), "{unready}");
    assert_eq!(server.text("/healthz").0, 200, "the process is well");
    for job in jobs {
        let ended = server.ended(&job);
        assert_eq!(ended["status"], "completed", "{ended}");
    }
    within(60, "it is ready again", || (server.text("/readyz").0 == 200).then_some(()));
    assert_eq!(counter(&server, "modm_worker_losses_total{reason=\"hung\"}"), 2);
    assert!(server.log().contains("took longer than 3 s"), "{}", server.log());
    let losses: u64 = server.get("/v1/status")["workers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|worker| worker["losses"].as_u64().unwrap())
        .sum();
    assert_eq!(losses, 2);
    all_gone(&workers);
}

#[test]
fn processes_that_crash_cost_a_job_or_an_embedding_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let server = start_shapes(folder.path(), &[]);
    assert_eq!(draw(&server, PROMPT).0, 200);
    within(30, "its picture can be found", || (server.get("/v1/status")["cache_images"] == 1).then_some(()));
    let (workers, encoders) = (children(server.child.id(), WORKERS), children(server.child.id(), ENCODER));
    assert_eq!((workers.len(), encoders.len()), (2, 1));
    signal(encoders[0], "-KILL");
    let (status, answer) = draw(&server, PROMPT);
    assert_eq!((status, &answer["modm"][0]["decision"]), (200, &json!("miss")), "it has no embedding: {answer}");
    within(30, "the next ones have", || {
        let (status, answer) = draw(&server, PROMPT);
        assert_eq!(status, 200, "{answer}");
        (answer["modm"][0]["decision"] == "hit").then_some(())
    });
    for worker in &workers {
        signal(*worker, "-KILL");
    }
    let (status, answer) = draw(&server, "a large blue square at the bottom right on white");
    assert_eq!(status, 200, "{answer}");
    assert!(counter(&server, "modm_worker_losses_total{reason=\"crashed\"}") >= 1);
    assert!(server.log().contains("was killed (signal 9)"), "{}", server.log());
}

#[test]
fn the_end_has_a_limit_and_jobs_are_there_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let limits = ["--set", "live.limits={step_s=600}", "--set", "serve.drain_s=5"];
    let mut server = start_shapes(folder.path(), &limits);
    let workers = children(server.child.id(), "worker-process");
    for worker in &children(server.child.id(), WORKERS) {
        signal(*worker, "-STOP");
    }
    let (job, waiting) = (job(&server, PROMPT), drawing(&server, "a large green triangle in the middle on white"));
    within(30, "both are begun", || (worker_states(&server) == ["\"busy\"", "\"busy\""]).then_some(()));
    let begun = now();
    server.signal("-TERM");
    within(5, "it takes nothing more in", || (server.text("/readyz").1.starts_with("draining")).then_some(()));
    let (status, answer) = waiting.join().unwrap();
    assert_eq!(status, 503, "{answer}");
    let ended = wait(&mut server, 30);
    assert_eq!(ended.code(), Some(1), "{}", server.log());
    println!("ended {:.1} s after SIGTERM", begun.elapsed().as_secs_f64());
    within(5, "it says why", || server.log().contains("serve.drain_s = 5 s").then_some(()));
    all_gone(&workers);
    let again = start_shapes(folder.path(), &[]);
    assert_eq!(again.ended(&job)["status"], "completed");
}

#[test]
fn a_second_signal_and_a_kill_end_everything_at_once() {
    let folder = tempfile::tempdir().unwrap();
    for second in ["-TERM", "-KILL"] {
        let mut server = start_shapes(folder.path(), &["--set", "live.limits={step_s=600}"]);
        let processes = children(server.child.id(), "worker-process");
        assert_eq!(processes.len(), 3, "two workers and the encoder");
        for worker in &children(server.child.id(), WORKERS) {
            signal(*worker, "-STOP");
        }
        job(&server, PROMPT);
        within(30, "one is begun", || worker_states(&server).contains(&"\"busy\"".to_owned()).then_some(()));
        server.signal("-TERM");
        pause(500);
        assert!(server.child.try_wait().unwrap().is_none(), "it waits for what is in");
        server.signal(second);
        let ended = wait(&mut server, 5);
        assert_eq!(ended.code(), (second == "-TERM").then_some(143));
        all_gone(&processes);
    }
}

/// The models of shapes with a word that no model can read: its number is beyond the embedding's rows.
fn with_a_word_that_fails(folder: &Path) -> std::path::PathBuf {
    let shapes = root().join("models/shapes");
    for model in ["large", "small"] {
        copy(&shapes.join(model), &folder.join(model));
        let file = folder.join(model).join("tokenizer/tokenizer.json");
        let mut tokenizer: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let word = &mut tokenizer["model"]["vocab"]["star"];
        assert!(word.is_number(), "the word is there");
        *word = json!(100_000);
        fs::write(&file, tokenizer.to_string()).unwrap();
    }
    let scenarios = root().join("scenarios");
    let text = fs::read_to_string(scenarios.join("live-shapes.toml")).unwrap();
    let text = text.replace("../models/shapes/encoder", shapes.join("encoder").to_str().unwrap());
    let text = text.replace("../models/shapes", folder.to_str().unwrap());
    let text = text.replace("\"profiles/", &format!("\"{}/profiles/", scenarios.display()));
    let file = folder.join("scenario.toml");
    fs::write(&file, text).unwrap();
    file
}

#[test]
fn requests_on_which_the_models_fail_cost_no_worker() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = with_a_word_that_fails(&folder.path().join("models"));
    let server = start(&scenario, &folder.path().join("data"), &[]);
    let good: Vec<_> = (0..4).map(|_| draw(&server, PROMPT)).collect();
    assert!(good.iter().all(|(status, _)| *status == 200));
    // Twelve are more than what once took both workers for good.
    for round in 0..4 {
        let bad: Vec<_> = (0..3).map(|_| drawing(&server, "a small red star at the top left on white")).collect();
        assert_eq!(draw(&server, PROMPT).0, 200, "round {round}");
        for bad in bad {
            let (status, answer) = bad.join().unwrap();
            assert_eq!((status, &answer["error"]["code"]), (500, &json!("generation_failed")), "{answer}");
        }
    }
    assert_eq!(server.text("/readyz").0, 200);
    assert_eq!(counter(&server, "modm_failed_jobs_total"), 36, "each is tried three times");
    assert!(!server.text("/metrics").1.contains("modm_worker_losses_total{"), "{}", server.log());
    assert!(server.log().contains("the worker is sound"), "{}", server.log());
}
