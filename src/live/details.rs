//! Wishes of a request beside its prompt, as those who draw its picture need them.

use serde::{Deserialize, Serialize};

/// Wishes of a request beside its prompt, its size and its steps. The default is what is usual.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Details {
    /// Number of the checkpoint in [`super::painter::Palette`]; 0 for the models' own weights.
    pub checkpoint: u32,
    /// Negative prompt; empty for none.
    pub negative_prompt: String,
    /// Guidance scale; the model's usual one if absent.
    pub guidance: Option<f64>,
}

impl Details {
    /// Returns the name of the checkpoint among those of a run; empty for the models' own weights.
    #[must_use]
    pub fn checkpoint_name<'a>(&self, names: &'a [String]) -> &'a str {
        (self.checkpoint as usize).checked_sub(1).and_then(|place| names.get(place)).map_or("", String::as_str)
    }
}

/// Details of a request that asks for nothing unusual.
pub static USUAL: Details = Details { checkpoint: 0, negative_prompt: String::new(), guidance: None };
