//! The null policy: what the cluster starts with is what it keeps. The baseline for any monitor, and
//! what systems without small models run on.

use super::{Allocation, AllocationPolicy, Decided, Situation};
use crate::time::Time;

/// Never changes anything.
#[derive(Clone, Debug)]
pub struct StaticSplit {
    allocation: Allocation,
}

impl StaticSplit {
    /// Keeps this allocation.
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
