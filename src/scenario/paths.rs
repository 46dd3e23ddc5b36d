//! Keys whose values are paths. Paths are relative to the folder of the scenario's file. Whoever rewrites or
//! fingerprints the paths of a scenario takes them from here, and a test finds the keys that are missing here.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::inputs::is_catalogue;
use super::{Scenario, Source, TraceSection, Variant};

/// Tables whose values are all paths: by names that the user chooses, and files that say who a client is.
const ALL_PATHS: [&str; 3] = ["live.models", "live.checkpoints", "live.cluster.identity"];

/// Key with its path, if the path is set.
type Slot<'a> = (&'static str, &'a mut Option<PathBuf>);

impl TraceSection {
    /// Returns the keys of the files of a trace, with their paths.
    pub(super) const fn paths_mut(&mut self) -> [Slot<'_>; 4] {
        [
            ("trace.requests", &mut self.requests),
            ("trace.prompt_embeddings", &mut self.prompt_embeddings),
            ("trace.image_embeddings", &mut self.image_embeddings),
            ("trace.warm_images", &mut self.warm_images),
        ]
    }
}

impl Scenario {
    /// Resolves a path of the scenario, which is relative to the folder of the scenario's `file`.
    #[must_use]
    pub fn resolve(file: &Path, path: &Path) -> PathBuf {
        file.parent().unwrap_or_else(|| Path::new("")).join(path)
    }

    /// Returns the keys whose values are paths, with the paths, except those of [`ALL_PATHS`].
    fn paths_mut(&mut self) -> impl Iterator<Item = Slot<'_>> {
        let others = [
            ("models.profile", &mut self.models.profile),
            ("cascade.confidences", &mut self.cascade.confidences),
            ("live.encoder", &mut self.live.encoder),
            ("live.store", &mut self.live.store),
            ("serve.keys", &mut self.serve.keys),
        ];
        self.trace.paths_mut().into_iter().chain(others)
    }

    /// Returns the scenario with every path replaced by what `place` returns for it, in its variants too. What a
    /// variant sets becomes a list of dotted keys.
    #[must_use]
    pub fn with_paths(&self, place: impl Fn(&Path) -> PathBuf) -> Self {
        let mut moved = self.clone();
        let mut keys = Vec::new();
        for (key, path) in moved.paths_mut() {
            keys.push(key);
            if let Some(path) = path.as_mut().filter(|path| !is_name(key, path)) {
                *path = place(path);
            }
        }
        let checkpoints = moved.live.checkpoints.values_mut().flat_map(|folders| folders.values_mut());
        let identity = moved.live.cluster.iter_mut().flat_map(|cluster| cluster.identity.paths_mut());
        for path in moved.live.models.values_mut().chain(checkpoints).chain(identity) {
            *path = place(path);
        }
        for variant in &mut moved.variant {
            variant.set = moved_keys(variant, &keys, &place);
        }
        moved
    }
}

/// Returns whether the value of a key is the name of something built in, not a path.
fn is_name(key: &str, path: &Path) -> bool {
    key == "models.profile" && is_catalogue(path)
}

/// Returns the settings of a variant by dotted key, with their paths replaced.
fn moved_keys(variant: &Variant, keys: &[&str], place: &dyn Fn(&Path) -> PathBuf) -> Table {
    let mut table = Table::new();
    for set in Source::variant_overrides(variant) {
        let mut value = set.value;
        move_value(&set.key, &mut value, keys, place);
        table.insert(set.key, value);
    }
    table
}

/// Replaces the paths in the value of a key, which may be a table of further keys.
fn move_value(key: &str, value: &mut Value, keys: &[&str], place: &dyn Fn(&Path) -> PathBuf) {
    let is_within = |table: &&str| key.strip_prefix(*table).is_some_and(|rest| rest.starts_with('.'));
    let is_path = ALL_PATHS.iter().any(is_within);
    match value {
        Value::String(path) if (keys.contains(&key) && !is_name(key, Path::new(path))) || is_path => {
            *path = place(Path::new(path)).to_string_lossy().into_owned();
        }
        Value::Table(inner) => {
            for (name, value) in inner {
                move_value(&format!("{key}.{name}"), value, keys, place);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the message with which a scenario with the value `value` at `key` is refused.
    fn refusal(key: &str, value: Value) -> String {
        let mut value = value;
        for part in key.rsplit('.') {
            value = Value::Table(Table::from_iter([(part.to_owned(), value)]));
        }
        let Value::Table(mut table) = value else { unreachable!("a key has a part") };
        table.entry("name").or_insert_with(|| "a".into());
        table.try_into::<Scenario>().err().map(|error| error.to_string()).unwrap_or_default()
    }

    /// Finds the keys below `prefix` whose values are paths by the messages with which serde refuses other values.
    fn find(prefix: &str, found: &mut Vec<String>) {
        let under = |name: &str| if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
        let unknown = refusal(&under("no-such-key"), Value::Boolean(true));
        if unknown.contains("expected path string") {
            return found.push(format!("{prefix}.*"));
        }
        if unknown.contains("expected a map") {
            return find(&under("*"), found);
        }
        let Some((_, names)) = unknown.split_once("unknown field `no-such-key`, expected ") else { return };
        // The names stand between backquotes, so every other piece is one.
        for name in names.split('`').skip(1).step_by(2) {
            let key = under(name);
            if refusal(&key, Value::Boolean(true)).contains("expected path string") {
                found.push(key);
            } else if refusal(&key, Value::Boolean(true)).contains("invalid type: boolean") {
                find(&key, found);
            }
        }
    }

    #[test]
    fn no_key_with_a_path_is_missing() {
        let mut found = Vec::new();
        find("", &mut found);
        let mut scenario: Scenario = toml::from_str("name = \"a\"").unwrap();
        let mut known: Vec<String> = scenario.paths_mut().map(|(key, _)| key.to_owned()).collect();
        known.push("live.models.*".to_owned());
        known.push("live.checkpoints.*.*".to_owned());
        let files = ["credentials", "nkey", "ca", "certificate", "key"];
        known.extend(files.map(|file| format!("live.cluster.identity.{file}")));
        found.sort();
        known.sort();
        assert_eq!(found, known, "left: the keys of the scenario; right: those that are listed here");
    }

    #[test]
    fn the_name_of_the_catalogue_is_no_path() {
        let text = "name = \"a\"\nmodels.profile = \"catalogue\"\n[[variant]]\nname = \"v\"\n\
                    set = { \"models.profile\" = \"catalogue\" }\n[[variant]]\nname = \"w\"\n\
                    set = { \"models.profile\" = \"p.toml\" }\n";
        let scenario: Scenario = toml::from_str(text).unwrap();
        let moved = scenario.with_paths(|path| Path::new("to").join(path));
        assert_eq!(moved.models.profile.as_deref(), Some(Path::new("catalogue")));
        let set = |variant: usize| moved.variant[variant].set["models.profile"].as_str();
        assert_eq!((set(0), set(1)), (Some("catalogue"), Some("to/p.toml")));
    }

    #[test]
    fn paths_of_variants_are_replaced_however_their_keys_are_written() {
        let text = "name = \"a\"\ntrace.requests = \"r.csv\"\nserve.keys = \"k\"\n[[variant]]\nname = \"v\"\n\
                    set = { cascade.confidences = \"c\", \"serve.keys\" = \"s\", \"live.models.x\" = \"x\", \
                    \"live.models\" = { y = \"y\" }, \"models.large\" = \"l\" }\n";
        let scenario: Scenario = toml::from_str(text).unwrap();
        let moved = scenario.with_paths(|path| Path::new("to").join(path));
        assert_eq!(moved.serve.keys.as_deref(), Some(Path::new("to/k")));
        let set = &moved.variant[0].set;
        let texts = ["cascade.confidences", "serve.keys", "live.models.x", "models.large"].map(|key| set[key].as_str());
        assert_eq!(texts, [Some("to/c"), Some("to/s"), Some("to/x"), Some("l")]);
        assert_eq!(set["live.models"]["y"].as_str(), Some("to/y"));
    }
}
