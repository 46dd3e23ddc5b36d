//! Horizontal bars, one for each variant: names stay readable even if they are long. Whiskers are 95 % intervals. Names
//! and values are beside the bars, or above the bars in a narrow figure.

use plotters::coord::Shift;
use plotters::prelude::{DrawingArea, DrawingAreaErrorKind, DrawingBackend, PathElement, Rectangle, Text};
use plotters::style::text_anchor::{HPos, VPos};
use plotters::style::{Color, ShapeStyle};

use super::axis::Axis;
use super::canvas::{FINE, Theme, text_width};
use super::header::{Header, LABEL, Legend, colour, rows, shortened};
use super::lines::Frame;
use super::look::Look;

const AXIS: i32 = 48;
const LONGEST_NAME: i32 = 220;
/// Space between the header and the plot, in pixels.
const GAP: i32 = 8;
/// Space between a name or value and a bar, in pixels.
const BESIDE: i32 = 8;

/// Meaning of a mark that shows a published figure.
pub(in crate::report) const PUBLISHED: &str = "published";

/// Chart of horizontal bars.
#[derive(Clone, Debug, Default)]
pub(in crate::report) struct Bars {
    pub(in crate::report) title: String,
    pub(in crate::report) subtitle: String,
    pub(in crate::report) axis: Axis,
    pub(in crate::report) rows: Vec<Bar>,
    /// Meaning of the marks across bars, in one word; empty if the chart has no marks.
    pub(in crate::report) mark: &'static str,
    /// Names of the parts that bars consist of, each with its own colour; empty if bars have no parts.
    pub(in crate::report) parts: Vec<String>,
}

/// Bar of a chart.
#[derive(Clone, Debug, Default)]
pub(in crate::report) struct Bar {
    pub(in crate::report) name: String,
    /// Length of the bar, on the axis; `None` if nothing was measured.
    pub(in crate::report) value: Option<f64>,
    pub(in crate::report) interval: Option<(f64, f64)>,
    /// Text at the end of the bar.
    pub(in crate::report) label: String,
    /// Value to compare the bar with, drawn as a line across the bar.
    pub(in crate::report) mark: Option<f64>,
    /// Lengths of the bar's parts, from the left; the lengths add up to the value.
    pub(in crate::report) parts: Vec<f64>,
}

/// Returns the highest value that must fit on the axis: of bars, intervals and marks.
pub(in crate::report) fn highest(bars: &[Bar]) -> f64 {
    let ends = bars.iter().flat_map(|bar| [bar.interval.map(|(_, high)| high), bar.value, bar.mark]);
    ends.flatten().fold(0.0, f64::max)
}

type Drawn<DB> = Result<(), DrawingAreaErrorKind<<DB as DrawingBackend>::ErrorType>>;

/// Heights of a row and of its elements, in pixels.
#[derive(Clone, Copy)]
struct RowHeights {
    /// Height of a row, including the space to the next row.
    step: i32,
    /// Distance from the top of a row to the middle of its name and value.
    text: i32,
    /// Distance from the top of a row to the middle of its bar.
    bar: i32,
    /// Half the thickness of a bar.
    half: i32,
}

impl RowHeights {
    const fn for_look(look: Look) -> Self {
        if look.is_narrow() {
            Self { step: 44, text: 12, bar: 30, half: 7 }
        } else {
            Self { step: 38, text: 19, bar: 19, half: 11 }
        }
    }
}

impl Bars {
    fn header(&self, look: Look) -> Header {
        Header::new(look, &self.title, &self.subtitle, (Legend::Fills, self.parts.iter().map(String::as_str)))
    }

    pub(super) fn size(&self, look: Look) -> (i32, i32) {
        let step = RowHeights::for_look(look).step;
        (look.pixels(), self.header(look).height + GAP + rows(self.rows.len().max(1)) * step + AXIS)
    }

    fn frame(&self, look: Look) -> Frame {
        let top = (self.header(look).height + GAP) * FINE;
        let bottom = top + rows(self.rows.len().max(1)) * RowHeights::for_look(look).step * FINE;
        let margin = look.margin() * FINE;
        let beyond = margin.max(self.axis.beyond() + FINE);
        if look.is_narrow() {
            return Frame { left: margin, right: look.pixels() * FINE - beyond, top, bottom };
        }
        let widest =
            |texts: &mut dyn Iterator<Item = &str>| texts.map(|text| text_width(text, LABEL)).max().unwrap_or(0);
        let names = self.names(look);
        let left = margin + widest(&mut names.iter().map(String::as_str)) + BESIDE * FINE;
        let values = widest(&mut self.rows.iter().map(|bar| bar.label.as_str()));
        Frame { left, right: look.pixels() * FINE - (margin + values + BESIDE * FINE).max(beyond), top, bottom }
    }

    /// Returns the names, shortened to the space that a name has: beside its bar, or above the bar to the left of the
    /// value.
    fn names(&self, look: Look) -> Vec<String> {
        let room = |bar: &Bar| {
            let value = text_width(&bar.label, LABEL) / FINE;
            if look.is_narrow() { look.pixels() - 2 * look.margin() - value - 12 } else { LONGEST_NAME }
        };
        self.rows.iter().map(|bar| shortened(&bar.name, room(bar))).collect()
    }

    /// Returns the ends of bars, and the middles of their parts, in the SVG of a page, with the text for each.
    pub(super) fn points(&self) -> serde_json::Value {
        let look = Look::default();
        let (Frame { left, right, top, .. }, heights) = (self.frame(look), RowHeights::for_look(look));
        let series = self.rows.iter().enumerate().map(|(row, bar)| {
            let middle = top + (rows(row) * heights.step + heights.bar) * FINE;
            let mut before = 0.0;
            let ends: Vec<_> = if bar.parts.is_empty() {
                let at = self.axis.place(bar.value.unwrap_or(0.0), left, right);
                vec![serde_json::json!([at, middle, "", bar.label])]
            } else {
                let part = |(name, value): (&String, &f64)| {
                    before += value;
                    let at = self.axis.place(before - value / 2.0, left, right);
                    serde_json::json!([at, middle, name, format!("{value:.1} %")])
                };
                self.parts.iter().zip(&bar.parts).map(part).collect()
            };
            serde_json::json!({ "name": bar.name, "points": ends })
        });
        serde_json::json!({ "x": "", "series": series.collect::<Vec<_>>() })
    }

    pub(super) fn draw<DB: DrawingBackend>(
        &self,
        area: &DrawingArea<DB, Shift>,
        theme: Theme,
        look: Look,
    ) -> Drawn<DB> {
        self.header(look).draw(area, theme)?;
        let (frame, heights) = (self.frame(look), RowHeights::for_look(look));
        let Frame { left, right, top, bottom } = frame;
        // The chart has no grid, because every bar shows its value.
        let line = ShapeStyle { color: theme.ink(0.5), filled: false, stroke_width: FINE.unsigned_abs() };
        let axis = vec![(left, bottom), (right, bottom)];
        let axis = if look.is_narrow() { axis } else { [vec![(left, top)], axis].concat() };
        area.draw(&PathElement::new(axis, line))?;
        self.axis.draw_below(area, theme, (left, right, bottom), look.pixels() * FINE)?;
        for (row, (bar, name)) in self.rows.iter().zip(&self.names(look)).enumerate() {
            let above = top + rows(row) * heights.step * FINE;
            self.draw_bar(area, theme, row, (frame, above + heights.bar * FINE, heights.half * FINE))?;
            let middle = above + heights.text * FINE;
            let (name_at, value_at) = if look.is_narrow() {
                ((HPos::Left, left), (HPos::Right, (look.pixels() - look.margin()) * FINE))
            } else {
                ((HPos::Right, left - BESIDE * FINE), (HPos::Left, self.end(bar, frame) + BESIDE * FINE))
            };
            for ((side, x), text) in [(name_at, name), (value_at, &bar.label)] {
                let style = theme.text(LABEL, 0.95, side, VPos::Center);
                area.draw(&Text::new(text.as_str(), (x, middle), style))?;
            }
        }
        Ok(())
    }

    /// Returns the right end of a bar with its whisker and mark, in drawing pixels.
    fn end(&self, bar: &Bar, frame: Frame) -> i32 {
        let ends = [bar.value, bar.interval.map(|(_, high)| high), bar.mark].into_iter().flatten();
        ends.map(|value| self.axis.place(value, frame.left, frame.right)).fold(frame.left, i32::max)
    }

    fn draw_bar<DB: DrawingBackend>(
        &self,
        area: &DrawingArea<DB, Shift>,
        theme: Theme,
        row: usize,
        (frame, middle, half): (Frame, i32, i32),
    ) -> Drawn<DB> {
        let bar = &self.rows[row];
        let x = |value: f64| self.axis.place(value, frame.left, frame.right);
        if self.parts.is_empty() {
            let end = bar.value.map_or(frame.left, x);
            area.draw(&Rectangle::new([(frame.left, middle - half), (end, middle + half)], colour(row).filled()))?;
        }
        let mut before = 0.0;
        for (part, value) in bar.parts.iter().enumerate() {
            let corners = [(x(before), middle - half), (x(before + value), middle + half)];
            area.draw(&Rectangle::new(corners, colour(part).filled()))?;
            before += value;
        }
        if let Some(mark) = bar.mark {
            let line = ShapeStyle { color: theme.ink(0.9), filled: false, stroke_width: 2 * FINE.unsigned_abs() };
            let reach = half + 4 * FINE;
            area.draw(&PathElement::new(vec![(x(mark), middle - reach), (x(mark), middle + reach)], line))?;
        }
        if let Some((low, high)) = bar.interval {
            let (low, high, cap) = (x(low), x(high), half / 2);
            let whisker =
                ShapeStyle { color: theme.ink(0.8), filled: false, stroke_width: 3 * FINE.unsigned_abs() / 2 };
            area.draw(&PathElement::new(vec![(low, middle), (high, middle)], whisker))?;
            for end in [low, high] {
                area.draw(&PathElement::new(vec![(end, middle - cap), (end, middle + cap)], whisker))?;
            }
        }
        Ok(())
    }
}
