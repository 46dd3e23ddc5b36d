//! Links of a network, which serve one transfer after the other, and the pictures that nodes keep. `trips` takes the
//! jobs over them.

use alloc::collections::BTreeMap;
use core::ops::Range;

use crate::image::ImageId;
use crate::network::transfer_time;
use crate::time::Time;

/// One direction of a link, which serves one transfer after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    bits_per_s: u64,
    /// Time from which on the link is free.
    free: Time,
}

impl Link {
    pub(super) const fn new(bits_per_s: u64) -> Self {
        Self { bits_per_s, free: Time::ZERO }
    }

    /// Takes on a transfer that comes to the link at `time`, and returns when the transfer occupies it. Transfers must
    /// come in the order of time.
    pub(super) fn occupy(&mut self, time: Time, bytes: u64) -> Range<Time> {
        let start = self.free.max(time);
        self.free = start + transfer_time(bytes, self.bits_per_s);
        start..self.free
    }
}

/// Pictures that a node keeps: those that were used last.
#[derive(Clone, Debug)]
pub(super) struct Store {
    most: usize,
    /// Number of uses so far, which orders the pictures by their last use.
    uses: u64,
    /// Last use of each picture, and the time at which it is there.
    kept: BTreeMap<ImageId, (u64, Time)>,
    by_use: BTreeMap<u64, ImageId>,
}

impl Store {
    pub(super) const fn new(most: usize) -> Self {
        Self { most, uses: 0, kept: BTreeMap::new(), by_use: BTreeMap::new() }
    }

    /// Uses a picture, and returns the time from which on it is there; `None` if the node has to fetch it.
    pub(super) fn find(&mut self, image: ImageId) -> Option<Time> {
        let (_, there) = *self.kept.get(&image)?;
        self.keep(image, there);
        Some(there)
    }

    /// Keeps a picture that is there from a time on, in place of the one that was used longest ago.
    pub(super) fn keep(&mut self, image: ImageId, there: Time) {
        if self.most == 0 {
            return;
        }
        self.uses += 1;
        if let Some((before, _)) = self.kept.insert(image, (self.uses, there)) {
            self.by_use.remove(&before);
        }
        self.by_use.insert(self.uses, image);
        if self.kept.len() > self.most
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.kept.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIGABIT: u64 = 1_000_000_000;

    fn at(nanoseconds: u64) -> Time {
        Time::from_nanoseconds(nanoseconds)
    }

    fn image(row: u32) -> ImageId {
        ImageId::warm(row)
    }

    #[test]
    fn a_link_serves_one_transfer_after_the_other() {
        let mut link = Link::new(GIGABIT);
        assert_eq!(link.occupy(at(10), 100), at(10)..at(810));
        assert_eq!(link.occupy(at(20), 50), at(810)..at(1210), "it waits for the one before it");
        assert_eq!(link.occupy(at(5000), 1), at(5000)..at(5008), "the link was free for a while");
    }

    #[test]
    fn a_node_keeps_the_pictures_that_were_used_last() {
        let mut store = Store::new(2);
        store.keep(image(0), at(1));
        store.keep(image(1), at(2));
        assert_eq!(store.find(image(0)), Some(at(1)));
        store.keep(image(2), at(3));
        assert_eq!([0, 1, 2].map(|row| store.find(image(row))), [Some(at(1)), None, Some(at(3))]);
        // A picture that is kept again takes no second place.
        store.keep(image(2), at(4));
        assert_eq!([0, 2].map(|row| store.find(image(row))), [Some(at(1)), Some(at(4))]);
        let mut nothing = Store::new(0);
        nothing.keep(image(0), at(1));
        assert_eq!(nothing.find(image(0)), None);
    }
}
