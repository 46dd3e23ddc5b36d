//! Scenario for another folder. The paths of a scenario are relative to its file, so they are rewritten to lead to the
//! same places from the other folder.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use toml::{Table, Value};

use crate::scenario::{Scenario, Source, Variant};

/// Keys with a path as their value. The keys of `live.models` have paths too.
const PATHS: [&str; 7] = [
    "trace.requests",
    "trace.prompt_embeddings",
    "trace.image_embeddings",
    "trace.warm_images",
    "models.profile",
    "live.encoder",
    "live.store",
];
const MODELS: &str = "live.models";

/// Returns the scenario of `file` for a file in the folder `to`. Variants keep all that they set except the bounds and
/// the profile, because these are calibrated.
#[must_use]
pub fn rooted(scenario: &Scenario, file: &Path, to: &Path) -> Scenario {
    let place = |path: &Path| from_folder(&Scenario::resolve(file, path), to);
    let mut moved = scenario.clone();
    let (trace, live) = (&mut moved.trace, &mut moved.live);
    let named =
        [&mut trace.requests, &mut trace.prompt_embeddings, &mut trace.image_embeddings, &mut trace.warm_images];
    for path in named.into_iter().chain([&mut moved.models.profile, &mut live.encoder, &mut live.store]).flatten() {
        *path = place(path);
    }
    for path in live.models.values_mut() {
        *path = place(path);
    }
    for variant in &mut moved.variant {
        variant.set = moved_keys(variant, &place);
    }
    moved
}

/// Returns the settings of a variant by dotted key, with their paths rewritten and without those that are calibrated.
fn moved_keys(variant: &Variant, place: &dyn Fn(&Path) -> PathBuf) -> Table {
    let text = |value: &mut Value| {
        if let Value::String(path) = value {
            *path = place(Path::new(path)).to_string_lossy().into_owned();
        }
    };
    let mut table = Table::new();
    for set in Source::variant_overrides(variant) {
        let mut value = set.value;
        if set.key == "system.bounds" || set.key == "models.profile" {
            continue;
        }
        if PATHS.contains(&set.key.as_str()) || set.key.starts_with(&format!("{MODELS}.")) {
            text(&mut value);
        } else if set.key == MODELS
            && let Value::Table(models) = &mut value
        {
            models.iter_mut().for_each(|(_, value)| text(value));
        }
        table.insert(set.key, value);
    }
    table
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
                    store = \"/nowhere/else\"\n[[variant]]\nname = \"v\"\nset = { \"live.models\" = { x = \"m\" }, live.store = \"s\", cache.capacity = 5, \
                    system.bounds = [[0.5, 5]] }\n";
        let scenario = Source::new(&file, text.to_owned()).and_then(|source| source.scenario(&[])).unwrap();
        let moved = rooted(&scenario, &file, &out);
        let paths = |path: Option<&PathBuf>| path.unwrap().to_str().unwrap().to_owned();
        assert_eq!(paths(moved.trace.requests.as_ref()), "../../scenarios/r.csv");
        assert_eq!(paths(moved.live.encoder.as_ref()), "../../models/large");
        assert_eq!(paths(moved.live.models.get("x")), "../../models/large");
        assert_eq!(paths(moved.live.store.as_ref()), "/nowhere/else");
        let set = &moved.variant[0].set;
        assert_eq!(set["live.store"].as_str(), Some("../../scenarios/s"));
        assert_eq!(set["live.models"]["x"].as_str(), Some("../../scenarios/m"));
        assert_eq!((set["cache.capacity"].as_integer(), set.contains_key("system.bounds")), (Some(5), false));
        let written = toml::to_string_pretty(&moved).unwrap();
        let again = Source::new(&out.join("scenario.toml"), written).and_then(|source| source.scenario(&[])).unwrap();
        assert_eq!(again, moved);
    }
}
