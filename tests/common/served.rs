//! A server of the shapes on a free port, for the tests that talk to one.

#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(clippy::allow_attributes, reason = "which parts are unused differs between tests")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use modm::live::picture::Picture;
use serde_json::Value;

use crate::program::{Answer, modm, pause, signal, within};

/// Few steps, so that a picture takes some hundredths of a second.
pub(crate) const SHORT: [&str; 4] = ["--set", "models.steps=26", "--set", "system.bounds=[[0.80, 10], [0.90, 20]]"];
pub(crate) const PROMPT: &str = "a small red circle at the top left on white";

/// A server on a free port.
pub(crate) struct Served {
    pub(crate) child: Child,
    pub(crate) address: String,
    /// Log up to when it listened.
    pub(crate) said: String,
    /// Log since then.
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
    pub(crate) agent: ureq::Agent,
    pub(crate) key: Option<String>,
}

impl Served {
    pub(crate) fn start(data: &Path, more: &[&str]) -> Self {
        Self::start_with(data, more, &[])
    }

    /// Starts a server with further environment variables.
    pub(crate) fn start_with(data: &Path, more: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = serve(Path::new("scenarios/live-shapes.toml"), data);
        Self::launch(command.args(SHORT).args(more).envs(environment.iter().copied()))
    }

    /// Starts a server with the command that [`serve`] makes, and waits until it listens.
    pub(crate) fn launch(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
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
        let reader = std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| own.lock().unwrap().extend([&line, "\n"]));
        });
        // A refusal may come before the body is read, and the connection ends with it: none is used twice.
        let agent = ureq::Agent::config_builder().http_status_as_error(false).max_idle_connections(0);
        let agent = agent.build().new_agent();
        Self { child, address, said, log, reader: Some(reader), agent, key: None }
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

    /// Status and body of a page that is text.
    pub(crate) fn text(&self, path: &str) -> (u16, String) {
        let (status, _, bytes) = self.answer("GET", path, None);
        (status, String::from_utf8(bytes).unwrap())
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        self.json("GET", path, None).1
    }

    pub(crate) fn draw(&self, body: &Value) -> (u16, Value) {
        self.json("POST", "/v1/images/generations", Some(body))
    }

    /// The job at its end.
    pub(crate) fn ended(&self, id: &str) -> Value {
        within(120, "the job ends", || {
            let (status, job) = self.json("GET", &format!("/v1/jobs/{id}"), None);
            assert_eq!(status, 200, "{job}");
            (!["queued", "running"].contains(&job["status"].as_str().unwrap())).then_some(job)
        })
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Log since it listened.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits for an end that nobody asked for.
    pub(crate) fn dies(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().unwrap();
        pause(100);
        (status, self.log())
    }

    pub(crate) fn terminate(mut self) -> ExitStatus {
        self.signal("-TERM");
        self.child.wait().unwrap()
    }

    /// Ends it as a supervisor does; returns its whole log since it listened.
    pub(crate) fn terminate_and_read(mut self) -> String {
        self.signal("-TERM");
        assert!(self.child.wait().unwrap().success());
        self.reader.take().unwrap().join().unwrap();
        self.log()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes the command of a server on a free port.
pub(crate) fn serve(scenario: &Path, data: &Path) -> Command {
    super::onnxruntime::library();
    let mut command = modm(&["serve", "--listen", "127.0.0.1:0", "--data"]);
    command.arg(data).arg(scenario);
    command
}

/// A picture that an answer has.
pub(crate) fn picture(data: &Value) -> Picture {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(data["b64_json"].as_str().unwrap()).unwrap();
    Picture::decode(&bytes).unwrap()
}

/// A tenant's key, and what the file of keys says of it.
pub(crate) fn key(tenant: &str, more: &str) -> (String, String) {
    let made = Answer::to(&mut modm(&["key", tenant]));
    (made.err.trim().rsplit(' ').next().unwrap().to_owned(), format!("{}\n{more}\n", made.out.trim_end()))
}
