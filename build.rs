//! Tells the program which commit it was built from, for `run.json`. Nothing else is built here.

use std::process::Command;

/// Returns the answer of git; nothing where there is no git or no repository, as in a published package.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

fn main() {
    for path in ["HEAD", "refs/heads", "packed-refs"] {
        // A file that is not there would make cargo run this script each time.
        let path = git(&["rev-parse", "--git-path", path]).filter(|path| std::path::Path::new(path).exists());
        println!("cargo::rerun-if-changed={}", path.as_deref().unwrap_or("build.rs"));
    }
    // An image of Docker is built without the repository, so its commit is passed in.
    println!("cargo::rerun-if-env-changed=MODM_BUILT_FROM");
    let passed = std::env::var("MODM_BUILT_FROM").ok().filter(|commit| !commit.is_empty());
    let commit = passed.or_else(|| git(&["rev-parse", "--short=12", "HEAD"]));
    println!("cargo::rustc-env=MODM_COMMIT={}", commit.unwrap_or_default());
}
