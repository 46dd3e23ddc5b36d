//! Painter of a real worker: one device, which holds the pipeline of one model at a time.

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
    /// Width and height of all pictures, in pixels.
    pub size: [u32; 2],
}

/// Painter that draws on one device.
#[derive(Debug)]
pub struct Painter {
    sessions: Sessions,
    palette: Arc<Palette>,
    held: Option<(ModelId, Pipeline)>,
    /// True if the last drawing failed: sessions that may be damaged are not kept for the next model.
    failed: bool,
}

impl Painter {
    /// Makes a painter with no model loaded.
    #[must_use]
    pub const fn new(library: Library, device: Device, palette: Arc<Palette>) -> Self {
        Self { sessions: Sessions::new(library, device), palette, held: None, failed: false }
    }
}

impl Paint for Painter {
    fn load(&mut self, model: ModelId) -> Result<(), LoadError> {
        let (folder, guidance) = self.palette.models.get(model.index()).ok_or(LoadError::NoSuchModel)?;
        // The old model is unloaded before the new one is loaded: the device may not have room for both.
        if let Some((_, held)) = self.held.take().filter(|_| !self.failed) {
            held.unload(&mut self.sessions);
        }
        self.failed = false;
        let pipeline = Pipeline::load(&mut self.sessions, folder, *guidance, Some(self.palette.size))?;
        self.held = Some((model, pipeline));
        Ok(())
    }

    fn draw(&mut self, task: &Task<'_>, keep_going: &dyn Fn() -> bool) -> Result<Painted, DrawError> {
        let Some((_, pipeline)) = self.held.as_mut().filter(|(held, _)| *held == task.work.model) else {
            return Err(DrawError::NotLoaded);
        };
        let (seed, row) = task.noise;
        let noise = SeededNoise { seed, row };
        let drawing = Drawing { prompt: task.prompt, noise: &noise, source: task.source };
        let manner = Manner {
            steps: task.work.total_steps,
            skipped: task.work.skipped_steps,
            guidance: self.palette.models[task.work.model.index()].1,
            size: Some(self.palette.size),
            keep_going,
        };
        let drawn = pipeline.draw(&[drawing], &manner);
        self.failed = matches!(&drawn, Err(error) if !matches!(error, Error::Cancelled));
        match drawn {
            Ok(mut pictures) => {
                let picture = pictures.pop().ok_or(Error::NoOutput { model: "pipeline", output: "picture" })?;
                // The prompt was read a moment ago, and a picture that is drawn is worth more than a warning.
                Ok(Painted { picture, cuts: pipeline.cuts(task.prompt).unwrap_or_default() })
            }
            Err(Error::Cancelled) => Err(DrawError::Cancelled),
            Err(error) => Err(error.into()),
        }
    }
}
