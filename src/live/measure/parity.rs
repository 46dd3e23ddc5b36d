//! Comparison of a model's pictures with stored ones that the reference implementation drew from the same noise
//! (tests/parity/README.md describes the files).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::input::{self, InputError};
use crate::live::error::Error;
use crate::live::picture::Picture;
use crate::live::pipeline::noise::{Noise, NoiseFor};
use crate::live::pipeline::{Drawing, Manner, Pipeline};
use crate::trace::npy;

/// Noise as it was drawn for the reference.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredNoise {
    /// Noise that the picture is drawn from.
    pub drawing: Vec<f32>,
    /// Noise of the sample that the autoencoder takes of a source; empty if it takes none.
    pub source: Vec<f32>,
}

impl Noise for StoredNoise {
    /// Returns the stored noise. A model that asks for another number of values gets zeros for what is missing: it then
    /// draws a picture of another size, which is reported.
    fn draw(&self, what: NoiseFor, count: usize) -> Vec<f32> {
        let mut noise = if what == NoiseFor::Drawing { self.drawing.clone() } else { self.source.clone() };
        noise.resize(count, 0.0);
        noise
    }
}

/// Picture that the reference drew, and what it was drawn from.
#[derive(Clone)]
pub struct Case {
    /// Name of the case.
    pub name: String,
    /// Prompt of the picture.
    pub prompt: String,
    /// Source picture, if steps are skipped.
    pub source: Option<Picture>,
    /// Noise of the drawing and of the source.
    pub noise: StoredNoise,
    /// Steps, guidance and size.
    pub manner: Manner<'static>,
    latents: Vec<f32>,
    picture: Vec<f32>,
}

/// Greatest differences of a picture from the reference's, each as a share of the greatest value there.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Agreement {
    /// Name of the case.
    pub case: String,
    /// Difference of the latents after the last step.
    pub latents: f32,
    /// Difference of the picture, before it is rounded to eight bits.
    pub picture: f32,
}

impl Agreement {
    /// Returns the greater of the two differences.
    #[must_use]
    pub const fn worst(&self) -> f32 {
        self.latents.max(self.picture)
    }
}

/// Content of a file of cases.
#[derive(Deserialize)]
struct Stored {
    cases: Vec<StoredCase>,
}

/// Case as it is stored. Arrays and pictures are named by their files.
#[derive(Deserialize)]
struct StoredCase {
    name: String,
    prompt: String,
    steps: u32,
    skipped: u32,
    guidance: f32,
    width: u32,
    height: u32,
    noise: String,
    vae_noise: Option<String>,
    source: Option<String>,
    latents: String,
    image: String,
}

/// Reads a file of cases. Their arrays are in a folder beside it that has its name without `.json`.
///
/// # Errors
/// Returns an error if a file is missing or has wrong content.
pub fn read(file: &Path) -> Result<Vec<Case>, Error> {
    let text = input::text(file)?;
    let stored: Stored = serde_json::from_str(&text)
        .map_err(|error| InputError::new(file, format!("expected stored cases: {error}")).line(error.line()))?;
    if stored.cases.is_empty() {
        return Err(InputError::new(file, "expected at least one case").value("cases", "[]").into());
    }
    let folder = file.with_extension("");
    stored.cases.into_iter().map(|case| case.load(&folder)).collect()
}

impl StoredCase {
    fn load(self, folder: &Path) -> Result<Case, Error> {
        let array = |name: &str| -> Result<Vec<f32>, InputError> {
            let matrix = npy::read(&folder.join(name))?;
            Ok((0..matrix.rows()).flat_map(|row| matrix.row(row).iter().copied()).collect())
        };
        let source = self.source.map(|name| picture(&folder.join(name))).transpose()?;
        let vae_noise = self.vae_noise.as_deref().map(array).transpose()?;
        Ok(Case {
            noise: StoredNoise { drawing: array(&self.noise)?, source: vae_noise.unwrap_or_default() },
            latents: array(&self.latents)?,
            picture: array(&self.image)?,
            source,
            manner: Manner {
                steps: self.steps,
                skipped: self.skipped,
                guidance: Some(self.guidance),
                negative: "",
                size: Some([self.width, self.height]),
                keep_going: &|| true,
            },
            name: self.name,
            prompt: self.prompt,
        })
    }
}

fn picture(file: &PathBuf) -> Result<Picture, Error> {
    let bytes = std::fs::read(file).map_err(|error| InputError::unreadable(file, &error))?;
    Picture::decode(&bytes).map_err(|error| InputError::new(file, error.to_string()).into())
}

impl Case {
    /// Draws the picture of the case, and returns its differences from the reference's.
    ///
    /// # Errors
    /// Returns the errors of [`Pipeline::draw`].
    pub fn run(&self, pipeline: &mut Pipeline) -> Result<Agreement, Error> {
        let drawing = Drawing { prompt: &self.prompt, noise: &self.noise, source: self.source.as_ref() };
        let drawn = pipeline.draw_numbers(&[drawing], &self.manner)?;
        let picture: Vec<f32> = drawn.planes.iter().map(|value| (value / 2.0 + 0.5).clamp(0.0, 1.0)).collect();
        Ok(Agreement {
            case: self.name.clone(),
            latents: difference(&drawn.latents, &self.latents),
            picture: difference(&picture, &self.picture),
        })
    }
}

/// Returns the largest difference over the greatest expected value; infinite if the numbers of values differ or a value
/// is NaN.
#[must_use]
pub fn difference(ours: &[f32], expected: &[f32]) -> f32 {
    let range = expected.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
    let worst = ours
        .iter()
        .zip(expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0_f32, |most, now| if now.is_nan() { f32::INFINITY } else { most.max(now) });
    if ours.len() == expected.len() { worst / range.max(f32::MIN_POSITIVE) } else { f32::INFINITY }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_shares_of_the_range_and_never_hide_a_value() {
        assert!((difference(&[1.0, -3.0], &[1.0, -4.0]) - 0.25).abs() < 1e-6);
        assert!(difference(&[1.0, f32::NAN, 1.0], &[1.0; 3]).is_infinite());
        assert!(difference(&[1.0], &[1.0; 2]).is_infinite());
    }
}
