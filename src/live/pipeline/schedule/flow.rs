//! Noise levels of flow matching with Euler's method (`FlowMatchEulerDiscreteScheduler` of diffusers).

use super::super::super::error::Error;
use super::super::folder::{Family, Json};
use super::{Kind, Levels, shift, shifted, unused};
use crate::input::InputError;

/// Shift of the noise levels towards 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Shift {
    /// Shift that is the same for all pictures.
    Fixed(f64),
    /// Shift of which the logarithm is linear in the number of tokens of a picture: FLUX.1-dev.
    ByTokens { base: f64, slope: f64 },
}

impl Shift {
    /// Returns the shift for a picture of this many tokens.
    pub(super) fn at(self, tokens: usize) -> f64 {
        match self {
            Self::Fixed(shift) => shift,
            // The platform's own `exp` may differ in the last place.
            Self::ByTokens { base, slope } => libm::exp(base + slope * tokens as f64),
        }
    }

    /// Reads the two points of a shift that grows with the picture (`calculate_shift` of FLUX's pipeline).
    fn by_tokens(config: &Json) -> Result<Self, Error> {
        config.one_of("time_shift_type", &["exponential"])?;
        let (from, to) =
            (config.number_or("base_image_seq_len", 256.0)?, config.number_or("max_image_seq_len", 4096.0)?);
        let bounded = |key: &str, default: f64| {
            let value = config.number_or(key, default)?;
            let wrong = || InputError::new(&config.file, "expected a number from -10 to 10").value(key, value);
            if (-10.0..=10.0).contains(&value) { Ok(value) } else { Err(Error::from(wrong())) }
        };
        let (least, most) = (bounded("base_shift", 0.5)?, bounded("max_shift", 1.15)?);
        if !(from >= 1.0 && to > from && to <= 1e9) {
            let message = "expected more tokens than base_image_seq_len, which is at least 1";
            return Err(InputError::new(&config.file, message).value("max_image_seq_len", to).into());
        }
        let slope = (most - least) / (to - from);
        Ok(Self::ByTokens { base: least - slope * from, slope })
    }
}

pub(super) fn read(config: &Json, family: Family) -> Result<Kind, Error> {
    let flux = family == Family::Flux;
    let off =
        ["use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "invert_sigmas", "stochastic_sampling"];
    off.iter().try_for_each(|key| config.off(key))?;
    unused(config, "shift_terminal")?;
    let shift = if flux && config.get("use_dynamic_shifting").as_bool() == Some(true) {
        Shift::by_tokens(config)?
    } else {
        // The pipelines of the other families pass no number of tokens to the scheduler.
        config.off("use_dynamic_shifting")?;
        Shift::Fixed(shift(config, "shift")?)
    };
    // FLUX's pipeline gives the scheduler levels of equal distances. The scheduler shifts them once.
    Ok(Kind::FlowMatch { shift, even: flux })
}

/// Computes the levels. With `even` they are 1, 1 - 1/T, ... 1/T, each shifted once. Otherwise they lie between the
/// highest and the lowest level of training, and the lowest is shifted twice, as diffusers does.
pub(super) fn levels(steps: u32, train_steps: usize, shift: f64, even: bool) -> Levels {
    let train = train_steps as f64;
    // diffusers keeps the shifted ends of training in f32.
    let (highest, lowest) = (1.0, f64::from(shifted(1.0 / train, shift) as f32));
    // A single step takes the highest level, as `linspace` gives it.
    let between = f64::from(steps.max(2) - 1);
    let level = |step: u32| {
        let at = f64::from(step);
        if even {
            return shifted(1.0 + (1.0 / f64::from(steps) - 1.0) * at / between, shift) as f32;
        }
        // `set_timesteps` of `FlowMatchEulerDiscreteScheduler`: equal distances between the shifted ends, and the
        // shift once more.
        let timestep = highest * train + (lowest - highest) * train * at / between;
        shifted(timestep / train, shift) as f32
    };
    let mut sigmas: Vec<f32> = (0..steps).map(level).collect();
    let timesteps = sigmas.iter().map(|sigma| sigma * train_steps as f32).collect();
    sigmas.push(0.0);
    Levels { sigmas, timesteps, initial: 1.0, flow: true, second_order: false }
}
