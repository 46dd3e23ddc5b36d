//! Symbols and dash patterns, a pair for each series, so that curves can be told apart without colour.

use plotters::coord::Shift;
use plotters::prelude::{Circle, DrawingArea, DrawingAreaErrorKind, DrawingBackend, PathElement, Polygon};
use plotters::style::{RGBAColor, ShapeStyle};

use super::canvas::FINE;

type Drawn<DB> = Result<(), DrawingAreaErrorKind<<DB as DrawingBackend>::ErrorType>>;

/// Place in drawing pixels.
pub(super) type Place = (i32, i32);

/// Lengths of dashes and gaps, in turn, in pixels; an empty list is a solid line.
const DASHES: [&[i32]; 6] = [&[], &[9, 4], &[3, 3], &[9, 3, 3, 3], &[14, 4], &[5, 3]];

/// Corners of symbols, in hundredths of their radius. The first symbol is a circle, which has none here. The number of
/// symbols has no common factor with the numbers of dash patterns and of colours, so that a combination of the three
/// repeats only after many series.
const CORNERS: [&[(i32, i32)]; 6] = [
    &[(-88, -88), (88, -88), (88, 88), (-88, 88)],
    &[(0, -120), (110, 80), (-110, 80)],
    &[(0, -125), (125, 0), (0, 125), (-125, 0)],
    &[(0, 120), (110, -80), (-110, -80)],
    &[
        (-45, -120),
        (45, -120),
        (45, -45),
        (120, -45),
        (120, 45),
        (45, 45),
        (45, 120),
        (-45, 120),
        (-45, 45),
        (-120, 45),
        (-120, -45),
        (-45, -45),
    ],
    &[(0, -130), (124, -40), (76, 105), (-76, 105), (-124, -40)],
];

/// Number of symbols, including the circle.
pub(super) const SYMBOLS: usize = CORNERS.len() + 1;

/// Draws the symbol of a series; the radius is in drawing pixels.
pub(super) fn draw_symbol<DB: DrawingBackend>(
    area: &DrawingArea<DB, Shift>,
    series: usize,
    at: Place,
    radius: i32,
    colour: RGBAColor,
) -> Drawn<DB> {
    let style = ShapeStyle { color: colour, filled: true, stroke_width: 0 };
    let Some(corners) = (series % SYMBOLS).checked_sub(1).map(|other| CORNERS[other]) else {
        return area.draw(&Circle::new(at, radius, style));
    };
    let corner = |(x, y): &(i32, i32)| (at.0 + x * radius / 100, at.1 + y * radius / 100);
    area.draw(&Polygon::new(corners.iter().map(corner).collect::<Vec<_>>(), style))
}

/// Draws a line in the dash pattern of a series.
pub(super) fn draw_line<DB: DrawingBackend>(
    area: &DrawingArea<DB, Shift>,
    series: usize,
    points: Vec<Place>,
    colour: RGBAColor,
    width: u32,
) -> Drawn<DB> {
    let style = ShapeStyle { color: colour, filled: false, stroke_width: width };
    let pattern = DASHES[series % DASHES.len()];
    if pattern.is_empty() {
        return area.draw(&PathElement::new(points, style));
    }
    for dash in dashes(&points, pattern) {
        area.draw(&PathElement::new(dash, style))?;
    }
    Ok(())
}

/// Returns the visible parts of a line in a dash pattern.
fn dashes(points: &[Place], pattern: &[i32]) -> Vec<Vec<Place>> {
    let length = |part: usize| f64::from(pattern[part] * FINE);
    let (mut part, mut left) = (0, length(0));
    let (mut found, mut dash) = (Vec::new(), points.first().copied().into_iter().collect::<Vec<_>>());
    for ends in points.windows(2) {
        let [from, to] = [ends[0], ends[1]];
        let (right, down) = (f64::from(to.0 - from.0), f64::from(to.1 - from.1));
        let (all, mut done) = (libm::hypot(right, down), 0.0);
        while all - done > left {
            done += left;
            let place = (from.0 + (right * done / all).round() as i32, from.1 + (down * done / all).round() as i32);
            dash.push(place);
            // Even parts are dashes, odd parts are gaps: the part that ends here is kept if it is a dash.
            let ended = std::mem::replace(&mut dash, vec![place]);
            found.extend((part % 2 == 0).then_some(ended));
            part = (part + 1) % pattern.len();
            left = length(part);
        }
        left -= all - done;
        dash.push(to);
    }
    found.extend((part % 2 == 0 && dash.len() > 1).then_some(dash));
    found
}

/// Returns the points of a curve that have symbols: all of a few points, else some, at other points for each series.
pub(super) fn marked(points: usize, series: usize, of: usize) -> impl Iterator<Item = usize> {
    /// Number of points up to which each is a measurement of its own and has a symbol.
    const FEW: usize = 16;
    /// Number of symbols on a curve of many points.
    const SOME: usize = 5;
    let step = if points <= FEW { 1 } else { points.div_ceil(SOME) };
    let first = if points <= FEW { 0 } else { step * (2 * series + 1) / (2 * of.max(1)) };
    (first.min(points.saturating_sub(1))..points).step_by(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_goes_on_round_corners() {
        let corner = [(0, 0), (10 * FINE, 0), (10 * FINE, 20 * FINE)];
        let found = dashes(&corner, &[12, 4]);
        assert_eq!(found[0], [(0, 0), (10 * FINE, 0), (10 * FINE, 2 * FINE)], "a dash has the corner in it");
        assert_eq!(found[1], [(10 * FINE, 6 * FINE), (10 * FINE, 18 * FINE)]);
        assert_eq!(found.len(), 2, "the end lies in a gap");
        assert!(dashes(&[], &[12, 4]).is_empty());
    }

    #[test]
    fn no_two_series_of_a_report_look_alike() {
        let looks = (0..24).map(|series| (series % DASHES.len(), series % SYMBOLS));
        assert_eq!(looks.collect::<std::collections::BTreeSet<_>>().len(), 24);
    }

    #[test]
    fn few_points_all_have_symbols_and_many_have_some() {
        assert_eq!(marked(4, 3, 5).collect::<Vec<_>>(), [0, 1, 2, 3]);
        let of_first: Vec<usize> = marked(400, 0, 2).collect();
        assert!(of_first.len() == 5 && marked(400, 1, 2).all(|place| !of_first.contains(&place)));
        assert_eq!(marked(0, 0, 1).count(), 0);
    }
}
