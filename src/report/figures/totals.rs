//! Figures of whole runs with one bar for each variant: violations beside their lower bound, steps that hits skipped,
//! age of the retrieved images, energy and cost per image.

use super::Figure;
use super::axis::Axis;
use super::bars::{Bar, Bars, PUBLISHED, highest};
use crate::metrics::summary::{Slo, Summary};
use crate::report::{Comparison, Run};

/// Makes all figures that have something to show.
pub(super) fn figures(comparison: &Comparison) -> Vec<Figure> {
    let made = [violations(comparison), steps(comparison), ages(comparison), energy(comparison), cost(comparison)];
    made.into_iter().flatten().collect()
}

pub(super) fn first_slo(summary: &Summary) -> Option<&Slo> {
    summary.slo.first()
}

/// Makes one bar of a measure for each variant, with intervals over seeds.
fn bars(
    comparison: &Comparison,
    measure: impl Fn(&Summary) -> Option<f64> + Copy,
    text: impl Fn(f64) -> String,
) -> Vec<Bar> {
    let bar = |variant: &str| {
        let estimate = comparison.estimate(variant, measure);
        Bar {
            name: variant.to_owned(),
            value: estimate.map(|estimate| estimate.mean),
            interval: estimate.and_then(|estimate| estimate.interval()).map(|(low, high)| (low.max(0.0), high)),
            label: estimate.map_or_else(|| "not known".to_owned(), |estimate| text(estimate.mean)),
            ..Bar::default()
        }
    };
    comparison.variants().into_iter().map(bar).collect()
}

/// Describes bars for readers who cannot see them.
fn spoken(bars: &[Bar]) -> String {
    bars.iter().map(|bar| format!("{}: {}", bar.name, bar.label)).collect::<Vec<_>>().join("; ")
}

fn bar_figure(
    comparison: &Comparison,
    [name, title, what]: [&str; 3],
    axis: Axis,
    rows: Vec<Bar>,
    mark: &'static str,
) -> Figure {
    let whiskers = if comparison.seeds() > 1 { " Whiskers: 95 % interval." } else { "" };
    let marked = rows.iter().any(|bar| bar.mark.is_some());
    Figure::bars(
        name,
        format!("{what} {}.", spoken(&rows)),
        Bars {
            title: title.to_owned(),
            subtitle: format!("{what}{whiskers}\n{}", comparison.origin()),
            axis,
            rows,
            mark: if marked { mark } else { "" },
            ..Bars::default()
        },
    )
}

/// Makes the figure of violations of the first SLO, with the lower bound that holds for every policy.
fn violations(comparison: &Comparison) -> Option<Figure> {
    let slo = *comparison.runs.iter().find_map(|run| first_slo(&run.summary))?;
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let mut rows =
        bars(comparison, |summary| Some(100.0 * first_slo(summary)?.violation_rate), |value| percent(value / 100.0));
    for bar in &mut rows {
        let bound = comparison.estimate(&bar.name, |summary| first_slo(summary)?.least_violation_rate);
        bar.mark = bound.map(|bound| 100.0 * bound.mean);
        if let Some(bound) = bound {
            bar.label = format!("{} (bound {})", bar.label, percent(bound.mean));
        }
    }
    let title = format!("SLO violations at {}x", slo.multiple);
    let what = "Requests not finished in time, per cent; the line across a bar is what no policy that knew all arrivals could have gone below.";
    let axis = Axis::from_zero("per cent of all requests", highest(&rows), 5.0);
    Some(bar_figure(comparison, ["violations", &title, what], axis, rows, "bound"))
}

/// Makes the figure of misses, and of hits by the steps that they skipped.
fn steps(comparison: &Comparison) -> Option<Figure> {
    let all = comparison.runs.iter().flat_map(|run| run.summary.hits_by_skipped_steps.keys().copied());
    let steps: std::collections::BTreeSet<u32> = all.collect();
    let steps: Vec<u32> = steps.into_iter().collect();
    let parts: Vec<String> =
        std::iter::once("miss".to_owned()).chain(steps.iter().map(|k| format!("k = {k}"))).collect();
    let counts = |run: &Run| -> Vec<f64> {
        let summary = &run.summary;
        let hits: Vec<f64> = steps.iter().map(|k| *summary.hits_by_skipped_steps.get(k).unwrap_or(&0) as f64).collect();
        let rate = summary.hit_rate.unwrap_or(0.0);
        // A summary has no count of misses. Hits over the hit rate give the routed requests.
        let routed = if rate > 0.0 { hits.iter().sum::<f64>() / rate } else { summary.requests as f64 };
        std::iter::once(routed - hits.iter().sum::<f64>()).chain(hits).collect()
    };
    stacked(
        comparison,
        parts,
        counts,
        "k-mix",
        "What was skipped",
        "Share of the routed requests: misses, and hits by the steps they skipped.",
    )
    .filter(|_| !steps.is_empty())
}

/// Makes the figure of hits by the age of their source.
fn ages(comparison: &Comparison) -> Option<Figure> {
    let names = &comparison.runs.iter().find(|run| !run.ages.is_empty())?.ages;
    let parts: Vec<String> = names.iter().map(|(name, _)| name.clone()).collect();
    let hits = |run: &Run| run.ages.iter().map(|(_, hits)| *hits as f64).collect();
    let what = "Share of the hits by the age of the image they started from.";
    stacked(comparison, parts, hits, "hit-ages", "Age of the retrieved image", what)
}

fn stacked(
    comparison: &Comparison,
    parts: Vec<String>,
    counts: impl Fn(&Run) -> Vec<f64>,
    name: &str,
    title: &str,
    what: &str,
) -> Option<Figure> {
    let rows = comparison.variants().into_iter().filter_map(|variant| {
        let mut sums = vec![0.0; parts.len()];
        for run in comparison.runs_of(variant) {
            sums.iter_mut().zip(counts(run)).for_each(|(sum, count)| *sum += count);
        }
        share_bar(variant, &sums)
    });
    let rows: Vec<Bar> = rows.collect();
    (!rows.is_empty()).then(|| stacked_figure(comparison, name, title, what, parts, rows))
}

/// Makes a bar of shares; `None` if all counts are 0.
fn share_bar(variant: &str, counts: &[f64]) -> Option<Bar> {
    let all: f64 = counts.iter().sum();
    (all > 0.0).then(|| Bar {
        name: variant.to_owned(),
        value: Some(100.0),
        label: String::new(),
        parts: counts.iter().map(|count| 100.0 * count / all).collect(),
        ..Bar::default()
    })
}

fn stacked_figure(
    comparison: &Comparison,
    name: &str,
    title: &str,
    what: &str,
    parts: Vec<String>,
    rows: Vec<Bar>,
) -> Figure {
    let percent = |bar: &Bar| {
        let shares = parts.iter().zip(&bar.parts).map(|(part, share)| format!("{part} {share:.0} %"));
        format!("{}: {}", bar.name, shares.collect::<Vec<_>>().join(", "))
    };
    let spoken: Vec<String> = rows.iter().map(percent).collect();
    Figure::bars(
        name,
        format!("{what} {}.", spoken.join("; ")),
        Bars {
            title: title.to_owned(),
            subtitle: format!("{what}\n{}", comparison.origin()),
            axis: Axis::from_zero("per cent", 100.0, 5.0),
            rows,
            parts,
            ..Bars::default()
        },
    )
}

fn energy(comparison: &Comparison) -> Option<Figure> {
    let kilojoules = |summary: &Summary| Some(summary.energy_j_per_image? / 1000.0);
    let mut rows = bars(comparison, kilojoules, |kj| format!("{kj:.2} kJ"));
    for bar in &mut rows {
        bar.mark = comparison.published_value(&bar.name, |_| None, |known| known.energy_ratio, kilojoules);
    }
    let marked = rows.iter().any(|bar| bar.mark.is_some());
    let lines = if marked { "; lines across: the published share of the first variant's" } else { "" };
    let axis = Axis::from_zero("kJ per completed image", highest(&rows), 5.0);
    let known = rows.iter().any(|bar| bar.value.is_some());
    let what = format!("Energy of the cluster per completed image{lines}.");
    known.then(|| bar_figure(comparison, ["energy", "Energy of an image", &what], axis, rows, PUBLISHED))
}

fn cost(comparison: &Comparison) -> Option<Figure> {
    let rows = bars(comparison, |summary| Some(1000.0 * summary.cost_usd_per_image?), |usd| format!("${usd:.2}"));
    let axis = Axis::from_zero("dollars per thousand completed images", highest(&rows), 5.0);
    let known = rows.iter().any(|bar| bar.value.is_some());
    let what = "Price of the cluster per thousand completed images.";
    known.then(|| bar_figure(comparison, ["cost", "Cost of a thousand images", what], axis, rows, ""))
}
