//! Count of the rows that are left out, by reason, with the first row of each.

use crate::trace::import::Note;

/// Counts in the order in which the reasons came up.
#[derive(Debug)]
pub(super) struct Tally {
    /// Word for a place in the file, `line` or `row`.
    pub(super) word: &'static str,
    reasons: Vec<Reason>,
}

#[derive(Debug)]
struct Reason {
    kind: Kind,
    text: String,
    count: usize,
    first: usize,
}

/// Kind of a reason, by which the way out is named if no row is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Row that is cut off or damaged.
    Damage,
    /// Time that is missing or cannot be read.
    Time,
    /// Prompt that is missing or of another type.
    Prompt,
    /// End that is a failure or unknown.
    Status,
}

impl Tally {
    pub(super) const fn new(word: &'static str) -> Self {
        Self { word, reasons: Vec::new() }
    }

    /// Counts a row; `text` follows "rows".
    pub(super) fn count(&mut self, kind: Kind, text: &str, row: usize) {
        /// Most reasons that are told apart: a column that is no status has as many values as it likes.
        const MOST: usize = 20;
        const REST: &str = "for further reasons";
        let known = |text: &str, reasons: &[Reason]| reasons.iter().position(|reason| reason.text == text);
        let is_new = known(text, &self.reasons).is_none();
        let text = if is_new && self.reasons.len() >= MOST { REST } else { text };
        match known(text, &self.reasons) {
            Some(at) => self.reasons[at].count += 1,
            None => self.reasons.push(Reason { kind, text: text.to_owned(), count: 1, first: row }),
        }
    }

    /// Returns a note for each reason.
    pub(super) fn notes(&self) -> impl Iterator<Item = Note> {
        self.reasons.iter().map(|reason| {
            let Reason { text, count, first, .. } = reason;
            Note::counted(*count, format!("rows left out {text} ({} {first})", self.first(*count)))
        })
    }

    /// Returns all reasons in one phrase.
    pub(super) fn phrase(&self) -> String {
        let each = self
            .reasons
            .iter()
            .map(|reason| format!("{} {} ({} {})", reason.count, reason.text, self.first(reason.count), reason.first));
        each.collect::<Vec<_>>().join(", ")
    }

    fn first(&self, count: usize) -> String {
        if count == 1 { self.word.to_owned() } else { format!("first: {}", self.word) }
    }

    /// Returns the kind of reason for which most rows were left out.
    pub(super) fn main_kind(&self) -> Option<Kind> {
        let kinds = [Kind::Damage, Kind::Time, Kind::Prompt, Kind::Status];
        let count = |kind: Kind| -> usize {
            self.reasons.iter().filter(|reason| reason.kind == kind).map(|reason| reason.count).sum()
        };
        kinds.into_iter().max_by_key(|&kind| count(kind)).filter(|&kind| count(kind) > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_reason() {
        let mut tally = Tally::new("line");
        tally.count(Kind::Prompt, "without a prompt", 7);
        tally.count(Kind::Status, "with status error", 9);
        tally.count(Kind::Status, "with status error", 12);
        let notes: Vec<String> = tally.notes().map(|note| note.to_string()).collect();
        assert_eq!(
            notes,
            ["1 rows left out without a prompt (line 7)", "2 rows left out with status error (first: line 9)"]
        );
        assert_eq!(tally.phrase(), "1 without a prompt (line 7), 2 with status error (first: line 9)");
        assert_eq!(tally.main_kind(), Some(Kind::Status));
        for row in 0..50 {
            tally.count(Kind::Status, &format!("with status {row}"), row);
        }
        assert_eq!(tally.notes().count(), 21);
    }
}
