//! SIEVE (Zhang et al., NSDI '24): first in, first out, but what was used since the hand last passed stays
//! where it is. As simple as FIFO, and popular images survive. Not for scans of images used exactly once
//! more, long after.

use std::collections::BTreeMap;

use super::{EvictionPolicy, Item};
use crate::cache::Entry;
use crate::embedding::Embedding;

/// The hand moves from the oldest to the newest item and starts over; it spares each used item once.
#[derive(Debug, Default)]
pub(super) struct Sieve {
    /// By order of insertion; whether it was used since the hand passed.
    items: BTreeMap<u64, (Item, bool)>,
    places: BTreeMap<Item, u64>,
    inserted: u64,
    hand: u64,
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
            if let Some(place) = self.places.remove(&item) {
                self.items.remove(&place);
            }
        }
    }

    fn pop(&mut self) -> Option<Item> {
        loop {
            let ahead = self.items.range_mut(self.hand..).next().map(|(place, _)| *place);
            let place = ahead.or_else(|| self.items.keys().next().copied())?;
            let (item, used) = self.items.get_mut(&place)?;
            self.hand = place + 1;
            if *used {
                *used = false;
                continue;
            }
            let item = *item;
            self.items.remove(&place);
            self.places.remove(&item);
            return Some(item);
        }
    }
}
