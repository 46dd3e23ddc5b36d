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

/// Some of a scenario's models: at most [`ModelSet::MOST`] are told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModelSet(u16);

impl ModelSet {
    /// Models a scenario may have.
    pub const MOST: usize = 16;

    /// None.
    pub const EMPTY: Self = Self(0);

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether this model is among them.
    pub const fn contains(self, model: ModelId) -> bool {
        self.0 >> model.0 & 1 == 1
    }

    /// With this model.
    #[must_use]
    pub const fn with(self, model: ModelId) -> Self {
        Self(self.0 | 1 << model.0)
    }

    /// Those that are not among the others.
    #[must_use]
    pub const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Those that are among the others too.
    #[must_use]
    pub const fn and(self, others: Self) -> Self {
        Self(self.0 & others.0)
    }

    /// Best first.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = ModelId> {
        (0..Self::MOST as u16).map(ModelId).filter(move |model| self.contains(*model))
    }
}

impl FromIterator<ModelId> for ModelSet {
    fn from_iter<I: IntoIterator<Item = ModelId>>(models: I) -> Self {
        models.into_iter().fold(Self::EMPTY, Self::with)
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
