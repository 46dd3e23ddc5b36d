//! Standard output that nobody reads, and disks that are full: the program ends without a panic.

use std::fmt::Write;
use std::fs::File;
use std::process::{Command, Stdio};

use crate::program::{Answer, Folder, modm};

const SCENARIO: &str = r#"
name = "small"
[trace]
requests = "requests.csv"
[cluster]
gpus = [{ type = "mi210", count = 2 }]
"#;

fn folder() -> Folder {
    let mut requests = String::from("arrival_s,prompt\n");
    for row in 0..2000 {
        writeln!(requests, "{row},a red cat {row}").unwrap();
    }
    Folder::new(&[("scenario.toml", SCENARIO), ("requests.csv", &requests)])
}

/// Commands that print results of each kind: tables, JSON, lines, help, a script.
const COMMANDS: [&[&str]; 8] = [
    &["simulate", "scenario.toml", "--out", "table"],
    &["simulate", "scenario.toml", "--json", "--out", "json"],
    &["sweep", "scenario.toml", "--vary", "seed=1,2", "--out", "sweep"],
    &["trace", "inspect", "requests.csv"],
    &["trace", "generate", "--requests", "10", "--out", "trace"],
    &["completions", "bash"],
    &["--help"],
    &["trace", "--version"],
];

fn run(folder: &Folder, arguments: &[&str], out: impl Into<Stdio>, err: impl Into<Stdio>) -> Answer {
    Answer::to(modm(arguments).current_dir(folder.path("")).stdout(out).stderr(err))
}

/// Returns the end of a pipe for writing whose reader has left.
fn closed_pipe() -> Stdio {
    std::io::pipe().unwrap().1.into()
}

#[test]
fn a_reader_that_leaves_ends_the_printing_and_not_the_work() {
    let folder = folder();
    for arguments in COMMANDS {
        let (code, _, err) = run(&folder, arguments, closed_pipe(), Stdio::piped()).parts();
        assert_eq!(code, 0, "{arguments:?}: {err}");
        assert!(!err.contains("panicked") && !err.contains("error"), "{arguments:?}: {err}");
    }
    for file in
        ["table/summary.json", "json/summary.json", "sweep/sweep.csv", "sweep/report.html", "trace/requests.csv"]
    {
        assert!(folder.path(file).is_file(), "{file}");
    }
    // Standard error may lead to the same reader, as after `2>&1 | head -1`.
    let again = ["simulate", "scenario.toml", "--force", "--out", "table"];
    assert_eq!(run(&folder, &again, closed_pipe(), closed_pipe()).code, 0);
    let wrong = ["simulate", "none.toml", "--out", "wrong"];
    assert_eq!(run(&folder, &wrong, closed_pipe(), closed_pipe()).code, 2, "the exit code stays");
}

#[test]
fn a_standard_output_that_is_full_is_said() {
    let folder = folder();
    let full = || File::options().write(true).open("/dev/full").unwrap();
    for arguments in COMMANDS {
        let (code, _, err) = run(&folder, arguments, full(), Stdio::piped()).parts();
        assert_eq!(code, 1, "{arguments:?}: {err}");
        let sentence = "error: standard output cannot be written: No space left on device (os error 28)\n";
        assert!(err.ends_with(sentence) && !err.contains("panicked"), "{arguments:?}: {err}");
    }
    assert!(folder.path("sweep/report.html").is_file(), "the files are written all the same");
}

#[test]
fn a_disk_that_fills_while_results_are_written_is_said_with_the_file() {
    let folder = folder();
    // A limit on the size of files stands for a disk: what is written beyond it fails in the same place.
    for (arguments, file) in [
        ("simulate scenario.toml --out simulated --quiet --no-range", "simulated/requests.csv"),
        ("simulate scenario.toml --out journal --journal --quiet --no-range", "journal/journal.jsonl.gz"),
        ("trace generate --requests 5000 --out trace", "trace/requests.csv"),
    ] {
        let limited = format!("trap '' XFSZ; ulimit -f 16; exec {} {arguments}", env!("CARGO_BIN_EXE_modm"));
        let mut shell = Command::new("sh");
        let (code, _, err) = Answer::to(shell.args(["-c", &limited]).current_dir(folder.path(""))).parts();
        assert_eq!(code, 1, "{arguments}: {err}");
        let sentence = format!("{file}: cannot be written: File too large (os error 27)\n");
        assert!(err.starts_with("error: ") && err.contains(&sentence), "{arguments}: {err}");
        assert!(!folder.path(file).exists() && !folder.path(&format!("{file}.partial")).exists(), "{arguments}");
    }
}
