//! Capacities as text: `capacity.csv`, the table and the sentence. The page is in `page`, the curves are in `figures`.

use std::collections::BTreeMap;

use super::calibration::percent;
use super::hit_rate;
use super::quality::{self, images_by_model};
use super::statistics::{Estimate, estimate};
use super::table::plain_table;
use crate::experiments::capacity::{AtHitRate, Capacities, Capacity, CapacityRange, Target};
use crate::published::Published;

pub(super) mod figures;
mod page;
pub(super) mod sentence;

pub use page::CapacityReport;
pub(super) use page::csv_file;

/// Published figures by name of the variant.
type PublishedBy = BTreeMap<String, Published>;

/// Returns the target in words: "99 % within 2x of a full generation".
pub(super) fn target(capacities: &Capacities) -> String {
    let share = 100.0 * capacities.attainment;
    match capacities.target {
        Target::SloMultiple(multiple) => format!("{share} % within {multiple}x of a full generation"),
        Target::SloS(seconds) => format!("{share} % within {seconds} s"),
    }
}

/// Returns the capacity of a variant over its seeds, in requests per minute.
pub(super) fn rate(capacities: &Capacities, variant: &str) -> Option<Estimate> {
    estimate(capacities.of_variant(variant).filter_map(|row| row.rate_per_min))
}

/// Returns the ratio of a variant's capacity to the baseline's capacity. Each seed compares the two on the same trace.
pub(super) fn ratio(capacities: &Capacities, variant: &str) -> Option<Estimate> {
    estimate(capacities.of_variant(variant).filter_map(|row| capacities.ratio(row)))
}

/// Returns whether a variant holds even the largest factor that was tried, on at least one trace.
pub(super) fn no_limit(capacities: &Capacities, variant: &str) -> bool {
    capacities.of_variant(variant).any(|row| row.no_limit)
}

/// Formats the capacity of a variant as a cell. "≥" marks a value that is only a lower bound.
pub(super) fn rate_cell(capacities: &Capacities, variant: &str) -> String {
    let more = if no_limit(capacities, variant) { "≥ " } else { "" };
    rate(capacities, variant).map_or_else(|| "none".to_owned(), |rate| format!("{more}{:.2}", rate.mean))
}

/// Formats the ratio to the baseline as a cell, with the ratio's interval over seeds.
pub(super) fn ratio_cell(capacities: &Capacities, variant: &str) -> String {
    let more = if no_limit(capacities, variant) { "≥ " } else { "" };
    ratio(capacities, variant).map_or_else(
        || "–".to_owned(),
        |ratio| {
            let half = ratio.half_width.map(|half| format!(" ± {half:.2}")).unwrap_or_default();
            format!("{more}{:.2}x{half}", ratio.mean)
        },
    )
}

/// Returns sentences on single rows that a reader must know of: a capacity without limit, no rate that holds, an
/// attainment that is not monotone.
pub(super) fn caveats(capacities: &Capacities) -> Vec<String> {
    let caveat = |row: &Capacity| {
        let who = format!("{} (seed {})", row.variant, row.seed);
        if row.no_limit {
            return Some(format!("{who}: no limit up to {} times the trace's rate.", capacities.up_to));
        }
        if row.factor.is_none() {
            let least = row.points.first().map_or(0.0, |point| point.factor);
            return Some(format!("{who}: nothing holds, down to {least:.4} times the trace's rate."));
        }
        row.not_monotone.map(|(fails, holds)| {
            let rate = row.trace_rate_per_min;
            format!(
                "{who}: attainment is not monotone in the rate. {:.2} a minute fails, {:.2} holds; the capacity lies \
                 between them, depending on what is wanted.",
                fails * rate,
                holds * rate
            )
        })
    };
    capacities.rows.iter().filter_map(caveat).collect()
}

/// Returns sentences on the capacities at other hit rates, one for each variant. A reader needs them because stand-in
/// embeddings reproduce the hit rate of one group of users: those who wrote the prompts that the embeddings were fitted
/// on.
pub(super) fn other_hit_rates(capacities: &Capacities) -> Vec<String> {
    let sentence = |variant: &str| {
        let rows: Vec<&AtHitRate> = capacities.at_other_hit_rates.iter().filter(|row| row.variant == variant).collect();
        let usual = rows.first()?.shift.usual_hit_rate;
        let one = |row: &&AtHitRate| {
            let ratio = row.ratio.map(|ratio| format!(" ({ratio:.2}x)")).unwrap_or_default();
            let rate = row.rate_per_min.map_or_else(|| "none".to_owned(), |rate| format!("{rate:.2}"));
            let more = if row.no_limit { "at least " } else { "" };
            format!("at {} {more}{rate} per minute{ratio}", hit_rate::words(&row.shift))
        };
        let all: Vec<String> = rows.iter().map(one).collect();
        Some(format!("{variant}, hit rate {}: {}.", percent(usual), all.join("; ")))
    };
    capacities.variants().into_iter().filter_map(sentence).collect()
}

/// Returns sentences on the range of the capacity that follows from the uncertainty of the profile, one for each
/// variant.
pub(super) fn ranges(capacities: &Capacities) -> Vec<String> {
    let base = capacities.ranges.first();
    let sentence = |range: &CapacityRange| {
        let row = capacities.of_variant(&range.variant).find(|row| row.seed == range.seed)?;
        let usual = row.rate_per_min?;
        let (low, high) = range.rates(usual)?;
        let more = if range.ends.iter().any(|at| at.no_limit) { "at least " } else { "" };
        let base = base.filter(|base| base.variant != range.variant);
        let ratios = base.and_then(|base| range.ratios(base, capacities.ratio(row)?));
        let ratios = ratios.map(|(low, high)| format!(" ({low:.2} to {high:.2}x)")).unwrap_or_default();
        let change = range.per_percent(usual);
        let change = change.map(|change| format!("; {:+.1} % a per cent", 100.0 * change)).unwrap_or_default();
        Some(format!(
            "{}, service times {}: holds {low:.2} to {more}{high:.2} per minute{ratios}{change}.",
            range.variant, range.spread
        ))
    };
    capacities.ranges.iter().filter_map(sentence).collect()
}

/// Returns the content of `capacity.csv`.
fn capacity_csv(capacities: &Capacities) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let mut write = |record: Vec<String>| writer.write_record(record).expect("rows of one length, written to memory");
    let header = [
        "variant",
        "seed",
        "rate_per_min",
        "factor",
        "attainment",
        "runs",
        "no_limit",
        "fails_from_factor",
        "threshold_s",
        "ratio",
        "quality",
        "quality_kind",
        "quality_kept",
    ];
    write(header.map(str::to_owned).to_vec());
    let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    for row in &capacities.rows {
        let summary = row.summary.as_ref();
        write(vec![
            row.variant.clone(),
            row.seed.to_string(),
            number(row.rate_per_min),
            number(row.factor),
            number(row.attainment),
            row.runs.to_string(),
            row.no_limit.to_string(),
            number(row.not_monotone.map(|(fails, _)| fails)),
            row.threshold_s.to_string(),
            number(capacities.ratio(row)),
            number(summary.and_then(quality::clip)),
            summary.and_then(quality::kind).map_or("", |kind| kind.word()).to_owned(),
            number(summary.and_then(|summary| summary.quality_kept)),
        ]);
    }
    String::from_utf8(writer.into_inner().expect("memory takes what is written to it"))
        .expect("CSV of strings is UTF-8")
}

/// Returns the table of capacities for a terminal.
#[must_use]
pub fn capacity_table(capacities: &Capacities, published: &BTreeMap<String, Published>, width: Option<u16>) -> String {
    let (titles, rows) = cells(capacities, published);
    format!("{}\n{}", plain_table(&titles, &rows, width), quality::FOOTNOTE)
}

/// Returns titles and rows, one row for each variant. The measures of a row are those at the variant's capacity.
fn cells(capacities: &Capacities, published: &PublishedBy) -> (Vec<String>, Vec<Vec<String>>) {
    let mut titles: Vec<String> = [
        "variant",
        "capacity/min",
        "ratio",
        "published",
        "quality",
        "published",
        "kept",
        "hit rate",
        "images drawn by",
    ]
    .map(str::to_owned)
    .to_vec();
    let any = |value: fn(&Published) -> Option<f64>| published.values().any(|known| value(known).is_some());
    let (ratios, qualities) = (any(|known| known.throughput_ratio), any(|known| known.quality));
    let rows = capacities.variants().into_iter().map(|variant| {
        let summaries = || capacities.of_variant(variant).filter_map(|row| row.summary.as_ref());
        let mean = |measure: fn(&crate::metrics::summary::Summary) -> Option<f64>| {
            estimate(summaries().filter_map(measure)).map(|estimate| estimate.mean)
        };
        let percent = |share: Option<f64>| share.map_or("–".to_owned(), |share| format!("{:.1}%", 100.0 * share));
        let kind = summaries().filter_map(quality::kind).min().map(quality::short).unwrap_or_default();
        let known = published.get(variant);
        let mut row = vec![variant.to_owned(), rate_cell(capacities, variant), ratio_cell(capacities, variant)];
        if ratios {
            let ratio = known.and_then(|known| known.throughput_ratio);
            row.push(ratio.map_or("–".to_owned(), |ratio| format!("{ratio}x")));
        }
        row.push(mean(quality::clip).map_or("–".to_owned(), |value| format!("{value:.2} {kind}")));
        if qualities {
            row.push(known.and_then(|known| known.quality).map_or("–".to_owned(), |value| format!("{value:.2}")));
        }
        row.push(percent(mean(|summary| summary.quality_kept)));
        row.push(percent(mean(|summary| summary.hit_rate)));
        row.push(images_by_model(summaries()).unwrap_or_else(|| "–".into()));
        row
    });
    let rows = rows.collect();
    // Columns of published figures are removed if no variant has such a figure. The later column is removed first, so
    // that the index of the other one stays valid.
    if !qualities {
        titles.remove(5);
    }
    if !ratios {
        titles.remove(3);
    }
    (titles, rows)
}
