//! `modm serve` through the program, on the models of shapes, when its worker processes hang, crash or are killed, when a
//! request fails by itself, and when the end of what is in does not come. A process that is stopped (SIGSTOP) hangs as one
//! does whose native call never returns.

#![cfg(all(feature = "serve", target_os = "linux"))]
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::onnxruntime;

const SHORT: [&str; 6] = [
    "--set",
    "models.steps=26",
    "--set",
    "system.bounds=[[0.80, 10], [0.90, 20]]",
    "--set",
    "live.limits={step_s=3, encode_s=3, load_s=60}",
];
const PROMPT: &str = "a small red circle at the top left on white";
const WORKERS: &str = "worker cpu";
const ENCODER: &str = "encoder cpu";

/// A server on a free port.
struct Served {
    child: Child,
    address: String,
    agent: ureq::Agent,
    /// Log while it serves.
    log: Arc<Mutex<String>>,
}

impl Served {
    fn start(scenario: &Path, data: &Path, more: &[&str]) -> Self {
        onnxruntime::library();
        let mut command = Command::new(env!("CARGO_BIN_EXE_modm"));
        command.current_dir(env!("CARGO_MANIFEST_DIR")).arg("serve").arg(scenario).arg("--data").arg(data);
        command.args(["--listen", "127.0.0.1:0"]).args(SHORT).args(more).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = String::new();
        let address = loop {
            let line = lines.next().unwrap_or_else(|| panic!("it ended before it listened: {said}")).unwrap();
            if let Some(address) = line.strip_prefix("listening on ") {
                break address.to_owned();
            }
            said.extend([&line, "\n"]);
        };
        let log = Arc::<Mutex<String>>::default();
        let own = log.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                own.lock().unwrap().extend([&line, "\n"]);
            }
        });
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
        Self { child, address, agent, log }
    }

    fn shapes(data: &Path, more: &[&str]) -> Self {
        Self::start(Path::new("scenarios/live-shapes.toml"), data, more)
    }

    fn text(&self, path: &str) -> (u16, String) {
        let answered = self.agent.get(format!("{}{path}", self.address)).call().unwrap();
        let (parts, mut body) = answered.into_parts();
        (parts.status.as_u16(), body.read_to_string().unwrap())
    }

    fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.text(path).1).unwrap()
    }

    fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        post(&self.agent, &format!("{}{path}", self.address), body)
    }

    fn draw(&self, prompt: &str) -> (u16, Value) {
        self.post("/v1/images/generations", &json!({ "prompt": prompt }))
    }

    /// Begins to wait for a picture.
    fn drawing(&self, prompt: &str) -> JoinHandle<(u16, Value)> {
        let (agent, address) = (self.agent.clone(), format!("{}/v1/images/generations", self.address));
        let body = json!({ "prompt": prompt });
        std::thread::spawn(move || post(&agent, &address, &body))
    }

    /// Submits a job; returns its address.
    fn job(&self, prompt: &str) -> String {
        let (status, job) = self.post("/v1/jobs", &json!({ "prompt": prompt }));
        assert_eq!(status, 202, "{job}");
        format!("/v1/jobs/{}", job["id"].as_str().unwrap())
    }

    /// The job at its end.
    fn ended(&self, job: &str) -> Value {
        within(120, "the job ends", || {
            let job = self.json(job);
            (!["queued", "running"].contains(&job["status"].as_str().unwrap())).then_some(job)
        })
    }

    fn worker_states(&self) -> Vec<String> {
        let status = self.json("/v1/status");
        status["workers"].as_array().unwrap().iter().map(|worker| worker["state"].to_string()).collect()
    }

    /// Value of a counter; 0 while it is not there.
    fn counter(&self, name: &str) -> u64 {
        let text = self.text("/metrics").1;
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(0, |value| value.trim().parse().unwrap())
    }

    fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    fn wait(&mut self, most_s: u64) -> ExitStatus {
        within(most_s, "the server ends", || self.child.try_wait().unwrap())
    }

    fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn post(agent: &ureq::Agent, address: &str, body: &Value) -> (u16, Value) {
    let answered = agent.post(address).header("content-type", "application/json").send(body.to_string()).unwrap();
    let (parts, mut body) = answered.into_parts();
    (parts.status.as_u16(), serde_json::from_slice(&body.read_to_vec().unwrap()).unwrap())
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

fn signal(process: u32, name: &str) {
    assert!(Command::new("kill").args([name, &process.to_string()]).status().unwrap().success());
}

/// Whether a process is there and no zombie.
fn is_alive(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next()).is_some_and(|state| state != "Z")
}

#[expect(clippy::disallowed_methods, reason = "a test against the real clock")]
fn pause(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

#[expect(clippy::disallowed_methods, reason = "a test against the real clock")]
fn now() -> Instant {
    Instant::now()
}

/// Tries until there is something.
fn within<T>(seconds: u64, what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let begun = now();
    loop {
        if let Some(done) = attempt() {
            return done;
        }
        assert!(begun.elapsed() < Duration::from_secs(seconds), "not within {seconds} s: {what}");
        pause(20);
    }
}

fn all_gone(processes: &[u32]) {
    within(5, "its processes end", || processes.iter().all(|process| !is_alive(*process)).then_some(()));
}

#[test]
fn workers_that_hang_cost_their_jobs_and_a_load_and_the_request_is_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let server = Served::shapes(folder.path(), &[]);
    assert_eq!(server.text("/readyz"), (200, "ready\n".to_owned()));
    let workers = children(server.child.id(), WORKERS);
    assert_eq!(workers.len(), 2, "a process each");
    for worker in &workers {
        signal(*worker, "-STOP");
    }
    let jobs = [server.job(PROMPT), server.job("a large blue square at the bottom right on white")];
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
    assert_eq!(server.counter("modm_worker_losses_total{reason=\"hung\"}"), 2);
    assert!(server.log().contains("took longer than 3 s"), "{}", server.log());
    let losses: u64 = server.json("/v1/status")["workers"]
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
    let server = Served::shapes(folder.path(), &[]);
    assert_eq!(server.draw(PROMPT).0, 200);
    within(30, "its picture can be found", || (server.json("/v1/status")["cache_images"] == 1).then_some(()));
    let (workers, encoders) = (children(server.child.id(), WORKERS), children(server.child.id(), ENCODER));
    assert_eq!((workers.len(), encoders.len()), (2, 1));
    signal(encoders[0], "-KILL");
    let (status, answer) = server.draw(PROMPT);
    assert_eq!((status, &answer["modm"][0]["decision"]), (200, &json!("miss")), "it has no embedding: {answer}");
    within(30, "the next ones have", || {
        let (status, answer) = server.draw(PROMPT);
        assert_eq!(status, 200, "{answer}");
        (answer["modm"][0]["decision"] == "hit").then_some(())
    });
    for worker in &workers {
        signal(*worker, "-KILL");
    }
    let (status, answer) = server.draw("a large blue square at the bottom right on white");
    assert_eq!(status, 200, "{answer}");
    assert!(server.counter("modm_worker_losses_total{reason=\"crashed\"}") >= 1);
    assert!(server.log().contains("was killed (signal 9)"), "{}", server.log());
}

#[test]
fn the_end_has_a_limit_and_jobs_are_there_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let limits = ["--set", "live.limits={step_s=600}", "--set", "serve.drain_s=5"];
    let mut server = Served::shapes(folder.path(), &limits);
    let workers = children(server.child.id(), "worker-process");
    for worker in &children(server.child.id(), WORKERS) {
        signal(*worker, "-STOP");
    }
    let (job, waiting) = (server.job(PROMPT), server.drawing("a large green triangle in the middle on white"));
    within(30, "both are begun", || (server.worker_states() == ["\"busy\"", "\"busy\""]).then_some(()));
    let begun = now();
    server.signal("-TERM");
    within(5, "it takes nothing more in", || (server.text("/readyz").1.starts_with("draining")).then_some(()));
    let (status, answer) = waiting.join().unwrap();
    assert_eq!(status, 503, "{answer}");
    let ended = server.wait(30);
    assert_eq!(ended.code(), Some(1), "{}", server.log());
    println!("ended {:.1} s after SIGTERM", begun.elapsed().as_secs_f64());
    within(5, "it says why", || server.log().contains("serve.drain_s = 5 s").then_some(()));
    all_gone(&workers);
    let again = Served::shapes(folder.path(), &[]);
    assert_eq!(again.ended(&job)["status"], "completed");
}

#[test]
fn a_second_signal_and_a_kill_end_everything_at_once() {
    let folder = tempfile::tempdir().unwrap();
    for second in ["-TERM", "-KILL"] {
        let mut server = Served::shapes(folder.path(), &["--set", "live.limits={step_s=600}"]);
        let processes = children(server.child.id(), "worker-process");
        assert_eq!(processes.len(), 3, "two workers and the encoder");
        for worker in &children(server.child.id(), WORKERS) {
            signal(*worker, "-STOP");
        }
        server.job(PROMPT);
        within(30, "one is begun", || server.worker_states().contains(&"\"busy\"".to_owned()).then_some(()));
        server.signal("-TERM");
        pause(500);
        assert!(server.child.try_wait().unwrap().is_none(), "it waits for what is in");
        server.signal(second);
        let ended = server.wait(5);
        assert_eq!(ended.code(), (second == "-TERM").then_some(143));
        all_gone(&processes);
    }
}

/// The models of shapes with a word that no model can read: its number is beyond the embedding's rows.
fn with_a_word_that_fails(folder: &Path) -> std::path::PathBuf {
    let shapes = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/shapes");
    for model in ["large", "small"] {
        copy(&shapes.join(model), &folder.join(model));
        let file = folder.join(model).join("tokenizer/tokenizer.json");
        let mut tokenizer: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let word = &mut tokenizer["model"]["vocab"]["star"];
        assert!(word.is_number(), "the word is there");
        *word = json!(100_000);
        fs::write(&file, tokenizer.to_string()).unwrap();
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let text = fs::read_to_string(root.join("live-shapes.toml")).unwrap();
    let text = text.replace("../models/shapes/encoder", shapes.join("encoder").to_str().unwrap());
    let text = text.replace("../models/shapes", folder.to_str().unwrap());
    let text = text.replace("\"profiles/", &format!("\"{}/profiles/", root.display()));
    let file = folder.join("scenario.toml");
    fs::write(&file, text).unwrap();
    file
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let place = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &place);
        } else {
            fs::copy(entry.path(), place).unwrap();
        }
    }
}

#[test]
fn requests_on_which_the_models_fail_cost_no_worker() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = with_a_word_that_fails(&folder.path().join("models"));
    let server = Served::start(&scenario, &folder.path().join("data"), &[]);
    let good: Vec<_> = (0..4).map(|_| server.draw(PROMPT)).collect();
    assert!(good.iter().all(|(status, _)| *status == 200));
    // Twelve are more than what once took both workers for good.
    for round in 0..4 {
        let bad: Vec<_> = (0..3).map(|_| server.drawing("a small red star at the top left on white")).collect();
        assert_eq!(server.draw(PROMPT).0, 200, "round {round}");
        for bad in bad {
            let (status, answer) = bad.join().unwrap();
            assert_eq!((status, &answer["error"]["code"]), (500, &json!("generation_failed")), "{answer}");
        }
    }
    assert_eq!(server.text("/readyz").0, 200);
    assert_eq!(server.counter("modm_failed_jobs_total"), 36, "each is tried three times");
    assert!(!server.text("/metrics").1.contains("modm_worker_losses_total{"), "{}", server.log());
    assert!(server.log().contains("the worker is sound"), "{}", server.log());
}
