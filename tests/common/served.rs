//! A server of the shapes on a free port, for the tests that talk to one.

#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(clippy::allow_attributes, reason = "which parts are unused differs between tests")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use modm::live::picture::Picture;
use serde_json::Value;

/// Few steps, so that a picture takes some hundredths of a second.
pub(crate) const SHORT: [&str; 4] = ["--set", "models.steps=26", "--set", "system.bounds=[[0.80, 10], [0.90, 20]]"];
pub(crate) const PROMPT: &str = "a small red circle at the top left on white";

pub(crate) fn modm(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_modm"));
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

/// A server on a free port.
pub(crate) struct Served {
    pub(crate) child: Child,
    pub(crate) address: String,
    /// Log up to when it listened.
    pub(crate) said: String,
    /// Log since then.
    pub(crate) log: Arc<Mutex<String>>,
    pub(crate) agent: ureq::Agent,
    pub(crate) key: Option<String>,
}

impl Served {
    pub(crate) fn start(data: &Path, more: &[&str]) -> Self {
        Self::start_with(data, more, &[])
    }

    /// Starts a server with further environment variables.
    pub(crate) fn start_with(data: &Path, more: &[&str], environment: &[(&str, &str)]) -> Self {
        super::onnxruntime::library();
        let data = data.display().to_string();
        let place = ["serve", "scenarios/live-shapes.toml", "--data", &data, "--listen", "127.0.0.1:0"];
        let mut child = modm(&place)
            .args(SHORT)
            .args(more)
            .envs(environment.iter().copied())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = String::new();
        let address = loop {
            let line = lines.next().unwrap_or_else(|| panic!("it ended before it listened: {said}")).unwrap();
            if let Some(address) = line.strip_prefix("listening on ") {
                break address.to_owned();
            }
            said.extend([&line, "\n"]);
        };
        // Read on, so that the pipe does not fill.
        let log = Arc::new(Mutex::new(String::new()));
        let own = log.clone();
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| own.lock().unwrap().extend([&line, "\n"]));
        });
        // A refusal may come before the body is read, and the connection ends with it: none is used twice.
        let agent = ureq::Agent::config_builder().http_status_as_error(false).max_idle_connections(0);
        let agent = agent.build().new_agent();
        Self { child, address, said, log, agent, key: None }
    }

    pub(crate) fn with_key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    pub(crate) fn answer(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> (u16, ureq::http::HeaderMap, Vec<u8>) {
        let request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.address));
        let request = match &self.key {
            Some(key) => request.header("authorization", format!("Bearer {key}")),
            None => request,
        };
        let answered = match body {
            Some(body) => {
                self.agent.run(request.header("content-type", "application/json").body(body.to_string()).unwrap())
            }
            None => self.agent.run(request.body(()).unwrap()),
        };
        let (parts, mut body) = answered.unwrap().into_parts();
        (parts.status.as_u16(), parts.headers, body.read_to_vec().unwrap())
    }

    pub(crate) fn json(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let (status, _, bytes) = self.answer(method, path, body);
        (status, serde_json::from_slice(&bytes).unwrap_or_else(|_| panic!("{status}: {bytes:?}")))
    }

    pub(crate) fn draw(&self, body: &Value) -> (u16, Value) {
        self.json("POST", "/v1/images/generations", Some(body))
    }

    /// The job at its end.
    pub(crate) fn ended(&self, id: &str) -> Value {
        loop {
            let (status, job) = self.json("GET", &format!("/v1/jobs/{id}"), None);
            assert_eq!(status, 200, "{job}");
            if !["queued", "running"].contains(&job["status"].as_str().unwrap()) {
                return job;
            }
            pause(20);
        }
    }

    pub(crate) fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success());
    }

    /// Waits for an end that nobody asked for.
    pub(crate) fn dies(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().unwrap();
        pause(100);
        let said = self.log.lock().unwrap().clone();
        (status, said)
    }

    pub(crate) fn terminate(mut self) -> ExitStatus {
        self.signal("-TERM");
        self.child.wait().unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "a test against the real clock")]
pub(crate) fn pause(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

#[expect(clippy::disallowed_methods, reason = "a test against the real clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// A picture that an answer has.
pub(crate) fn picture(data: &Value) -> Picture {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(data["b64_json"].as_str().unwrap()).unwrap();
    Picture::decode(&bytes).unwrap()
}

/// A tenant's key, and what the file of keys says of it.
pub(crate) fn key(tenant: &str, more: &str) -> (String, String) {
    let made = modm(&["key", tenant]).output().unwrap();
    let said = String::from_utf8(made.stderr).unwrap();
    (
        said.trim().rsplit(' ').next().unwrap().to_owned(),
        format!("{}{more}\n", String::from_utf8(made.stdout).unwrap().trim_end().to_owned() + "\n"),
    )
}
