//! Settings of the queue: order of the waiting requests, treatment of late requests, and terms of tenants. The modules
//! `two_fifos`, `deadlines` and `fair` make the keys by which requests are ordered (docs/semantics.md, section 9).

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::TenantTerms;
use crate::request::TenantId;
use crate::time::Duration;

/// Order in which waiting requests are served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Misses before hits, each in order of routing: the paper's two queues. Not for deadlines: hits wait behind all
    /// misses.
    #[default]
    MissesFirst,
    /// Order of routing, oldest request first. Not for requests with deadlines of their own.
    Oldest,
    /// Earliest deadline first (EDF). Not for work of different lengths under overload.
    Deadline,
    /// Deadline less the expected time of the work, lowest first: the request that must start first is served first.
    /// Not for tenants that must not delay each other.
    Slack,
    /// Start-time fair queueing between tenants, by weight (Goyal et al., SIGCOMM '96). Not for deadlines: within a
    /// tenant, the oldest request is first.
    Fair,
    /// Start-time fair queueing between tenants. The requests of one tenant are served as with `slack`: the one that
    /// must start first is first. Not for a single tenant: `slack` is the same then.
    FairSlack,
}

/// Treatment of late requests. A request is late if it would miss its deadline even if it started now with its fastest
/// model and GPU type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Late {
    /// Normal service: a late request keeps its place. Not under overload: late requests make others late.
    #[default]
    InTurn,
    /// Service behind all requests in time. While requests of both kinds could start, one start in thirty goes to a
    /// late request, so that late requests do not starve. Not where every request must end soon.
    Last,
    /// Service as with `last`. While fewer than half of the latest requests are hits, late requests also get the best
    /// image possible, because their deadlines are missed in any case: a late hit skips the fewest steps that any hit
    /// skips, and a late request waits for the best model that may serve it, if any worker has that model as its
    /// target. Not where a late image is worth as little as none.
    Best,
    /// Rejection of late requests. Not where a late image is worth more than none.
    Reject,
}

/// Settings of the queue.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueSettings {
    /// Order in which waiting requests are served.
    pub order: Order,
    /// Treatment of late requests.
    pub late: Late,
    /// Time after its deadline from which a late request goes before those in time. `None` if it never does. Used with
    /// [`Late::Last`] and [`Late::Best`].
    pub overdue: Option<Duration>,
    /// Time from arrival within which a request without a deadline of its own should be finished.
    pub due: Duration,
    /// Point at which waiting hits fall back on small models, as a multiple of their expected time on the best small
    /// model, counted back from the deadline. While the queue is overrun, hits wait until then for a large model, which
    /// serves misses too. `None` if hits never wait for a large model.
    pub fall_back: Option<f64>,
    /// True if a hit skips only the fewest steps that any hit skips, provided that another ready worker could serve the
    /// hit too and that the hit still meets its deadline.
    pub ease: bool,
    /// Fewest denoising steps that any hit skips.
    pub least_skipped: u32,
    /// True if an arrival is rejected at once when it cannot be in time behind the requests that are served before it.
    pub admission: bool,
    /// Terms by tenant. Tenants beyond the end of the list have the default terms.
    pub terms: Vec<TenantTerms>,
}

impl QueueSettings {
    /// Returns the paper's settings: misses first, deadlines ignored.
    #[must_use]
    pub const fn paper() -> Self {
        Self {
            order: Order::MissesFirst,
            late: Late::InTurn,
            overdue: None,
            due: Duration::ZERO,
            fall_back: None,
            ease: false,
            least_skipped: 0,
            admission: false,
            terms: Vec::new(),
        }
    }

    /// Returns the terms of a tenant.
    pub(super) fn terms(&self, tenant: TenantId) -> TenantTerms {
        self.terms.get(tenant.0 as usize).copied().unwrap_or_default()
    }
}
