//! Figures of whole runs with one point for each variant: a gain against its cost, such as quality against latency.

use std::collections::BTreeSet;

use super::Figure;
use super::axis::Axis;
use super::lines::{Curve, Dots, Lines};
use super::totals::first_slo;
use crate::metrics::summary::Summary;
use crate::report::Comparison;

/// Maximum number of measures of quality that are drawn.
const MOST_QUALITIES: usize = 3;

const VIOLATIONS: &str = "violations, per cent of all requests";

/// Makes all figures that have something to show.
pub(super) fn figures(comparison: &Comparison) -> Vec<Figure> {
    if comparison.variants().len() < 2 {
        return Vec::new();
    }
    let frontiers = by_large_share(comparison).into_iter().chain(by_violations(comparison));
    violations(comparison).into_iter().chain(frontiers).chain(by_latency(comparison)).collect()
}

/// Texts of a scatter figure.
struct Scatter<'a> {
    name: &'a str,
    title: String,
    what: &'a str,
    x_label: &'a str,
    y_label: &'a str,
    /// True if the vertical axis begins at zero.
    from_zero: bool,
}

/// Makes the figures of SLO violations against the GPU seconds per image, and against the price per image if GPUs have
/// a price. Points at the lower left are the best.
fn violations(comparison: &Comparison) -> Vec<Figure> {
    let Some(slo) = comparison.runs.iter().find_map(|run| first_slo(&run.summary)).copied() else { return Vec::new() };
    let by_time = Scatter {
        name: "pareto",
        title: format!("Violations at {}x against GPU time", slo.multiple),
        what: "Per cent of all requests, against busy GPU seconds per image; left and low is good.",
        x_label: "GPU seconds per completed image",
        y_label: VIOLATIONS,
        from_zero: true,
    };
    let by_cost = Scatter {
        name: "pareto-cost",
        title: format!("Violations at {}x against cost", slo.multiple),
        what: "Per cent of all requests, against the price of the cluster per thousand images; left and low is good.",
        x_label: "dollars per thousand completed images",
        y_label: VIOLATIONS,
        from_zero: true,
    };
    let figures = [
        by_time.figure(comparison, |summary| summary.serving_gpu_s_per_request, violation_rate),
        by_cost.figure(comparison, |summary| Some(1000.0 * summary.cost_usd_per_image?), violation_rate),
    ];
    figures.into_iter().flatten().collect()
}

/// Makes the figure of the images by the large model against SLO violations, if all variants have the same large model
/// and some of them other models too. Points at the upper left are the best.
fn by_large_share(comparison: &Comparison) -> Option<Figure> {
    let slo = comparison.runs.iter().find_map(|run| first_slo(&run.summary))?;
    let large = comparison.runs.first()?.timeline.models.first()?;
    let same = comparison.runs.iter().all(|run| run.timeline.models.first() == Some(large));
    if !same || comparison.runs.iter().all(|run| run.timeline.models.len() < 2) {
        return None;
    }
    let scatter = Scatter {
        name: "large-violations",
        title: format!("Images by {large} against violations at {}x", slo.multiple),
        what: "Share of the completed images that the large model drew last, against late and failed requests; left and high is good.",
        x_label: VIOLATIONS,
        y_label: &format!("images by {large}, per cent"),
        from_zero: true,
    };
    let share = |summary: &Summary| {
        let drawn: u64 = summary.completed_by_model.values().sum();
        let by_large = summary.completed_by_model.get(large).copied().unwrap_or(0);
        (drawn > 0).then(|| 100.0 * by_large as f64 / drawn as f64)
    };
    scatter.figure(comparison, violation_rate, share)
}

/// Makes the figures of mean quality against SLO violations.
fn by_violations(comparison: &Comparison) -> Vec<Figure> {
    let Some(slo) = comparison.runs.iter().find_map(|run| first_slo(&run.summary)) else { return Vec::new() };
    let against = format!("violations at {}x", slo.multiple);
    qualities(comparison, "quality-violations", &against, VIOLATIONS, violation_rate)
}

/// Makes the figures of mean quality against mean latency. Points at the upper left are the best, for measures of which
/// a high value is good.
fn by_latency(comparison: &Comparison) -> Vec<Figure> {
    let latency = |summary: &Summary| Some(summary.latency_s?.mean);
    qualities(comparison, "quality", "latency", "mean latency, seconds", latency)
}

/// Makes the figures of mean quality against the measure `x`, one for each measure of quality.
fn qualities(
    comparison: &Comparison,
    name: &str,
    against: &str,
    x_label: &str,
    x: impl Fn(&Summary) -> Option<f64> + Copy,
) -> Vec<Figure> {
    let names = comparison.runs.iter().flat_map(|run| run.summary.quality.measures.keys());
    let names: BTreeSet<&String> = names.collect();
    let figure = |measure: &String| {
        let scatter = Scatter {
            name: &format!("{name}-{}", super::over_time::file_name(measure)),
            title: format!("Quality ({measure}) against {against}"),
            what: "Mean of the completed images: in simulated runs what the profile says of each model and step, in live runs what was measured.",
            x_label,
            y_label: &format!("mean {measure}"),
            from_zero: false,
        };
        scatter.figure(comparison, x, |summary| summary.quality.measures.get(measure).copied())
    };
    names.into_iter().take(MOST_QUALITIES).filter_map(figure).collect()
}

/// Returns the late and failed requests at the first SLO, in per cent of all.
fn violation_rate(summary: &Summary) -> Option<f64> {
    Some(100.0 * first_slo(summary)?.violation_rate)
}

impl Scatter<'_> {
    /// Makes the figure with one point for each variant that has both measures; `None` for fewer than two points.
    fn figure(
        &self,
        comparison: &Comparison,
        x: impl Fn(&Summary) -> Option<f64> + Copy,
        y: impl Fn(&Summary) -> Option<f64> + Copy,
    ) -> Option<Figure> {
        let point =
            |variant: &str| Some((comparison.estimate(variant, x)?.mean, comparison.estimate(variant, y)?.mean));
        let curve = |variant: &str| Curve {
            name: variant.to_owned(),
            dots: point(variant).into_iter().collect(),
            ..Curve::default()
        };
        let curves: Vec<Curve> = comparison.variants().into_iter().map(curve).collect();
        let dots = || curves.iter().flat_map(|curve| &curve.dots);
        if dots().count() < 2 {
            return None;
        }
        let right = dots().map(|(x, _)| *x).fold(0.0, f64::max);
        let (low, high) = dots().fold((f64::MAX, f64::MIN), |(low, high), (_, y)| (low.min(*y), high.max(*y)));
        let y = if self.from_zero {
            Axis::from_zero(self.y_label, high, 5.0)
        } else {
            Axis::between(self.y_label, low, high, 5.0)
        };
        let chart = Lines {
            title: self.title.clone(),
            subtitle: format!("{}\n{}", self.what, comparison.origin()),
            x: Axis::from_zero(self.x_label, right, 6.0),
            y,
            curves,
            dots: Dots::Named,
            if_empty: "Nothing was completed.",
            ..Lines::default()
        };
        Some(Figure::lines(self.name, format!("{} A point a variant.", self.what), chart))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn quality_is_drawn_where_it_is_known() {
        let mut comparison = sample::comparison();
        assert_eq!(figures(&comparison).len(), 1);
        for (run, quality) in comparison.runs.iter_mut().zip([0.30, 0.29]) {
            run.summary.quality.measures.insert("clip score".into(), quality);
        }
        let figures = figures(&comparison);
        let names: Vec<&str> = figures.iter().map(|figure| &*figure.name).collect();
        assert_eq!(names, ["pareto", "quality-violations-clip-score", "quality-clip-score"]);
        let text = figures[2].csv();
        assert_eq!(text.lines().skip(1).collect::<Vec<_>>(), ["vanilla,dot,480,0.3", "modm-sdxl,dot,60,0.29"]);
        let text = figures[1].csv();
        let last = |line: &str| line.split(',').next_back().map(str::to_owned);
        assert_eq!(text.lines().skip(1).filter_map(last).collect::<Vec<_>>(), ["0.3", "0.29"]);
    }

    #[test]
    fn shares_of_the_large_model_are_drawn_if_all_variants_have_the_same_one() {
        let mut comparison = sample::comparison();
        for (run, large) in comparison.runs.iter_mut().zip([320, 80]) {
            run.timeline.models = vec!["large".into(), "small".into()];
            run.summary.completed_by_model = [("large".into(), large), ("small".into(), 320 - large)].into();
        }
        let named = |comparison: &Comparison| figures(comparison).into_iter().find(|it| it.name == "large-violations");
        let figure = named(&comparison).expect("a figure");
        let text = figure.csv();
        assert!(text.contains("vanilla,dot,90,100") && text.trim_end().ends_with(",25"), "{text}");
        comparison.runs[1].timeline.models[0] = "another".into();
        assert!(named(&comparison).is_none());
    }
}
