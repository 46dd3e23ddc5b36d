//! Least recently used. The policy suits prompts that come back after a while. A burst of prompts that never come back
//! evicts all other images.

use super::ranking::Ranking;
use super::{EvictionPolicy, Item};
use crate::cache::Entry;
use crate::embedding::Embedding;

/// Eviction of the item that is unused for longest. An insertion counts as a use.
#[derive(Debug, Default)]
pub(super) struct Lru {
    items: Ranking<u64>,
    uses: u64,
}

impl Lru {
    fn touch(&mut self, item: Item) {
        self.uses += 1;
        self.items.place(item, self.uses);
    }
}

impl EvictionPolicy for Lru {
    fn on_insert(&mut self, entry: &Entry, _: &Embedding) {
        entry.items().for_each(|item| self.touch(item));
    }

    fn on_hit(&mut self, item: Item, _: u32) {
        // A hit of an item that has left does not bring it back.
        if self.items.key(item).is_some() {
            self.touch(item);
        }
    }

    fn on_remove(&mut self, entry: &Entry) {
        entry.items().for_each(|item| self.items.remove(item));
    }

    fn pop(&mut self) -> Option<Item> {
        self.items.pop_first().map(|(_, item)| item)
    }
}
