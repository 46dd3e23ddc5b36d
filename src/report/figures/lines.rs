//! Curves over one x axis, with vertical marks named above the plot, where no curve runs.

use plotters::coord::Shift;
use plotters::prelude::{Circle, DrawingArea, DrawingAreaErrorKind, DrawingBackend, PathElement, Polygon, Text};
use plotters::style::text_anchor::{HPos, VPos};
use plotters::style::{Color, ShapeStyle};

use super::axis::Axis;
use super::canvas::{FINE, Theme, text_width};
use super::header::{Header, LABEL, MARGIN, WIDTH, colour, shortened};

const PLOT: i32 = 280;
const MARKS: i32 = 24;
const AXIS: i32 = 52;

/// A chart of curves.
#[derive(Clone, Debug, Default)]
pub(in crate::report) struct Lines {
    pub(in crate::report) title: String,
    pub(in crate::report) subtitle: String,
    pub(in crate::report) x: Axis,
    pub(in crate::report) y: Axis,
    pub(in crate::report) curves: Vec<Curve>,
    pub(in crate::report) marks: Vec<Mark>,
    /// A horizontal line.
    pub(in crate::report) level: Option<f64>,
    /// What to say where no curve has a point.
    pub(in crate::report) if_empty: &'static str,
    /// Whether curves stand on top of each other, as areas.
    pub(in crate::report) stacked: bool,
    /// Whether dots carry their curve's name: where there is no line.
    pub(in crate::report) named_dots: bool,
    /// Whether dots are seen on lines: where they mark some of a curve's points.
    pub(in crate::report) bold_dots: bool,
}

/// A variant's curve.
#[derive(Clone, Debug, Default)]
pub(in crate::report) struct Curve {
    pub(in crate::report) name: String,
    pub(in crate::report) points: Vec<(f64, f64)>,
    /// What it was fitted to, if anything.
    pub(in crate::report) dots: Vec<(f64, f64)>,
}

/// A vertical line at a value of x.
#[derive(Clone, Debug)]
pub(in crate::report) struct Mark {
    pub(super) at: f64,
    pub(super) label: String,
}

/// Drawing pixels of the plot's edges.
pub(super) struct Frame {
    pub(super) left: i32,
    pub(super) right: i32,
    pub(super) top: i32,
    pub(super) bottom: i32,
}

type Drawn<DB> = Result<(), DrawingAreaErrorKind<<DB as DrawingBackend>::ErrorType>>;

impl Lines {
    fn header(&self) -> Header {
        Header::new(&self.title, &self.subtitle, self.curves.iter().map(|curve| curve.name.as_str()))
    }

    fn marks_height(&self) -> i32 {
        if self.marks.is_empty() { 10 } else { MARKS }
    }

    pub(super) fn size(&self) -> (i32, i32) {
        (WIDTH, self.header().height + self.marks_height() + PLOT + AXIS)
    }

    pub(super) fn draw<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, theme: Theme) -> Drawn<DB> {
        self.header().draw(area, theme)?;
        let frame = self.frame();
        if self.stacked {
            self.draw_areas(area, &frame)?;
        }
        self.draw_axes(area, theme, &frame)?;
        self.draw_marks(area, theme, &frame)?;
        self.draw_dots(area, theme, &frame)?;
        self.draw_level(area, theme, &frame)?;
        self.draw_curves(area, theme, &frame)
    }

    /// Where the plot lies.
    pub(super) fn frame(&self) -> Frame {
        let labels = self.y.ticks.iter().map(|(_, text)| text_width(text, LABEL - 1)).max().unwrap_or(0);
        let top = (self.header().height + self.marks_height()) * FINE;
        Frame {
            left: MARGIN * FINE + labels + 8 * FINE,
            right: (WIDTH - MARGIN) * FINE,
            top,
            bottom: top + PLOT * FINE,
        }
    }

    /// The curves as they are drawn: each on those before it, if they are stacked.
    pub(super) fn drawn(&self) -> Vec<Vec<(f64, f64)>> {
        let mut drawn: Vec<Vec<(f64, f64)>> = Vec::new();
        for curve in &self.curves {
            let below = drawn.last().filter(|_| self.stacked);
            let base = |place: usize| below.and_then(|below| below.get(place)).map_or(0.0, |(_, y)| *y);
            drawn.push(curve.points.iter().enumerate().map(|(place, (x, y))| (*x, y + base(place))).collect());
        }
        drawn
    }

    fn draw_areas<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, frame: &Frame) -> Drawn<DB> {
        let place =
            |(x, y): (f64, f64)| (self.x.place(x, frame.left, frame.right), self.y.place(y, frame.bottom, frame.top));
        let drawn = self.drawn();
        for (series, points) in drawn.iter().enumerate() {
            let ground = || points.iter().map(|(x, _)| (*x, 0.0)).collect::<Vec<_>>();
            let below = series.checked_sub(1).map_or_else(ground, |before| drawn[before].clone());
            let outline: Vec<(i32, i32)> = points.iter().copied().chain(below.into_iter().rev()).map(place).collect();
            if points.len() > 1 {
                let style = ShapeStyle { color: colour(series).mix(0.5), filled: true, stroke_width: 0 };
                area.draw(&Polygon::new(outline, style))?;
            }
        }
        Ok(())
    }

    fn draw_axes<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, theme: Theme, frame: &Frame) -> Drawn<DB> {
        let Frame { left, right, top, bottom } = *frame;
        let line =
            |strength: f64| ShapeStyle { color: theme.ink(strength), filled: false, stroke_width: FINE.unsigned_abs() };
        for (value, text) in &self.y.ticks {
            let y = self.y.place(*value, bottom, top);
            let strength = if y == bottom { 0.5 } else { 0.14 };
            area.draw(&PathElement::new(vec![(left, y), (right, y)], line(strength)))?;
            let style = theme.text(LABEL - 1, 0.7, HPos::Right, VPos::Center);
            area.draw(&Text::new(text.as_str(), (left - 8 * FINE, y), style))?;
        }
        self.x.draw_below(area, theme, (left, right, bottom))
    }

    fn draw_marks<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, theme: Theme, frame: &Frame) -> Drawn<DB> {
        let mut free_from = frame.left;
        for mark in &self.marks {
            let x = self.x.place(mark.at, frame.left, frame.right);
            dashed(area, theme, [(x, frame.top), (x, frame.bottom)])?;
            // A name that would run into the one before, or out of the figure, moves or is left out.
            let half = text_width(&mark.label, LABEL - 1) / 2;
            let middle = x.min((WIDTH - 4) * FINE - half);
            if middle - half >= free_from {
                let text = theme.text(LABEL - 1, 0.8, HPos::Center, VPos::Bottom);
                area.draw(&Text::new(mark.label.as_str(), (middle, frame.top - 3 * FINE), text))?;
                free_from = middle + half + 4 * FINE;
            }
        }
        Ok(())
    }

    fn draw_level<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, theme: Theme, frame: &Frame) -> Drawn<DB> {
        let Some(level) = self.level else { return Ok(()) };
        let y = self.y.place(level, frame.bottom, frame.top);
        dashed(area, theme, [(frame.left, y), (frame.right, y)])
    }

    fn draw_dots<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, theme: Theme, frame: &Frame) -> Drawn<DB> {
        let (strength, size) = match (self.named_dots, self.bold_dots) {
            (true, _) => (1.0, 5),
            (_, true) => (1.0, 4),
            _ => (0.45, 2),
        };
        for (variant, curve) in self.curves.iter().enumerate() {
            let style = ShapeStyle { color: colour(variant).mix(strength), filled: true, stroke_width: 0 };
            for (x, y) in &curve.dots {
                let place = (self.x.place(*x, frame.left, frame.right), self.y.place(*y, frame.bottom, frame.top));
                area.draw(&Circle::new(place, size * FINE, style))?;
                if self.named_dots {
                    let right = place.0 < i32::midpoint(frame.left, frame.right);
                    let (side, away) = if right { (HPos::Left, 9) } else { (HPos::Right, -9) };
                    let text = theme.text(LABEL - 1, 0.9, side, VPos::Center);
                    area.draw(&Text::new(shortened(&curve.name, 200), (place.0 + away * FINE, place.1), text))?;
                }
            }
        }
        Ok(())
    }

    fn draw_curves<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, theme: Theme, frame: &Frame) -> Drawn<DB> {
        let Frame { left, right, top, bottom } = *frame;
        if self.curves.iter().all(|curve| curve.points.is_empty() && curve.dots.is_empty()) {
            let style = theme.text(LABEL, 0.7, HPos::Center, VPos::Center);
            return area.draw(&Text::new(
                self.if_empty,
                (i32::midpoint(left, right), i32::midpoint(top, bottom)),
                style,
            ));
        }
        for (variant, curve) in self.drawn().iter().enumerate() {
            let place = |&(x, y): &(f64, f64)| (self.x.place(x, left, right), self.y.place(y, bottom, top));
            let mut points: Vec<(i32, i32)> = curve.iter().map(place).collect();
            points.dedup();
            if let [only] = points[..] {
                points.push((only.0 + FINE, only.1)); // a single window is still seen
            }
            let stroke = ShapeStyle { color: colour(variant).to_rgba(), filled: false, stroke_width: 9 };
            if points.len() > 1 {
                area.draw(&PathElement::new(points, stroke))?;
            }
        }
        Ok(())
    }
}

/// A dashed line, down or to the right.
fn dashed<DB: DrawingBackend>(area: &DrawingArea<DB, Shift>, theme: Theme, [from, to]: [(i32, i32); 2]) -> Drawn<DB> {
    let style = ShapeStyle { color: theme.ink(0.55), filled: false, stroke_width: FINE.unsigned_abs() };
    let (dash, gap) = (4 * FINE, 4 * FINE);
    let mut at = from;
    while at.0 < to.0 || at.1 < to.1 {
        let end = ((at.0 + dash).min(to.0), (at.1 + dash).min(to.1));
        area.draw(&PathElement::new(vec![at, end], style))?;
        at = ((at.0 + dash + gap).min(to.0), (at.1 + dash + gap).min(to.1));
    }
    Ok(())
}
