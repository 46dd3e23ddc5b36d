//! Least computationally beneficial and frequently used: the eviction that Nirvana (NSDI '24) applies to intermediate
//! states. The worth of an item is the sum of the steps that its hits have spared: for a state, number of uses x k.
//! Worth is not aged, so an item that was popular once stays.

use super::ranking::Ranking;
use super::{EvictionPolicy, Item};
use crate::cache::Entry;
use crate::embedding::Embedding;

/// Eviction of the item that has spared the fewest steps. Among equal items, the older entry leaves first, then the
/// smaller k.
#[derive(Debug, Default)]
pub(super) struct Lcbfu {
    items: Ranking<(u64, u64)>,
    inserted: u64,
}

impl EvictionPolicy for Lcbfu {
    fn on_insert(&mut self, entry: &Entry, _: &Embedding) {
        // All states of an entry have one age. The order of items puts the smaller k first among them.
        let age = self.inserted;
        self.inserted += 1;
        for item in entry.items() {
            self.items.place(item, (0, age));
        }
    }

    fn on_hit(&mut self, item: Item, skipped_steps: u32) {
        if let Some((worth, age)) = self.items.key(item) {
            self.items.place(item, (worth + u64::from(skipped_steps), age));
        }
    }

    fn on_remove(&mut self, entry: &Entry) {
        entry.items().for_each(|item| self.items.remove(item));
    }

    fn pop(&mut self) -> Option<Item> {
        self.items.pop_first().map(|(_, item)| item)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::cache::eviction::tests::{entry, image, key};

    #[test]
    fn drops_the_least_used_times_k_then_older_then_smaller_k() {
        let mut lcbfu = Lcbfu::default();
        for row in 0..2 {
            lcbfu.on_insert(&Entry { states: [5, 10].into_iter().collect(), ..entry(row) }, &key(row));
        }
        let item = |row, skipped_steps| Item { image: image(row), skipped_steps };
        lcbfu.on_hit(item(0, 10), 10);
        lcbfu.on_hit(item(1, 5), 5);
        let order: Vec<Item> = core::iter::from_fn(|| lcbfu.pop()).collect();
        assert_eq!(order, [item(0, 5), item(1, 10), item(1, 5), item(0, 10)]);
    }
}
