//! Files that are not there or are folders, and folders for results that cannot be used.

use std::fs;
use std::path::Path;

use super::folder::{Folder, all, simulate};

#[test]
fn inputs() {
    let texts = ["scenario.toml", "profile.toml"].map(|name| (name, "cannot be read: Is a directory *"));
    let mapped = ["requests.csv", "prompts.npy", "images.npy", "warm.npy"].map(|name| (name, "is not a regular file"));
    all(texts.into_iter().chain(mapped).flat_map(|(name, message)| {
        let folder = Folder::new();
        fs::remove_file(folder.path(name)).unwrap();
        let missing =
            folder.refusal(&simulate("scenario.toml", &[]), &format!("{name}: cannot be read: No such file *"));
        fs::create_dir(folder.path(name)).unwrap();
        [missing, folder.refusal(&simulate("scenario.toml", &[]), &format!("{name}: {message}"))]
    }));
}

#[test]
fn outputs() {
    let folder = Folder::new();
    let refused = |out: &str, message: &str| {
        all(["simulate", "compare"].map(|command| {
            folder.refusal(&[command, "scenario.toml", "--out", out, "--quiet"], &format!("{out}: --out: {message}"))
        }));
    };
    refused("requests.csv", "is a file: expected a folder, which is made where there is none");
    refused("requests.csv/x", "the folder cannot be made: *");
    for (file, content) in [("run.json", "{}"), ("summary.json", ""), ("comparison.csv", "x")] {
        fs::create_dir_all(folder.path("earlier")).unwrap();
        folder.write(&format!("earlier/{file}"), content);
        refused(
            "earlier",
            &format!("holds an earlier run ({file}): choose another folder, or overwrite it with --force"),
        );
        fs::remove_dir_all(folder.path("earlier")).unwrap();
    }
    // A folder in which nobody, not even root, can make a file.
    if Path::new("/proc/self").is_dir() {
        refused("/proc/self", "the folder cannot be written to: *");
        refused("/proc/none", "the folder cannot be made: *");
    }
}

#[test]
fn force_overwrites() {
    let folder = Folder::new();
    fs::create_dir(folder.path("results")).unwrap();
    folder.write("results/run.json", "old");
    all([folder.success(&simulate("scenario.toml", &["--force"]))]);
    assert_ne!(fs::read(folder.path("results/run.json")).unwrap(), b"old");
    assert!(!folder.path("results/modm.partial").exists());
}

#[test]
fn traces() {
    let folder = Folder::new();
    let refused = |arguments: &[&str], message: &str| folder.refusal(&[&["trace"], arguments].concat(), message);
    fs::create_dir(folder.path("earlier")).unwrap();
    fs::copy(folder.path("requests.csv"), folder.path("earlier/requests.csv")).unwrap();
    folder.write("earlier/inspect.json", "{}");
    all([
        refused(&["generate", "--out", "earlier"], "earlier: --out: holds an earlier run (requests.csv): *"),
        refused(
            &["import", "--prompts", "requests.csv", "--out", "earlier"],
            "earlier: --out: holds an earlier run (requests.csv): *",
        ),
        refused(
            &["inspect", "requests.csv", "--out", "earlier"],
            "earlier: --out: holds an earlier run (inspect.json): *",
        ),
        refused(&["generate", "--out", "requests.csv"], "requests.csv: --out: is a file: *"),
        refused(&["import", "--prompts", "requests.csv", "--out", "requests.csv"], "requests.csv: --out: is a file: *"),
        refused(&["inspect", "requests.csv", "--out", "requests.csv"], "requests.csv: --out: is a file: *"),
        refused(&["inspect", "none.csv", "--out", "results"], "none.csv: cannot be read: *"),
        refused(&["inspect", "profile.toml"], "profile.toml:1: header = *"),
        refused(
            &["inspect", "requests.csv", "--prompt-embeddings", "warm.npy", "--out", "results"],
            "warm.npy: rows = 2: expected 3, one for each request of requests.csv",
        ),
    ]);
}
