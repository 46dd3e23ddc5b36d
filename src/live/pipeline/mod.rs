//! Pipelines of text-to-image models as they are exported. A pipeline takes prompts and, for a refinement, source
//! pictures, and returns pictures. All families share one pipeline, and their differences are in `text`, `schedule`,
//! `canvas` and `denoise`. A family is here only if its pictures agree with those of the reference implementation
//! (tests/parity).

use std::fs::File;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::library::Library;
use super::picture::Picture;
use super::settings::Device;
use super::words::Words;
use crate::input::InputError;

mod canvas;
mod denoise;
mod folder;
pub mod noise;
pub mod schedule;
mod step;
mod text;

pub use folder::Family;
pub(super) use folder::Json;

use canvas::Canvas;
use denoise::{Denoiser, Walk};
use folder::Folder;
use noise::{Noise, NoiseFor, SeededNoise};
use schedule::Schedule;
use text::Text;

/// Prompt of the trial picture. The models of shapes know its words, too.
const TRIAL_PROMPT: &str = "a large red circle at the center on a blue background";

/// Number of steps of the trial picture. One step would start SDXL's schedule at its lowest noise level: the decoder
/// would see noise, which it never sees in service.
const TRIAL_STEPS: u32 = 2;

/// Largest width or height of a picture, in pixels.
const LARGEST_SIDE: u32 = 16_384;

/// Model on a device, ready to draw.
#[derive(Debug)]
pub struct Pipeline {
    folder: PathBuf,
    family: Family,
    text: Text,
    denoiser: Denoiser,
    canvas: Canvas,
    schedule: Schedule,
    guidance: f32,
    size: [u32; 2],
}

/// Picture to draw.
pub struct Drawing<'a> {
    /// Prompt of the picture.
    pub prompt: &'a str,
    /// Source of the noise.
    pub noise: &'a dyn Noise,
    /// Source picture, if steps are skipped.
    pub source: Option<&'a Picture>,
}

/// Settings that all pictures of a batch share.
#[derive(Clone, Copy)]
pub struct Manner<'a> {
    /// Number of denoising steps of a full generation (T).
    pub steps: u32,
    /// Number of steps that source pictures skip (k).
    pub skipped: u32,
    /// Guidance scale; the model's own if absent. A scale of 1 or less means no guidance.
    pub guidance: Option<f32>,
    /// Width and height, in pixels; the model's own if absent.
    pub size: Option<[u32; 2]>,
    /// Function that is called before each step. `false` stops the drawing with [`Error::Cancelled`].
    pub keep_going: &'a dyn Fn() -> bool,
}

/// Pictures as numbers, which tests compare and which become [`Picture`]s.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawn {
    /// Latents after the last step, `[pictures, channels, height, width]`.
    pub latents: Vec<f32>,
    /// Planes of red, green and blue of each picture, about -1 to 1.
    pub planes: Vec<f32>,
    /// Width and height, in pixels.
    pub size: [u32; 2],
}

impl Pipeline {
    /// Loads the model of a folder onto a device.
    ///
    /// # Errors
    /// Returns an error if a file is missing, has wrong content or does not load.
    pub fn open(library: &Library, path: &Path, device: Device) -> Result<Self, Error> {
        let folder = Folder::read(path)?;
        let part = Denoiser::part(folder.family);
        // The schedule is read before the sessions are opened: numbers that cannot be used are reported without a wait.
        let schedule = Schedule::read(&folder.scheduler()?)?;
        let canvas = Canvas::open(library, &folder, device)?;
        let guidance = folder.guidance_scale()?.unwrap_or(folder.family.guidance());
        Ok(Self {
            folder: path.to_owned(),
            family: folder.family,
            text: Text::open(library, &folder, device, part)?,
            denoiser: Denoiser::open(library, &folder, device, schedule.scales_input())?,
            canvas,
            schedule,
            guidance,
            size: picture_size(path)?,
        })
    }

    /// Loads the model of a folder onto a device for service: opens the model and draws a trial picture.
    ///
    /// # Errors
    /// Returns the errors of [`Pipeline::open`] and [`Pipeline::try_out`].
    pub fn load(
        library: &Library,
        path: &Path,
        device: Device,
        guidance: Option<f32>,
        size: Option<[u32; 2]>,
    ) -> Result<Self, Error> {
        let mut pipeline = Self::open(library, path, device)?;
        pipeline.try_out(guidance, size)?;
        Ok(pipeline)
    }

    /// Draws a trial picture of two steps and encodes the picture as a source. A model whose values are not finite is
    /// thus found before a request waits for it. The trial costs two steps, a decoding and an encoding.
    ///
    /// # Errors
    /// Returns an error if values are not finite or ONNX Runtime fails.
    pub fn try_out(&mut self, guidance: Option<f32>, size: Option<[u32; 2]>) -> Result<(), Error> {
        let noise = SeededNoise { seed: 0, row: 0 };
        let drawing = Drawing { prompt: TRIAL_PROMPT, noise: &noise, source: None };
        let manner = Manner { steps: TRIAL_STEPS, skipped: 0, guidance, size, keep_going: &|| true };
        for picture in self.draw(&[drawing], &manner)? {
            self.canvas.enter(&picture, &noise)?;
        }
        Ok(())
    }

    /// Returns the width and height of pictures, in pixels, if [`Manner::size`] is absent.
    #[must_use]
    pub const fn size(&self) -> [u32; 2] {
        self.size
    }

    /// Returns the family of the model.
    #[must_use]
    pub const fn family(&self) -> Family {
        self.family
    }

    /// Draws pictures together.
    ///
    /// # Errors
    /// Returns an error if ONNX Runtime fails, the work is cancelled, or the pictures cannot be drawn as asked.
    pub fn draw(&mut self, drawings: &[Drawing<'_>], manner: &Manner<'_>) -> Result<Vec<Picture>, Error> {
        let Drawn { planes, size: [width, height], .. } = self.draw_numbers(drawings, manner)?;
        let each = 3 * width as usize * height as usize;
        // The configuration may state another factor of the autoencoder than its decoder has. The pictures would then
        // be cut at the wrong places.
        if planes.len() != each * drawings.len() {
            let message = format!("its pictures have not the size that was asked for, {width} x {height} pixels");
            return Err(Error::model(&self.folder, message));
        }
        Ok(planes.chunks(each).map(|planes| Picture::from_planes(width, height, planes)).collect())
    }

    /// Draws pictures together and returns their numbers before rounding to eight bits.
    ///
    /// # Errors
    /// Returns the errors of [`Pipeline::draw`].
    pub fn draw_numbers(&mut self, drawings: &[Drawing<'_>], manner: &Manner<'_>) -> Result<Drawn, Error> {
        let size = manner.size.unwrap_or(self.size);
        self.check(size, manner)?;
        let levels = self.schedule.levels(manner.steps);
        let [channels, height, width] = self.canvas.shape(size);
        let skipped = manner.skipped as usize;
        let mut latents = Vec::with_capacity(drawings.len() * channels * height * width);
        for drawing in drawings {
            let noise = drawing.noise.draw(NoiseFor::Drawing, channels * height * width);
            if let Some(source) = drawing.source {
                let (of_noise, of_source) = levels.mixture(skipped);
                // The source may be from an earlier run, whose pictures had another size: a store accepts pictures of
                // all sizes.
                let source = self.canvas.enter(&source.resized(size), drawing.noise)?;
                latents.extend(noise.iter().zip(&source).map(|(noise, source)| of_noise * noise + of_source * source));
            } else {
                latents.extend(noise.iter().map(|noise| noise * levels.initial));
            }
        }
        let guidance = self.guidance(manner);
        let prompts: Vec<&str> = drawings.iter().map(|drawing| drawing.prompt).collect();
        let conditioning = self.text.condition(&prompts, guidance.is_some(), size)?;
        let walk = Walk { levels: &levels, skipped, guidance, keep_going: manner.keep_going };
        let shape = [drawings.len(), channels, height, width];
        let latents = self.denoiser.run(latents, shape, conditioning, &walk)?;
        let planes = self.canvas.leave(&latents)?;
        Ok(Drawn { latents: super::onnx::numbers(&latents)?, planes, size })
    }

    /// Runs the denoiser alone, as often as a drawing of these prompts has steps, with its inputs bound once. The time
    /// of a pipeline is compared with the time of these runs. Calls `tick` before each run and after the last.
    ///
    /// # Errors
    /// Returns the errors of [`Pipeline::draw`].
    pub fn run_bare(&mut self, prompts: &[&str], manner: &Manner<'_>, tick: &dyn Fn()) -> Result<(), Error> {
        let size = manner.size.unwrap_or(self.size);
        self.check(size, manner)?;
        let [channels, height, width] = self.canvas.shape(size);
        let conditioning = self.text.condition(prompts, self.guidance(manner).is_some(), size)?;
        let runs = (manner.steps - manner.skipped) as usize;
        self.denoiser.bare([prompts.len(), channels, height, width], conditioning, runs, tick)
    }

    /// Returns the guidance scale, or `None` without guidance.
    fn guidance(&self, manner: &Manner<'_>) -> Option<f32> {
        // The limit of 1 is that of `do_classifier_free_guidance` in diffusers' pipelines.
        Some(manner.guidance.unwrap_or(self.guidance)).filter(|scale| *scale > 1.0)
    }

    fn check(&self, size: [u32; 2], manner: &Manner<'_>) -> Result<(), Error> {
        let factor = self.canvas.factor() as u32;
        let wrong = |message: String, key: &str, found: String| {
            Err(InputError::new(&self.folder, message).value(key, found).into())
        };
        if size.iter().any(|side| !side.is_multiple_of(factor)) {
            return wrong(format!("expected multiples of {factor} pixels"), "size", format!("{size:?}"));
        }
        if manner.steps == 0 || manner.skipped >= manner.steps {
            return wrong(
                format!("expected fewer than the {} steps", manner.steps),
                "skipped steps",
                manner.skipped.to_string(),
            );
        }
        Ok(())
    }
}

/// Returns the width and height of a model's pictures, in pixels, without loading the model.
///
/// # Errors
/// Returns an error if a file is missing or has wrong content.
pub fn picture_size(path: &Path) -> Result<[u32; 2], Error> {
    let folder = Folder::read(path)?;
    let config = folder.config(Denoiser::part(folder.family))?;
    let side = config.count("sample_size")?.checked_mul(canvas::factor(&folder)?);
    let side = side.and_then(|side| u32::try_from(side).ok()).filter(|side| *side <= LARGEST_SIDE);
    let message = format!("expected pictures of at most {LARGEST_SIDE} pixels");
    let wrong = || InputError::new(&config.file, message).value("sample_size", config.get("sample_size"));
    Ok([side.ok_or_else(wrong)?; 2])
}

/// Returns the number that both sides of a model's pictures must be a multiple of, in pixels. The canvas and the parts
/// of the denoiser divide the sides by it.
///
/// # Errors
/// Returns an error if a file is missing or has wrong content.
pub fn size_multiple(path: &Path) -> Result<u32, Error> {
    let folder = Folder::read(path)?;
    let config = folder.config(Denoiser::part(folder.family))?;
    let parts = match folder.family {
        Family::Shapes | Family::StableDiffusion3 => config.count("patch_size")?,
        // Each block of the U-Net but the last halves the sides, and later blocks join their results with earlier ones:
        // the halves must be whole numbers.
        Family::StableDiffusionXl => {
            1 << (config.get("block_out_channels").as_array().map_or(1, Vec::len).clamp(1, 17) - 1)
        }
    };
    Ok(u32::try_from(canvas::factor(&folder)? * parts).unwrap_or(u32::MAX))
}

/// Checks that a folder holds all files of a model of a known family, without loading the model.
///
/// # Errors
/// Returns an error for the first file that is missing or has wrong content.
pub fn check(path: &Path) -> Result<(), Error> {
    picture_size(path)?;
    size_multiple(path)?;
    let folder = Folder::read(path)?;
    Schedule::read(&folder.scheduler()?)?;
    folder.guidance_scale()?;
    let mut parts = vec![Denoiser::part(folder.family)];
    if folder.part("vae_decoder").is_dir() {
        canvas::Scaling::read(&folder)?;
        parts.extend(["vae_encoder", "vae_decoder"]);
    }
    for suffix in text::suffixes(&folder) {
        Words::read(&folder.part(&format!("tokenizer{suffix}")), None)?;
        readable(&folder.onnx(&format!("text_encoder{suffix}")))?;
    }
    parts.into_iter().try_for_each(|part| readable(&folder.onnx(part)))
}

fn readable(file: &Path) -> Result<(), Error> {
    File::open(file).map(drop).map_err(|error| InputError::unreadable(file, &error).into())
}

/// Checks that sessions run on a device.
///
/// # Errors
/// Returns an error if the provider of the device cannot start.
pub fn probe(library: &Library, device: Device) -> Result<(), Error> {
    // The graph of a step needs no file, so that a device is tested without a model.
    let element = ort::value::TensorElementType::Float32;
    let form = step::Form { guided: false, scaled: false, prediction: element, model_input: element };
    step::open(library, device, form).map(|_| ())
}

impl Family {
    /// Returns the guidance scale of the family's published pipeline.
    const fn guidance(self) -> f32 {
        match self {
            Self::Shapes => 2.0,
            Self::StableDiffusionXl => 5.0,
            Self::StableDiffusion3 => 7.0,
        }
    }
}
