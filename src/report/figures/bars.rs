//! Horizontal bars, a variant each, so that long names stay readable; whiskers are 95 % intervals.

use plotters::coord::Shift;
use plotters::prelude::{DrawingArea, DrawingAreaErrorKind, DrawingBackend, PathElement, Rectangle, Text};
use plotters::style::text_anchor::{HPos, VPos};
use plotters::style::{Color, ShapeStyle};

use super::axis::Axis;
use super::canvas::{FINE, Theme, text_width};
use super::header::{Header, LABEL, MARGIN, WIDTH, colour, rows, shortened};

const STEP: i32 = 38;
const THICK: i32 = 22;
const AXIS: i32 = 52;
const LONGEST_NAME: i32 = 220;

/// What a mark is where others published a figure.
pub(in crate::report) const PUBLISHED: &str = "published";

/// A chart of bars.
#[derive(Clone, Debug, Default)]
pub(in crate::report) struct Bars {
    pub(in crate::report) title: String,
    pub(in crate::report) subtitle: String,
    pub(in crate::report) axis: Axis,
    pub(in crate::report) rows: Vec<Bar>,
    /// What the lines across bars are, in a word.
    pub(in crate::report) mark: &'static str,
    /// Names of the parts that bars are made of, where they are; each has its colour.
    pub(in crate::report) parts: Vec<String>,
}

/// One bar.
#[derive(Clone, Debug, Default)]
pub(in crate::report) struct Bar {
    pub(in crate::report) name: String,
    /// Its length; none where nothing was measured.
    pub(in crate::report) value: Option<f64>,
    pub(in crate::report) interval: Option<(f64, f64)>,
    /// What stands at its end.
    pub(in crate::report) label: String,
    /// Something to hold it against, as a line across it.
    pub(in crate::report) mark: Option<f64>,
    /// Its parts, from the left; they add up to its value.
    pub(in crate::report) parts: Vec<f64>,
}

/// The highest value that must find room.
pub(in crate::report) fn highest(bars: &[Bar]) -> f64 {
    let ends = bars.iter().flat_map(|bar| [bar.interval.map(|(_, high)| high), bar.value, bar.mark]);
    ends.flatten().fold(0.0, f64::max)
}

impl Bars {
    fn header(&self) -> Header {
        Header::new(&self.title, &self.subtitle, self.parts.iter().map(String::as_str))
    }

    pub(super) fn size(&self) -> (i32, i32) {
        (WIDTH, self.header().height + 12 + rows(self.rows.len().max(1)) * STEP + AXIS)
    }

    /// Drawing pixels of the plot's left, right and upper edge.
    fn frame(&self, names: &[String]) -> (i32, i32, i32) {
        let widest =
            |texts: &mut dyn Iterator<Item = &str>| texts.map(|text| text_width(text, LABEL)).max().unwrap_or(0);
        let left = MARGIN * FINE + widest(&mut names.iter().map(String::as_str)) + 8 * FINE;
        let right = (WIDTH - MARGIN) * FINE - widest(&mut self.rows.iter().map(|bar| bar.label.as_str())) - 8 * FINE;
        (left, right, (self.header().height + 12) * FINE)
    }

    fn names(&self) -> Vec<String> {
        self.rows.iter().map(|bar| shortened(&bar.name, LONGEST_NAME)).collect()
    }

    /// The ends of bars and of their parts, with what stands there.
    pub(super) fn points(&self) -> serde_json::Value {
        let (left, right, top) = self.frame(&self.names());
        let series = self.rows.iter().enumerate().map(|(row, bar)| {
            let middle = top + (rows(row) * STEP + STEP / 2) * FINE;
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
    ) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
        self.header().draw(area, theme)?;
        let names = self.names();
        let (left, right, top) = self.frame(&names);
        let bottom = top + rows(self.rows.len().max(1)) * STEP * FINE;
        let x = |value: f64| self.axis.place(value, left, right);

        // No grid: every bar says its value.
        let line = ShapeStyle { color: theme.ink(0.5), filled: false, stroke_width: FINE.unsigned_abs() };
        area.draw(&PathElement::new(vec![(left, top), (left, bottom), (right, bottom)], line))?;
        self.axis.draw_below(area, theme, (left, right, bottom))?;

        for (row, (bar, name)) in self.rows.iter().zip(&names).enumerate() {
            let middle = top + (rows(row) * STEP + STEP / 2) * FINE;
            let style = theme.text(LABEL, 0.95, HPos::Right, VPos::Center);
            area.draw(&Text::new(name.as_str(), (left - 8 * FINE, middle), style))?;
            let half = THICK / 2 * FINE;
            let end = bar.value.map_or(left, x);
            if self.parts.is_empty() {
                area.draw(&Rectangle::new([(left, middle - half), (end, middle + half)], colour(row).filled()))?;
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
            let mut label_at = end;
            if let Some((low, high)) = bar.interval {
                let (low, high, cap) = (x(low), x(high), 5 * FINE);
                let whisker =
                    ShapeStyle { color: theme.ink(0.8), filled: false, stroke_width: 3 * FINE.unsigned_abs() / 2 };
                area.draw(&PathElement::new(vec![(low, middle), (high, middle)], whisker))?;
                for end in [low, high] {
                    area.draw(&PathElement::new(vec![(end, middle - cap), (end, middle + cap)], whisker))?;
                }
                label_at = label_at.max(high);
            }
            let style = theme.text(LABEL, 0.95, HPos::Left, VPos::Center);
            area.draw(&Text::new(bar.label.as_str(), (label_at + 8 * FINE, middle), style))?;
        }
        Ok(())
    }
}
