//! Loop over the denoising steps. Latents, prediction and the model's input stay in buffers on the device. A small
//! graph of this program, which runs on the device as well, does guidance and Euler's step. CPU and CUDA thus take the
//! same path, and in each step only the timestep and at most three factors cross over.

use ort::session::IoBinding;
use ort::value::{DynTensor, TensorElementType};

use super::super::error::Error;
use super::super::library::Library;
use super::super::onnx::{Onnx, check_finite, floats, numbers, precision_advice};
use super::super::settings::Device;
use super::folder::{Family, Folder};
use super::schedule::Levels;
use super::step::{self, FREE, Form, LATENTS, MODEL_INPUT, NEXT, PREDICTION, SCALE, TOLD};
use super::text::Conditioning;

/// Names of a denoiser's inputs and output that differ between families.
#[derive(Clone, Copy, Debug)]
struct Names {
    canvas: &'static str,
    pooled: &'static str,
    prediction: &'static str,
}

const SINGLE: TensorElementType = TensorElementType::Float32;
const STATES: &str = "encoder_hidden_states";
const TIMESTEP: &str = "timestep";
const TIME_IDS: &str = "time_ids";

/// Denoiser, and the graphs of the step after it.
#[derive(Debug)]
pub(super) struct Denoiser {
    names: Names,
    model: Onnx,
    /// Graphs of the step, without guidance and with guidance.
    steps: [Onnx; 2],
    scaled: bool,
    input: TensorElementType,
    output: TensorElementType,
    /// True if the model takes a timestep for each row, false if it takes one for all rows.
    timestep_by_row: bool,
}

/// Steps of one drawing.
#[derive(Clone, Copy)]
pub(super) struct Walk<'a> {
    pub(super) levels: &'a Levels,
    /// Number of steps that the source skips.
    pub(super) skipped: usize,
    /// Guidance scale. With `None` the model runs only with the prompt.
    pub(super) guidance: Option<f32>,
    /// Function that is called before each step. `false` cancels the drawing.
    pub(super) keep_going: &'a dyn Fn() -> bool,
}

/// Buffers of a drawing in the memory of the device.
struct Buffers {
    /// Latents before and after a step. The two buffers take turns.
    latents: [DynTensor; 2],
    model_input: DynTensor,
    prediction: DynTensor,
}

/// Inputs that change from step to step.
struct Numbers {
    timestep: DynTensor,
    /// Inputs of the step's graph, by name.
    of_step: Vec<(&'static str, DynTensor)>,
}

impl Denoiser {
    /// Returns the part of a family's folder that holds the denoiser.
    pub(super) const fn part(family: Family) -> &'static str {
        match family {
            Family::Shapes | Family::StableDiffusion3 => "transformer",
            Family::StableDiffusionXl => "unet",
        }
    }

    /// Loads the denoiser of a folder. `scaled` says whether the schedule scales the model's input.
    pub(super) fn open(library: &Library, folder: &Folder, device: Device, scaled: bool) -> Result<Self, Error> {
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
        let form = |guided| Form { guided, scaled, prediction: output, model_input: input };
        let steps = [false, true].map(|guided| step::open(library, device, form(guided)));
        let [plain, guided] = steps;
        Ok(Self { names, model, steps: [plain?, guided?], scaled, input, output, timestep_by_row })
    }

    /// Denoises `latents`, `[pictures, channels, height, width]`, which are already noised to the first level.
    pub(super) fn run(
        &mut self,
        latents: Vec<f32>,
        shape: [usize; 4],
        conditioning: Conditioning,
        walk: &Walk<'_>,
    ) -> Result<DynTensor, Error> {
        let guided = walk.guidance.is_some();
        let wide = [if guided { 2 } else { 1 } * shape[0], shape[1], shape[2], shape[3]];
        let told = self.numbers(walk, wide[0])?;
        let scale = walk.levels.input_scale(walk.skipped);
        // The first input is scaled here. Later inputs come from the graph of the step, which scales them.
        let first: Vec<f32> = latents.iter().map(|value| value * scale).collect();
        let first = floats(self.input, &wide, if guided { first.repeat(2) } else { first })?;
        // Latents stay in single precision between steps, also for a model in half precision. diffusers rounds them to
        // the model's precision after each step.
        let start = floats(SINGLE, &shape, latents)?;
        let mut prediction = self.model.allocate(self.output, &wide)?;
        let mut model = self.bind(conditioning, &mut prediction)?;
        let step = &self.steps[usize::from(guided)];
        let mut buffers = Buffers {
            latents: [step.allocate(SINGLE, &shape)?, step.allocate(SINGLE, &shape)?],
            model_input: step.allocate(self.input, &wide)?,
            prediction,
        };
        let mut turns = [bind_step(step, &mut buffers, 0)?, bind_step(step, &mut buffers, 1)?];
        bind(&mut model, &self.model, self.names.canvas, &first)?;
        // The buffers have no values yet: the first turn reads the latents that come from the host.
        bind(&mut turns[0], step, LATENTS, &start)?;
        for (at, numbers) in told.iter().enumerate() {
            if !(walk.keep_going)() {
                return Err(Error::Cancelled);
            }
            bind(&mut model, &self.model, TIMESTEP, &numbers.timestep)?;
            self.model.run_bound(&model)?;
            let (step, turn) = (&mut self.steps[usize::from(guided)], at % 2);
            for (name, number) in &numbers.of_step {
                bind(&mut turns[turn], step, name, number)?;
            }
            step.run_bound(&turns[turn])?;
            if at == 0 {
                // From now on each graph reads what the other graph has left on the device.
                bind(&mut turns[0], step, LATENTS, &buffers.latents[0])?;
                bind(&mut model, &self.model, self.names.canvas, &buffers.model_input)?;
            }
            let (done, last) = (walk.skipped + at + 1, at + 1 == told.len());
            self.check_latents(&buffers.latents[1 - turn], done, walk.skipped + told.len(), last)?;
        }
        // Step 0 writes the second buffer, so that an odd number of steps ends there.
        let [even, odd] = buffers.latents;
        Ok(if told.len() % 2 == 1 { odd } else { even })
    }

    /// Refuses latents with values that are not finite after step `step` of `steps`. On the host the latents are
    /// checked in place after every step. From a GPU only the last latents are copied and checked. That is enough: a
    /// value that is not finite stays so, because each step adds to the latents.
    fn check_latents(&self, latents: &DynTensor, step: usize, steps: usize, last: bool) -> Result<(), Error> {
        let advice = precision_advice(self.output);
        let place = || format!("at step {step} of {steps}");
        if latents.memory_info().is_cpu_accessible() {
            let (_, values) = latents.try_extract_tensor::<f32>().map_err(Error::session(&self.model.file))?;
            return check_finite(&self.model.file, values, advice, place);
        }
        if last { check_finite(&self.model.file, &numbers(latents)?, advice, place) } else { Ok(()) }
    }

    /// Makes all inputs that change from step to step, before the first step.
    fn numbers(&self, walk: &Walk<'_>, rows: usize) -> Result<Vec<Numbers>, Error> {
        let one = |at: usize| {
            // Guidance is `free + scale * (told - free)`. Multiplied out, it is one factor for each half of the
            // prediction, and Euler's step is in these factors, too.
            let (delta, told) = (walk.levels.step(at), walk.guidance.unwrap_or(1.0));
            let mut of_step = vec![(TOLD, scalar(delta * told)?)];
            if walk.guidance.is_some() {
                of_step.push((FREE, scalar(delta * (1.0 - told))?));
            }
            if self.scaled {
                // The graph scales the latents that it has just computed. These are at the level before the next step.
                of_step.push((SCALE, scalar(walk.levels.input_scale(at + 1))?));
            }
            Ok(Numbers { timestep: self.timestep(walk.levels.timesteps[at], rows)?, of_step })
        };
        (walk.skipped..walk.levels.timesteps.len()).map(one).collect()
    }

    fn timestep(&self, value: f32, rows: usize) -> Result<DynTensor, Error> {
        let shape: &[usize] = if self.timestep_by_row { &[rows] } else { &[] };
        floats(self.model.input_type(TIMESTEP)?, shape, vec![value; shape.iter().product()])
    }

    /// Binds the inputs and the output that stay the same in all steps.
    fn bind(&self, conditioning: Conditioning, prediction: &mut DynTensor) -> Result<IoBinding, Error> {
        // The tensors may be dropped at the end of this function: a binding keeps what is bound to it.
        let mut model = self.model.binding()?;
        let pooled = self.names.pooled;
        bind(&mut model, &self.model, STATES, &conditioning.states.tensor(self.model.input_type(STATES)?)?)?;
        bind(&mut model, &self.model, pooled, &conditioning.pooled.tensor(self.model.input_type(pooled)?)?)?;
        if let Some(time_ids) = conditioning.time_ids {
            bind(&mut model, &self.model, TIME_IDS, &time_ids.tensor(self.model.input_type(TIME_IDS)?)?)?;
        }
        model.bind_output(self.names.prediction, prediction).map_err(Error::session(&self.model.file))?;
        Ok(model)
    }

    /// Runs the model alone `runs` times, with its inputs bound once: the cost of the steps without the rest of this
    /// program. Calls `tick` before each run and after the last.
    pub(super) fn bare(
        &mut self,
        shape: [usize; 4],
        conditioning: Conditioning,
        runs: usize,
        tick: &dyn Fn(),
    ) -> Result<(), Error> {
        let rows = conditioning.pooled.shape[0];
        let wide = [rows, shape[1], shape[2], shape[3]];
        let mut prediction = self.model.allocate(self.output, &wide)?;
        let mut model = self.bind(conditioning, &mut prediction)?;
        let canvas = floats(self.input, &wide, vec![0.5; wide.iter().product()])?;
        bind(&mut model, &self.model, self.names.canvas, &canvas)?;
        bind(&mut model, &self.model, TIMESTEP, &self.timestep(500.0, rows)?)?;
        for _ in 0..runs {
            tick();
            self.model.run_bound(&model)?;
        }
        tick();
        Ok(())
    }
}

fn bind(binding: &mut IoBinding, model: &Onnx, name: &str, value: &DynTensor) -> Result<(), Error> {
    binding.bind_input(name, value).map_err(Error::session(&model.file))
}

/// Binds a step from the latents of one turn to the latents of the other. Turn 0 writes the second buffer, turn 1 the
/// first.
fn bind_step(step: &Onnx, buffers: &mut Buffers, turn: usize) -> Result<IoBinding, Error> {
    let failed = Error::session(&step.file);
    let mut binding = step.binding()?;
    binding.bind_input(PREDICTION, &buffers.prediction).map_err(&failed)?;
    binding.bind_input(LATENTS, &buffers.latents[turn]).map_err(&failed)?;
    binding.bind_output(NEXT, &mut buffers.latents[1 - turn]).map_err(&failed)?;
    binding.bind_output(MODEL_INPUT, &mut buffers.model_input).map_err(&failed)?;
    Ok(binding)
}

fn scalar(value: f32) -> Result<DynTensor, Error> {
    floats(SINGLE, &[], vec![value])
}
