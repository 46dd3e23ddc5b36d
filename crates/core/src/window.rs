//! A table keyed by numbers handed out in order: what is outstanding, in O(1) and in order.
//!
//! Not a map: memory follows the span from the oldest live key to the newest, which for requests
//! that end roughly in order is the number outstanding.

use alloc::collections::VecDeque;

/// A table of live entries keyed by increasing `u32`.
#[derive(Clone, Debug)]
pub struct Window<T> {
    first: u32,
    entries: VecDeque<Option<T>>,
    live: usize,
}

impl<T> Default for Window<T> {
    fn default() -> Self {
        Self { first: 0, entries: VecDeque::new(), live: 0 }
    }
}

impl<T> Window<T> {
    /// Number of live entries.
    pub const fn len(&self) -> usize {
        self.live
    }

    /// Whether nothing is live.
    pub const fn is_empty(&self) -> bool {
        self.live == 0
    }

    fn slot(&self, key: u32) -> Option<usize> {
        key.checked_sub(self.first).map(|slot| slot as usize)
    }

    /// Adds an entry. Keys may come a little out of order, but not below an entry already gone: such a
    /// key, or one that is live, is refused with `false`.
    pub fn insert(&mut self, key: u32, value: T) -> bool {
        if self.entries.is_empty() {
            self.first = key.max(self.first);
        }
        let Some(slot) = self.slot(key) else { return false };
        while self.entries.len() <= slot {
            self.entries.push_back(None);
        }
        if self.entries[slot].is_some() {
            return false;
        }
        self.entries[slot] = Some(value);
        self.live += 1;
        true
    }

    /// The entry of a key.
    pub fn get(&self, key: u32) -> Option<&T> {
        self.entries.get(self.slot(key)?)?.as_ref()
    }

    /// The entry of a key.
    pub fn get_mut(&mut self, key: u32) -> Option<&mut T> {
        let slot = self.slot(key)?;
        self.entries.get_mut(slot)?.as_mut()
    }

    /// Takes an entry out.
    pub fn remove(&mut self, key: u32) -> Option<T> {
        let slot = self.slot(key)?;
        let value = self.entries.get_mut(slot)?.take()?;
        self.live -= 1;
        while matches!(self.entries.front(), Some(None)) {
            self.entries.pop_front();
            self.first += 1;
        }
        Some(value)
    }

    /// Live entries.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries.iter_mut().flatten()
    }

    /// Live entries in order of key.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (self.first..).zip(&self.entries).filter_map(|(key, entry)| Some((key, entry.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_is_live_and_frees_the_front() {
        let mut window = Window::default();
        for key in 0..100 {
            assert!(window.insert(key, key * 2));
        }
        assert!(!window.insert(5, 0), "a live key is refused");
        assert_eq!(window.remove(1), Some(2));
        assert_eq!(window.entries.len(), 100, "the front is still live");
        assert_eq!(window.remove(0), Some(0));
        assert_eq!(window.entries.len(), 98);
        assert!(!window.insert(0, 0), "a key that has gone is refused");
        assert_eq!(window.remove(0), None);
        assert_eq!(window.get(2), Some(&4));
        assert_eq!(window.len(), 98);
        assert_eq!(window.iter().next(), Some((2, &4)));
    }
}
