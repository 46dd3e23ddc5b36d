//! Line of waiting requests in their order. Most requests enter behind all others: these requests are kept in a ring
//! buffer, where entering at the back and leaving at the front take constant time and a withdrawn request is only
//! marked. The other requests are kept in a tree. The discipline decides the order, not the line.

use alloc::collections::{BTreeSet, VecDeque};

use crate::request::{RequestId, TenantId};
use crate::time::Time;

/// Waiting request. Requests are ordered by priority, then key, then routing. A request that is retried returns to its
/// old place, so that failures do not change the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::scheduler) struct WaitingRequest {
    /// Rank of the tenant's priority. The lowest rank is served first.
    pub(in crate::scheduler) priority: u32,
    /// Key that the discipline gave the request. The lowest key is served first.
    pub(in crate::scheduler) key: u64,
    /// Position in the order of routing, from 0.
    pub(in crate::scheduler) order: u32,
    pub(in crate::scheduler) request: RequestId,
    /// Deadline.
    pub(in crate::scheduler) due: Time,
    pub(in crate::scheduler) tenant: TenantId,
}

impl WaitingRequest {
    /// Returns the place of the request in a late line, where only priority and order of routing count.
    pub(super) const fn behind(self) -> Self {
        Self { key: 0, ..self }
    }
}

/// Line of waiting requests in rising order.
#[derive(Clone, Debug, Default)]
pub(in crate::scheduler) struct Line {
    /// Requests that entered behind all others, in rising order.
    ring: VecDeque<WaitingRequest>,
    /// Requests that entered before another request.
    tree: BTreeSet<WaitingRequest>,
    /// Requests that left the middle of the ring. They are only marked, because removing one would move all requests
    /// behind it. The first request of the ring is never among them.
    gone: BTreeSet<WaitingRequest>,
}

impl Line {
    pub(in crate::scheduler) fn len(&self) -> usize {
        self.ring.len() + self.tree.len() - self.gone.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        // The first request of the ring is never marked, so that a ring that is not empty has a request.
        self.ring.is_empty() && self.tree.is_empty()
    }

    /// Inserts a request. Returns whether the request is new to the line.
    pub(super) fn insert(&mut self, waits: WaitingRequest) -> bool {
        if self.ring.back().is_none_or(|last| *last < waits) {
            // The request may have entered the tree before a later request of the ring, which has left since.
            if self.tree.contains(&waits) {
                return false;
            }
            self.ring.push_back(waits);
            return true;
        }
        match self.ring.binary_search(&waits) {
            // The ring still has the request. If it is marked, it left and comes back now: the mark goes.
            Ok(_) => self.gone.remove(&waits),
            Err(_) => self.tree.insert(waits),
        }
    }

    /// Removes a request. Returns whether the request was in the line.
    pub(super) fn remove(&mut self, waits: &WaitingRequest) -> bool {
        match self.ring.binary_search(waits) {
            Ok(0) => {
                self.pop_ring();
                true
            }
            Ok(_) => {
                let was_there = self.gone.insert(*waits);
                // The ring is rebuilt once more than half of it is marked, so that a removal costs little on average.
                if self.gone.len() * 2 > self.ring.len() {
                    let gone = core::mem::take(&mut self.gone);
                    self.ring.retain(|waits| !gone.contains(waits));
                }
                was_there
            }
            Err(_) => self.tree.remove(waits),
        }
    }

    pub(super) fn first(&self) -> Option<&WaitingRequest> {
        match (self.ring.front(), self.tree.first()) {
            (Some(ring), Some(tree)) => Some(ring.min(tree)),
            (ring, tree) => ring.or(tree),
        }
    }

    pub(super) fn pop_first(&mut self) -> Option<WaitingRequest> {
        let of_ring = match (self.ring.front(), self.tree.first()) {
            (Some(ring), Some(tree)) => ring < tree,
            (ring, _) => ring.is_some(),
        };
        if of_ring { self.pop_ring() } else { self.tree.pop_first() }
    }

    /// Removes the first request of the ring, and the marked requests directly behind it.
    fn pop_ring(&mut self) -> Option<WaitingRequest> {
        let first = self.ring.pop_front();
        while !self.gone.is_empty()
            && let Some(next) = self.ring.front()
            && self.gone.remove(next)
        {
            self.ring.pop_front();
        }
        first
    }

    /// Returns the requests in order.
    pub(in crate::scheduler) fn iter(&self) -> impl Iterator<Item = &WaitingRequest> {
        let is_there = |waits: &&WaitingRequest| self.gone.is_empty() || !self.gone.contains(*waits);
        let (mut ring, mut tree) = (self.ring.iter().filter(is_there).peekable(), self.tree.iter().peekable());
        core::iter::from_fn(move || match (ring.peek(), tree.peek()) {
            (Some(one), Some(other)) if other < one => tree.next(),
            (None, _) => tree.next(),
            (Some(_), _) => ring.next(),
        })
    }
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;
    use crate::draw::{Purpose, stream};

    #[test]
    fn does_what_a_tree_does() {
        for seed in 0..200 {
            let mut draws = stream(seed, Purpose::Test, 60);
            let (mut line, mut tree) = (Line::default(), BTreeSet::new());
            let withdrawn = if seed % 2 == 0 { 0.2 } else { 0.9 };
            for order in 0..300_u32 {
                let key = if draws.random_bool(0.7) { u64::from(order) } else { draws.random_range(0..300) };
                let (request, due, tenant) = (RequestId(order), Time::ZERO, TenantId(0));
                let waits = WaitingRequest { priority: draws.random_range(0..2), key, order, request, due, tenant };
                assert_eq!(line.insert(waits), tree.insert(waits));
                assert!(!line.insert(waits));
                if draws.random_bool(if seed % 2 == 0 { 0.4 } else { 0.05 }) {
                    assert_eq!(line.pop_first(), tree.pop_first());
                }
                if draws.random_bool(withdrawn)
                    && let Some(some) = tree.iter().nth(draws.random_range(0..tree.len().max(1))).copied()
                {
                    assert!(line.remove(&some) && tree.remove(&some) && !line.remove(&some));
                    if draws.random_bool(0.3) {
                        assert!(line.insert(some) && tree.insert(some), "it comes back to its place");
                    }
                }
                assert!(line.iter().eq(tree.iter()) && line.first() == tree.first());
                assert_eq!((line.len(), line.is_empty()), (tree.len(), tree.is_empty()));
            }
        }
    }
}
