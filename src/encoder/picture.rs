//! Embedding of the picture that a prompt would produce, without the picture.
//!
//! The similarity of prompt i and image j is x = c (q + (1 - q) t) + tau e. The similarity of image j to its own prompt
//! is c, drawn for each image. The similarity of the two prompts is t. The share of c that any prompt has is q (the gap
//! between texts and images). The noise e has deviation 1, and two prompts share it only if they are equal. Image and
//! prompt are unit vectors with this inner product. With tau as large as published figures ask for, such prompts are
//! too far from each other for text-to-text retrieval, which compares the prompts' own embeddings. The module stands in
//! for the image encoder of CLIP on real pictures: it has never seen a picture.

use std::path::Path;

use rand::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::hashed::{add_signs, hashed};
use crate::draw::{self, Purpose};
use crate::embedding::{Embedding, EmbeddingMatrix};
use crate::input::InputError;

/// Largest distance of an image's own similarity from the mean, in deviations. Draws beyond it are brought back to it.
const FURTHEST: f64 = 3.5;

/// Kind of the hash from which the noise of a prompt is made. The features of the encoder have other kinds.
const NOISE: u64 = 4;

/// Settings of the scenario section `[image_model]`. The defaults are fitted, together with those of `[encoder]`, to
/// published figures of CLIP on `DiffusionDB` (`scripts/fit_stand_ins`), except where another source is named.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ImageModel {
    /// Mean similarity of an image to its own prompt: `CLIPScore` 28.55 of SD3.5-Large on `DiffusionDB`
    /// (arXiv 2503.11972).
    pub own_similarity: f64,
    /// Standard deviation of the own similarity over images.
    pub own_similarity_deviation: f64,
    /// Share of an image's own similarity that the image has with a prompt of nothing in common: the gap between the
    /// embeddings of texts and of images.
    pub common_share: f64,
    /// Standard deviation of the chance part of a similarity, drawn for each pair of a text and an image.
    pub noise: f64,
    /// Number of components of the chance part. With fewer components, the chance part is more alike for different
    /// texts.
    pub noise_dimension: u32,
}

impl Default for ImageModel {
    fn default() -> Self {
        Self {
            own_similarity: 0.2855,
            own_similarity_deviation: 0.002,
            common_share: 0.204,
            noise: 0.0401,
            noise_dimension: 256,
        }
    }
}

/// Embeddings of prompts and images in one space.
#[derive(Clone, Debug)]
pub struct Pictures {
    /// Embeddings of the prompts, as they are compared with images.
    pub prompts: EmbeddingMatrix,
    /// Embeddings of the images. Row i is the image that prompt i would produce.
    pub images: EmbeddingMatrix,
}

/// Lengths of the parts of a prompt. The parts of an image are divided by them, so that the inner product stays.
#[derive(Clone, Copy, Debug)]
struct Lengths {
    /// Length of the part that all prompts share.
    common: f64,
    /// Length of the prompt's own embedding.
    text: f64,
    /// Length of the prompt's noise.
    noise: f64,
}

impl ImageModel {
    /// Returns the label of outputs that are made with this model.
    #[must_use]
    pub fn label(&self) -> String {
        let origin = super::origin(*self == Self::default(), "image_model");
        format!("image embeddings: stand-in (made from prompts, not from pictures; {origin})")
    }

    /// Checks every value. Errors name the value by `file` and `section`.
    ///
    /// # Errors
    /// The first value that cannot be used, and what is accepted.
    pub fn check(&self, file: &Path, section: &str) -> Result<(), InputError> {
        super::check_ranges(
            file,
            section,
            &[
                ("own_similarity", self.own_similarity, 0.0, 1.0, "a cosine"),
                ("own_similarity_deviation", self.own_similarity_deviation, 0.0, 1.0, "a standard deviation"),
                ("common_share", self.common_share, 0.0, 1.0, "a share"),
                ("noise", self.noise, 0.0, 1.0, "a standard deviation"),
                ("noise_dimension", f64::from(self.noise_dimension), 1.0, 4096.0, "a number of components"),
            ],
        )?;
        let room = 1.0 - self.highest_own_similarity();
        if self.noise_length() > room {
            let most = room / f64::from(self.noise_dimension).sqrt();
            let message = format!(
                "expected at most {most:.4}: images are unit vectors, and noise * sqrt(noise_dimension) beside \
                 own_similarity + {FURTHEST} * own_similarity_deviation would be longer"
            );
            return Err(InputError::new(file, message).value(format!("{section}.noise"), self.noise));
        }
        Ok(())
    }

    fn highest_own_similarity(&self) -> f64 {
        (self.own_similarity + FURTHEST * self.own_similarity_deviation).min(1.0)
    }

    /// Returns the length of an image's noise, for prompts whose noise has length 1.
    fn noise_length(&self) -> f64 {
        self.noise * libm::sqrt(f64::from(self.noise_dimension))
    }

    /// Divides a prompt's length between its parts so that the longest image is as short as can be. That image is then
    /// as long as the sum of the two factors, which `check` has found to be 1 at most.
    fn lengths(&self) -> Lengths {
        let (own, noise) = (self.highest_own_similarity(), self.noise_length());
        // An image divides its parts by the prompt's lengths. So its squared length without the last component is
        // own^2 / (1 - share) + noise^2 / share, which is least at this share: (own + noise)^2.
        let share = if own + noise > 0.0 { noise / (own + noise) } else { 0.0 };
        Lengths {
            common: libm::sqrt((1.0 - share) * self.common_share),
            text: libm::sqrt((1.0 - share) * (1.0 - self.common_share)),
            noise: libm::sqrt(share),
        }
    }

    /// Returns the number of components of a prompt or an image, if embeddings of prompts have `dimension` components.
    const fn width(&self, dimension: usize) -> usize {
        1 + dimension + self.noise_dimension as usize + 1
    }

    /// Returns the images that prompts would produce, and the prompts in the same space. Each row is drawn on its own,
    /// so that two images of one prompt differ and a row does not depend on the rows before it.
    #[must_use]
    pub fn pictures(&self, prompts: &EmbeddingMatrix, seed: u64) -> Pictures {
        let width = self.width(prompts.dimension());
        let lengths = self.lengths();
        let mut texts = Vec::with_capacity(prompts.rows() * width);
        let mut images = Vec::with_capacity(prompts.rows() * width);
        let mut text = Vec::new();
        for row in 0..prompts.rows() {
            prompts.read_unit(row, &mut text);
            self.append_prompt(&text, lengths, &mut texts);
            self.append_image(&text, lengths, (seed, row as u64), &mut images);
        }
        Pictures { prompts: matrix(width, texts), images: matrix(width, images) }
    }

    /// Returns a prompt as it is compared with images.
    #[must_use]
    pub fn prompt(&self, text: &Embedding) -> Embedding {
        let mut prompt = Vec::with_capacity(self.width(text.as_slice().len()));
        self.append_prompt(text.as_slice(), self.lengths(), &mut prompt);
        Embedding::normalised(&prompt).expect("parts whose squared lengths sum to 1")
    }

    /// Returns the image that a prompt, given by its own embedding, would produce as row `row`.
    #[must_use]
    pub fn image(&self, text: &Embedding, seed: u64, row: u64) -> Embedding {
        let mut image = Vec::with_capacity(self.width(text.as_slice().len()));
        self.append_image(text.as_slice(), self.lengths(), (seed, row), &mut image);
        Embedding::normalised(&image).expect("filled up to length 1")
    }

    /// Adds a prompt: the part that all prompts share, its own embedding, its noise with a sign for each component, and
    /// 0 for the component that fills up images. The signs come from the embedding, so equal prompts have equal noise.
    fn append_prompt(&self, text: &[f32], lengths: Lengths, values: &mut Vec<f32>) {
        values.push(lengths.common as f32);
        values.extend(text.iter().map(|&x| (lengths.text * f64::from(x)) as f32));
        let start = values.len();
        values.resize(start + self.noise_dimension as usize, 0.0);
        let component = lengths.noise / libm::sqrt(f64::from(self.noise_dimension));
        let hash = hashed(NOISE, text.iter().map(|x| u64::from(x.to_bits())));
        add_signs(hash, component as f32, &mut values[start..]);
        values.push(0.0);
    }

    /// Adds an image: the parts of its prompt, scaled so that the inner products come out, noise in a random direction,
    /// and one component that fills the image up to length 1.
    fn append_image(&self, text: &[f32], lengths: Lengths, (seed, row): (u64, u64), values: &mut Vec<f32>) {
        let mut generator = draw::stream(seed, Purpose::Picture, row);
        let deviations = draw::normal(&mut generator).clamp(-FURTHEST, FURTHEST);
        let own = (self.own_similarity + self.own_similarity_deviation * deviations).clamp(0.0, 1.0);
        // A length is 0 only where the share or the own similarity of every image is 0, so nothing is lost there.
        let scaled = |share: f64, length: f64| if length > 0.0 { own * share / length } else { 0.0 };
        let common = scaled(self.common_share, lengths.common);
        let content = scaled(1.0 - self.common_share, lengths.text);
        let noise = if lengths.noise > 0.0 { self.noise_length() / lengths.noise } else { 0.0 };
        values.push(common as f32);
        values.extend(text.iter().map(|&x| (content * f64::from(x)) as f32));
        append_direction(&mut generator, noise, self.noise_dimension as usize, values);
        let squares = common * common + content * content + noise * noise;
        // `check` leaves the longest image a length of 1, and rounding may take that slightly above 1.
        values.push(libm::sqrt((1.0 - squares).max(0.0)) as f32);
    }
}

/// Adds a vector of this length in a random direction. The length is not drawn: the length of a normal vector with 256
/// components would vary by 4 %, and some images would be too long to be unit vectors.
fn append_direction(generator: &mut impl Rng, length: f64, dimension: usize, values: &mut Vec<f32>) {
    let start = values.len();
    values.extend((0..dimension).map(|_| draw::normal(generator) as f32));
    let squares: f64 = values[start..].iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    // Draws that are all 0 have no direction, and must not give NaN.
    let scale = length / libm::sqrt(squares).max(f64::MIN_POSITIVE);
    for value in &mut values[start..] {
        *value = (f64::from(*value) * scale) as f32;
    }
}

fn matrix(width: usize, values: Vec<f32>) -> EmbeddingMatrix {
    EmbeddingMatrix::new(width, values).expect("rows of unit vectors")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedding::{norm, similarity};
    use crate::encoder::{EncoderSettings, TextEncoder};

    fn texts(rows: u32) -> EmbeddingMatrix {
        let prompts: Vec<String> = (0..rows).map(|i| format!("a{i} b{} c{}", i * 7, i * 13)).collect();
        TextEncoder::fit(&EncoderSettings::default(), &prompts).encode_all(&prompts)
    }

    fn pictures(rows: u32, seed: u64) -> Pictures {
        ImageModel::default().pictures(&texts(rows), seed)
    }

    /// Returns the similarity before it is clamped.
    fn product(a: &[f32], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
    }

    /// Returns mean and standard deviation.
    fn moments(values: &[f64]) -> (f64, f64) {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / values.len() as f64;
        (mean, variance.sqrt())
    }

    #[test]
    fn own_images_have_the_published_mean_and_the_spread_of_the_settings() {
        let Pictures { prompts, images } = pictures(20_000, 4);
        let own: Vec<f64> = (0..prompts.rows())
            .map(|row| similarity(prompts.embedding(row).as_slice(), images.embedding(row).as_slice()))
            .collect();
        let (mean, deviation) = moments(&own);
        assert!((mean - 0.2855).abs() < 0.001, "mean {mean}");
        let model = ImageModel::default();
        let expected = model.own_similarity_deviation.hypot(model.noise);
        assert!((deviation - expected).abs() < 0.001, "deviation {deviation}, expected {expected}");
    }

    /// Checks the formula of the module's head: without its first part, the similarity is noise of the stated
    /// deviation, and without noise, the similarity is the first part.
    #[test]
    fn similarity_is_that_of_the_formula() {
        let own = texts(300);
        let check = |model: &ImageModel| -> Vec<f64> {
            let Pictures { prompts, images } = model.pictures(&own, 4);
            let mut rest = Vec::new();
            for row in 1..300 {
                let t = product(own.embedding(row - 1).as_slice(), own.embedding(row).as_slice());
                let expected = model.own_similarity * (model.common_share + (1.0 - model.common_share) * t);
                let image = images.embedding(row);
                rest.push(product(prompts.embedding(row - 1).as_slice(), image.as_slice()) - expected);
                for unit in [image, prompts.embedding(row)] {
                    assert!((norm(unit.as_slice()).expect("a direction") - 1.0).abs() < 1e-6);
                }
            }
            rest
        };
        let alike = ImageModel { own_similarity_deviation: 0.0, ..ImageModel::default() };
        let (mean, deviation) = moments(&check(&alike));
        assert!(mean.abs() < 0.008 && (deviation - alike.noise).abs() < 0.006, "{mean}, {deviation}");
        assert!(check(&ImageModel { noise: 0.0, ..alike }).iter().all(|rest| rest.abs() < 1e-6));
    }

    #[test]
    fn equal_prompts_share_their_noise_and_others_do_not() {
        let prompts = ["a red fox", "a red fox", "a red fox in snow"];
        let encoder = TextEncoder::fit(&EncoderSettings::default(), &prompts);
        let model = ImageModel { common_share: 1.0, own_similarity_deviation: 0.0, ..ImageModel::default() };
        let Pictures { prompts, images } = model.pictures(&encoder.encode_all(&prompts), 4);
        // The common share is 1, so images have nothing of the prompt's own embedding, and similarities differ only by
        // the noise.
        let noise = |text: usize, image: usize| {
            similarity(prompts.embedding(text).as_slice(), images.embedding(image).as_slice())
        };
        for image in 0..3 {
            assert!((noise(0, image) - noise(1, image)).abs() < 1e-12);
            assert!((noise(0, image) - noise(2, image)).abs() > 1e-3);
        }
    }

    #[test]
    fn images_are_drawn_by_seed_and_row() {
        let (first, again, other) = (pictures(20, 1), pictures(20, 1), pictures(20, 2));
        for row in 0..20 {
            assert_eq!(first.images.embedding(row), again.images.embedding(row));
            assert_ne!(first.images.embedding(row), other.images.embedding(row));
            assert_eq!(first.prompts.embedding(row), other.prompts.embedding(row));
        }
        let encoder = TextEncoder::fit::<&str>(&EncoderSettings::default(), &[]);
        let (prompt, model) = (encoder.encode("a fox"), ImageModel::default());
        assert_eq!(model.image(&prompt, 1, 5), model.image(&prompt, 1, 5));
        assert_ne!(model.image(&prompt, 1, 5), model.image(&prompt, 1, 6), "two images of one prompt differ");
    }

    #[test]
    fn settings_are_checked() {
        let check = |model: ImageModel| model.check(Path::new("a.toml"), "image_model");
        assert_eq!(check(ImageModel::default()), Ok(()));
        let error = check(ImageModel { own_similarity: 1.5, ..ImageModel::default() }).expect_err("too high");
        assert_eq!(error.to_string(), "a.toml: image_model.own_similarity = 1.5: expected a cosine from 0 to 1");
        let error = check(ImageModel { noise: 0.05, ..ImageModel::default() }).expect_err("no room");
        assert_eq!(error.key.as_deref(), Some("image_model.noise"));
        assert!(error.to_string().contains("= 0.05: expected at most 0.04"), "{error}");
        assert!(toml::from_str::<ImageModel>("mean = 3").is_err());
    }
}
