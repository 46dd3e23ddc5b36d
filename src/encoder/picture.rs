//! The embedding of the picture a prompt would produce, without producing it.
//!
//! image = c t + sqrt(1 - c^2) n, where t is the prompt's embedding and n a random unit vector in
//! components of its own, in which prompts are 0. So the similarity of any prompt t' and the image is
//! exactly c (t' . t): that of the image and its own prompt, times how alike the prompts are.
//! A stand-in for CLIP's image encoder applied to real pictures: the mean of c is published, its spread
//! is an assumption, and no picture fits another prompt better than its own would at the same c.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::draw::{self, Purpose};
use crate::embedding::{Embedding, EmbeddingMatrix};
use crate::input::InputError;

/// The label of outputs made with this model.
pub const STAND_IN: &str = "image embeddings: stand-in (made from prompts, not from pictures)";

/// Draws of c further from the mean than this many deviations are brought back to it.
const FURTHEST: f64 = 4.0;

/// The scenario section `[image_model]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImageModel {
    /// Mean similarity of an image and its own prompt: `CLIPScore` 28.55 of SD3.5-Large on `DiffusionDB`
    /// (arXiv 2503.11972).
    pub own_similarity: f64,
    /// Its standard deviation over images. Assumed: small enough that mostly the prompts decide which
    /// image is nearest, large enough that the paper's highest bound, 0.30, is met now and then.
    pub own_similarity_deviation: f64,
    /// Components added for what is in the picture and not in the prompt.
    pub dimension: u32,
}

impl Default for ImageModel {
    fn default() -> Self {
        Self { own_similarity: 0.2855, own_similarity_deviation: 0.0125, dimension: 16 }
    }
}

/// Prompts and images in one space.
#[derive(Clone, Debug)]
pub struct Pictures {
    /// The prompts' embeddings, with zeros in the components added.
    pub prompts: EmbeddingMatrix,
    /// Row i is the image that prompt i would produce.
    pub images: EmbeddingMatrix,
}

impl ImageModel {
    /// Checks every value; `file` and `section` name them in errors.
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
                ("dimension", f64::from(self.dimension), 1.0, 4096.0, "a number of components"),
            ],
        )
    }

    /// The images that prompts would produce. Each row is drawn on its own, so that two images of one
    /// prompt differ and a row does not depend on the rows before it.
    #[must_use]
    pub fn pictures(&self, prompts: &EmbeddingMatrix, seed: u64) -> Pictures {
        let width = prompts.dimension() + self.dimension as usize;
        let mut images = Vec::with_capacity(prompts.rows() * width);
        for row in 0..prompts.rows() {
            self.append(prompts.embedding(row).as_slice(), seed, row as u64, &mut images);
        }
        Pictures { prompts: self.padded(prompts), images: matrix(width, images) }
    }

    /// The image that this prompt, not yet padded, would produce as row `row`.
    #[must_use]
    pub fn image(&self, prompt: &Embedding, seed: u64, row: u64) -> Embedding {
        let mut image = Vec::with_capacity(prompt.as_slice().len() + self.dimension as usize);
        self.append(prompt.as_slice(), seed, row, &mut image);
        Embedding::normalised(&image).expect("a sum of two orthogonal vectors, not both 0")
    }

    /// Embeddings in the space of the images: zeros in the components added.
    #[must_use]
    pub fn padded(&self, embeddings: &EmbeddingMatrix) -> EmbeddingMatrix {
        let width = embeddings.dimension() + self.dimension as usize;
        let mut values = Vec::with_capacity(embeddings.rows() * width);
        for row in 0..embeddings.rows() {
            values.extend_from_slice(embeddings.embedding(row).as_slice());
            values.resize((row + 1) * width, 0.0);
        }
        matrix(width, values)
    }

    fn append(&self, prompt: &[f32], seed: u64, row: u64, values: &mut Vec<f32>) {
        let mut generator = draw::stream(seed, Purpose::Picture, row);
        let deviations = draw::normal(&mut generator).clamp(-FURTHEST, FURTHEST);
        let own = (self.own_similarity + self.own_similarity_deviation * deviations).clamp(0.0, 1.0);
        let rest: Vec<f64> = (0..self.dimension).map(|_| draw::normal(&mut generator)).collect();
        let squares: f64 = rest.iter().map(|x| x * x).sum();
        let scale = libm::sqrt((1.0 - own * own) / squares.max(f64::MIN_POSITIVE));
        values.extend(prompt.iter().map(|&x| (own * f64::from(x)) as f32));
        values.extend(rest.iter().map(|x| (x * scale) as f32));
    }
}

fn matrix(width: usize, values: Vec<f32>) -> EmbeddingMatrix {
    EmbeddingMatrix::from_values(width, values).expect("rows of unit vectors")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedding::{norm, similarity};
    use crate::encoder::{EncoderSettings, TextEncoder};

    fn pictures(rows: u32, seed: u64) -> Pictures {
        let prompts: Vec<String> = (0..rows).map(|i| format!("a{i} b{} c{}", i * 7, i * 13)).collect();
        let encoder = TextEncoder::fit(&EncoderSettings::default(), &prompts);
        ImageModel::default().pictures(&encoder.encode_all(&prompts), seed)
    }

    #[test]
    fn own_images_have_the_published_mean_and_the_assumed_spread() {
        let Pictures { prompts, images } = pictures(20_000, 4);
        let own: Vec<f64> = (0..prompts.rows())
            .map(|row| similarity(prompts.embedding(row).as_slice(), images.embedding(row).as_slice()))
            .collect();
        let mean = own.iter().sum::<f64>() / own.len() as f64;
        let variance = own.iter().map(|own| (own - mean).powi(2)).sum::<f64>() / own.len() as f64;
        assert!((mean - 0.2855).abs() < 0.001, "mean {mean}");
        assert!((variance.sqrt() - 0.0125).abs() < 0.001, "deviation {}", variance.sqrt());
    }

    #[test]
    fn similarity_to_an_image_is_that_to_its_prompt_times_the_images_own() {
        let Pictures { prompts, images } = pictures(300, 4);
        for row in 1..300 {
            let (other, prompt, image) = (prompts.embedding(row - 1), prompts.embedding(row), images.embedding(row));
            let own = similarity(prompt.as_slice(), image.as_slice());
            let expected = own * similarity(other.as_slice(), prompt.as_slice());
            let found = similarity(other.as_slice(), image.as_slice());
            assert!((found - expected).abs() < 1e-6, "{found}, expected {expected}");
            assert!(found < 0.25, "unrelated: {found}");
            assert!((norm(image.as_slice()).expect("a direction") - 1.0).abs() < 1e-6);
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
        assert!(toml::from_str::<ImageModel>("mean = 3").is_err());
    }
}
