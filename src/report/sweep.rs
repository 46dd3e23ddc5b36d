//! The report of a sweep: a table a combination, and what it says against the keys that were varied.

use std::fmt::{self, Write};

use super::figures::{DrawError, origin, swept};
use super::html::{self, Drawn};
use super::{ReportFile, SweepRow, measures, table};

/// A sweep that has run.
#[derive(Clone, Debug, Default)]
pub struct Sweep {
    /// The scenario's name.
    pub name: String,
    /// The varied keys.
    pub keys: Vec<String>,
    /// A row a combination.
    pub rows: Vec<SweepRow>,
    /// Stand-ins that were used, in words.
    pub stand_ins: Vec<String>,
    /// Further sentences: what the profile lacks.
    pub notes: Vec<String>,
    /// The scenario.
    pub scenario_toml: String,
}

impl Sweep {
    /// What was varied, in a sentence.
    fn sentence(&self) -> String {
        let values = |key: usize| {
            let values: std::collections::BTreeSet<&str> =
                self.rows.iter().map(|row| row.values[key].as_str()).collect();
            values.len()
        };
        let keys = self.keys.iter().enumerate().map(|(place, key)| format!("{} values of {key}", values(place)));
        format!("{} combinations of {}.", self.rows.len(), keys.collect::<Vec<_>>().join(" and "))
    }

    /// Where its numbers come from, in short.
    fn origin(&self) -> String {
        let key = self.keys.iter().position(|key| key == "seed");
        let seeds: std::collections::BTreeSet<&str> =
            self.rows.iter().filter_map(|row| Some(row.values[key?].as_str())).collect();
        origin(&self.name, seeds.len().max(1), &self.stand_ins)
    }

    /// `report.html`, `report.md` and the figures.
    ///
    /// # Errors
    /// See [`DrawError`].
    ///
    /// # Panics
    /// Never: a string takes what is written to it.
    pub fn files(&self) -> Result<Vec<ReportFile>, DrawError> {
        let figures = swept(&self.origin(), &self.keys, &self.rows);
        let drawn = figures.iter().map(Drawn::of).collect::<Result<Vec<_>, _>>()?;
        let mut page = String::new();
        self.write(&mut page, &drawn).expect("a string takes what is written to it");
        let file = |path: String, bytes: Vec<u8>| ReportFile { path, bytes };
        let mut files = vec![
            file("report.html".to_owned(), page.into_bytes()),
            file("report.md".to_owned(), self.markdown().into_bytes()),
        ];
        for figure in &figures {
            files.extend(figure.files()?);
        }
        Ok(files)
    }

    fn write(&self, page: &mut String, figures: &[Drawn]) -> fmt::Result {
        html::write_head(page, &self.name)?;
        let (name, sentence) = (html::escaped(&self.name), html::escaped(&self.sentence()));
        write!(page, "<h1>Sweep: {name}</h1>\n<p class=\"verdict\">{sentence}</p>\n")?;
        if !figures.is_empty() {
            page.push_str("<h2>Figures</h2>\n");
            html::write_figures(page, figures)?;
        }
        let cells = table::sweep_cells(&self.keys, &self.rows);
        html::write_table_of(page, "Combinations", &cells, &self.footnote(), "sweep.csv")?;
        let notes = [self.stand_ins.as_slice(), self.notes.as_slice()].concat();
        if !notes.is_empty() {
            page.push_str("<h2>What this rests on</h2>\n");
            html::write_list(page, "notes", &notes)?;
        }
        html::write_scenario(page, &self.scenario_toml)?;
        html::write_definitions(page, "What the measures mean", measures::DEFINITIONS)?;
        html::write_end(page)
    }

    fn footnote(&self) -> String {
        table::sweep_footnote(&self.rows)
    }

    fn markdown(&self) -> String {
        let (titles, rows) = table::sweep_cells(&self.keys, &self.rows);
        let mut text = format!("{}\n\n{}", self.sentence(), table::markdown_table(&titles, &rows));
        text.push_str(&table::markdown_footnote(&self.footnote()));
        text.push('\n');
        for note in self.stand_ins.iter().chain(&self.notes) {
            text.extend(["- ", note, "\n"]);
        }
        text
    }
}
