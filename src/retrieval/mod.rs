//! Search for the most similar entry beyond the exact index of the core: the kinds of index that a scenario names,
//! search ahead over a whole trace, FAISS, and memory in large pages. `docs/retrieval.md` says when to use which index.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[cfg(feature = "faiss")]
use crate::cache::index::{Audited, RetrievalIndex};
use crate::cache::index::{ExactIndex, NewIndex};

pub mod ahead;
#[cfg(feature = "faiss")]
mod faiss;
mod pages;

#[cfg(feature = "faiss")]
pub use faiss::{FaissFlat, FaissHnsw, FaissIvf, FaissIvfSq8};

/// Makes the exact index, with its codes in large pages if the system has them.
#[must_use]
pub fn exact() -> ExactIndex {
    ExactIndex::allocated_by(pages::allocate)
}

/// Kind of the index of a cache. The FAISS kinds need the cargo feature `faiss`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum IndexKind {
    /// Exact index of the core: it finds what brute force finds, from eight bits a component. Not for more than some
    /// million images.
    #[default]
    Exact,
    /// Flat index of FAISS: it finds what brute force finds, from 32 bits a component. Not for speed: `exact` reads a
    /// quarter of the bytes.
    FaissFlat,
    /// Inverted lists of FAISS, of vectors as they are: a quarter of the lists is searched. Not where every hit counts.
    FaissIvf,
    /// Inverted lists of FAISS, of vectors in eight bits a component. Not where every hit counts.
    FaissIvfSq8,
    /// Graph of near neighbours of FAISS (Malkov and Yashunin, arXiv:1603.09320). Not for caches that evict much.
    FaissHnsw,
}

impl IndexKind {
    /// Returns a maker of such indexes. With `measures_recall`, an exact index checks each index of FAISS (the exact
    /// index needs no check). Returns `None` for an index of FAISS in a program that was built without FAISS.
    #[must_use]
    pub fn build(self, measures_recall: bool) -> Option<NewIndex> {
        match self {
            Self::Exact => Some(NewIndex::new(exact)),
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

#[cfg(test)]
mod tests;
