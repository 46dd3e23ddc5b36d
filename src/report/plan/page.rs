//! Report of a plan: what to buy in one sentence, the clusters that were tried, and the question that was asked.

use std::fmt;

use serde_json::json;

use super::{at_ends, cells, figures, other_hit_rates, plan_csv};
use crate::experiments::plan::{Answer, Question, mix_name};
use crate::report::figures::{DrawError, Look, origin};
use crate::report::html::{self, Drawn, Grounds, Page};
use crate::report::provenance::Provenance;
use crate::report::{ReportFile, table};

/// Plan that was made, with all that its report contains.
#[derive(Clone, Debug)]
pub struct PlanReport {
    /// Name of the scenario.
    pub name: String,
    /// Question that the plan answers.
    pub question: Question,
    /// Answer to the question.
    pub answer: Answer,
    /// Policies, settings of the command line, inputs, and sources of the service times.
    pub provenance: Provenance,
    /// Stand-ins that were used, in words.
    pub stand_ins: Vec<String>,
    /// Scenario as TOML text.
    pub scenario_toml: String,
    /// Names and values of what produced the results: program version, commit, seed.
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
    /// Returns the plan as JSON, for programs: the content of `plan.json`.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        let (question, answer) = (&self.question, &self.answer);
        let choice = answer.choice.as_ref();
        json!({
            "slo_multiple": question.slo_multiple,
            "threshold_s": answer.threshold_s,
            "attainment": question.attainment,
            "quality": question.quality,
            "load": question.load,
            "spare": question.spare,
            "seeds": question.seeds,
            "choice": choice.and_then(|mix| answer.tried.iter().find(|row| row.gpus == *mix)),
            "groups": answer.groups,
            "most": answer.most,
            "ruled_out_by_the_bound": answer.ruled_out,
            "simulated_requests": answer.simulated,
            "tried": answer.tried,
            "at_other_hit_rates": answer.at_other_hit_rates,
            "at_ends": answer.at_ends,
            "warnings": answer.warnings,
        })
    }

    /// Returns the answer in one sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        let (question, answer) = (&self.question, &self.answer);
        let (share, slo) = (100.0 * question.attainment, question.slo_multiple);
        let quality =
            question.quality.map_or_else(String::new, |kept| format!(" with {} % of the quality", 100.0 * kept));
        match &answer.choice {
            Some(mix) => format!(
                "{} hold {share} % within {slo}x ({:.1} s){quality}{}; {} smaller clusters could not, whatever their policy",
                mix_name(&answer.groups, mix),
                answer.threshold_s,
                self.gains(mix),
                answer.ruled_out
            ),
            None => format!(
                "not even {} hold {share} % within {slo}x{quality}: allow more with --max-gpus, or ask for less",
                mix_name(&answer.groups, &answer.most)
            ),
        }
    }

    /// Returns what a cluster costs, and what its images keep of the quality, as far as it is known.
    fn gains(&self, mix: &[u32]) -> String {
        let Some(row) = self.answer.tried.iter().find(|row| row.gpus == mix) else { return String::new() };
        let dollars = row.usd_per_hour.map(|dollars| format!("at {dollars:.2} dollars an hour"));
        let kept = row.quality_kept.zip(row.quality_kind).map(|(kept, kind)| {
            format!("with {:.1} % of the large model's quality ({})", 100.0 * kept, crate::report::quality::short(kind))
        });
        let gains: Vec<String> = dollars.into_iter().chain(kept).collect();
        if gains.is_empty() { String::new() } else { format!(", {}", gains.join(" and ")) }
    }

    /// Returns names and values of the question.
    fn asked(&self) -> Vec<(String, String)> {
        let (question, answer) = (&self.question, &self.answer);
        let quality = question.quality.map_or_else(
            || "any".to_owned(),
            |share| format!("at least {} % of the large model's own on average", 100.0 * share),
        );
        let pairs = [
            ("quality", quality),
            ("in time within", format!("{} s ({} full generations)", answer.threshold_s, question.slo_multiple)),
            ("share in time", format!("{} %", 100.0 * question.attainment)),
            ("traces", question.seeds.to_string()),
            ("times the traffic", question.load.to_string()),
            ("GPUs down from the start", question.spare.to_string()),
            ("to choose from, at most", mix_name(&answer.groups, &answer.most)),
            ("requests simulated", answer.simulated.to_string()),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }

    /// Returns sentences on the choice at other hit rates and with other service times.
    fn elsewhere(&self) -> Vec<String> {
        let other = other_hit_rates(&self.answer.groups, &self.answer.at_other_hit_rates);
        other.into_iter().chain(at_ends(&self.answer.groups, &self.answer.at_ends)).collect()
    }

    /// Returns sentences that qualify the answer: the choice at other hit rates and with other service times, warnings,
    /// stand-ins.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        self.elsewhere().into_iter().chain(self.answer.warnings.iter().chain(&self.stand_ins).cloned()).collect()
    }

    fn grounds(&self) -> Grounds<'_> {
        Grounds {
            provenance: &self.provenance,
            stand_ins: &self.stand_ins,
            notes: &self.answer.warnings,
            versions: &self.versions,
            scenario_toml: &self.scenario_toml,
        }
    }

    /// Returns `plan.csv`, `report.html`, `report.md` and the figures; `look` is the look of the figures' files.
    ///
    /// # Errors
    /// See [`DrawError`].
    pub fn files(&self, look: Look) -> Result<Vec<ReportFile>, DrawError> {
        let origin = origin(&self.name, self.question.seeds.get(), &self.stand_ins);
        let figures = figures::figures(&self.answer.groups, &self.answer.tried, self.question.attainment, &origin);
        let table = ReportFile::new("plan.csv", plan_csv(&self.answer.groups, &self.answer.tried));
        html::files(&self.name, vec![table], self.markdown(), &figures, look, |page, drawn| self.write(page, drawn))
    }

    fn write(&self, page: &mut Page, figures: &[Drawn]) -> fmt::Result {
        page.begin(&format!("Plan: {}", self.name), &[&format!("{}.", self.sentence())], &self.elsewhere())?;
        html::write_table_of(page, "Clusters tried", &cells(&self.answer.groups, &self.answer.tried), "", "plan.csv")?;
        html::write_figures(page, figures)?;
        page.section("What was asked for")?;
        html::write_pair_rows(page, &self.asked())?;
        html::write_grounds(page, &self.grounds())?;
        html::write_definitions(page, "What the measures mean", &TERMS)
    }

    fn markdown(&self) -> String {
        let (titles, rows) = cells(&self.answer.groups, &self.answer.tried);
        let mut text = format!("{}.\n\n{}\n", self.sentence(), table::markdown_table(&titles, &rows));
        for (name, value) in &self.asked() {
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
    use crate::experiments::plan::PlanRow;

    fn row(gpus: u32, holds: bool) -> PlanRow {
        let split = BTreeMap::from([("large".to_owned(), f64::from(gpus) - 1.5), ("small".to_owned(), 1.5)]);
        PlanRow {
            gpus: vec![gpus],
            holds,
            stopped: !holds,
            requests: 1000,
            late: if holds { 4 } else { 11 },
            attainments: if holds { vec![0.996, 0.994] } else { Vec::new() },
            split: if holds { split } else { BTreeMap::new() },
            usd_per_hour: Some(2.0 * f64::from(gpus)),
            ..PlanRow::default()
        }
    }

    #[test]
    fn clusters_are_shown_with_what_they_hold() {
        let answer = Answer {
            groups: vec!["mi<210>".into()],
            tried: vec![row(8, false), row(9, true)],
            choice: Some(vec![9]),
            ..Answer::default()
        };
        let report = PlanReport {
            name: "plan".into(),
            question: Question::default(),
            answer,
            provenance: Provenance::default(),
            stand_ins: Vec::new(),
            scenario_toml: String::new(),
            versions: Vec::new(),
        };
        let files = report.files(Look::default()).expect("a report");
        let text = |name: &str| {
            let file = files.iter().find(|file| file.path == name).expect(name);
            String::from_utf8_lossy(&file.bytes).into_owned()
        };
        let page = text("report.html");
        assert!(
            page.contains("9 x mi&lt;210&gt; hold 99 % within 2x (0.0 s), at 18.00 dollars an hour;")
                && page.contains("stopped: 11 of 1000 late"),
            "{page}"
        );
        assert_eq!(
            text("figures/in-time.csv").lines().nth(2).map(|line| line.split(',').next()),
            Some(Some("9 x mi<210>"))
        );
        assert!(
            text("figures/split.csv")
                .starts_with("series,value,ci95_low,ci95_high,large,small\n9 x mi<210>,9,,,7.5,1.5")
        );
        assert!(text("report.md").contains("| 9 | yes |"), "{}", text("report.md"));
    }
}
