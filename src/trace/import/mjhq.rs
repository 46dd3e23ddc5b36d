//! Importer for the prompts of MJHQ-30k: `meta_data.json`, one object from image id to category and prompt. The file is
//! read as a stream, because the order of the file is the order of the prompts.

use std::fmt;

use serde::de::{Deserializer as _, MapAccess, Visitor};

use crate::input::InputError;
use crate::trace::TextColumn;

use super::{File, Source};

#[derive(serde::Deserialize)]
struct Entry {
    category: String,
    prompt: String,
}

#[derive(Default)]
struct Entries {
    ids: TextColumn,
    categories: TextColumn,
    prompts: TextColumn,
}

impl<'de> Visitor<'de> for Entries {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object from image id to {\"category\": ..., \"prompt\": ...}")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some(id) = map.next_key::<String>()? {
            let entry = map.next_value::<Entry>()?;
            self.ids.push(&id);
            self.categories.push(&entry.category);
            self.prompts.push(&entry.prompt);
        }
        Ok(self)
    }
}

pub(super) fn read(file: &File<'_>) -> Result<Source, InputError> {
    let mut json = serde_json::Deserializer::from_slice(file.bytes);
    let read = json.deserialize_map(Entries::default()).and_then(|entries| json.end().map(|()| entries));
    let entries = read.map_err(|error| {
        let (line, message) = (error.line(), error.to_string());
        // serde_json ends its message with line and column. The error has a line of its own.
        let what = message.rsplit_once(" at line ").map_or(message.as_str(), |(what, _)| what).replace('`', "");
        let accepted =
            format!("{what}; expected MJHQ-30k's {{\"id\": {{\"category\": \"...\", \"prompt\": \"...\"}}, ...}}");
        InputError::new(file.path, accepted).line(line)
    })?;
    let extra = vec![("category".to_owned(), entries.categories)];
    Ok(Source { request_ids: Some(entries.ids), prompts: Some(entries.prompts), extra, ..Source::default() })
}

#[cfg(test)]
mod tests {
    use super::super::tests::import;
    use super::super::{Format, Options};

    const SAMPLE: &str = r#"{
  "f5d2": {"category": "animals", "prompt": "a \u00e9lan, \"red\""},
  "0001": {"category": "art", "prompt": "b", "width": 1}
}"#;

    #[test]
    fn keeps_the_order_of_the_file() {
        let source = import("meta_data.json", SAMPLE.as_bytes(), None, Options::default()).unwrap();
        assert_eq!(source.request_ids.unwrap().iter().collect::<Vec<_>>(), ["f5d2", "0001"]);
        assert_eq!(source.prompts.unwrap().iter().collect::<Vec<_>>(), ["a élan, \"red\"", "b"]);
        assert_eq!(source.extra[0].1.get(1), "art");
    }

    #[test]
    fn says_what_is_wrong() {
        let error =
            |text: &str| import("m.json", text.as_bytes(), Some(Format::Mjhq), Options::default()).err().unwrap();
        assert!(error("{\n\"a\": {\"category\": \"x\"}}").starts_with("m.json:2: missing field prompt; expected"));
        assert!(
            error("{\n\"a\": {\"category\": \"x\", \"prompt\": 7}}")
                .starts_with("m.json:2: invalid type: integer 7, expected a string;")
        );
        assert!(error("[1]").contains("expected an object from image id"));
        assert!(error(&SAMPLE[..60]).starts_with("m.json:2: EOF"));
        assert!(error("{}").contains("at least one row"));
    }
}
