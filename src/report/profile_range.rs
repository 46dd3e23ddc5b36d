//! Ranges of the headline measures that follow from the uncertainty of the profile. The ranges have a table apart from
//! the measures, because they are not the spread over seeds.

use super::columns::slo_multiples;
use super::table::plain_table;
use super::{Comparison, ReportFile, Run, statistics};
use crate::metrics::profile_range::{Headlines, ProfileRange};
use crate::profile::{SpreadKind, range_around};

/// Title of the table.
pub(super) const TITLE: &str = "What the profile leaves open";

/// Name of the table's file.
pub(super) const FILE: &str = "profile_range.csv";

type Headline = Box<dyn Fn(&Headlines) -> Option<f64>>;

/// Returns the headline measures: title, whether the value is a share, and the value.
fn headlines(comparison: &Comparison) -> Vec<(String, bool, Headline)> {
    let mut all: Vec<(String, bool, Headline)> = vec![
        ("mean s".into(), false, Box::new(|at| at.latency_mean_s)),
        ("p95 s".into(), false, Box::new(|at| at.latency_p95_s)),
        ("steady/min".into(), false, Box::new(|at| at.throughput_steady_per_min)),
    ];
    for (at, multiple) in slo_multiples(comparison).into_iter().enumerate() {
        all.push((format!("≤ {multiple}x"), true, Box::new(move |found| found.attainment.get(at).copied())));
    }
    all
}

/// Returns the runs that have ranges: the first run of each variant.
fn runs(comparison: &Comparison) -> impl Iterator<Item = (&Run, &ProfileRange)> {
    comparison.runs.iter().filter_map(|run| Some((run, run.summary.profile_range.as_ref()?)))
}

/// Formats a range with suitable decimals: "12.3 to 14.1".
fn range_text((low, high): (f64, f64), is_share: bool) -> String {
    if is_share {
        return format!("{:.1} to {:.1}%", 100.0 * low, 100.0 * high);
    }
    let decimals = if high >= 1000.0 {
        0
    } else if high >= 10.0 {
        1
    } else {
        3
    };
    format!("{low:.decimals$} to {high:.decimals$}")
}

/// Returns the least and the greatest ratio of a run's steady throughput to the baseline's. Each ratio compares the
/// same end of the two ranges.
fn ratios(run: &Run, range: &ProfileRange, base: &Run, of_base: &ProfileRange) -> Option<(f64, f64)> {
    let rate = |at: &Headlines| at.throughput_steady_per_min;
    let usual = statistics::ratio(rate(&Headlines::of_run(&run.summary))?, rate(&Headlines::of_run(&base.summary))?)?;
    let ends = range.ends.iter().zip(&of_base.ends);
    let ratios = ends.map(|(own, base)| statistics::ratio(rate(&own.headlines)?, rate(&base.headlines)?));
    range_around(usual, ratios)
}

/// Returns titles and rows, one row for each variant; `None` if no run has a range.
pub(super) fn cells(comparison: &Comparison) -> Option<(Vec<String>, Vec<Vec<String>>)> {
    let (base, of_base) = runs(comparison).next()?;
    let headlines = headlines(comparison);
    let several = runs(comparison).count() > 1;
    let mut titles: Vec<String> = ["variant", "service times"].map(str::to_owned).to_vec();
    titles.extend(headlines.iter().map(|(title, ..)| title.clone()));
    titles.extend(several.then(|| "steady ratio".to_owned()));
    titles.push("mean s per 1 %".to_owned());
    let row = |(run, range): (&Run, &ProfileRange)| {
        let usual = Headlines::of_run(&run.summary);
        let mut row = vec![run.variant.clone(), range.spread.to_string()];
        row.extend(headlines.iter().map(|(_, is_share, headline)| {
            let found = headline(&usual).and_then(|usual| range.range(usual, headline));
            found.map_or_else(|| "–".to_owned(), |found| range_text(found, *is_share))
        }));
        if several {
            let found = ratios(run, range, base, of_base);
            let found = found.filter(|_| run.variant != base.variant);
            row.push(found.map_or_else(|| "–".to_owned(), |(low, high)| format!("{low:.2} to {high:.2}x")));
        }
        let change = range.per_percent(|at| at.latency_mean_s).zip(usual.latency_mean_s);
        row.push(change.map_or_else(|| "–".to_owned(), |(change, mean)| format!("{:+.1}%", 100.0 * change / mean)));
        row
    };
    Some((titles, runs(comparison).map(row).collect()))
}

/// Explanation of the table.
pub(super) const FOOTNOTE: &str = "Ranges over the run itself and four more, with service times at the ends of what the \
     profile leaves open (90 %): all longer, all shorter, the large model's longer and the others' shorter, and the reverse, \
     while policies go by the profile. First seed; the spread over seeds is not in it.\n";

/// Returns the table for a terminal; empty if no run has a range.
pub(super) fn terminal(comparison: &Comparison, width: Option<u16>) -> String {
    let Some((titles, rows)) = cells(comparison) else { return String::new() };
    format!("{TITLE}\n{}\n{FOOTNOTE}", plain_table(&titles, &rows, width))
}

/// Returns `profile_range.csv`: for each variant a row of the run itself, then a row for each end of the range.
pub(super) fn csv_file(comparison: &Comparison) -> Option<ReportFile> {
    const MEMORY: &str = "memory takes what is written to it";
    runs(comparison).next()?;
    let mut writer = csv::Writer::from_writer(Vec::new());
    let multiples = slo_multiples(comparison);
    let mut header = ["variant", "seed", "service_times", "spread", "spread_is_measured"].map(str::to_owned).to_vec();
    header.extend(["latency_mean_s", "latency_p95_s", "throughput_steady_per_min"].map(str::to_owned));
    header.extend(multiples.iter().map(|multiple| format!("slo_attainment_{multiple}x")));
    writer.write_record(header).expect(MEMORY);
    let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    for (run, range) in runs(comparison) {
        let usual = Headlines::of_run(&run.summary);
        let ends = range.ends.iter().map(|at| (at.end.words(), &at.headlines));
        for (words, at) in std::iter::once(("as profiled", &usual)).chain(ends) {
            let mut row = vec![run.variant.clone(), run.seed.to_string(), words.to_owned()];
            row.extend([range.spread.share.to_string(), (range.spread.kind == SpreadKind::Measured).to_string()]);
            row.extend([at.latency_mean_s, at.latency_p95_s, at.throughput_steady_per_min].map(number));
            row.extend((0..multiples.len()).map(|place| number(at.attainment.get(place).copied())));
            writer.write_record(row).expect(MEMORY);
        }
    }
    let text = String::from_utf8(writer.into_inner().expect(MEMORY)).expect("text was written");
    Some(ReportFile::new(FILE, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::profile_range::AtEnd;
    use crate::metrics::summary::{Latency, Summary};
    use crate::profile::{End, Spread};

    fn run(variant: &str, rates: [f64; 5]) -> Run {
        let [usual, at_ends @ ..] = rates;
        let at = |(end, rate): (End, f64)| AtEnd {
            end,
            headlines: Headlines {
                latency_mean_s: Some(100.0 / rate),
                throughput_steady_per_min: Some(rate),
                ..Headlines::default()
            },
        };
        let ends = End::ALL.into_iter().zip(at_ends).map(at).collect();
        let spread = Spread { share: 0.05, kind: SpreadKind::Assumed, mean_log_factor: 0.05 };
        let summary = Summary {
            throughput_steady_per_min: Some(usual),
            latency_s: Some(Latency { mean: 100.0 / usual, ..Latency::default() }),
            profile_range: Some(ProfileRange { spread, ends }),
            ..Summary::default()
        };
        Run { variant: variant.to_owned(), seed: 1, summary, ..Run::default() }
    }

    #[test]
    fn ratios_are_taken_end_by_end() {
        let runs = vec![run("a", [10.0, 9.5, 10.5, 9.6, 10.4]), run("b", [20.0, 19.0, 21.0, 20.0, 19.9])];
        let comparison = Comparison { runs, ..Comparison::default() };
        let (titles, rows) = cells(&comparison).expect("ranges");
        assert_eq!(
            titles,
            ["variant", "service times", "mean s", "p95 s", "steady/min", "steady ratio", "mean s per 1 %"]
        );
        assert_eq!(rows[0], ["a", "± 5.0 % (assumed)", "9.5 to 10.5", "–", "9.5 to 10.5", "–", "+1.0%"]);
        // The ends of the range are 19.9 / 10.4 and 20 / 9.6.
        assert_eq!(rows[1][5], "1.91 to 2.08x");
        let file = csv_file(&comparison).expect("a file");
        let text = String::from_utf8(file.bytes).expect("text");
        assert_eq!(text.lines().count(), 11);
        assert!(text.contains("b,1,\"large longer, others shorter\",0.05,false,5,,20\n"), "{text}");
        assert!(cells(&Comparison::default()).is_none() && csv_file(&Comparison::default()).is_none());
    }
}
