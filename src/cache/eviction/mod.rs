//! Which item leaves a full cache. One file a policy; each says where it comes from.

use serde::{Deserialize, Serialize};

use super::{Entry, Item};
use crate::time::Time;

mod fifo;
mod lcbfu;

/// Chooses what leaves a full cache. Items are what capacity counts: images, or one state of an entry.
pub trait EvictionPolicy: std::fmt::Debug + Send {
    /// An entry came in, with all its items.
    fn on_insert(&mut self, entry: &Entry, now: Time);
    /// An item was chosen as a source.
    fn on_hit(&mut self, item: Item, now: Time);
    /// An entry left for another reason than eviction.
    fn on_remove(&mut self, entry: &Entry);
    /// Takes the item to evict, if there is one.
    fn pop(&mut self) -> Option<Item>;
}

/// The policies by name, as `cache.eviction` has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Eviction {
    /// Oldest insertion first: a sliding window.
    #[default]
    Fifo,
    /// Least computationally beneficial and frequently used first.
    Lcbfu,
}

impl Eviction {
    /// A fresh policy.
    #[must_use]
    pub fn build(self) -> Box<dyn EvictionPolicy> {
        match self {
            Self::Fifo => Box::new(fifo::Fifo::default()),
            Self::Lcbfu => Box::new(lcbfu::Lcbfu::default()),
        }
    }
}
