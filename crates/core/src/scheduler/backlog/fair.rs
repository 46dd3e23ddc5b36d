//! Start-time fair queueing (Goyal, Vin, Cheng, SIGCOMM '96): over any stretch in which two tenants wait, what each is
//! served differs from its weight's share by at most one request of each. It needs no knowledge of the capacity, so
//! workers may come, go and change models.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::Waits;
use crate::request::TenantId;
use crate::time::Duration;

/// What a tenant is entitled to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// Its share of the service in relation to the others', above 0.
    pub weight: f64,
    /// Higher goes first, whatever else.
    pub priority: u32,
}

impl Default for Terms {
    fn default() -> Self {
        Self { weight: 1.0, priority: 0 }
    }
}

impl Terms {
    /// The highest priority comes first.
    pub(super) const fn rank(self) -> u32 {
        u32::MAX - self.priority
    }
}

/// Virtual time, in nanoseconds of service for a weight of 1.
#[derive(Clone, Debug, Default)]
pub(super) struct Fair {
    now: u64,
    /// Where each tenant's latest request ends.
    ends: BTreeMap<TenantId, u64>,
}

impl Fair {
    /// The start tag of a request that takes `time`.
    pub(super) fn tag(&mut self, tenant: TenantId, time: Duration, weight: f64) -> u64 {
        let end = self.ends.entry(tenant).or_insert(0);
        let start = self.now.max(*end);
        *end = start.saturating_add((time.nanoseconds() as f64 / weight) as u64);
        start
    }

    /// A request with this tag began to be served: virtual time is where it starts.
    pub(super) fn started(&mut self, tag: u64) {
        self.now = self.now.max(tag);
    }
}

/// Requests that wait in time, by tenant and slack: whichever of a tenant's must start first has the lowest of the tenant's
/// tags. Tags change hands and nothing else, so that each tenant's share stays what the tags say.
#[derive(Clone, Debug, Default)]
pub(super) struct SlackShares(BTreeMap<TenantId, BTreeMap<(u64, u32), Waits>>);

impl SlackShares {
    /// Takes a request in. Returns what changes places: as it waited, and as it waits from now on.
    pub(super) fn insert(&mut self, waits: Waits) -> Vec<(Waits, Waits)> {
        let own = self.0.entry(waits.tenant).or_default();
        let last = own.last_key_value().map(|(slack, last)| (*slack, last.place.key));
        let slack = (waits.slack, waits.place.order);
        own.insert(slack, waits);
        // The usual case: it came last and must start last.
        if last.is_none_or(|(before, tag)| before < slack && tag <= waits.place.key) {
            return Vec::new();
        }
        let mut tags: Vec<u64> = own.values().map(|waits| waits.place.key).collect();
        tags.sort_unstable();
        let mut moved = Vec::new();
        for (waits, tag) in own.values_mut().zip(tags) {
            let before = *waits;
            waits.place.key = tag;
            moved.extend((before != *waits).then_some((before, *waits)));
        }
        moved
    }

    /// Takes a request out. Returns it as it waited, if it did.
    pub(super) fn remove(&mut self, waits: &Waits) -> Option<Waits> {
        let own = self.0.get_mut(&waits.tenant)?;
        let removed = own.remove(&(waits.slack, waits.place.order));
        if own.is_empty() {
            self.0.remove(&waits.tenant);
        }
        removed
    }

    /// A request as it waits now, if it does.
    pub(super) fn current(&self, waits: &Waits) -> Option<Waits> {
        self.0.get(&waits.tenant)?.get(&(waits.slack, waits.place.order)).copied()
    }
}
