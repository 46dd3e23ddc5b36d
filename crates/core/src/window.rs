//! Table keyed by numbers that are handed out in order: it holds what is outstanding, with look-ups in O(1) and in
//! order.
//!
//! Not a map: memory follows the span from the oldest live key to the newest. For requests that end roughly in order,
//! the span is about the number of requests outstanding. Entries stand in blocks of equal size, so that the table grows
//! by a block and never by half of its size.

use alloc::boxed::Box;
use alloc::collections::VecDeque;

/// Number of entries in a block.
const BLOCK: usize = 128;

/// Table of live entries with increasing `u32` keys.
#[derive(Clone, Debug)]
pub struct Window<T> {
    /// Key of the first entry of the first block.
    base: u32,
    /// Lowest key that may be live or still come.
    first: u32,
    /// Number of keys from `first` to the highest one so far.
    span: usize,
    blocks: VecDeque<Box<[Option<T>]>>,
    /// Emptied block that is kept for the next block that is needed.
    spare: Option<Box<[Option<T>]>>,
    live: usize,
}

impl<T> Default for Window<T> {
    fn default() -> Self {
        Self { base: 0, first: 0, span: 0, blocks: VecDeque::new(), spare: None, live: 0 }
    }
}

impl<T> Window<T> {
    /// Returns the number of live entries.
    pub const fn len(&self) -> usize {
        self.live
    }

    /// Returns whether no entry is live.
    pub const fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Returns the block of a key that is not below the base, and the place in the block.
    #[inline]
    const fn place(&self, key: u32) -> (usize, usize) {
        // A key below the base wraps around to a block that does not exist, so that look-ups of keys that have gone
        // find nothing.
        let slot = key.wrapping_sub(self.base) as usize;
        (slot / BLOCK, slot % BLOCK)
    }

    /// Adds an entry, and returns whether it was added. Keys may come a little out of order. A live key is refused, and
    /// so is a key below the lowest live one, since the window has moved on from it.
    #[inline]
    pub fn insert(&mut self, key: u32, value: T) -> bool {
        if key < self.first {
            return false;
        }
        if self.span == 0 {
            // Nothing is live, so that the window begins anew at the key: keys that jump leave no empty blocks behind.
            self.first = key;
            self.base = key;
            // All entries of the old blocks are gone: one block serves again.
            self.spare = self.blocks.pop_front().or(self.spare.take());
            self.blocks.clear();
        }
        let (block, at) = self.place(key);
        while self.blocks.len() <= block {
            self.blocks.push_back(self.spare.take().unwrap_or_else(|| (0..BLOCK).map(|_| None).collect()));
        }
        let entry = &mut self.blocks[block][at];
        if entry.is_some() {
            return false;
        }
        *entry = Some(value);
        self.span = self.span.max((key - self.first) as usize + 1);
        self.live += 1;
        true
    }

    /// Returns the entry of a key.
    #[inline]
    pub fn get(&self, key: u32) -> Option<&T> {
        let (block, at) = self.place(key);
        self.blocks.get(block)?[at].as_ref()
    }

    /// Returns the entry of a key, to be changed.
    #[inline]
    pub fn get_mut(&mut self, key: u32) -> Option<&mut T> {
        let (block, at) = self.place(key);
        self.blocks.get_mut(block)?[at].as_mut()
    }

    /// Removes and returns the entry of a key.
    #[inline]
    pub fn remove(&mut self, key: u32) -> Option<T> {
        let (block, at) = self.place(key);
        let value = self.blocks.get_mut(block)?[at].take()?;
        self.live -= 1;
        if key == self.first {
            self.pass_gaps();
        }
        Some(value)
    }

    /// Moves the window on from keys whose entries have gone, and from blocks that have only such keys.
    fn pass_gaps(&mut self) {
        while self.span > 0 {
            let (block, at) = self.place(self.first);
            if self.blocks[block][at].is_some() {
                return;
            }
            self.first += 1;
            self.span -= 1;
            if at + 1 == BLOCK {
                self.spare = self.blocks.pop_front();
                self.base = self.first;
            }
        }
    }

    /// Returns the live entries in order of key, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.blocks.iter_mut().flatten().flatten()
    }

    /// Returns the live entries in order of key.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (self.base..).zip(self.blocks.iter().flatten()).filter_map(|(key, entry)| Some((key, entry.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use rand::RngExt;

    use super::*;
    use crate::draw::{Purpose, stream};

    #[test]
    fn keeps_what_is_live_and_frees_the_front() {
        let mut window = Window::default();
        for key in 0..100 {
            assert!(window.insert(key, key * 2));
        }
        assert!(!window.insert(5, 0), "a live key is refused");
        assert_eq!(window.remove(1), Some(2));
        assert_eq!((window.first, window.span), (0, 100), "the front is still live");
        assert_eq!(window.remove(0), Some(0));
        assert_eq!((window.first, window.span), (2, 98));
        assert!(!window.insert(0, 0), "a key that has gone is refused");
        assert_eq!(window.remove(0), None);
        assert_eq!(window.get(2), Some(&4));
        assert_eq!(window.len(), 98);
        assert_eq!(window.iter().next(), Some((2, &4)));
    }

    #[test]
    fn does_what_a_map_does_and_grows_by_blocks() {
        let mut draws = stream(3, Purpose::Test, 61);
        let (mut window, mut map) = (Window::default(), BTreeMap::new());
        let mut next = 0;
        for turn in 0..40_000_u32 {
            // Now and then the window runs empty and the keys jump, which numbers of requests never do in a run.
            let fills = turn / 5_000 % 2 == 0;
            if draws.random_bool(if fills { 0.7 } else { 0.3 }) {
                next += if map.is_empty() { draws.random_range(1..2_000) } else { draws.random_range(1..3) };
                assert!(window.insert(next, turn));
                map.insert(next, turn);
            } else if let Some(key) = map.keys().copied().nth(draws.random_range(0..map.len().max(1))) {
                assert_eq!(window.remove(key), map.remove(&key));
                assert_eq!(window.get(key), None);
            }
            let key = draws.random_range(0..next + 300);
            assert_eq!(window.get(key), map.get(&key));
            assert_eq!(window.get_mut(key), map.get_mut(&key));
            assert_eq!((window.len(), window.is_empty()), (map.len(), map.is_empty()));
            if turn % 500 == 0 {
                assert!(window.iter().map(|(key, value)| (key, *value)).eq(map.clone()));
            }
            let first = map.keys().next().copied().unwrap_or(next);
            assert!(window.blocks.len() <= (next - first) as usize / BLOCK + 2);
        }
    }
}
