//! Logs as JSON: a value a line, values one after the other over any lines, or one list of objects. Keys within objects
//! have dotted names. A request with several turns, as schedules of `AIPerf` have them, is a row for each turn.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::super::File;
use super::cell::Cell;
use super::sheet::Visit;
use crate::input::InputError;

type Object = Map<String, Value>;

/// Notation of a file of JSON values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Notation {
    /// JSON Lines. A line that is no object is damaged, and reading goes on.
    Lines,
    /// Objects over several lines each.
    Objects,
    /// One list of objects.
    List,
}

/// Log of JSON objects, not yet read.
#[derive(Clone, Debug)]
pub(super) struct Json {
    notation: Notation,
    /// Dotted names of the keys.
    pub(super) columns: Vec<String>,
}

/// Key of the turns of a request.
const TURNS: &str = "turns";

impl Json {
    /// Finds the notation and the keys: those of the first `sample` objects, or of all objects if a key of `named` is
    /// not among them.
    pub(super) fn open(file: &File<'_>, sample: usize, named: &[&str]) -> Result<Self, InputError> {
        let mut json = Self { notation: notation(file.bytes), columns: Vec::new() };
        for limit in [sample, usize::MAX] {
            let mut names = BTreeSet::new();
            json.objects(file, limit, &mut |_, object| {
                if let Ok(object) = object {
                    collect_names(object, "", &mut names);
                }
                Ok(())
            })?;
            json.columns = names.into_iter().collect();
            if named.iter().all(|name| json.columns.iter().any(|column| column == name)) {
                break;
            }
        }
        Ok(json)
    }

    /// Returns a phrase for the notation.
    pub(super) const fn words(&self) -> &'static str {
        match self.notation {
            Notation::Lines => "JSON Lines",
            Notation::Objects => "JSON objects",
            Notation::List => "a JSON list",
        }
    }

    /// Reads the values of these columns, object by object.
    pub(super) fn read(
        &self,
        file: &File<'_>,
        columns: &[usize],
        limit: usize,
        visit: Visit<'_>,
    ) -> Result<(), InputError> {
        self.objects(file, limit, &mut |line, object| match object {
            Ok(object) => {
                let cells: Vec<Cell<'_>> = columns
                    .iter()
                    .map(|&column| find(object, &self.columns[column]).map_or(Cell::Null, cell))
                    .collect();
                visit(line, Ok(&cells))
            }
            Err(reason) => visit(line, Err(reason)),
        })
    }

    /// Calls `each` with the objects of the file, up to `limit`, and with the line on which each begins.
    fn objects(&self, file: &File<'_>, limit: usize, each: Each<'_>) -> Result<(), InputError> {
        match self.notation {
            Notation::Lines => lines(file, limit, each),
            Notation::Objects => objects(file, limit, each),
            Notation::List => list(file, limit, each),
        }
    }
}

type Each<'e> = &'e mut dyn FnMut(usize, Result<&Object, &'static str>) -> Result<(), InputError>;

fn notation(bytes: &[u8]) -> Notation {
    let first = bytes.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).find(|line| !line.is_empty());
    match first {
        Some([b'[', ..]) => Notation::List,
        Some(line) if serde_json::from_slice::<Object>(line).is_ok() => Notation::Lines,
        _ => Notation::Objects,
    }
}

/// Reports progress now and then.
fn report(file: &File<'_>, number: usize, offset: usize) {
    if number.is_multiple_of(1 << 14) {
        (file.progress)(offset as u64);
    }
}

fn lines(file: &File<'_>, limit: usize, each: Each<'_>) -> Result<(), InputError> {
    let (mut offset, mut count) = (0, 0);
    for (number, line) in file.bytes.split(|&byte| byte == b'\n').enumerate() {
        if count >= limit {
            break;
        }
        if !line.trim_ascii().is_empty() {
            count += 1;
            match serde_json::from_slice::<Object>(line) {
                Ok(object) => turns(number + 1, object, each)?,
                Err(_) => each(number + 1, Err("that are no JSON object"))?,
            }
        }
        offset += line.len() + 1;
        report(file, number, offset);
    }
    Ok(())
}

fn objects(file: &File<'_>, limit: usize, each: Each<'_>) -> Result<(), InputError> {
    let mut values = serde_json::Deserializer::from_slice(file.bytes).into_iter::<Object>();
    let (mut line, mut counted) = (1, 0);
    for number in 0..limit {
        let begin = values.byte_offset();
        let blank = file.bytes[begin..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        line += newlines(&file.bytes[counted..begin + blank]);
        counted = begin + blank;
        match values.next() {
            None => break,
            Some(Ok(object)) => turns(line, object, each)?,
            Some(Err(error)) => return Err(unreadable(file, &error)),
        }
        report(file, number, begin);
    }
    Ok(())
}

fn list(file: &File<'_>, limit: usize, each: Each<'_>) -> Result<(), InputError> {
    let values: Vec<&RawValue> = serde_json::from_slice(file.bytes).map_err(|error| unreadable(file, &error))?;
    let (mut line, mut counted) = (1, 0);
    for (number, value) in values.into_iter().take(limit).enumerate() {
        // A raw value borrows from the file, so its address is its place there.
        let offset = value.get().as_ptr().addr() - file.bytes.as_ptr().addr();
        line += newlines(&file.bytes[counted..offset]);
        counted = offset;
        match serde_json::from_str::<Object>(value.get()) {
            Ok(object) => turns(line, object, each)?,
            Err(_) => each(line, Err("that are no JSON object"))?,
        }
        report(file, number, offset);
    }
    Ok(())
}

fn newlines(bytes: &[u8]) -> usize {
    bytes.split(|&byte| byte == b'\n').count() - 1
}

fn unreadable(file: &File<'_>, error: &serde_json::Error) -> InputError {
    let text = error.to_string();
    // The error has a line of its own.
    let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what).replace('`', "");
    InputError::new(file.path, format!("cannot be read as JSON: {what}; is the file cut off?")).line(error.line())
}

/// Calls `each` with an object, or with one for each of its turns, in which the turn's keys stand beside the others.
fn turns(line: usize, mut object: Object, each: Each<'_>) -> Result<(), InputError> {
    let is_turns = |value: &Value| value.as_array().is_some_and(|turns| turns.iter().all(Value::is_object));
    if !object.get(TURNS).is_some_and(is_turns) {
        return each(line, Ok(&object));
    }
    let Some(Value::Array(turns)) = object.remove(TURNS) else { return Ok(()) };
    for turn in turns {
        let Value::Object(turn) = turn else { continue };
        let mut whole = object.clone();
        whole.extend(turn);
        each(line, Ok(&whole))?;
    }
    Ok(())
}

/// Adds the dotted names of an object's keys.
fn collect_names(object: &Object, before: &str, names: &mut BTreeSet<String>) {
    for (key, value) in object {
        let name = format!("{before}{key}");
        match value {
            Value::Object(inner) if !inner.is_empty() => collect_names(inner, &format!("{name}."), names),
            _ => {
                names.insert(name);
            }
        }
    }
}

/// Returns the value of a dotted name. A key may have points itself.
fn find<'o>(object: &'o Object, name: &str) -> Option<&'o Value> {
    if let Some(value) = object.get(name) {
        return Some(value);
    }
    name.match_indices('.').find_map(|(at, _)| find(object.get(&name[..at])?.as_object()?, &name[at + 1..]))
}

fn cell(value: &Value) -> Cell<'_> {
    match value {
        Value::Null => Cell::Null,
        Value::Bool(value) => Cell::Boolean(*value),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => Cell::Integer(number),
            (None, Some(number)) => Cell::Float(number),
            (None, None) => Cell::Other("a number"),
        },
        Value::String(text) => Cell::Text(Cow::Borrowed(text)),
        Value::Array(values) => Cell::List(values.iter().map(cell).collect()),
        Value::Object(_) => Cell::Other("an object"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(text: &str) -> Result<Vec<String>, String> {
        let file = File { path: Path::new("l.jsonl"), bytes: text.as_bytes(), progress: &|_| () };
        let json = Json::open(&file, 1000, &[]).map_err(|error| error.to_string())?;
        let all: Vec<usize> = (0..json.columns.len()).collect();
        let mut rows = vec![json.columns.join(" ")];
        json.read(&file, &all, usize::MAX, &mut |line, cells| {
            let shown = |cells: &[Cell<'_>]| cells.iter().map(Cell::shown).collect::<Vec<_>>().join(" ");
            rows.push(format!("{line}: {}", cells.map_or_else(str::to_owned, shown)));
            Ok(())
        })
        .map_err(|error| error.to_string())?;
        Ok(rows)
    }

    #[test]
    fn every_notation() {
        let rows = ["a b.c", "1: 1 x", "3: 2.5 "];
        assert_eq!(read("{\"a\":1,\"b\":{\"c\":\"x\"}}\n\n{\"a\":2.5}\n").unwrap(), rows);
        assert_eq!(read("[{\"a\":1,\"b\":{\"c\":\"x\"}}\n,\n{\"a\":2.5}]").unwrap(), rows);
        let spread = read("{\"a\":1,\n\"b\":{\"c\":\"x\"}}\n{\n\"a\":2.5}").unwrap();
        assert_eq!(spread, ["a b.c", "1: 1 x", "3: 2.5 "]);
        assert_eq!(
            read("{\"a\":1}\n[2]\n{\"a\":").unwrap()[2..],
            ["2: that are no JSON object", "3: that are no JSON object"]
        );
        assert_eq!(read("{\"x.y\":5}\n").unwrap(), ["x.y", "1: 5"]);
    }

    #[test]
    fn a_row_for_each_turn() {
        let text =
            "{\"session_id\":\"s\",\"turns\":[{\"timestamp\":1,\"text\":\"a\"},{\"timestamp\":2,\"text\":\"b\"}]}\n";
        assert_eq!(read(text).unwrap(), ["session_id text timestamp", "1: s a 1", "1: s b 2"]);
    }

    #[test]
    fn damaged_files_are_refused_or_read_in_part() {
        assert!(read("[{\"a\":1},").unwrap_err().starts_with("l.jsonl:1: cannot be read as JSON: EOF"));
        assert!(read("{\"a\":1,\n\"b\"").unwrap_err().starts_with("l.jsonl:2: cannot be read as JSON: EOF"));
        assert!(read(&"{\"a\":".repeat(5000)).unwrap_err().contains("cannot be read as JSON"));
        assert!(read(&"[".repeat(5000)).unwrap_err().contains("cannot be read as JSON"));
    }
}
