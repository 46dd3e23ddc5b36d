//! What prompts are made of: lists of words, a slot for each, and how a choice of words reads as text.
//! A file a vocabulary. Not how users choose among the words: that is `super::prompts`.

use serde::{Deserialize, Serialize};

mod art;
mod shapes;

/// Slots of the vocabulary that has most.
pub(super) const SLOTS: usize = 12;

/// A word of each slot, from 1; 0 where the prompt goes without, or its vocabulary has no such slot.
pub(super) type Attributes = [u8; SLOTS];

/// What users talk about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Vocabulary {
    /// Prompts as people write them for pictures of any kind: a subject, a place, a medium, a style.
    #[default]
    Art,
    /// Captions of the world of shapes, which the models under `models/shapes` were trained on.
    Shapes,
}

/// A place in a prompt that one attribute fills.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    /// What may stand there, the more common first: words are drawn by Zipf rank.
    pub(super) words: &'static [&'static str],
    /// Whether a prompt may go without.
    pub(super) optional: bool,
}

const fn needed(words: &'static [&'static str]) -> Slot {
    Slot { words, optional: false }
}

const fn optional(words: &'static [&'static str]) -> Slot {
    Slot { words, optional: true }
}

impl Vocabulary {
    /// The slots, in the order in which their words are drawn.
    pub(super) fn slots(self) -> &'static [Slot] {
        match self {
            Self::Art => &art::SLOTS,
            Self::Shapes => &shapes::SLOTS,
        }
    }

    /// The slots that a user may edit in this prompt.
    pub(super) fn editable(self, attributes: &Attributes) -> &'static [usize] {
        const ALL: [usize; SLOTS] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
        match self {
            Self::Art => &ALL,
            Self::Shapes => shapes::editable(attributes),
        }
    }

    /// Whether the words go together; those not chosen yet are 0.
    pub(super) fn possible(self, attributes: &Attributes) -> bool {
        match self {
            Self::Art => true,
            Self::Shapes => shapes::possible(attributes),
        }
    }

    /// The prompt.
    pub(super) fn text(self, attributes: &Attributes) -> String {
        match self {
            Self::Art => art::text(attributes),
            Self::Shapes => shapes::text(attributes),
        }
    }
}
