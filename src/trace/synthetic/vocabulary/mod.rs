//! Vocabularies of prompts: lists of words, a slot for each list, and the text that a choice of words makes. Each
//! vocabulary has a file. `super::prompts` has the rules by which users choose among the words.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod art;
mod shapes;

/// Number of slots of the vocabulary that has the most.
pub(super) const SLOTS: usize = 12;

/// Word of each slot, counted from 1. The value is 0 if the prompt has no word there or its vocabulary has no such
/// slot.
pub(super) type Attributes = [u8; SLOTS];

/// Vocabulary of the users' prompts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Vocabulary {
    /// Prompts as people write them for pictures of any kind: a subject, a place, a medium, a style.
    #[default]
    Art,
    /// Captions of the world of shapes, which the models under `models/shapes` were trained on.
    Shapes,
}

/// Place in a prompt that one attribute fills.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    /// Words that may stand there. The more common are first, because words are drawn by Zipf rank.
    pub(super) words: &'static [&'static str],
    /// True if a prompt may have no word there.
    pub(super) optional: bool,
}

const fn needed(words: &'static [&'static str]) -> Slot {
    Slot { words, optional: false }
}

const fn optional(words: &'static [&'static str]) -> Slot {
    Slot { words, optional: true }
}

impl Vocabulary {
    /// Returns the slots in the order in which their words are drawn.
    pub(super) fn slots(self) -> &'static [Slot] {
        match self {
            Self::Art => &art::SLOTS,
            Self::Shapes => &shapes::SLOTS,
        }
    }

    /// Returns the slots that a user may edit in this prompt.
    pub(super) fn editable(self, attributes: &Attributes) -> &'static [usize] {
        const ALL: [usize; SLOTS] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
        match self {
            Self::Art => &ALL,
            Self::Shapes => shapes::editable(attributes),
        }
    }

    /// Returns whether the words go together. Words that are not chosen yet are 0.
    pub(super) fn possible(self, attributes: &Attributes) -> bool {
        match self {
            Self::Art => true,
            Self::Shapes => shapes::possible(attributes),
        }
    }

    /// Returns the text of the prompt.
    pub(super) fn text(self, attributes: &Attributes) -> String {
        match self {
            Self::Art => art::text(attributes),
            Self::Shapes => shapes::text(attributes),
        }
    }
}
