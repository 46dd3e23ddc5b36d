//! What stands above a chart: title, subtitle and, for curves, a legend that wraps.

use plotters::coord::Shift;
use plotters::prelude::{DrawingArea, DrawingAreaErrorKind, DrawingBackend, PathElement, Text};
use plotters::style::text_anchor::{HPos, VPos};
use plotters::style::{Color, RGBColor, ShapeStyle};

use super::canvas::{FINE, Theme, text_width};

/// Width of every figure, in pixels.
pub(super) const WIDTH: i32 = 760;
/// Empty border, in pixels.
pub(super) const MARGIN: i32 = 20;
/// Text size of labels, in pixels.
pub(super) const LABEL: i32 = 13;

const TITLE: i32 = 17;
const LINE: i32 = 20;
const SWATCH: i32 = 22;

/// Distinct to colour-blind readers (after Okabe and Ito), and legible on white and on near-black. The
/// first variant, the baseline, is grey.
const COLOURS: [RGBColor; 8] = [
    RGBColor(122, 133, 148),
    RGBColor(26, 115, 196),
    RGBColor(217, 95, 14),
    RGBColor(16, 145, 115),
    RGBColor(190, 90, 160),
    RGBColor(176, 132, 0),
    RGBColor(60, 160, 210),
    RGBColor(130, 95, 205),
];

/// The colour of a variant, the same in every figure.
pub(super) fn colour(variant: usize) -> RGBColor {
    COLOURS[variant % COLOURS.len()]
}

/// Title, subtitle and legend, laid out for [`WIDTH`].
#[derive(Debug)]
pub(super) struct Header {
    title: String,
    lines: Vec<String>,
    /// Name, left end and row of each entry.
    entries: Vec<(String, i32, i32)>,
    /// Pixels it takes.
    pub(super) height: i32,
}

impl Header {
    pub(super) fn new<'a>(title: &str, subtitle: &str, names: impl IntoIterator<Item = &'a str>) -> Self {
        let lines = wrapped(subtitle);
        let (mut x, mut row) = (MARGIN, 0);
        let mut entries = Vec::new();
        for name in names {
            let name = shortened(name, WIDTH / 3);
            let width = SWATCH + 8 + text_width(&name, LABEL) / FINE + 10;
            if x > MARGIN && x + width > WIDTH - MARGIN {
                (x, row) = (MARGIN, row + 1);
            }
            entries.push((name, x, row));
            x += width;
        }
        let legend = if entries.is_empty() { 0 } else { (row + 1) * LINE + 6 };
        let height = MARGIN + TITLE + 10 + rows(lines.len()) * LINE + legend;
        Self { title: title.to_owned(), lines, entries, height }
    }

    pub(super) fn draw<DB: DrawingBackend>(
        &self,
        area: &DrawingArea<DB, Shift>,
        theme: Theme,
    ) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
        let at = |x: i32, y: i32| (x * FINE, y * FINE);
        area.draw(&Text::new(self.title.as_str(), at(MARGIN, MARGIN - 4), theme.title(TITLE)))?;
        let mut y = MARGIN + TITLE + 6;
        for line in &self.lines {
            area.draw(&Text::new(line.as_str(), at(MARGIN, y), theme.text(LABEL, 0.7, HPos::Left, VPos::Top)))?;
            y += LINE;
        }
        y += LINE / 2 + 2;
        for (variant, (name, x, row)) in self.entries.iter().enumerate() {
            let y = y + row * LINE;
            let stroke =
                ShapeStyle { color: colour(variant).to_rgba(), filled: false, stroke_width: 3 * FINE.unsigned_abs() };
            area.draw(&PathElement::new(vec![at(*x, y), at(x + SWATCH, y)], stroke))?;
            let text = theme.text(LABEL, 0.9, HPos::Left, VPos::Center);
            area.draw(&Text::new(name.as_str(), at(x + SWATCH + 8, y), text))?;
        }
        Ok(())
    }
}

/// A name cut to a width in pixels.
pub(super) fn shortened(name: &str, width: i32) -> String {
    if text_width(name, LABEL) <= width * FINE {
        return name.to_owned();
    }
    let mut short = String::new();
    for letter in name.chars() {
        if text_width(&format!("{short}{letter}…"), LABEL) > width * FINE {
            break;
        }
        short.push(letter);
    }
    format!("{}…", short.trim_end())
}

/// Lines of words that fit the figure; a line break in the text is kept.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            let longer = format!("{line}{}{word}", if line.is_empty() { "" } else { " " });
            if line.is_empty() || text_width(&longer, LABEL) <= (WIDTH - 2 * MARGIN) * FINE {
                line = longer;
            } else {
                lines.push(std::mem::replace(&mut line, word.to_owned()));
            }
        }
        lines.push(line);
    }
    lines.iter().map(|line| shortened(line, WIDTH - 2 * MARGIN)).collect()
}

/// A number of rows as pixels count: no figure has more than fit.
pub(super) fn rows(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
