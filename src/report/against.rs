//! Comparison of two results, measure by measure, for checks that must notice a change. The comparison does not judge
//! whether a change is an improvement: the reader does.

use std::collections::BTreeMap;

use super::measures::{columns, flatten};
use super::{Comparison, statistics};
use crate::metrics::summary::Summary;

/// Measure that differs between two results.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Name of the variant.
    pub variant: String,
    /// Name of the measure; empty if one of the results lacks the whole variant.
    pub measure: String,
    /// Mean of the measure over seeds in this result; `None` if the result lacks the measure.
    pub here: Option<f64>,
    /// Mean of the measure over seeds in the reference result; `None` if the reference lacks the measure.
    pub there: Option<f64>,
}

impl Difference {
    /// Returns the difference relative to the reference; infinite if one result lacks the measure, or if only the
    /// reference is 0.
    #[must_use]
    pub fn relative(&self) -> f64 {
        match (self.here, self.there) {
            // Equal values come first, because 0 over 0 is not a number.
            (Some(here), Some(there)) if here.total_cmp(&there).is_eq() => 0.0,
            (Some(here), Some(there)) => (here - there).abs() / there.abs(),
            _ => f64::INFINITY,
        }
    }
}

/// Returns the measures that differ by more than `bound`, a share of the reference value, in the order of variants and
/// measures.
#[must_use]
pub fn differences(here: &Comparison, there: &Comparison, bound: f64) -> Vec<Difference> {
    let mut variants = here.variants();
    variants.extend(there.variants().into_iter().filter(|variant| !here.variants().contains(variant)));
    let mut found = Vec::new();
    for variant in variants {
        let (mine, theirs) = (means(here, variant), means(there, variant));
        let (Some(mine), Some(theirs)) = (mine, theirs) else {
            let variant = variant.to_owned();
            found.push(Difference { variant, measure: String::new(), here: None, there: None });
            continue;
        };
        let summaries = here.runs_of(variant).chain(there.runs_of(variant)).map(|run| &run.summary);
        for measure in columns(summaries) {
            let difference = Difference {
                variant: variant.to_owned(),
                here: mine.get(&measure).copied(),
                there: theirs.get(&measure).copied(),
                measure,
            };
            if difference.relative() > bound {
                found.push(difference);
            }
        }
    }
    found
}

/// Returns a variant's measures as means over its seeds; `None` if the result lacks the variant.
fn means(comparison: &Comparison, variant: &str) -> Option<BTreeMap<String, f64>> {
    let summaries: Vec<&Summary> = comparison.runs_of(variant).map(|run| &run.summary).collect();
    let mut values: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for summary in &summaries {
        for (measure, value) in flatten(summary) {
            values.entry(measure).or_default().push(value);
        }
    }
    let mean = |values: Vec<f64>| statistics::estimate(values).map(|estimate| estimate.mean);
    (!summaries.is_empty()).then(|| values.into_iter().filter_map(|(name, all)| Some((name, mean(all)?))).collect())
}

/// Formats the differences as a table with one line for each.
#[must_use]
pub fn table(differences: &[Difference]) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["variant", "measure", "here", "there", "difference"]);
    let number = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.6}"));
    for difference in differences {
        let relative = difference.relative();
        let relative = if relative.is_finite() { format!("{:.2} %", 100.0 * relative) } else { "–".to_owned() };
        let measure = if difference.measure.is_empty() { "is on one side only" } else { &difference.measure };
        table.add_row([
            difference.variant.clone(),
            measure.to_owned(),
            number(difference.here),
            number(difference.there),
            relative,
        ]);
    }
    format!("{table}\n")
}

/// Returns the differences as JSON.
#[must_use]
pub fn json(differences: &[Difference]) -> serde_json::Value {
    let row = |row: &Difference| serde_json::json!({ "variant": row.variant, "measure": row.measure, "here": row.here, "there": row.there });
    differences.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn only_what_is_beyond_the_bound_differs() {
        let there = sample::comparison();
        let mut here = there.clone();
        assert_eq!(differences(&here, &there, 0.0), []);
        here.runs[1].summary.makespan_s *= 1.02;
        here.runs[1].summary.hit_rate = None;
        let found = differences(&here, &there, 0.01);
        let names: Vec<&str> = found.iter().map(|difference| difference.measure.as_str()).collect();
        assert_eq!(names, ["makespan_s", "hit_rate"]);
        assert_eq!(differences(&here, &there, 0.05).len(), 1, "what is missing differs whatever the bound");
        here.runs.pop();
        assert!(differences(&here, &there, 1.0).iter().any(|difference| difference.variant == "modm-sdxl"));
        assert!(table(&found).contains("2.00 %"));
    }
}
