//! The report of a sweep: a table a combination, and what it says against the keys that were varied.

use std::fmt::{self, Write};

use super::figures::{DrawError, swept};
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
    /// What the numbers rest on.
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

    /// `report.html`, `report.md` and the figures.
    ///
    /// # Errors
    /// See [`DrawError`].
    ///
    /// # Panics
    /// Never: a string takes what is written to it.
    pub fn files(&self) -> Result<Vec<ReportFile>, DrawError> {
        let figures = swept(&self.name, &self.keys, &self.rows);
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
        self.write_table(page)?;
        if !self.notes.is_empty() {
            page.push_str("<h2>What this rests on</h2>\n");
            html::write_list(page, "notes", &self.notes)?;
        }
        html::write_scenario(page, &self.scenario_toml)?;
        html::write_definitions(page, "What the measures mean", measures::DEFINITIONS)?;
        html::write_end(page)
    }

    fn write_table(&self, page: &mut String) -> fmt::Result {
        let (titles, rows) = table::sweep_cells(&self.keys, &self.rows);
        page.push_str(
            "<h2>Combinations</h2>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Combinations\">\n\
             <table class=\"sorts\">\n<thead><tr>",
        );
        for title in &titles {
            write!(page, "<th scope=\"col\">{}</th>", html::escaped(title))?;
        }
        page.push_str("</tr></thead>\n<tbody>\n");
        for row in &rows {
            page.push_str("<tr>");
            for cell in row {
                write!(page, "<td>{}</td>", html::escaped(cell))?;
            }
            page.push_str("</tr>\n");
        }
        page.push_str("</tbody>\n</table>\n</div>\n<p class=\"foot\">");
        page.push_str(&html::escaped(self.footnote()));
        page.write_str("All measures: <a href=\"sweep.csv\">sweep.csv</a>.</p>\n")
    }

    fn footnote(&self) -> &'static str {
        table::growing_footnote(self.rows.iter().any(|row| row.growing))
    }

    fn markdown(&self) -> String {
        let (titles, rows) = table::sweep_cells(&self.keys, &self.rows);
        let mut text = format!("{}\n\n{}", self.sentence(), table::markdown_table(&titles, &rows));
        if !self.footnote().is_empty() {
            text.extend(["\n\\", self.footnote(), "\n"]);
        }
        text.push('\n');
        for note in &self.notes {
            text.extend(["- ", note, "\n"]);
        }
        text
    }
}
