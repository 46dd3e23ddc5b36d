//! S3-FIFO (Yang et al., SOSP '23): a small queue on probation, a main queue, and a memory of what left the
//! small one, whose return goes straight to the main. Quick to drop what is never used.
//!
//! An image is known again by its embedding, bit for bit. Two images of one prompt differ, so that under
//! similarity hits the memory rarely speaks: this is then the two queues alone.

use std::collections::{BTreeMap, VecDeque};

use super::{EvictionPolicy, EvictionSettings, Item};
use crate::cache::Entry;
use crate::embedding::Embedding;

/// Uses are counted up to here.
const MOST_USES: u8 = 3;

/// An item of the small queue used more than once is promoted; one of the main queue goes around once for each use.
#[derive(Debug)]
pub(super) struct S3Fifo {
    small: VecDeque<Item>,
    main: VecDeque<Item>,
    items: BTreeMap<Item, (u8, Fingerprint)>,
    /// What left the small queue, in that order, and where in it each is.
    ghosts: BTreeMap<u64, Fingerprint>,
    places: BTreeMap<Fingerprint, u64>,
    left: u64,
    /// Items of the small queue, a tenth of the capacity; ghosts are as many as the main queue's.
    small_capacity: usize,
    most_ghosts: usize,
}

/// Of an embedding's bits (FNV-1a over words).
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
            small_capacity,
            most_ghosts: settings.capacity.saturating_sub(small_capacity),
        }
    }

    fn remember(&mut self, fingerprint: Fingerprint) {
        self.recall(fingerprint);
        self.left += 1;
        self.ghosts.insert(self.left, fingerprint);
        self.places.insert(fingerprint, self.left);
        if self.ghosts.len() > self.most_ghosts
            && let Some((_, oldest)) = self.ghosts.pop_first()
        {
            self.places.remove(&oldest);
        }
    }

    /// Whether it is remembered; no longer afterwards.
    fn recall(&mut self, fingerprint: Fingerprint) -> bool {
        self.places.remove(&fingerprint).is_some_and(|place| self.ghosts.remove(&place).is_some())
    }
}

impl EvictionPolicy for S3Fifo {
    fn on_insert(&mut self, entry: &Entry, key: &Embedding) {
        let fingerprint = fingerprint(key);
        let returns = self.recall(fingerprint);
        for item in entry.items() {
            let queue = if returns { &mut self.main } else { &mut self.small };
            queue.push_back(item);
            self.items.insert(item, (0, fingerprint));
        }
    }

    fn on_hit(&mut self, item: Item, _: u32) {
        if let Some((uses, _)) = self.items.get_mut(&item) {
            *uses = MOST_USES.min(*uses + 1);
        }
    }

    fn on_remove(&mut self, entry: &Entry) {
        for item in entry.items() {
            self.items.remove(&item);
        }
        self.small.retain(|item| item.image != entry.image);
        self.main.retain(|item| item.image != entry.image);
    }

    fn pop(&mut self) -> Option<Item> {
        loop {
            let from_small = self.small.len() >= self.small_capacity || self.main.is_empty();
            let item = if from_small { self.small.pop_front() } else { self.main.pop_front() }?;
            let (uses, fingerprint) = self.items.get_mut(&item)?;
            let stays = if from_small { *uses > 1 } else { *uses > 0 };
            if stays {
                *uses = if from_small { 0 } else { *uses - 1 };
                self.main.push_back(item);
                continue;
            }
            let fingerprint = *fingerprint;
            self.items.remove(&item);
            if from_small {
                self.remember(fingerprint);
            }
            return Some(item);
        }
    }
}
