//! Items in the order of a key that can change: the base of policies that rank their items. Not a policy itself.

use alloc::collections::{BTreeMap, BTreeSet};

use super::Item;

/// Items by key, the least first. Among equal keys, the lower image identifier comes first, then the smaller k.
#[derive(Debug)]
pub(super) struct Ranking<K> {
    order: BTreeSet<(K, Item)>,
    keys: BTreeMap<Item, K>,
}

impl<K> Default for Ranking<K> {
    fn default() -> Self {
        Self { order: BTreeSet::new(), keys: BTreeMap::new() }
    }
}

impl<K: Copy + Ord> Ranking<K> {
    /// Inserts an item with a key, or moves it to the place of its new key.
    pub(super) fn place(&mut self, item: Item, key: K) {
        if let Some(before) = self.keys.insert(item, key) {
            self.order.remove(&(before, item));
        }
        self.order.insert((key, item));
    }

    /// Returns the key of an item, if the item is here.
    pub(super) fn key(&self, item: Item) -> Option<K> {
        self.keys.get(&item).copied()
    }

    /// Removes an item, if it is here.
    pub(super) fn remove(&mut self, item: Item) {
        if let Some(key) = self.keys.remove(&item) {
            self.order.remove(&(key, item));
        }
    }

    /// Converts the key of every item.
    pub(super) fn convert_keys(&mut self, convert: impl Fn(K) -> K) {
        self.keys.values_mut().for_each(|key| *key = convert(*key));
        // The order is built anew: elements of a set cannot change in place.
        self.order = self.keys.iter().map(|(item, key)| (*key, *item)).collect();
    }

    /// Removes and returns the item with the least key.
    pub(super) fn pop_first(&mut self) -> Option<(K, Item)> {
        let (key, item) = self.order.pop_first()?;
        self.keys.remove(&item);
        Some((key, item))
    }
}
