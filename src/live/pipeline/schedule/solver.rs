//! Noise levels and steps of the second-order solver of flow matching: `DPMSolverMultistepScheduler` of diffusers as
//! SANA is published with it (dpmsolver++, midpoint).

use serde_json::json;

use super::super::super::error::Error;
use super::super::folder::Json;
use super::{Kind, Levels, shift, shifted, unused};

pub(super) fn read(config: &Json) -> Result<Kind, Error> {
    config.must_be("prediction_type", &json!("flow_prediction"), &json!("epsilon"))?;
    config.must_be("use_flow_sigmas", &json!(true), &json!(false))?;
    config.must_be("solver_order", &json!(2), &json!(2))?;
    config.one_of("algorithm_type", &["dpmsolver++"])?;
    config.one_of("solver_type", &["midpoint"])?;
    config.one_of("final_sigmas_type", &["zero"])?;
    let off = [
        "thresholding",
        "use_karras_sigmas",
        "use_exponential_sigmas",
        "use_beta_sigmas",
        "use_lu_lambdas",
        "use_dynamic_shifting",
        "rescale_betas_zero_snr",
    ];
    off.iter().try_for_each(|key| config.off(key))?;
    unused(config, "variance_type")?;
    Ok(Kind::FlowSolver { shift: shift(config, "flow_shift")? })
}

/// Computes the levels: equal distances from nearly 1, shifted once. Timesteps are whole numbers.
pub(super) fn levels(steps: u32, train_steps: usize, shift: f64) -> Levels {
    let train = train_steps as f64;
    let level = |step: u32| {
        // `set_timesteps` with `use_flow_sigmas`: shares of the picture from 1 to that of the first training step, in
        // reverse.
        let share = f64::from(steps - step) / f64::from(steps);
        shifted(share * (1.0 - 1.0 / train), shift)
    };
    let exact: Vec<f64> = (0..steps).map(level).collect();
    let timesteps = exact.iter().map(|sigma| (sigma * train).trunc() as f32).collect();
    let mut sigmas: Vec<f32> = exact.iter().map(|sigma| *sigma as f32).collect();
    sigmas.push(0.0);
    Levels { sigmas, timesteps, initial: 1.0, flow: true, second_order: true }
}

/// Returns the factors of latents, estimate and estimate before, in step `k` of a walk that began at step `begin`. The
/// first step has no estimate before it, and the last ends at level 0: both are of first order
/// (`dpm_solver_first_order_update`, `multistep_dpm_solver_second_order_update`).
pub(super) fn blend(sigmas: &[f32], k: usize, begin: usize) -> [f32; 3] {
    let sigma = |at: usize| f64::from(sigmas[at]);
    if k + 2 == sigmas.len() {
        return [0.0, 1.0, 0.0];
    }
    // Logarithm of the ratio of picture to noise.
    let lambda = |at: usize| libm::log((1.0 - sigma(at)) / sigma(at));
    let distance = lambda(k + 1) - lambda(k);
    let towards = (1.0 - sigma(k + 1)) * -libm::expm1(-distance);
    let own = sigma(k + 1) / sigma(k);
    if k == begin {
        return [own as f32, towards as f32, 0.0];
    }
    let beyond = 0.5 * distance / (lambda(k) - lambda(k - 1));
    [own as f32, (towards * (1.0 + beyond)) as f32, (-towards * beyond) as f32]
}
