//! The loop over denoising steps. Latents, prediction and the model's input stay in buffers on the device; a
//! small graph of our own, run there as well, does guidance and Euler's step, so that CPU and CUDA take
//! the same path and nothing but three numbers a step crosses over.

use ort::session::IoBinding;
use ort::value::{DynTensor, TensorElementType};

use super::super::error::Error;
use super::super::library::Library;
use super::super::onnx::{Onnx, floats};
use super::super::settings::Device;
use super::folder::{Family, Folder};
use super::schedule::Levels;
use super::step::{self, DELTA, GUIDANCE, LATENTS, MODEL_INPUT, NEXT, PREDICTION, SCALE};
use super::text::{Conditioning, Rows};

/// Names of a denoiser's inputs and its output.
#[derive(Clone, Copy, Debug)]
struct Names {
    canvas: &'static str,
    pooled: &'static str,
    prediction: &'static str,
}

const STATES: &str = "encoder_hidden_states";
const TIMESTEP: &str = "timestep";
const TIME_IDS: &str = "time_ids";

/// A denoiser and the step after it.
#[derive(Debug)]
pub(super) struct Denoiser {
    names: Names,
    model: Onnx,
    /// Without guidance and with it.
    steps: [Onnx; 2],
    input: TensorElementType,
    output: TensorElementType,
    /// Whether the model wants a timestep for each row, or one for all.
    timestep_by_row: bool,
}

/// The steps of one drawing.
#[derive(Clone, Copy)]
pub(super) struct Walk<'a> {
    pub(super) levels: &'a Levels,
    /// Steps spared by a source.
    pub(super) skipped: usize,
    /// How far to go beyond what the model says without the prompt; `None` asks it only once a step.
    pub(super) guidance: Option<f32>,
    /// Asked before each step.
    pub(super) keep_going: &'a dyn Fn() -> bool,
}

/// Memory of the device that a drawing works in.
struct Buffers {
    /// Latents before and after a step, in turns.
    latents: [DynTensor; 2],
    model_input: DynTensor,
    prediction: DynTensor,
}

impl Denoiser {
    /// Which part of a family's folder it is.
    pub(super) const fn part(family: Family) -> &'static str {
        match family {
            Family::Shapes | Family::StableDiffusion3 => "transformer",
            Family::StableDiffusionXl => "unet",
        }
    }

    pub(super) fn open(library: &Library, folder: &Folder, device: Device) -> Result<Self, Error> {
        let names = match folder.family {
            Family::Shapes | Family::StableDiffusion3 => {
                Names { canvas: "hidden_states", pooled: "pooled_projections", prediction: "out_hidden_states" }
            }
            Family::StableDiffusionXl => Names { canvas: "sample", pooled: "text_embeds", prediction: "out_sample" },
        };
        let model = Onnx::open(library, &folder.onnx(Self::part(folder.family)), device)?;
        let (input, output) = (model.input_type(names.canvas)?, model.output_type(names.prediction)?);
        model.input_type(STATES)?;
        model.input_type(names.pooled)?;
        model.input_type(TIMESTEP)?;
        let timestep_by_row = model.input_shape(TIMESTEP).is_some_and(|shape| !shape.is_empty());
        let steps = [false, true].map(|guided| step::open(library, device, guided, output, input));
        let [plain, guided] = steps;
        Ok(Self { names, model, steps: [plain?, guided?], input, output, timestep_by_row })
    }

    /// Denoises `latents`, `[pictures, channels, height, width]` of numbers already noised to the first level.
    pub(super) fn run(
        &mut self,
        latents: Vec<f32>,
        shape: [usize; 4],
        conditioning: Conditioning,
        time_ids: Option<Rows>,
        walk: &Walk<'_>,
    ) -> Result<DynTensor, Error> {
        let guided = walk.guidance.is_some();
        let rows = if guided { 2 * shape[0] } else { shape[0] };
        let wide = [rows, shape[1], shape[2], shape[3]];
        let scale = walk.levels.input_scale(walk.skipped);
        let first: Vec<f32> = latents.iter().map(|value| value * scale).collect();
        let first = if guided { first.repeat(2) } else { first };
        let first = floats(self.input, &wide, first)?;
        let start = floats(TensorElementType::Float32, &shape, latents)?;
        let step = &mut self.steps[usize::from(guided)];
        let step_file = step.file.clone();
        let step_failed = Error::session(&step_file);
        let mut buffers = Buffers {
            latents: [
                step.allocate(TensorElementType::Float32, &shape)?,
                step.allocate(TensorElementType::Float32, &shape)?,
            ],
            model_input: step.allocate(self.input, &wide)?,
            prediction: self.model.allocate(self.output, &wide)?,
        };
        let mut model = self.model.binding()?;
        let model_file = self.model.file.clone();
        let failed = Error::session(&model_file);
        let states = conditioning.states.tensor(self.model.input_type(STATES)?)?;
        let pooled = conditioning.pooled.tensor(self.model.input_type(self.names.pooled)?)?;
        model.bind_input(STATES, &states).map_err(&failed)?;
        model.bind_input(self.names.pooled, &pooled).map_err(&failed)?;
        if let Some(time_ids) = time_ids {
            model.bind_input(TIME_IDS, &time_ids.tensor(self.model.input_type(TIME_IDS)?)?).map_err(&failed)?;
        }
        model.bind_input(self.names.canvas, &first).map_err(&failed)?;
        model.bind_output(self.names.prediction, &mut buffers.prediction).map_err(&failed)?;
        let mut turns = [0, 1].map(|turn| bind_step(step, &mut buffers, turn, walk.guidance));
        let last = walk.levels.timesteps.len();
        let mut turn = 0;
        for at in walk.skipped..last {
            if !(walk.keep_going)() {
                return Err(Error::Cancelled);
            }
            let timestep = vec![walk.levels.timesteps[at]; if self.timestep_by_row { rows } else { 1 }];
            let dimensions = if self.timestep_by_row { vec![rows] } else { Vec::new() };
            let timestep = floats(self.model.input_type(TIMESTEP)?, &dimensions, timestep)?;
            model.bind_input(TIMESTEP, &timestep).map_err(&failed)?;
            self.model.run_bound(&model)?;
            let binding = turns[turn].as_mut().map_err(|error| std::mem::replace(error, Error::Cancelled))?;
            if at == walk.skipped {
                binding.bind_input(LATENTS, &start).map_err(&step_failed)?;
            }
            binding.bind_input(DELTA, &scalar(walk.levels.step(at))?).map_err(&step_failed)?;
            binding.bind_input(SCALE, &scalar(walk.levels.input_scale(at + 1))?).map_err(&step_failed)?;
            step.run_bound(binding)?;
            if at == walk.skipped {
                // From now on both graphs read what the other has left on the device.
                binding.bind_input(LATENTS, &buffers.latents[turn]).map_err(&step_failed)?;
                model.bind_input(self.names.canvas, &buffers.model_input).map_err(&failed)?;
            }
            turn = 1 - turn;
        }
        let [even, odd] = buffers.latents;
        Ok(if turn == 1 { odd } else { even })
    }
}

impl Denoiser {
    /// Runs the model alone so often, its inputs bound once: what a step costs without anything of ours.
    /// `tick` is called before each run and after the last.
    pub(super) fn bare(
        &mut self,
        shape: [usize; 4],
        conditioning: Conditioning,
        time_ids: Option<Rows>,
        runs: usize,
        tick: &dyn Fn(),
    ) -> Result<(), Error> {
        let rows = conditioning.pooled.shape[0];
        let wide = [rows, shape[1], shape[2], shape[3]];
        let mut prediction = self.model.allocate(self.output, &wide)?;
        let mut model = self.model.binding()?;
        let file = self.model.file.clone();
        let failed = Error::session(&file);
        let canvas = floats(self.input, &wide, vec![0.5; wide.iter().product()])?;
        let dimensions = if self.timestep_by_row { vec![rows] } else { Vec::new() };
        let timestep = floats(self.model.input_type(TIMESTEP)?, &dimensions, vec![500.0; dimensions.iter().product()])?;
        let states = conditioning.states.tensor(self.model.input_type(STATES)?)?;
        let pooled = conditioning.pooled.tensor(self.model.input_type(self.names.pooled)?)?;
        if let Some(time_ids) = time_ids {
            model.bind_input(TIME_IDS, &time_ids.tensor(self.model.input_type(TIME_IDS)?)?).map_err(&failed)?;
        }
        for (name, value) in
            [(self.names.canvas, &canvas), (TIMESTEP, &timestep), (STATES, &states), (self.names.pooled, &pooled)]
        {
            model.bind_input(name, value).map_err(&failed)?;
        }
        model.bind_output(self.names.prediction, &mut prediction).map_err(&failed)?;
        for _ in 0..runs {
            tick();
            self.model.run_bound(&model)?;
        }
        tick();
        Ok(())
    }
}

/// A step from the latents of the other turn to those of this one.
fn bind_step(step: &Onnx, buffers: &mut Buffers, turn: usize, guidance: Option<f32>) -> Result<IoBinding, Error> {
    let failed = Error::session(&step.file);
    let mut binding = step.binding()?;
    binding.bind_input(PREDICTION, &buffers.prediction).map_err(&failed)?;
    if let Some(guidance) = guidance {
        binding.bind_input(GUIDANCE, &scalar(guidance)?).map_err(&failed)?;
    }
    // Turn 0 writes the second buffer, turn 1 the first.
    binding.bind_input(LATENTS, &buffers.latents[turn]).map_err(&failed)?;
    binding.bind_output(NEXT, &mut buffers.latents[1 - turn]).map_err(&failed)?;
    binding.bind_output(MODEL_INPUT, &mut buffers.model_input).map_err(&failed)?;
    Ok(binding)
}

fn scalar(value: f32) -> Result<DynTensor, Error> {
    floats(TensorElementType::Float32, &[], vec![value])
}
