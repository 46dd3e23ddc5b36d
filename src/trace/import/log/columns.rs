//! Columns of a log: which one has the times, the prompts, the tenants. The user names them, or they are guessed from
//! usual names and from what a sample of their values is. Every guess is reported.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use super::cell::Cell;
use super::clock::TimeUnit;
use super::fields::{LogField, key_of, rank};
use super::status::StatusKind;
use crate::input::InputError;

/// Column that the user names for a field; none if the field is not to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnChoice {
    /// Field of the trace.
    pub ours: LogField,
    /// Column of the log.
    pub theirs: Option<String>,
}

/// Error of a text that is no choice of a column.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadChoice(String);

impl FromStr for ColumnChoice {
    type Err = BadChoice;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let names = || LogField::ALL.map(LogField::name).join(", ");
        let Some((ours, theirs)) = text.split_once('=') else {
            return Err(BadChoice(format!("expected OURS=THEIRS, e.g. prompt=text; OURS is one of {}", names())));
        };
        let ours = ours.trim();
        let field = LogField::ALL.into_iter().find(|field| field.name() == ours).ok_or_else(|| {
            let near = nearest(ours, LogField::ALL.iter().map(|field| field.name()));
            BadChoice(format!("{ours} is no column of a trace{near}: expected one of {}", names()))
        })?;
        Ok(Self { ours: field, theirs: Some(theirs.trim().to_owned()).filter(|theirs| !theirs.is_empty()) })
    }
}

impl fmt::Display for ColumnChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.ours.name(), self.theirs.as_deref().unwrap_or_default())
    }
}

/// Column that is read for a field.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    pub(super) field: LogField,
    /// Place of the column among those of the log.
    pub(super) column: usize,
    pub(super) name: String,
    /// Unit in the column's name.
    pub(super) unit: Option<TimeUnit>,
    pub(super) status: StatusKind,
    /// Names of other columns that would do, in the order of preference.
    others: Vec<String>,
}

/// Columns that are read, and those that are not although they have a usual name.
#[derive(Clone, Debug, Default)]
pub(super) struct Choice {
    pub(super) chosen: Vec<Chosen>,
    pub(super) unfit: Vec<String>,
}

impl Choice {
    pub(super) fn find(&self, field: LogField) -> Option<&Chosen> {
        self.chosen.iter().find(|chosen| chosen.field == field)
    }

    /// Returns the guesses that another column would have done for, in words.
    pub(super) fn ambiguities(&self) -> impl Iterator<Item = String> {
        self.chosen.iter().filter(|chosen| !chosen.others.is_empty()).map(|chosen| {
            let (ours, others) = (chosen.field.name(), &chosen.others);
            let other = &others[0];
            format!("{ours} might be `{}` too: `--column {ours}={other}` takes that", others.join("`, `"))
        })
    }
}

/// Names of a log's columns with some values of each.
pub(super) struct Sample<'s> {
    pub(super) file: &'s Path,
    pub(super) columns: &'s [String],
    /// Values by column, those that are none left out.
    pub(super) values: &'s [Vec<Cell<'static>>],
}

impl Sample<'_> {
    /// Chooses the columns.
    ///
    /// # Errors
    /// Returns an error if the user names a column that is not there, or that has values of another type.
    pub(super) fn choose(&self, choices: &[ColumnChoice]) -> Result<Choice, InputError> {
        let mut choice = Choice::default();
        for asked in choices.iter().filter(|asked| asked.theirs.is_some()) {
            choice.chosen.push(self.asked(asked)?);
        }
        for field in LogField::ALL {
            if choices.iter().all(|asked| asked.ours != field) {
                self.guess(field, &mut choice);
            }
        }
        choice.chosen.sort_by_key(|chosen| chosen.field);
        Ok(choice)
    }

    fn asked(&self, asked: &ColumnChoice) -> Result<Chosen, InputError> {
        let name = asked.theirs.as_deref().unwrap_or_default();
        let column = self.columns.iter().position(|column| column == name).ok_or_else(|| {
            let near = nearest(name, self.columns.iter().map(String::as_str));
            let message = format!("is no column of the log{near}: expected one of {}", self.columns.join(", "));
            InputError::new(self.file, message).value("--column", asked)
        })?;
        let chosen = self.chosen(asked.ours, column);
        let values = &self.values[column];
        if let Some(first) = values.first()
            && values.iter().all(|cell| !asked.ours.takes(cell, chosen.status))
        {
            let found = first.shown();
            let message = format!(
                "expected {} in column {name}, which has {} ({found})",
                asked.ours.accepted(),
                first.type_name()
            );
            return Err(InputError::new(self.file, message).value("--column", asked));
        }
        Ok(chosen)
    }

    fn chosen(&self, field: LogField, column: usize) -> Chosen {
        let name = self.columns[column].clone();
        let (key, unit) = key_of(&name);
        let status = match key.as_str() {
            "success" | "succeeded" | "issuccess" | "ok" => StatusKind::Success,
            "error" | "errormessage" | "errorcode" | "exception" => StatusKind::Error,
            _ => StatusKind::Status,
        };
        Chosen { field, column, name, unit: unit.filter(|_| field.is_timed()), status, others: Vec::new() }
    }

    /// Guesses the column of a field: the usual names in their order, at equal names the outermost and first column.
    fn guess(&self, field: LogField, choice: &mut Choice) {
        let mut found: Vec<((usize, usize), usize)> = Vec::new();
        for (column, name) in self.columns.iter().enumerate() {
            let taken = choice.chosen.iter().any(|chosen| chosen.column == column);
            let Some(rank) = rank(field, name).filter(|_| !taken) else { continue };
            found.push((rank, column));
        }
        found.sort_unstable();
        let status = |column: usize| self.chosen(field, column).status;
        let fits = |column: usize| {
            let values = &self.values[column];
            // An empty column of errors says that there were none; an empty column of anything else says nothing.
            values.iter().any(|cell| field.takes(cell, status(column)))
                || (values.is_empty() && (status(column) == StatusKind::Error || field == LogField::Prompt))
        };
        let mut fitting = found.iter().map(|(_, column)| *column).filter(|&column| fits(column));
        if let Some(column) = fitting.next() {
            let others = fitting.map(|other| self.columns[other].clone()).collect();
            choice.chosen.push(Chosen { others, ..self.chosen(field, column) });
        }
        for (_, column) in found {
            if let Some(first) = self.values[column].first().filter(|_| !fits(column)) {
                let name = &self.columns[column];
                choice.unfit.push(format!(
                    "`{name}` is not read as {}: expected {}, found {} ({})",
                    field.name(),
                    field.accepted(),
                    first.type_name(),
                    first.shown()
                ));
            }
        }
    }

    /// Returns the columns with a value of each, for errors.
    pub(super) fn listed(&self) -> String {
        let each = self.columns.iter().zip(self.values).take(20).map(|(name, values)| match values.first() {
            Some(value) => format!("{name} ({}: {})", value.type_name(), value.shown()),
            None => format!("{name} (empty)"),
        });
        let more = if self.columns.len() > 20 { ", ..." } else { "" };
        format!("{}{more}", each.collect::<Vec<_>>().join(", "))
    }
}

/// Returns a question for the name that differs in the fewest letters, if one is near.
fn nearest<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> String {
    let near = names.map(|other| (strsim::levenshtein(&name.to_lowercase(), &other.to_lowercase()), other)).min();
    near.filter(|(distance, other)| *distance <= name.len().max(other.len()) / 2)
        .map_or_else(String::new, |(_, other)| format!(" (is {other} meant?)"))
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    fn text(text: &'static str) -> Cell<'static> {
        Cell::Text(Cow::Borrowed(text))
    }

    fn choose(columns: &[(&str, Cell<'static>)], choices: &[&str]) -> Result<Vec<(&'static str, String)>, String> {
        let names: Vec<String> = columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        let values: Vec<Vec<Cell<'static>>> = columns.iter().map(|(_, cell)| vec![cell.clone()]).collect();
        let sample = Sample { file: Path::new("l.csv"), columns: &names, values: &values };
        let choices: Vec<ColumnChoice> = choices.iter().map(|choice| choice.parse().unwrap()).collect();
        let choice = sample.choose(&choices).map_err(|error| error.to_string())?;
        Ok(choice.chosen.into_iter().map(|chosen| (chosen.field.name(), chosen.name)).collect())
    }

    #[test]
    fn usual_names_are_guessed() {
        let columns = [
            ("createdAt", text("2026-03-02T08:00:00Z")),
            ("Started At", text("2026-03-02T08:00:01Z")),
            ("request.prompt", text("a cat")),
            ("user_id", Cell::Integer(7)),
            ("size", text("1024x768")),
            ("num_inference_steps", Cell::Integer(28)),
            ("status", text("ok")),
            ("latency_ms", Cell::Integer(900)),
        ];
        let found = choose(&columns, &[]).unwrap();
        let names: Vec<(&str, &str)> = found.iter().map(|(ours, theirs)| (*ours, theirs.as_str())).collect();
        assert_eq!(
            names,
            [
                ("arrival_s", "createdAt"),
                ("prompt", "request.prompt"),
                ("status", "status"),
                ("tenant", "user_id"),
                ("size", "size"),
                ("steps", "num_inference_steps")
            ]
        );
        let other = choose(&columns, &["arrival_s=Started At", "status=", "tenant="]).unwrap();
        assert_eq!((other[0].1.as_str(), other.len()), ("Started At", 4));
    }

    #[test]
    fn guesses_look_at_the_values() {
        let columns = [
            ("timestamp", text("soon")),
            ("ts", text("12.5")),
            ("prompt", Cell::Integer(17)),
            ("text", text("a cat")),
            ("size", Cell::Integer(120_400)),
            ("state", text("Bavaria")),
            ("images", Cell::List(vec![text("a.png")])),
        ];
        let found = choose(&columns, &[]).unwrap();
        assert_eq!(found, [("arrival_s", "ts".to_owned()), ("prompt", "text".to_owned())]);
    }

    #[test]
    fn says_which_names_there_are() {
        let columns = [("ts", text("1")), ("txt", text("a")), ("count", Cell::Integer(5))];
        assert_eq!(
            choose(&columns, &["prompt=text"]).unwrap_err(),
            "l.csv: --column = prompt=text: is no column of the log (is txt meant?): expected one of ts, txt, count"
        );
        assert_eq!(
            choose(&columns, &["prompt=count"]).unwrap_err(),
            "l.csv: --column = prompt=count: expected text in column count, which has an integer (5)"
        );
        let error = "promt=text".parse::<ColumnChoice>().unwrap_err().to_string();
        assert!(error.starts_with("promt is no column of a trace (is prompt meant?): expected one of arrival_s, "));
        assert!("prompt".parse::<ColumnChoice>().unwrap_err().to_string().starts_with("expected OURS=THEIRS"));
    }
}
