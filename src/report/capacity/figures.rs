//! Figures of capacities: share of requests in time against the rate of arrivals, and quality against capacity.

use super::{rate, target};
use crate::experiments::capacity::{Capacities, Capacity};
use crate::report::figures::{Axis, Curve, Dots, Figure, Lines};

/// Largest rate in the figure, as a multiple of the largest capacity: beyond it the curves would only show zeros.
const WIDEST: f64 = 2.0;

/// Makes the figure of the share in time against the rate of arrivals, with one curve for the first seed of each
/// variant. Returns `None` if there is no point with a rate above 0.
pub(in crate::report) fn attainment(capacities: &Capacities, origin: &str) -> Option<Figure> {
    let largest = capacities.rows.iter().filter_map(|row| row.rate_per_min).fold(0.0, f64::max);
    let curve = |variant: &str| {
        let row: Option<&Capacity> = capacities.of_variant(variant).next();
        let point = |row: &Capacity, factor: f64, share: f64| (factor * row.trace_rate_per_min, 100.0 * share);
        let points = row.into_iter().flat_map(|row| {
            row.points.iter().filter_map(move |tried| Some(point(row, tried.factor, tried.attainment?)))
        });
        let points = points.filter(|(rate, _)| *rate <= WIDEST * largest).collect();
        Curve { name: variant.to_owned(), points, ..Curve::default() }
    };
    let curves: Vec<Curve> = capacities.variants().into_iter().map(curve).collect();
    let right = curves.iter().flat_map(|curve| &curve.points).map(|(rate, _)| *rate).fold(0.0, f64::max);
    if right <= 0.0 {
        return None;
    }
    let wanted = target(capacities);
    let what =
        format!("Per cent of the requests in time; the line is what is wanted: {wanted}. First seed of each variant.");
    let chart = Lines {
        title: "Share in time against the rate of arrivals".to_owned(),
        subtitle: format!("{what}\n{origin}"),
        x: Axis::from_zero("requests per minute that arrive", right, 6.0),
        y: Axis::from_zero("per cent of the requests in time", 100.0, 5.0),
        curves,
        level: Some(100.0 * capacities.attainment),
        if_empty: "Nothing was run to its end.",
        ..Lines::default()
    };
    Some(Figure::lines("attainment-rate", what, chart))
}

/// Makes the figure of mean quality at the capacity against the capacity, with one point for each variant. Returns
/// `None` for fewer than two points.
pub(in crate::report) fn quality(capacities: &Capacities, origin: &str) -> Option<Figure> {
    let curve = |variant: &str| {
        let values = capacities.of_variant(variant).filter_map(|row| row.summary.as_ref()?.quality.clip());
        let quality = crate::report::statistics::estimate(values).map(|estimate| estimate.mean);
        let capacity = rate(capacities, variant).map(|rate| rate.mean);
        Curve { name: variant.to_owned(), dots: capacity.zip(quality).into_iter().collect(), ..Curve::default() }
    };
    let curves: Vec<Curve> = capacities.variants().into_iter().map(curve).collect();
    let dots = || curves.iter().flat_map(|curve| &curve.dots);
    if dots().count() < 2 {
        return None;
    }
    let right = dots().map(|(rate, _)| *rate).fold(0.0, f64::max);
    let (low, high) = dots().fold((f64::MAX, f64::MIN), |(low, high), (_, y)| (low.min(*y), high.max(*y)));
    let kinds = capacities.rows.iter().filter_map(|row| crate::report::quality::kind(row.summary.as_ref()?));
    let kind = kinds.min().map_or("estimated", |kind| kind.word());
    let what = format!(
        "Mean quality in points of CLIPScore ({kind}) at the highest rate that holds {}; right and high is good.",
        target(capacities)
    );
    let chart = Lines {
        title: "Quality against capacity".to_owned(),
        subtitle: format!("{what}\n{origin}"),
        x: Axis::from_zero("capacity, requests per minute", right, 6.0),
        y: Axis::between("mean quality, points of CLIPScore", low, high, 5.0),
        curves,
        dots: Dots::Named,
        if_empty: "Nothing holds.",
        ..Lines::default()
    };
    Some(Figure::lines("quality-capacity", format!("{what} A point a variant."), chart))
}
