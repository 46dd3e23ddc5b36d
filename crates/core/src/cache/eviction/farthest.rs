//! Evicts the image whose next use lies farthest ahead (Belady, IBM Systems Journal 1966). The policy needs knowledge
//! of the future that no server has. A use is a request for which the image meets the lowest bound.
//!
//! The policy is a bound if each request is similar enough to the images of exactly one key, equally similar to all of
//! these, and ends before the next request arrives: no policy with the same admission then has more hits. Under
//! similarity hits the policy is a yardstick and no bound. It does not know which of several images will serve a
//! request, whether another image can replace the one that it evicts, or how many steps each image spares.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;

use super::{EvictionPolicy, EvictionSettings, Item};
use crate::cache::Entry;
use crate::embedding::Embedding;
use crate::image::ImageId;
use crate::request::RequestId;

/// Knowledge of the requests that are still to come.
pub trait Foresight: core::fmt::Debug + Send + Sync {
    /// Returns the row of the first request after `after` that an image could serve, or of the first such request of
    /// all if `after` is `None`. The answer may include the request that the image is made for, and requests before it:
    /// the policy asks only for later ones.
    fn next_use(&self, image: ImageId, after: Option<u32>) -> Option<u32>;
}

/// Next use of an image that no later request uses. It is greater than any row.
const NEVER: u64 = u64::MAX;

/// Eviction of the item with the farthest next use. Among items without a next use, the oldest leaves first.
#[derive(Debug)]
pub(super) struct Farthest {
    foresight: Option<Arc<dyn Foresight>>,
    /// Items by next use. Among equal next uses, younger items come before older ones.
    order: BTreeSet<(u64, core::cmp::Reverse<u64>, Item)>,
    /// Next use and number of insertion, by item.
    items: BTreeMap<Item, (u64, u64)>,
    inserted: u64,
    /// Row of the last request that was routed.
    row: Option<u32>,
}

impl Farthest {
    pub(super) fn new(settings: &EvictionSettings) -> Self {
        Self {
            foresight: settings.foresight.clone(),
            order: BTreeSet::new(),
            items: BTreeMap::new(),
            inserted: 0,
            row: None,
        }
    }

    fn place(&mut self, item: Item, age: u64) {
        let next = self.foresight.as_ref().and_then(|foresight| foresight.next_use(item.image, self.row));
        let next = next.map_or(NEVER, u64::from);
        self.items.insert(item, (next, age));
        self.order.insert((next, core::cmp::Reverse(age), item));
    }

    fn take(&mut self, item: Item) {
        if let Some((next, age)) = self.items.remove(&item) {
            self.order.remove(&(next, core::cmp::Reverse(age), item));
        }
    }
}

impl EvictionPolicy for Farthest {
    fn on_insert(&mut self, entry: &Entry, _: &Embedding) {
        for item in entry.items() {
            self.place(item, self.inserted);
            self.inserted += 1;
        }
    }

    fn on_hit(&mut self, _: Item, _: u32) {}

    fn on_request(&mut self, request: RequestId) {
        self.row = Some(request.0);
    }

    fn on_remove(&mut self, entry: &Entry) {
        entry.items().for_each(|item| self.take(item));
    }

    fn pop(&mut self) -> Option<Item> {
        // A next use that has passed is replaced by the first use after the last routed request.
        while let Some(&(next, core::cmp::Reverse(age), item)) = self.order.first()
            && self.row.is_some_and(|row| next <= u64::from(row))
        {
            self.take(item);
            self.place(item, age);
        }
        let (.., item) = *self.order.last()?;
        self.take(item);
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::cache::eviction::tests::{entry, image, key};

    /// Rows of the uses of each image.
    #[derive(Debug)]
    struct Known(BTreeMap<ImageId, Vec<u32>>);

    impl Foresight for Known {
        fn next_use(&self, image: ImageId, after: Option<u32>) -> Option<u32> {
            self.0[&image].iter().copied().find(|row| after.is_none_or(|after| *row > after))
        }
    }

    #[test]
    fn drops_what_is_used_last_and_first_what_is_used_no_more() {
        let uses = [(0, vec![3, 9]), (1, vec![5]), (2, vec![4, 7]), (3, vec![]), (4, vec![])];
        let known = Known(uses.into_iter().map(|(row, uses)| (image(row), uses)).collect());
        let settings = EvictionSettings { foresight: Some(Arc::new(known)), ..EvictionSettings::default() };
        let item = |row| Item { image: image(row), skipped_steps: 0 };
        let order = |routed: u32| -> Vec<Item> {
            let mut policy = Farthest::new(&settings);
            (0..5).for_each(|row| policy.on_insert(&entry(row), &key(row)));
            policy.on_request(RequestId(routed));
            core::iter::from_fn(|| policy.pop()).collect()
        };
        assert_eq!(order(1), [3, 4, 1, 2, 0].map(item), "next used at 3, 5, 4");
        assert_eq!(order(4), [3, 4, 0, 2, 1].map(item), "at 9, 5, 7");
        assert_eq!(order(7), [1, 2, 3, 4, 0].map(item), "only one is used again");
    }
}
