//! File `comparison.csv`: one row for each variant and seed, in a form that data frames read directly.
//!
//! Columns: `variant`, `seed`, then for each measure `m` of [`super::measures`] `m` and `m_ratio` (to the first variant
//! on the same seed). With more than one seed there are also `m_ci95_low`, `m_ci95_high`, `m_ratio_ci95_low` and
//! `m_ratio_ci95_high`: the 95 % interval of the variant's mean over its seeds, repeated in each row of the variant.
//! Percentiles of latency from p90 on then also have `m_ci95_reliable`: "no" if the interval is not reliable. A cell
//! without a value is empty.

use std::collections::BTreeMap;

use super::measures;
use super::statistics::{self, Estimate};
use super::{Comparison, Run};

/// Measures that rest on a few requests of each run, so that their intervals over seeds may say too little.
const TAILS: [&str; 4] = ["latency_s.p90", "latency_s.p95", "latency_s.p99", "latency_s.max"];

type Flat = BTreeMap<String, f64>;

/// Returns the content of `comparison.csv`.
///
/// # Panics
/// Never panics: the rows have one length, and writing to memory does not fail.
#[must_use]
pub fn comparison_csv(comparison: &Comparison) -> String {
    let columns = measures::columns(comparison.runs.iter().map(|run| &run.summary));
    let flat: Vec<Flat> =
        comparison.runs.iter().map(|run| measures::flatten(&run.summary).into_iter().collect()).collect();
    let intervals = comparison.seeds() > 1;

    let mut writer = csv::Writer::from_writer(Vec::new());
    let mut write = |record: Vec<String>| writer.write_record(record).expect("rows of one length, written to memory");
    write(header(&columns, intervals));
    for (run, values) in comparison.runs.iter().zip(&flat) {
        let mut record = vec![run.variant.clone(), run.seed.to_string()];
        for column in &columns {
            let value = values.get(column).copied();
            record.push(text(value));
            record.push(text(ratio(comparison, &flat, run, values, column)));
            if intervals {
                let siblings = || rows_of(comparison, &flat, &run.variant);
                push_interval(
                    &mut record,
                    statistics::estimate(siblings().filter_map(|(_, flat)| flat.get(column).copied())),
                );
                let ratios = siblings().filter_map(|(run, values)| ratio(comparison, &flat, run, values, column));
                push_interval(&mut record, statistics::estimate(ratios));
                if TAILS.contains(&column.as_str()) {
                    let values = siblings().filter_map(|(_, flat)| flat.get(column).copied());
                    let reliable = if statistics::tail_is_reliable(values) { "yes" } else { "no" };
                    record.push(if value.is_some() { reliable.to_owned() } else { String::new() });
                }
            }
        }
        write(record);
    }
    let bytes = writer.into_inner().expect("memory takes what is written to it");
    String::from_utf8(bytes).expect("CSV of strings is UTF-8")
}

fn header(columns: &[String], intervals: bool) -> Vec<String> {
    let suffixes: &[&str] = if intervals {
        &["", "_ratio", "_ci95_low", "_ci95_high", "_ratio_ci95_low", "_ratio_ci95_high"]
    } else {
        &["", "_ratio"]
    };
    let measures = columns.iter().flat_map(|column| {
        let reliable = (intervals && TAILS.contains(&column.as_str())).then_some(&"_ci95_reliable");
        suffixes.iter().chain(reliable).map(move |suffix| format!("{column}{suffix}"))
    });
    ["variant".to_owned(), "seed".to_owned()].into_iter().chain(measures).collect()
}

fn rows_of<'a>(
    comparison: &'a Comparison,
    flat: &'a [Flat],
    variant: &'a str,
) -> impl Iterator<Item = (&'a Run, &'a Flat)> {
    comparison.runs.iter().zip(flat).filter(move |(run, _)| run.variant == variant)
}

fn ratio(comparison: &Comparison, flat: &[Flat], run: &Run, values: &Flat, column: &str) -> Option<f64> {
    let first = &comparison.runs.first()?.variant;
    let (_, baseline) = rows_of(comparison, flat, first).find(|(other, _)| other.seed == run.seed)?;
    statistics::ratio(*values.get(column)?, *baseline.get(column)?)
}

fn push_interval(record: &mut Vec<String>, estimate: Option<Estimate>) {
    let interval = estimate.and_then(|estimate| estimate.interval());
    record.push(text(interval.map(|(low, _)| low)));
    record.push(text(interval.map(|(_, high)| high)));
}

/// Formats a value as the shortest text that reads back as the same number.
fn text(value: Option<f64>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    fn table(comparison: &Comparison) -> Vec<BTreeMap<String, String>> {
        let text = comparison_csv(comparison);
        csv::Reader::from_reader(text.as_bytes()).deserialize().map(|row| row.expect("a row")).collect()
    }

    #[test]
    fn a_row_a_variant_and_seed_with_ratios() {
        let rows = table(&sample::comparison());
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0]["variant"].as_str(), rows[0]["seed"].as_str()), ("vanilla", "42"));
        assert_eq!(rows[0]["throughput_per_min_ratio"], "1");
        assert_eq!(rows[0]["hit_rate"], "", "vanilla has none");
        assert_eq!(rows[1]["throughput_per_min"], "25");
        assert_eq!(rows[1]["throughput_per_min_ratio"], "2.5");
        assert_eq!(rows[1]["hit_rate_ratio"], "", "nothing to compare with");
        assert_eq!(rows[1]["model_loads_ratio"], "", "the baseline has 0");
        assert_eq!(rows[1]["slo.2x.attainment"], "0.98");
        assert!(!rows[0].contains_key("throughput_per_min_ci95_low"));
    }

    #[test]
    fn seeds_bring_intervals() {
        let mut comparison = sample::comparison();
        for mut run in comparison.runs.clone() {
            run.seed = 43;
            run.summary.throughput_per_min = run.summary.throughput_per_min.map(|rate| rate + 1.0);
            comparison.runs.push(run);
        }
        let rows = table(&comparison);
        assert_eq!(rows.len(), 4);
        let low: f64 = rows[1]["throughput_per_min_ci95_low"].parse().expect("a number");
        assert!((low - (25.5 - 12.706 * 0.5)).abs() < 1e-9, "{low}");
        assert_eq!(rows[1]["throughput_per_min_ci95_low"], rows[3]["throughput_per_min_ci95_low"]);
        assert_eq!(rows[1]["latency_s.p99_ci95_reliable"], "no", "two seeds");
        assert!(!rows[1].contains_key("latency_s.mean_ci95_reliable"));
        let ratio: f64 = rows[3]["throughput_per_min_ratio"].parse().expect("a number");
        assert!((ratio - 26.0 / 11.0).abs() < 1e-12, "the baseline of the same seed");
    }

    #[test]
    fn nothing_is_a_header() {
        assert_eq!(comparison_csv(&Comparison::default()), "variant,seed\n");
    }
}
