//! Greedy dual, size and frequency (Cherkasova 1998), its cost the GPU seconds that an image has saved, its
//! size what it counts for: 1, or bytes where the capacity is in bytes.
//! Ages by inflation: what is evicted sets the level that newcomers start from, so that past savings fade.

use std::collections::BTreeMap;

use super::ranking::Ranking;
use super::{EvictionPolicy, EvictionSettings, Item};
use crate::cache::Entry;
use crate::embedding::Embedding;
use crate::image::ImageId;

/// Least `level + (saved + mean saving of a hit) / size` first, with the level at the item's last use; ties to the
/// less that it saved, then to the older.
#[derive(Debug)]
pub(super) struct Gdsf {
    /// By priority (bits of an f64 that is not negative, which order as it does), and what it has saved so far.
    items: Ranking<(u64, u64)>,
    sizes: BTreeMap<ImageId, u64>,
    saved_s: Vec<f64>,
    level: f64,
    /// Over all hits so far.
    total_saved_s: f64,
    hits: u64,
}

impl Gdsf {
    pub(super) fn new(settings: &EvictionSettings) -> Self {
        Self {
            items: Ranking::default(),
            sizes: BTreeMap::new(),
            saved_s: settings.saved_s.clone(),
            level: 0.0,
            total_saved_s: 0.0,
            hits: 0,
        }
    }

    /// A newcomer counts as if it had been of use once, as frequencies start from 1 in the original.
    fn place(&mut self, item: Item, saved_s: f64) {
        let typical = if self.hits == 0 { 0.0 } else { self.total_saved_s / self.hits as f64 };
        let size = self.sizes.get(&item.image).copied().unwrap_or(1).max(1);
        let priority = self.level + (saved_s + typical) / size as f64;
        self.items.place(item, (priority.to_bits(), saved_s.to_bits()));
    }
}

impl EvictionPolicy for Gdsf {
    fn on_insert(&mut self, entry: &Entry, _: &Embedding) {
        self.sizes.insert(entry.image, entry.weight);
        entry.items().for_each(|item| self.place(item, 0.0));
    }

    fn on_hit(&mut self, item: Item, skipped_steps: u32) {
        let saved = self.saved_s.get(skipped_steps as usize).copied().unwrap_or(0.0);
        self.total_saved_s += saved;
        self.hits += 1;
        if let Some((_, before)) = self.items.key(item) {
            self.place(item, f64::from_bits(before) + saved);
        }
    }

    fn on_remove(&mut self, entry: &Entry) {
        self.sizes.remove(&entry.image);
        entry.items().for_each(|item| self.items.remove(item));
    }

    fn pop(&mut self) -> Option<Item> {
        let ((priority, _), item) = self.items.pop_first()?;
        self.level = f64::from_bits(priority);
        self.sizes.remove(&item.image);
        Some(item)
    }
}
