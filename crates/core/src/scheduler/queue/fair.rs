//! Start-time fair queueing (Goyal, Vin, Cheng, SIGCOMM '96). While two tenants wait, the service of each differs from
//! the share of its weight by at most one request of each. The discipline does not need to know the capacity, so
//! workers may come, go and change models.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::{Discipline, Routed, Standing, WaitingRequest};
use crate::request::TenantId;
use crate::time::Duration;

/// Weight and priority of a tenant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TenantTerms {
    /// Share of the service in proportion to the weights of other tenants, above 0.
    pub weight: f64,
    /// Priority of the tenant. Requests of higher priority are served first, both among the requests in time and among
    /// the late requests.
    pub priority: u32,
}

impl Default for TenantTerms {
    fn default() -> Self {
        Self { weight: 1.0, priority: 0 }
    }
}

impl TenantTerms {
    /// Returns the rank of the priority: the highest priority has the lowest rank.
    pub(super) const fn rank(self) -> u32 {
        u32::MAX - self.priority
    }
}

/// Virtual time, in nanoseconds of service for a weight of 1.
#[derive(Clone, Debug, Default)]
struct VirtualTime {
    now: u64,
    /// Virtual end of the latest routed request of each tenant.
    ends: BTreeMap<TenantId, u64>,
}

impl VirtualTime {
    /// Returns the start tag of a request that takes `time`, and moves the end of the tenant behind the request.
    fn tag(&mut self, tenant: TenantId, time: Duration, weight: f64) -> u64 {
        let end = self.ends.entry(tenant).or_insert(0);
        // A tenant that asked for nothing for a while saves up no service: its next tag is not before the present.
        let start = self.now.max(*end);
        // The cast rounds down, and like the sum it saturates, so that a weight next to 0 does no harm.
        *end = start.saturating_add((time.nanoseconds() as f64 / weight) as u64);
        start
    }

    /// Moves virtual time to the tag of a request that is served.
    fn started(&mut self, tag: u64) {
        // Requests do not start in the order of tags alone: priorities, classes without a ready worker and retries come
        // between. Virtual time never goes back.
        self.now = self.now.max(tag);
    }
}

/// Fair shares between tenants, with each tenant's requests in order of routing.
#[derive(Clone, Debug, Default)]
pub(super) struct Fair(VirtualTime);

impl Discipline for Fair {
    fn key(&mut self, routed: &Routed, tenant: TenantId) -> u64 {
        self.0.tag(tenant, routed.usual, routed.weight)
    }

    fn started(&mut self, waits: &WaitingRequest, _: u64) {
        self.0.started(waits.key);
    }
}

/// Fair shares between tenants, with each tenant's requests in order of latest start. The request of a tenant that must
/// start first gets the lowest tag of that tenant. Requests of a tenant only exchange tags, so that the shares do not
/// change.
#[derive(Clone, Debug, Default)]
pub(super) struct FairSlack {
    time: VirtualTime,
    /// Requests in time, by tenant, then by latest start and order of routing.
    shares: BTreeMap<TenantId, BTreeMap<(u64, u32), Standing>>,
}

impl FairSlack {
    /// Removes a request from the requests of its tenant. Returns its place with its present tag.
    fn take_out(&mut self, waits: &WaitingRequest, slack: u64) -> Option<Standing> {
        let own = self.shares.get_mut(&waits.tenant)?;
        let removed = own.remove(&(slack, waits.order));
        // A tenant without waiting requests takes no room here.
        if own.is_empty() {
            self.shares.remove(&waits.tenant);
        }
        removed
    }
}

impl Discipline for FairSlack {
    fn key(&mut self, routed: &Routed, tenant: TenantId) -> u64 {
        self.time.tag(tenant, routed.usual, routed.weight)
    }

    fn slack(&self, routed: &Routed) -> u64 {
        routed.latest_start()
    }

    fn joined(&mut self, standing: Standing, slack: u64) -> Vec<(Standing, Standing)> {
        let own = self.shares.entry(standing.waits.tenant).or_default();
        let last = own.last_key_value().map(|(slack, last)| (*slack, last.waits.key));
        let slack = (slack, standing.waits.order);
        own.insert(slack, standing);
        // In the usual case the new request must start last and has the highest tag: no tag changes.
        if last.is_none_or(|(before, tag)| before < slack && tag <= standing.waits.key) {
            return Vec::new();
        }
        let mut tags: Vec<u64> = own.values().map(|standing| standing.waits.key).collect();
        tags.sort_unstable();
        let mut moved = Vec::new();
        for (standing, tag) in own.values_mut().zip(tags) {
            let before = *standing;
            standing.waits.key = tag;
            moved.extend((before.waits != standing.waits).then_some((before, *standing)));
        }
        moved
    }

    fn current(&self, standing: Standing, slack: u64) -> Standing {
        let own = self.shares.get(&standing.waits.tenant);
        own.and_then(|own| own.get(&(slack, standing.waits.order))).copied().unwrap_or(standing)
    }

    fn left(&mut self, standing: Standing, slack: u64) -> Standing {
        self.take_out(&standing.waits, slack).unwrap_or(standing)
    }

    fn started(&mut self, waits: &WaitingRequest, slack: u64) {
        self.take_out(waits, slack);
        self.time.started(waits.key);
    }
}
