//! Least recently used. Suits prompts that come back after a while; a burst of prompts that never do
//! empties the cache.

use super::ranking::Ranking;
use super::{EvictionPolicy, Item};
use crate::cache::Entry;
use crate::embedding::Embedding;

/// Longest unused first; an insertion is a use.
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
