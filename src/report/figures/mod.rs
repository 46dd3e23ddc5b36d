//! Figures of a comparison. A [`Figure`] holds the data that it shows. `bars`, `lines` and `spans` draw it, and
//! `canvas` makes SVG, PNG or PDF of the drawing.

use crate::output::escaped;
use crate::report::capacity::figures as capacity_figures;
use crate::report::{Comparison, ReportFile};

mod axis;
pub(super) mod bars;
mod calibration;
mod canvas;
mod data;
mod gantt;
mod header;
mod labels;
mod latency;
mod lines;
mod look;
mod over_time;
mod pareto;
mod pdf;
mod spans;
mod swept;
mod symbols;
mod throughput;
mod totals;

pub(super) use axis::Axis;
use bars::Bars;
pub use calibration::calibration;
pub(super) use lines::{Curve, Dots, Lines};
pub use look::{Look, Width};
use spans::Spans;
pub use swept::swept;

/// Error of a figure that could not be drawn. The cause is a defect of the program, not of the data.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("drawing a figure: {0}")]
pub struct DrawError(String);

/// Figure with its name, title and description.
#[derive(Clone, Debug)]
pub struct Figure {
    /// Stem of the names of the figure's files.
    pub name: String,
    /// Title of the figure, in one line.
    pub title: String,
    /// Description for readers who cannot see the figure.
    pub description: String,
    chart: Chart,
}

/// Chart of a figure. Pixels in charts are those of the figure; each is drawn on a finer grid.
#[derive(Clone, Debug)]
enum Chart {
    /// Horizontal bars.
    Bars(Bars),
    /// Curves or dots over an x axis.
    Lines(Lines),
    /// Bars in rows over time.
    Spans(Spans),
}

impl Chart {
    fn size(&self, look: Look) -> (i32, i32) {
        match self {
            Self::Bars(bars) => bars.size(look),
            Self::Lines(lines) => lines.size(look),
            Self::Spans(spans) => spans.size(look),
        }
    }
}

impl Figure {
    /// Makes a figure of curves. The title of the figure is that of the chart.
    pub(super) fn lines(name: &str, description: String, chart: Lines) -> Self {
        Self { name: name.to_owned(), title: chart.title.clone(), description, chart: Chart::Lines(chart) }
    }

    /// Makes a figure of bars. The title of the figure is that of the chart.
    pub(super) fn bars(name: &str, description: String, chart: Bars) -> Self {
        Self { name: name.to_owned(), title: chart.title.clone(), description, chart: Chart::Bars(chart) }
    }

    /// Makes a figure of spans in rows over time. The title of the figure is that of the chart.
    fn spans(name: &str, description: String, chart: Spans) -> Self {
        Self { name: name.to_owned(), title: chart.title.clone(), description, chart: Chart::Spans(chart) }
    }

    /// Returns the figure as an SVG file, dark on white.
    ///
    /// # Errors
    /// See [`DrawError`].
    pub fn svg(&self, look: Look) -> Result<String, DrawError> {
        canvas::svg_file(&self.chart, look, &self.words(""))
    }

    /// Returns the figure as an SVG element for a page: transparent, in the page's text colour.
    ///
    /// # Errors
    /// See [`DrawError`].
    pub fn element(&self) -> Result<String, DrawError> {
        let name = &self.name;
        let labels = format!(" aria-labelledby=\"{name}-title {name}-description\"");
        canvas::svg_element(&self.chart, &labels, &self.words(name))
    }

    /// Returns the figure as a PNG file, dark on white.
    ///
    /// # Errors
    /// See [`DrawError`].
    pub fn png(&self, look: Look) -> Result<Vec<u8>, DrawError> {
        canvas::png_file(&self.chart, look)
    }

    /// Returns the figure as a PDF file, dark on white, with vectors and text that can be selected.
    ///
    /// # Errors
    /// See [`DrawError`].
    pub fn pdf(&self, look: Look) -> Result<Vec<u8>, DrawError> {
        canvas::pdf_file(&self.chart, look, &self.title)
    }

    /// Returns the files of the figure: `figures/NAME.svg`, `.png`, `.pdf` and `.csv`.
    ///
    /// # Errors
    /// See [`DrawError`].
    pub(in crate::report) fn files(&self, look: Look) -> Result<[ReportFile; 4], DrawError> {
        let file = |ending: &str, bytes| ReportFile { path: format!("figures/{}.{ending}", self.name), bytes };
        Ok([
            file("svg", self.svg(look)?.into_bytes()),
            file("png", self.png(look)?),
            file("pdf", self.pdf(look)?),
            file("csv", self.csv().into_bytes()),
        ])
    }

    fn words(&self, id: &str) -> String {
        let id = |part: &str| if id.is_empty() { String::new() } else { format!(" id=\"{id}-{part}\"") };
        let (title, description) = (escaped(&self.title), escaped(&self.description));
        format!("<title{}>{title}</title>\n<desc{}>{description}</desc>\n", id("title"), id("description"))
    }
}

/// Makes the figures of a comparison.
#[must_use]
pub fn figures(comparison: &Comparison) -> Vec<Figure> {
    let capacities = comparison.capacities.as_ref();
    let origin = comparison.origin();
    let made = throughput::figure(comparison).into_iter();
    made.chain(capacities.and_then(|found| capacity_figures::quality(found, &origin)))
        .chain(capacities.and_then(|found| capacity_figures::attainment(found, &origin)))
        .chain(latency::figure(comparison))
        .chain(totals::figures(comparison))
        .chain(pareto::figures(comparison))
        .chain(over_time::figures(comparison))
        .chain(gantt::figures(comparison))
        .collect()
}

/// Makes the figure of the distribution of latency alone, under another name and title; `None` without runs.
#[must_use]
pub fn latencies(comparison: &Comparison, name: &str, title: String) -> Option<Figure> {
    latency::titled(comparison, name, title)
}

/// Formats the origin of the numbers that every figure states: "sample, 3 seeds; stand-in embeddings".
pub(super) fn origin(name: &str, seeds: usize, stand_ins: &[String]) -> String {
    let seeds = if seeds == 1 { "one seed".to_owned() } else { format!("{seeds} seeds") };
    let stand_ins = if stand_ins.is_empty() { "" } else { "; stand-in embeddings" };
    format!("{name}, {seeds}{stand_ins}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Run, sample};

    /// Returns every form that files can have.
    fn looks() -> impl Iterator<Item = Look> {
        let widths = [Width::Screen, Width::Column, Width::Page].into_iter();
        widths.flat_map(|width| [false, true].map(|untitled| Look { width, untitled }))
    }

    fn drawn(comparison: &Comparison) -> Vec<(String, String, Vec<u8>, Vec<u8>)> {
        let look = Look::default();
        let draw = |figure: &Figure| Ok((figure.svg(look)?, figure.element()?, figure.png(look)?, figure.pdf(look)?));
        figures(comparison).iter().map(draw).collect::<Result<_, DrawError>>().expect("figures are drawn")
    }

    #[test]
    fn figures_repeat_byte_for_byte() {
        let comparison = sample::comparison();
        assert_eq!(drawn(&comparison).len(), 10);
        assert!(drawn(&comparison) == drawn(&comparison));
    }

    #[test]
    fn names_are_escaped_and_numbers_finite() {
        let mut comparison = sample::comparison();
        comparison.runs[1].variant = "<b>&".into();
        for (file, element, ..) in drawn(&comparison) {
            for text in [file, element] {
                assert!(!text.contains("<b>") && text.contains("&lt;b&gt;&amp;"), "{text}");
                assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
            }
        }
    }

    #[test]
    fn a_page_gives_the_colour_of_text() {
        for (file, element, ..) in drawn(&sample::comparison()) {
            assert!(element.contains("currentColor") && !element.contains("#010203") && !element.contains("#FFFFFF"));
            assert!(!file.contains("currentColor"));
        }
    }

    #[test]
    fn runs_without_anything_are_drawn() {
        drawn(&Comparison::default());
        let empty = Run { variant: "empty".into(), ..Run::default() };
        drawn(&Comparison { runs: vec![empty.clone()], ..Comparison::default() });
        let long = Run { variant: "a very long name ".repeat(20), ..sample::modm() };
        drawn(&Comparison { runs: vec![empty, long], ..Comparison::default() });
    }

    #[test]
    fn titles_and_origin_are_left_out_for_papers_and_axes_stay() {
        for figure in figures(&sample::comparison()) {
            for look in looks() {
                let svg = figure.svg(look).expect("a figure");
                // The description for readers who cannot see the figure is always there.
                let (_, seen) = svg.split_once("</desc>").expect("a description");
                let texts: Vec<&str> = seen.lines().filter(|line| !line.contains(['<', '>'])).collect();
                assert_eq!(
                    texts.iter().any(|text| text.contains("sample, one seed")),
                    !look.untitled,
                    "{}",
                    figure.name
                );
                let width = ["width=\"760\"", "width=\"84.00mm\"", "width=\"178.00mm\""][look.width as usize];
                assert!(svg.contains(width) && texts.len() > 3, "{}: {texts:?}", figure.name);
            }
        }
    }

    /// Returns line, left end and right end of each text, at the width that the bundled font gives it.
    fn texts(svg: &str) -> Vec<(i32, i32, i32)> {
        let attribute = |tag: &str, name: &str| {
            let (_, rest) = tag.split_once(&format!(" {name}=\"")).expect("an attribute");
            rest.split_once('"').expect("its end").0.to_owned()
        };
        let mut found = Vec::new();
        for text in svg.split("<text").skip(1) {
            let (tag, rest) = text.split_once(">\n").expect("a tag");
            let words = rest.split_once("\n</text>").expect("its end").0;
            let words = words.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
            let [x, y] = ["x", "y"].map(|name| attribute(tag, name).parse::<i32>().expect("a place"));
            let size: f64 = attribute(tag, "font-size").parse().expect("a size");
            let width = canvas::text_width(&words, (size / f64::from(canvas::FINE)).round() as i32);
            let left = match attribute(tag, "text-anchor").as_str() {
                "start" => x,
                "middle" => x - width / 2,
                _ => x - width,
            };
            found.push((y, left, left + width));
        }
        found
    }

    #[test]
    fn no_text_runs_into_another_on_its_line_or_out_of_the_figure() {
        let mut comparison = sample::comparison();
        for (name, seconds) in [("modm-sana", 37.0), ("pinecone", 38.5), ("nirvana-with-a-long-name", 90.0)] {
            let mut run = sample::modm();
            run.variant = name.into();
            run.summary.serving_gpu_s_per_request = Some(seconds);
            comparison.runs.push(run);
        }
        comparison.published.insert(
            "modm-sdxl".into(),
            crate::published::Published { throughput_ratio: Some(2.5), ..crate::published::Published::default() },
        );
        for figure in figures(&comparison) {
            for look in looks() {
                let mut found = texts(&figure.svg(look).expect("a figure"));
                found.sort_unstable();
                let right = look.pixels() * canvas::FINE;
                for (_, from, to) in &found {
                    assert!(*from >= 0 && *to <= right, "{} {look:?}: {from}..{to} of {right}", figure.name);
                }
                for pair in found.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
                    assert!(pair[0].2 <= pair[1].1, "{} {look:?}: {pair:?}", figure.name);
                }
            }
        }
    }
}
