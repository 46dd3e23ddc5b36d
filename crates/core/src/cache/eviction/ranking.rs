//! Items in order of a key that changes: what policies that rank their items are made of. Not a policy.

use alloc::collections::{BTreeMap, BTreeSet};

use super::Item;

/// Items by key, least first; ties to the older image, then to the smaller k.
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
    /// Puts an item in its place, or moves it there.
    pub(super) fn place(&mut self, item: Item, key: K) {
        if let Some(before) = self.keys.insert(item, key) {
            self.order.remove(&(before, item));
        }
        self.order.insert((key, item));
    }

    /// An item's key, while it is here.
    pub(super) fn key(&self, item: Item) -> Option<K> {
        self.keys.get(&item).copied()
    }

    /// Takes an item out, if it is here.
    pub(super) fn remove(&mut self, item: Item) {
        if let Some(key) = self.keys.remove(&item) {
            self.order.remove(&(key, item));
        }
    }

    /// Gives every item another key.
    pub(super) fn convert_keys(&mut self, convert: impl Fn(K) -> K) {
        self.keys.values_mut().for_each(|key| *key = convert(*key));
        self.order = self.keys.iter().map(|(item, key)| (*key, *item)).collect();
    }

    /// Takes out the item with the least key.
    pub(super) fn pop_first(&mut self) -> Option<(K, Item)> {
        let (key, item) = self.order.pop_first()?;
        self.keys.remove(&item);
        Some((key, item))
    }
}
