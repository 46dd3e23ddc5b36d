//! Finding the most similar entry: the trait, what is asked and what is answered. One file a backend.

use serde::{Deserialize, Serialize};

use crate::embedding::Embedding;
use crate::image::ImageId;
use crate::request::{RequestId, TenantId};

mod codes;
mod exact;

pub use exact::ExactIndex;

/// Whose entries a query may find.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    /// Everybody's.
    #[default]
    Shared,
    /// Only this tenant's.
    Tenant(TenantId),
}

impl Scope {
    /// Whether an entry of this owner may be found.
    pub fn admits(self, owner: TenantId) -> bool {
        match self {
            Self::Shared => true,
            Self::Tenant(tenant) => tenant == owner,
        }
    }
}

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// On whose behalf; lets a backend that searched ahead find its answer.
    pub request: RequestId,
    /// The prompt's embedding.
    pub embedding: &'a Embedding,
    /// Whose entries count.
    pub scope: Scope,
}

/// The most similar entry.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Match {
    /// Which.
    pub image: ImageId,
    /// Its similarity, as [`crate::embedding::similarity`] defines it.
    pub similarity: f64,
}

/// A set of embeddings that can be searched. Entries inserted later are younger; among equally
/// similar ones the oldest is the nearest. A search may use any precision as long as it provably
/// finds the same entry.
pub trait RetrievalIndex: std::fmt::Debug + Send {
    /// Adds an entry; its image is not in the index yet.
    fn insert(&mut self, image: ImageId, owner: TenantId, embedding: &Embedding);
    /// Removes an entry, if it is there.
    fn remove(&mut self, image: ImageId);
    /// The most similar entry in scope.
    fn nearest(&self, query: &Query<'_>) -> Option<Match>;
    /// Number of entries.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
