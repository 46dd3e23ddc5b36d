//! Models, GPU types and denoising work. `denoising` has the steps and noise levels of each model.

use serde::{Deserialize, Serialize};

/// Model of the scenario's list, best first: 0 is the large model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ModelId(pub u16);

impl ModelId {
    /// Best and slowest model, which serves misses.
    pub const LARGE: Self = Self(0);

    /// Returns the index into the list of models.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Returns whether the model is the large model.
    pub fn is_large(self) -> bool {
        self == Self::LARGE
    }
}

/// Set of a scenario's models. A scenario has at most [`ModelSet::MOST`] models.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModelSet(u16);

impl ModelSet {
    /// Largest number of models in a scenario.
    pub const MOST: usize = 16;

    /// Empty set.
    pub const EMPTY: Self = Self(0);

    /// Returns whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns whether a model is in the set.
    pub const fn contains(self, model: ModelId) -> bool {
        self.0 >> model.0 & 1 == 1
    }

    /// Returns the set with a model added.
    #[must_use]
    pub const fn with(self, model: ModelId) -> Self {
        // The shift fits: a list of models has at most `MOST` entries, which `Serving::new` asserts.
        Self(self.0 | 1 << model.0)
    }

    /// Returns the models that are not in `others`.
    #[must_use]
    pub const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Returns the models that are in `others` too.
    #[must_use]
    pub const fn and(self, others: Self) -> Self {
        Self(self.0 & others.0)
    }

    /// Returns the models, best first.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = ModelId> {
        (0..Self::MOST as u16).map(ModelId).filter(move |model| self.contains(*model))
    }
}

impl FromIterator<ModelId> for ModelSet {
    fn from_iter<I: IntoIterator<Item = ModelId>>(models: I) -> Self {
        models.into_iter().fold(Self::EMPTY, Self::with)
    }
}

/// GPU type of the cluster, in order of first appearance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GpuId(pub u16);

impl GpuId {
    /// Returns the index into the list of GPU types.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Width and height of an image in pixels. Zero stands for the usual size of the scenario.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(from = "(u16, u16)", into = "(u16, u16)")]
pub struct Size {
    /// Pixels in a row.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

impl Size {
    /// Usual size of the scenario.
    pub const USUAL: Self = Self { width: 0, height: 0 };

    /// Returns whether this is the usual size.
    #[must_use]
    pub fn is_usual(&self) -> bool {
        *self == Self::USUAL
    }

    /// Returns the size of this width and height, where `usual` are those of [`Self::USUAL`].
    #[must_use]
    pub fn of_pixels(pixels: [u32; 2], usual: [u32; 2]) -> Self {
        // Sides of pictures were checked before: a size has room for them.
        let [width, height] = pixels.map(|side| u16::try_from(side).unwrap_or(u16::MAX));
        if pixels == usual { Self::USUAL } else { Self { width, height } }
    }

    /// Returns the width and height in pixels, which are `usual` for the usual size.
    #[must_use]
    pub fn in_pixels(self, usual: [u32; 2]) -> [u32; 2] {
        if self.is_usual() { usual } else { [u32::from(self.width), u32::from(self.height)] }
    }

    /// Returns the number of pixels; 0 for the usual size.
    #[must_use]
    pub const fn pixels(self) -> u64 {
        self.width as u64 * self.height as u64
    }
}

impl From<(u16, u16)> for Size {
    fn from((width, height): (u16, u16)) -> Self {
        Self { width, height }
    }
}

impl From<Size> for (u16, u16) {
    fn from(size: Size) -> Self {
        (size.width, size.height)
    }
}

/// Weights that a worker changes before a job, beside its model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// No change: the worker has the checkpoint and the LoRAs of the job.
    #[default]
    Nothing,
    /// Other LoRAs on the same checkpoint.
    Loras,
    /// Another checkpoint, for a job without LoRAs.
    Checkpoint,
    /// Another checkpoint and LoRAs.
    Both,
}

impl Change {
    /// Returns whether nothing changes.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::Nothing
    }
}

/// Denoising of one image: `total_steps` less the steps that a source image spares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// Model that runs.
    pub model: ModelId,
    /// Denoising steps of a full generation by the model.
    pub total_steps: u32,
    /// Steps that are spared by a start from a noised source, fewer than `total_steps`.
    pub skipped_steps: u32,
    /// Size of the image.
    #[serde(default, skip_serializing_if = "Size::is_usual")]
    pub size: Size,
    /// Weights that the worker changes first.
    #[serde(default, skip_serializing_if = "Change::is_nothing")]
    pub change: Change,
}

impl Work {
    /// Makes the work of an image of the usual size, without a change of weights.
    #[must_use]
    pub const fn new(model: ModelId, total_steps: u32, skipped_steps: u32) -> Self {
        Self { model, total_steps, skipped_steps, size: Size::USUAL, change: Change::Nothing }
    }

    /// Returns the number of denoising steps that run.
    pub const fn steps_run(self) -> u32 {
        self.total_steps.saturating_sub(self.skipped_steps)
    }

    /// Returns the image-to-image strength that means the same: 1 - skipped / total.
    pub fn strength(self) -> f64 {
        refine_fraction(self.skipped_steps, self.total_steps)
    }
}

/// Returns the share of the denoising that remains after `skipped` of `total` steps were skipped: 1 - k/T.
#[must_use]
pub fn refine_fraction(skipped: u32, total: u32) -> f64 {
    1.0 - f64::from(skipped) / f64::from(total)
}
