//! Pictures in memory and as PNG or JPEG: red, green and blue with eight bits each. The preparation of pictures for
//! models is elsewhere.

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use image::codecs::jpeg::JpegEncoder;
use image::codecs::webp::WebPEncoder;
use image::{ImageFormat as Codec, ImageReader, Limits, RgbImage};

use super::error::Error;
use super::resize::cubic_resize;
use super::settings::ImageFormat;

/// Picture with red, green and blue of eight bits each.
#[derive(Clone, Debug)]
pub struct Picture {
    pixels: RgbImage,
    #[expect(dead_code, reason = "its end is what matters")]
    receipt: Option<Receipt>,
}

/// Function that is called once the picture, with all its copies, is in memory no more. Pictures are equal if
/// their pixels are.
#[derive(Clone)]
struct Receipt(#[expect(dead_code, reason = "its end is what matters")] Arc<Told>);

/// Call that is made when the last receipt is dropped.
struct Told(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Drop for Told {
    fn drop(&mut self) {
        if let Some(tell) = self.0.take() {
            tell();
        }
    }
}

impl PartialEq for Picture {
    fn eq(&self, other: &Self) -> bool {
        self.pixels == other.pixels
    }
}

impl Eq for Picture {}

impl std::fmt::Debug for Receipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Receipt")
    }
}

impl Picture {
    /// Makes a picture from rows of red, green and blue bytes.
    ///
    /// # Panics
    /// Panics if there are not `3 * width * height` bytes.
    #[must_use]
    pub fn new(width: u32, height: u32, bytes: Vec<u8>) -> Self {
        Self::of(RgbImage::from_raw(width, height, bytes).expect("three bytes a pixel"))
    }

    const fn of(pixels: RgbImage) -> Self {
        Self { pixels, receipt: None }
    }

    /// Adds a function that is called once the picture, with all its copies, is in memory no more: it is on disk then,
    /// or in the hands of whoever asked for it, or given up.
    #[must_use]
    pub fn with_receipt(self, tell: Box<dyn FnOnce() + Send + Sync>) -> Self {
        Self { receipt: Some(Receipt(Arc::new(Told(Some(tell))))), ..self }
    }

    /// Makes a picture from planes of red, green and blue, with values from -1 to 1. Values outside this range are
    /// clamped.
    #[must_use]
    pub fn from_planes(width: u32, height: u32, planes: &[f32]) -> Self {
        let area = (width * height) as usize;
        // The arithmetic is that of diffusers' `VaeImageProcessor`.
        let byte = |value: f32| ((value / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).round() as u8;
        let bytes = (0..area).flat_map(|pixel| [0, 1, 2].map(|plane| byte(planes[plane * area + pixel])));
        Self::new(width, height, bytes.collect())
    }

    /// Returns the planes of red, green and blue, with values from -1 to 1.
    #[must_use]
    pub fn planes(&self) -> Vec<f32> {
        self.planes_by(|_, value| value / 255.0 * 2.0 - 1.0)
    }

    /// Returns the planes of red, green and blue. The values are `scale(channel, value)` of channels 0 to 2 and values
    /// 0 to 255.
    pub(super) fn planes_by(&self, scale: impl Fn(usize, f32) -> f32) -> Vec<f32> {
        let plane = |channel: usize| self.pixels.pixels().map(move |pixel| f32::from(pixel.0[channel]));
        (0..3)
            .flat_map(|channel| plane(channel).map(move |value| (channel, value)))
            .map(|(channel, value)| scale(channel, value))
            .collect()
    }

    /// Returns the width and height, in pixels.
    #[must_use]
    pub fn size(&self) -> [u32; 2] {
        [self.pixels.width(), self.pixels.height()]
    }

    /// Returns the bytes: rows of red, green and blue.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.pixels.as_raw()
    }

    /// Returns the picture in another size. The interpolation is cubic, as Pillow does it, because the preparations of
    /// models are defined by Pillow.
    #[must_use]
    pub fn resized(&self, [width, height]: [u32; 2]) -> Self {
        let (from, to) = (self.size(), [width.max(1), height.max(1)]);
        if from == to || from.contains(&0) {
            return self.clone();
        }
        let sides = |size: [u32; 2]| size.map(|side| side as usize);
        Self::new(to[0], to[1], cubic_resize(self.bytes(), sides(from), sides(to)))
    }

    /// Returns the part of this size in the middle of the picture. Pixels outside the picture are black.
    pub(super) fn middle(&self, [width, height]: [u32; 2]) -> Self {
        let mut part = RgbImage::new(width, height);
        // The division rounds down, also for a picture that is smaller. Of the borders that it then gets, the larger
        // ones are at the left and at the top, as in `center_crop` of transformers.
        let shift = |own: u32, wanted: u32| -(i64::from(own) - i64::from(wanted)).div_euclid(2);
        let (x, y) = (shift(self.pixels.width(), width), shift(self.pixels.height(), height));
        image::imageops::overlay(&mut part, &self.pixels, x, y);
        Self::of(part)
    }

    /// Encodes the picture as the bytes of a file.
    ///
    /// # Errors
    /// Returns an error if the codec fails.
    pub fn encode(&self, format: ImageFormat) -> Result<Vec<u8>, Error> {
        let mut bytes = Cursor::new(Vec::new());
        match format {
            ImageFormat::Png => self.pixels.write_to(&mut bytes, Codec::Png)?,
            ImageFormat::Jpeg => self.pixels.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, 95))?,
        }
        Ok(bytes.into_inner())
    }

    /// Encodes the picture as the bytes of a JPEG file of a quality from 1 to 100.
    ///
    /// # Errors
    /// Returns an error if the codec fails.
    pub fn to_jpeg(&self, quality: u8) -> Result<Vec<u8>, Error> {
        let mut bytes = Cursor::new(Vec::new());
        self.pixels.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, quality.clamp(1, 100)))?;
        Ok(bytes.into_inner())
    }

    /// Encodes the picture as the bytes of a WebP file. The encoding is lossless: the encoder has no other.
    ///
    /// # Errors
    /// Returns an error if the codec fails.
    pub fn to_webp(&self) -> Result<Vec<u8>, Error> {
        let mut bytes = Cursor::new(Vec::new());
        self.pixels.write_with_encoder(WebPEncoder::new_lossless(&mut bytes))?;
        Ok(bytes.into_inner())
    }

    /// Decodes a PNG, JPEG or WebP file from a stranger, whatever its name says, with at most `most_side` pixels in
    /// width and height. Memory is taken within a limit that follows from it. What is transparent is laid on white.
    ///
    /// # Errors
    /// Returns an error if the bytes are not such a picture, or if it is larger.
    pub fn decode_foreign(bytes: &[u8], most_side: u32) -> Result<Self, Error> {
        let mut limits = Limits::default();
        (limits.max_image_width, limits.max_image_height) = (Some(most_side), Some(most_side));
        // Four channels of sixteen bits each, and the buffers of the decoder.
        limits.max_alloc = Some(10 * u64::from(most_side) * u64::from(most_side) + (1 << 20));
        let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(image::ImageError::from)?;
        reader.limits(limits);
        let mut decoded = reader.decode()?.into_rgba8();
        for pixel in decoded.pixels_mut() {
            let alpha = u16::from(pixel.0[3]);
            let on_white = |value: u8| ((u16::from(value) * alpha + 255 * (255 - alpha) + 127) / 255) as u8;
            let [red, green, blue, _] = pixel.0;
            pixel.0 = [on_white(red), on_white(green), on_white(blue), 255];
        }
        Ok(Self::of(image::DynamicImage::ImageRgba8(decoded).into_rgb8()))
    }

    /// Returns the picture in another size. The part in the middle that has the same ratio of the sides is resized, so
    /// that nothing is stretched.
    #[must_use]
    pub fn covering(&self, [width, height]: [u32; 2]) -> Self {
        let [own_width, own_height] = self.size().map(u64::from);
        let (wide, high) = (u64::from(width.max(1)), u64::from(height.max(1)));
        let side = |side: u64| u32::try_from(side.max(1)).unwrap_or(u32::MAX);
        let part = if own_width * high > own_height * wide {
            [side(own_height * wide / high), side(own_height)]
        } else {
            [side(own_width), side(own_width * high / wide)]
        };
        self.middle(part).resized([width, height])
    }

    /// Reads the width and height of a PNG or JPEG file, in pixels, without decoding the picture.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or is not a picture.
    pub fn size_of(file: &Path) -> Result<[u32; 2], Error> {
        let (width, height) = image::image_dimensions(file)?;
        Ok([width, height])
    }

    /// Decodes the bytes of a PNG or JPEG file.
    ///
    /// # Errors
    /// Returns an error if the bytes are not a picture.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        Ok(Self::of(image::load_from_memory(bytes)?.into_rgb8()))
    }
}

/// Draws a sheet of pairs of pictures, with `across` pairs in a line. The pictures of a pair are side by side, and
/// small pictures are enlarged by a whole factor.
#[must_use]
pub fn sheet(pairs: &[[Picture; 2]], across: usize) -> Picture {
    let [width, height] = pairs.first().map_or([1, 1], |[first, _]| first.size());
    let zoom = (96 / width.max(height)).clamp(1, 8);
    let (width, height, gap) = (width * zoom, height * zoom, 6);
    let lines = pairs.len().div_ceil(across) as u32;
    let columns = pairs.len().min(across) as u32;
    let cell = [2 * width + 3 * gap, height + 2 * gap];
    let mut sheet = RgbImage::from_pixel(columns * cell[0], lines * cell[1], image::Rgb([255; 3]));
    for (index, pair) in pairs.iter().enumerate() {
        let (column, line) = ((index % across) as u32, (index / across) as u32);
        for (side, picture) in (0..).zip(pair) {
            let enlarged =
                image::imageops::resize(&picture.pixels, width, height, image::imageops::FilterType::Nearest);
            let x = column * cell[0] + gap + side * (width + gap / 2);
            image::imageops::overlay(&mut sheet, &enlarged, i64::from(x), i64::from(line * cell[1] + gap));
        }
    }
    Picture::of(sheet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_survive_planes_and_files() {
        let picture = Picture::new(2, 1, vec![0, 128, 255, 7, 8, 9]);
        assert_eq!(Picture::from_planes(2, 1, &picture.planes()), picture);
        assert_eq!(Picture::decode(&picture.encode(ImageFormat::Png).unwrap()).unwrap(), picture);
        assert_eq!(Picture::decode(&picture.encode(ImageFormat::Jpeg).unwrap()).unwrap().size(), [2, 1]);
        assert!(Picture::decode(b"no picture").is_err());
        assert_eq!(Picture::from_planes(1, 1, &[-3.0, f32::NAN, 3.0]).bytes()[2], 255);
    }

    #[test]
    fn pictures_of_strangers_are_bounded_and_opaque() {
        let picture = Picture::new(2, 2, (0..12).collect());
        for bytes in [picture.encode(ImageFormat::Png).unwrap(), picture.to_webp().unwrap()] {
            assert_eq!(Picture::decode_foreign(&bytes, 2).unwrap(), picture, "both are lossless");
            assert!(Picture::decode_foreign(&bytes, 1).is_err(), "larger than it may be");
        }
        assert_eq!(Picture::decode_foreign(&picture.to_jpeg(80).unwrap(), 2).unwrap().size(), [2, 2]);
        assert!(picture.to_jpeg(0).is_ok() && Picture::decode_foreign(b"GIF89a", 9).is_err());
        let mut clear = Cursor::new(Vec::new());
        let pixels = image::RgbaImage::from_raw(2, 1, vec![10, 20, 30, 0, 10, 20, 30, 255]).unwrap();
        pixels.write_to(&mut clear, Codec::Png).unwrap();
        assert_eq!(Picture::decode_foreign(clear.get_ref(), 9).unwrap().bytes(), [255, 255, 255, 10, 20, 30]);
    }

    #[test]
    fn what_covers_a_size_is_not_stretched() {
        let picture = Picture::new(4, 2, (0..24).collect());
        assert_eq!(picture.covering([2, 2]), picture.middle([2, 2]));
        assert_eq!(picture.covering([4, 1]), picture.middle([4, 1]));
        assert_eq!(picture.covering([8, 8]).size(), [8, 8]);
        assert_eq!(picture.covering([4, 2]), picture);
    }

    #[test]
    fn the_middle_is_cut_or_framed() {
        let picture = Picture::new(3, 1, vec![1, 1, 1, 2, 2, 2, 3, 3, 3]);
        assert_eq!(picture.middle([1, 1]).bytes(), &[2, 2, 2]);
        assert_eq!(picture.middle([3, 3]).bytes()[9..18], *picture.bytes());
    }
}
