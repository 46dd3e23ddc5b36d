//! Chart of rows over time: one bar for each span of time, with one colour for each kind of span.

use plotters::coord::Shift;
use plotters::prelude::{DrawingArea, DrawingAreaErrorKind, DrawingBackend, PathElement, Rectangle, Text};
use plotters::style::text_anchor::{HPos, VPos};
use plotters::style::{Color, ShapeStyle};
use serde_json::{Value, json};

use super::axis::Axis;
use super::canvas::{FINE, Theme, text_width};
use super::header::{Header, LABEL, Legend, colour, rows};
use super::lines::Frame;
use super::look::Look;

const STEP: i32 = 18;
const THICK: i32 = 12;
const AXIS: i32 = 48;
/// Space between the header and the plot, in pixels.
const GAP: i32 = 8;

/// Chart of rows over time.
#[derive(Clone, Debug, Default)]
pub(super) struct Spans {
    pub(super) title: String,
    pub(super) subtitle: String,
    pub(super) x: Axis,
    /// Names of the rows.
    pub(super) rows: Vec<String>,
    /// Names of the kinds; each kind has its own colour.
    pub(super) kinds: Vec<String>,
    pub(super) bars: Vec<Span>,
}

/// Span of time, drawn as a bar.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub(super) row: usize,
    pub(super) kind: usize,
    /// True if the bar is paler than other bars of its kind.
    pub(super) pale: bool,
    pub(super) from: f64,
    pub(super) to: f64,
    /// Description of the span, in words.
    pub(super) what: String,
}

impl Spans {
    fn header(&self, look: Look) -> Header {
        Header::new(look, &self.title, &self.subtitle, (Legend::Fills, self.kinds.iter().map(String::as_str)))
    }

    pub(super) fn size(&self, look: Look) -> (i32, i32) {
        (look.pixels(), self.header(look).height + GAP + rows(self.rows.len().max(1)) * STEP + AXIS)
    }

    fn frame(&self, look: Look) -> Frame {
        let widest = self.rows.iter().map(|row| text_width(row, LABEL - 1)).max().unwrap_or(0);
        let top = (self.header(look).height + GAP) * FINE;
        Frame {
            left: look.margin() * FINE + widest + 8 * FINE,
            right: look.pixels() * FINE - (look.margin() * FINE).max(self.x.beyond() + FINE),
            top,
            bottom: top + rows(self.rows.len().max(1)) * STEP * FINE,
        }
    }

    /// Returns the middle of each span in the SVG of a page, with the span's times and description; one series for each
    /// row.
    pub(super) fn points(&self) -> Value {
        let Frame { left, right, top, .. } = self.frame(Look::default());
        let series = self.rows.iter().enumerate().map(|(row, name)| {
            let middle = top + (rows(row) * STEP + STEP / 2) * FINE;
            let own = self.bars.iter().filter(|span| span.row == row).map(|span| {
                let seen = (span.from.max(self.x.low), span.to.min(self.x.high));
                let at = self.x.place(f64::midpoint(seen.0, seen.1), left, right);
                json!([at, middle, format!("{:.1} to {:.1}", span.from, span.to), span.what])
            });
            json!({ "name": name, "points": own.collect::<Vec<_>>() })
        });
        json!({ "x": "", "series": series.collect::<Vec<_>>() })
    }

    pub(super) fn draw<DB: DrawingBackend>(
        &self,
        area: &DrawingArea<DB, Shift>,
        theme: Theme,
        look: Look,
    ) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
        self.header(look).draw(area, theme)?;
        let Frame { left, right, top, bottom } = self.frame(look);
        let line = ShapeStyle { color: theme.ink(0.5), filled: false, stroke_width: FINE.unsigned_abs() };
        area.draw(&PathElement::new(vec![(left, top), (left, bottom), (right, bottom)], line))?;
        self.x.draw_below(area, theme, (left, right, bottom), look.pixels() * FINE)?;
        let middle = |row: usize| top + (rows(row) * STEP + STEP / 2) * FINE;
        for (row, name) in self.rows.iter().enumerate() {
            let style = theme.text(LABEL - 1, 0.8, HPos::Right, VPos::Center);
            area.draw(&Text::new(name.as_str(), (left - 8 * FINE, middle(row)), style))?;
        }
        for span in &self.bars {
            let (from, to) = (self.x.place(span.from, left, right), self.x.place(span.to, left, right));
            let half = THICK / 2 * FINE;
            let strength = if span.pale { 0.5 } else { 1.0 };
            let style = ShapeStyle { color: colour(span.kind).mix(strength), filled: true, stroke_width: 0 };
            // Bars end one pixel early: the gap separates a span from the next one.
            let corners = [(from, middle(span.row) - half), ((to - FINE).max(from + 1), middle(span.row) + half)];
            area.draw(&Rectangle::new(corners, style))?;
        }
        Ok(())
    }
}
