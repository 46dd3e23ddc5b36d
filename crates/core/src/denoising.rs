//! Steps and noise levels of models, and where each model starts from a source: at its first step that is not noisier
//! than the bound allows (docs/semantics.md, section 10).

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::model::{ModelId, Work};
use crate::request::Shape;

/// Margin within which a level counts as one that is given in three decimals.
const MARGIN: f64 = 0.0005;

/// Number of noise levels that models which add noise to a picture were trained on.
pub const TRAINED_STEPS: u32 = 1000;

/// Way of a model from noise to picture. A level is the share of noise in a mixture of picture and noise.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// Flow matching with a shift: evenly spaced levels u become s u / (1 + (s - 1) u).
    Shift(f64),
    /// Noise added to the picture by the betas of Stable Diffusion, with leading steps.
    ScaledLinear,
}

impl Schedule {
    /// Returns the level before a step of `steps`.
    #[must_use]
    pub fn level(self, step: u32, steps: u32) -> f64 {
        match self {
            Self::Shift(shift) => shifted(shift, 1.0 - f64::from(step) / f64::from(steps)),
            Self::ScaledLinear => {
                let kept = kept_of_picture(trained_step(step, steps));
                let sigma = libm::sqrt((1.0 - kept) / kept);
                sigma / (1.0 + sigma)
            }
        }
    }

    /// Returns the share of a full denoising that is left at a level, from 0 to 1.
    fn left(self, level: f64, steps: u32) -> f64 {
        match self {
            Self::Shift(shift) => level / (shift - (shift - 1.0) * level),
            // The levels have no simple inverse. Between two steps, the share is in proportion.
            Self::ScaledLinear => {
                let (mut above, mut before) = (self.level(0, steps), 0);
                if level >= above {
                    return 1.0;
                }
                for step in 1..=steps {
                    let next = if step == steps { 0.0 } else { self.level(step, steps) };
                    if level >= next {
                        let part = (above - level) / (above - next);
                        return 1.0 - (f64::from(before) + part) / f64::from(steps);
                    }
                    (above, before) = (next, step);
                }
                0.0
            }
        }
    }
}

/// Returns the trained step from which a step of `steps` is taken.
const fn trained_step(step: u32, steps: u32) -> u32 {
    let spacing = TRAINED_STEPS / if steps == 0 { 1 } else { steps };
    spacing * steps.saturating_sub(1).saturating_sub(step) + 1
}

fn shifted(shift: f64, even: f64) -> f64 {
    shift * even / (1.0 + (shift - 1.0) * even)
}

/// Returns the share of the picture's variance that is kept at a trained step: the product of 1 - beta.
fn kept_of_picture(step: u32) -> f64 {
    let (first, last) = (libm::sqrt(0.00085), libm::sqrt(0.012));
    (0..=step.min(TRAINED_STEPS - 1)).fold(1.0, |kept, at| {
        let root = first + (last - first) * f64::from(at) / f64::from(TRAINED_STEPS - 1);
        kept * (1.0 - root * root)
    })
}

/// Steps and schedule of one model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ModelSteps {
    /// Denoising steps of a full generation.
    pub steps: u32,
    /// Noise levels of the steps; any schedule that all models share if the real ones are not known.
    pub schedule: Schedule,
}

/// Steps and noise levels of all models of a scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct Denoising {
    /// Steps by model, the large model first.
    models: Vec<ModelSteps>,
    /// Levels that bounds give, by step of the large model. For other steps, the level before the step is allowed.
    given: Vec<(u32, f64)>,
    /// True if the schedules are those of the models, so that levels mean something.
    known: bool,
    /// Steps that each model skips of its usual ones, by the large model's step. Empty if all models have one number of
    /// steps and one schedule, and bounds give no levels: then steps are steps.
    skips: Vec<Vec<u32>>,
}

impl Denoising {
    /// Returns models of one number of steps and one schedule.
    #[must_use]
    pub fn alike(models: usize, steps: u32) -> Self {
        let model = ModelSteps { steps, schedule: Schedule::Shift(1.0) };
        Self::new(vec![model; models.max(1)], false, &[])
    }

    /// Makes the steps of models, best first. `known` says whether the schedules are those of the models. `sigmas` are
    /// the levels that bounds give.
    ///
    /// # Panics
    /// Panics without a model.
    #[must_use]
    pub fn new(models: Vec<ModelSteps>, known: bool, sigmas: &[f64]) -> Self {
        assert!(!models.is_empty(), "a scenario has a large model");
        let alike = sigmas.is_empty() && models.iter().all(|model| *model == models[0]);
        let mut denoising = Self { models, given: Vec::new(), known, skips: Vec::new() };
        for sigma in sigmas {
            let step = denoising.step_at(*sigma);
            if !denoising.given.iter().any(|(other, _)| *other == step) {
                denoising.given.push((step, *sigma));
            }
        }
        if !alike {
            let skips = |model: &ModelSteps| {
                (0..denoising.large_steps()).map(|step| denoising.starts_at(*model, step)).collect()
            };
            denoising.skips = denoising.models.iter().map(skips).collect();
        }
        denoising
    }

    /// Returns whether the levels are those of the models.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        self.known
    }

    /// Returns the denoising steps of a full generation by the large model (T).
    #[must_use]
    pub fn large_steps(&self) -> u32 {
        self.models[0].steps
    }

    /// Returns the first step of the large model whose level is at most `sigma`, within the margin, and its last step
    /// if there is none.
    #[must_use]
    pub fn step_at(&self, sigma: f64) -> u32 {
        first_at(self.models[0], sigma + MARGIN)
    }

    /// Returns the noise that a hit which skips `skipped_steps` of the large model's steps may start from.
    #[must_use]
    pub fn allowed(&self, skipped_steps: u32) -> f64 {
        let given = self.given.iter().find(|(step, _)| *step == skipped_steps);
        let ModelSteps { steps, schedule } = self.models[0];
        given.map_or_else(|| schedule.level(skipped_steps, steps), |(_, sigma)| *sigma)
    }

    /// Returns the steps of a full generation if all models have one number of steps and one schedule and nothing else
    /// is asked for. Nearly all runs are so.
    #[inline]
    pub(crate) fn alike_steps(&self, shape: Shape) -> Option<u32> {
        (self.skips.is_empty() && shape.steps == 0).then(|| self.models[0].steps)
    }

    /// Returns the steps of a full generation by a model for what is asked. A model with a number of steps other than
    /// the large model's was trained for it and keeps it.
    #[must_use]
    #[inline]
    pub fn steps(&self, model: ModelId, shape: Shape) -> u32 {
        if let Some(steps) = self.alike_steps(shape) {
            return steps;
        }
        let own = self.model(model).steps;
        if shape.steps > 0 && own == self.large_steps() { shape.steps } else { own }
    }

    /// Returns the steps that a model skips of its own where a hit may skip `skipped_steps` of the large model's.
    #[must_use]
    pub fn skipped(&self, model: ModelId, shape: Shape, skipped_steps: u32) -> u32 {
        if self.alike_steps(shape).is_some() {
            return skipped_steps;
        }
        let (own, steps) = (self.model(model), self.steps(model, shape));
        let known = self.skips.get(model.index()).filter(|_| steps == own.steps);
        let known = known.and_then(|skips| skips.get(skipped_steps as usize)).copied();
        known.unwrap_or_else(|| self.starts_at(ModelSteps { steps, ..own }, skipped_steps))
    }

    /// Returns the step at which a model of these steps starts where a hit may skip `skipped_steps` of the large
    /// model's.
    fn starts_at(&self, model: ModelSteps, skipped_steps: u32) -> u32 {
        if skipped_steps == 0 {
            return 0;
        }
        let given = self.given.iter().any(|(step, _)| *step == skipped_steps);
        let margin = if given { MARGIN } else { 0.0 };
        first_at(model, self.allowed(skipped_steps) + margin)
    }

    /// Returns the work of a full generation.
    #[must_use]
    #[inline]
    pub fn full(&self, model: ModelId, shape: Shape) -> Work {
        Work { size: shape.size, ..Work::new(model, self.steps(model, shape), 0) }
    }

    /// Returns the work of a hit that may skip `skipped_steps` of the large model's steps.
    #[must_use]
    #[inline]
    pub fn refinement(&self, model: ModelId, shape: Shape, skipped_steps: u32) -> Work {
        Work { skipped_steps: self.skipped(model, shape, skipped_steps), ..self.full(model, shape) }
    }

    /// Returns the work of an image that is returned as it is: all steps are skipped.
    #[must_use]
    pub fn returned(&self, shape: Shape) -> Work {
        let full = self.full(ModelId::LARGE, shape);
        Work { skipped_steps: full.total_steps, ..full }
    }

    /// Returns the level before the first step that a work runs.
    #[must_use]
    pub fn start(&self, work: Work) -> f64 {
        self.model(work.model).schedule.level(work.skipped_steps, work.total_steps)
    }

    /// Returns the share of the large model's denoising that a work's source stands for, from 0 to 1.
    #[must_use]
    pub fn part_of_source(&self, work: Work) -> f64 {
        let (own, large) = (self.model(work.model), self.models[0]);
        // The level of a step and back is not exact, and where one way from noise to picture holds for all it need not
        // be. The levels of steps that are taken from trained ones depend on their number.
        let same_way = matches!(own.schedule, Schedule::Shift(_)) || work.total_steps == large.steps;
        if own.schedule == large.schedule && same_way {
            return f64::from(work.skipped_steps) / f64::from(work.total_steps);
        }
        if work.skipped_steps == 0 { 0.0 } else { 1.0 - large.schedule.left(self.start(work), large.steps) }
    }

    fn model(&self, model: ModelId) -> ModelSteps {
        self.models[model.index()]
    }
}

/// Returns the first step whose level is at most `level`, and the last step if there is none.
fn first_at(model: ModelSteps, level: f64) -> u32 {
    let ModelSteps { steps, schedule } = model;
    // Levels fall from step to step.
    let (mut low, mut high) = (0, steps.saturating_sub(1));
    while low < high {
        let middle = low + (high - low) / 2;
        if schedule.level(middle, steps) <= level {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(steps: u32, shift: f64) -> ModelSteps {
        ModelSteps { steps, schedule: Schedule::Shift(shift) }
    }

    fn near(value: f64, expected: f64) {
        assert!((value - expected).abs() < 0.0006, "{value} for {expected}");
    }

    #[test]
    fn levels_are_those_of_the_schedulers() {
        // Computed with diffusers' formula for shift 3 (shared facts on models).
        for (step, level) in [(0, 1.0), (5, 0.964), (10, 0.923), (15, 0.875), (20, 0.818), (25, 0.75), (30, 0.667)] {
            near(Schedule::Shift(3.0).level(step, 50), level);
        }
        for (step, level) in [(1, 0.9), (2, 0.75), (3, 0.5)] {
            near(Schedule::Shift(3.0).level(step, 4), level);
        }
        // Stable Diffusion at its last trained step: sigma 14.61 (Karras et al. 2022), and 0.0292 at its first.
        let sigma = |trained| {
            let kept = kept_of_picture(trained);
            libm::sqrt((1.0 - kept) / kept)
        };
        assert!((sigma(999) - 14.6146).abs() < 0.001 && (sigma(0) - 0.029_17).abs() < 0.000_1);
        near(Schedule::ScaledLinear.level(0, 50), 0.929);
    }

    #[test]
    fn models_of_one_schedule_skip_what_the_bound_says() {
        let usual = Shape::default();
        let alike = Denoising::alike(2, 50);
        for skipped in 0..50 {
            assert_eq!(alike.skipped(ModelId(1), usual, skipped), skipped);
            // The long way leads to the same step.
            assert_eq!(first_at(flow(50, 3.0), Schedule::Shift(3.0).level(skipped, 50)), skipped);
        }
        // With another number of steps that is asked for, the same share of the steps.
        let fewer = Shape { steps: 20, ..usual };
        assert_eq!([5, 10, 15, 25, 30].map(|k| alike.skipped(ModelId::LARGE, fewer, k)), [2, 4, 6, 10, 12]);
    }

    #[test]
    fn a_model_of_few_steps_starts_at_its_next_step_down() {
        let models = vec![flow(50, 3.0), flow(4, 3.0), flow(8, 3.0), flow(4, 1.0)];
        let denoising = Denoising::new(models, true, &[]);
        let skips = |model| [5, 10, 15, 20, 25, 30, 45].map(|k| denoising.skipped(ModelId(model), Shape::default(), k));
        assert_eq!(skips(0), [5, 10, 15, 20, 25, 30, 45]);
        assert_eq!(skips(1), [1, 1, 2, 2, 2, 3, 3], "0.9, 0.75 and 0.5 are all that there is");
        assert_eq!(skips(2), [1, 2, 3, 4, 4, 5, 7]);
        assert_eq!(skips(3), [1, 1, 1, 1, 1, 2, 3], "0.75, 0.5 and 0.25");
        // What is asked for changes the large model's steps alone.
        let asked = Shape { steps: 25, ..Shape::default() };
        assert_eq!([0, 1].map(|model| denoising.steps(ModelId(model), asked)), [25, 4]);
    }

    #[test]
    fn bounds_may_give_the_level() {
        let denoising = Denoising::new(vec![flow(50, 3.0), flow(4, 3.0)], true, &[0.964, 0.92, 0.2]);
        assert_eq!([0.964, 0.92, 0.2, 0.01].map(|sigma| denoising.step_at(sigma)), [5, 11, 47, 49]);
        let skipped = |model, k| denoising.skipped(ModelId(model), Shape::default(), k);
        assert_eq!([skipped(0, 5), skipped(1, 5)], [5, 1]);
        assert!((denoising.allowed(11) - 0.92).abs() < 1e-12);
        assert_eq!([skipped(0, 11), skipped(1, 11)], [11, 1]);
        assert_eq!(skipped(1, 47), 3, "its last step: none is as clean as that");
    }

    #[test]
    fn the_part_of_the_source_goes_by_noise() {
        let schedule = ModelSteps { steps: 50, schedule: Schedule::ScaledLinear };
        let denoising = Denoising::new(vec![flow(50, 3.0), flow(4, 1.0), schedule], true, &[]);
        let part = |model, total, skipped| denoising.part_of_source(Work::new(ModelId(model), total, skipped));
        near(part(0, 50, 25), 0.5);
        // Level 0.75 is half of the large model's way.
        near(part(1, 4, 1), 0.5);
        near(part(1, 4, 0), 0.0);
        let added = [0, 10, 25, 40, 49].map(|step| part(2, 50, step));
        assert!(added.is_sorted() && added[0] < 0.2 && added[4] > 0.9, "{added:?}");
        // Of steps that are taken from trained ones, the first of few is cleaner than the first of many.
        let few = ModelSteps { steps: 4, schedule: Schedule::ScaledLinear };
        let denoising = Denoising::new(vec![ModelSteps { steps: 30, ..few }, few], true, &[]);
        for (skipped, part) in [(1, 0.46), (2, 0.71), (3, 0.97)] {
            let found = denoising.part_of_source(Work::new(ModelId(1), 4, skipped));
            assert!((found - part).abs() < 0.01, "{found} for {part}");
        }
        // And the other way round.
        let denoising = Denoising::new(vec![schedule, flow(50, 1.0)], true, &[]);
        let back: Vec<f64> = (0..50).map(|step| denoising.part_of_source(Work::new(ModelId(1), 50, step))).collect();
        assert!(back.is_sorted() && back[0] == 0.0 && back[49] > 0.5, "{back:?}");
    }
}
