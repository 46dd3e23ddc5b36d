//! Settings of a scenario that is ready to run, each with the place where it was set: a line of the file, `--set`, a
//! variant, or nowhere.

use std::fmt;

use toml::{Table, Value};

use super::source::within;
use super::{Override, Scenario, Source, keys};
use crate::input::{self, InputError};

/// Setting of a scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Dotted key.
    pub key: String,
    /// Value in force.
    pub value: Value,
    /// Place where the value was set.
    pub origin: Origin,
}

/// Place where a value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Line of the scenario's file, from 1.
    Line(usize),
    /// Override: the command line or a variant, by its name.
    Override(String),
    /// No place: the value is the default of the key.
    Default,
    /// No place: the value follows from other settings, such as the system.
    Derived,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Override(origin) => f.write_str(origin),
            Self::Default => f.write_str("default"),
            Self::Derived => f.write_str("follows from other settings"),
        }
    }
}

impl Source {
    /// Returns all settings in force under these overrides, each with its origin: first `name` and `seed`, then section
    /// by section. Sections that concern other commands alone are there if something of them is set.
    ///
    /// # Errors
    /// Returns an error if the scenario cannot be used.
    pub fn settings(&self, overrides: &[Override]) -> Result<Vec<Setting>, InputError> {
        let resolved = self.scenario(overrides)?.resolved();
        let table = Table::try_from(&resolved).map_err(|error| InputError::new(self.file(), error.to_string()))?;
        let all = keys::keys();
        let mut settings = Vec::new();
        flatten_sections(&table, "", all, &mut |key, value| {
            let origin = self.origin(&key, value, overrides);
            settings.push(Setting { key, value: value.clone(), origin });
        });
        // Defaults that results leave out, so that results from before these keys stay the same, are in force too.
        for key in all {
            let known =
                settings.iter().any(|setting| within(&key.name, &setting.key) || within(&setting.key, &key.name));
            let section = key.name.rsplit_once('.').map_or("", |(section, _)| section);
            // Each arrival process has keys of its own.
            let in_use = section != "trace.synthetic.arrivals"
                && (section.is_empty() || settings.iter().any(|setting| within(section, &setting.key)));
            if let Some(value) = key.default.as_deref().filter(|_| !known && in_use).and_then(parsed) {
                settings.push(Setting { key: key.name.clone(), value, origin: Origin::Default });
            }
        }
        settings.sort_by(|one, other| sorted(&one.key).cmp(&sorted(&other.key)));
        Ok(settings)
    }

    fn origin(&self, key: &str, value: &Value, overrides: &[Override]) -> Origin {
        let concerns = |set: &&Override| within(key, &set.key) || within(&set.key, key);
        if let Some(set) = overrides.iter().rev().find(concerns) {
            return Origin::Override(set.origin.clone());
        }
        if let Some(line) = input::toml::look_up(self.table(), key).and(input::toml::line_of_key(self.text(), key)) {
            return Origin::Line(line);
        }
        let default = |key: &str| keys::find(key).ok().and_then(|key| key.default).and_then(|text| parsed(&text));
        // A table may have a default as a whole.
        let of_table = || {
            let (table, last) = key.rsplit_once('.')?;
            default(table)?.get(last).cloned()
        };
        let is_default = default(key).or_else(of_table).is_some_and(|default| same(&default, value));
        if is_default { Origin::Default } else { Origin::Derived }
    }
}

impl Scenario {
    /// Returns settings as `modm scenario show` prints them: a TOML text with the origins as comments. A value that
    /// nothing sets is a comment itself: where other settings change, it follows them, and a system that has no use for
    /// it does not refuse it.
    #[must_use]
    pub fn shown(settings: &[Setting]) -> String {
        let line = |setting: &Setting| {
            let is_set = matches!(setting.origin, Origin::Line(_) | Origin::Override(_));
            format!("{}{} = {}", if is_set { "" } else { "# " }, setting.key, setting.value)
        };
        let lines: Vec<String> = settings.iter().map(line).collect();
        let width = lines.iter().map(|line| line.chars().count()).filter(|width| *width <= 60).max().unwrap_or(0);
        let with_origin = |(line, setting): (&String, &Setting)| format!("{line:<width$}  # {}\n", setting.origin);
        lines.iter().zip(settings).map(with_origin).collect()
    }
}

/// Calls `found` for each value of a section with its dotted key. A table by name is a value, since a name may hold
/// dots.
fn flatten_sections(table: &Table, prefix: &str, keys: &[keys::Key], found: &mut impl FnMut(String, &Value)) {
    for (key, value) in table {
        let full = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        let is_by_name = keys.iter().any(|known| known.name == full && known.kind.contains("table by name"));
        match value {
            Value::Table(inner) if !is_by_name => flatten_sections(inner, &full, keys, found),
            _ => found(full, value),
        }
    }
}

/// Returns a key for sorting in which top-level keys are first, because TOML has them before the first section.
fn sorted(key: &str) -> (bool, bool, &str) {
    (key != "name", key.contains('.'), key)
}

fn parsed(text: &str) -> Option<Value> {
    toml::from_str::<Table>(&format!("value = {text}")).ok()?.remove("value")
}

/// Returns whether values are equal, whole numbers and others alike.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        _ => match (number(one), number(other)) {
            (Some(one), Some(other)) => one.total_cmp(&other).is_eq(),
            _ => one == other,
        },
    }
}

fn number(value: &Value) -> Option<f64> {
    value.as_float().or(value.as_integer().map(|number| number as f64))
}
