//! First in, first out: MoDM's sliding window (arXiv 2503.11972), which suits prompts that come in
//! sessions: most hits retrieve young images. Not for traces whose popular images stay popular.

use alloc::collections::VecDeque;

use super::{EvictionPolicy, Item};
use crate::cache::Entry;
use crate::embedding::Embedding;

/// Oldest insertion first.
#[derive(Debug, Default)]
pub(super) struct Fifo {
    items: VecDeque<Item>,
}

impl EvictionPolicy for Fifo {
    fn on_insert(&mut self, entry: &Entry, _: &Embedding) {
        self.items.extend(entry.items());
    }

    fn on_hit(&mut self, _: Item, _: u32) {}

    fn on_remove(&mut self, entry: &Entry) {
        // What expires is the oldest: no need to look further.
        if self.items.front().is_some_and(|item| item.image == entry.image) {
            self.items.drain(..entry.items().count());
        } else {
            self.items.retain(|item| item.image != entry.image);
        }
    }

    fn pop(&mut self) -> Option<Item> {
        self.items.pop_front()
    }
}
