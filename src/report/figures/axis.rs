//! Axes of charts: range, round ticks and the place of a value. Places are linear: a logarithmic axis is a linear axis
//! of logarithms. `libm` computes the logarithms, so that a figure is the same on every machine.

use plotters::coord::Shift;
use plotters::prelude::{DrawingArea, DrawingAreaErrorKind, DrawingBackend, PathElement, Text};
use plotters::style::ShapeStyle;
use plotters::style::text_anchor::{HPos, VPos};

use super::canvas::{FINE, Theme, text_width};
use super::header::{LABEL, shortened};

/// Axis of a chart.
#[derive(Clone, Debug, Default)]
pub(in crate::report) struct Axis {
    pub(super) label: String,
    /// True if places are decimal logarithms of values.
    pub(super) logarithmic: bool,
    pub(super) low: f64,
    pub(super) high: f64,
    /// Place and text of each tick, within the range.
    pub(super) ticks: Vec<(f64, String)>,
}

impl Axis {
    /// Makes an axis from 0 to the first round value at or above `highest`, with about `count` ticks.
    pub(in crate::report) fn from_zero(label: &str, highest: f64, count: f64) -> Self {
        let highest = if highest > 0.0 && highest.is_finite() { highest } else { 1.0 };
        let step = round_step(highest / count);
        // A multiple of the step may come out slightly above a whole number of steps, which must not add one.
        let steps = (highest / step - 1e-9).ceil().max(1.0) as u32;
        // The logarithm of 0.1 may come out slightly below -1, and the floor of that would be -2.
        let decimals = if step < 1.0 { -libm::floor(libm::log10(step) + 1e-9) } else { 0.0 } as usize;
        let tick = |n: u32| (f64::from(n) * step, format!("{:.decimals$}", f64::from(n) * step));
        Self {
            label: label.to_owned(),
            logarithmic: false,
            low: 0.0,
            high: f64::from(steps) * step,
            ticks: (0..=steps).map(tick).collect(),
        }
    }

    /// Makes an axis from the last round value at or below `lowest` to the first at or above `highest`, with about
    /// `count` ticks.
    pub(in crate::report) fn between(label: &str, lowest: f64, highest: f64, count: f64) -> Self {
        let (low, high) = if highest > lowest { (lowest, highest) } else { (lowest - 0.5, lowest + 0.5) };
        let step = round_step((high - low) / count);
        let (from, to) = ((low / step + 1e-9).floor(), (high / step - 1e-9).ceil());
        let decimals = if step < 1.0 { -libm::floor(libm::log10(step) + 1e-9) } else { 0.0 } as usize;
        let tick = |n: i32| ((from + f64::from(n)) * step, format!("{:.decimals$}", (from + f64::from(n)) * step));
        Self {
            label: label.to_owned(),
            logarithmic: false,
            low: from * step,
            high: to * step,
            ticks: (0..=(to - from) as i32).map(tick).collect(),
        }
    }

    /// Makes an axis of shares from 0 to 1, with ticks in per cent.
    pub(super) fn shares(label: &str) -> Self {
        let tick = |n: u32| (f64::from(n) / 4.0, format!("{} %", n * 25));
        Self { label: label.to_owned(), logarithmic: false, low: 0.0, high: 1.0, ticks: (0..=4).map(tick).collect() }
    }

    /// Makes an axis of decimal logarithms of `low..high` (both above 0). Ticks are at 1, 2 and 5 times powers of ten,
    /// or only at powers of ten if the range is wide.
    pub(super) fn logarithmic(label: &str, low: f64, high: f64) -> Self {
        let (mut from, mut to) = (libm::log10(low) - 0.03, libm::log10(high) + 0.03);
        let narrow = (0.8 - (to - from)).max(0.0);
        // Ranges of less than 0.8 decades are widened, so that at least two ticks lie within them.
        from -= narrow / 2.0;
        to += narrow / 2.0;
        let digits: &[f64] = if to - from > 3.2 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let decades = from.floor() as i32..=to.ceil() as i32;
        let values = decades.flat_map(|decade| digits.iter().map(move |digit| digit * libm::exp10(f64::from(decade))));
        let ticks = values.map(|value| (libm::log10(value), plain(value)));
        Self {
            label: label.to_owned(),
            logarithmic: true,
            low: from,
            high: to,
            ticks: ticks.filter(|(at, _)| (from..=to).contains(at)).collect(),
        }
    }

    /// Returns the label as it is drawn, within a width in pixels. The label of an axis that does not start at zero
    /// says so.
    pub(super) fn words(&self, width: i32) -> String {
        let starts_at_zero = self.low.abs() < 1e-9 * (self.high - self.low);
        if self.logarithmic || starts_at_zero {
            return shortened(&self.label, width);
        }
        let first = self.ticks.first().map_or_else(|| self.low.to_string(), |(_, text)| text.clone());
        let note = format!("(axis starts at {first})");
        let room = width - text_width(&format!("{note} "), LABEL) / FINE;
        format!("{} {note}", shortened(&self.label, room)).trim_start().to_owned()
    }

    /// Returns the smallest n for which the texts of every n-th tick stay apart, between two places in drawing pixels.
    fn stride(&self, left: i32, right: i32) -> usize {
        let ends = |(value, text): &(f64, String)| {
            let (at, half) = (self.place(*value, left, right), text_width(text, LABEL - 1) / 2);
            (at - half, at + half)
        };
        let apart = |stride: &usize| {
            let shown: Vec<(i32, i32)> = self.ticks.iter().step_by(*stride).map(ends).collect();
            shown.windows(2).all(|pair| pair[0].1 + 4 * FINE <= pair[1].0)
        };
        (1..self.ticks.len().max(2)).find(apart).unwrap_or(self.ticks.len().max(1))
    }

    /// Returns half the width of the last tick's text, in drawing pixels: the text reaches that far beyond the plot.
    pub(super) fn beyond(&self) -> i32 {
        self.ticks.last().map_or(0, |(_, text)| text_width(text, LABEL - 1) / 2)
    }

    /// Draws ticks, their texts and the label below a plot. `left`, `right` and `bottom` are the plot's edges and
    /// `width` is the width of the figure, all in drawing pixels; the label stays within the figure.
    pub(super) fn draw_below<DB: DrawingBackend>(
        &self,
        area: &DrawingArea<DB, Shift>,
        theme: Theme,
        (left, right, bottom): (i32, i32, i32),
        width: i32,
    ) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
        let line = ShapeStyle { color: theme.ink(0.5), filled: false, stroke_width: FINE.unsigned_abs() };
        let stride = self.stride(left, right);
        for (tick, (value, text)) in self.ticks.iter().enumerate() {
            let x = self.place(*value, left, right);
            area.draw(&PathElement::new(vec![(x, bottom), (x, bottom + 4 * FINE)], line))?;
            if tick % stride == 0 {
                let style = theme.text(LABEL - 1, 0.7, HPos::Center, VPos::Top);
                area.draw(&Text::new(text.as_str(), (x, bottom + 7 * FINE), style))?;
            }
        }
        let words = self.words(width / FINE);
        let half = text_width(&words, LABEL - 1) / 2;
        let middle = i32::midpoint(left, right).min(width - half).max(half);
        let style = theme.text(LABEL - 1, 0.7, HPos::Center, VPos::Top);
        area.draw(&Text::new(words, (middle, bottom + 26 * FINE), style))
    }

    /// Returns the value at a place of the axis.
    pub(super) fn value(&self, place: f64) -> f64 {
        if self.logarithmic { libm::exp10(place) } else { place }
    }

    /// Returns the pixel of a place between the pixels of the axis's two ends. A place beyond the range moves to the
    /// nearer end.
    pub(super) fn place(&self, value: f64, low: i32, high: i32) -> i32 {
        let share = ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        low + (share * f64::from(high - low)).round() as i32
    }
}

/// Returns the smallest number of the form 1, 2 or 5 times a power of ten that is at least `step`.
fn round_step(step: f64) -> f64 {
    let power = libm::exp10(libm::floor(libm::log10(step)));
    let digit = [1.0, 2.0, 5.0].into_iter().find(|digit| digit * power >= step * (1.0 - 1e-9)).unwrap_or(10.0);
    digit * power
}

/// Formats a tick of a logarithmic axis without the rounding errors of its computation.
fn plain(value: f64) -> String {
    if value >= 0.99 { format!("{value:.0}") } else { format!("{value:.4}").trim_end_matches('0').to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, text)| text.as_str()).collect()
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(texts(&Axis::from_zero("", 26.3, 5.0)), ["0", "10", "20", "30"]);
        assert_eq!(texts(&Axis::from_zero("", 0.9, 5.0)), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(texts(&Axis::from_zero("", 0.0, 5.0)).last(), Some(&"1.0"));
        assert_eq!(texts(&Axis::from_zero("", f64::NAN, 5.0)).last(), Some(&"1.0"));
        assert_eq!(texts(&Axis::between("", 0.71, 0.93, 4.0)), ["0.7", "0.8", "0.9", "1.0"]);
        assert_eq!(texts(&Axis::between("", 1.0, 1.0, 2.0)), ["0.5", "1.0", "1.5"]);
        assert_eq!(texts(&Axis::logarithmic("", 9.0, 210.0)), ["10", "20", "50", "100", "200"]);
        assert_eq!(texts(&Axis::logarithmic("", 0.01, 1000.0)), ["0.01", "0.1", "1", "10", "100", "1000"]);
        assert_eq!(texts(&Axis::logarithmic("", 10.0, 10.0)), ["5", "10", "20"]);
    }

    #[test]
    fn an_axis_that_does_not_start_at_zero_says_so() {
        assert_eq!(Axis::from_zero("seconds", 9.0, 5.0).words(400), "seconds");
        assert_eq!(Axis::between("GPUs", 4.0, 16.0, 4.0).words(400), "GPUs");
        assert_eq!(Axis::between("quality", 26.1, 28.9, 4.0).words(400), "quality (axis starts at 26)");
        assert_eq!(Axis::between("", 26.1, 28.9, 4.0).words(400), "(axis starts at 26)");
        assert_eq!(Axis::between("difference", -0.3, 0.4, 4.0).words(400), "difference (axis starts at -0.4)");
        assert_eq!(Axis::logarithmic("seconds (logarithmic)", 5.0, 50.0).words(400), "seconds (logarithmic)");
        let cut = Axis::between("a label that is far too long for a column", 26.1, 28.9, 4.0).words(200);
        assert!(cut.ends_with("… (axis starts at 26)"), "the note stays: {cut}");
    }

    #[test]
    fn ticks_leave_texts_out_before_they_meet() {
        let axis = Axis::from_zero("", 10_000.0, 10.0);
        assert_eq!(axis.stride(0, 4000), 1);
        assert!(axis.stride(0, 1000) > 1 && axis.stride(0, 10) > 3);
    }

    #[test]
    fn places_stay_within_the_axis() {
        let axis = Axis::from_zero("", 10.0, 5.0);
        assert_eq!(axis.place(5.0, 100, 200), 150);
        assert_eq!(axis.place(-5.0, 100, 200), 100);
        assert_eq!(axis.place(50.0, 100, 0), 0);
    }
}
