//! A first-in-first-out queue by order of routing. A request that must be tried again goes back to its
//! place, so that order holds whatever fails.

use std::collections::VecDeque;

use crate::request::RequestId;

/// Requests in the order they were routed.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<(u32, RequestId)>,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Adds a request routed as the `order`th; usually the last, else at its place.
    pub(super) fn add(&mut self, order: u32, request: RequestId) {
        if self.waiting.back().is_none_or(|(last, _)| *last < order) {
            self.waiting.push_back((order, request));
        } else {
            let place = self.waiting.partition_point(|(other, _)| *other < order);
            self.waiting.insert(place, (order, request));
        }
    }

    pub(super) fn take_first(&mut self) -> Option<RequestId> {
        self.waiting.pop_front().map(|(_, request)| request)
    }

    /// Takes out a request routed as the `order`th.
    pub(super) fn remove(&mut self, order: u32) {
        if let Ok(place) = self.waiting.binary_search_by_key(&order, |(other, _)| *other) {
            self.waiting.remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_back_takes_its_old_place() {
        let mut queue = Queue::default();
        for order in [1, 2, 4, 5] {
            queue.add(order, RequestId(order));
        }
        queue.add(3, RequestId(3));
        queue.add(0, RequestId(0));
        queue.remove(4);
        let order: Vec<u32> = std::iter::from_fn(|| queue.take_first()).map(|request| request.0).collect();
        assert_eq!(order, [0, 1, 2, 3, 5]);
    }
}
