//! Guess of a file's format from its content, and from its name where any content will do. Headers are read as CSV has
//! them, so that quotes and the order of columns do not count.

use std::path::Path;

use serde_json::{Map, Value};

use super::Format;
use super::log::{Delimited, LogField, is_json, is_usual_of};
use crate::input::InputError;

/// Guesses the format of a file.
pub(super) fn guess(path: &Path, bytes: &[u8]) -> Result<Format, InputError> {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    if bytes.starts_with(b"PAR1") || extension == "parquet" {
        return Ok(parquet(path));
    }
    if is_json(bytes) {
        return Ok(if is_mjhq(bytes, extension) { Format::Mjhq } else { Format::Log });
    }
    let table = Delimited::find(bytes);
    let columns: &[String] = table.as_ref().map_or(&[], |table| &table.columns);
    let has = |name: &str| columns.iter().any(|column| column == name);
    let is_csv = table.as_ref().is_some_and(|table| table.dialect.delimiter == b',');
    let is_tsv = table.as_ref().is_some_and(|table| table.dialect.delimiter == b'\t');
    let line = first_line(bytes);
    // What the header gives away is asked before the name: any text is a list of prompts, and DiffServe's files of
    // arrivals are called .txt as lists are.
    let format = if (is_csv && has("arrival_s")) || line.trim() == "arrival_s" {
        Format::Modm
    } else if is_csv && has("gmt_create") {
        Format::Alibaba
    } else if is_csv && has("TIMESTAMP") && has("ContextTokens") {
        Format::Azure
    } else if is_tsv && ["Prompt", "Category", "Challenge"].into_iter().all(has) {
        Format::PartiPrompts
    } else if columns.len() == 2 && is_csv && columns.iter().all(|field| field.parse::<f64>().is_ok()) {
        Format::DiffServe
    } else if matches!(extension, "csv" | "tsv" | "jsonl" | "ndjson") || table.as_ref().is_some_and(is_log) {
        Format::Log
    } else if extension == "json" {
        Format::Mjhq
    } else if matches!(extension, "txt" | "lst" | "gz" | "zst" | "") {
        Format::PromptList
    } else {
        let formats = Format::ALL.map(Format::name).join(", ");
        let message = format!(
            "the format is not recognised: say which with --log-format, --prompts-format or \
             --arrivals-format: {formats}"
        );
        return Err(InputError::new(path, message).line(1).value("first line", line));
    };
    Ok(format)
}

/// Returns a phrase for what a file is that is plainly no list of prompts.
pub(super) fn not_a_list(bytes: &[u8]) -> Option<String> {
    if is_json(bytes) {
        return Some("JSON".to_owned());
    }
    if bytes.starts_with(b"PAR1") {
        return Some("Parquet".to_owned());
    }
    let table = Delimited::find(bytes).filter(is_log)?;
    Some(format!("a table with the columns {}", table.columns.join(", ")))
}

/// Returns whether a text with several columns is plainly a table: its header has usual names, that of a time or a
/// prompt among them, and the next line as many fields. A list of prompts has commas as well, so that one name between
/// commas is not enough.
fn is_log(table: &Delimited) -> bool {
    let has = |field: LogField| table.columns.iter().any(|name| is_usual_of(field, name));
    let is_known = |name: &&String| LogField::ALL.into_iter().any(|field| is_usual_of(field, name));
    let known = table.columns.iter().filter(is_known).count();
    let enough = if table.dialect.delimiter == b'\t' { 1 } else { 2 };
    let short = table.columns.iter().all(|name| name.len() <= 40 && name.split_whitespace().count() <= 3);
    short && known >= enough && table.has_fitting_rows() && (has(LogField::Arrival) || has(LogField::Prompt))
}

/// Returns the beginning of the first line. A binary file or JSON on one line has no end of line for many megabytes.
fn first_line(bytes: &[u8]) -> String {
    let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
    String::from_utf8_lossy(&line[..line.len().min(4096)]).trim().to_owned()
}

#[cfg(feature = "parquet")]
fn parquet(path: &Path) -> Format {
    let is_diffusiondb = super::parquet_file::has_columns(path, &super::diffusiondb::COLUMNS);
    if is_diffusiondb { Format::DiffusionDb } else { Format::Log }
}

#[cfg(not(feature = "parquet"))]
fn parquet(_path: &Path) -> Format {
    Format::Log
}

/// Returns whether a JSON file is an object of objects with category and prompt, as MJHQ-30k's is. A file whose first
/// entry is cut off counts if it is called so.
fn is_mjhq(bytes: &[u8], extension: &str) -> bool {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(1 << 16)]);
    let Some((_, rest)) = text.split_once(':') else { return false };
    let rest = rest.trim_start();
    if !rest.starts_with('{') {
        return false;
    }
    match serde_json::Deserializer::from_str(rest).into_iter::<Map<String, Value>>().next() {
        Some(Ok(entry)) => entry.contains_key("category"),
        _ => extension == "json",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses_formats() {
        let guess = |name: &str, text: &str| guess(Path::new(name), text.as_bytes()).map_err(|error| error.to_string());
        for (name, text, format) in [
            ("a.csv", "request_id,arrival_s\n", Format::Modm),
            ("a.csv", "arrival_s\n1\n", Format::Modm),
            ("a.txt", "\"arrival_s\",\"prompt\"\n\"0\",\"a\"\n", Format::Modm),
            ("a.txt", "a cat, red\n", Format::PromptList),
            ("a.txt", "{red|blue} cat, on a mat\n[a, b]\n", Format::PromptList),
            ("prompts", "prompt, text, and time\n", Format::PromptList),
            ("a.tsv", "Prompt\tCategory\tChallenge\tNote\n", Format::PartiPrompts),
            ("a.tsv", "Prompt\tSeed\n", Format::Log),
            ("a.json", "{\"a\":{\"category\":\"x\",\"prompt\":\"y\"}}", Format::Mjhq),
            ("a.json", "{\"a\":", Format::Log),
            ("a.json", "{\"ts\": 1, \"prompt\": \"a\"}\n", Format::Log),
            ("a.json", "{\"request\": {\"prompt\": \"a\"}}\n", Format::Log),
            ("a.json", "[{\"ts\": 1}]", Format::Log),
            ("a.log", "{\"ts\": 1}\n", Format::Log),
            ("a.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\r\n", Format::Azure),
            ("a.csv", "\"ContextTokens\",\"TIMESTAMP\"\n", Format::Azure),
            ("a.csv", "TIMESTAMP,prompt\n", Format::Log),
            ("a.txt", "368.0,1236\n", Format::DiffServe),
            ("a.csv", "gmt_create,predict_type\n", Format::Alibaba),
            ("a.csv", "x,y\n", Format::Log),
            ("a.csv", "arrival_s;prompt\n0;a\n", Format::Log),
            ("a.txt", "timestamp\tprompt\n1\ta\n", Format::Log),
            ("a.txt", "ts,user,text\n1,u,a\n", Format::Log),
        ] {
            assert_eq!(guess(name, text), Ok(format), "{name}: {text}");
        }
        assert!(
            guess("a.bin", "x,y\n").unwrap_err().starts_with("a.bin:1: first line = x,y: the format is not recognised")
        );
    }

    #[test]
    fn lists_are_told_from_tables() {
        let said = |text: &str| not_a_list(text.as_bytes());
        assert_eq!(said("ts,prompt\n1,a\n").as_deref(), Some("a table with the columns ts, prompt"));
        assert_eq!(said("{\"prompt\": \"a\"}\n").as_deref(), Some("JSON"));
        assert_eq!(said("Prompt\tNote\na cat\tx\n").as_deref(), Some("a table with the columns Prompt, Note"));
        assert_eq!(said("a cat, a dog\na bird, text\n"), None);
        assert_eq!(said("prompt, on time\na bird, text\n"), None);
        assert_eq!(said("time, input, the quiet text of an old and weary man\nx\n"), None);
    }
}
