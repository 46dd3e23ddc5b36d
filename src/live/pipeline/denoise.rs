//! Loop over the denoising steps. Latents, prediction and the model's input stay in buffers on the device. A small
//! graph of this program, which runs on the device as well, does guidance and the step. CPU and CUDA thus take the same
//! path, and in each step only the timestep and a few factors cross over.

use ort::session::IoBinding;
use ort::value::{DynTensor, TensorElementType};

use super::super::error::Error;
use super::super::onnx::{Onnx, check_finite, floats, numbers, precision_advice};
use super::folder::{Family, Folder};
use super::schedule::{Levels, Schedule};
use super::sessions::{Part, Sessions};
use super::step::{self, BEFORE, BLEND, ESTIMATE, FREE, Form, LATENTS, MODEL_INPUT, NEXT, PREDICTION, SCALE, TOLD};
use super::text::{Conditioning, POOLED, POOLED_XL, STATES, STATES_MASK, TEXT_IDS, TIME_IDS};

/// Names of a denoiser's inputs and output by family.
#[derive(Clone, Copy, Debug)]
struct Names {
    canvas: &'static str,
    /// Inputs that condition it on the prompt and stay the same in all steps.
    conditions: &'static [&'static str],
    prediction: &'static str,
}

const SINGLE: TensorElementType = TensorElementType::Float32;
const TIMESTEP: &str = "timestep";
/// Name of the input of a denoiser that was distilled with its guidance: the scale.
pub(super) const GUIDANCE: &str = "guidance";
/// Name of the input for the positions of packed latents.
pub(super) const IMAGE_IDS: &str = "img_ids";

/// Denoiser, and the graphs of the step after it.
#[derive(Debug)]
pub(super) struct Denoiser {
    names: Names,
    model: Part,
    /// Graphs of the step, without guidance and with guidance.
    steps: [Onnx; 2],
    scaled: bool,
    input: TensorElementType,
    output: TensorElementType,
    /// True if the model takes a timestep for each row, false if it takes one for all rows.
    timestep_by_row: bool,
    /// Factor of the scheduler's timestep in the model's input.
    timestep_scale: f64,
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
    /// Estimates of the picture before and in a step of second order, in turns like the latents.
    estimates: Option<[DynTensor; 2]>,
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
            Family::Shapes | Family::StableDiffusion3 | Family::Flux | Family::Sana => "transformer",
            Family::StableDiffusionXl => "unet",
        }
    }

    /// Returns the factor of the scheduler's timestep in the model's input.
    pub(super) fn timestep_scale(folder: &Folder) -> Result<f64, Error> {
        Ok(match folder.family {
            // FLUX's pipeline hands over the noise level. The model multiplies by 1000.
            Family::Flux => 1e-3,
            Family::Sana => f64::from(folder.config(Self::part(Family::Sana))?.single_or("timestep_scale", 1.0)?),
            Family::Shapes | Family::StableDiffusionXl | Family::StableDiffusion3 => 1.0,
        })
    }

    /// Loads the denoiser of a folder and the graphs of its steps.
    pub(super) fn open(sessions: &mut Sessions, folder: &Folder, schedule: &Schedule) -> Result<Self, Error> {
        let family = folder.family;
        let transformer = |conditions| Names { canvas: "hidden_states", conditions, prediction: "out_hidden_states" };
        let names = match family {
            Family::Shapes | Family::StableDiffusion3 => transformer(&[STATES, POOLED]),
            Family::Flux => transformer(&[STATES, POOLED, TEXT_IDS, IMAGE_IDS]),
            Family::Sana => transformer(&[STATES, STATES_MASK]),
            Family::StableDiffusionXl => {
                Names { canvas: "sample", conditions: &[STATES, POOLED_XL, TIME_IDS], prediction: "out_sample" }
            }
        };
        let timestep_scale = Self::timestep_scale(folder)?;
        let model = sessions.open(&folder.onnx(Self::part(family)))?;
        let (input, output) = (model.input_type(names.canvas)?, model.output_type(names.prediction)?);
        for name in names.conditions.iter().chain([&TIMESTEP]) {
            model.input_type(name)?;
        }
        // The configuration says which guidance is accepted, and the graph which is used.
        if family == Family::Flux && folder.takes_guidance()? != model.has_input(GUIDANCE) {
            let message = "takes `guidance` where its config.json says it does not (`guidance_embeds`), or the reverse";
            return Err(Error::model(&model.file, message));
        }
        let timestep_by_row = model.input_shape(TIMESTEP).is_some_and(|shape| !shape.is_empty());
        let (scaled, second_order) = (schedule.scales_input(), schedule.is_second_order());
        let rank = if family == Family::Flux { 3 } else { 4 };
        let form = |guided| Form { guided, scaled, second_order, rank, prediction: output, model_input: input };
        let steps = [false, true].map(|guided| step::open(&sessions.library, sessions.device, form(guided)));
        let [plain, guided] = steps;
        Ok(Self { names, model, steps: [plain?, guided?], scaled, input, output, timestep_by_row, timestep_scale })
    }

    /// Gives up the session of the model. The graphs of the steps are dropped: they are made in milliseconds.
    pub(super) fn into_session(self) -> Part {
        self.model
    }

    /// Returns whether the model takes its guidance scale as an input.
    pub(super) fn takes_scale(&self) -> bool {
        self.model.has_input(GUIDANCE)
    }

    /// Denoises `latents` of this shape, pictures first, which are already noised to the first level. Returns the
    /// latents after the last step.
    pub(super) fn run(
        &mut self,
        latents: Vec<f32>,
        shape: &[usize],
        conditioning: Conditioning,
        walk: &Walk<'_>,
    ) -> Result<Vec<f32>, Error> {
        let guided = walk.guidance.is_some();
        let mut wide = shape.to_vec();
        wide[0] *= if guided { 2 } else { 1 };
        let told = self.numbers(walk, wide[0])?;
        let scale = walk.levels.input_scale(walk.skipped);
        // The first input is scaled here. Later inputs come from the graph of the step, which scales them.
        let first: Vec<f32> = latents.iter().map(|value| value * scale).collect();
        let first = floats(self.input, &wide, if guided { first.repeat(2) } else { first })?;
        // Latents stay in single precision between steps, also for a model in half precision. diffusers rounds them to
        // the model's precision after each step.
        let start = floats(SINGLE, shape, latents)?;
        let mut prediction = self.model.allocate(self.output, &wide)?;
        let mut model = self.bind(conditioning, &mut prediction)?;
        let step = &self.steps[usize::from(guided)];
        let pair = || Ok::<_, Error>([step.allocate(SINGLE, shape)?, step.allocate(SINGLE, shape)?]);
        let mut buffers = Buffers {
            latents: pair()?,
            estimates: if walk.levels.is_second_order() { Some(pair()?) } else { None },
            model_input: step.allocate(self.input, &wide)?,
            prediction,
        };
        let on_host = buffers.model_input.memory_info().is_cpu_accessible();
        let mut turns = [bind_step(step, &mut buffers, 0)?, bind_step(step, &mut buffers, 1)?];
        bind(&mut model, &self.model, self.names.canvas, &first)?;
        // The buffers have no values yet: the first turn reads the latents that come from the host. There is no
        // estimate before the first step, whose factor of it is 0: any finite values take its place.
        bind(&mut turns[0], step, LATENTS, &start)?;
        if buffers.estimates.is_some() {
            bind(&mut turns[0], step, BEFORE, &start)?;
        }
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
                if let Some([even, _]) = &buffers.estimates {
                    bind(&mut turns[0], step, BEFORE, even)?;
                }
            }
            // ONNX Runtime copies an input when it is bound if the model reads it in another memory than it is in.
            if at == 0 || !on_host {
                bind(&mut model, &self.model, self.names.canvas, &buffers.model_input)?;
            }
            let (done, last) = (walk.skipped + at + 1, at + 1 == told.len());
            self.check_latents(&buffers.latents[1 - turn], done, walk.skipped + told.len(), last)?;
        }
        // Step 0 writes the second buffer, so that an odd number of steps ends there.
        numbers(&buffers.latents[told.len() % 2])
    }

    /// Refuses latents with values that are not finite after step `step` of `steps`. On the host the latents are
    /// checked in place after every step. From a GPU only the last latents are copied and checked. That is enough: a
    /// value that is not finite stays so, because each step computes with the latents before it.
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
            // prediction, and the move of the step is in these factors, too.
            let (delta, told) = (walk.levels.move_by(at), walk.guidance.unwrap_or(1.0));
            let mut of_step = vec![(TOLD, scalar(delta * told)?)];
            if walk.guidance.is_some() {
                of_step.push((FREE, scalar(delta * (1.0 - told))?));
            }
            if self.scaled {
                // The graph scales the latents that it has just computed. These are at the level before the next step.
                of_step.push((SCALE, scalar(walk.levels.input_scale(at + 1))?));
            }
            if let Some(factors) = walk.levels.blend(at, walk.skipped) {
                for (name, factor) in BLEND.into_iter().zip(factors) {
                    of_step.push((name, scalar(factor)?));
                }
            }
            Ok(Numbers { timestep: self.timestep(walk.levels.timesteps[at], rows)?, of_step })
        };
        (walk.skipped..walk.levels.timesteps.len()).map(one).collect()
    }

    fn timestep(&self, value: f32, rows: usize) -> Result<DynTensor, Error> {
        let value = (f64::from(value) * self.timestep_scale) as f32;
        let shape: &[usize] = if self.timestep_by_row { &[rows] } else { &[] };
        floats(self.model.input_type(TIMESTEP)?, shape, vec![value; shape.iter().product()])
    }

    /// Binds the inputs and the output that stay the same in all steps.
    fn bind(&self, conditioning: Conditioning, prediction: &mut DynTensor) -> Result<IoBinding, Error> {
        // The tensors may be dropped at the end of this function: a binding keeps what is bound to it.
        let mut model = self.model.binding()?;
        for (name, rows) in conditioning.inputs {
            bind(&mut model, &self.model, name, &rows.tensor(self.model.input_type(name)?)?)?;
        }
        model.bind_output(self.names.prediction, prediction).map_err(Error::session(&self.model.file))?;
        Ok(model)
    }

    /// Runs the model alone `runs` times, with its inputs bound once: the cost of the steps without the rest of this
    /// program. Calls `tick` before each run and after the last.
    pub(super) fn bare(
        &mut self,
        shape: &[usize],
        conditioning: Conditioning,
        runs: usize,
        tick: &dyn Fn(),
    ) -> Result<(), Error> {
        let rows = conditioning.rows;
        let wide = [&[rows], &shape[1..]].concat();
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
    if let Some(estimates) = &mut buffers.estimates {
        binding.bind_input(BEFORE, &estimates[turn]).map_err(&failed)?;
        binding.bind_output(ESTIMATE, &mut estimates[1 - turn]).map_err(&failed)?;
    }
    binding.bind_output(MODEL_INPUT, &mut buffers.model_input).map_err(&failed)?;
    Ok(binding)
}

fn scalar(value: f32) -> Result<DynTensor, Error> {
    floats(SINGLE, &[], vec![value])
}
