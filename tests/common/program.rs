//! The program as tests run it, temporary folders for its files, and readers of the files that it writes.

#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::allow_attributes, reason = "which parts are unused differs between test programs")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Row of a table, by column.
pub(crate) type Row = BTreeMap<String, String>;

/// Returns the folder of the project.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Makes a command that runs the program in the folder of the project.
pub(crate) fn modm(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_modm"));
    command.args(arguments).current_dir(root());
    command
}

/// End of a run of the program: exit code, and text on standard output and standard error.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Answer {
    /// Runs a command to its end. The exit code is -1 if a signal ended the program.
    pub(crate) fn to(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        Self { code: output.status.code().unwrap_or(-1), out, err }
    }

    /// Checks that the run succeeded.
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.code, 0, "{}", self.err);
        self
    }

    /// Returns exit code, standard output and standard error.
    pub(crate) fn parts(self) -> (i32, String, String) {
        (self.code, self.out, self.err)
    }

    /// Reads standard output as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap()
    }
}

/// Temporary folder that the program runs in.
pub(crate) struct Folder(TempDir);

impl Folder {
    /// Makes a folder with these files, which are pairs of name and content.
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for (name, content) in files {
            folder.write(name, content);
        }
        folder
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Returns the path of a file as an argument of the program.
    pub(crate) fn argument(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub(crate) fn json(&self, name: &str) -> Value {
        json(&self.path(name))
    }

    pub(crate) fn rows(&self, name: &str) -> Vec<Row> {
        rows(&self.path(name))
    }

    /// Runs the program in this folder.
    pub(crate) fn run(&self, arguments: &[&str]) -> Answer {
        Answer::to(modm(arguments).current_dir(&self.0))
    }

    /// Runs the program in this folder, and checks that it succeeds.
    pub(crate) fn works(&self, arguments: &[&str]) -> Answer {
        self.run(arguments).succeeded()
    }
}

/// Reads the rows of a CSV file, from top to bottom.
pub(crate) fn rows(file: &Path) -> Vec<Row> {
    csv::Reader::from_path(file).unwrap().deserialize().map(Result::unwrap).collect()
}

/// Reads a JSON file.
pub(crate) fn json(file: &Path) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

/// Copies a folder with all that is in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Sends a signal, named as `kill` names it, to a process.
pub(crate) fn signal(process: u32, name: &str) {
    assert!(Command::new("kill").args([name, &process.to_string()]).status().unwrap().success());
}

#[expect(clippy::disallowed_methods, reason = "a test against the real clock")]
pub(crate) fn pause(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

#[expect(clippy::disallowed_methods, reason = "a test against the real clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Tries every 20 ms until there is a result.
pub(crate) fn within<T>(seconds: u64, what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let begun = now();
    loop {
        if let Some(done) = attempt() {
            return done;
        }
        assert!(begun.elapsed() < Duration::from_secs(seconds), "not within {seconds} s: {what}");
        pause(20);
    }
}
