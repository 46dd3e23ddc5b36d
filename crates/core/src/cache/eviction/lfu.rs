//! Least frequently used. The policy keeps images that are asked for again and again. Hits are not aged, so an image
//! that was popular once stays for good.

use super::ranking::Ranking;
use super::{EvictionPolicy, Item};
use crate::cache::Entry;
use crate::embedding::Embedding;

/// Eviction of the item with the fewest hits. Among equal items, the one that is unused for longest leaves first.
#[derive(Debug, Default)]
pub(super) struct Lfu {
    items: Ranking<(u64, u64)>,
    uses: u64,
}

impl EvictionPolicy for Lfu {
    fn on_insert(&mut self, entry: &Entry, _: &Embedding) {
        for item in entry.items() {
            self.uses += 1;
            self.items.place(item, (0, self.uses));
        }
    }

    fn on_hit(&mut self, item: Item, _: u32) {
        if let Some((hits, _)) = self.items.key(item) {
            self.uses += 1;
            self.items.place(item, (hits + 1, self.uses));
        }
    }

    fn on_remove(&mut self, entry: &Entry) {
        entry.items().for_each(|item| self.items.remove(item));
    }

    fn pop(&mut self) -> Option<Item> {
        self.items.pop_first().map(|(_, item)| item)
    }
}
