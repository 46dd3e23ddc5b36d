//! Noise levels that a drawing passes through, from the published configuration of a scheduler, as diffusers computes
//! them: flow matching (SD3, SD3.5, FLUX, shapes), Euler's method on noise levels (SDXL), and a second-order solver of
//! flow matching (SANA). Only the arithmetic is here. The steps themselves are in `denoise`.

use super::super::error::Error;
use super::folder::{Family, Json};
use crate::input::InputError;

mod euler;
mod flow;
mod solver;

use euler::Spacing;
use flow::Shift;

/// Noise schedule, as the scheduler's configuration describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    kind: Kind,
    train_steps: usize,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    /// Mixture of a picture and noise. The model predicts their difference.
    FlowMatch { shift: Shift, even: bool },
    /// Sum of a picture and noise. The model predicts the noise.
    Euler { sigmas: Vec<f64>, spacing: Spacing, offset: f64 },
    /// Mixture of a picture and noise, as `FlowMatch`, with steps of second order.
    FlowSolver { shift: f64 },
}

/// Noise levels of one drawing. A drawing of T steps has T + 1 levels, which fall to 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Levels {
    /// Noise level before each step, and 0 after the last step.
    pub sigmas: Vec<f32>,
    /// Timestep that the model gets at each step, of the scheduler's number of training steps.
    pub timesteps: Vec<f32>,
    /// Factor of pure noise at the start.
    pub initial: f32,
    flow: bool,
    second_order: bool,
}

/// Classes of schedulers that a family's pipeline is published with.
const FLOW_MATCH: &str = "FlowMatchEulerDiscreteScheduler";
const EULER: &str = "EulerDiscreteScheduler";
const SOLVER: &str = "DPMSolverMultistepScheduler";

impl Schedule {
    /// Parses the content of a `scheduler_config.json`.
    ///
    /// # Errors
    /// Returns an error if the configuration asks for something that is not supported.
    pub fn parse(config: &serde_json::Value, family: Family) -> Result<Self, Error> {
        Self::read(&Json::parse("scheduler_config.json".as_ref(), config.clone()), family)
    }

    /// Reads a `scheduler_config.json`.
    pub(super) fn read(config: &Json, family: Family) -> Result<Self, Error> {
        let class = config.get("_class_name").as_str().unwrap_or_default();
        let train_steps = config.number_or("num_train_timesteps", 1000.0)?;
        if !(1.0..=100_000.0).contains(&train_steps) {
            let message = "expected a number of steps from 1 to 100000";
            return Err(InputError::new(&config.file, message).value("num_train_timesteps", train_steps).into());
        }
        let train_steps = train_steps as usize;
        let accepted: &[&str] = match family {
            Family::Flux => &[FLOW_MATCH],
            Family::Sana => &[SOLVER, FLOW_MATCH],
            Family::Shapes | Family::StableDiffusionXl | Family::StableDiffusion3 => &[FLOW_MATCH, EULER],
        };
        let kind = match class {
            _ if !accepted.contains(&class) => {
                let message = format!("expected {}", accepted.join(" or "));
                return Err(InputError::new(&config.file, message)
                    .value("_class_name", format_args!("{class:?}"))
                    .into());
            }
            FLOW_MATCH => flow::read(config, family)?,
            EULER => euler::read(config, train_steps)?,
            _ => solver::read(config)?,
        };
        Ok(Self { kind, train_steps })
    }

    /// Returns whether the model's input is scaled by its noise level.
    #[must_use]
    pub const fn scales_input(&self) -> bool {
        matches!(self.kind, Kind::Euler { .. })
    }

    /// Returns whether a step needs the estimate of the picture that the step before made.
    #[must_use]
    pub const fn is_second_order(&self) -> bool {
        matches!(self.kind, Kind::FlowSolver { .. })
    }

    /// Returns the noise levels of a drawing of so many steps. `tokens` is the number of tokens of the picture in the
    /// denoiser: the shift of FLUX.1-dev grows with it.
    #[must_use]
    pub fn levels(&self, steps: u32, tokens: usize) -> Levels {
        match &self.kind {
            Kind::FlowMatch { shift, even } => flow::levels(steps, self.train_steps, shift.at(tokens), *even),
            Kind::Euler { sigmas, spacing, offset } => euler::levels(steps, sigmas, *spacing, *offset),
            Kind::FlowSolver { shift } => solver::levels(steps, self.train_steps, *shift),
        }
    }
}

/// Refuses a value of a key that is not supported. diffusers writes `null` for such a key if it is not used.
fn unused(config: &Json, key: &str) -> Result<(), Error> {
    let value = config.get(key);
    if value.is_null() {
        return Ok(());
    }
    Err(InputError::new(&config.file, "expected null: other values are not supported").value(key, value).into())
}

/// Reads the shift of a schedule of flow matching.
fn shift(config: &Json, key: &str) -> Result<f64, Error> {
    let shift = config.number_or(key, 1.0)?;
    // A shift of 0 or less gives levels that are all 0, or a division by 0.
    if (1e-3..=1e3).contains(&shift) {
        return Ok(shift);
    }
    Err(InputError::new(&config.file, "expected a shift from 0.001 to 1000").value(key, shift).into())
}

/// Shifts a noise level of flow matching towards 1.
fn shifted(sigma: f64, shift: f64) -> f64 {
    shift * sigma / (1.0 + (shift - 1.0) * sigma)
}

impl Levels {
    /// Returns the shares of noise and picture in a picture that is noised to the level before step `k`.
    #[must_use]
    pub fn mixture(&self, k: usize) -> (f32, f32) {
        let sigma = self.sigmas[k];
        // `scale_noise` of the flow-matching scheduler, `add_noise` of the others.
        (sigma, if self.flow { 1.0 - sigma } else { 1.0 })
    }

    /// Returns the factor of the model's input at the level before step `k`.
    #[must_use]
    pub fn input_scale(&self, k: usize) -> f32 {
        // `scale_model_input`: brings the sum of a picture of deviation 1 and its noise back to deviation 1.
        if self.flow { 1.0 } else { 1.0 / (self.sigmas[k] * self.sigmas[k] + 1.0).sqrt() }
    }

    /// Returns the factor of the model's prediction in step `k`. The prediction is the derivative of the latents by the
    /// level: flow models learn it, and for noise models the derivative of a sum of picture and noise is the noise. In
    /// steps of first order the factor is the change of the noise level. In steps of second order it leads to the
    /// estimate of the picture, at level 0.
    #[must_use]
    pub fn move_by(&self, k: usize) -> f32 {
        if self.second_order { -self.sigmas[k] } else { self.sigmas[k + 1] - self.sigmas[k] }
    }

    /// Returns whether a step needs the estimate of the picture that the step before made.
    #[must_use]
    pub const fn is_second_order(&self) -> bool {
        self.second_order
    }

    /// Returns the factors of the latents, of the estimate of the picture and of the estimate before, whose sum are the
    /// latents after step `k` of a walk that began at step `begin`; `None` if steps are of first order.
    #[must_use]
    pub fn blend(&self, k: usize, begin: usize) -> Option<[f32; 3]> {
        self.second_order.then(|| solver::blend(&self.sigmas, k, begin))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(class: &str, key: &str, value: &serde_json::Value) -> Result<Schedule, String> {
        let (mut config, family) = match class {
            SOLVER => (
                json!({ "prediction_type": "flow_prediction", "use_flow_sigmas": true, "flow_shift": 3.0 }),
                Family::Sana,
            ),
            _ => (json!({}), Family::StableDiffusion3),
        };
        config["_class_name"] = json!(class);
        config[key] = value.clone();
        Schedule::parse(&config, family).map_err(|error| error.to_string())
    }

    #[test]
    fn keys_that_change_the_levels_and_are_not_supported_are_refused() {
        for (class, key, value) in [
            (FLOW_MATCH, "shift_terminal", json!(0.1)),
            (FLOW_MATCH, "use_dynamic_shifting", json!(true)),
            (EULER, "trained_betas", json!([0.1, 0.2])),
            (SOLVER, "solver_order", json!(3)),
            (SOLVER, "use_karras_sigmas", json!(true)),
        ] {
            let refused = parse(class, key, &value).expect_err("refused");
            assert!(refused.contains(key) && refused.contains("expected"), "{refused}");
            // What diffusers writes for a key that is not used.
            assert!(parse(class, key, &serde_json::Value::Null).is_ok(), "{key}");
        }
        for (key, value) in [("prediction_type", json!("epsilon")), ("use_flow_sigmas", json!(null))] {
            let refused = parse(SOLVER, key, &value).expect_err("refused");
            assert!(refused.contains(key) && refused.contains("expected"), "{refused}");
        }
    }

    #[test]
    fn a_family_has_the_schedulers_that_it_is_published_with() {
        let refused = Schedule::parse(&json!({ "_class_name": SOLVER }), Family::Flux).expect_err("refused");
        assert!(refused.to_string().contains(&format!("expected {FLOW_MATCH}")), "{refused}");
    }

    #[test]
    fn a_single_step_has_the_timestep_of_diffusers() {
        // `linspace(0, 999, 1)` of numpy is its beginning, and 0 is the timestep of the lowest level.
        for (spacing, timestep) in [("linspace", 0.0), ("leading", 0.0), ("trailing", 999.0)] {
            let schedule = parse(EULER, "timestep_spacing", &json!(spacing)).expect("a schedule");
            let levels = schedule.levels(1, 1);
            assert_eq!((levels.timesteps.as_slice(), levels.sigmas.len()), (&[timestep][..], 2), "{spacing}");
        }
        let schedule = parse(EULER, "timestep_spacing", &json!("linspace")).expect("a schedule");
        assert_eq!(schedule.levels(2, 1).timesteps, [999.0, 0.0]);
    }

    #[test]
    fn steps_of_second_order_keep_a_picture_that_is_known() {
        // If every estimate is the picture itself, latents stay the mixture of picture and noise at their level.
        let schedule = parse(SOLVER, "flow_shift", &json!(3.0)).expect("a schedule");
        let levels = schedule.levels(20, 1);
        for begin in [0, 7, 19] {
            let (noise, picture) = (0.3_f32, -0.8_f32);
            let mixed = |k: usize| levels.sigmas[k] * noise + (1.0 - levels.sigmas[k]) * picture;
            let mut latents = mixed(begin);
            for k in begin..20 {
                let [own, estimate, before] = levels.blend(k, begin).expect("of second order");
                assert!(k != begin || before == 0.0, "nothing was estimated before the first step");
                latents = own * latents + (estimate + before) * picture;
                assert!((latents - mixed(k + 1)).abs() < 1e-5, "{begin} {k}: {latents} {}", mixed(k + 1));
            }
        }
    }
}
