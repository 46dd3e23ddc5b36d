//! The image cache: keeps index, eviction order and entries in step, and sources readable while a
//! job needs them. Not a store: it holds no pixels; who does is told what to keep and what to release.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::embedding::Embedding;
use crate::image::ImageId;
use crate::request::TenantId;

pub mod eviction;
pub mod index;

use eviction::EvictionPolicy;
use index::{Query, RetrievalIndex};

/// Which images are inserted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Admission {
    /// Every image.
    #[default]
    All,
    /// Images made by the large model.
    Large,
    /// Images of misses.
    Miss,
}

/// Something that counts against the capacity: an image, or one stored state of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    /// Whose.
    pub image: ImageId,
    /// The step the state was stored at; 0 for the final image.
    pub skipped_steps: u32,
}

/// What the cache holds of one image.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Which.
    pub image: ImageId,
    /// Whose request it was made for.
    pub owner: TenantId,
    /// Nirvana's intermediate states, by the steps each spares, rising; empty for a final image.
    pub states: SmallVec<[u32; 6]>,
}

impl Entry {
    /// What it holds that capacity counts.
    pub fn items(&self) -> impl Iterator<Item = Item> {
        let image = self.image;
        let whole = self.states.is_empty().then_some(0);
        whole.into_iter().chain(self.states.iter().copied()).map(move |skipped_steps| Item { image, skipped_steps })
    }
}

/// The nearest entry, as routing sees it.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Which.
    pub image: ImageId,
    /// How similar.
    pub similarity: f64,
    /// Its stored states, rising; empty for a final image.
    pub states: &'a [u32],
}

/// The cache.
#[derive(Debug)]
pub struct ImageCache {
    index: Box<dyn RetrievalIndex>,
    eviction: Box<dyn EvictionPolicy>,
    capacity: usize,
    held: usize,
    entries: BTreeMap<ImageId, Entry>,
    /// Sources of requests that have not ended, with how many need them.
    pins: BTreeMap<ImageId, u32>,
}

impl ImageCache {
    /// An empty cache for `capacity` items (at least 1).
    #[must_use]
    pub fn new(index: Box<dyn RetrievalIndex>, eviction: Box<dyn EvictionPolicy>, capacity: usize) -> Self {
        Self { index, eviction, capacity, held: 0, entries: BTreeMap::new(), pins: BTreeMap::new() }
    }

    /// The most similar entry in scope.
    pub fn nearest(&self, query: &Query<'_>) -> Option<Candidate<'_>> {
        let found = self.index.nearest(query)?;
        let entry = self.entries.get(&found.image).expect("index and entries are kept in step");
        Some(Candidate { image: found.image, similarity: found.similarity, states: &entry.states })
    }

    /// Counts a use of an image, which spares so many steps, and keeps it readable until [`Self::unpin`].
    pub fn pin(&mut self, image: ImageId, skipped_steps: u32) {
        // A state is known by the steps it spares; a final image is one item, whatever is spared.
        let state = self.entries.get(&image).is_some_and(|entry| entry.states.contains(&skipped_steps));
        self.eviction.on_hit(Item { image, skipped_steps: if state { skipped_steps } else { 0 } }, skipped_steps);
        *self.pins.entry(image).or_insert(0) += 1;
    }

    /// A request no longer needs its source. Returns whether the image is to be released now.
    #[must_use]
    pub fn unpin(&mut self, image: ImageId) -> bool {
        let Some(pins) = self.pins.get_mut(&image) else { return false };
        *pins -= 1;
        if *pins > 0 {
            return false;
        }
        self.pins.remove(&image);
        !self.entries.contains_key(&image)
    }

    /// Inserts an entry and evicts so that the capacity holds. Images that nothing needs any more are
    /// appended to `released`.
    ///
    /// An image takes the place of another, which leaves before it comes: it need not compete with images
    /// that had time to be used. Nirvana's states do compete, from the start (`docs/semantics.md`, section 5).
    pub fn insert(&mut self, entry: Entry, key: &Embedding, released: &mut Vec<ImageId>) {
        let items = entry.items().count();
        if entry.states.is_empty() {
            self.evict(items, released);
        }
        self.held += items;
        self.index.insert(entry.image, entry.owner, key);
        self.eviction.on_insert(&entry, key);
        self.entries.insert(entry.image, entry);
        self.evict(0, released);
    }

    /// Evicts until so many more items fit.
    fn evict(&mut self, coming: usize, released: &mut Vec<ImageId>) {
        while self.held + coming > self.capacity {
            let item = self.eviction.pop().expect("what is held is known to the eviction policy");
            self.drop_item(item, released);
        }
    }

    fn drop_item(&mut self, item: Item, released: &mut Vec<ImageId>) {
        self.held -= 1;
        let entry = self.entries.get_mut(&item.image).expect("eviction and entries are kept in step");
        entry.states.retain(|state| *state != item.skipped_steps);
        if entry.states.is_empty() {
            self.entries.remove(&item.image);
            self.index.remove(item.image);
            if !self.pins.contains_key(&item.image) {
                released.push(item.image);
            }
        }
    }

    /// Removes an entry whose image cannot be read. Pins stay until their requests end.
    pub fn forget(&mut self, image: ImageId) {
        if let Some(entry) = self.entries.remove(&image) {
            self.held -= entry.items().count();
            self.index.remove(image);
            self.eviction.on_remove(&entry);
        }
    }

    /// Items held.
    pub const fn held(&self) -> usize {
        self.held
    }

    /// Items it may hold.
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Whether an image can be read: it is cached, or a request still needs it.
    #[must_use]
    pub fn readable(&self, image: ImageId) -> bool {
        self.entries.contains_key(&image) || self.pins.contains_key(&image)
    }
}

#[cfg(test)]
mod tests {
    use super::eviction::{Eviction, EvictionSettings};
    use super::index::{ExactIndex, Scope};
    use super::*;
    use crate::request::RequestId;

    fn cache(eviction: Eviction, capacity: usize) -> ImageCache {
        ImageCache::new(Box::new(ExactIndex::new()), eviction.build(&EvictionSettings::default()), capacity)
    }

    fn image(row: u32) -> ImageId {
        ImageId::of_request(RequestId(row))
    }

    fn entry(row: u32, states: &[u32]) -> Entry {
        Entry { image: image(row), owner: TenantId(0), states: states.iter().copied().collect() }
    }

    fn axis() -> Embedding {
        Embedding::normalised(&[1.0, 0.0]).expect("a good row")
    }

    #[test]
    fn a_pinned_source_outlives_its_eviction() {
        let mut cache = cache(Eviction::Fifo, 1);
        let mut released = Vec::new();
        cache.insert(entry(0, &[]), &axis(), &mut released);
        cache.pin(image(0), 5);
        cache.insert(entry(1, &[]), &axis(), &mut released);
        assert!(released.is_empty() && cache.readable(image(0)));
        assert!(cache.unpin(image(0)), "the last need of an evicted image releases it");
        assert!(!cache.readable(image(0)));
        cache.insert(entry(2, &[]), &axis(), &mut released);
        assert_eq!(released, [image(1)]);
        assert_eq!(cache.held(), 1);
    }

    #[test]
    fn a_new_image_does_not_compete_with_those_in_use() {
        let mut cache = cache(Eviction::Lfu, 2);
        let mut released = Vec::new();
        for row in 0..2 {
            cache.insert(entry(row, &[]), &axis(), &mut released);
            cache.pin(image(row), 5);
            assert!(!cache.unpin(image(row)));
        }
        cache.insert(entry(2, &[]), &axis(), &mut released);
        assert_eq!(released, [image(0)]);
        assert!(cache.readable(image(2)));
    }

    #[test]
    fn capacity_counts_states_and_an_entry_without_any_leaves() {
        let mut cache = cache(Eviction::Lcbfu, 3);
        let mut released = Vec::new();
        cache.insert(entry(0, &[5, 10]), &axis(), &mut released);
        cache.insert(entry(1, &[5, 10]), &axis(), &mut released);
        let embedding = axis();
        let query = Query { request: RequestId(9), embedding: &embedding, scope: Scope::Shared };
        assert_eq!(cache.nearest(&query).map(|found| found.states.to_vec()), Some(vec![10]));
        cache.insert(entry(2, &[5]), &axis(), &mut released);
        assert_eq!(released, [image(0)]);
        assert_eq!(cache.held(), 3);
    }

    #[test]
    fn an_unreadable_image_is_forgotten() {
        let mut cache = cache(Eviction::Fifo, 2);
        let mut released = Vec::new();
        cache.insert(entry(0, &[]), &axis(), &mut released);
        cache.forget(image(0));
        assert_eq!(cache.held(), 0);
        cache.insert(entry(1, &[]), &axis(), &mut released);
        cache.insert(entry(2, &[]), &axis(), &mut released);
        assert!(released.is_empty() && cache.held() == 2);
    }
}
