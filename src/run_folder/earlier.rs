//! Earlier run in a folder: whether it came to its end, and in which of build, inputs and settings it differs from the
//! run that is expected there.

use std::fmt;
use std::path::Path;

use serde_json::{Value, json};

use super::{RUN, as_toml};
use crate::input::InputError;
use crate::metrics::summary::Summary;
use crate::scenario::{Fingerprint, Scenario};
use crate::simulation::by_name;

/// Number of hexadecimal digits by which messages tell inputs apart.
const DIGITS: usize = 12;

/// Build of the program that made some results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// Version of modm.
    pub version: String,
    /// Commit that modm was built from; empty for a build outside a repository.
    pub commit: String,
}

impl Build {
    /// Returns the build of this program.
    #[must_use]
    pub fn current() -> Self {
        Self { version: env!("CARGO_PKG_VERSION").to_owned(), commit: env!("MODM_COMMIT").to_owned() }
    }

    /// Reads the keys `modm` and `commit` of a JSON object.
    #[must_use]
    pub fn from_json(object: &Value) -> Self {
        let text = |key: &str, absent: &str| object[key].as_str().unwrap_or(absent).to_owned();
        Self { version: text("modm", "of an unknown version"), commit: text("commit", "") }
    }
}

impl fmt::Display for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let commit = if self.commit.is_empty() { "not stated" } else { &self.commit };
        write!(f, "modm {} (commit {commit})", self.version)
    }
}

/// Difference between an earlier run and the run that is expected in its folder.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Difference {
    /// Another build made the earlier run.
    Build(Build),
    /// The earlier run read another input. The words name the file and both hashes.
    Input(String),
    /// The earlier run had another setting. The words quote both.
    Setting(String),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Build(build) => write!(f, "was made by {build}, and this is {}", Build::current()),
            Self::Input(words) | Self::Setting(words) => f.write_str(words),
        }
    }
}

/// Form in which a run that came to its end is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Missing {
    /// There is no such folder.
    Folder,
    /// The folder holds a run that did not come to its end.
    End,
}

/// Earlier run in a folder.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum EarlierRun {
    /// There is no run that came to its end.
    Missing(Missing),
    /// A run came to its end, but it is not the expected one.
    Other(Difference),
    /// The expected run came to its end.
    Finished(Box<Summary>),
}

/// Compares what lies in `folder` with the run that is expected there: this build's, with these settings and inputs.
///
/// # Errors
/// Returns an error if the expected run ended but its measures cannot be read.
pub fn earlier_run(folder: &Path, scenario: &Scenario, files: &[Fingerprint]) -> Result<EarlierRun, InputError> {
    // `run.json` is removed before the first file is replaced, and written last, so a run that has it has ended.
    let text = std::fs::read_to_string(folder.join(RUN)).ok();
    let Some(run) = text.and_then(|text| serde_json::from_str::<Value>(&text).ok()) else {
        return Ok(EarlierRun::Missing(if folder.is_dir() { Missing::End } else { Missing::Folder }));
    };
    let settings = std::fs::read_to_string(folder.join("scenario.toml")).unwrap_or_default();
    if let Some(difference) = difference(&run, &settings, scenario, files) {
        return Ok(EarlierRun::Other(difference));
    }
    let file = folder.join("summary.json");
    let text = std::fs::read_to_string(&file).map_err(|error| InputError::unreadable(&file, &error))?;
    let damaged = |error| InputError::new(&file, format!("is not what a run writes: {error}"));
    serde_json::from_str(&text).map(EarlierRun::Finished).map_err(damaged)
}

/// Returns the first difference of a run. The build comes first, since another build may write all else in another
/// form.
fn difference(run: &Value, settings: &str, scenario: &Scenario, files: &[Fingerprint]) -> Option<Difference> {
    let build = Build::from_json(run);
    if build != Build::current() {
        return Some(Difference::Build(build));
    }
    if run["inputs"] != json!(by_name(files)) {
        return Some(Difference::Input(other_input(&run["inputs"], files)));
    }
    let expected = as_toml(scenario);
    (settings != expected).then(|| Difference::Setting(other_setting(settings, &expected)))
}

/// Returns words for the first input that differs.
fn other_input(there: &Value, here: &[Fingerprint]) -> String {
    let short = |hash: &str| hash.chars().take(DIGITS).collect::<String>();
    let there: Vec<(&str, &str)> = there.as_array().into_iter().flatten().filter_map(name_and_hash).collect();
    for print in here {
        let name = print.file.display().to_string();
        match there.iter().find(|(file, _)| *file == name) {
            Some((_, hash)) if *hash == print.sha256 => {}
            Some((_, hash)) => {
                let (hash, now) = (short(hash), short(&print.sha256));
                return format!("was made from {name} of SHA-256 {hash}..., and the file has {now}... now");
            }
            None => return format!("was made without the input {name}"),
        }
    }
    let more = there.iter().find(|(file, _)| here.iter().all(|print| print.file.display().to_string() != *file));
    more.map_or_else(
        || "was made from the same inputs in another order".to_owned(),
        |(file, _)| format!("was made from {file}, which is no input now"),
    )
}

fn name_and_hash(input: &Value) -> Option<(&str, &str)> {
    Some((input["file"].as_str()?, input["sha256"].as_str()?))
}

/// Returns words for the first line of the settings that differs.
fn other_setting(there: &str, expected: &str) -> String {
    let (mut there, mut expected) = (there.lines(), expected.lines());
    loop {
        match (there.next(), expected.next()) {
            (Some(line), Some(wanted)) if line == wanted => {}
            (None, None) => return "has settings in other bytes".to_owned(),
            (line, wanted) => {
                let quoted = |line: Option<&str>| line.map_or("nothing".to_owned(), |line| format!("`{line}`"));
                return format!("has {} in its scenario.toml, where {} is expected", quoted(line), quoted(wanted));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_named_by_what_differs() {
        let print = |file: &str, sha256: &str| Fingerprint { file: file.into(), sha256: sha256.repeat(16) };
        let words = |there: &[Fingerprint], here: &[Fingerprint]| other_input(&json!(by_name(there)), here);
        let (old, new) = (print("a.csv", "0123"), print("a.csv", "4567"));
        let here = std::slice::from_ref(&new);
        let changed = "was made from a.csv of SHA-256 012301230123..., and the file has 456745674567... now";
        assert_eq!(words(&[old], here), changed);
        assert_eq!(words(&[], here), "was made without the input a.csv");
        let more = [new.clone(), print("b.npy", "89ab")];
        assert_eq!(words(&more, here), "was made from b.npy, which is no input now");
        let setting = other_setting("a = 1\nseed = 8\n", "a = 1\nseed = 7\n");
        assert_eq!(setting, "has `seed = 8` in its scenario.toml, where `seed = 7` is expected");
        assert_eq!(other_setting("", "a = 1\n"), "has nothing in its scenario.toml, where `a = 1` is expected");
        let unknown = Build::from_json(&json!({}));
        assert_eq!(unknown.to_string(), "modm of an unknown version (commit not stated)");
    }
}
