//! Figure: what each variant served per minute.

use super::axis::Axis;
use super::bars::{Bar, Bars};
use super::{Figure, origin};
use crate::report::{Comparison, steady};

/// Bars of steady throughput, with intervals over seeds.
pub(super) fn figure(comparison: &Comparison) -> Option<Figure> {
    let variants = comparison.variants();
    let bars: Vec<Bar> = variants.iter().enumerate().map(|(row, variant)| bar(comparison, row, variant)).collect();
    let ends = bars.iter().filter_map(|bar| bar.interval.map(|(_, high)| high).or(bar.value));
    let axis = Axis::from_zero("requests per minute", ends.fold(0.0, f64::max), 5.0);
    let baseline = variants.first()?;
    let whiskers = if comparison.seeds() > 1 { "; whiskers: 95 % interval" } else { "" };
    let ratios = if variants.len() > 1 { format!(" (and over {baseline})") } else { String::new() };
    let values: Vec<String> = bars.iter().map(|bar| format!("{}: {}", bar.name, bar.label)).collect();
    let title = "Throughput".to_owned();
    Some(Figure::bars(
        "throughput",
        format!("Requests served per minute between first and last arrival{ratios}. {}.", values.join("; ")),
        Bars {
            title,
            subtitle: format!(
                "Requests served per minute between first and last arrival{ratios}{whiskers}.\n{}",
                origin(comparison)
            ),
            axis,
            rows: bars,
            ..Bars::default()
        },
    ))
}

fn bar(comparison: &Comparison, row: usize, variant: &str) -> Bar {
    let rate = comparison.estimate(variant, steady);
    let ratio = if row == 0 { None } else { comparison.ratio(variant, steady) };
    let ratio = ratio.map_or_else(String::new, |ratio| format!(" ({:.2}x)", ratio.mean));
    Bar {
        name: variant.to_owned(),
        value: rate.map(|rate| rate.mean),
        interval: rate.and_then(|rate| rate.interval()).map(|(low, high)| (low.max(0.0), high)),
        label: rate.map_or_else(|| "none completed".into(), |rate| format!("{:.1}{ratio}", rate.mean)),
        ..Bar::default()
    }
}
