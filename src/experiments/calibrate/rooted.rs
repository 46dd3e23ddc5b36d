//! Scenario for another folder. The paths of a scenario are relative to its file, so they are rewritten to lead to the
//! same places from the other folder.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use crate::scenario::Scenario;

/// Keys that a calibration sets, in the scenario and not in its variants.
const CALIBRATED: [&str; 2] = ["system.bounds", "models.profile"];

/// Returns the scenario of `file` for a file in the folder `to`. Variants keep all that they set except the bounds and
/// the profile, because these are calibrated.
#[must_use]
pub fn rooted(scenario: &Scenario, file: &Path, to: &Path) -> Scenario {
    let mut moved = scenario.with_paths(|path| from_folder(&Scenario::resolve(file, path), to));
    for variant in &mut moved.variant {
        variant.set.retain(|key, _| !CALIBRATED.contains(&key));
    }
    moved
}

/// Returns a path relative to a folder, or the absolute path if they have only the root in common.
fn from_folder(path: &Path, folder: &Path) -> PathBuf {
    let (path, folder) = (real(path), real(folder));
    let common = path.components().zip(folder.components()).take_while(|(a, b)| a == b).count();
    let shared = path.components().take(common).any(|part| matches!(part, Component::Normal(_)));
    if !shared {
        return path;
    }
    let up = folder.components().skip(common).map(|_| OsStr::new(".."));
    let relative: PathBuf = up.chain(path.components().skip(common).map(Component::as_os_str)).collect();
    if relative.as_os_str().is_empty() { ".".into() } else { relative }
}

/// Returns the absolute path without links and dots. The part of a path that does not exist yet stays as it is.
fn real(path: &Path) -> PathBuf {
    // Links are resolved, because `..` behind a link leads elsewhere than the written path suggests.
    if let Ok(real) = std::fs::canonicalize(path) {
        return real;
    }
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    match (whole.parent(), whole.file_name()) {
        (Some(folder), Some(name)) => real(folder).join(name),
        _ => whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Source;

    #[test]
    fn paths_lead_to_the_same_places() {
        let root = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let folder = root.path().join(name);
            std::fs::create_dir_all(&folder).unwrap();
            folder
        };
        let (scenarios, out) = (folder("scenarios"), folder("results/one"));
        folder("models/large");
        let file = scenarios.join("a.toml");
        let text = "name = \"a\"\n[trace]\nrequests = \"r.csv\"\n[live]\nencoder = \"../models/large\"\nmodels = { x = \"../models/large\" }\n\
                    store = \"/nowhere/else\"\n[serve]\nkeys = \"k.toml\"\n[[variant]]\nname = \"v\"\nset = { \"live.models\" = { x = \"m\" }, live.store = \"s\", cascade.confidences = \"c.csv\", cache.capacity = 5, \
                    system.bounds = [[0.5, 5]] }\n";
        let scenario = Source::new(&file, text.to_owned()).and_then(|source| source.scenario(&[])).unwrap();
        let moved = rooted(&scenario, &file, &out);
        let paths = |path: Option<&PathBuf>| path.unwrap().to_str().unwrap().to_owned();
        assert_eq!(paths(moved.trace.requests.as_ref()), "../../scenarios/r.csv");
        assert_eq!(paths(moved.live.encoder.as_ref()), "../../models/large");
        assert_eq!(paths(moved.live.models.get("x")), "../../models/large");
        assert_eq!(paths(moved.live.store.as_ref()), "/nowhere/else");
        assert_eq!(paths(moved.serve.keys.as_ref()), "../../scenarios/k.toml");
        let set = &moved.variant[0].set;
        assert_eq!(set["live.store"].as_str(), Some("../../scenarios/s"));
        assert_eq!(set["cascade.confidences"].as_str(), Some("../../scenarios/c.csv"));
        assert_eq!(set["live.models"]["x"].as_str(), Some("../../scenarios/m"));
        assert_eq!((set["cache.capacity"].as_integer(), set.contains_key("system.bounds")), (Some(5), false));
        let written = toml::to_string_pretty(&moved).unwrap();
        let again = Source::new(&out.join("scenario.toml"), written).and_then(|source| source.scenario(&[])).unwrap();
        assert_eq!(again, moved);
    }
}
