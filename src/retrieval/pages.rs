//! Memory in large pages, if the system has them: a scan of many megabytes then waits for memory and not for the
//! addresses of its pages (`docs/performance.md`).

use memmap2::MmapMut;

use crate::cache::index::Bytes;

/// Allocates this number of bytes. Bytes that are not used yet take no memory.
pub(super) fn allocate(bytes: usize) -> Bytes {
    let map = MmapMut::map_anon(bytes).expect("there is memory; a vector would abort, too");
    // If large pages are refused, scans are only slower.
    #[cfg(target_os = "linux")]
    let _ = map.advise(memmap2::Advice::HugePage);
    Box::new(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_zero_and_can_be_written() {
        let mut bytes = allocate(1 << 21);
        assert!(bytes.iter().all(|byte| *byte == 0) && bytes.len() == 1 << 21);
        bytes[1 << 20] = 7;
        assert_eq!(bytes[1 << 20], 7);
    }
}
