//! Data of a figure: as CSV for further work, and as points that a page shows to a reader who points at the figure.

use serde_json::{Value, json};

use super::bars::Bars;
use super::lines::{Dots, Lines};
use super::look::Look;
use super::spans::Spans;
use super::{Chart, Figure};

impl Figure {
    /// Returns the data of the figure as its CSV file has them: one row for each point or bar.
    ///
    /// # Panics
    /// Never panics: the rows have one length, and writing to memory does not fail.
    #[must_use]
    pub fn csv(&self) -> String {
        let (header, rows) = match &self.chart {
            Chart::Bars(bars) => of_bars(bars),
            Chart::Lines(lines) => of_lines(lines),
            Chart::Spans(spans) => of_spans(spans),
        };
        let mut writer = csv::Writer::from_writer(Vec::new());
        let mut write = |record: &Vec<String>| writer.write_record(record).expect("rows of one length, to memory");
        write(&header);
        rows.iter().for_each(&mut write);
        String::from_utf8(writer.into_inner().expect("memory takes what is written to it")).expect("it is text")
    }

    /// Returns the figure's points by series, in the coordinates of the SVG, with the values that a page shows at each
    /// point.
    #[must_use]
    pub fn points(&self) -> Value {
        match &self.chart {
            Chart::Bars(bars) => bars.points(),
            Chart::Spans(spans) => spans.points(),
            Chart::Lines(lines) => {
                let frame = lines.frame(Look::default());
                let place = |(x, y): (f64, f64)| {
                    (lines.x.place(x, frame.left, frame.right), lines.y.place(y, frame.bottom, frame.top))
                };
                let series = lines.curves.iter().zip(lines.drawn()).map(|(curve, drawn)| {
                    let on_curve = curve.points.iter().zip(drawn).map(|((x, y), at)| (*x, *y, place(at)));
                    let points = on_curve.chain(
                        curve.dots.iter().filter(|_| lines.dots == Dots::Named).map(|(x, y)| (*x, *y, place((*x, *y)))),
                    );
                    let points = points.map(|(x, y, (left, top))| {
                        json!([left, top, short(lines.x.value(x)), short(lines.y.value(y))])
                    });
                    json!({ "name": curve.name, "points": points.collect::<Vec<_>>() })
                });
                json!({ "x": lines.x.label, "series": series.collect::<Vec<_>>() })
            }
        }
    }
}

/// Rounds a value to about five significant digits, for readers.
fn short(value: f64) -> Value {
    // Zero has no logarithm, so the smallest value that counts stands for it.
    let digits = 4 - (libm::floor(libm::log10(value.abs().max(1e-9))) as i32).clamp(-6, 4);
    let scale = libm::exp10(f64::from(digits));
    json!((value * scale).round() / scale)
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

fn of_bars(bars: &Bars) -> (Vec<String>, Vec<Vec<String>>) {
    let marked = !bars.mark.is_empty();
    let header = ["series", "value", "ci95_low", "ci95_high"].map(str::to_owned).into_iter();
    let header = header.chain(marked.then(|| bars.mark.to_owned())).chain(bars.parts.iter().cloned()).collect();
    let row = |bar: &super::bars::Bar| {
        let (low, high) = bar.interval.unzip();
        let numbers = [bar.value, low, high].map(number).into_iter().chain(marked.then(|| number(bar.mark)));
        std::iter::once(bar.name.clone()).chain(numbers).chain(bar.parts.iter().map(f64::to_string)).collect()
    };
    (header, bars.rows.iter().map(row).collect())
}

fn of_lines(lines: &Lines) -> (Vec<String>, Vec<Vec<String>>) {
    let row = |curve: &str, kind: &str, (x, y): &(f64, f64)| {
        vec![curve.to_owned(), kind.to_owned(), lines.x.value(*x).to_string(), lines.y.value(*y).to_string()]
    };
    let rows = lines.curves.iter().flat_map(|curve| {
        let points = curve.points.iter().map(|point| row(&curve.name, "curve", point));
        points.chain(curve.dots.iter().map(|dot| row(&curve.name, "dot", dot))).collect::<Vec<_>>()
    });
    (["series", "kind", "x", "y"].map(str::to_owned).to_vec(), rows.collect())
}

fn of_spans(spans: &Spans) -> (Vec<String>, Vec<Vec<String>>) {
    let row = |span: &super::spans::Span| {
        let (from, to) = (span.from.to_string(), span.to.to_string());
        vec![spans.rows[span.row].clone(), spans.kinds[span.kind].clone(), from, to, span.what.clone()]
    };
    (["row", "kind", "from", "to", "what"].map(str::to_owned).to_vec(), spans.bars.iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::figures::figures;
    use crate::report::sample;

    #[test]
    fn the_csv_has_what_the_figure_shows() {
        let comparison = sample::comparison();
        for figure in figures(&comparison) {
            let text = figure.csv();
            let mut reader = csv::Reader::from_reader(text.as_bytes());
            let rows = reader.records().flatten().count();
            let shown: usize = figure.points()["series"]
                .as_array()
                .expect("series")
                .iter()
                .map(|series| series["points"].as_array().expect("points").len())
                .sum();
            let per_row = match &figure.chart {
                Chart::Bars(bars) => bars.parts.len().max(1),
                Chart::Lines(_) | Chart::Spans(_) => 1,
            };
            assert_eq!(rows * per_row, shown, "{}", figure.name);
        }
        let violations = figures(&comparison).into_iter().find(|figure| figure.name == "violations").expect("a figure");
        assert_eq!(violations.csv().lines().nth(1), Some("vanilla,90,,"));
        let latency = figures(&comparison).into_iter().find(|figure| figure.name == "latency").expect("a figure");
        let last = latency.csv().lines().last().expect("rows").split(',').map(str::to_owned).collect::<Vec<_>>();
        let seconds: f64 = last[2].parse().expect("seconds, not their logarithm");
        assert!((300.0..340.0).contains(&seconds) && last[3] == "1", "{last:?}");
    }
}
