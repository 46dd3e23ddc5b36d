//! Settings in TOML: values of keys, lines of keys, and errors in words that need no knowledge of serde. The modules
//! that own the keys define their meaning.

use std::path::Path;

use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::{InputError, line_of_offset};

/// Parses a TOML text. `file` names the text in errors.
///
/// # Errors
/// Returns an error if the text is not TOML.
pub fn parse(text: &str, file: &Path) -> Result<Table, InputError> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let line = error.span().map(|span| line_of_offset(text, span.start));
        let message = error.message().trim().replace('\n', ", ");
        // The parser says no more than this of a whole number that does not fit into 64 bits.
        let accepted = if message.contains("expected any valid TOML value") {
            "has a number beyond what TOML holds: expected at most 9223372036854775807".to_owned()
        } else {
            format!("is not TOML: {message}")
        };
        InputError { line, ..InputError::new(file, accepted) }
    })
}

/// Reads settings from their table. `tables` lists the dotted keys that accept only a table, with `*` for every element
/// of an array. Without the list, serde would accept an array in place of a table and assign its values to the fields
/// in the order of the source code.
///
/// # Errors
/// Returns an error with the first key or value that cannot be used. The caller adds the line.
pub fn settings<T: DeserializeOwned>(table: &Table, tables: &[&str], file: &Path) -> Result<T, InputError> {
    for path in tables {
        if let Some(key) = first_other_than_table(table, path) {
            return Err(complaint(file, table, key, "expected a table of keys"));
        }
    }
    serde_path_to_error::deserialize(Value::Table(table.clone())).map_err(|error: serde_path_to_error::Error<_>| {
        let inner: &toml::de::Error = error.inner();
        let message = inner.message().trim().replace('\n', " ");
        let path = error.path().to_string();
        // The path of the whole table is a dot, and places in arrays are in brackets. Keys of this module are dotted
        // throughout.
        let mut key = if path == "." { String::new() } else { path.replace('[', ".").replace(']', "") };
        // serde names some keys only in its message and not in the path, but the user needs the full path.
        for kind in ["unknown field `", "missing field `"] {
            let named = message.strip_prefix(kind).and_then(|rest| rest.split('`').next());
            if let Some(name) = named.filter(|name| key != *name && !key.ends_with(&format!(".{name}"))) {
                key = if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
            }
        }
        let mut accepted = accepted(&message);
        // If serde reads a table twice, the path of an error ends at the table. The error then has to say what was
        // found.
        let invalid = message.strip_prefix("invalid type: ").and_then(|rest| rest.rsplit_once(", expected "));
        match (look_up(table, &key), invalid) {
            (Some(Value::Table(_)), Some(("map", "a sequence"))) => {
                accepted = format!("expected an array of tables, [[{key}]]");
            }
            (Some(Value::Table(_)), Some((found, _))) => {
                accepted = format!("{accepted}, found {}", found.replace('`', "").replace("map", "a table"));
            }
            _ => {}
        }
        complaint(file, table, key, &accepted)
    })
}

fn complaint(file: &Path, table: &Table, key: String, accepted: &str) -> InputError {
    // A table would fill the message, and its key says enough.
    let found = look_up(table, &key).filter(|value| !value.is_table());
    let error = InputError::new(file, accepted).key(key.clone());
    found.map_or(error.clone(), |found| error.value(key, written(found)))
}

/// Returns a value as a user would write it.
#[must_use]
pub fn written(value: &Value) -> String {
    match value {
        // The `toml` crate writes numbers without an exponent, so 1e-30 would fill the message with zeros.
        Value::Float(number) if number.is_finite() && *number != 0.0 && !(1e-6..1e15).contains(&number.abs()) => {
            format!("{number:e}")
        }
        other => other.to_string(),
    }
}

/// Returns the key of the first value at `path` that is not a table.
fn first_other_than_table(table: &Table, path: &str) -> Option<String> {
    let (array, each) = path.strip_suffix(".*").map_or((path, false), |array| (array, true));
    match look_up(table, array)? {
        Value::Array(items) if each => {
            items.iter().position(|item| !item.is_table()).map(|index| format!("{array}.{index}"))
        }
        Value::Table(_) if !each => None,
        _ if each => None, // serde itself reports that it expects an array
        _ => Some(path.to_owned()),
    }
}

/// Rewords serde's message so that it needs no knowledge of Rust.
fn accepted(message: &str) -> String {
    let plain = |text: &str| text.replace('`', "");
    if message.starts_with("missing field") {
        return "is missing".into();
    }
    if let Some(rest) = message.strip_prefix("unknown field `") {
        let known =
            rest.split_once("`, expected ").map_or(String::new(), |(_, known)| format!(": expected {}", plain(known)));
        return format!("is not a key here{known}");
    }
    if let Some((_, known)) = message.strip_prefix("unknown variant `").and_then(|rest| rest.split_once("`, expected "))
    {
        return format!("expected {}", known.replace('`', "\""));
    }
    let invalid = ["invalid type: ", "invalid value: ", "invalid length "].iter().any(|kind| message.starts_with(kind));
    let Some((_, wanted)) = message.rsplit_once(", expected ").filter(|_| invalid) else {
        return match message {
            message if message.starts_with("wanted string") => "expected a word in quotes".into(),
            message => plain(message),
        };
    };
    let wanted = match wanted {
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number from 0",
        "f32" | "f64" => "a number",
        "a string" | "string" => "text in quotes",
        "string only" | "variant identifier" => "a word in quotes",
        "fewer elements in array" => "fewer values",
        "path string" => "a path in quotes",
        "a boolean" => "true or false",
        "a sequence" => "an array: [ ... ]",
        "a tuple of size 2" | "tuple of 2 elements" => "a pair: [number, number]",
        other if other.starts_with("struct ") || other.contains("map") || other.contains("enum") => "a table of keys",
        other => other,
    };
    format!("expected {wanted}")
}

/// Returns the value of a dotted key, in which numbers are places in arrays, counted from 0.
#[must_use]
pub fn look_up<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    if let Some(value) = table.get(key) {
        return Some(value); // a quoted key that contains dots
    }
    let (first, rest) = key.split_once('.')?;
    look_up_in(table.get(first)?, rest)
}

/// Returns the value of a dotted key below a value.
#[must_use]
pub fn look_up_in<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match value {
        Value::Table(inner) => look_up(inner, key),
        Value::Array(items) => {
            let (index, rest) = key.split_once('.').map_or((key, None), |(index, rest)| (index, Some(rest)));
            let item = items.get(index.parse::<usize>().ok()?)?;
            rest.map_or(Some(item), |rest| look_up_in(item, rest))
        }
        _ => None,
    }
}

/// Returns the line of a dotted key or, if the key is absent, of the nearest table or array around it.
#[must_use]
pub fn line_of_key(text: &str, key: &str) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let offset = offset_in_table(document.get_ref(), key);
    offset.map(|offset| line_of_offset(text, offset))
}

fn offset_in_table(table: &DeTable<'_>, key: &str) -> Option<usize> {
    let find = |wanted: &str| table.iter().find(|(name, _)| name.get_ref() == wanted);
    if let Some((name, _)) = find(key) {
        return Some(name.span().start);
    }
    let (first, rest) = key.split_once('.')?;
    let (name, value) = find(first)?;
    offset_in_value(value.get_ref(), rest).or(Some(name.span().start))
}

fn offset_in_value(value: &DeValue<'_>, key: &str) -> Option<usize> {
    match value {
        DeValue::Table(inner) => offset_in_table(inner, key),
        DeValue::Array(items) => {
            let (index, rest) = key.split_once('.').map_or((key, None), |(index, rest)| (index, Some(rest)));
            let item = items.get(index.parse::<usize>().ok()?)?;
            rest.and_then(|rest| offset_in_value(item.get_ref(), rest)).or(Some(item.span().start))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_lines_and_values_of_keys() {
        let text = "a = 1\n[b]\nc = [\n  { d = 1 },\n  { d = 2 },\n]\n[[e]]\nf = 1\n[[e]]\nf = 2\n\"x.y\" = 3\n";
        let table = parse(text, Path::new("t")).unwrap();
        let cases = [
            ("a", 1),
            ("b", 2),
            ("b.c.1.d", 5),
            ("b.c.1", 5),
            ("b.c.7", 3),
            ("b.z", 2),
            ("e.1.f", 10),
            ("e.1.x.y", 11),
        ];
        for (key, line) in cases {
            assert_eq!(line_of_key(text, key), Some(line), "{key}");
        }
        assert_eq!(line_of_key(text, "z"), None);
        assert_eq!(look_up(&table, "b.c.1.d"), Some(&Value::Integer(2)));
        assert_eq!(look_up(&table, "e.1.x.y"), Some(&Value::Integer(3)));
        assert_eq!(look_up(&table, "b.c.7"), None);
    }
}
