//! A growable array of bytes in large pages, where the system has them: a scan of many megabytes then waits for memory
//! and not for the addresses of its pages (`docs/performance.md`). Not a container: only what `vectors` needs.

use memmap2::MmapMut;

/// Room to begin with, in bytes.
const LEAST: usize = 1 << 16;

/// Bytes, one after the other.
#[derive(Debug, Default)]
pub(super) struct Pages {
    /// As large as the room; what is not used yet takes no memory.
    map: Option<MmapMut>,
    len: usize,
}

impl Pages {
    /// What is there.
    pub(super) fn as_slice(&self) -> &[u8] {
        self.map.as_ref().map_or(&[], |map| &map[..self.len])
    }

    /// What is there, to be changed.
    pub(super) fn as_mut_slice(&mut self) -> &mut [u8] {
        self.map.as_mut().map_or(&mut [], |map| &mut map[..self.len])
    }

    /// Appends bytes.
    pub(super) fn extend(&mut self, bytes: impl ExactSizeIterator<Item = u8>) {
        let (begin, len) = (self.len, self.len + bytes.len());
        let room = self.map.as_ref().map_or(0, |map| map.len());
        if len > room {
            self.grow(len.max(2 * room).max(LEAST));
        }
        self.len = len;
        for (place, byte) in self.as_mut_slice()[begin..].iter_mut().zip(bytes) {
            *place = byte;
        }
    }

    /// Lets go of what comes after.
    pub(super) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    fn grow(&mut self, room: usize) {
        let mut map = MmapMut::map_anon(room).expect("there is memory; a vector would abort, too");
        // Where it is refused, it is slower.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        map[..self.len].copy_from_slice(self.as_slice());
        self.map = Some(map);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_and_keeps_what_is_there() {
        let (mut pages, mut expected) = (Pages::default(), Vec::new());
        assert!(pages.as_slice().is_empty());
        for round in 0..300_usize {
            let bytes = (0..1000).map(|at| (round * 7 + at) as u8);
            pages.extend(bytes.clone());
            expected.extend(bytes);
            if round % 50 == 0 {
                pages.truncate(round * 10);
                expected.truncate(round * 10);
            }
            assert!(pages.as_slice() == expected, "round {round}");
        }
        pages.as_mut_slice().copy_within(5..10, 0);
        expected.copy_within(5..10, 0);
        assert!(pages.as_slice() == expected);
    }
}
