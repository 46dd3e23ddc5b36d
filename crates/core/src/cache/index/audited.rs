//! Index that may miss the nearest entry, beside an exact index that says how similar the nearest entry was. Decisions
//! are those of the checked index. `metrics::retrieval` compares the two answers.

use super::{ExactIndex, Match, Query, RetrievalIndex};
use crate::embedding::Embedding;
use crate::image::ImageId;

/// Index with an exact index that checks it. The check costs the time and memory of an exact search.
#[derive(Debug)]
pub struct Audited<I> {
    inner: I,
    exact: ExactIndex,
}

impl<I: RetrievalIndex> Audited<I> {
    /// Adds a check to an index, which must be empty.
    pub fn new(inner: I) -> Self {
        debug_assert!(inner.is_empty(), "what it holds already could not be checked");
        Self { inner, exact: ExactIndex::new() }
    }
}

impl<I: RetrievalIndex> RetrievalIndex for Audited<I> {
    fn insert(&mut self, image: ImageId, embedding: &Embedding) {
        self.inner.insert(image, embedding);
        self.exact.insert(image, embedding);
    }

    fn remove(&mut self, image: ImageId) {
        self.inner.remove(image);
        self.exact.remove(image);
    }

    fn nearest(&self, query: &Query<'_>) -> Option<Match> {
        // The check must change no decision: the run shows what the index itself leads to.
        self.inner.nearest(query)
    }

    fn audit(&self, query: &Query<'_>) -> Option<f64> {
        self.exact.nearest(query).map(|found| found.similarity)
    }

    fn len(&self) -> usize {
        self.inner.len()
    }
}
