//! Pipelines of text-to-image models as they are exported. A pipeline takes prompts and, for a refinement, source
//! pictures, and returns pictures. All families share one pipeline, and their differences are in `text`, `schedule`,
//! `packing`, `canvas` and `denoise`. A family is here only if its pictures agree with those of the reference
//! implementation (tests/parity).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::Error;
use super::library::Library;
use super::picture::Picture;
use super::settings::{Device, LARGEST_SIDE};
use crate::input::InputError;

mod about;
mod canvas;
mod denoise;
mod folder;
pub mod noise;
mod packing;
pub mod schedule;
mod sessions;
mod step;
mod text;

pub use about::{
    NO_GUIDANCE, WITHOUT_GUIDANCE, check, picture_size, size_multiple, takes_guidance, takes_negative_prompt,
    undrawable,
};
pub use folder::Family;
pub(super) use folder::Json;
pub use sessions::Sessions;

use canvas::Canvas;
use denoise::{Denoiser, GUIDANCE, IMAGE_IDS, Walk};
use folder::Folder;
use noise::{Noise, NoiseFor, SeededNoise};
use schedule::Schedule;
use text::{Conditioning, Rows, Text};

/// Prompt of the trial picture. The models of shapes know its words, too.
const TRIAL_PROMPT: &str = "a large red circle at the center on a blue background";

/// Number of steps of the trial picture. One step would start SDXL's schedule at its lowest noise level: the decoder
/// would see noise, which it never sees in service.
const TRIAL_STEPS: u32 = 2;

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
    /// Guidance scale; the model's own if absent. A scale of 1 or less means no guidance, except for FLUX.1-dev, which
    /// takes any scale as an input.
    pub guidance: Option<f32>,
    /// Negative prompt, which guidance leads away from; empty for none. Without guidance it has no effect.
    pub negative: &'a str,
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

/// Part of a prompt that a text encoder does not see, because the prompt is longer than the encoder takes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cut {
    /// Folder of the encoder within the model's folder.
    pub encoder: String,
    /// Number of tokens that the encoder takes.
    pub limit: usize,
    /// Number of tokens that it does not see.
    pub left_out: usize,
}

/// Guidance of a drawing.
#[derive(Clone, Copy)]
struct Guidance {
    /// Scale of the extrapolation from a prediction without the prompt to one with it, if the model runs twice.
    extrapolated: Option<f32>,
    /// Scale that the model takes as an input.
    embedded: Option<f32>,
}

impl Pipeline {
    /// Loads the model of a folder onto a device.
    ///
    /// # Errors
    /// Returns an error if a file is missing, has wrong content or does not load.
    pub fn open(library: &Library, path: &Path, device: Device) -> Result<Self, Error> {
        Self::open_with(&mut Sessions::new(library.clone(), device), path)
    }

    /// Loads the model of a folder onto the device of `sessions`. Parts with the content of parts that an earlier model
    /// has left are taken over, and the other parts that are left are dropped first.
    fn open_with(sessions: &mut Sessions, path: &Path) -> Result<Self, Error> {
        let folder = Folder::read(path)?;
        let part = Denoiser::part(folder.family);
        sessions.keep_for(&files(&folder));
        // The schedule is read before the sessions are opened: numbers that cannot be used are reported without a wait.
        let schedule = Schedule::read(&folder.scheduler()?, folder.family)?;
        let canvas = Canvas::open(sessions, &folder)?;
        let guidance = folder.guidance_scale()?.unwrap_or(folder.family.guidance());
        Ok(Self {
            folder: path.to_owned(),
            family: folder.family,
            text: Text::open(sessions, &folder, part)?,
            denoiser: Denoiser::open(sessions, &folder, &schedule)?,
            canvas,
            schedule,
            guidance,
            size: picture_size(path)?,
        })
    }

    /// Loads the model of a folder onto the device of `sessions` for service: opens the model and draws a trial
    /// picture.
    ///
    /// # Errors
    /// Returns the errors of [`Pipeline::open`] and [`Pipeline::try_out`].
    pub fn load(
        sessions: &mut Sessions,
        path: &Path,
        guidance: Option<f32>,
        size: Option<[u32; 2]>,
    ) -> Result<Self, Error> {
        let opened = Self::open_with(sessions, path);
        // Parts that were left and not taken over must not take memory, whatever happens next.
        sessions.clear();
        let mut pipeline = opened?;
        pipeline.try_out(guidance, size)?;
        Ok(pipeline)
    }

    /// Unloads the model. Its parts are left in `sessions` for a model that has the same.
    pub fn unload(self, sessions: &mut Sessions) {
        sessions.leave(self.text.into_sessions());
        sessions.leave(self.canvas.into_sessions());
        sessions.leave([self.denoiser.into_session()]);
    }

    /// Returns whether two models have parts in common that a worker keeps when it changes between them.
    ///
    /// # Errors
    /// Returns an error if the index of a model cannot be read.
    pub fn share_parts(sessions: &mut Sessions, some: &Path, other: &Path) -> Result<bool, Error> {
        Ok(sessions.share(&files(&Folder::read(some)?), &files(&Folder::read(other)?)))
    }

    /// Draws a trial picture of two steps and encodes the picture as a source. A model whose values are not finite is
    /// thus found before a request waits for it. The trial costs two steps, a decoding and an encoding.
    ///
    /// # Errors
    /// Returns an error if values are not finite or ONNX Runtime fails.
    pub fn try_out(&mut self, guidance: Option<f32>, size: Option<[u32; 2]>) -> Result<(), Error> {
        let noise = SeededNoise { seed: 0, row: 0 };
        let drawing = Drawing { prompt: TRIAL_PROMPT, noise: &noise, source: None };
        let manner = Manner { steps: TRIAL_STEPS, skipped: 0, guidance, negative: "", size, keep_going: &|| true };
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
        let shape @ [channels, height, width] = self.canvas.shape(size);
        let levels = self.schedule.levels(manner.steps, packing::tokens(shape)[0]);
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
        // The configuration may state another factor of the autoencoder than its encoder has.
        if latents.len() != drawings.len() * channels * height * width {
            let message =
                format!("its autoencoder makes other latents of a source than {channels} x {height} x {width}");
            return Err(Error::model(&self.folder, message));
        }
        let guidance = self.guidance(manner);
        let prompts: Vec<&str> = drawings.iter().map(|drawing| drawing.prompt).collect();
        let conditioning = self.condition(&prompts, manner.negative, guidance, size)?;
        let walk = Walk { levels: &levels, skipped, guidance: guidance.extrapolated, keep_going: manner.keep_going };
        let latents = if self.is_packed() {
            let packed = packing::pack(&latents, shape);
            packing::unpack(&self.denoiser.run(packed, &self.taken(drawings.len(), shape), conditioning, &walk)?, shape)
        } else {
            self.denoiser.run(latents, &self.taken(drawings.len(), shape), conditioning, &walk)?
        };
        let planes = self.canvas.leave(&latents, [drawings.len(), channels, height, width])?;
        Ok(Drawn { latents, planes, size })
    }

    /// Returns the parts of a prompt that the text encoders do not see. They are cut off as diffusers cuts them.
    ///
    /// # Errors
    /// Returns an error if a tokenizer cannot read the prompt.
    pub fn cuts(&self, prompt: &str) -> Result<Vec<Cut>, Error> {
        self.text.cuts(prompt)
    }

    /// Runs the denoiser alone, as often as a drawing of these prompts has steps, with its inputs bound once. The time
    /// of a pipeline is compared with the time of these runs. Calls `tick` before each run and after the last.
    ///
    /// # Errors
    /// Returns the errors of [`Pipeline::draw`].
    pub fn run_bare(&mut self, prompts: &[&str], manner: &Manner<'_>, tick: &dyn Fn()) -> Result<(), Error> {
        let size = manner.size.unwrap_or(self.size);
        self.check(size, manner)?;
        let shape = self.taken(prompts.len(), self.canvas.shape(size));
        let conditioning = self.condition(prompts, manner.negative, self.guidance(manner), size)?;
        let runs = (manner.steps - manner.skipped) as usize;
        self.denoiser.bare(&shape, conditioning, runs, tick)
    }

    const fn is_packed(&self) -> bool {
        matches!(self.family, Family::Flux)
    }

    /// Returns the shape that the denoiser takes latents of `[channels, height, width]` in.
    fn taken(&self, pictures: usize, shape: [usize; 3]) -> Vec<usize> {
        let each = if self.is_packed() { packing::tokens(shape).to_vec() } else { shape.to_vec() };
        [&[pictures], &each[..]].concat()
    }

    /// Computes what the denoiser is conditioned on: the prompts, and the scale and positions if it takes them.
    fn condition(
        &mut self,
        prompts: &[&str],
        negative: &str,
        guidance: Guidance,
        size: [u32; 2],
    ) -> Result<Conditioning, Error> {
        let negative = guidance.extrapolated.map(|_| negative);
        let mut conditioning = self.text.condition(prompts, negative, size)?;
        if self.is_packed() {
            conditioning.inputs.push((IMAGE_IDS, packing::positions(self.canvas.shape(size))));
        }
        if let Some(scale) = guidance.embedded {
            let rows = conditioning.rows;
            conditioning.inputs.push((GUIDANCE, Rows { shape: vec![rows], values: vec![scale; rows] }));
        }
        Ok(conditioning)
    }

    /// Returns how a drawing is guided.
    fn guidance(&self, manner: &Manner<'_>) -> Guidance {
        let scale = manner.guidance.unwrap_or(self.guidance);
        if self.family == Family::Flux {
            return Guidance { extrapolated: None, embedded: self.denoiser.takes_scale().then_some(scale) };
        }
        Guidance { extrapolated: Some(scale).filter(|scale| *scale > NO_GUIDANCE), embedded: None }
    }

    fn check(&self, size: [u32; 2], manner: &Manner<'_>) -> Result<(), Error> {
        let factor = (self.canvas.factor() * if self.is_packed() { packing::SIDE } else { 1 }) as u32;
        let wrong = |message: String, key: &str, found: String| {
            Err(InputError::new(&self.folder, message).value(key, found).into())
        };
        if self.family == Family::Flux
            && !self.denoiser.takes_scale()
            && let Some(scale) = manner.guidance.filter(|scale| *scale > NO_GUIDANCE)
        {
            return wrong(WITHOUT_GUIDANCE.to_owned(), "guidance", scale.to_string());
        }
        if size.iter().any(|side| !side.is_multiple_of(factor) || !(1..=LARGEST_SIDE).contains(side)) {
            let message = format!("expected multiples of {factor} pixels, at most {LARGEST_SIDE}");
            return wrong(message, "size", format!("{size:?}"));
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

/// Returns the files of a model's parts that are sessions.
fn files(folder: &Folder) -> Vec<PathBuf> {
    let mut parts = vec![Denoiser::part(folder.family).to_owned()];
    if folder.part("vae_decoder").is_dir() {
        parts.extend(["vae_encoder", "vae_decoder"].map(str::to_owned));
    }
    parts.extend(text::suffixes(folder).iter().map(|suffix| format!("text_encoder{suffix}")));
    parts.iter().map(|part| folder.onnx(part)).collect()
}

/// Checks that sessions run on a device.
///
/// # Errors
/// Returns an error if the provider of the device cannot start.
pub fn probe(library: &Library, device: Device) -> Result<(), Error> {
    // The graph of a step needs no file, so that a device is tested without a model.
    let element = ort::value::TensorElementType::Float32;
    let form = step::Form {
        guided: false,
        scaled: false,
        second_order: false,
        rank: 4,
        prediction: element,
        model_input: element,
    };
    step::open(library, device, form).map(|_| ())
}

impl Family {
    /// Returns the guidance scale of the family's published pipeline.
    const fn guidance(self) -> f32 {
        match self {
            Self::Shapes => 2.0,
            Self::StableDiffusionXl => 5.0,
            Self::StableDiffusion3 => 7.0,
            Self::Flux => 3.5,
            Self::Sana => 4.5,
        }
    }
}
