//! S3-FIFO (Yang et al., SOSP '23): a small queue on probation, a main queue, and a memory of the items that left the
//! small queue (ghosts). An item that is remembered goes straight to the main queue when it comes back. The policy is
//! quick to drop images that are never used.
//!
//! An image is recognised by the bits of its embedding. Two images of one prompt differ, so under similarity hits the
//! memory rarely recognises an image, and the policy is then the two queues alone.

use alloc::collections::{BTreeMap, VecDeque};

use super::{EvictionPolicy, EvictionSettings, Item};
use crate::cache::Entry;
use crate::embedding::Embedding;

/// Largest number of uses that is counted.
const MOST_USES: u8 = 3;

/// Eviction by two queues. An item of the small queue that was used more than once moves to the main queue. An item of
/// the main queue goes around once for each use.
#[derive(Debug)]
pub(super) struct S3Fifo {
    small: VecDeque<Item>,
    main: VecDeque<Item>,
    items: BTreeMap<Item, KnownItem>,
    /// Fingerprint and weight of each item that left the small queue, in order of leaving.
    ghosts: BTreeMap<u64, (Fingerprint, u64)>,
    /// Place of each fingerprint in `ghosts`.
    places: BTreeMap<Fingerprint, u64>,
    /// Number of items that have been remembered so far.
    left: u64,
    /// Weight of the items in the small queue.
    small_held: u64,
    /// Weight that the small queue may hold: a tenth of the capacity.
    small_capacity: u64,
    /// Weight of the ghosts.
    ghosts_held: u64,
    /// Weight that the ghosts may have: as much as the main queue may hold.
    most_ghosts: u64,
}

/// Facts about an item that is held.
#[derive(Clone, Copy, Debug)]
struct KnownItem {
    uses: u8,
    fingerprint: Fingerprint,
    weight: u64,
    in_small: bool,
}

/// Hash of the bits of an embedding (FNV-1a over words).
type Fingerprint = u64;

fn fingerprint(embedding: &Embedding) -> Fingerprint {
    embedding.as_slice().iter().fold(0xcbf2_9ce4_8422_2325, |hash, value| {
        (hash ^ u64::from(value.to_bits())).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

impl S3Fifo {
    pub(super) fn new(settings: &EvictionSettings) -> Self {
        let small_capacity = (settings.capacity / 10).max(1);
        Self {
            small: VecDeque::new(),
            main: VecDeque::new(),
            items: BTreeMap::new(),
            ghosts: BTreeMap::new(),
            places: BTreeMap::new(),
            left: 0,
            small_held: 0,
            small_capacity,
            ghosts_held: 0,
            most_ghosts: settings.capacity.saturating_sub(small_capacity),
        }
    }

    fn remember(&mut self, fingerprint: Fingerprint, weight: u64) {
        // A fingerprint has one ghost. A second one takes its place at the end.
        self.recall(fingerprint);
        self.left += 1;
        self.ghosts.insert(self.left, (fingerprint, weight));
        self.places.insert(fingerprint, self.left);
        self.ghosts_held += weight;
        while self.ghosts_held > self.most_ghosts
            && let Some((_, (oldest, weight))) = self.ghosts.pop_first()
        {
            self.places.remove(&oldest);
            self.ghosts_held -= weight;
        }
    }

    /// Forgets a fingerprint, and returns whether it was remembered.
    fn recall(&mut self, fingerprint: Fingerprint) -> bool {
        let ghost = self.places.remove(&fingerprint).and_then(|place| self.ghosts.remove(&place));
        self.ghosts_held -= ghost.map_or(0, |(_, weight)| weight);
        ghost.is_some()
    }

    /// Removes and returns the oldest item of the small queue that was not used more than once. All items before it
    /// move to the main queue, even if the small queue then holds less than its share, as in the pseudocode of the
    /// paper.
    fn pop_small(&mut self) -> Option<Item> {
        while let Some(item) = self.small.pop_front() {
            // An item that was removed is passed over.
            let Some(known) = self.items.get_mut(&item) else { continue };
            if known.uses > 1 {
                (known.uses, known.in_small) = (0, false);
                self.small_held -= known.weight;
                self.main.push_back(item);
                continue;
            }
            let known = self.forget(item)?;
            self.remember(known.fingerprint, known.weight);
            return Some(item);
        }
        None
    }

    /// Removes and returns the oldest item of the main queue that has no use left. Each item before it goes around for
    /// one of its uses.
    fn pop_main(&mut self) -> Option<Item> {
        while let Some(item) = self.main.pop_front() {
            let Some(known) = self.items.get_mut(&item) else { continue };
            if known.uses == 0 {
                self.forget(item);
                return Some(item);
            }
            known.uses -= 1;
            self.main.push_back(item);
        }
        None
    }

    /// Forgets an item, and returns what was known of it. The queue of the item is not changed.
    fn forget(&mut self, item: Item) -> Option<KnownItem> {
        let known = self.items.remove(&item)?;
        self.small_held -= if known.in_small { known.weight } else { 0 };
        Some(known)
    }
}

impl EvictionPolicy for S3Fifo {
    fn on_insert(&mut self, entry: &Entry, key: &Embedding) {
        let (fingerprint, weight) = (fingerprint(key), entry.weight);
        // If two embeddings share a fingerprint, an image enters the main queue too soon. Nothing worse comes of it.
        let in_small = !self.recall(fingerprint);
        for item in entry.items() {
            let queue = if in_small { &mut self.small } else { &mut self.main };
            queue.push_back(item);
            self.small_held += if in_small { weight } else { 0 };
            self.items.insert(item, KnownItem { uses: 0, fingerprint, weight, in_small });
        }
    }

    fn on_hit(&mut self, item: Item, _: u32) {
        if let Some(known) = self.items.get_mut(&item) {
            known.uses = MOST_USES.min(known.uses + 1);
        }
    }

    fn on_remove(&mut self, entry: &Entry) {
        for item in entry.items() {
            self.forget(item);
        }
        // An item that expires is mostly at the front. Other removed items are passed over when they get to the front.
        for queue in [&mut self.small, &mut self.main] {
            while queue.front().is_some_and(|item| !self.items.contains_key(item)) {
                queue.pop_front();
            }
        }
    }

    fn pop(&mut self) -> Option<Item> {
        let small_first = self.small_held >= self.small_capacity || self.main.is_empty();
        let popped = if small_first { self.pop_small() } else { None };
        // The main queue may hold only items that were removed.
        popped.or_else(|| self.pop_main()).or_else(|| self.pop_small())
    }
}
