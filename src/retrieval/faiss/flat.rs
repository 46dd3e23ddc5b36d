//! Flat index of FAISS as a part that only grows. It is exact except for the rounding of f32 sums, which `Nearest`
//! allows for.

use faiss::index::SearchResult;
use faiss::{ConcurrentIndex, FlatIndex, Index};

use super::OUT_OF_MEMORY;
use super::segments::Part;

/// Rows of one segment.
#[derive(Debug)]
pub struct Flat(FlatIndex);

impl Part for Flat {
    const EXACT: bool = true;

    fn new(dimension: usize) -> Self {
        Self(FlatIndex::new_ip(dimension as u32).expect(OUT_OF_MEMORY))
    }

    fn append(&mut self, vectors: &[f32]) {
        self.0.add(vectors).expect(OUT_OF_MEMORY);
    }

    fn search(&self, query: &[f32], wanted: usize) -> SearchResult {
        ConcurrentIndex::search(&self.0, query, wanted).expect(OUT_OF_MEMORY)
    }
}
