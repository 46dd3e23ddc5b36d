//! First in, first out: the sliding window of MoDM (arXiv 2503.11972). The policy suits prompts that come in sessions,
//! since most hits then retrieve young images. It does not suit traces whose popular images stay popular.

use alloc::collections::VecDeque;

use super::{EvictionPolicy, Item};
use crate::cache::Entry;
use crate::embedding::Embedding;

/// Eviction of the item that was inserted first.
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
        // An entry that expires is the oldest one, so the front of the queue is checked before the whole queue is
        // searched.
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
