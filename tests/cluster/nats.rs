//! A NATS server on a port of its own, and the command of a worker at it.

use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::onnxruntime;
use crate::program::{modm, within};

/// Server that ends with its test.
pub(crate) struct Nats {
    child: Child,
    pub(crate) port: u16,
    arguments: Vec<String>,
}

/// Returns where the program is: Debian puts it where not every PATH looks.
fn program() -> PathBuf {
    let places = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&places).chain([PathBuf::from("/usr/sbin")]);
    let found = places.map(|place| place.join("nats-server")).find(|file| file.is_file());
    found.expect("nats-server is needed: apt-get install nats-server, or scripts/packages \"the tests\" nats-server")
}

/// Returns a port that is free now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn launch(port: u16, arguments: &[String]) -> Child {
    let mut command = Command::new(program());
    command.args(["-js", "-a", "127.0.0.1", "-p", &port.to_string()]).args(arguments);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut said = String::new();
    for line in lines.by_ref().map_while(Result::ok) {
        said += &line;
        said.push('\n');
        if line.contains("Server is ready") {
            // Read on, so that the pipe does not fill.
            std::thread::spawn(move || lines.for_each(drop));
            return child;
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    panic!("nats-server does not start: {said}");
}

impl Nats {
    /// Starts a server without TLS and credentials, whose files are in `folder`.
    pub(crate) fn start(folder: &Path) -> Self {
        Self::with(folder, &[])
    }

    /// Starts a server with further arguments.
    pub(crate) fn with(folder: &Path, more: &[&str]) -> Self {
        let store = folder.join("nats").to_str().unwrap().to_owned();
        let mut arguments = vec!["-sd".to_owned(), store];
        arguments.extend(more.iter().map(|more| (*more).to_owned()));
        let port = free_port();
        Self { child: launch(port, &arguments), port, arguments }
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Kills the server, and starts another in its place.
    pub(crate) fn restart(&mut self) {
        self.kill();
        let (port, arguments) = (self.port, self.arguments.clone());
        // The port may not be free at once.
        within(20, "the port is free", || TcpStream::connect(("127.0.0.1", port)).is_err().then_some(()));
        self.child = launch(port, &arguments);
    }

    /// Kills the server.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Makes the command of a worker of the shapes, whose heartbeats come often.
pub(crate) fn shapes_worker(url: &str, node: &str) -> Command {
    onnxruntime::library();
    let mut command = modm(&["worker", "--cluster", url, "--devices", "cpu:0", "--models", "models/shapes"]);
    command.args(["--node", node, "--heartbeat-s", "0.2"]);
    command
}
