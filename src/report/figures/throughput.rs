//! Figure of the requests that each variant served per minute.

use super::Figure;
use super::axis::Axis;
use super::bars::{Bar, Bars, PUBLISHED, highest};
use crate::report::{Comparison, steady};

/// Makes the figure of steady throughput, with intervals over seeds.
pub(super) fn figure(comparison: &Comparison) -> Option<Figure> {
    let variants = comparison.variants();
    let bars: Vec<Bar> = variants.iter().enumerate().map(|(row, variant)| bar(comparison, row, variant)).collect();
    let axis = Axis::from_zero("completed requests per minute while requests arrive", highest(&bars), 5.0);
    let marked = bars.iter().any(|bar| bar.mark.is_some());
    let baseline = variants.first()?;
    let whiskers = if comparison.seeds() > 1 { "; whiskers: 95 % interval" } else { "" };
    let lines = if marked { "; lines across: as published" } else { "" };
    let ratios = if variants.len() > 1 { format!(" (and over {baseline})") } else { String::new() };
    let values: Vec<String> = bars.iter().map(|bar| format!("{}: {}", bar.name, bar.label)).collect();
    let title = "Steady throughput".to_owned();
    Some(Figure::bars(
        "throughput",
        format!("Requests served per minute between first and last arrival{ratios}. {}.", values.join("; ")),
        Bars {
            title,
            subtitle: format!(
                "Requests served per minute between first and last arrival{ratios}{whiskers}{lines}.\n{}",
                comparison.origin()
            ),
            axis,
            rows: bars,
            mark: if marked { PUBLISHED } else { "" },
            ..Bars::default()
        },
    ))
}

fn bar(comparison: &Comparison, row: usize, variant: &str) -> Bar {
    let rate = comparison.estimate(variant, steady);
    let ratio = if row == 0 { None } else { comparison.ratio(variant, steady) };
    let published = comparison.published.get(variant).and_then(|known| known.throughput_ratio);
    let published = published.map_or_else(String::new, |ratio| format!(", published {ratio}x"));
    let ratio = ratio.map_or_else(String::new, |ratio| format!(" ({:.2}x{published})", ratio.mean));
    Bar {
        name: variant.to_owned(),
        value: rate.map(|rate| rate.mean),
        interval: rate.and_then(|rate| rate.interval()).map(|(low, high)| (low.max(0.0), high)),
        label: rate.map_or_else(|| "none completed".into(), |rate| format!("{:.1}{ratio}", rate.mean)),
        mark: comparison.published_value(
            variant,
            |known| known.throughput_per_min,
            |known| known.throughput_ratio,
            steady,
        ),
        ..Bar::default()
    }
}
