//! Figure of a calibration: quality of refinements against the similarity of their sources, with the fit and the
//! bounds.

use super::Figure;
use super::axis::Axis;
use super::lines::{Curve, Lines, Mark};
use crate::calibration::fit::Fit;

/// Makes the figure of a calibration, with one colour for each number of skipped steps. Dots are pairs of similarity
/// and quality, steps are the fit. Dashed lines are the quality to reach and the bounds that are kept.
#[must_use]
pub fn calibration(name: &str, measure: &str, alpha: f64, fits: &[Fit]) -> Figure {
    let ends = |values: &mut dyn Iterator<Item = f64>| {
        let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
        if low <= high { (low, high) } else { (0.0, 1.0) }
    };
    let pairs = || fits.iter().flat_map(|fit| &fit.pairs);
    let target = fits.first().map(|fit| fit.target);
    let (left, right) = ends(&mut pairs().map(|pair| pair.0));
    let (low, high) = ends(&mut pairs().map(|pair| pair.1).chain(target));
    let x = Axis::between("similarity of prompt and source", left, right, 8.0);
    let curves = fits.iter().map(|fit| Curve {
        name: match fit.bound.filter(|_| fit.kept) {
            Some(bound) => format!("k = {} from {bound}", fit.skipped_steps),
            None => format!("k = {}", fit.skipped_steps),
        },
        points: steps(fit, x.high),
        dots: fit.pairs.clone(),
    });
    let marks = fits
        .iter()
        .filter(|fit| fit.kept)
        .filter_map(|fit| fit.bound.map(|at| Mark { at, label: fit.skipped_steps.to_string() }));
    let title = "Quality of refinements by similarity of their sources".to_owned();
    let percent = (alpha * 1000.0).round() / 10.0;
    Figure::lines(
        "calibration",
        "Quality of each refined picture against the similarity of prompt and source, a colour a number \
                      of skipped steps, with the rising steps fitted to it and the bounds."
            .to_owned(),
        Lines {
            title,
            subtitle: format!(
                "Quality: {measure}; {name}, half of the requests. Dashed: {percent} % of the large model's mean, and the bounds."
            ),
            y: Axis::between(measure, low, high, 5.0),
            curves: curves.collect(),
            marks: marks.collect(),
            level: target,
            if_empty: "No request has a source.",
            x,
            ..Lines::default()
        },
    )
}

/// Returns the corners of the fitted steps; the last step reaches to `end`.
fn steps(fit: &Fit, end: f64) -> Vec<(f64, f64)> {
    let ends = fit.steps.iter().skip(1).map(|step| step.from).chain([end]);
    fit.steps.iter().zip(ends).flat_map(|(step, end)| [(step.from, step.quality), (end, step.quality)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::fit::isotonic;
    use crate::report::figures::Look;

    #[test]
    fn what_is_fitted_is_drawn() {
        let pairs = vec![(0.7, 0.5), (0.8, 0.9), (0.9, 0.8), (0.95, 1.0)];
        let steps = isotonic(&pairs);
        let fit = Fit { skipped_steps: 25, pairs, steps, target: 0.9, bound: Some(0.95), kept: true };
        let svg = calibration("<a>", "similarity", 0.95, &[fit]).svg(Look::default()).expect("a figure");
        assert!(svg.contains("k = 25 from 0.95") && svg.matches("<circle").count() == 4, "{svg}");
        assert!(svg.contains("&lt;a&gt;") && !svg.contains("NaN"));
        assert!(
            calibration("a", "similarity", 0.95, &[]).svg(Look::default()).expect("a figure").contains("No request")
        );
    }
}
