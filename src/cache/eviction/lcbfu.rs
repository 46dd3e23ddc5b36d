//! Least computationally beneficial and frequently used: Nirvana's eviction (NSDI '24) of intermediate
//! states. An item's worth is times used x steps it skips. Not aged: what was popular once stays.

use std::collections::{BTreeMap, BTreeSet};

use super::{EvictionPolicy, Item};
use crate::cache::Entry;
use crate::time::Time;

/// Smallest times used x skipped steps first; ties to the older entry, then to the smaller k.
#[derive(Debug, Default)]
pub(super) struct Lcbfu {
    order: BTreeSet<Rank>,
    ranks: BTreeMap<Item, Rank>,
    inserted: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    worth: u64,
    age: u64,
    item: Item,
}

impl Lcbfu {
    fn place(&mut self, rank: Rank) {
        self.order.insert(rank);
        self.ranks.insert(rank.item, rank);
    }

    fn take(&mut self, item: Item) -> Option<Rank> {
        let rank = self.ranks.remove(&item)?;
        self.order.remove(&rank);
        Some(rank)
    }
}

impl EvictionPolicy for Lcbfu {
    fn on_insert(&mut self, entry: &Entry, _: Time) {
        let age = self.inserted;
        self.inserted += 1;
        for item in entry.items() {
            self.place(Rank { worth: 0, age, item });
        }
    }

    fn on_hit(&mut self, item: Item, _: Time) {
        if let Some(rank) = self.take(item) {
            self.place(Rank { worth: rank.worth + u64::from(item.skipped_steps), ..rank });
        }
    }

    fn on_remove(&mut self, entry: &Entry) {
        for item in entry.items() {
            self.take(item);
        }
    }

    fn pop(&mut self) -> Option<Item> {
        let rank = self.order.pop_first()?;
        self.ranks.remove(&rank.item);
        Some(rank.item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::ImageId;
    use crate::request::{RequestId, TenantId};

    #[test]
    fn drops_the_least_used_times_k_then_older_then_smaller_k() {
        let mut lcbfu = Lcbfu::default();
        let image = |row| ImageId::of_request(RequestId(row));
        for row in 0..2 {
            let entry = Entry { image: image(row), owner: TenantId(0), states: [5, 10].into_iter().collect() };
            lcbfu.on_insert(&entry, Time::ZERO);
        }
        let item = |row, skipped_steps| Item { image: image(row), skipped_steps };
        lcbfu.on_hit(item(0, 10), Time::ZERO);
        lcbfu.on_hit(item(1, 5), Time::ZERO);
        let order: Vec<Item> = std::iter::from_fn(|| lcbfu.pop()).collect();
        assert_eq!(order, [item(0, 5), item(1, 10), item(1, 5), item(0, 10)]);
    }
}
