//! Noise levels of Euler's method on a sum of picture and noise (`EulerDiscreteScheduler` of diffusers).

use super::super::super::error::Error;
use super::super::folder::Json;
use super::{Kind, Levels, unused};
use crate::input::InputError;

/// Distances between the timesteps of a drawing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Spacing {
    Leading,
    Trailing,
    Linspace,
}

pub(super) fn read(config: &Json, train_steps: usize) -> Result<Kind, Error> {
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

pub(super) fn levels(steps: u32, trained: &[f64], spacing: Spacing, offset: f64) -> Levels {
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
    Levels { sigmas, timesteps, initial, flow: false, second_order: false }
}
