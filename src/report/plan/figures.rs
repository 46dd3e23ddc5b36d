//! Figures of a plan: one bar for each cluster that was tried.

use std::collections::BTreeSet;

use crate::experiments::plan::PlanRow;
use crate::report::figures::bars::{Bar, Bars, highest};
use crate::report::figures::{Axis, Figure};

/// Maximum number of bars in a figure: more are not readable, so the most expensive clusters are left out.
const MOST: usize = 30;

/// Makes all figures that have something to show.
pub(super) fn figures(groups: &[String], rows: &[PlanRow], wanted: f64, origin: &str) -> Vec<Figure> {
    let rows: Vec<(String, &PlanRow)> = rows.iter().take(MOST).map(|row| (row.name(groups), row)).collect();
    let held: Vec<(String, &PlanRow)> = rows.iter().filter(|(_, row)| !row.stopped).cloned().collect();
    let dollars = |row: &PlanRow| row.usd_per_1000_images;
    let energy = |row: &PlanRow| Some(row.energy_j_per_image? / 1000.0);
    let p99 = |row: &PlanRow| row.p99_s;
    let made = [
        in_time(&rows, wanted, origin),
        measured(&held, ["p99", "99th percentile of latency", "seconds"], origin, p99),
        measured(
            &held,
            ["cost", "Dollars for a thousand images", "dollars per thousand completed images"],
            origin,
            dollars,
        ),
        measured(&held, ["energy", "Energy of an image", "kJ per completed image"], origin, energy),
        split(&held, origin),
    ];
    made.into_iter().flatten().collect()
}

fn in_time(rows: &[(String, &PlanRow)], wanted: f64, origin: &str) -> Option<Figure> {
    let bar = |(name, row): &(String, &PlanRow)| {
        let estimate = super::attainment(row);
        let percent = |share: f64| 100.0 * share.clamp(0.0, 1.0);
        let says = match estimate {
            Some(estimate) => format!("{:.2} %", percent(estimate.mean)),
            None => format!("stopped: {} of {} late", row.late, row.requests),
        };
        Bar {
            name: name.clone(),
            value: estimate.map(|estimate| percent(estimate.mean)),
            interval: estimate
                .and_then(|estimate| estimate.interval())
                .map(|(low, high)| (percent(low), percent(high))),
            label: format!("{says}{}", if row.holds { ", holds" } else { "" }),
            mark: estimate.map(|_| 100.0 * wanted),
            ..Bar::default()
        }
    };
    let bars: Vec<Bar> = rows.iter().map(bar).collect();
    let what = "Share of the requests in time; the line across a bar is what is wanted.";
    (!bars.is_empty()).then(|| figure(["in-time", "In time", what], origin, ("per cent", 100.0), bars, "wanted"))
}

/// Makes the figure of a measure, of the clusters that ran to the end.
fn measured(
    rows: &[(String, &PlanRow)],
    [name, title, unit]: [&str; 3],
    origin: &str,
    measure: impl Fn(&PlanRow) -> Option<f64>,
) -> Option<Figure> {
    let bar = |(name, row): &(String, &PlanRow)| {
        let value = measure(row)?;
        Some(Bar { name: name.clone(), value: Some(value), label: format!("{value:.2}"), ..Bar::default() })
    };
    let bars: Vec<Bar> = rows.iter().filter_map(bar).collect();
    let top = highest(&bars);
    let what = "Means over the traces, of clusters that ran to the end.";
    (!bars.is_empty()).then(|| figure([name, title, what], origin, (unit, top), bars, ""))
}

/// Makes the figure of workers by model; `None` for fewer than two models.
fn split(rows: &[(String, &PlanRow)], origin: &str) -> Option<Figure> {
    let models: BTreeSet<&String> = rows.iter().flat_map(|(_, row)| row.split.keys()).collect();
    let bar = |(name, row): &(String, &PlanRow)| {
        let parts: Vec<f64> = models.iter().map(|model| row.split.get(*model).copied().unwrap_or(0.0)).collect();
        Bar { name: name.clone(), value: Some(parts.iter().sum()), parts, ..Bar::default() }
    };
    let bars: Vec<Bar> = rows.iter().map(bar).collect();
    let top = highest(&bars);
    let what = "Workers that hold each model, means over time and traces, of clusters that ran to the end.";
    let parts: Vec<String> = models.iter().map(|model| (*model).clone()).collect();
    (parts.len() > 1).then(|| {
        let chart = Bars { parts, ..chart(["Split of the workers", what], origin, ("workers", top), bars, "") };
        Figure::bars("split", format!("{what} {origin}."), chart)
    })
}

fn figure(
    [name, title, what]: [&str; 3],
    origin: &str,
    axis: (&str, f64),
    bars: Vec<Bar>,
    mark: &'static str,
) -> Figure {
    let said = bars.iter().map(|bar| format!("{}: {}", bar.name, bar.label)).collect::<Vec<_>>().join("; ");
    Figure::bars(name, format!("{what} {said}."), chart([title, what], origin, axis, bars, mark))
}

fn chart([title, what]: [&str; 2], origin: &str, (unit, top): (&str, f64), rows: Vec<Bar>, mark: &'static str) -> Bars {
    Bars {
        title: title.to_owned(),
        subtitle: format!("{what}\n{origin}"),
        axis: Axis::from_zero(unit, top, 5.0),
        rows,
        mark,
        ..Bars::default()
    }
}
