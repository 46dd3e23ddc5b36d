//! Null policy: the cluster keeps its initial allocation. The policy is the baseline for every monitor, and systems
//! without small models use it.

use super::{Allocation, AllocationPolicy, Decided, Situation};
use crate::time::Time;

/// Policy that never changes the allocation.
#[derive(Clone, Debug)]
pub struct StaticSplit {
    allocation: Allocation,
}

impl StaticSplit {
    /// Makes a policy that keeps `allocation`.
    #[must_use]
    pub const fn new(allocation: Allocation) -> Self {
        Self { allocation }
    }
}

impl AllocationPolicy for StaticSplit {
    fn initial(&self) -> Allocation {
        self.allocation.clone()
    }

    fn next_decision(&self) -> Option<Time> {
        None
    }

    fn decide(&mut self, _: Time, _: &Situation) -> Option<Decided> {
        None
    }
}
