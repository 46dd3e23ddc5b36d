//! Noise levels that a drawing passes through, from the published configuration of a scheduler: flow matching (SD3,
//! SD3.5, shapes) and Euler's method on noise levels (SDXL), as diffusers computes them. Only the arithmetic is here.
//! The steps themselves are in `denoise`.

use super::super::error::Error;
use super::folder::Json;
use crate::input::InputError;

/// Noise schedule, as the scheduler's configuration describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    kind: Kind,
    train_steps: usize,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    /// Mixture of a picture and noise. The model predicts their difference.
    FlowMatch { shift: f64 },
    /// Sum of a picture and noise. The model predicts the noise.
    Euler { sigmas: Vec<f64>, spacing: Spacing, offset: f64 },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Spacing {
    Leading,
    Trailing,
    Linspace,
}

/// Noise levels of one drawing. A drawing of T steps has T + 1 levels, which fall to 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Levels {
    /// Noise level before each step, and 0 after the last step.
    pub sigmas: Vec<f32>,
    /// Timestep that the model gets at each step.
    pub timesteps: Vec<f32>,
    /// Factor of pure noise at the start.
    pub initial: f32,
    flow: bool,
}

impl Schedule {
    /// Parses the content of a `scheduler_config.json`.
    ///
    /// # Errors
    /// Returns an error if the configuration asks for something that is not supported.
    pub fn parse(config: &serde_json::Value) -> Result<Self, Error> {
        Self::read(&Json::parse("scheduler_config.json".as_ref(), config.clone()))
    }

    /// Reads a `scheduler_config.json`.
    pub(super) fn read(config: &Json) -> Result<Self, Error> {
        let class = config.get("_class_name").as_str().unwrap_or_default();
        let train_steps = config.number_or("num_train_timesteps", 1000.0)?;
        if !(1.0..=100_000.0).contains(&train_steps) {
            let message = "expected a number of steps from 1 to 100000";
            return Err(InputError::new(&config.file, message).value("num_train_timesteps", train_steps).into());
        }
        let train_steps = train_steps as usize;
        let kind = match class {
            "FlowMatchEulerDiscreteScheduler" => {
                let off = [
                    "use_dynamic_shifting",
                    "use_karras_sigmas",
                    "use_exponential_sigmas",
                    "use_beta_sigmas",
                    "invert_sigmas",
                    "stochastic_sampling",
                ];
                off.iter().try_for_each(|key| config.off(key))?;
                unused(config, "shift_terminal")?;
                let shift = config.number_or("shift", 1.0)?;
                // A shift of 0 or less gives levels that are all 0, or a division by 0.
                if !(1e-3..=1e3).contains(&shift) {
                    let message = "expected a shift from 0.001 to 1000";
                    return Err(InputError::new(&config.file, message).value("shift", shift).into());
                }
                Kind::FlowMatch { shift }
            }
            "EulerDiscreteScheduler" => euler(config, train_steps)?,
            _ => {
                let message = "expected FlowMatchEulerDiscreteScheduler or EulerDiscreteScheduler";
                return Err(InputError::new(&config.file, message)
                    .value("_class_name", format_args!("{class:?}"))
                    .into());
            }
        };
        Ok(Self { kind, train_steps })
    }

    /// Returns whether the model's input is scaled by its noise level.
    #[must_use]
    pub const fn scales_input(&self) -> bool {
        matches!(self.kind, Kind::Euler { .. })
    }

    /// Returns the noise levels of a drawing of so many steps.
    #[must_use]
    pub fn levels(&self, steps: u32) -> Levels {
        match &self.kind {
            Kind::FlowMatch { shift } => self.flow_levels(steps, *shift),
            Kind::Euler { sigmas, spacing, offset } => euler_levels(steps, sigmas, *spacing, *offset),
        }
    }

    /// Computes the levels of flow matching. The lowest level of training is shifted twice, as diffusers does.
    fn flow_levels(&self, steps: u32, shift: f64) -> Levels {
        let train = self.train_steps as f64;
        let shifted = |sigma: f64| shift * sigma / (1.0 + (shift - 1.0) * sigma);
        // diffusers keeps the shifted ends of training in f32.
        let (highest, lowest) = (1.0, f64::from(shifted(1.0 / train) as f32));
        // A single step takes the highest level, as `linspace` gives it.
        let between = f64::from(steps.max(2) - 1);
        let level = |step: u32| {
            // `set_timesteps` of `FlowMatchEulerDiscreteScheduler`: equal distances between the shifted ends, and the
            // shift once more.
            let timestep = highest * train + (lowest - highest) * train * f64::from(step) / between;
            shifted(timestep / train) as f32
        };
        let mut sigmas: Vec<f32> = (0..steps).map(level).collect();
        let timesteps = sigmas.iter().map(|sigma| sigma * self.train_steps as f32).collect();
        sigmas.push(0.0);
        Levels { sigmas, timesteps, initial: 1.0, flow: true }
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

fn euler(config: &Json, train_steps: usize) -> Result<Kind, Error> {
    unused(config, "trained_betas")?;
    for key in ["use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "rescale_betas_zero_snr"] {
        config.off(key)?;
    }
    config.one_of("prediction_type", &["epsilon"])?;
    config.one_of("interpolation_type", &["linear"])?;
    config.one_of("timestep_type", &["discrete"])?;
    config.one_of("final_sigmas_type", &["zero"])?;
    let schedule = config.one_of("beta_schedule", &["linear", "scaled_linear"])?;
    let spacing = match config.one_of("timestep_spacing", &["linspace", "leading", "trailing"])? {
        "leading" => Spacing::Leading,
        "trailing" => Spacing::Trailing,
        _ => Spacing::Linspace,
    };
    let beta = |key: &str, default: f64| {
        let beta = config.number_or(key, default)?;
        let wrong = || InputError::new(&config.file, "expected a number from 0 to below 1").value(key, beta);
        if (0.0..1.0).contains(&beta) { Ok(beta) } else { Err(Error::from(wrong())) }
    };
    let (begin, end) = (beta("beta_start", 0.0001)?, beta("beta_end", 0.02)?);
    let mut kept = 1.0_f32;
    let sigmas = (0..train_steps).map(|step| {
        let share = step as f64 / (train_steps.max(2) - 1) as f64;
        let beta = if schedule == "linear" {
            begin + (end - begin) * share
        } else {
            // `scaled_linear` has equal distances between the square roots.
            let root = begin.sqrt() + (end.sqrt() - begin.sqrt()) * share;
            root * root
        };
        // The product of the kept shares is computed in f32, as in diffusers.
        kept *= 1.0 - beta as f32;
        f64::from(((1.0 - kept) / kept).sqrt())
    });
    let sigmas: Vec<f64> = sigmas.collect();
    // Betas that are too large for so many steps leave nothing of a picture, and the noise level is divided by that
    // share.
    if sigmas.iter().any(|sigma| !sigma.is_finite()) {
        let message = format!("expected noise levels that are finite over {train_steps} steps");
        return Err(InputError::new(&config.file, message).value("beta_end", end).into());
    }
    Ok(Kind::Euler { sigmas, spacing, offset: config.number_or("steps_offset", 0.0)? })
}

fn euler_levels(steps: u32, trained: &[f64], spacing: Spacing, offset: f64) -> Levels {
    let (train, count) = (trained.len() as f64, f64::from(steps));
    // `set_timesteps` of `EulerDiscreteScheduler`, with the highest timestep first.
    let timestep = |step: u32| match spacing {
        Spacing::Leading => f64::from(steps - 1 - step) * (train / count).floor() + offset,
        Spacing::Trailing => (train - f64::from(step) * train / count).round() - 1.0,
        // A single step is the beginning of `linspace`, which diffusers reverses: the lowest timestep.
        Spacing::Linspace if steps == 1 => 0.0,
        Spacing::Linspace => (train - 1.0) * (1.0 - f64::from(step) / f64::from(steps - 1)),
    };
    // The clamp keeps the look-up below within the trained levels, whatever the offset and the number of steps are.
    let timesteps: Vec<f32> = (0..steps).map(|step| timestep(step).clamp(0.0, train - 1.0) as f32).collect();
    let sigma = |timestep: &f32| {
        // diffusers interpolates between the trained levels (`interpolation_type` "linear").
        let (below, share) = (timestep.floor() as usize, f64::from(timestep.fract()));
        let above = (below + 1).min(trained.len() - 1);
        (trained[below] + (trained[above] - trained[below]) * share) as f32
    };
    let mut sigmas: Vec<f32> = timesteps.iter().map(sigma).collect();
    sigmas.push(0.0);
    let highest = sigmas[0];
    // `init_noise_sigma`: only with the spacing "leading" does diffusers count the picture's own deviation of 1.
    let initial = if spacing == Spacing::Leading { (highest * highest + 1.0).sqrt() } else { highest };
    Levels { sigmas, timesteps, initial, flow: false }
}

impl Levels {
    /// Returns the shares of noise and picture in a picture that is noised to the level before step `k`.
    #[must_use]
    pub fn mixture(&self, k: usize) -> (f32, f32) {
        let sigma = self.sigmas[k];
        // `scale_noise` of the flow-matching scheduler, `add_noise` of Euler's.
        (sigma, if self.flow { 1.0 - sigma } else { 1.0 })
    }

    /// Returns the factor of the model's input at the level before step `k`.
    #[must_use]
    pub fn input_scale(&self, k: usize) -> f32 {
        // `scale_model_input`: brings the sum of a picture of deviation 1 and its noise back to deviation 1.
        if self.flow { 1.0 } else { 1.0 / (self.sigmas[k] * self.sigmas[k] + 1.0).sqrt() }
    }

    /// Returns the factor of the model's prediction in step `k`: the change of the noise level.
    #[must_use]
    pub fn step(&self, k: usize) -> f32 {
        // Both kinds of models predict the derivative of the latents by the level: flow models by their training, noise
        // models because the derivative of a sum of picture and noise is the noise.
        self.sigmas[k + 1] - self.sigmas[k]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(class: &str, key: &str, value: &serde_json::Value) -> Result<Schedule, String> {
        let mut config = json!({ "_class_name": class });
        config[key] = value.clone();
        Schedule::parse(&config).map_err(|error| error.to_string())
    }

    #[test]
    fn keys_that_change_the_levels_and_are_not_supported_are_refused() {
        for (class, key, value) in [
            ("FlowMatchEulerDiscreteScheduler", "shift_terminal", json!(0.1)),
            ("FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting", json!(true)),
            ("EulerDiscreteScheduler", "trained_betas", json!([0.1, 0.2])),
        ] {
            let refused = parse(class, key, &value).expect_err("refused");
            assert!(refused.contains(key) && refused.contains("expected"), "{refused}");
            // What diffusers writes for a key that is not used.
            assert!(parse(class, key, &serde_json::Value::Null).is_ok(), "{key}");
        }
    }

    #[test]
    fn a_single_step_has_the_timestep_of_diffusers() {
        // `linspace(0, 999, 1)` of numpy is its beginning, and 0 is the timestep of the lowest level.
        for (spacing, timestep) in [("linspace", 0.0), ("leading", 0.0), ("trailing", 999.0)] {
            let schedule = parse("EulerDiscreteScheduler", "timestep_spacing", &json!(spacing)).expect("a schedule");
            let levels = schedule.levels(1);
            assert_eq!((levels.timesteps.as_slice(), levels.sigmas.len()), (&[timestep][..], 2), "{spacing}");
        }
        let schedule = parse("EulerDiscreteScheduler", "timestep_spacing", &json!("linspace")).expect("a schedule");
        assert_eq!(schedule.levels(2).timesteps, [999.0, 0.0]);
    }
}
