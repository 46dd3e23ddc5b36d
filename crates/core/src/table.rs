//! Table by key that cannot be iterated, so that no result depends on the order of a hash. The table is for the many
//! look-ups of cached images. For content in order there is `BTreeMap`, and for keys that come in order
//! [`crate::window::Window`].

use core::fmt;
use core::hash::{BuildHasher, Hash, Hasher};

use hashbrown::HashMap;

/// Hash table without iteration.
#[derive(Clone)]
pub(crate) struct Table<K, V>(HashMap<K, V, Mix>);

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self(HashMap::with_hasher(Mix))
    }
}

impl<K: Eq + Hash, V> Table<K, V> {
    /// Returns whether a key has an entry.
    pub(crate) fn contains(&self, key: &K) -> bool {
        self.0.contains_key(key)
    }

    /// Returns the entry of a key.
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.0.get(key)
    }

    /// Returns the entry of a key, to be changed.
    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.0.get_mut(key)
    }

    /// Returns the entry of a key, which is the default value if the key had none.
    pub(crate) fn entry(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        self.0.entry(key).or_default()
    }

    /// Inserts an entry, and returns the entry that the key had before.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.0.insert(key, value)
    }

    /// Removes and returns the entry of a key.
    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        self.0.remove(key)
    }
}

/// Shows the number of entries only, since their order means nothing.
impl<K, V> fmt::Debug for Table<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table({} entries)", self.0.len())
    }
}

/// Maker of hashes of numbers, the same in every run. No attacker chooses the keys, so the hash need not withstand
/// chosen keys.
#[derive(Clone, Copy, Debug, Default)]
struct Mix;

/// Hash of a few numbers.
#[derive(Clone, Copy, Debug, Default)]
struct Mixed(u64);

impl BuildHasher for Mix {
    type Hasher = Mixed;

    fn build_hasher(&self) -> Mixed {
        Mixed::default()
    }
}

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        // The table uses the highest and the lowest bits. The best bits of a product are at the top, so they are mixed
        // into the lowest bits.
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_i64(&mut self, number: i64) {
        self.write_u64(number.cast_unsigned());
    }

    fn write_u64(&mut self, number: u64) {
        // The multiplier is 2^64 over the golden ratio (Knuth, The Art of Computer Programming 3, section 6.4).
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use rand::RngExt;

    use super::*;
    use crate::draw::{Purpose, stream};

    #[test]
    fn does_what_a_map_does() {
        let mut draws = stream(8, Purpose::Test, 0);
        let (mut table, mut map) = (Table::<i64, u32>::default(), BTreeMap::new());
        for turn in 0..20_000 {
            let key = draws.random_range(-300..300);
            match draws.random_range(0..4) {
                0 => assert_eq!(table.insert(key, turn), map.insert(key, turn)),
                1 => assert_eq!(table.remove(&key), map.remove(&key)),
                2 => {
                    *table.entry(key) += 1;
                    *map.entry(key).or_default() += 1;
                }
                _ => assert_eq!(table.get(&key), map.get(&key)),
            }
            assert_eq!(table.0.len(), map.len());
            assert_eq!(
                (table.contains(&key), table.get_mut(&key).is_some()),
                (map.contains_key(&key), map.contains_key(&key))
            );
        }
    }

    #[test]
    fn hashes_of_neighbours_lie_apart() {
        // The lowest bits of a hash choose the place, and the highest bits choose the tag: both must be spread for keys
        // in order.
        let hashes: alloc::vec::Vec<u64> = (0..4096_i64).map(|key| Mix.hash_one(key)).collect();
        for part in [|hash: u64| hash & 0xfff, |hash: u64| hash >> 52] {
            let distinct: alloc::collections::BTreeSet<u64> = hashes.iter().map(|hash| part(*hash)).collect();
            assert!(distinct.len() > 2500, "{}", distinct.len());
        }
    }
}
