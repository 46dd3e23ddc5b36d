//! Figures of a sweep: measures against the key with most values, a curve for each combination of the others, seeds
//! averaged. A point whose queue was still growing is dotted.

use std::collections::BTreeMap;

use super::Figure;
use super::axis::Axis;
use super::lines::{Curve, Lines};
use crate::metrics::summary::Summary;
use crate::report::SweepRow;

/// A measure of a run.
type Measure = fn(&Summary) -> Option<f64>;

/// Names of figures, what they show, and the measure.
const MEASURES: [(&str, &str, Measure); 8] = [
    ("throughput", "Requests completed a minute", |summary| summary.throughput_steady_per_min),
    ("violations", "Violations of the first SLO, per cent", |summary| {
        Some(100.0 * summary.slo.first()?.violation_rate)
    }),
    ("p99", "99th percentile of latency, seconds", |summary| Some(summary.latency_s?.p99)),
    ("hit-rate", "Hit rate, per cent", |summary| Some(100.0 * summary.hit_rate?)),
    ("quality", "Mean quality of the images, points of CLIPScore", |summary| summary.quality.clip()),
    ("gpu-seconds", "GPU seconds per completed image", |summary| summary.serving_gpu_s_per_request),
    ("energy", "Kilojoules per completed image", |summary| Some(summary.energy_j_per_image? / 1000.0)),
    ("cost", "Dollars per thousand completed images", |summary| Some(1000.0 * summary.cost_usd_per_image?)),
];

/// Curves beyond these would hide each other.
const MOST_CURVES: usize = 16;

/// The figures of a sweep that comes from there; none if no key has two numbers among its values.
#[must_use]
pub fn swept(origin: &str, keys: &[String], rows: &[SweepRow]) -> Vec<Figure> {
    let Some(across) = axis_key(keys, rows) else { return Vec::new() };
    MEASURES.iter().filter_map(|measure| figure(origin, keys, rows, across, measure)).collect()
}

/// The key whose values are numbers, and most of them; seeds are no axis.
fn axis_key(keys: &[String], rows: &[SweepRow]) -> Option<usize> {
    let distinct = |key: usize| {
        let values: std::collections::BTreeSet<&str> = rows.iter().map(|row| row.values[key].as_str()).collect();
        let numbers = values.iter().all(|value| value.parse::<f64>().is_ok_and(f64::is_finite));
        if numbers && keys[key] != "seed" { values.len() } else { 0 }
    };
    let best = (0..keys.len()).max_by_key(|key| (distinct(*key), usize::MAX - key))?;
    (distinct(best) > 1).then_some(best)
}

fn figure(
    origin: &str,
    keys: &[String],
    rows: &[SweepRow],
    across: usize,
    (stem, what, measure): &(&str, &str, Measure),
) -> Option<Figure> {
    let others: Vec<usize> = (0..keys.len()).filter(|key| *key != across && keys[*key] != "seed").collect();
    let series = |row: &SweepRow| others.iter().map(|key| row.values[*key].as_str()).collect::<Vec<_>>().join(", ");
    let mut names: Vec<String> = Vec::new();
    // Sums over seeds by curve and place; the bits of numbers above 0 are in their order.
    let mut sums: BTreeMap<(usize, u64), (f64, f64, f64, bool)> = BTreeMap::new();
    for row in rows {
        let Some((x, value)) = row.values[across].parse::<f64>().ok().zip(measure(&row.summary)) else { continue };
        let own = series(row);
        let place = names.iter().position(|name| *name == own).unwrap_or_else(|| {
            names.push(own);
            names.len() - 1
        });
        let sum = sums.entry((place, ordered(x))).or_insert((x, 0.0, 0.0, false));
        *sum = (x, sum.1 + value, sum.2 + 1.0, sum.3 || row.growing);
    }
    let curves: Vec<Curve> = names
        .into_iter()
        .enumerate()
        .take(MOST_CURVES)
        .map(|(place, own)| {
            let mine = || sums.iter().filter(|((curve, _), _)| *curve == place).map(|(_, sum)| sum);
            Curve {
                name: if own.is_empty() { what.to_lowercase() } else { own },
                points: mine().map(|(x, sum, count, _)| (*x, sum / count)).collect(),
                dots: mine().filter(|sum| sum.3).map(|(x, sum, count, _)| (*x, sum / count)).collect(),
            }
        })
        .collect();
    let points = || curves.iter().flat_map(|curve| &curve.points);
    if points().count() < 2 {
        return None;
    }
    let (left, right) = points().fold((f64::MAX, f64::MIN), |(low, high), (x, _)| (low.min(*x), high.max(*x)));
    let top = points().map(|(_, y)| *y).fold(0.0, f64::max);
    let growing = if curves.iter().any(|curve| !curve.dots.is_empty()) {
        " Dots: the queue was still growing, so that the value depends on how long the trace is."
    } else {
        ""
    };
    let over = if others.is_empty() {
        String::new()
    } else {
        let names: Vec<&str> = others.iter().map(|key| keys[*key].as_str()).collect();
        format!(", a curve for each {}", names.join(", "))
    };
    let title = (*what).to_owned();
    Some(Figure::lines(
        stem,
        format!("{what} against {}{over}.", keys[across]),
        Lines {
            title,
            subtitle: format!("Against {}{over}; means over seeds.{growing}\n{origin}", keys[across]),
            x: Axis::between(&keys[across], left, right, 6.0),
            y: Axis::from_zero("", top, 5.0),
            curves,
            bold_dots: true,
            if_empty: "Nothing was measured.",
            ..Lines::default()
        },
    ))
}

/// A key in the order of finite numbers.
fn ordered(x: f64) -> u64 {
    let bits = x.to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    fn row(values: [&str; 3], growing: bool, violations: f64) -> SweepRow {
        let mut summary = sample::modm().summary;
        summary.slo[0].violation_rate = violations;
        SweepRow { values: values.map(str::to_owned).to_vec(), summary, folder: String::new(), growing }
    }

    #[test]
    fn seeds_are_averaged_and_numbers_are_the_axis() {
        let keys = ["policy", "rate", "seed"].map(str::to_owned);
        let rows = [
            row(["fifo", "10", "1"], false, 0.1),
            row(["fifo", "10", "2"], false, 0.3),
            row(["fifo", "9.5", "1"], false, 0.0),
            row(["lru", "10", "1"], true, 0.4),
        ];
        let figures = swept("s", &keys, &rows);
        let violations = figures.iter().find(|figure| figure.name == "violations").expect("a figure");
        let text = violations.csv();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1..], ["fifo,curve,9.5,0", "fifo,curve,10,20", "lru,curve,10,40", "lru,dot,10,40"]);
        assert!(violations.svg().expect("a figure").contains("still growing"));
        assert!(swept("s", &["policy".to_owned()], &[]).is_empty());
    }
}
