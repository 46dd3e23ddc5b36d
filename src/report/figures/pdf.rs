//! Figures as PDF: vectors, and text in the bundled fonts. Each file contains only the letters that it uses. Equal
//! figures give equal bytes, because a file has no date and no random identifier.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io::Write;

use pdf_writer::types::{CidFontType, FontFlags, LineJoinStyle, SystemInfo, UnicodeCmap};
use pdf_writer::{Content, Filter, Finish, Name, Pdf, Rect, Ref, Str, TextStr};
use plotters_backend::text_anchor::{HPos, VPos};
use plotters_backend::{BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind};
use plotters_backend::{FontStyle, FontTransform};
use subsetter::GlyphRemapper;
use ttf_parser::Face;

use super::DrawError;
use super::canvas::{REGULAR, SEMIBOLD, SVG_LINE};

/// Distance of the handles of four Bezier curves that form a circle, as a share of the radius.
const HANDLE: f32 = 0.552_285;

/// Numbering of glyphs: the font's own numbers.
const IDENTITY: SystemInfo<'static> = SystemInfo { registry: Str(b"Adobe"), ordering: Str(b"Identity"), supplement: 0 };

/// Font and the part of it that the page uses.
struct Font {
    data: &'static [u8],
    face: Face<'static>,
    used: GlyphRemapper,
    /// Letter and its width in thousandths of an em, by the letter's number in the file.
    letters: BTreeMap<u16, (char, f32)>,
}

impl Font {
    fn new(data: &'static [u8]) -> Result<Self, DrawError> {
        let face = Face::parse(data, 0).map_err(|error| DrawError(format!("the bundled font: {error}")))?;
        Ok(Self { data, face, used: GlyphRemapper::new(), letters: BTreeMap::new() })
    }

    /// Returns the numbers of a text's letters in the file, and the width of the text in thousandths of an em.
    fn encoded(&mut self, text: &str) -> (Vec<u8>, f32) {
        let (mut bytes, mut all) = (Vec::new(), 0.0);
        for letter in text.chars() {
            let glyph = self.face.glyph_index(letter).unwrap_or_default();
            let advance = self.face.glyph_hor_advance(glyph).unwrap_or_default();
            let width = f32::from(advance) * 1000.0 / f32::from(self.face.units_per_em());
            let number = self.used.remap(glyph.0);
            self.letters.entry(number).or_insert((letter, width));
            bytes.extend(number.to_be_bytes());
            all += width;
        }
        (bytes, all)
    }
}

/// Page that figures are drawn on.
pub(super) struct Page {
    /// Width and height, in drawing pixels.
    size: (u32, u32),
    content: Content,
    fonts: [Font; 2],
    /// Opacities that the page uses, in hundredths.
    opacities: BTreeSet<u8>,
}

/// Page as a backend of the drawing library.
pub(super) struct Canvas<'a>(pub(super) &'a mut Page);

type Drawn = Result<(), DrawingErrorKind<Infallible>>;

impl Page {
    /// Makes an empty page. The size is in drawing pixels, each of `points_per_pixel` points.
    pub(super) fn new(size: (u32, u32), points_per_pixel: f32) -> Result<Self, DrawError> {
        let mut content = Content::new();
        // The drawing's origin is at the top, the origin of PDF at the bottom.
        let scale = points_per_pixel;
        content.transform([scale, 0.0, 0.0, -scale, 0.0, size.1 as f32 * scale]);
        content.set_line_join(LineJoinStyle::RoundJoin);
        Ok(Self { size, content, fonts: [Font::new(REGULAR)?, Font::new(SEMIBOLD)?], opacities: BTreeSet::new() })
    }

    fn set_opacity(&mut self, alpha: f64) {
        // PDF has opacities only as named states of the page, so they are rounded to a few that `finish` writes once
        // each.
        let hundredths = (alpha.clamp(0.0, 1.0) * 100.0).round() as u8;
        self.opacities.insert(hundredths);
        self.content.set_parameters(Name(format!("G{hundredths}").as_bytes()));
    }

    fn set_fill(&mut self, colour: BackendColor) {
        self.set_opacity(colour.alpha);
        let [red, green, blue] = parts(colour);
        self.content.set_fill_rgb(red, green, blue);
    }

    fn set_stroke(&mut self, style: &impl BackendStyle) {
        let colour = style.color();
        self.set_opacity(colour.alpha);
        let [red, green, blue] = parts(colour);
        self.content.set_stroke_rgb(red, green, blue).set_line_width(style.stroke_width() as f32);
    }

    fn trace(&mut self, points: impl IntoIterator<Item = BackendCoord>) {
        for (at, (x, y)) in points.into_iter().enumerate() {
            if at == 0 {
                self.content.move_to(x as f32, y as f32);
            } else {
                self.content.line_to(x as f32, y as f32);
            }
        }
    }

    fn trace_circle(&mut self, (x, y): (f32, f32), radius: f32) {
        let handle = radius * HANDLE;
        self.content.move_to(x + radius, y);
        self.content.cubic_to(x + radius, y + handle, x + handle, y + radius, x, y + radius);
        self.content.cubic_to(x - handle, y + radius, x - radius, y + handle, x - radius, y);
        self.content.cubic_to(x - radius, y - handle, x - handle, y - radius, x, y - radius);
        self.content.cubic_to(x + handle, y - radius, x + radius, y - handle, x + radius, y);
        self.content.close_path();
    }

    /// Returns the bytes of the file. `points` is the size of the page, in points.
    pub(super) fn finish(self, title: &str, points: (f32, f32)) -> Result<Vec<u8>, DrawError> {
        let mut pdf = Pdf::new();
        let [catalog, pages, page, content, info] = [1, 2, 3, 4, 5].map(Ref::new);
        pdf.catalog(catalog).pages(pages);
        pdf.pages(pages).kids([page]).count(1);
        let mut own = pdf.page(page);
        own.media_box(Rect::new(0.0, 0.0, points.0, points.1)).parent(pages).contents(content);
        let mut resources = own.resources();
        let mut fonts = resources.fonts();
        for (at, _) in (0_u8..).zip(&self.fonts).filter(|(_, font)| !font.letters.is_empty()) {
            fonts.pair(Name(font_name(at)), font_refs(at)[0]);
        }
        fonts.finish();
        let mut states = resources.ext_g_states();
        for hundredths in &self.opacities {
            let opacity = f32::from(*hundredths) / 100.0;
            let mut state = states
                .insert(Name(format!("G{hundredths}").as_bytes()))
                .start::<pdf_writer::writers::ExtGraphicsState<'_>>();
            state.stroking_alpha(opacity).non_stroking_alpha(opacity);
        }
        states.finish();
        resources.finish();
        own.finish();
        let drawn = deflated(self.content.finish().as_slice());
        pdf.stream(content, &drawn).filter(Filter::FlateDecode);
        pdf.document_info(info).title(TextStr(title)).creator(TextStr("modm"));
        for (at, font) in (0_u8..).zip(&self.fonts).filter(|(_, font)| !font.letters.is_empty()) {
            write_font(&mut pdf, at, font)?;
        }
        Ok(pdf.finish())
    }
}

fn parts(colour: BackendColor) -> [f32; 3] {
    let (red, green, blue) = colour.rgb;
    [red, green, blue].map(|part| f32::from(part) / 255.0)
}

const fn font_name(at: u8) -> &'static [u8] {
    if at == 0 { b"F0" } else { b"F1" }
}

/// Returns the PDF objects of a font: the font, its descendant, its descriptor, its file and its map to letters.
fn font_refs(at: u8) -> [Ref; 5] {
    let first = 6 + 5 * i32::from(at);
    [0, 1, 2, 3, 4].map(|own| Ref::new(first + own))
}

/// Writes the part of a font that the page uses.
fn write_font(pdf: &mut Pdf, at: u8, font: &Font) -> Result<(), DrawError> {
    let [itself, descendant, descriptor, file, letters] = font_refs(at);
    // PDF marks a subset by six letters before the font's name.
    let name = Name(if at == 0 { b"MODMAA+OpenSans-Regular" } else { b"MODMAB+OpenSans-Semibold" });
    pdf.type0_font(itself)
        .base_font(name)
        .encoding_predefined(Name(b"Identity-H"))
        .descendant_font(descendant)
        .to_unicode(letters);
    let mut cid = pdf.cid_font(descendant);
    cid.subtype(CidFontType::Type2).base_font(name).system_info(IDENTITY).font_descriptor(descriptor);
    // The subset numbers its letters as the text does, so PDF needs no map between the two.
    cid.cid_to_gid_map_predefined(Name(b"Identity")).default_width(0.0);
    let mut widths = cid.widths();
    for (number, (_, width)) in &font.letters {
        widths.consecutive(*number, [*width]);
    }
    widths.finish();
    cid.finish();
    let face = &font.face;
    let scaled = |units: i16| f32::from(units) * 1000.0 / f32::from(face.units_per_em());
    let bounds = face.global_bounding_box();
    pdf.font_descriptor(descriptor)
        .name(name)
        .flags(FontFlags::NON_SYMBOLIC)
        .bbox(Rect::new(scaled(bounds.x_min), scaled(bounds.y_min), scaled(bounds.x_max), scaled(bounds.y_max)))
        .italic_angle(0.0)
        .ascent(scaled(face.ascender()))
        .descent(scaled(face.descender()))
        .cap_height(scaled(face.capital_height().unwrap_or(face.ascender())))
        .stem_v(if at == 0 { 80.0 } else { 110.0 })
        .font_file2(file);
    let subset = subsetter::subset(font.data, 0, &font.used)
        .map_err(|error| DrawError(format!("the bundled font cannot be cut to what is used: {error}")))?;
    // PDF wants to know the length of a font before it is compressed.
    let length = i32::try_from(subset.len()).unwrap_or(i32::MAX);
    let small = deflated(&subset);
    pdf.stream(file, &small).filter(Filter::FlateDecode).pair(Name(b"Length1"), length);
    let mut map = UnicodeCmap::<u16>::new(Name(b"Letters"), IDENTITY);
    for (number, (letter, _)) in &font.letters {
        map.pair(*number, *letter);
    }
    let map = map.finish();
    let small = deflated(map.as_slice());
    pdf.stream(letters, &small).filter(Filter::FlateDecode);
    Ok(())
}

fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut to = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    let written = to.write_all(bytes).and_then(|()| to.finish());
    written.expect("memory takes what is written to it")
}

impl DrawingBackend for Canvas<'_> {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        self.0.size
    }

    fn ensure_prepared(&mut self) -> Drawn {
        Ok(())
    }

    fn present(&mut self) -> Drawn {
        Ok(())
    }

    fn draw_pixel(&mut self, (x, y): BackendCoord, colour: BackendColor) -> Drawn {
        self.0.set_fill(colour);
        self.0.content.rect(x as f32, y as f32, 1.0, 1.0).fill_nonzero();
        Ok(())
    }

    fn draw_line<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S) -> Drawn {
        self.draw_path([from, to], style)
    }

    fn draw_rect<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S, fill: bool) -> Drawn {
        let corners = (from.0 as f32, from.1 as f32, (to.0 - from.0) as f32, (to.1 - from.1) as f32);
        if fill {
            self.0.set_fill(style.color());
            self.0.content.rect(corners.0, corners.1, corners.2, corners.3).fill_nonzero();
        } else {
            self.0.set_stroke(style);
            self.0.content.rect(corners.0, corners.1, corners.2, corners.3).stroke();
        }
        Ok(())
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, path: I, style: &S) -> Drawn {
        self.0.set_stroke(style);
        self.0.trace(path);
        self.0.content.stroke();
        Ok(())
    }

    fn draw_circle<S: BackendStyle>(&mut self, (x, y): BackendCoord, radius: u32, style: &S, fill: bool) -> Drawn {
        if fill {
            self.0.set_fill(style.color());
        } else {
            self.0.set_stroke(style);
        }
        self.0.trace_circle((x as f32, y as f32), radius as f32);
        if fill {
            self.0.content.fill_nonzero();
        } else {
            self.0.content.stroke();
        }
        Ok(())
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, corners: I, style: &S) -> Drawn {
        self.0.set_fill(style.color());
        self.0.trace(corners);
        self.0.content.close_path().fill_nonzero();
        Ok(())
    }

    fn draw_text<S: BackendTextStyle>(&mut self, text: &str, style: &S, (x, y): BackendCoord) -> Drawn {
        debug_assert!(matches!(style.transform(), FontTransform::None), "no text of ours is turned");
        self.0.set_fill(style.color());
        let at = u8::from(matches!(style.style(), FontStyle::Bold));
        let em = (style.size() / SVG_LINE) as f32;
        let face = &self.0.fonts[usize::from(at)].face;
        let x_height = face.x_height().map_or(0.5, |units| f32::from(units) / f32::from(face.units_per_em()));
        let (letters, thousandths) = self.0.fonts[usize::from(at)].encoded(text);
        let width = thousandths / 1000.0 * em;
        let left = match style.anchor().h_pos {
            HPos::Left => 0.0,
            HPos::Center => width / 2.0,
            HPos::Right => width,
        };
        // The vertical place of text relative to its anchor is the same as in the drawing library's SVG.
        let down = match style.anchor().v_pos {
            VPos::Top => 0.76,
            VPos::Center => x_height / 2.0,
            VPos::Bottom => -x_height / 2.0,
        };
        self.0.content.begin_text().set_font(Name(font_name(at)), em);
        // The page is mirrored vertically, so text is mirrored once more to stand upright.
        self.0.content.set_text_matrix([1.0, 0.0, 0.0, -1.0, x as f32 - left, y as f32 + down * em]);
        self.0.content.show(Str(&letters)).end_text();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::report::figures::{Look, figures};
    use crate::report::sample;

    #[test]
    fn a_file_is_whole_and_small_and_has_its_letters() {
        let figure = figures(&sample::comparison()).remove(0);
        let bytes = figure.pdf(Look::default()).expect("a figure");
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.starts_with("%PDF-") && text.trim_end().ends_with("%%EOF") && text.contains("startxref"));
        assert!(text.contains("MODMAA+OpenSans-Regular") && text.contains("/FontFile2") && text.contains("/ToUnicode"));
        assert!(text.contains("/MediaBox [0 0 570 "), "760 pixels of 0.75 points: {text}");
        assert!(!text.contains("CreationDate") && bytes.len() < 60_000, "{} bytes", bytes.len());
        assert!(bytes == figure.pdf(Look::default()).expect("again"), "the same bytes");
    }
}
