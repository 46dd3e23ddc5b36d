//! Greedy dual, size and frequency (Cherkasova, HPL-98-69R1, 1998): priority = level + frequency x cost / size. The
//! level is the priority of the item that was evicted last, so that past savings fade. A new item competes at once. In
//! place of frequency x cost, we take the GPU time that the image has saved plus the mean saving of a hit. If every hit
//! saves the same, the evictions are those of `GDSF` in libCacheSim.
//!
//! Priorities are integers and compared exactly: a sum does not depend on the order of its terms. Savings are in units
//! of 2^-32 of a full generation, so a factor on all service times changes nothing. Sizes divide exactly while their
//! least common multiple is at most [`MOST_PARTS`]. Beyond that, quotients are rounded down.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::ranking::Ranking;
use super::{EvictionPolicy, EvictionSettings, Item};
use crate::cache::Entry;
use crate::embedding::Embedding;
use crate::image::ImageId;

/// Largest number of parts of a unit of saving in which priorities are counted. A priority of 128 bits then has room
/// for 2^88 units, the saving of 2^56 full generations.
const MOST_PARTS: u128 = 1 << 40;

/// Eviction of the item with the least priority. Among equal priorities, the item that is unused for longest leaves
/// first. An insertion counts as a use.
#[derive(Debug)]
pub(super) struct Gdsf {
    /// Key of each item: priority in parts of a unit, then number of the last use, then units saved so far.
    items: Ranking<(u128, u64, u64)>,
    sizes: BTreeMap<ImageId, u64>,
    /// Units that a hit saves, by skipped steps.
    savings: Vec<u64>,
    /// Mean saving of a hit, in units, that is assumed until there is a hit.
    expected: u64,
    /// Parts of a unit: a common multiple of all sizes so far, or [`MOST_PARTS`].
    parts: u128,
    level: u128,
    uses: u64,
    /// Units saved by all hits so far.
    total: u128,
    hits: u128,
}

impl Gdsf {
    pub(super) fn new(settings: &EvictionSettings) -> Self {
        Self {
            items: Ranking::default(),
            sizes: BTreeMap::new(),
            savings: settings.savings.clone(),
            expected: settings.expected_saving,
            parts: 1,
            level: 0,
            uses: 0,
            total: 0,
            hits: 0,
        }
    }

    fn place(&mut self, item: Item, saved: u64) {
        let mean = self.total.checked_div(self.hits).unwrap_or(u128::from(self.expected));
        let size = self.sizes.get(&item.image).copied().unwrap_or(1).max(1);
        // The parts come before the division, so that a quotient is exact wherever the size divides them.
        let value = u128::from(saved).saturating_add(mean).saturating_mul(self.parts) / u128::from(size);
        self.uses += 1;
        self.items.place(item, (self.level.saturating_add(value), self.uses, saved));
    }

    /// Makes the parts of a unit divisible by a size, and converts level and priorities.
    fn divide_by(&mut self, size: u64) {
        let (before, size) = (self.parts, u128::from(size.max(1)));
        // The factors are at most 2^40 and 2^64, so that their product fits.
        let multiple = before / greatest_common_divisor(before, size) * size;
        let parts = multiple.min(MOST_PARTS);
        if parts == before {
            return;
        }
        // The conversion is exact if the new parts are a multiple of the old ones. It keeps the order in any case.
        let convert = |value: u128| (value / before).saturating_mul(parts) + value % before * parts / before;
        self.level = convert(self.level);
        self.items.convert_keys(|(priority, used, saved)| (convert(priority), used, saved));
        self.parts = parts;
    }
}

const fn greatest_common_divisor(mut a: u128, mut b: u128) -> u128 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

impl EvictionPolicy for Gdsf {
    fn on_insert(&mut self, entry: &Entry, _: &Embedding) {
        self.divide_by(entry.weight);
        self.sizes.insert(entry.image, entry.weight);
        entry.items().for_each(|item| self.place(item, 0));
    }

    fn newcomers_compete(&self) -> bool {
        true
    }

    fn on_hit(&mut self, item: Item, skipped_steps: u32) {
        let saving = self.savings.get(skipped_steps as usize).copied().unwrap_or(0);
        // The mean includes this hit (docs/semantics.md, section 8).
        self.total += u128::from(saving);
        self.hits += 1;
        if let Some((.., saved)) = self.items.key(item) {
            self.place(item, saved.saturating_add(saving));
        }
    }

    fn on_remove(&mut self, entry: &Entry) {
        // The level stays: it is the value of what was evicted, and this entry left for another reason.
        self.sizes.remove(&entry.image);
        entry.items().for_each(|item| self.items.remove(item));
    }

    fn pop(&mut self) -> Option<Item> {
        let ((priority, ..), item) = self.items.pop_first()?;
        // From now on nothing is placed below the value of what was evicted: savings of the past fade.
        self.level = priority;
        self.sizes.remove(&item.image);
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;
    use crate::cache::eviction::tests::{entry, image, key};
    use crate::draw::{self, Purpose};

    fn item(row: u32) -> Item {
        Item { image: image(row), skipped_steps: 0 }
    }

    fn gdsf(savings: &[u64]) -> Gdsf {
        let expected_saving = savings.first().copied().unwrap_or(0);
        Gdsf::new(&EvictionSettings { savings: savings.to_vec(), expected_saving, ..EvictionSettings::default() })
    }

    /// Runs a workload of insertions and hits, and returns the evicted items in order. `weight` gives the weight of a
    /// row.
    fn evicted(mut gdsf: Gdsf, seed: u64, weight: impl Fn(u32) -> u64, skips: u32) -> Vec<Item> {
        let mut draws = draw::stream(seed, Purpose::Test, 71);
        let (mut held, mut evicted): (Vec<u32>, _) = (Vec::new(), Vec::new());
        for row in 0..2_000 {
            gdsf.on_insert(&Entry { weight: weight(row), ..entry(row) }, &key(row));
            held.push(row);
            if held.len() > 20 {
                let gone = gdsf.pop().expect("21 are held");
                held.retain(|row| item(*row) != gone);
                evicted.push(gone);
            }
            for _ in 0..draws.random_range(0..4) {
                // Most hits go to the same few items, so that priorities are far apart.
                let used = draws.random_range(0..held.len()).min(draws.random_range(0..held.len()));
                gdsf.on_hit(item(held[used]), draws.random_range(0..skips));
            }
        }
        evicted
    }

    /// Compares with the published formula for sizes of 1 and a cost of 1: the priority of an object is the clock at
    /// its last use plus its frequency. `held` has row, priority, last use and frequency.
    #[test]
    fn evicts_what_the_published_algorithm_evicts_where_every_hit_saves_the_same() {
        for seed in 0..50 {
            let mut draws = draw::stream(seed, Purpose::Test, 72);
            let mut gdsf = gdsf(&[0x5555_5555]);
            let (mut held, mut clock, mut uses): (Vec<(u32, u64, u64, u64)>, _, _) = (Vec::new(), 0, 0);
            let capacity = draws.random_range(1..30);
            for row in 0..1_000 {
                uses += 1;
                held.push((row, clock + 1, uses, 1));
                gdsf.on_insert(&entry(row), &key(row));
                if held.len() > capacity {
                    let least = (0..held.len()).min_by_key(|at| (held[*at].1, held[*at].2)).expect("a full cache");
                    let (gone, priority, ..) = held.remove(least);
                    clock = priority;
                    assert_eq!(gdsf.pop(), Some(item(gone)), "seed {seed}, row {row}");
                }
                for _ in 0..draws.random_range(0..4) {
                    let at = draws.random_range(0..held.len());
                    let (used, _, _, frequency) = held[at];
                    uses += 1;
                    held[at] = (used, clock + frequency + 1, uses, frequency + 1);
                    gdsf.on_hit(item(used), 0);
                }
            }
        }
    }

    #[test]
    fn a_factor_to_all_sizes_changes_nothing() {
        let savings = [3, 5, 7, 10, 11].map(|saving| saving << 28);
        for seed in 0..20 {
            let usual = evicted(gdsf(&savings), seed, |_| 1, 5);
            assert_eq!(evicted(gdsf(&savings), seed, |_| 1_500_007, 5), usual);
            let sizes = |row: u32| u64::from(1 + row % 12);
            let sized = evicted(gdsf(&savings), seed, sizes, 5);
            assert_ne!(sized, usual);
            assert_eq!(evicted(gdsf(&savings), seed, |row| 1_000 * sizes(row), 5), sized);
        }
    }

    #[test]
    fn sizes_without_a_small_common_multiple_still_divide() {
        let mut draws = draw::stream(3, Purpose::Test, 73);
        let sizes: Vec<u64> = (0..2_000).map(|_| draws.random_range(1..u64::MAX >> 20)).collect();
        let mut gdsf = gdsf(&[1 << 31]);
        for (row, weight) in (0..).zip(&sizes) {
            gdsf.on_insert(&Entry { weight: *weight, ..entry(row) }, &key(row));
        }
        assert_eq!(gdsf.parts, MOST_PARTS);
        // At level 0 and with equal uses, the largest item has the least priority.
        let mut largest_first: Vec<u32> = (0..2_000).collect();
        largest_first.sort_by_key(|row| core::cmp::Reverse(sizes[*row as usize]));
        assert_eq!(gdsf.pop(), Some(item(largest_first[0])));
    }

    #[test]
    fn old_savings_fade() {
        let mut gdsf = gdsf(&[5, 20]);
        gdsf.on_insert(&entry(0), &key(0));
        gdsf.on_hit(item(0), 1);
        // A new item starts at the priority of the item that left last: after a few insertions the old savings are
        // worth less.
        let mut survived = 0;
        for row in 1..20 {
            gdsf.on_insert(&entry(row), &key(row));
            gdsf.on_hit(item(row), 0);
            if gdsf.pop() == Some(item(0)) {
                break;
            }
            survived += 1;
        }
        assert!((1..10).contains(&survived), "{survived}");
    }
}
