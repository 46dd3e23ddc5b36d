//! Tables of a validation: one table for each load, one row for each measure, with the values of the seeds side by
//! side.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::{Level, ValidatedRun, Validation, error_text, load_text};
use crate::metrics::fidelity::{Compared, Unit};

/// Table of the comparison at one load.
pub(super) struct LoadTable {
    pub(super) title: String,
    pub(super) header: [&'static str; 8],
    pub(super) rows: Vec<[String; 8]>,
}

const HEADER: [&str; 8] =
    ["measure", "live", "fed durations", "from profile", "error", "90 % range", "rescaled", "per 1 % service"];

/// Makes a table for each load.
pub(super) fn tables(validation: &Validation) -> Vec<LoadTable> {
    validation.loads().into_iter().map(|load| table(validation, load)).collect()
}

fn table(validation: &Validation, load: Option<f64>) -> LoadTable {
    let measured = validation.at(load, Level::Measured.word());
    let predicted = validation.at(load, Level::Profile.word());
    let rescaled = validation.at(load, "rescaled");
    let mut names: Vec<(String, Unit)> = Vec::new();
    for row in measured.iter().chain(&predicted).flat_map(|run| &run.rows) {
        if !names.iter().any(|(name, _)| *name == row.name) {
            names.push((row.name.clone(), row.unit));
        }
    }
    let row = |(name, unit): &(String, Unit)| {
        let of = |runs: &[&ValidatedRun], show: &dyn Fn(&Compared) -> Option<String>| {
            let shown = runs.iter().map(|run| run.row(name).and_then(show).unwrap_or_else(|| "–".to_owned()));
            let shown: Vec<String> = shown.collect();
            if shown.iter().all(|text| text == "–") { String::new() } else { shown.join(" / ") }
        };
        let error = |row: &Compared| Some(error_text(*unit, row.error));
        [
            name.replace('_', " "),
            of(&predicted, &|row| Some(value_text(*unit, row.live))),
            of(&measured, &error),
            of(&predicted, &|row| Some(value_text(*unit, row.simulated))),
            of(&predicted, &error),
            of(&predicted, &|row| range_text(*unit, row)),
            of(&rescaled, &error),
            of(&predicted, &|row| row.per_percent.map(|change| error_text(*unit, change))),
        ]
    };
    let seeds: Vec<String> = predicted.iter().map(|run| run.seed.to_string()).collect();
    let factors = rescaled.iter().filter_map(|run| run.level.factor()).map(|factor| format!("{factor:.3}"));
    let title = format!(
        "{} (seed {}; rescaled: service times x {})",
        capital(&load_text(load)),
        seeds.join(" / "),
        factors.collect::<Vec<_>>().join(" / ")
    );
    LoadTable { title, header: HEADER, rows: names.iter().map(row).collect() }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn value_text(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Seconds => format!("{value:.3} s"),
        Unit::PerMinute => format!("{value:.1}/min"),
        Unit::Share => format!("{:.1} %", value * 100.0),
        Unit::Count => format!("{value:.1}"),
    }
}

/// Formats the predicted range. A mark shows that the live value lies outside.
fn range_text(unit: Unit, row: &Compared) -> Option<String> {
    let (low, high) = row.range?;
    let mark = if row.is_inside() == Some(false) { " !" } else { "" };
    let low = value_text(unit, low);
    // The unit is stated only once, after the upper end.
    let low = low.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    Some(format!("{low} to {}{mark}", value_text(unit, high)))
}

/// Returns the tables and the verdict as text, for a terminal of `width` columns or, without a width, for a file.
#[must_use]
pub fn terminal(validation: &Validation, width: Option<u16>) -> String {
    let mut text = String::new();
    for of_load in tables(validation) {
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
        if let Some(width) = width {
            table.set_width(width);
        } else {
            table.set_content_arrangement(ContentArrangement::Disabled);
        }
        table.set_header(of_load.header).add_rows(&of_load.rows);
        for column in 1..HEADER.len() {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        for part in [of_load.title.as_str(), "\n", table.to_string().as_str(), "\n\n"] {
            text.push_str(part);
        }
    }
    for sentence in validation.verdicts() {
        text.push_str(&sentence);
        text.push('\n');
    }
    text
}
