//! The report of capacities: the answer in a sentence, a row for each variant, and what was asked for.

use std::fmt::{self, Write};

use super::{PublishedBy, capacity_csv, cells, figures, other_hit_rates, sentence, target};
use crate::experiments::capacity::Capacities;
use crate::report::figures::{DrawError, Figure, origin};
use crate::report::html::{self, Drawn};
use crate::report::{ReportFile, quality, table};

/// Capacities that were searched, and what a reader must know of them.
#[derive(Clone, Debug)]
pub struct CapacityReport {
    /// Scenario's name.
    pub name: String,
    /// Capacities.
    pub capacities: Capacities,
    /// What others published of the variants.
    pub published: PublishedBy,
    /// Number of seeds.
    pub seeds: usize,
    /// Stand-ins that were used, in words.
    pub stand_ins: Vec<String>,
    /// Further sentences: where service times come from, what seeds vary, what the profile lacks.
    pub notes: Vec<String>,
    /// Scenario.
    pub scenario_toml: String,
    /// Program version, commit, hashes of the inputs: name and value.
    pub versions: Vec<(String, String)>,
}

const TERMS: [(&str, &str); 5] = [
    (
        "capacity",
        "highest rate of arrivals at which the wanted share of the requests is in time, found by bisection to 1 %; only \
         the gaps between arrivals are scaled",
    ),
    ("ratio", "capacity over that of the first variant, trace by trace, with a 95 % interval over seeds"),
    ("quality", "mean of the completed images at the capacity, in points of CLIPScore (100 x cosine)"),
    ("kept", "quality over the large model's own score"),
    ("images drawn by", "share of the completed images by the model that drew them last, at the capacity"),
];

impl CapacityReport {
    /// The answer in a sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        sentence::sentence(&self.name, &self.capacities)
    }

    /// Sentences that qualify the answer.
    #[must_use]
    pub fn caveats(&self) -> Vec<String> {
        let mut caveats = other_hit_rates(&self.capacities);
        caveats.extend(super::caveats(&self.capacities));
        caveats.extend(self.stand_ins.iter().chain(&self.notes).cloned());
        caveats
    }

    /// `capacity.csv`, `report.html`, `report.md` and the figures.
    ///
    /// # Errors
    /// See [`DrawError`].
    ///
    /// # Panics
    /// Never: a string takes what is written to it.
    pub fn files(&self) -> Result<Vec<ReportFile>, DrawError> {
        let origin = origin(&self.name, self.seeds, &self.stand_ins);
        let figures = [figures::attainment(&self.capacities, &origin), figures::quality(&self.capacities, &origin)];
        let figures: Vec<Figure> = figures.into_iter().flatten().collect();
        let drawn = figures.iter().map(Drawn::of).collect::<Result<Vec<_>, _>>()?;
        let mut page = String::new();
        self.write(&mut page, &drawn).expect("a string takes what is written to it");
        let file = |path: &str, text: String| ReportFile { path: path.to_owned(), bytes: text.into_bytes() };
        let mut files = vec![csv_file(&self.capacities), file("report.html", page), file("report.md", self.markdown())];
        for figure in &figures {
            files.extend(figure.files()?);
        }
        Ok(files)
    }

    fn write(&self, page: &mut String, figures: &[Drawn]) -> fmt::Result {
        html::write_head(page, &self.name)?;
        let (name, sentence) = (html::escaped(&self.name), html::escaped(&self.sentence()));
        write!(page, "<h1>Capacity: {name}</h1>\n<p class=\"verdict\">{sentence}</p>\n")?;
        let cells = cells(&self.capacities, &self.published);
        html::write_table_of(page, "Variants", &cells, quality::FOOTNOTE, "capacity.csv")?;
        page.push_str("<h2>Figures</h2>\n");
        html::write_figures(page, figures)?;
        html::write_pairs(page, "What was asked for", &self.asked())?;
        page.push_str("<h2>What this rests on</h2>\n");
        html::write_list(page, "notes", &self.caveats())?;
        html::write_scenario(page, &self.scenario_toml)?;
        html::write_versions(page, &self.versions)?;
        html::write_definitions(page, "What the measures mean", &TERMS)?;
        html::write_end(page)
    }

    fn asked(&self) -> Vec<(String, String)> {
        let pairs = [
            ("in time", target(&self.capacities)),
            ("largest factor on the trace's rate", self.capacities.up_to.to_string()),
            ("seeds", self.seeds.to_string()),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }

    fn markdown(&self) -> String {
        let (titles, rows) = cells(&self.capacities, &self.published);
        let table = table::markdown_table(&titles, &rows);
        let mut text = format!("{}\n\n{table}\n{}\n", self.sentence(), quality::FOOTNOTE);
        for note in self.caveats() {
            text.extend(["- ", &note, "\n"]);
        }
        text
    }
}

/// `capacity.csv`.
pub(in crate::report) fn csv_file(capacities: &Capacities) -> ReportFile {
    ReportFile { path: "capacity.csv".to_owned(), bytes: capacity_csv(capacities).into_bytes() }
}
