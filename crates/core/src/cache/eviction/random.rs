//! Evicts any item, drawn from the seed: the null baseline that every other policy must beat.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use rand::RngExt;

use super::{EvictionPolicy, EvictionSettings, Item};
use crate::cache::Entry;
use crate::draw::{self, Purpose};
use crate::embedding::Embedding;

/// Uniform choice among the items held. Each eviction draws from its own stream.
#[derive(Debug)]
pub(super) struct Random {
    items: Vec<Item>,
    places: BTreeMap<Item, usize>,
    seed: u64,
    /// Stream of the next eviction. Each part of the cache has 2^40 streams.
    next: u64,
}

impl Random {
    pub(super) fn new(settings: &EvictionSettings) -> Self {
        Self { items: Vec::new(), places: BTreeMap::new(), seed: settings.seed, next: settings.stream << 40 }
    }

    fn take(&mut self, place: usize) -> Item {
        // The last item fills the gap. Places need no order, since each draw is uniform over them.
        let item = self.items.swap_remove(place);
        self.places.remove(&item);
        if let Some(&moved) = self.items.get(place) {
            self.places.insert(moved, place);
        }
        item
    }
}

impl EvictionPolicy for Random {
    fn on_insert(&mut self, entry: &Entry, _: &Embedding) {
        for item in entry.items() {
            self.places.insert(item, self.items.len());
            self.items.push(item);
        }
    }

    fn on_hit(&mut self, _: Item, _: u32) {}

    fn on_remove(&mut self, entry: &Entry) {
        for item in entry.items() {
            if let Some(&place) = self.places.get(&item) {
                self.take(place);
            }
        }
    }

    fn pop(&mut self) -> Option<Item> {
        if self.items.is_empty() {
            return None;
        }
        let place = draw::stream(self.seed, Purpose::Eviction, self.next).random_range(0..self.items.len());
        self.next += 1;
        Some(self.take(place))
    }
}
