//! Columns of the tables of measures: titles, the full names behind them, units, and the measure of each.

use super::{Comparison, attainment_at, quality};
use crate::metrics::summary::Summary;

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Unit {
    /// Number, shown with decimals that fit the largest value of the column.
    Number,
    /// Share, shown in per cent.
    Share,
    Count,
    /// Quality in points of `CLIPScore`.
    Points,
    /// Cosine of two embeddings.
    Cosine,
}

/// Title of the column of mean qualities.
pub(super) const QUALITY: &str = "quality";

/// Title of the column of 99th percentiles of latency.
pub(super) const P99: &str = "p99 s";

/// Title of the column of shares of images by model.
pub(super) const DRAWN_BY: &str = "images drawn by";

/// Titles of columns and what they stand for, in the order of a legend. `≤` stands for all shares in time. The
/// footnote on quality explains two more, so a legend leaves them out.
const NAMES: [(&str, &str); 20] = [
    ("capacity/min", "highest rate of arrivals, per minute, at which enough requests are in time"),
    ("published ratio", "ratio that others published"),
    ("req/min", "completed requests per minute, to the last finish"),
    ("steady/min", "completed requests per minute while requests arrive"),
    ("steady ratio", "steady/min over that of the first row"),
    ("ratio", "rate over that of the first row"),
    ("hit rate", "share of requests made from a cached image"),
    ("mean s", "mean latency in seconds"),
    (P99, "99th percentile of the latency in seconds"),
    (IN_TIME, "share of requests that took at most so many full generations on the large model"),
    (QUALITY, "mean CLIPScore of the images"),
    ("published", "quality that others published"),
    ("kept", "quality over the large model's own"),
    ("similarity (measured)", "mean cosine of picture and prompt, by the encoder of the run"),
    ("GPU s/req", "seconds of denoising per completed request"),
    ("loads", "models loaded onto workers after the start"),
    ("kJ/image", "energy per completed request in kilojoules"),
    ("USD/1000", "cost of 1,000 completed requests in US dollars"),
    ("link busy", "share of the time in which the scheduler's link is busy, in its busier direction"),
    ("not served", "requests that were rejected, failed or were cancelled"),
];

/// Beginning of the titles of shares in time.
const IN_TIME: &str = "≤";

/// Returns what a title stands for; `None` for a title that says it itself.
pub(super) fn name_of(title: &str) -> Option<&'static str> {
    let key = if title.starts_with(IN_TIME) { IN_TIME } else { title };
    NAMES.iter().find(|(title, _)| *title == key).map(|(_, name)| *name)
}

/// Largest number of characters of a line of a legend.
const LEGEND_WIDTH: usize = 100;

/// Returns the legend of a table with these titles as a paragraph: each title with its name, and titles of one name
/// together.
pub(super) fn legend(titles: &[String]) -> String {
    let told = |(key, name): &(&str, &str)| {
        let of_key = |title: &&String| if *key == IN_TIME { title.starts_with(IN_TIME) } else { *title == key };
        let own: Vec<&str> = titles.iter().filter(of_key).map(String::as_str).collect();
        (!own.is_empty()).then(|| format!("{}: {name}.", own.join(", ")))
    };
    let names = NAMES.iter().filter(|(key, _)| ![QUALITY, "kept"].contains(key));
    names.filter_map(told).collect::<Vec<_>>().join(" ")
}

/// Breaks a paragraph into lines of at most `width` characters, or of the usual number. A longer word has a line of its
/// own.
pub(super) fn wrapped(paragraph: &str, width: Option<u16>) -> String {
    let width = width.map_or(LEGEND_WIDTH, |width| LEGEND_WIDTH.min(width.into()));
    let mut lines: Vec<String> = Vec::new();
    for word in paragraph.split_whitespace() {
        match lines.last_mut().filter(|line| line.chars().count() + 1 + word.chars().count() <= width) {
            Some(line) => line.extend([" ", word]),
            None => lines.push(word.to_owned()),
        }
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

pub(super) type Measure<'a> = Box<dyn Fn(&Summary) -> Option<f64> + 'a>;

pub(super) fn measures(comparison: &Comparison) -> Vec<(String, Unit, bool, Measure<'_>)> {
    let mut measures: Vec<(String, Unit, bool, Measure<'_>)> = vec![
        ("req/min".into(), Unit::Number, false, Box::new(|summary| summary.throughput_per_min)),
        ("steady/min".into(), Unit::Number, false, Box::new(|summary| summary.throughput_steady_per_min)),
        ("hit rate".into(), Unit::Share, false, Box::new(|summary| summary.hit_rate)),
        ("mean s".into(), Unit::Number, true, Box::new(|summary| Some(summary.latency_s?.mean))),
        (P99.into(), Unit::Number, true, Box::new(|summary| Some(summary.latency_s?.p99))),
    ];
    for multiple in slo_multiples(comparison) {
        measures.push((
            format!("≤ {multiple}x"),
            Unit::Share,
            true,
            Box::new(move |summary| attainment_at(summary, multiple)),
        ));
    }
    measures.push((QUALITY.into(), Unit::Points, false, Box::new(quality::clip)));
    measures.push(("kept".into(), Unit::Share, false, Box::new(|summary| summary.quality_kept)));
    let similarity = |summary: &Summary| summary.quality.measures.get("similarity").copied();
    measures.push(("similarity (measured)".into(), Unit::Cosine, false, Box::new(similarity)));
    measures.push(("GPU s/req".into(), Unit::Number, false, Box::new(|summary| summary.serving_gpu_s_per_request)));
    measures.push(("loads".into(), Unit::Count, false, Box::new(|summary| Some(summary.model_loads as f64))));
    measures.push((
        "kJ/image".into(),
        Unit::Number,
        false,
        Box::new(|summary| per_request(summary, summary.energy_j? / 1e3)),
    ));
    measures.push((
        "USD/1000".into(),
        Unit::Number,
        false,
        Box::new(|summary| per_request(summary, summary.cost_usd? * 1e3)),
    ));
    let busier = |summary: &Summary| summary.network.map(|network| network.busy_out.max(network.busy_in));
    measures.push(("link busy".into(), Unit::Share, false, Box::new(busier)));
    measures.push(("not served".into(), Unit::Count, false, Box::new(not_served)));
    measures
}

/// Returns the SLO multiples of all runs, in rising order.
pub(super) fn slo_multiples(comparison: &Comparison) -> Vec<f64> {
    let mut multiples: Vec<f64> =
        comparison.runs.iter().flat_map(|run| &run.summary.slo).map(|slo| slo.multiple).collect();
    multiples.sort_by(f64::total_cmp);
    multiples.dedup();
    multiples
}

fn per_request(summary: &Summary, total: f64) -> Option<f64> {
    (summary.completed > 0).then(|| total / summary.completed as f64)
}

/// Returns the number of requests without an image; `None` for a run that completed every request.
fn not_served(summary: &Summary) -> Option<f64> {
    let not_served = summary.rejected + summary.failed + summary.cancelled;
    (not_served > 0).then_some(not_served as f64)
}

/// Name of the throughput that a table of a sweep shows, the same measure as in the figure.
pub(super) const STEADY: &str = "throughput_steady_per_min";

/// Measures that a table of a sweep shows: name in `sweep.csv`, title and unit. The file has all other measures.
pub(super) const OF_SWEEP: [(&str, &str, Unit); 8] = [
    (STEADY, "steady/min", Unit::Number),
    ("hit_rate", "hit rate", Unit::Share),
    ("quality.clip", QUALITY, Unit::Points),
    ("quality_kept", "kept", Unit::Share),
    ("latency_s.mean", "mean s", Unit::Number),
    ("latency_s.p99", "p99 s", Unit::Number),
    ("serving_gpu_s_per_request", "GPU s/req", Unit::Number),
    ("model_loads", "loads", Unit::Count),
];

impl Unit {
    pub(super) fn decimals(self, widest: f64) -> usize {
        match self {
            Self::Count => 0,
            Self::Share => 1,
            Self::Points => 2,
            Self::Cosine => 3,
            Self::Number if widest >= 1000.0 => 0,
            Self::Number if widest >= 100.0 => 1,
            Self::Number if widest >= 0.1 => 2,
            Self::Number => 5,
        }
    }

    pub(super) fn show(self, value: f64, decimals: usize) -> String {
        match self {
            Self::Share => format!("{:.decimals$}%", value * 100.0),
            Self::Number | Self::Count | Self::Points | Self::Cosine => format!("{value:.decimals$}"),
        }
    }

    pub(super) fn plus_minus(self, half: f64, decimals: usize) -> String {
        let scale = if self == Self::Share { 100.0 } else { 1.0 };
        format!("± {:.decimals$}", half * scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn every_abbreviated_title_has_a_name() {
        let comparison = sample::comparison();
        let titles = measures(&comparison).into_iter().map(|(title, ..)| title);
        let of_sweep = OF_SWEEP.iter().map(|(_, title, _)| (*title).to_owned());
        for title in titles.chain(of_sweep) {
            assert!(name_of(&title).is_some(), "{title}");
        }
        assert_eq!(name_of("images drawn by"), None, "says itself");
    }

    #[test]
    fn a_legend_has_the_names_of_its_own_titles_once() {
        let titles = ["variant", "steady/min", "≤ 2x", "≤ 4x", "quality", "loads"].map(str::to_owned);
        let text = legend(&titles);
        assert!(text.starts_with("steady/min: completed requests per minute while requests arrive. ≤ 2x, ≤ 4x: share"));
        assert!(text.ends_with("loads: models loaded onto workers after the start."), "{text}");
        assert!(!text.contains("kJ") && !text.contains("quality:") && !text.contains(" ratio"), "{text}");
        assert!(wrapped(&text, Some(40)).lines().all(|line| line.chars().count() <= 40));
        assert_eq!(wrapped(&text, None).split_whitespace().collect::<Vec<_>>().join(" "), text);
    }
}
