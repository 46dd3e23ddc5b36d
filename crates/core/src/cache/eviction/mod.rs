//! Choice of the item that leaves a full cache. Each policy has its own file, which names the source of the policy.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::{Entry, Item};
use crate::embedding::Embedding;
use crate::request::RequestId;

mod farthest;
mod fifo;
mod gdsf;
mod lcbfu;
mod lfu;
mod lru;
mod random;
mod ranking;
mod s3_fifo;
mod sieve;

pub use farthest::Foresight;

/// Policy that chooses the items that leave a full cache. An item is what the capacity counts: an image, or one state
/// of an entry.
pub trait EvictionPolicy: core::fmt::Debug + Send {
    /// Notes that an entry came in under this embedding, with all its items.
    fn on_insert(&mut self, entry: &Entry, key: &Embedding);
    /// Notes that an item was chosen as a source and spares this number of steps.
    fn on_hit(&mut self, item: Item, skipped_steps: u32);
    /// Notes the last request that was routed. The cache calls it before an insertion and the evictions that the
    /// insertion causes.
    fn on_request(&mut self, _: RequestId) {}
    /// Returns whether a new image competes with the images that are there. If so, the new image is inserted before
    /// room is made, and may leave at once. Otherwise other images make room first.
    fn newcomers_compete(&self) -> bool {
        false
    }
    /// Notes that an entry left for another reason than eviction.
    fn on_remove(&mut self, entry: &Entry);
    /// Takes out the item to evict, if there is one.
    fn pop(&mut self) -> Option<Item>;
}

/// Number of units in a full generation on the large model. Savings are counted in these units and not in seconds:
/// integers add up without rounding, and the unit of service times does not matter.
pub const FULL_GENERATION: u64 = 1 << 32;

/// Settings of a policy, with facts that it does not learn from the events of its items.
#[derive(Clone, Debug, Default)]
pub struct EvictionSettings {
    /// Capacity of the part of the cache that the policy is for: items, or bytes.
    pub capacity: u64,
    /// Seed of the draws of the policy.
    pub seed: u64,
    /// Stream of the draws of the policy. Each part of a cache has its own stream.
    pub stream: u64,
    /// GPU time that a hit saves, by skipped steps. A full generation has [`FULL_GENERATION`] units.
    pub savings: Vec<u64>,
    /// Saving that is expected of a hit before the first hit, in the same units.
    pub expected_saving: u64,
    /// Knowledge of the requests to come, for policies that use it.
    pub foresight: Option<Arc<dyn Foresight>>,
}

/// Eviction policies by their names in `cache.eviction`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Eviction {
    /// Oldest insertion first: a sliding window. Not for traces whose popular images stay popular.
    #[default]
    Fifo,
    /// Longest unused first. Not for bursts of prompts that never come back: they evict everything else.
    Lru,
    /// Fewest hits first. Not for drifting topics: an image that was popular once stays for good.
    Lfu,
    /// Fewest steps spared first, as `nirvana` evicts. Not for drifting topics, as with `lfu`.
    Lcbfu,
    /// Oldest first, but an item that was used since the hand last passed stays. Not for images that are used once
    /// more after a long time.
    Sieve,
    /// Queue on probation before the main queue. Not for images whose first use comes late: they are dropped early.
    #[serde(rename = "s3-fifo")]
    S3Fifo,
    /// Least GPU time saved first. Past savings fade. Not where all hits save the same: `sieve` is simpler then.
    Gdsf,
    /// Any item, drawn at random: the baseline that other policies must beat. Not for a system in service.
    Random,
    /// Item whose next use lies farthest ahead. The policy knows the future: a yardstick, not for a live system.
    Farthest,
}

impl Eviction {
    /// All policies.
    pub const ALL: [Self; 9] = [
        Self::Fifo,
        Self::Lru,
        Self::Lfu,
        Self::Lcbfu,
        Self::Sieve,
        Self::S3Fifo,
        Self::Gdsf,
        Self::Random,
        Self::Farthest,
    ];

    /// Returns a new policy without items.
    #[must_use]
    pub fn build(self, settings: &EvictionSettings) -> Box<dyn EvictionPolicy> {
        match self {
            Self::Fifo => Box::new(fifo::Fifo::default()),
            Self::Lru => Box::new(lru::Lru::default()),
            Self::Lfu => Box::new(lfu::Lfu::default()),
            Self::Lcbfu => Box::new(lcbfu::Lcbfu::default()),
            Self::Sieve => Box::new(sieve::Sieve::default()),
            Self::S3Fifo => Box::new(s3_fifo::S3Fifo::new(settings)),
            Self::Gdsf => Box::new(gdsf::Gdsf::new(settings)),
            Self::Random => Box::new(random::Random::new(settings)),
            Self::Farthest => Box::new(farthest::Farthest::new(settings)),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use rand::RngExt;
    use smallvec::SmallVec;

    use super::*;
    use crate::cache::Shelf;
    use crate::draw::{self, Purpose};
    use crate::image::ImageId;
    use crate::request::RequestId;
    use crate::time::Time;

    pub(super) fn image(row: u32) -> ImageId {
        ImageId::of_request(RequestId(row))
    }

    pub(super) fn entry(row: u32) -> Entry {
        let (shelf, states) = (Shelf::default(), SmallVec::new());
        Entry { image: image(row), shelf, states, weight: 1, inserted: Time::ZERO, number: 0 }
    }

    pub(super) fn key(row: u32) -> Embedding {
        Embedding::normalised(&[1.0, row as f32]).expect("a direction")
    }

    fn item(row: u32) -> Item {
        Item { image: image(row), skipped_steps: 0 }
    }

    fn settings(capacity: u64) -> EvictionSettings {
        let savings = (0..=50).collect();
        EvictionSettings { capacity, seed: 1, savings, expected_saving: 5, ..EvictionSettings::default() }
    }

    /// Inserts images `0..n`, uses some of them, and returns all rows in the order of eviction.
    fn order(eviction: Eviction, capacity: u64, n: u32, hits: &[(u32, u32)]) -> Vec<u32> {
        let mut policy = eviction.build(&settings(capacity));
        for row in 0..n {
            policy.on_insert(&entry(row), &key(row));
        }
        for &(row, skipped) in hits {
            policy.on_hit(item(row), skipped);
        }
        let rows: BTreeMap<ImageId, u32> = (0..n).map(|row| (image(row), row)).collect();
        core::iter::from_fn(|| policy.pop()).map(|item| rows[&item.image]).collect()
    }

    #[test]
    fn each_policy_has_its_order() {
        let hits = [(0, 5), (2, 30), (0, 5), (1, 5)];
        assert_eq!(order(Eviction::Fifo, 4, 4, &hits), [0, 1, 2, 3]);
        assert_eq!(order(Eviction::Lru, 4, 4, &hits), [3, 2, 0, 1]);
        assert_eq!(order(Eviction::Lfu, 4, 4, &hits), [3, 2, 1, 0], "one hit each: the longest unused first");
        assert_eq!(order(Eviction::Lcbfu, 4, 4, &hits), [3, 1, 0, 2], "5, 10 and 30 steps spared");
        assert_eq!(order(Eviction::Sieve, 4, 4, &hits), [3, 0, 1, 2], "the hand spares what was used, once");
        assert_eq!(order(Eviction::Gdsf, 4, 4, &hits), [3, 1, 0, 2], "5, 10 and 30 s saved");
        assert_eq!(order(Eviction::S3Fifo, 10, 4, &hits), [1, 2, 3, 0], "only what was used twice is promoted");
    }

    #[test]
    fn s3_fifo_takes_back_what_left_too_early() {
        let mut policy = Eviction::S3Fifo.build(&settings(10));
        policy.on_insert(&entry(0), &key(7));
        assert_eq!(policy.pop(), Some(item(0)));
        // An image with the same embedding goes to the main queue, and outlives a younger image.
        policy.on_insert(&entry(1), &key(7));
        policy.on_insert(&entry(2), &key(8));
        assert_eq!(policy.pop(), Some(item(2)));
        assert_eq!(policy.pop(), Some(item(1)));
    }

    #[test]
    fn random_is_seeded_and_even() {
        assert_eq!(order(Eviction::Random, 50, 50, &[]), order(Eviction::Random, 50, 50, &[]));
        assert_ne!(order(Eviction::Random, 50, 50, &[]), (0..50).collect::<Vec<_>>());
        let mut firsts = [0_u32; 4];
        for seed in 0..4_000 {
            let mut policy = Eviction::Random.build(&EvictionSettings { seed, ..settings(4) });
            for row in 0..4 {
                policy.on_insert(&entry(row), &key(row));
            }
            let first = policy.pop().expect("four items");
            firsts[(0..4).position(|row| image(row) == first.image).expect("one of them")] += 1;
        }
        assert!(firsts.iter().all(|count| (900..1100).contains(count)), "{firsts:?}");
    }

    #[test]
    fn whatever_happens_each_item_leaves_once() {
        for eviction in Eviction::ALL {
            let mut policy = eviction.build(&settings(20));
            let mut generator = draw::stream(9, Purpose::Test, eviction as u64);
            let mut held: Vec<u32> = Vec::new();
            for row in 0..5_000 {
                policy.on_insert(&entry(row), &key(generator.random_range(0..200)));
                held.push(row);
                for _ in 0..generator.random_range(0..3) {
                    policy.on_hit(item(held[generator.random_range(0..held.len())]), generator.random_range(0..=50));
                }
                policy.on_hit(item(row + 1), 5); // a hit of an item that is not held
                if generator.random_range(0..10) == 0 {
                    let place = generator.random_range(0..held.len());
                    policy.on_remove(&entry(held.swap_remove(place)));
                }
                while held.len() > 20 {
                    let gone = policy.pop().expect("an item");
                    let place = held.iter().position(|&row| item(row) == gone);
                    held.swap_remove(place.expect("one that is held"));
                }
            }
            while policy.pop().is_some_and(|gone| {
                let place = held.iter().position(|&row| item(row) == gone);
                held.swap_remove(place.expect("one that is held"));
                true
            }) {}
            assert!(held.is_empty(), "{eviction:?} keeps {held:?}");
        }
    }
}
