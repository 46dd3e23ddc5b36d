//! Text and overrides of a scenario, in layers: the file, then `--set`, then a variant, each over the layers before it.
//! The origin of each value is known, so that errors name the line or the flag to change.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::{Fingerprint, Scenario};
use crate::input::{self, InputError};
use crate::scheduler::routing::System;

/// Keys of a scenario that accept only a table; `*` stands for every element of an array.
const TABLES: [&str; 25] = [
    "trace",
    "trace.synthetic",
    "trace.synthetic.prompts",
    "cluster",
    "cluster.gpus.*",
    "models",
    "system",
    "retrieval",
    "cache",
    "tenants",
    "tenants.quotas",
    "allocation",
    "network",
    "slo",
    "metrics",
    "encoder",
    "image_model",
    "live",
    "live.models",
    "live.checkpoints.*",
    "live.guidance",
    "live.limits",
    "serve",
    "variant.*",
    "variant.*.published",
];

/// Keys of earlier versions, each with what has replaced it.
const REPLACED: [(&str, &str); 1] = [(
    "image_model.dimension",
    "was replaced by image_model.noise_dimension: the components of a similarity's chance part (256 is fitted)",
)];

/// Start of the origin of a variant's overrides; the name of the variant follows.
const VARIANT: &str = "variant \"";
/// Origin of overrides from the command line.
pub(super) const FLAG: &str = "--set";

/// Text of a scenario.
#[derive(Clone, Debug)]
pub struct Source {
    file: PathBuf,
    text: String,
    table: Table,
}

/// Key that is set over the keys of the scenario's file, with its origin.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    /// Dotted scenario key.
    pub key: String,
    /// Value of the key.
    pub value: Value,
    /// Name of the origin for errors, such as `--set` or a variant.
    pub origin: String,
}

impl Override {
    /// Returns whether a variant of the scenario sets the key.
    pub(super) fn is_of_variant(&self) -> bool {
        self.origin.starts_with(VARIANT)
    }

    /// Returns whether the override chooses a system or an allocation policy.
    pub(super) fn chooses_policy(&self) -> bool {
        ["system.policy", "allocation.policy"].iter().any(|policy| within(policy, &self.key))
    }

    /// Parses `KEY=VALUE` as `--set` takes it. A value that is not TOML is a string.
    ///
    /// # Errors
    /// Returns an error if there is no `=`, or no key before it.
    pub fn parse(text: &str) -> Result<Self, InputError> {
        let bad =
            || InputError::new("the command line", "expected KEY=VALUE, e.g. cache.capacity=5000").value("--set", text);
        let (key, value) = text.split_once('=').ok_or_else(bad)?;
        let key = key.trim();
        if key.is_empty() {
            return Err(bad());
        }
        // A value with a line break could bring further keys. It is a string then, as is any text that is not TOML.
        let parsed = toml::from_str::<Table>(&format!("value = {value}")).ok().filter(|table| table.len() == 1);
        let value = parsed.and_then(|mut table| table.remove("value")).unwrap_or_else(|| Value::from(value.trim()));
        Ok(Self { key: key.to_owned(), value, origin: FLAG.into() })
    }
}

impl Source {
    /// Reads a scenario's file.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or is not TOML.
    pub fn read(file: &Path) -> Result<Self, InputError> {
        Self::new(file, input::text(file)?)
    }

    /// Parses a scenario's text. Paths in the text are relative to `file`.
    ///
    /// # Errors
    /// Returns an error if the text is not TOML.
    pub fn new(file: &Path, text: String) -> Result<Self, InputError> {
        let table = input::toml::parse(&text, file)?;
        Ok(Self { file: file.to_owned(), text, table })
    }

    /// Returns the path of the scenario's file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Returns the name of the file without folders, and the hash of the text.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let name = self.file.file_name().map_or_else(|| self.file.clone(), PathBuf::from);
        Fingerprint { file: name, sha256: input::sha256_of(self.text.as_bytes()) }
    }

    pub(super) const fn table(&self) -> &Table {
        &self.table
    }

    /// Returns the text of the scenario.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the scenario with these overrides, checked. Later overrides replace earlier ones.
    ///
    /// # Errors
    /// Returns an error with the first thing that is wrong, and the line or the override that sets it.
    pub fn scenario(&self, overrides: &[Override]) -> Result<Scenario, InputError> {
        let mut table = self.table.clone();
        let mut notes = Vec::new();
        // Policy and bounds of one origin belong together whichever is set first, so all its keys are applied before
        // bounds are removed.
        for layer in overrides.chunk_by(|one, next| one.origin == next.origin) {
            notes.extend(apply_layer(&mut table, layer)?);
        }
        for (key, way_out) in REPLACED {
            // This comes before serde, which could only say that the key is unknown.
            if let Some(value) = input::toml::look_up(&table, key) {
                let error = InputError::new(&self.file, way_out).value(key, input::toml::written(value));
                return Err(self.place(error, overrides));
            }
        }
        let placed = |error| self.place(error, overrides);
        let mut scenario: Scenario = input::toml::settings(&table, &TABLES, &self.file).map_err(placed)?;
        super::check::check(&scenario, &self.file).map_err(placed)?;
        // Unused keys depend on the routing policy, which can be built once the settings are checked.
        notes.extend(super::unused::check(&scenario, &self.table, overrides, &self.file).map_err(placed)?);
        scenario.notes = notes;
        Ok(scenario)
    }

    /// Returns the overrides of a variant: its `set` table, flattened.
    pub fn variant_overrides(variant: &super::Variant) -> Vec<Override> {
        let origin = format!("{VARIANT}{}\"", variant.name);
        let mut found = Vec::new();
        flatten(&variant.set, "", &mut |key, value| {
            found.push(Override { key, value: value.clone(), origin: origin.clone() });
        });
        found
    }

    /// Adds to an error the place at which its key was set, and the value as written there.
    #[must_use]
    pub fn place(&self, error: InputError, overrides: &[Override]) -> InputError {
        let Some(key) = error.key.clone() else { return error };
        if error.file != self.file {
            return error; // The error is about another file that the scenario names.
        }
        let concerns = |set: &&Override| within(&key, &set.key) || within(&set.key, &key);
        // The last override of a key is the one in force.
        let (placed, written) = if let Some(set) = overrides.iter().rev().find(concerns) {
            let written = if set.key == key {
                Some(&set.value)
            } else {
                // The override holds the key, so the rest begins with a dot.
                key.strip_prefix(&set.key).and_then(|rest| input::toml::look_up_in(&set.value, &rest[1..]))
            };
            (InputError { file: set.origin.clone().into(), line: None, ..error }, written)
        } else {
            let line = input::toml::line_of_key(&self.text, &key);
            (InputError { line, ..error }, input::toml::look_up(&self.table, &key))
        };
        match written.filter(|value| !value.is_table() && !value.is_array()) {
            Some(written) => placed.value(key, input::toml::written(written)),
            None => placed,
        }
    }
}

/// Returns whether the dotted key `inner` is `outer` or lies in it.
pub(super) fn within(outer: &str, inner: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Calls `found` for each value with its dotted key. Keys of the table may be dotted themselves. A table under such a
/// key is a value.
pub(super) fn flatten(table: &Table, prefix: &str, found: &mut impl FnMut(String, &Value)) {
    for (key, value) in table {
        let full = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(inner) if !key.contains('.') => flatten(inner, &full, found),
            _ => found(full, value),
        }
    }
}

/// Sets the keys of one layer. Bounds belong to a system: a layer that changes the policy and has no bounds removes the
/// bounds that were set for the earlier policy. Returns a note if bounds were removed.
fn apply_layer(table: &mut Table, layer: &[Override]) -> Result<Option<String>, InputError> {
    let policy = |table: &Table| {
        let set = input::toml::look_up(table, "system.policy").and_then(Value::as_str);
        set.unwrap_or(System::default().name()).to_owned()
    };
    let before = policy(table);
    for set in layer {
        apply(table, set)?;
    }
    let after = policy(table);
    let brings = |name: &str| {
        let key = format!("system.{name}");
        layer.iter().any(|set| within(&key, &set.key) || (set.key == "system" && set.value.get(name).is_some()))
    };
    let brings_bounds = brings("bounds") || brings("sigma_bounds");
    // Each takes the place of the other.
    for (one, other) in [("bounds", "sigma_bounds"), ("sigma_bounds", "bounds")] {
        let system = table.get_mut("system").and_then(Value::as_table_mut);
        if let Some(system) = system.filter(|_| brings(one) && !brings(other)) {
            system.remove(other);
        }
    }
    if after == before || brings_bounds {
        return Ok(None);
    }
    let system = table.get_mut("system").and_then(Value::as_table_mut);
    let dropped = system.is_some_and(|system| {
        let both = ["bounds", "sigma_bounds"].map(|name| system.remove(name).is_some());
        both.contains(&true)
    });
    let note = format!("system.bounds were set for system.policy = \"{before}\": \"{after}\" has its own");
    Ok(dropped.then_some(note))
}

/// Sets one key.
fn apply(table: &mut Table, set: &Override) -> Result<(), InputError> {
    let mut parts: Vec<&str> = set.key.split('.').collect();
    if parts.iter().any(|part| part.is_empty()) {
        let message = "expected a key, or several with a dot between, e.g. cache.capacity";
        return Err(InputError::new(&set.origin, message).value("key", format_args!("{:?}", set.key)));
    }
    let last = parts.pop().unwrap_or_default();
    let mut at = table;
    for part in parts {
        let inner = at.entry(part).or_insert_with(|| Value::Table(Table::new()));
        at = inner.as_table_mut().ok_or_else(|| {
            InputError::new(&set.origin, format!("`{part}` is a value, not a table of keys: set it as a whole"))
                .key(&set.key)
        })?;
    }
    at.insert(last.to_owned(), set.value.clone());
    Ok(())
}
