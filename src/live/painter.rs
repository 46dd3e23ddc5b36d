//! Painter of a real worker: one device, which holds the pipeline of one model and checkpoint at a time.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::error::Error;
use super::library::Library;
use super::pipeline::noise::SeededNoise;
use super::pipeline::{Drawing, Manner, Pipeline, Sessions};
use super::settings::Device;
use super::worker::{DrawError, LoadError, Paint, Painted, Task};
use crate::model::ModelId;

/// Models and picture size that all workers share.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Palette {
    /// Folder and guidance scale of each model, best model first.
    pub models: Vec<(PathBuf, Option<f32>)>,
    /// True for each model that takes the guidance of requests. The others keep their own.
    pub guided: Vec<bool>,
    /// Folders of the checkpoints in place of those of the models, by number from 1.
    pub checkpoints: Vec<Vec<PathBuf>>,
    /// Usual width and height of pictures, in pixels.
    pub size: [u32; 2],
}

/// Painter that draws on one device.
#[derive(Debug)]
pub struct Painter {
    sessions: Sessions,
    palette: Arc<Palette>,
    held: Option<Held>,
    /// Model that was loaded last. The worker has it as far as others know, also if its weights could not be loaded
    /// again after a checkpoint that failed.
    model: Option<ModelId>,
    /// True if the last drawing failed: sessions that may be damaged are not kept for the next model.
    failed: bool,
}

/// Pipeline on a device.
#[derive(Debug)]
struct Held {
    model: ModelId,
    checkpoint: u32,
    pipeline: Pipeline,
}

impl Palette {
    /// Makes a palette without checkpoints, whose models all take the guidance of requests.
    #[must_use]
    pub fn new(models: Vec<(PathBuf, Option<f32>)>, size: [u32; 2]) -> Self {
        let guided = vec![true; models.len()];
        Self { models, guided, checkpoints: Vec::new(), size }
    }

    /// Returns the folder of a model with a checkpoint.
    fn folder(&self, model: ModelId, checkpoint: u32) -> Option<&PathBuf> {
        match checkpoint {
            0 => self.models.get(model.index()).map(|(folder, _)| folder),
            number => self.checkpoints.get(number as usize - 1)?.get(model.index()),
        }
    }

    /// Returns the negative prompt of a task; nothing if its model takes no wishes for guidance.
    fn negative_prompt<'a>(&self, task: &Task<'a>) -> &'a str {
        if self.guided[task.work.model.index()] { &task.details.negative_prompt } else { "" }
    }

    /// Returns the guidance scale of a task: that of its request, if its model takes one, or the model's.
    fn guidance(&self, task: &Task<'_>) -> Option<f32> {
        let model = task.work.model.index();
        let own = task.details.guidance.filter(|_| self.guided[model]);
        own.map(|scale| scale as f32).or(self.models[model].1)
    }
}

impl Painter {
    /// Makes a painter with no model loaded.
    #[must_use]
    pub const fn new(library: Library, device: Device, palette: Arc<Palette>) -> Self {
        Self { sessions: Sessions::new(library, device), palette, held: None, model: None, failed: false }
    }

    /// Loads a model with a checkpoint. The one that was there is unloaded first.
    fn hold(&mut self, model: ModelId, checkpoint: u32) -> Result<(), LoadError> {
        let folder = self.palette.folder(model, checkpoint).ok_or(LoadError::NoSuchModel)?;
        let guidance = self.palette.models[model.index()].1;
        // The old model is unloaded before the new one is loaded: the device may not have room for both.
        if let Some(held) = self.held.take().filter(|_| !self.failed) {
            held.pipeline.unload(&mut self.sessions);
        }
        self.failed = false;
        let pipeline = Pipeline::load(&mut self.sessions, folder, guidance, Some(self.palette.size))?;
        self.held = Some(Held { model, checkpoint, pipeline });
        Ok(())
    }

    /// Changes to the checkpoint of a task. If that fails, the model's own weights are loaded again: the worker holds
    /// the model as far as others know.
    fn change(&mut self, task: &Task<'_>) -> Result<(), DrawError> {
        let model = task.work.model;
        let Err(error) = self.hold(model, task.details.checkpoint) else { return Ok(()) };
        let _ = self.hold(model, 0);
        Err(match error {
            LoadError::Failed(error) => error.into(),
            LoadError::Lost(lost) => lost.into(),
            LoadError::CannotDraw(error) => error,
            LoadError::NoSuchModel => DrawError::NoSuchCheckpoint,
        })
    }
}

impl Paint for Painter {
    fn load(&mut self, model: ModelId) -> Result<(), LoadError> {
        self.model = None;
        self.hold(model, 0)?;
        self.model = Some(model);
        Ok(())
    }

    fn draw(&mut self, task: &Task<'_>, keep_going: &dyn Fn() -> bool) -> Result<Painted, DrawError> {
        match &self.held {
            Some(held) if held.model != task.work.model => return Err(DrawError::NotLoaded),
            Some(held) if held.checkpoint != task.details.checkpoint => self.change(task)?,
            Some(_) => {}
            // The way back from a checkpoint failed: the room for the weights may be there by now.
            None if self.model == Some(task.work.model) => self.change(task)?,
            None => return Err(DrawError::NotLoaded),
        }
        let Some(Held { pipeline, .. }) = &mut self.held else { return Err(DrawError::NotLoaded) };
        let (seed, row) = task.noise;
        let noise = SeededNoise { seed, row };
        let drawing = Drawing { prompt: task.prompt, noise: &noise, source: task.source };
        let manner = Manner {
            steps: task.work.total_steps,
            skipped: task.work.skipped_steps,
            guidance: self.palette.guidance(task),
            negative: self.palette.negative_prompt(task),
            size: Some(task.work.size.in_pixels(self.palette.size)),
            keep_going,
        };
        let drawn = pipeline.draw(&[drawing], &manner);
        self.failed = matches!(&drawn, Err(error) if !matches!(error, Error::Cancelled));
        match drawn {
            Ok(mut pictures) => {
                let picture = pictures.pop().ok_or(Error::NoOutput { model: "pipeline", output: "picture" })?;
                // The prompt was read a moment ago, and a picture that is drawn is worth more than a warning.
                let cuts = pipeline.cuts(task.prompt).unwrap_or_default();
                Ok(Painted { picture, cuts, embedding: None })
            }
            Err(Error::Cancelled) => Err(DrawError::Cancelled),
            Err(error) => Err(error.into()),
        }
    }
}
