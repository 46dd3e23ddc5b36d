//! Figures over time: requests offered and completed, requests waiting, hits, SLO attainment, workers by model. Most
//! have one curve for each variant, over all its seeds. The data are the windows of `timeline.csv`.

use super::Figure;
use super::axis::Axis;
use super::lines::{Curve, Lines, Mark};
use crate::metrics::timeline::TimelineRow;
use crate::report::{Comparison, Run};

/// Number of steps of time into which windows are merged: more steps would show noise.
const STEPS: usize = 60;

/// Number of steps of the rate of arrivals, in the figure of models by load.
const RATES: usize = 16;

/// Maximum number of variants that have a figure of their workers: each variant has its own figure.
pub(super) const MOST_STACKED: usize = 8;

/// Measure of a window: the value, and the weight of the value among the windows of one step.
type Measure<'a> = &'a dyn Fn(&Run, &TimelineRow) -> Option<(f64, f64)>;

/// Range and unit of time, the same in all figures of a comparison.
struct Clock {
    end_s: f64,
    unit_s: f64,
    unit: &'static str,
}

impl Clock {
    fn from_comparison(comparison: &Comparison) -> Self {
        let end_s = comparison.runs.iter().map(end_s).fold(0.0, f64::max).max(1.0);
        let (unit_s, unit) = time_unit(end_s);
        Self { end_s, unit_s, unit }
    }

    fn axis(&self, what: &str) -> Axis {
        let mut x = Axis::from_zero(&format!("{what}, {}", self.unit), self.end_s / self.unit_s, 8.0);
        // The axis ends with the data instead of at the next round value.
        x.high = self.end_s / self.unit_s;
        x.ticks.retain(|(value, _)| *value <= x.high);
        x
    }

    fn step_s(&self) -> f64 {
        self.end_s / STEPS as f64
    }

    /// Averages a measure over each step of time. Windows count by their weights, and steps without a window are left
    /// out.
    fn steps<'a>(&self, runs: impl Iterator<Item = &'a Run>, measure: Measure<'_>) -> Vec<(f64, f64)> {
        let mut sums = vec![(0.0, 0.0); STEPS + 1];
        for run in runs {
            for row in &run.timeline.rows {
                if let Some((value, weight)) = measure(run, row) {
                    let step = ((middle_s(run, row) / self.step_s()) as usize).min(STEPS);
                    sums[step].0 += value * weight;
                    sums[step].1 += weight;
                }
            }
        }
        let steps = sums.into_iter().enumerate().filter(|(_, (_, weight))| *weight > 0.0);
        let middle = |step: usize| ((step as f64 + 0.5) * self.step_s()).min(self.end_s) / self.unit_s;
        steps.map(|(step, (sum, weight))| (middle(step), sum / weight)).collect()
    }

    fn curves(&self, comparison: &Comparison, measure: Measure<'_>) -> Vec<Curve> {
        let curve = |variant: &str| Curve {
            name: variant.to_owned(),
            points: self.steps(comparison.runs_of(variant), measure),
            dots: Vec::new(),
        };
        comparison.variants().into_iter().map(curve).collect()
    }
}

/// Makes all figures that have something to show.
pub(super) fn figures(comparison: &Comparison) -> Vec<Figure> {
    let clock = Clock::from_comparison(comparison);
    let single = [served(comparison, &clock), queue(comparison, &clock), hits(comparison, &clock)];
    let mut figures: Vec<Figure> = single.into_iter().chain([attainment(comparison, &clock)]).flatten().collect();
    figures.extend(held(comparison, &clock));
    figures.extend(comparison.variants().into_iter().take(MOST_STACKED).filter_map(|variant| {
        let several = comparison.variants().len() > 1;
        let name = if several { format!("workers-{}", file_name(variant)) } else { "workers".to_owned() };
        workers(comparison, &clock, variant, &name)
    }));
    figures.extend(comparison.variants().into_iter().take(MOST_STACKED).filter_map(|variant| {
        let name = format!("models-by-load-{}", file_name(variant));
        by_load(comparison, &clock, variant, &name)
    }));
    figures
}

/// Converts a variant's name to a part of a file's name.
pub(super) fn file_name(variant: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+') { c } else { '-' };
    variant.chars().map(safe).collect()
}

/// Makes the figure of requests offered and completed per minute.
fn served(comparison: &Comparison, clock: &Clock) -> Option<Figure> {
    let a_minute = |count: u64, run: &Run| (count as f64 / (run.timeline.window_s / 60.0), 1.0);
    let first = comparison.variants().first().copied()?;
    let offered = Curve {
        name: "offered".to_owned(),
        // All variants are offered the same requests, so those of the first stand for all.
        points: clock.steps(comparison.runs_of(first), &|run, row| Some(a_minute(row.arrivals, run))),
        dots: Vec::new(),
    };
    let completed: Vec<Curve> = clock.curves(comparison, &|run, row| Some(a_minute(row.completions, run)));
    // The curve of offered requests comes last, so that variants have the same colours as in other figures.
    let curves: Vec<Curve> = completed.into_iter().chain([offered]).collect();
    let title = "Requests offered and completed".to_owned();
    Some(Figure::lines(
        "served-over-time",
        "Requests that arrived, and that each variant completed, per minute against time.".to_owned(),
        Lines {
            title,
            subtitle: format!("Per minute, in windows of time.\n{}", comparison.origin()),
            x: clock.axis("time"),
            y: upwards("requests per minute", &curves),
            curves,
            if_empty: "Nothing arrived.",
            ..Lines::default()
        },
    ))
}

/// Makes the figure of requests that wait; `None` if no request waited.
fn queue(comparison: &Comparison, clock: &Clock) -> Option<Figure> {
    let curves = clock.curves(comparison, &|_, row| Some(((row.queued_misses + row.queued_hits) as f64, 1.0)));
    let waited = curves.iter().flat_map(|curve| &curve.points).any(|(_, waiting)| *waiting > 0.0);
    let title = "Requests waiting".to_owned();
    waited.then(|| {
        Figure::lines(
            "queue-over-time",
            "Requests that wait for a worker at the end of each window of time, a curve a variant.".to_owned(),
            Lines {
                title,
                subtitle: format!("Misses and hits at the end of windows of time.\n{}", comparison.origin()),
                x: clock.axis("time"),
                y: upwards("requests waiting", &curves),
                curves,
                marks: last_arrival(comparison, clock.unit_s).into_iter().collect(),
                if_empty: "Nothing waited.",
                ..Lines::default()
            },
        )
    })
}

/// Makes the figure of the hit rate among routed requests; `None` if no run had a hit.
fn hits(comparison: &Comparison, clock: &Clock) -> Option<Figure> {
    let curves = clock.curves(comparison, &|_, row| Some((row.hit_rate?, row.arrivals.max(1) as f64)));
    let any = comparison.runs.iter().any(|run| run.summary.hit_rate.is_some_and(|rate| rate > 0.0));
    let title = "Hit rate".to_owned();
    any.then(|| {
        Figure::lines(
            "hits-over-time",
            "Share of the requests routed in each window of time that were hits, a curve a variant.".to_owned(),
            Lines {
                title,
                subtitle: format!("Share of the requests routed in a window of time.\n{}", comparison.origin()),
                x: clock.axis("time"),
                y: Axis::shares("share of the routed requests"),
                curves,
                if_empty: "Nothing was routed.",
                ..Lines::default()
            },
        )
    })
}

/// Makes the figure of SLO attainment at the scenario's first multiple; `None` if no run has an SLO.
fn attainment(comparison: &Comparison, clock: &Clock) -> Option<Figure> {
    let slo = *comparison.runs.iter().find_map(|run| run.summary.slo.first())?;
    let within = |run: &Run, row: &TimelineRow| {
        let column = run.timeline.slo_multiples.iter().position(|m| m.total_cmp(&slo.multiple).is_eq())?;
        // A window counts at least as one completion: a window in which requests only failed has an attainment too.
        Some(((*row.slo_attainment.get(column)?)?, row.completions.max(1) as f64))
    };
    let title = format!("Requests finished within {}x", slo.multiple);
    Some(Figure::lines(
        "slo-attainment",
        format!(
            "Share of the requests that ended in each window of time within {} seconds, a curve a variant.",
            slo.threshold_s
        ),
        Lines {
            title,
            subtitle: format!(
                "Share of the requests that ended in a window of time with a latency of at most {} s.\n{}",
                rounded(slo.threshold_s),
                comparison.origin()
            ),
            x: clock.axis("time of finish"),
            y: Axis::shares("share of the requests that ended"),
            curves: clock.curves(comparison, &within),
            marks: last_arrival(comparison, clock.unit_s).into_iter().collect(),
            if_empty: "No request ended.",
            ..Lines::default()
        },
    ))
}

/// Makes the figure of workers that hold the large model; `None` for fewer than two variants, or if no run loads a
/// model.
fn held(comparison: &Comparison, clock: &Clock) -> Option<Figure> {
    let changes = comparison.runs.iter().any(|run| run.summary.model_loads > 0);
    let curves = clock.curves(comparison, &|_, row| Some((*row.workers_by_model.first()?, 1.0)));
    let title = "Workers with the large model".to_owned();
    (changes && comparison.variants().len() > 1).then(|| {
        Figure::lines(
            "allocation",
            "Workers that hold the large model against time, a curve a variant.".to_owned(),
            Lines {
                title,
                subtitle: format!(
                    "Means over windows of time and seeds; loading workers hold none.\n{}",
                    comparison.origin()
                ),
                x: clock.axis("time"),
                y: upwards("workers", &curves),
                curves,
                if_empty: "Nobody held anything.",
                ..Lines::default()
            },
        )
    })
}

/// Returns a variant's workers that hold a model, by step of time.
fn held_by(comparison: &Comparison, clock: &Clock, variant: &str, model: usize) -> Vec<(f64, f64)> {
    clock.steps(comparison.runs_of(variant), &move |_, row| Some((*row.workers_by_model.get(model)?, 1.0)))
}

/// Makes the figure of a variant's workers by the model that they hold, stacked. Dots are the numbers of large workers
/// that the monitor wanted. Returns `None` for fewer than two models, or if no model is loaded.
fn workers(comparison: &Comparison, clock: &Clock, variant: &str, name: &str) -> Option<Figure> {
    let first = comparison.runs_of(variant).next()?;
    let changes = comparison.runs_of(variant).any(|run| run.summary.model_loads > 0);
    if !changes || first.timeline.models.len() < 2 {
        return None;
    }
    let loading = clock.steps(comparison.runs_of(variant), &|_, row| Some((row.workers_loading, 1.0)));
    let models = first.timeline.models.iter().enumerate();
    let mut curves: Vec<Curve> = models
        .map(|(model, name)| Curve {
            name: name.clone(),
            points: held_by(comparison, clock, variant, model),
            dots: Vec::new(),
        })
        .chain([Curve { name: "loading".to_owned(), points: loading, dots: Vec::new() }])
        .collect();
    let all: f64 = curves.iter().filter_map(|curve| curve.points.first()).map(|(_, y)| *y).sum();
    let wanted = first.wanted.iter().filter(|(time_s, _)| *time_s <= clock.end_s);
    curves[0].dots = wanted.map(|(time_s, wanted)| (time_s / clock.unit_s, f64::from(*wanted))).collect();
    let title = format!("Workers by model: {variant}");
    let dots =
        if curves[0].dots.is_empty() { "" } else { " Dots: large workers that the monitor wanted (first seed)." };
    Some(Figure::lines(
        name,
        format!("Workers of {variant} by the model that they hold against time, stacked."),
        Lines {
            title,
            subtitle: format!("Means over windows of time, stacked.{dots}\n{}", comparison.origin()),
            x: clock.axis("time"),
            y: Axis::from_zero("workers", all.max(1.0), 5.0),
            curves,
            stacked: true,
            if_empty: "Nobody held anything.",
            ..Lines::default()
        },
    ))
}

/// Makes the figure of a variant's workers by the model that they hold against the load, stacked. Returns `None` for
/// fewer than two small models, or if no model is loaded.
fn by_load(comparison: &Comparison, clock: &Clock, variant: &str, name: &str) -> Option<Figure> {
    let first = comparison.runs_of(variant).next()?;
    let changes = comparison.runs_of(variant).any(|run| run.summary.model_loads > 0);
    if !changes || first.timeline.models.len() < 3 {
        return None;
    }
    let rate = clock.steps(comparison.runs_of(variant), &|run, row| {
        Some((row.arrivals as f64 / (run.timeline.window_s / 60.0), 1.0))
    });
    let highest = rate.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
    let width = (highest / RATES as f64).max(f64::MIN_POSITIVE);
    let by_model = |model: usize| {
        let mut sums = vec![(0.0, 0.0); RATES + 1];
        for ((_, rate), (_, held)) in rate.iter().zip(held_by(comparison, clock, variant, model)) {
            let sum = &mut sums[((rate / width) as usize).min(RATES)];
            *sum = (sum.0 + held, sum.1 + 1.0);
        }
        let filled = sums.into_iter().enumerate().filter(|(_, (_, steps))| *steps > 0.0);
        filled.map(|(rate, (sum, steps))| (((rate as f64 + 0.5) * width).min(highest), sum / steps)).collect()
    };
    let models = first.timeline.models.iter().enumerate();
    let curves: Vec<Curve> =
        models.map(|(model, name)| Curve { name: name.clone(), points: by_model(model), dots: Vec::new() }).collect();
    let workers = first.timeline.rows.iter().map(|row| row.workers_by_model.iter().sum::<f64>()).fold(1.0, f64::max);
    Some(Figure::lines(
        name,
        format!("Workers of {variant} by the model that they hold against the rate of arrivals, stacked."),
        Lines {
            title: format!("Workers by model and load: {variant}"),
            subtitle: format!(
                "Means over steps of time with like rates, stacked; loading workers hold none.\n{}",
                comparison.origin()
            ),
            x: Axis::from_zero("requests per minute", highest, 6.0),
            y: Axis::from_zero("workers", workers, 5.0),
            curves,
            stacked: true,
            if_empty: "Nobody held anything.",
            ..Lines::default()
        },
    ))
}

/// Makes an axis from 0 to the highest point of the curves.
fn upwards(label: &str, curves: &[Curve]) -> Axis {
    let highest = curves.iter().flat_map(|curve| &curve.points).map(|(_, y)| *y).fold(0.0, f64::max);
    Axis::from_zero(label, highest, 5.0)
}

fn middle_s(run: &Run, row: &TimelineRow) -> f64 {
    row.time_s + run.timeline.window_s / 2.0
}

fn end_s(run: &Run) -> f64 {
    run.timeline.rows.last().map_or(0.0, |row| row.time_s + run.timeline.window_s)
}

/// Returns a mark at the end of the window with the last arrival, if that window is the same in all runs.
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

/// Formats a number of seconds without needless decimals.
pub(super) fn rounded(seconds: f64) -> String {
    if seconds >= 10.0 { format!("{seconds:.0}") } else { format!("{seconds:.2}") }
}
