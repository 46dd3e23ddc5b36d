//! Conversion of a chart to SVG text, PNG or PDF bytes. All formats share one drawing code. It draws on a grid that is
//! four times finer than the figure's pixels, because the drawing library places everything on whole pixels.

use std::cell::RefCell;
use std::sync::OnceLock;

use plotters::backend::{BitMapBackend, SVGBackend};
use plotters::coord::Shift;
use plotters::prelude::{DrawingArea, DrawingBackend, IntoDrawingArea, RGBAColor, RGBColor};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontDesc, FontStyle, TextStyle, register_font};

use super::look::Look;
use super::{Chart, DrawError, pdf};

/// Drawing pixels per pixel of the figure.
pub(super) const FINE: i32 = 4;
/// Pixels of a PNG per pixel of the figure: a PNG has twice the figure's size.
const FINE_PNG: i32 = 2;
/// Colour that stands for the text colour of a page: [`svg_element`] replaces it in the SVG text.
const PAGE_INK: RGBColor = RGBColor(1, 2, 3);
const PAGE_INK_TEXT: &str = "#010203";

/// Properties that differ between a figure in a page and a figure in a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Theme {
    ink: RGBColor,
    background: Option<RGBColor>,
    line: f64,
}

impl Theme {
    /// Theme of an SVG or PDF file: dark on white.
    const SVG: Self = Self { ink: RGBColor(31, 41, 51), background: Some(RGBColor(255, 255, 255)), line: SVG_LINE };
    const PNG: Self = Self { line: FONT_LINE, ..Self::SVG };
    /// Theme of a figure inside a page: transparent, in the page's text colour.
    const PAGE: Self = Self { ink: PAGE_INK, background: None, line: SVG_LINE };

    /// Returns the ink; a `strength` below 1 makes it paler.
    pub(super) fn ink(self, strength: f64) -> RGBAColor {
        self.ink.mix(strength)
    }

    /// Returns the style of a text; `size` is in pixels of the figure.
    pub(super) fn text(self, size: i32, strength: f64, h: HPos, v: VPos) -> TextStyle<'static> {
        let mut style = TextStyle::from(font(size, self.line, FontStyle::Normal)).pos(Pos::new(h, v));
        style.color = self.ink(strength).to_backend_color();
        style
    }

    /// Returns the style of a title; `size` is in pixels of the figure.
    pub(super) fn title(self, size: i32) -> TextStyle<'static> {
        let mut style = TextStyle::from(font(size, self.line, FontStyle::Bold)).pos(Pos::new(HPos::Left, VPos::Top));
        style.color = self.ink(1.0).to_backend_color();
        style
    }
}

/// Height of a line, in em, in the drawing library's SVG backend. The library's font sizes are those of a line, the
/// figures' sizes are those of the em, as in CSS. The library takes a line as 1.24 em in an SVG; in a bitmap it uses
/// the bundled font's line.
pub(super) const SVG_LINE: f64 = 1.24;
const FONT_LINE: f64 = 1.362;

fn font(size: i32, line: f64, style: FontStyle) -> FontDesc<'static> {
    ("sans-serif", f64::from(size * FINE) * line, style).into()
}

/// Returns the space to leave for a text, in drawing pixels. The space is an eighth more than measured, because viewers
/// show SVG in their own fonts, and some of those are wider.
pub(super) fn text_width(text: &str, size: i32) -> i32 {
    // A text may be measured before anything is drawn. Without fonts, drawing returns an error and measuring returns 0.
    let _ = register_fonts();
    let measured = font(size, FONT_LINE, FontStyle::Normal).box_size(text).map_or(0, |(width, _)| width);
    (measured + measured / 8).cast_signed()
}

/// Font files that are part of the program.
pub(super) const REGULAR: &[u8] = include_bytes!("../../../assets/fonts/OpenSans-Regular.ttf");
pub(super) const SEMIBOLD: &[u8] = include_bytes!("../../../assets/fonts/OpenSans-Semibold.ttf");

/// Registers the bundled fonts with the drawing library, once.
fn register_fonts() -> Result<(), DrawError> {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    let registered = *REGISTERED.get_or_init(|| {
        register_font("sans-serif", FontStyle::Normal, REGULAR).is_ok()
            && register_font("sans-serif", FontStyle::Bold, SEMIBOLD).is_ok()
    });
    if registered { Ok(()) } else { Err(DrawError("the bundled font cannot be read".into())) }
}

fn draw<DB: DrawingBackend>(chart: &Chart, backend: DB, theme: Theme, look: Look) -> Result<(), DrawError> {
    let area: DrawingArea<DB, Shift> = backend.into_drawing_area();
    let drawn = theme.background.map_or(Ok(()), |colour| area.fill(&colour));
    let drawn = drawn.and_then(|()| match chart {
        Chart::Bars(bars) => bars.draw(&area, theme, look),
        Chart::Lines(lines) => lines.draw(&area, theme, look),
        Chart::Spans(spans) => spans.draw(&area, theme, look),
    });
    drawn.and_then(|()| area.present()).map_err(|error| DrawError(error.to_string()))
}

fn fine_size(chart: &Chart, look: Look) -> (u32, u32) {
    let (width, height) = chart.size(look);
    ((width * FINE).unsigned_abs(), (height * FINE).unsigned_abs())
}

fn svg_text(chart: &Chart, theme: Theme, look: Look, attributes: &str, inner: &str) -> Result<String, DrawError> {
    register_fonts()?;
    let mut text = String::new();
    draw(chart, SVGBackend::with_string(&mut text, fine_size(chart, look)), theme, look)?;
    // The opening tag is written here. The library would only state the size of the fine grid, but a figure also needs
    // its own size, and a text for readers who cannot see it.
    let (_, body) = text.split_once(">\n").ok_or_else(|| DrawError("the SVG has no body".into()))?;
    let (width, height) = chart.size(look);
    let (width, height) = (look.svg_length(width), look.svg_length(height));
    let (fine_width, fine_height) = fine_size(chart, look);
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {fine_width} {fine_height}\" role=\"img\" stroke-linejoin=\"round\"{attributes}>\n{inner}{body}"
    ))
}

/// Draws a chart as an SVG file.
pub(super) fn svg_file(chart: &Chart, look: Look, inner: &str) -> Result<String, DrawError> {
    svg_text(chart, Theme::SVG, look, "", inner)
}

/// Draws a chart as an SVG element for a page that is light or dark.
pub(super) fn svg_element(chart: &Chart, attributes: &str, inner: &str) -> Result<String, DrawError> {
    Ok(svg_text(chart, Theme::PAGE, Look::default(), attributes, inner)?.replace(PAGE_INK_TEXT, "currentColor"))
}

/// Draws a chart as a PDF file, with vectors and text.
pub(super) fn pdf_file(chart: &Chart, look: Look, title: &str) -> Result<Vec<u8>, DrawError> {
    register_fonts()?;
    let (width, height) = chart.size(look);
    let points = (look.points(width), look.points(height));
    let fine = fine_size(chart, look);
    let mut page = pdf::Page::new(fine, points.0 / fine.0 as f32)?;
    draw(chart, pdf::Canvas(&mut page), Theme::SVG, look)?;
    page.finish(title, points)
}

std::thread_local! {
    /// Drawing buffer of a thread at the size before shrinking. The buffer has tens of megabytes: a new one for every
    /// figure would have to be cleared by the operating system each time.
    static FINE_PIXELS: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Draws a chart as a PNG file of twice the figure's size.
pub(super) fn png_file(chart: &Chart, look: Look) -> Result<Vec<u8>, DrawError> {
    register_fonts()?;
    let (fine_width, fine_height) = fine_size(chart, look);
    let shrink = (FINE / FINE_PNG) as usize;
    let pixels = FINE_PIXELS.with_borrow_mut(|fine| {
        fine.clear();
        fine.resize(fine_width as usize * fine_height as usize * 3, 0);
        draw(chart, BitMapBackend::with_buffer(fine, (fine_width, fine_height)), Theme::PNG, look)?;
        Ok(shrunk(fine, fine_width as usize, shrink))
    })?;

    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, fine_width / shrink as u32, fine_height / shrink as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Balanced);
    encoder.set_filter(png::Filter::Up);
    let written = encoder.write_header().and_then(|mut writer| writer.write_image_data(&pixels));
    written.map_err(|error| DrawError(error.to_string()))?;
    Ok(bytes)
}

/// Shrinks a bitmap: each pixel is the mean of a square of `shrink` x `shrink` pixels. The result has smooth edges,
/// which the drawing library's own bitmaps lack.
fn shrunk(fine: &[u8], fine_width: usize, shrink: usize) -> Vec<u8> {
    let row = fine_width * 3;
    let square = (shrink * shrink) as u16;
    let mut pixels = Vec::with_capacity(fine.len() / (shrink * shrink));
    // Sums over squares of up to 16 x 16 pixels fit into 16 bits.
    let mut sums = vec![0_u16; row];
    for rows in fine.chunks_exact(row * shrink) {
        sums.fill(0);
        for line in rows.chunks_exact(row) {
            for (sum, value) in sums.iter_mut().zip(line) {
                *sum += u16::from(*value);
            }
        }
        for pixel in sums.chunks_exact(3 * shrink) {
            let sum = |channel: usize| pixel[channel..].iter().step_by(3).sum::<u16>();
            pixels.extend([0, 1, 2].map(|channel| (sum(channel) / square) as u8));
        }
    }
    pixels
}
