//! Start-time fair queueing (Goyal, Vin, Cheng, SIGCOMM '96): over any stretch in which two tenants wait, what each is
//! served differs from its weight's share by at most one request of each. It needs no knowledge of the capacity, so
//! workers may come, go and change models.

use std::collections::BTreeMap;

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
