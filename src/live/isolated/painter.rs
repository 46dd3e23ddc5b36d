//! Painter whose sessions are in a process of their own. A call that exceeds its limit ends the process, and the next
//! load starts another process.

use std::sync::Arc;

use super::process::{Launch, LostProcess, Process};
use super::wire::{Reply, WireOrder};
use crate::live::error::Error;
use crate::live::frames::{self, Message};
use crate::live::library::Library;
use crate::live::limits::ModelLimits;
use crate::live::painter::Palette;
use crate::live::picture::Picture;
use crate::live::settings::Device;
use crate::live::worker::{DrawError, LoadError, Paint, Painted, Task};
use crate::model::ModelId;

/// Painter that draws in another process.
#[derive(Debug)]
pub struct IsolatedPainter {
    launch: Launch,
    library: Library,
    device: Device,
    palette: Arc<Palette>,
    /// Limits by model.
    limits: Vec<ModelLimits>,
    process: Option<Process>,
    /// Checkpoint that the process holds; `None` if that is not known.
    checkpoint: Option<u32>,
}

impl IsolatedPainter {
    /// Makes a painter whose process is started by its first load. The limits are one for each model of the palette.
    #[must_use]
    pub const fn new(
        launch: Launch,
        library: Library,
        device: Device,
        palette: Arc<Palette>,
        limits: Vec<ModelLimits>,
    ) -> Self {
        Self { launch, library, device, palette, limits, process: None, checkpoint: None }
    }

    fn load_in(&self, process: Option<Process>, model: ModelId) -> Result<(Process, Result<(), Error>), LostProcess> {
        let limit = self.limits[model.index()].load;
        let start = || {
            let (library, palette) = (self.library.file.clone(), Palette::clone(&self.palette));
            Process::start(&self.launch, &WireOrder::Paint { library, device: self.device, palette }, limit)
        };
        let mut process = process.map_or_else(start, Ok)?;
        process.send(&WireOrder::Load(model), &[], limit, "a load")?;
        match process.receive(limit, "a load")?.header {
            Reply::Loaded => Ok((process, Ok(()))),
            Reply::Failed(reported) => Ok((process, Err(reported.into()))),
            other => Err(process.confused(&other)),
        }
    }
}

impl Paint for IsolatedPainter {
    fn load(&mut self, model: ModelId) -> Result<(), LoadError> {
        if self.limits.get(model.index()).is_none() {
            return Err(LoadError::NoSuchModel);
        }
        let process = self.process.take();
        self.checkpoint = None;
        let (process, loaded) = self.load_in(process, model)?;
        self.process = Some(process);
        loaded?;
        self.checkpoint = Some(0);
        Ok(())
    }

    fn draw(&mut self, task: &Task<'_>, keep_going: &dyn Fn() -> bool) -> Result<Painted, DrawError> {
        let limits = self.limits[task.work.model.index()].of_size(task.work.size, self.palette.size);
        let Some(process) = &mut self.process else {
            return Err(DrawError::NotLoaded);
        };
        let changes = self.checkpoint != Some(task.details.checkpoint);
        let drawn = draw(process, task, (limits, changes), keep_going);
        // After a failure the process may hold the checkpoint of before or that of the task.
        self.checkpoint = matches!(drawn, Ok(Ok(_))).then_some(task.details.checkpoint);
        drawn.unwrap_or_else(|lost| {
            self.process = None;
            Err(lost.into())
        })
    }
}

fn draw(
    process: &mut Process,
    task: &Task<'_>,
    (limits, changes): (ModelLimits, bool),
    keep_going: &dyn Fn() -> bool,
) -> Result<Result<Painted, DrawError>, LostProcess> {
    let order = WireOrder::Draw {
        request: task.request,
        noise: task.noise,
        prompt: task.prompt.to_owned(),
        details: task.details.clone(),
        work: task.work,
        source: task.source.map(Picture::size),
    };
    let pixels = task.source.map_or(&[][..], Picture::bytes);
    process.send(&order, pixels, limits.around, "the beginning of a job")?;
    let steps = task.work.total_steps - task.work.skipped_steps;
    let (mut begun, mut goes) = (0, true);
    loop {
        let (limit, what) = match begun {
            // A checkpoint that does not load is followed by the load of the model's own weights.
            0 if changes => (2 * limits.load + limits.around, "a load and what comes before the first step"),
            0 => (limits.around, "what comes before the first step"),
            begun if begun < steps => (limits.step, "a denoising step"),
            // The process does not tell the end of the last step: one limit holds for the last step and the decoding.
            _ => (limits.step + limits.around, "the last step and the decoding"),
        };
        let Message { header, tail } = process.receive(limit, what)?;
        match header {
            Reply::Step => {
                begun += 1;
                if goes && !keep_going() {
                    // The loop goes on until the answer to the cancellation, so that the next order finds nothing left
                    // in the pipe.
                    goes = false;
                    process.send(&WireOrder::Cancel, &[], limits.step, "a denoising step")?;
                }
            }
            Reply::Picture { size, cuts } => {
                let picture = frames::picture(size, tail);
                return picture
                    .map(|picture| Ok(Painted { picture, cuts, embedding: None }))
                    .map_err(|error| process.crashed(error));
            }
            Reply::Cancelled => return Ok(Err(DrawError::Cancelled)),
            Reply::Failed(reported) => return Ok(Err(DrawError::Failed(reported.into()))),
            other => return Err(process.confused(&other)),
        }
    }
}
