//! Finding the most similar entry: the trait, what is asked and what is answered. One file a backend.
//! `docs/retrieval.md` says when to use which.

use serde::{Deserialize, Serialize};

use crate::embedding::Embedding;
use crate::image::ImageId;
use crate::request::RequestId;

pub mod ahead;
mod audited;
mod codes;
mod dot;
mod exact;
#[cfg(feature = "faiss")]
mod faiss;
mod pages;
mod vectors;

pub use audited::Audited;
pub use exact::ExactIndex;
#[cfg(feature = "faiss")]
pub use faiss::{FaissFlat, FaissHnsw, FaissIvf, FaissIvfSq8};

/// Which index a cache is searched with. The FAISS ones need the cargo feature `faiss`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IndexKind {
    /// Ours: what brute force finds, from eight bits a component.
    #[default]
    Exact,
    /// FAISS' flat index: what brute force finds, from 32 bits a component.
    FaissFlat,
    /// FAISS' inverted lists of vectors as they are: a quarter of the lists is searched.
    FaissIvf,
    /// FAISS' inverted lists of vectors in eight bits a component.
    FaissIvfSq8,
    /// FAISS' graph of near neighbours (Malkov and Yashunin, arXiv:1603.09320).
    FaissHnsw,
}

impl IndexKind {
    /// What makes such indexes, with `measures_recall` each beside an exact one that checks it (the exact index is
    /// not checked); `None` for those of FAISS in a program built without it.
    #[must_use]
    pub fn build(self, measures_recall: bool) -> Option<NewIndex> {
        match self {
            Self::Exact => Some(NewIndex::new(ExactIndex::new)),
            #[cfg(feature = "faiss")]
            Self::FaissFlat => Some(checked(FaissFlat::new, measures_recall)),
            #[cfg(feature = "faiss")]
            Self::FaissIvf => Some(checked(FaissIvf::new, measures_recall)),
            #[cfg(feature = "faiss")]
            Self::FaissIvfSq8 => Some(checked(FaissIvfSq8::new, measures_recall)),
            #[cfg(feature = "faiss")]
            Self::FaissHnsw => Some(checked(FaissHnsw::new, measures_recall)),
            #[cfg(not(feature = "faiss"))]
            Self::FaissFlat | Self::FaissIvf | Self::FaissIvfSq8 | Self::FaissHnsw => {
                let _ = measures_recall;
                None
            }
        }
    }
}

#[cfg(feature = "faiss")]
fn checked<I: RetrievalIndex + 'static>(make: fn() -> I, measures_recall: bool) -> NewIndex {
    if measures_recall { NewIndex::new(move || Audited::new(make())) } else { NewIndex::new(make) }
}

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
pub trait RetrievalIndex: std::fmt::Debug + Send {
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

impl std::fmt::Debug for NewIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NewIndex")
    }
}

#[cfg(test)]
mod tests;
