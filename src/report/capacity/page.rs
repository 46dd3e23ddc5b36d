//! Report of capacities: the result in one sentence, a row for each variant, and the question that was asked.

use std::fmt;

use super::{PublishedBy, capacity_csv, caveats, cells, figures, other_hit_rates, ranges, sentence, target};
use crate::experiments::capacity::Capacities;
use crate::report::figures::{DrawError, Figure, Look, origin};
use crate::report::html::{self, Drawn, Grounds, Page};
use crate::report::provenance::Provenance;
use crate::report::{ReportFile, quality, table};

/// Result of a search for capacities, with all that its report contains.
#[derive(Clone, Debug)]
pub struct CapacityReport {
    /// Name of the scenario.
    pub name: String,
    /// Capacities that the search found.
    pub capacities: Capacities,
    /// Figures that others published, by variant.
    pub published: PublishedBy,
    /// Number of seeds.
    pub seeds: usize,
    /// Policies, settings of the command line, inputs, and sources of the service times.
    pub provenance: Provenance,
    /// Stand-ins that were used, in words.
    pub stand_ins: Vec<String>,
    /// Further sentences, such as what the seeds vary and what the profile lacks.
    pub notes: Vec<String>,
    /// Scenario as TOML text.
    pub scenario_toml: String,
    /// Names and values of what produced the results: program version, commit, seed.
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
    /// Returns the result in one sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        sentence::sentence(&self.name, &self.capacities)
    }

    /// Returns sentences that qualify the answer.
    #[must_use]
    pub fn caveats(&self) -> Vec<String> {
        let mut caveats = self.limits();
        caveats.extend(self.provenance.sources().chain(self.stand_ins.iter().chain(&self.notes).cloned()));
        caveats
    }

    /// Returns the caveats of the capacities alone, without the sentences on sources, stand-ins and notes.
    fn limits(&self) -> Vec<String> {
        [other_hit_rates(&self.capacities), ranges(&self.capacities), caveats(&self.capacities)].concat()
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

    /// Returns `capacity.csv`, `report.html`, `report.md` and the figures; `look` is the look of the figures' files.
    ///
    /// # Errors
    /// See [`DrawError`].
    pub fn files(&self, look: Look) -> Result<Vec<ReportFile>, DrawError> {
        let origin = origin(&self.name, self.seeds, &self.stand_ins);
        let figures = [figures::attainment(&self.capacities, &origin), figures::quality(&self.capacities, &origin)];
        let figures: Vec<Figure> = figures.into_iter().flatten().collect();
        html::files(&self.name, vec![csv_file(&self.capacities)], self.markdown(), &figures, look, |page, drawn| {
            self.write(page, drawn)
        })
    }

    fn write(&self, page: &mut Page, figures: &[Drawn]) -> fmt::Result {
        page.begin(&format!("Capacity: {}", self.name), &[&self.sentence()], &self.limits())?;
        let cells = cells(&self.capacities, &self.published);
        html::write_table_of(page, "Variants", &cells, quality::FOOTNOTE, "capacity.csv")?;
        html::write_figures(page, figures)?;
        page.section("What was asked for")?;
        html::write_pair_rows(page, &self.asked())?;
        html::write_grounds(page, &self.grounds())?;
        html::write_definitions(page, "What the measures mean", &TERMS)
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
        for caveat in self.limits() {
            text.extend(["- ", &caveat, "\n"]);
        }
        text + &html::grounds_as_markdown(&self.grounds())
    }
}

/// Returns the file `capacity.csv`.
pub(in crate::report) fn csv_file(capacities: &Capacities) -> ReportFile {
    ReportFile::new("capacity.csv", capacity_csv(capacities))
}
