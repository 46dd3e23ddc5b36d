//! Keys of scenarios as the Markdown table of `docs/interface.md`.

use std::fmt::Write as _;

use super::{Key, accepted, keys};

impl Key {
    /// Returns the key in full, for a terminal.
    #[must_use]
    pub fn explained(&self) -> String {
        let mut text = format!("{}\n  {}\n  type: {}\n", self.name, self.meaning, self.kind);
        let default = match (&self.default, self.required) {
            (Some(default), _) => default.as_str(),
            (None, true) => "none: it must be set",
            (None, false) => "none",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  default: {default}");
        for limits in accepted(self) {
            let _ = writeln!(text, "  accepts: {limits}");
        }
        let width = self.choices.iter().map(|choice| choice.value.len()).max().unwrap_or(0);
        for choice in &self.choices {
            let _ = writeln!(text, "    {:<width$}  {}", choice.value, choice.meaning);
        }
        text
    }
}

/// Returns the table: a row for each wanted key, with its default, its meaning and the values that it accepts.
#[must_use]
pub fn markdown(wanted: impl Fn(&Key) -> bool) -> String {
    let mut text = String::from("| key | default | meaning |\n|---|---|---|\n");
    for key in keys().iter().filter(|key| wanted(key)) {
        let default = match (&key.default, key.required) {
            (Some(default), _) => format!("`{default}`"),
            (None, true) => "must be set".to_owned(),
            (None, false) => "none".to_owned(),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| `{}` | {} | {} |", key.name, escaped(&default), escaped(&meaning(key)));
    }
    text
}

fn meaning(key: &Key) -> String {
    let mut text = key.meaning.clone();
    for choice in &key.choices {
        let about = choice.meaning.trim_end_matches('.');
        let about = if about.is_empty() { String::new() } else { format!(": {}", lower(about)) };
        let _ = write!(text, "{} `{}`{about}", if text.is_empty() { "" } else { "<br>" }, choice.value);
    }
    for limits in accepted(key) {
        let _ = write!(text, " Accepts {limits}.");
    }
    text.trim().to_owned()
}

/// Returns a sentence to go on with after a colon. Names and abbreviations keep their capitals.
fn lower(sentence: &str) -> String {
    let mut letters = sentence.chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if second.is_lowercase() || second == ' ' => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => sentence.to_owned(),
    }
}

fn escaped(text: &str) -> String {
    text.replace('|', "\\|")
}
