//! Curves over one x axis. The names of vertical marks are above the plot, because no curve runs there.

use plotters::coord::Shift;
use plotters::prelude::{Circle, DrawingArea, DrawingAreaErrorKind, DrawingBackend, PathElement, Polygon, Text};
use plotters::style::text_anchor::{HPos, VPos};
use plotters::style::{Color, ShapeStyle};

use super::axis::Axis;
use super::canvas::{FINE, Theme, text_width};
use super::header::{Header, LABEL, Legend, colour, shortened};
use super::labels::{self, LED};
use super::look::Look;
use super::symbols::{Place, draw_line, draw_symbol, marked};

const MARKS: i32 = 20;
/// Height of the row for the label of the y axis, in pixels.
const LABEL_ROW: i32 = 20;
/// Space between the header and the plot of a chart without marks, in pixels.
const GAP: i32 = 8;
const AXIS: i32 = 48;
/// Width of a curve, in drawing pixels.
const STROKE: u32 = 9;
/// Maximum width of a name at a dot, in pixels.
const LONGEST_NAME: i32 = 200;

/// Chart of curves.
#[derive(Clone, Debug, Default)]
pub(in crate::report) struct Lines {
    pub(in crate::report) title: String,
    pub(in crate::report) subtitle: String,
    pub(in crate::report) x: Axis,
    pub(in crate::report) y: Axis,
    pub(in crate::report) curves: Vec<Curve>,
    pub(in crate::report) marks: Vec<Mark>,
    /// Value of y at which a horizontal line is drawn.
    pub(in crate::report) level: Option<f64>,
    /// Text of a chart in which no curve has a point.
    pub(in crate::report) if_empty: &'static str,
    /// True if curves are stacked on top of each other, as areas.
    pub(in crate::report) stacked: bool,
    /// Meaning of the dots.
    pub(in crate::report) dots: Dots,
}

/// Meaning of a chart's dots, which decides how they are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::report) enum Dots {
    /// Values that a curve was fitted to: small and pale dots.
    #[default]
    Faint,
    /// Points of a scatter figure: symbols with their curve's name beside them.
    Named,
    /// Points of the curve that the subtitle explains: rings round their symbols.
    Ringed,
}

/// Curve of a variant or of another series.
#[derive(Clone, Debug, Default)]
pub(in crate::report) struct Curve {
    pub(in crate::report) name: String,
    pub(in crate::report) points: Vec<(f64, f64)>,
    /// Dots of the curve; [`Lines::dots`] says what they mean.
    pub(in crate::report) dots: Vec<(f64, f64)>,
}

/// Vertical line at a value of x.
#[derive(Clone, Debug)]
pub(in crate::report) struct Mark {
    pub(super) at: f64,
    pub(super) label: String,
}

/// Edges of the plot, in drawing pixels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) left: i32,
    pub(super) right: i32,
    pub(super) top: i32,
    pub(super) bottom: i32,
}

type Drawn<DB> = Result<(), DrawingAreaErrorKind<<DB as DrawingBackend>::ErrorType>>;

impl Lines {
    fn header(&self, look: Look) -> Header {
        let legend = if self.stacked { Legend::Fills } else { Legend::Lines { symbols: self.has_symbols() } };
        // The name at each dot replaces the legend.
        let named = self.curves.iter().filter(|_| self.dots != Dots::Named);
        Header::new(look, &self.title, &self.subtitle, (legend, named.map(|curve| curve.name.as_str())))
    }

    /// Returns whether points of curves have symbols. They have none on areas, and none if dots show the values behind
    /// a fit.
    fn has_symbols(&self) -> bool {
        let fitted = self.dots == Dots::Faint && self.curves.iter().any(|curve| !curve.dots.is_empty());
        !self.stacked && !fitted
    }

    /// Returns the height between header and plot, in pixels: the label of the y axis, and the names of the marks or a
    /// gap.
    fn above(&self) -> i32 {
        let label = if self.y.words(LONGEST_NAME).is_empty() { 0 } else { LABEL_ROW };
        label + if self.marks.is_empty() { GAP } else { MARKS }
    }

    pub(super) fn size(&self, look: Look) -> (i32, i32) {
        (look.pixels(), self.header(look).height + self.above() + look.plot() + AXIS)
    }

    pub(super) fn draw<DB: DrawingBackend>(
        &self,
        area: &DrawingArea<DB, Shift>,
        theme: Theme,
        look: Look,
    ) -> Drawn<DB> {
        let header = self.header(look);
        header.draw(area, theme)?;
        let frame = self.frame(look);
        // Areas come before the grid, which stays visible on them, and faint dots before the curves that are fitted to
        // them.
        if self.stacked {
            self.draw_areas(area, &frame)?;
        }
        self.draw_axes(area, theme, &frame, look)?;
        let words = self.y.words(look.pixels() - 2 * look.margin());
        let style = theme.text(LABEL - 1, 0.7, HPos::Left, VPos::Top);
        area.draw(&Text::new(words, (look.margin() * FINE, (header.height + 2) * FINE), style))?;
        self.draw_marks(area, theme, &frame, look)?;
        if self.dots == Dots::Faint {
            self.draw_faint_dots(area, &frame)?;
        }
        self.draw_level(area, theme, &frame)?;
        self.draw_curves(area, theme, &frame)?;
        match self.dots {
            Dots::Faint => Ok(()),
            Dots::Ringed => self.draw_rings(area, theme, &frame),
            Dots::Named => self.draw_named_dots(area, theme, &frame),
        }
    }

    /// Returns the edges of the plot.
    pub(super) fn frame(&self, look: Look) -> Frame {
        let labels = self.y.ticks.iter().map(|(_, text)| text_width(text, LABEL - 1)).max().unwrap_or(0);
        let top = (self.header(look).height + self.above()) * FINE;
        Frame {
            left: look.margin() * FINE + labels + 8 * FINE,
            right: look.pixels() * FINE - (look.margin() * FINE).max(self.x.beyond() + FINE),
            top,
            bottom: top + look.plot() * FINE,
        }
    }

    fn place(&self, frame: &Frame, (x, y): (f64, f64)) -> Place {
        (self.x.place(x, frame.left, frame.right), self.y.place(y, frame.bottom, frame.top))
    }

    /// Returns the curves as they are drawn: if curves are stacked, each starts on the one before.
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
        let drawn = self.drawn();
        for (series, points) in drawn.iter().enumerate() {
            let ground = || points.iter().map(|(x, _)| (*x, 0.0)).collect::<Vec<_>>();
            let below = series.checked_sub(1).map_or_else(ground, |before| drawn[before].clone());
            let outline = points.iter().copied().chain(below.into_iter().rev()).map(|at| self.place(frame, at));
            if points.len() > 1 {
                let style = ShapeStyle { color: colour(series).mix(0.5), filled: true, stroke_width: 0 };
                area.draw(&Polygon::new(outline.collect::<Vec<_>>(), style))?;
            }
        }
        Ok(())
    }

    fn draw_axes<DB: DrawingBackend>(
        &self,
        area: &DrawingArea<DB, Shift>,
        theme: Theme,
        frame: &Frame,
        look: Look,
    ) -> Drawn<DB> {
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
        self.x.draw_below(area, theme, (left, right, bottom), look.pixels() * FINE)
    }

    fn draw_marks<DB: DrawingBackend>(
        &self,
        area: &DrawingArea<DB, Shift>,
        theme: Theme,
        frame: &Frame,
        look: Look,
    ) -> Drawn<DB> {
        let mut free_from = frame.left;
        for mark in &self.marks {
            let x = self.x.place(mark.at, frame.left, frame.right);
            dashed(area, theme, [(x, frame.top), (x, frame.bottom)])?;
            // A name that would run out of the figure moves to the left. A name that would run into the one before is
            // left out.
            let half = text_width(&mark.label, LABEL - 1) / 2;
            let middle = x.min((look.pixels() - 4) * FINE - half);
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

    fn draw_faint_dots<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, frame: &Frame) -> Drawn<DB> {
        for (variant, curve) in self.curves.iter().enumerate() {
            let pale = colour(variant).mix(0.45);
            for dot in &curve.dots {
                draw_symbol(area, variant, self.place(frame, *dot), 2 * FINE, pale)?;
            }
        }
        Ok(())
    }

    fn draw_rings<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, theme: Theme, frame: &Frame) -> Drawn<DB> {
        let style = ShapeStyle { color: theme.ink(0.8), filled: false, stroke_width: 5 };
        for dot in self.curves.iter().flat_map(|curve| &curve.dots) {
            area.draw(&Circle::new(self.place(frame, *dot), 8 * FINE, style))?;
        }
        Ok(())
    }

    fn draw_named_dots<DB: DrawingBackend>(
        &self,
        area: &DrawingArea<DB, Shift>,
        theme: Theme,
        frame: &Frame,
    ) -> Drawn<DB> {
        let longest = LONGEST_NAME.min((frame.right - frame.left) / FINE / 2);
        let dots = self.curves.iter().enumerate().flat_map(|(series, curve)| {
            curve.dots.iter().map(move |dot| (series, self.place(frame, *dot), shortened(&curve.name, longest)))
        });
        let dots: Vec<(usize, Place, String)> = dots.collect();
        let points: Vec<Place> = dots.iter().map(|(_, place, _)| *place).collect();
        let sizes: Vec<Place> = dots.iter().map(|(.., name)| (text_width(name, LABEL - 1), LABEL * FINE)).collect();
        let names = labels::placed(&points, &sizes, frame);
        for ((series, at, name), place) in dots.iter().zip(&names) {
            let end = place.nearest(*at);
            if libm::hypot(f64::from(end.0 - at.0), f64::from(end.1 - at.1)) > f64::from(LED) {
                let line = ShapeStyle { color: theme.ink(0.4), filled: false, stroke_width: FINE.unsigned_abs() };
                area.draw(&PathElement::new(vec![*at, end], line))?;
            }
            draw_symbol(area, *series, *at, 5 * FINE, colour(*series).to_rgba())?;
            let text = theme.text(LABEL - 1, 0.9, HPos::Left, VPos::Center);
            area.draw(&Text::new(name.as_str(), (place.left, i32::midpoint(place.top, place.bottom)), text))?;
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
        let drawn = self.drawn();
        for (variant, curve) in drawn.iter().enumerate() {
            let mut points: Vec<Place> = curve.iter().map(|point| self.place(frame, *point)).collect();
            // Neighbouring points on one drawing pixel would only make the file larger.
            points.dedup();
            if let [only] = points[..] {
                points.push((only.0 + FINE, only.1)); // a curve of a single point gets a visible length
            }
            if points.len() > 1 {
                // Areas are told apart by their colours and order, so their edges need no dashes.
                let dashes = if self.stacked { 0 } else { variant };
                draw_line(area, dashes, points, colour(variant).to_rgba(), STROKE)?;
            }
        }
        if !self.has_symbols() {
            return Ok(());
        }
        for (variant, curve) in drawn.iter().enumerate() {
            for at in marked(curve.len(), variant, drawn.len()) {
                draw_symbol(area, variant, self.place(frame, curve[at]), 4 * FINE, colour(variant).to_rgba())?;
            }
        }
        Ok(())
    }
}

/// Draws a dashed line, down or to the right.
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
