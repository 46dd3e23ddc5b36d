//! Figure: SLO attainment against time, at the scenario's first multiple.

use super::axis::Axis;
use super::lines::{Curve, Lines, Mark};
use super::{Chart, Figure, origin};
use crate::metrics::timeline::Row;
use crate::report::{Comparison, Run};

/// Windows are drawn in at most so many steps: more than this is noise.
const STEPS: usize = 60;

/// A curve a variant, all its seeds together; none if no run has an SLO.
pub(super) fn figure(comparison: &Comparison) -> Option<Figure> {
    let slo = *comparison.runs.iter().find_map(|run| run.summary.slo.first())?;
    let end_s = comparison.runs.iter().map(end_s).fold(0.0, f64::max).max(1.0);
    let (unit_s, unit) = time_unit(end_s);
    let step_s = end_s / STEPS as f64;
    let curves: Vec<Curve> = comparison
        .variants()
        .into_iter()
        .map(|variant| Curve {
            name: variant.to_owned(),
            points: attainment(comparison.runs_of(variant), slo.multiple, step_s, unit_s),
            dots: Vec::new(),
        })
        .collect();
    let title = format!("Requests finished within {}x", slo.multiple);
    let mut x = Axis::from_zero(&format!("time of finish, {unit}"), end_s / unit_s, 8.0);
    x.high = end_s / unit_s;
    x.ticks.retain(|(value, _)| *value <= x.high);
    Some(Figure {
        name: "slo-attainment".to_owned(),
        description: format!(
            "Share of the requests that ended in each window of time within {} seconds, a curve a variant.",
            slo.threshold_s
        ),
        chart: Chart::Lines(Lines {
            title: title.clone(),
            subtitle: format!(
                "Share of the requests that ended in a window of time with a latency of at most {} s.\n{}",
                rounded(slo.threshold_s),
                origin(comparison)
            ),
            x,
            y: Axis::shares(""),
            curves,
            marks: last_arrival(comparison, unit_s).into_iter().collect(),
            level: None,
            if_empty: "No request ended.",
        }),
        title,
    })
}

/// Attainment in steps of time: windows weigh by their completions.
fn attainment<'a>(runs: impl Iterator<Item = &'a Run>, multiple: f64, step_s: f64, unit_s: f64) -> Vec<(f64, f64)> {
    let mut sums = vec![(0.0, 0.0); STEPS + 1];
    for run in runs {
        let Some(column) = run.timeline.slo_multiples.iter().position(|m| m.total_cmp(&multiple).is_eq()) else {
            continue;
        };
        for row in &run.timeline.rows {
            if let Some(Some(share)) = row.slo_attainment.get(column) {
                let step = ((middle_s(run, row) / step_s) as usize).min(STEPS);
                // A window in which requests only failed still counts.
                let weight = row.completions.max(1) as f64;
                sums[step].0 += share * weight;
                sums[step].1 += weight;
            }
        }
    }
    let steps = sums.into_iter().enumerate().filter(|(_, (_, weight))| *weight > 0.0);
    steps.map(|(step, (sum, weight))| ((step as f64 + 0.5) * step_s / unit_s, sum / weight)).collect()
}

fn middle_s(run: &Run, row: &Row) -> f64 {
    row.time_s + run.timeline.window_s / 2.0
}

fn end_s(run: &Run) -> f64 {
    run.timeline.rows.last().map_or(0.0, |row| row.time_s + run.timeline.window_s)
}

/// Where the trace ends, if it does so at the same window for all.
fn last_arrival(comparison: &Comparison, unit_s: f64) -> Option<Mark> {
    let mut ends = comparison.runs.iter().filter_map(|run| {
        let row = run.timeline.rows.iter().rfind(|row| row.arrivals > 0)?;
        Some(row.time_s + run.timeline.window_s)
    });
    let first = ends.next()?;
    ends.all(|end| end.total_cmp(&first).is_eq()).then(|| Mark { at: first / unit_s, label: "last arrival".into() })
}

fn time_unit(span_s: f64) -> (f64, &'static str) {
    match span_s {
        span_s if span_s > 4.0 * 86_400.0 => (86_400.0, "days"),
        span_s if span_s > 3.0 * 3600.0 => (3600.0, "hours"),
        span_s if span_s > 300.0 => (60.0, "minutes"),
        _ => (1.0, "seconds"),
    }
}

/// Seconds without needless decimals.
pub(super) fn rounded(seconds: f64) -> String {
    if seconds >= 10.0 { format!("{seconds:.0}") } else { format!("{seconds:.2}") }
}
