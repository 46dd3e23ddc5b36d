//! SIEVE (Zhang et al., NSDI '24): first in, first out, but an item that was used since the hand last passed stays
//! where it is. The policy is as simple as FIFO, and popular images survive. It does not suit scans of images that are
//! used exactly once more, a long time later.
//!
//! The code follows Algorithm 1 of the paper and has no parameters. After the newest item was evicted, the hand starts
//! again at the oldest item, whatever is inserted before the next eviction. The evictions are those of `Sieve` in
//! libCacheSim.

use alloc::collections::BTreeMap;

use super::{EvictionPolicy, Item};
use crate::cache::Entry;
use crate::embedding::Embedding;

/// Eviction by a hand that moves from the oldest to the newest item and starts over. The hand spares each used item
/// once.
#[derive(Debug, Default)]
pub(super) struct Sieve {
    /// Items in order of insertion. The flag is true if the item was used since the hand passed.
    items: BTreeMap<u64, (Item, bool)>,
    places: BTreeMap<Item, u64>,
    inserted: u64,
    /// Place of the item that the next eviction looks at first; `None` for the oldest item. The place is always that of
    /// an item that is held: with the place of the next insertion, the hand would wait for an item that is not there
    /// yet.
    hand: Option<u64>,
}

impl Sieve {
    /// Returns the place of the next newer item.
    fn newer(&self, place: u64) -> Option<u64> {
        self.items.range(place + 1..).next().map(|(place, _)| *place)
    }

    /// Removes and returns the item at a place. If the hand is there, it moves to the next newer item.
    fn take(&mut self, place: u64) -> Option<Item> {
        if self.hand == Some(place) {
            self.hand = self.newer(place);
        }
        let (item, _) = self.items.remove(&place)?;
        self.places.remove(&item);
        Some(item)
    }
}

impl EvictionPolicy for Sieve {
    fn on_insert(&mut self, entry: &Entry, _: &Embedding) {
        for item in entry.items() {
            self.items.insert(self.inserted, (item, false));
            self.places.insert(item, self.inserted);
            self.inserted += 1;
        }
    }

    fn on_hit(&mut self, item: Item, _: u32) {
        if let Some((_, used)) = self.places.get(&item).and_then(|place| self.items.get_mut(place)) {
            *used = true;
        }
    }

    fn on_remove(&mut self, entry: &Entry) {
        for item in entry.items() {
            if let Some(&place) = self.places.get(&item) {
                self.take(place);
            }
        }
    }

    fn pop(&mut self) -> Option<Item> {
        loop {
            // Each turn clears a mark or ends the search, so that the hand goes around once at most.
            let place = self.hand.or_else(|| self.items.keys().next().copied())?;
            self.hand = Some(place);
            let (_, used) = self.items.get_mut(&place)?;
            if !core::mem::take(used) {
                return self.take(place);
            }
            self.hand = self.newer(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use rand::RngExt;

    use super::*;
    use crate::cache::eviction::tests::{entry, image, key};
    use crate::draw::{self, Purpose};

    /// Algorithm 1 of the paper on a list with the head (newest) first. `hand` is a row, or `None` for NULL.
    #[derive(Default)]
    struct Published {
        queue: Vec<(u32, bool)>,
        hand: Option<u32>,
    }

    impl Published {
        fn index(&self, row: u32) -> usize {
            self.queue.iter().position(|(held, _)| *held == row).expect("a row that is held")
        }

        /// Returns `o.prev` of the paper: the next newer row, or NULL at the head.
        fn previous(&self, index: usize) -> Option<u32> {
            index.checked_sub(1).map(|newer| self.queue[newer].0)
        }

        fn evict(&mut self) -> u32 {
            let tail = self.queue.len() - 1;
            let mut index = self.hand.map_or(tail, |row| self.index(row));
            while self.queue[index].1 {
                self.queue[index].1 = false;
                index = self.previous(index).map_or(tail, |row| self.index(row));
            }
            self.hand = self.previous(index);
            self.queue.remove(index).0
        }

        fn discard(&mut self, row: u32) {
            let index = self.index(row);
            if self.hand == Some(row) {
                self.hand = self.previous(index);
            }
            self.queue.remove(index);
        }
    }

    #[test]
    fn evicts_what_the_published_algorithm_evicts() {
        for seed in 0..50 {
            let mut draws = draw::stream(seed, Purpose::Test, 70);
            let (mut sieve, mut published) = (Sieve::default(), Published::default());
            let capacity = draws.random_range(1..30);
            let uses = draws.random_range(0..4);
            for row in 0..1_000 {
                if published.queue.len() == capacity {
                    let item = Item { image: image(published.evict()), skipped_steps: 0 };
                    assert_eq!(sieve.pop(), Some(item), "seed {seed}, row {row}");
                }
                sieve.on_insert(&entry(row), &key(row));
                published.queue.insert(0, (row, false));
                for _ in 0..draws.random_range(0..=uses) {
                    let used = draws.random_range(0..published.queue.len());
                    published.queue[used].1 = true;
                    sieve.on_hit(Item { image: image(published.queue[used].0), skipped_steps: 0 }, 5);
                }
                if draws.random_range(0..20) == 0 {
                    let (gone, _) = published.queue[draws.random_range(0..published.queue.len())];
                    published.discard(gone);
                    sieve.on_remove(&entry(gone));
                }
            }
        }
    }

    #[test]
    fn starts_again_at_the_oldest_after_the_newest_was_evicted() {
        let mut sieve = Sieve::default();
        let item = |row| Item { image: image(row), skipped_steps: 0 };
        (0..3).for_each(|row| sieve.on_insert(&entry(row), &key(row)));
        (0..2).for_each(|row| sieve.on_hit(item(row), 5));
        assert_eq!(sieve.pop(), Some(item(2)), "the hand passed two used ones and evicted the newest");
        sieve.on_insert(&entry(3), &key(3));
        assert_eq!(sieve.pop(), Some(item(0)), "not the one inserted since");
    }
}
