//! The report of a plan: what to buy in a sentence, the clusters that were tried, and what was asked for.

use std::fmt;

use super::{PlanAtEnd, PlanAtHitRate, PlanRow, at_ends, cells, figures, other_hit_rates, plan_csv};
use crate::report::figures::{DrawError, Look, origin};
use crate::report::html::{self, Drawn, Grounds, Page};
use crate::report::provenance::Provenance;
use crate::report::{ReportFile, table};

/// A plan that was made.
#[derive(Clone, Debug, Default)]
pub struct PlanReport {
    /// The scenario's name.
    pub name: String,
    /// What it comes to.
    pub sentence: String,
    /// GPU groups to choose from.
    pub groups: Vec<String>,
    /// Clusters that were tried, cheapest first.
    pub rows: Vec<PlanRow>,
    /// What was asked for: name and value.
    pub asked: Vec<(String, String)>,
    /// The share of the requests that must be in time.
    pub attainment: f64,
    /// Traces that it must hold for.
    pub seeds: usize,
    /// Policies, settings of the command line, inputs and service times.
    pub provenance: Provenance,
    /// Stand-ins that were used, in words.
    pub stand_ins: Vec<String>,
    /// The choice at other hit rates; empty for a system that does not retrieve, or where nothing holds.
    pub at_other_hit_rates: Vec<PlanAtHitRate>,
    /// The choice at the ends of what the profile leaves open; empty where it leaves nothing open, or where nothing holds.
    pub at_ends: Vec<PlanAtEnd>,
    /// Sentences on what a reader must be warned of.
    pub warnings: Vec<String>,
    /// The scenario.
    pub scenario_toml: String,
    /// Program version, commit, seed: name and value.
    pub versions: Vec<(String, String)>,
}

const TERMS: [(&str, &str); 8] = [
    ("holds", "at least the wanted share of the requests was in time, over all traces together"),
    (
        "in time",
        "share of the requests finished within the target, with a 95 % interval over the traces; a cluster is stopped as soon as it is known to fail, and then has no share",
    ),
    (
        "quality, kept",
        "mean CLIPScore (100 x cosine) of the images (est.: estimated, pub.: published, meas.: measured), and that over the \
         large model's own score; means over the traces",
    ),
    ("images drawn by", "share of the completed images by the model that drew them last"),
    ("p99 s", "99th percentile of latency, mean over the traces"),
    ("on MODEL", "workers that hold a model, mean over time and traces"),
    ("$/h, $/1000", "what the cluster costs an hour, and for a thousand completed images"),
    ("kJ/image", "energy of the cluster per completed image, kilojoules"),
];

impl PlanReport {
    /// The choice at other hit rates and with other service times, a sentence each.
    fn elsewhere(&self) -> Vec<String> {
        let other = other_hit_rates(&self.groups, &self.at_other_hit_rates);
        other.into_iter().chain(at_ends(&self.groups, &self.at_ends)).collect()
    }

    /// Sentences that qualify the answer: the choice at other hit rates and with other service times, warnings, stand-ins.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        self.elsewhere().into_iter().chain(self.warnings.iter().chain(&self.stand_ins).cloned()).collect()
    }

    fn grounds(&self) -> Grounds<'_> {
        Grounds {
            provenance: &self.provenance,
            stand_ins: &self.stand_ins,
            notes: &self.warnings,
            versions: &self.versions,
            scenario_toml: &self.scenario_toml,
        }
    }

    /// `plan.csv`, `report.html`, `report.md` and the figures, whose files have that look.
    ///
    /// # Errors
    /// See [`DrawError`].
    pub fn files(&self, look: Look) -> Result<Vec<ReportFile>, DrawError> {
        let origin = origin(&self.name, self.seeds, &self.stand_ins);
        let figures = figures::figures(&self.groups, &self.rows, self.attainment, &origin);
        let table = ReportFile::new("plan.csv", plan_csv(&self.groups, &self.rows));
        html::files(&self.name, vec![table], self.markdown(), &figures, look, |page, drawn| self.write(page, drawn))
    }

    fn write(&self, page: &mut Page, figures: &[Drawn]) -> fmt::Result {
        page.begin(&format!("Plan: {}", self.name), &[&format!("{}.", self.sentence)], &self.elsewhere())?;
        html::write_table_of(page, "Clusters tried", &cells(&self.groups, &self.rows), "", "plan.csv")?;
        html::write_figures(page, figures)?;
        page.section("What was asked for")?;
        html::write_pair_rows(page, &self.asked)?;
        html::write_grounds(page, &self.grounds())?;
        html::write_definitions(page, "What the measures mean", &TERMS)
    }

    fn markdown(&self) -> String {
        let (titles, rows) = cells(&self.groups, &self.rows);
        let mut text = format!("{}.\n\n{}\n", self.sentence, table::markdown_table(&titles, &rows));
        for (name, value) in &self.asked {
            text.extend(["- ", name, ": ", value, "\n"]);
        }
        for sentence in self.elsewhere() {
            text.extend(["- ", &sentence, "\n"]);
        }
        text + &html::grounds_as_markdown(&self.grounds())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn row(gpus: u32, holds: bool) -> PlanRow {
        PlanRow {
            gpus: vec![gpus],
            holds,
            stopped: !holds,
            requests: 1000,
            late: if holds { 4 } else { 11 },
            attainments: if holds { vec![0.996, 0.994] } else { Vec::new() },
            split: BTreeMap::from([("large".to_owned(), f64::from(gpus) - 1.5), ("small".to_owned(), 1.5)]),
            usd_per_hour: Some(2.0 * f64::from(gpus)),
            ..PlanRow::default()
        }
    }

    #[test]
    fn clusters_are_shown_with_what_they_hold() {
        let report = PlanReport {
            name: "plan".into(),
            sentence: "9 x mi210 hold <99> % within 2x".into(),
            groups: vec!["mi210".into()],
            rows: vec![row(8, false), row(9, true)],
            attainment: 0.99,
            seeds: 2,
            ..PlanReport::default()
        };
        let files = report.files(Look::default()).expect("a report");
        let text = |name: &str| {
            let file = files.iter().find(|file| file.path == name).expect(name);
            String::from_utf8_lossy(&file.bytes).into_owned()
        };
        let page = text("report.html");
        assert!(page.contains("hold &lt;99&gt; %") && page.contains("stopped after 11 of 1000"), "{page}");
        assert_eq!(
            text("figures/in-time.csv").lines().nth(2).map(|line| line.split(',').next()),
            Some(Some("9 x mi210"))
        );
        assert!(
            text("figures/split.csv").starts_with("series,value,ci95_low,ci95_high,large,small\n9 x mi210,9,,,7.5,1.5")
        );
        assert!(text("report.md").contains("| 9 | yes |"), "{}", text("report.md"));
    }
}
