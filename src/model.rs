//! Models, GPU types and denoising work. The one place that converts steps, skipped steps and strength.

use serde::{Deserialize, Serialize};

/// A model of the scenario's list, best first: 0 is the large model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ModelId(pub u16);

impl ModelId {
    /// The best and slowest model, which serves misses.
    pub const LARGE: Self = Self(0);

    /// As an index into the list of models.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Whether this is the large model.
    pub fn is_large(self) -> bool {
        self == Self::LARGE
    }
}

/// A GPU type of the cluster, in order of first appearance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GpuId(pub u16);

impl GpuId {
    /// As an index into the list of GPU types.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The denoising of one image: `total_steps` less those a source image spares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// Which model runs.
    pub model: ModelId,
    /// Denoising steps of a full generation (T).
    pub total_steps: u32,
    /// Steps spared by starting from a noised source (k), below `total_steps`.
    pub skipped_steps: u32,
}

impl Work {
    /// Denoising steps that run: T - k.
    pub const fn steps_run(self) -> u32 {
        self.total_steps.saturating_sub(self.skipped_steps)
    }

    /// The image-to-image strength that means the same: 1 - k/T.
    pub fn strength(self) -> f64 {
        refine_fraction(self.skipped_steps, self.total_steps)
    }
}

/// The share of the denoising that remains after skipping `skipped` of `total` steps: 1 - k/T.
#[must_use]
pub fn refine_fraction(skipped: u32, total: u32) -> f64 {
    1.0 - f64::from(skipped) / f64::from(total)
}
