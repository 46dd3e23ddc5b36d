//! From text to a scenario: the file, then `--set`, then a variant, one layer over the other. Knows
//! where each value came from, so that errors name the line or the flag to change.

use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::Scenario;
use crate::input::{InputError, line_of_offset};

/// A scenario's text.
#[derive(Clone, Debug)]
pub struct Source {
    file: PathBuf,
    text: String,
    table: Table,
}

/// A key set from elsewhere, and from where.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    /// Dotted scenario key.
    pub key: String,
    /// Its value.
    pub value: Value,
    /// `--set`, or a variant's name.
    pub origin: String,
}

impl Override {
    /// Parses `KEY=VALUE` as `--set` takes it; a value that is not TOML is a string.
    ///
    /// # Errors
    /// No `=`, or no key before it.
    pub fn parse(text: &str) -> Result<Self, InputError> {
        let bad = || InputError::new("--set", "expected KEY=VALUE, e.g. cache.capacity=5000").value("--set", text);
        let (key, value) = text.split_once('=').ok_or_else(bad)?;
        let key = key.trim();
        if key.is_empty() {
            return Err(bad());
        }
        let parsed = toml::from_str::<Table>(&format!("value = {value}")).ok().filter(|table| table.len() == 1);
        let value = parsed.and_then(|mut table| table.remove("value")).unwrap_or_else(|| Value::from(value.trim()));
        Ok(Self { key: key.to_owned(), value, origin: "--set".into() })
    }
}

impl Source {
    /// Reads a scenario's file.
    ///
    /// # Errors
    /// It cannot be read, or is not TOML.
    pub fn read(file: &Path) -> Result<Self, InputError> {
        let text = std::fs::read_to_string(file).map_err(|error| InputError::unreadable(file, &error))?;
        Self::new(file, text)
    }

    /// A scenario's text; paths in it are relative to `file`.
    ///
    /// # Errors
    /// It is not TOML.
    pub fn new(file: &Path, text: String) -> Result<Self, InputError> {
        let table = toml::from_str(&text).map_err(|error: toml::de::Error| {
            let line = error.span().map(|span| line_of_offset(&text, span.start));
            InputError { line, ..InputError::new(file, error.message().trim()) }
        })?;
        Ok(Self { file: file.to_owned(), text, table })
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The scenario with these overrides, the later ones over the earlier; checked.
    ///
    /// # Errors
    /// What is wrong, with the line or the override that says so.
    pub fn scenario(&self, overrides: &[Override]) -> Result<Scenario, InputError> {
        let mut table = self.table.clone();
        for set in overrides {
            apply(&mut table, set)?;
        }
        let scenario = serde_path_to_error::deserialize(Value::Table(table.clone()))
            .map_err(|error| self.explain(&error, &table, overrides))?;
        super::check::check(&scenario, &self.file).map_err(|error| self.place(error, overrides))?;
        Ok(scenario)
    }

    /// The overrides of a variant: its `set` table, flattened.
    pub fn variant_overrides(variant: &super::Variant) -> Vec<Override> {
        let origin = format!("variant \"{}\"", variant.name);
        let mut found = Vec::new();
        flatten(&variant.set, "", &mut |key, value| {
            found.push(Override { key, value: value.clone(), origin: origin.clone() });
        });
        found
    }

    /// Says where the key of an error was set.
    #[must_use]
    pub fn place(&self, error: InputError, overrides: &[Override]) -> InputError {
        let Some(key) = error.key.clone() else { return error };
        let concerns = |set: &&Override| within(&key, &set.key) || within(&set.key, &key);
        if let Some(set) = overrides.iter().rev().find(concerns) {
            return InputError { file: set.origin.clone().into(), line: None, ..error };
        }
        if error.file != self.file {
            return error; // About another file that the scenario names.
        }
        InputError { line: self.line(&key), ..error }
    }

    fn explain(
        &self,
        error: &serde_path_to_error::Error<toml::de::Error>,
        table: &Table,
        overrides: &[Override],
    ) -> InputError {
        let path = error.path().to_string();
        let message = error.inner().message().trim().replace('\n', " ");
        let mut key = if path == "." { String::new() } else { path.replace('[', ".").replace(']', "") };
        // serde names an unknown key in the message alone; its place is what the user looks for.
        if let Some(unknown) = message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next())
            && !within(&key, unknown)
            && key.rsplit('.').next() != Some(unknown)
        {
            key = if key.is_empty() { unknown.to_owned() } else { format!("{key}.{unknown}") };
        }
        let found = look_up(table, &key).filter(|value| !value.is_table()).map(ToString::to_string);
        let error = InputError { found, ..InputError::new(&self.file, message).key(key) };
        self.place(error, overrides)
    }

    /// The line on which a key, or the nearest table around it, stands.
    fn line(&self, key: &str) -> Option<usize> {
        let document = DeTable::parse(&self.text).ok()?;
        let mut offset = None;
        let mut table = Some(document.get_ref());
        let mut array = None;
        for part in key.split('.') {
            let found = match (table, array) {
                (Some(table), _) => table
                    .iter()
                    .find(|(name, _)| name.get_ref() == part)
                    .map(|(name, value)| (name.span().start, value)),
                (None, Some(array)) => part.parse::<usize>().ok().and_then(|index| {
                    let array: &toml::de::DeArray<'_> = array;
                    array.get(index).map(|value| (value.span().start, value))
                }),
                (None, None) => None,
            };
            let Some((start, value)) = found else { break };
            offset = Some(start);
            (table, array) = match value.get_ref() {
                DeValue::Table(inner) => (Some(inner), None),
                DeValue::Array(inner) => (None, Some(inner)),
                _ => (None, None),
            };
        }
        offset.map(|offset| line_of_offset(&self.text, offset))
    }
}

/// Whether `inner` is `outer` or lies in it, as dotted keys.
fn within(outer: &str, inner: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn look_up<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    let (first, rest) = key.split_once('.').map_or((key, None), |(first, rest)| (first, Some(rest)));
    let value = table.get(first)?;
    match rest {
        None => Some(value),
        Some(rest) => value.as_table().map_or(Some(value), |inner| look_up(inner, rest)),
    }
}

/// Calls `found` for each value with its dotted key; keys of the table may themselves be dotted. A
/// table under a key in quotes is a value.
fn flatten(table: &Table, prefix: &str, found: &mut impl FnMut(String, &Value)) {
    for (key, value) in table {
        let full = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(inner) if !key.contains('.') => flatten(inner, &full, found),
            _ => found(full, value),
        }
    }
}

/// Sets one key. A system's bounds are its own: changing the policy drops the bounds set for another.
fn apply(table: &mut Table, set: &Override) -> Result<(), InputError> {
    let mut parts: Vec<&str> = set.key.split('.').collect();
    let last = parts.pop().unwrap_or_default();
    let mut at = table;
    for part in parts {
        let inner = at.entry(part).or_insert_with(|| Value::Table(Table::new()));
        at = inner.as_table_mut().ok_or_else(|| {
            InputError::new(&set.origin, format!("`{part}` is a value, not a table of keys")).key(&set.key)
        })?;
    }
    let before = at.insert(last.to_owned(), set.value.clone());
    if set.key == "system.policy" && before.as_ref() != Some(&set.value) {
        at.remove("bounds");
    }
    Ok(())
}
