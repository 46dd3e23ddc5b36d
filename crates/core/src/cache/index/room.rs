//! Growable array of bytes in memory that an allocation function provides. A scan of many megabytes is faster in large
//! pages, but the core cannot ask the system for them. Not a general container: it has only what `vectors` needs.

use alloc::boxed::Box;
use core::ops::DerefMut;

/// Smallest allocation, in bytes.
const LEAST: usize = 1 << 16;

/// Allocated bytes.
pub type Bytes = Box<dyn DerefMut<Target = [u8]> + Send + Sync>;

/// Function that allocates this number of bytes, all zero.
pub type Allocate = fn(usize) -> Bytes;

/// Allocates bytes with the global allocator.
#[must_use]
pub fn plain(bytes: usize) -> Bytes {
    Box::new(vec![0; bytes])
}

/// Growable array of bytes.
pub(super) struct Room {
    allocate: Allocate,
    /// Allocated memory. The first `len` bytes are in use.
    bytes: Bytes,
    len: usize,
}

impl Room {
    pub(super) fn new(allocate: Allocate) -> Self {
        Self { allocate, bytes: plain(0), len: 0 }
    }

    /// Returns the bytes in use.
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Returns the bytes in use, to be changed.
    pub(super) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }

    /// Appends bytes.
    pub(super) fn extend(&mut self, bytes: impl ExactSizeIterator<Item = u8>) {
        let (begin, len) = (self.len, self.len + bytes.len());
        let room = self.bytes.len();
        if len > room {
            // Room doubles, so that a byte is copied about once on average.
            self.grow(len.max(2 * room).max(LEAST));
        }
        self.len = len;
        for (place, byte) in self.as_mut_slice()[begin..].iter_mut().zip(bytes) {
            *place = byte;
        }
    }

    /// Drops the bytes after the first `len`.
    pub(super) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    fn grow(&mut self, room: usize) {
        let mut bytes = (self.allocate)(room);
        bytes[..self.len].copy_from_slice(self.as_slice());
        self.bytes = bytes;
    }
}

impl core::fmt::Debug for Room {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Room({} of {} bytes)", self.len, self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn grows_and_keeps_what_is_there() {
        let (mut room, mut expected) = (Room::new(plain), Vec::new());
        assert!(room.as_slice().is_empty());
        for round in 0..300_usize {
            let bytes = (0..1000).map(|at| (round * 7 + at) as u8);
            room.extend(bytes.clone());
            expected.extend(bytes);
            if round % 50 == 0 {
                room.truncate(round * 10);
                expected.truncate(round * 10);
            }
            assert!(room.as_slice() == expected, "round {round}");
        }
        room.as_mut_slice().copy_within(5..10, 0);
        expected.copy_within(5..10, 0);
        assert!(room.as_slice() == expected);
    }
}
