//! Header of a chart: title, subtitle and a legend that wraps.

use plotters::coord::Shift;
use plotters::prelude::{DrawingArea, DrawingAreaErrorKind, DrawingBackend, Rectangle, Text};
use plotters::style::text_anchor::{HPos, VPos};
use plotters::style::{Color, RGBColor};

use super::canvas::{FINE, Theme, text_width};
use super::look::Look;
use super::symbols::{draw_line, draw_symbol};

/// Text size of labels, in pixels.
pub(super) const LABEL: i32 = 13;

const TITLE: i32 = 17;
const TITLE_LINE: i32 = 24;
const LINE: i32 = 20;

/// Colours of variants and parts. They are distinct to colour-blind readers (after Okabe and Ito) and legible on white
/// and on near-black. The first variant, the baseline, is grey.
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

/// Returns the colour of a variant, the same in every figure.
pub(super) fn colour(variant: usize) -> RGBColor {
    COLOURS[variant % COLOURS.len()]
}

/// Kind of the marks by which a legend identifies its series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Legend {
    /// Lines with their dashes and, if `symbols` is true, with their symbols.
    Lines {
        /// True if points of the curves have symbols.
        symbols: bool,
    },
    /// Filled areas.
    Fills,
}

impl Legend {
    /// Returns the width of the mark before a name, in pixels.
    const fn swatch(self) -> i32 {
        match self {
            Self::Lines { .. } => 32,
            Self::Fills => 16,
        }
    }
}

/// Title, subtitle and legend, arranged for one look.
#[derive(Debug)]
pub(super) struct Header {
    titles: Vec<String>,
    lines: Vec<String>,
    /// Name, left end in pixels and row of each entry of the legend.
    entries: Vec<(String, i32, i32)>,
    legend: Legend,
    margin: i32,
    /// Height of the header, in pixels.
    pub(super) height: i32,
}

impl Header {
    pub(super) fn new<'a>(
        look: Look,
        title: &str,
        subtitle: &str,
        (legend, names): (Legend, impl IntoIterator<Item = &'a str>),
    ) -> Self {
        let margin = look.margin();
        let room = look.pixels() - 2 * margin;
        let (titles, lines) = if look.untitled {
            (Vec::new(), Vec::new())
        } else {
            // The title is semibold, a tenth wider than the regular font that is measured.
            (wrapped(title, room * 9 / 10, TITLE), wrapped(subtitle, room, LABEL))
        };
        let (mut x, mut row) = (margin, 0);
        let mut entries = Vec::new();
        for name in names {
            let name = shortened(name, look.pixels() / 3);
            let width = legend.swatch() + 6 + text_width(&name, LABEL) / FINE + 12;
            if x > margin && x + width > look.pixels() - margin {
                (x, row) = (margin, row + 1);
            }
            entries.push((name, x, row));
            x += width;
        }
        let legend_height = if entries.is_empty() { 0 } else { (row + 1) * LINE + 6 };
        let titles_height = if titles.is_empty() { 0 } else { 3 + rows(titles.len()) * TITLE_LINE };
        let height = margin + titles_height + rows(lines.len()) * LINE + legend_height;
        Self { titles, lines, entries, legend, margin, height }
    }

    pub(super) fn draw<DB: DrawingBackend>(
        &self,
        area: &DrawingArea<DB, Shift>,
        theme: Theme,
    ) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
        let at = |x: i32, y: i32| (x * FINE, y * FINE);
        let mut y = self.margin - 4;
        for title in &self.titles {
            area.draw(&Text::new(title.as_str(), at(self.margin, y), theme.title(TITLE)))?;
            y += TITLE_LINE;
        }
        y += if self.titles.is_empty() { 4 } else { 3 };
        for line in &self.lines {
            area.draw(&Text::new(line.as_str(), at(self.margin, y), theme.text(LABEL, 0.7, HPos::Left, VPos::Top)))?;
            y += LINE;
        }
        y += LINE / 2 + 2;
        for (variant, (name, x, row)) in self.entries.iter().enumerate() {
            let y = y + row * LINE;
            let (ink, swatch) = (colour(variant).to_rgba(), self.legend.swatch());
            if let Legend::Lines { symbols } = self.legend {
                draw_line(area, variant, vec![at(*x, y), at(x + swatch, y)], ink, 9)?;
                if symbols {
                    draw_symbol(area, variant, at(x + swatch / 2, y), 4 * FINE, ink)?;
                }
            } else {
                area.draw(&Rectangle::new([at(*x, y - 6), at(x + swatch, y + 6)], ink.filled()))?;
            }
            let text = theme.text(LABEL, 0.9, HPos::Left, VPos::Center);
            area.draw(&Text::new(name.as_str(), at(x + swatch + 6, y), text))?;
        }
        Ok(())
    }
}

/// Cuts a name to a width in pixels.
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

/// Breaks a text into lines that fit a width in pixels, at a font size in pixels. Line breaks in the text are kept.
fn wrapped(text: &str, width: i32, size: i32) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            let longer = format!("{line}{}{word}", if line.is_empty() { "" } else { " " });
            if line.is_empty() || text_width(&longer, size) <= width * FINE {
                line = longer;
            } else {
                lines.push(std::mem::replace(&mut line, word.to_owned()));
            }
        }
        lines.push(line);
    }
    // A single word may still be wider than a line. `shortened` measures labels, so the width is converted to their
    // size.
    lines.iter().map(|line| shortened(line, width * LABEL / size)).collect()
}

/// Converts a number of rows to the type of pixel counts; too large a number becomes the largest `i32`.
pub(super) fn rows(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
