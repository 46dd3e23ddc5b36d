//! Search for the most similar entry: the trait, its query and its answer. Each backend has its own file.
//! `docs/retrieval.md` says when to use which index.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::embedding::Embedding;
use crate::image::ImageId;
use crate::request::RequestId;

mod audited;
mod codes;
mod dot;
mod exact;
mod room;
mod vectors;

pub use audited::Audited;
pub use codes::QueryCodes;
pub use exact::ExactIndex;
pub use room::{Allocate, Bytes, plain};
pub use vectors::{Search, Vectors, margin};

/// Query for the most similar entry.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// Request whose prompt is looked up, if the query is that of a request. A backend that searched ahead finds its
    /// answer by the request.
    pub request: Option<RequestId>,
    /// Embedding to which the most similar entry is wanted.
    pub embedding: &'a Embedding,
    /// Images that are not wanted; few or none.
    pub without: &'a [ImageId],
}

/// Most similar entry.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Match {
    /// Image of the entry.
    pub image: ImageId,
    /// Similarity of the entry to the query, as [`crate::embedding::similarity`] defines it.
    pub similarity: f64,
}

/// Set of embeddings that can be searched. A query may find every entry of the set: the cache decides which entries are
/// in one set. Entries that are inserted later are younger. Among equally similar entries, the oldest is the nearest.
/// An exact index may use any precision as long as it provably finds the same entry. An approximate index may miss that
/// entry, but the entry that it returns is in the index and has the returned similarity.
pub trait RetrievalIndex: core::fmt::Debug + Send {
    /// Adds an entry. The image of the entry is not in the index yet.
    fn insert(&mut self, image: ImageId, embedding: &Embedding);
    /// Removes an entry, if it is there.
    fn remove(&mut self, image: ImageId);
    /// Returns the most similar entry that is wanted.
    fn nearest(&self, query: &Query<'_>) -> Option<Match>;
    /// Returns the most similar entry for each of several queries. An index that can share work is faster here than
    /// with one query after the other.
    fn nearest_of_each(&self, queries: &[Query<'_>]) -> Vec<Option<Match>> {
        queries.iter().map(|query| self.nearest(query)).collect()
    }
    /// Returns the true similarity of the most similar entry, if the index may miss that entry and is checked.
    fn audit(&self, _: &Query<'_>) -> Option<f64> {
        None
    }
    /// Returns the number of entries.
    fn len(&self) -> usize;
    /// Returns whether the index has no entries.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Maker of the indexes of a cache, one for each set of entries that is searched apart.
pub struct NewIndex(Box<dyn Fn() -> Box<dyn RetrievalIndex> + Send>);

impl NewIndex {
    /// Returns a maker that calls `make` for each index.
    pub fn new<I: RetrievalIndex + 'static>(make: impl Fn() -> I + Send + 'static) -> Self {
        Self(Box::new(move || Box::new(make())))
    }

    /// Makes an empty index.
    pub fn make(&self) -> Box<dyn RetrievalIndex> {
        (self.0)()
    }
}

impl core::fmt::Debug for NewIndex {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("NewIndex")
    }
}
