//! Figure of the distribution of latency: the share of all requests that finished within a time.

use super::Figure;
use super::axis::Axis;
use super::lines::{Curve, Lines, Mark};
use super::over_time::rounded;
use crate::metrics::summary::Slo;
use crate::report::{Comparison, Run};

/// Number of points of a curve, independent of the number of requests.
const POINTS: u32 = 400;

/// Makes the figure with one curve for each variant, over all its seeds, and the SLO thresholds of the first run.
pub(super) fn figure(comparison: &Comparison) -> Option<Figure> {
    titled(comparison, "latency", "Latency distribution".to_owned())
}

/// Makes the same figure under another name and title.
pub(super) fn titled(comparison: &Comparison, name: &str, title: String) -> Option<Figure> {
    let first = comparison.runs.first()?;
    let thresholds = first.summary.slo.iter().map(|slo| slo.threshold_s).filter(|threshold_s| *threshold_s > 0.0);
    let (low, high) = range(comparison.runs.iter(), thresholds);
    let x = Axis::logarithmic("latency, seconds (logarithmic)", low, high);
    let curves: Vec<Curve> = comparison
        .variants()
        .into_iter()
        .map(|variant| Curve {
            name: variant.to_owned(),
            points: curve(comparison.runs_of(variant), &x),
            dots: Vec::new(),
        })
        .collect();
    let marks = first.summary.slo.iter().filter(|slo| slo.threshold_s > 0.0);
    let mark = |slo: &Slo| Mark { at: libm::log10(slo.threshold_s), label: format!("{}x", slo.multiple) };
    Some(Figure::lines(
        name,
        "Share of all requests finished within a latency, a curve a variant; the further left, the faster.".to_owned(),
        Lines {
            title,
            subtitle: format!(
                "Share of all requests finished within a time.{}\n{}",
                dashed(&first.summary.slo),
                comparison.origin()
            ),
            y: Axis::shares("share of all requests"),
            curves,
            marks: marks.map(mark).collect(),
            level: None,
            if_empty: "No request was completed.",
            x,
            ..Lines::default()
        },
    ))
}

/// Formats the SLO thresholds for the subtitle: " Dashed: 2x (192 s), 4x (384 s) of a full generation."
fn dashed(slo: &[Slo]) -> String {
    let marks: Vec<String> =
        slo.iter().map(|slo| format!("{}x ({} s)", slo.multiple, rounded(slo.threshold_s))).collect();
    if marks.is_empty() { String::new() } else { format!(" Dashed: {} of a full generation.", marks.join(", ")) }
}

/// Returns the ends of the time axis in seconds: from the fastest latency above 0, without the fastest 1 in 200, to the
/// slowest. Thresholds lie within the ends.
fn range<'a>(runs: impl Iterator<Item = &'a Run>, thresholds: impl Iterator<Item = f64>) -> (f64, f64) {
    let ends = runs.flat_map(|run| {
        // A returned image may take no time at all, which has no place on a logarithmic axis.
        let positive = run.latencies.partition_point(|latency| latency.nanoseconds() == 0);
        let ends = [run.latencies.get(positive.max(run.latencies.len() / 200)), run.latencies.last()];
        ends.into_iter().flatten().map(|latency| latency.seconds()).filter(|seconds| *seconds > 0.0)
    });
    let (low, high) = ends.chain(thresholds).fold((f64::MAX, 0.0_f64), |(low, high), s| (low.min(s), high.max(s)));
    if low <= high { (low, high) } else { (1.0, 100.0) }
}

/// Returns the points of a curve: logarithm of the latency, and share of all requests. Requests without an image never
/// finish, so their curve ends below 1.
fn curve<'a>(runs: impl Iterator<Item = &'a Run>, x: &Axis) -> Vec<(f64, f64)> {
    let runs: Vec<&Run> = runs.collect();
    let completed: usize = runs.iter().map(|run| run.latencies.len()).sum();
    let requests: u64 = runs.iter().map(|run| run.summary.requests.max(run.latencies.len() as u64)).sum();
    if completed == 0 {
        return Vec::new();
    }
    let point = |n: u32| {
        let at = x.low + (x.high - x.low) * f64::from(n) / f64::from(POINTS);
        let limit_s = libm::exp10(at);
        let within = |run: &&Run| run.latencies.partition_point(|latency| latency.seconds() <= limit_s);
        (at, runs.iter().map(within).sum::<usize>() as f64 / requests as f64)
    };
    trimmed((0..=POINTS).map(point).collect())
}

/// Removes the flat ends of a curve, which would hide the curves of other variants.
fn trimmed(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    // One point at zero stays, so that the curve rises from the axis.
    let from = points.partition_point(|(_, share)| *share <= 0.0).saturating_sub(1);
    let last = points.last().map_or(0.0, |(_, share)| *share);
    let to = points.partition_point(|(_, share)| *share < last);
    points.into_iter().take(to + 1).skip(from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;
    use crate::time::Duration;

    #[test]
    fn shares_rise_to_what_was_completed() {
        let mut run = sample::modm();
        run.summary.requests = 640; // half of the requests without an image
        let x = Axis::logarithmic("", 1.0, 320.0);
        let points = curve([&run].into_iter(), &x);
        assert!(points.is_sorted_by(|a, b| a.1 <= b.1));
        assert!((points[points.len() - 1].1 - 0.5).abs() < 1e-12);
    }

    #[test]
    fn a_latency_of_zero_has_a_place() {
        let run = Run { latencies: vec![Duration::ZERO; 3], ..Run::default() };
        assert_eq!(range([&run].into_iter(), std::iter::empty()), (1.0, 100.0));
        let x = Axis::logarithmic("", 1.0, 100.0);
        assert!((curve([&run].into_iter(), &x)[0].1 - 1.0).abs() < 1e-12);
    }
}
