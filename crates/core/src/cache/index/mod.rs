//! Finding the most similar entry: the trait, what is asked and what is answered. One file a backend.
//! `docs/retrieval.md` says when to use which.

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

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// The request whose prompt it is, if it is one's; lets a backend that searched ahead find its answer.
    pub request: Option<RequestId>,
    /// The embedding.
    pub embedding: &'a Embedding,
}

/// The most similar entry.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Match {
    /// Which.
    pub image: ImageId,
    /// Its similarity, as [`crate::embedding::similarity`] defines it.
    pub similarity: f64,
}

/// A set of embeddings that can be searched, all of which a query may find: whose entries those are is the
/// cache's business. Entries inserted later are younger; among equally similar ones the oldest is the nearest.
/// An exact index may use any precision as long as it provably finds the same entry; an approximate one may miss
/// it, but what it returns is there, with its own similarity.
pub trait RetrievalIndex: core::fmt::Debug + Send {
    /// Adds an entry; its image is not in the index yet.
    fn insert(&mut self, image: ImageId, embedding: &Embedding);
    /// Removes an entry, if it is there.
    fn remove(&mut self, image: ImageId);
    /// The most similar entry.
    fn nearest(&self, query: &Query<'_>) -> Option<Match>;
    /// The most similar entry for each of several queries; quicker than one by one where the index can share work.
    fn nearest_of_each(&self, queries: &[Query<'_>]) -> Vec<Option<Match>> {
        queries.iter().map(|query| self.nearest(query)).collect()
    }
    /// How similar the most similar entry really is, where an index that may miss it is checked.
    fn audit(&self, _: &Query<'_>) -> Option<f64> {
        None
    }
    /// Number of entries.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Makes the indexes of a cache, one for each set of entries that is searched apart.
pub struct NewIndex(Box<dyn Fn() -> Box<dyn RetrievalIndex> + Send>);

impl NewIndex {
    /// Made by this.
    pub fn new<I: RetrievalIndex + 'static>(make: impl Fn() -> I + Send + 'static) -> Self {
        Self(Box::new(move || Box::new(make())))
    }

    /// An empty index.
    pub fn make(&self) -> Box<dyn RetrievalIndex> {
        (self.0)()
    }
}

impl core::fmt::Debug for NewIndex {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("NewIndex")
    }
}
