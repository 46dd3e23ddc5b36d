//! Limits of keys in words: the sentences with which the checks of scenarios refuse values out of range. Nothing is
//! listed here a second time: each key is set to values that nobody means, and what the checks say is taken down.

use std::path::Path;

use toml::{Table, Value};

use super::Key;
use crate::scenario::{Override, Source};

/// Scenario without settings, in which a key is tried.
const BARE: &str = "\
name = \"bare\"
trace.synthetic = { requests = 1, arrivals = { process = \"constant\", rate_per_min = 1 } }
";

/// Name of a table that a key is tried in where tables have names.
const NAME: &str = "sd3.5-large";

/// Returns what the checks say of values out of range; nothing if no number is refused, or none is expected.
#[must_use]
pub fn accepted(key: &Key) -> Vec<String> {
    let numbers = key.kind.contains("number");
    let Some(source) = Source::new(Path::new("scenario.toml"), BARE.into()).ok().filter(|_| numbers) else {
        return Vec::new();
    };
    let mut said = Vec::new();
    for value in unmeant(key) {
        let Some(set) = set(&key.name, value) else { continue };
        let Err(error) = source.scenario(&[set]) else { continue };
        let about = error.key.as_deref().unwrap_or_default();
        let sentence = error.accepted.trim().trim_start_matches("expected ").to_owned();
        let is_about_key = about.starts_with(&key.name.replace("NAME", NAME));
        if is_about_key
            && error.accepted.starts_with("expected")
            && concerns_value(&sentence)
            && !said.contains(&sentence)
        {
            said.push(sentence);
        }
    }
    said
}

/// Returns whether a refusal says which values are accepted, not that another setting is missing. Limits of the types
/// in memory are not meant.
fn concerns_value(sentence: &str) -> bool {
    let of_type = ["a whole number from 0", "a whole number from 0 to 4294967295", "a whole number from 0 to 65535"];
    sentence.contains(|letter: char| letter.is_ascii_digit()) && !of_type.contains(&sentence)
}

/// Returns values that are out of any range.
fn unmeant(key: &Key) -> Vec<Value> {
    let numbers: Vec<Value> = if key.kind.contains("whole number") {
        vec![Value::from(-1), Value::from(0), Value::from(i64::from(u16::MAX)), Value::from(i64::MAX)]
    } else {
        vec![Value::from(-1e300), Value::from(0.0), Value::from(1e300)]
    };
    if key.kind.starts_with("list") {
        let times = if key.kind.starts_with("list of 2") { 2 } else { 1 };
        return numbers.into_iter().map(|number| Value::from(vec![number; times])).collect();
    }
    numbers
}

/// Returns the override that sets a key; `None` for keys of list entries, which cannot be set one by one.
fn set(name: &str, value: Value) -> Option<Override> {
    if name.split('.').any(|part| part == "N") {
        return None;
    }
    // A name may hold dots, so the table by name is set as a whole.
    let (key, value) = match name.split_once(".NAME") {
        None => (name.to_owned(), value),
        Some((key, inner)) => {
            let value = match inner.strip_prefix('.') {
                Some(inner) => Value::Table(Table::from_iter([(inner.to_owned(), value)])),
                None => value,
            };
            (key.to_owned(), Value::Table(Table::from_iter([(NAME.to_owned(), value)])))
        }
    };
    Some(Override { key, value, origin: crate::scenario::source::FLAG.into() })
}
