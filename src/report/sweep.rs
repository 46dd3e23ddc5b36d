//! Report of a sweep: a table with one row for each combination, and figures of measures against the varied keys.

use std::fmt;

use super::columns::legend;
use super::figures::{DrawError, Look, origin, swept};
use super::html::{self, Drawn, Grounds, Page};
use super::provenance::Provenance;
use super::{ReportFile, SweepRow, measures, table};

/// Sweep that has run, with all that its report contains.
#[derive(Clone, Debug, Default)]
pub struct SweepReport {
    /// Name of the scenario.
    pub name: String,
    /// Keys that were varied.
    pub keys: Vec<String>,
    /// Rows, one for each combination.
    pub rows: Vec<SweepRow>,
    /// Policies, settings of the command line, inputs, and sources of the service times.
    pub provenance: Provenance,
    /// Stand-ins that were used, in words.
    pub stand_ins: Vec<String>,
    /// Further sentences, such as what the profile lacks.
    pub notes: Vec<String>,
    /// Scenario as TOML text.
    pub scenario_toml: String,
    /// Names and values of what produced the results: program version, commit, seed.
    pub versions: Vec<(String, String)>,
}

impl SweepReport {
    /// Returns a sentence on the keys that were varied.
    fn sentence(&self) -> String {
        let values = |key: usize| {
            let values: std::collections::BTreeSet<&str> =
                self.rows.iter().map(|row| row.values[key].as_str()).collect();
            values.len()
        };
        let keys = self.keys.iter().enumerate().map(|(place, key)| format!("{} values of {key}", values(place)));
        format!("{} combinations of {}.", self.rows.len(), keys.collect::<Vec<_>>().join(" and "))
    }

    /// Returns the origin of the numbers, in short.
    fn origin(&self) -> String {
        let key = self.keys.iter().position(|key| key == "seed");
        let seeds: std::collections::BTreeSet<&str> =
            self.rows.iter().filter_map(|row| Some(row.values[key?].as_str())).collect();
        origin(&self.name, seeds.len().max(1), &self.stand_ins)
    }

    fn grounds(&self) -> Grounds<'_> {
        Grounds {
            provenance: &self.provenance,
            stand_ins: &self.stand_ins,
            notes: &self.notes,
            versions: &self.versions,
            scenario_toml: &self.scenario_toml,
        }
    }

    /// Returns `report.html`, `report.md` and the figures; `look` is the look of the figures' files.
    ///
    /// # Errors
    /// See [`DrawError`].
    pub fn files(&self, look: Look) -> Result<Vec<ReportFile>, DrawError> {
        let figures = swept(&self.origin(), &self.keys, &self.rows);
        html::files(&self.name, Vec::new(), self.markdown(), &figures, look, |page, drawn| self.write(page, drawn))
    }

    fn write(&self, page: &mut Page, figures: &[Drawn]) -> fmt::Result {
        page.begin(&format!("Sweep: {}", self.name), &[&self.sentence()], &[])?;
        html::write_figures(page, figures)?;
        let cells = table::sweep_cells(&self.keys, &self.rows);
        let foot = format!("{} {}", legend(&cells.0), self.footnote());
        html::write_table_of(page, "Combinations", &cells, &foot, "sweep.csv")?;
        html::write_grounds(page, &self.grounds())?;
        html::write_definitions(page, "What the measures mean", measures::DEFINITIONS)
    }

    fn footnote(&self) -> String {
        table::sweep_footnote(&self.rows)
    }

    fn markdown(&self) -> String {
        let (titles, rows) = table::sweep_cells(&self.keys, &self.rows);
        let mut text = format!("{}\n\n{}", self.sentence(), table::markdown_table(&titles, &rows));
        text.push_str(&table::markdown_footnote(&format!("{}\n{}", legend(&titles), self.footnote())));
        text.push('\n');
        text + &html::grounds_as_markdown(&self.grounds())
    }
}
