//! The disciplines: who goes first, what becomes of those that are late, and what tenants are entitled to. How the
//! keys are made is in `two_fifos`, `deadlines` and `fair`; docs/semantics.md, section 9.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::Terms;
use crate::request::TenantId;
use crate::time::Duration;

/// Who goes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Misses before hits, each in order of routing: the paper's two queues.
    #[default]
    MissesFirst,
    /// In order of routing.
    Oldest,
    /// By deadline (EDF).
    Deadline,
    /// By deadline less the expected time of the work: who must start first.
    Slack,
    /// Start-time fair queueing between tenants, by weight (Goyal et al., SIGCOMM '96).
    Fair,
    /// The same between tenants; of one tenant's requests the one that must start first goes first, as with `slack`.
    FairSlack,
}

/// What becomes of a request that can no longer be in time, even if it started now where it is served fastest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Late {
    /// It keeps its place.
    #[default]
    InTurn,
    /// It goes behind all that can be in time; one start in thirty is for those, so that they do not starve.
    Last,
    /// As `last`; and while hits are the smaller part of what comes, its picture is to be as good as can be, now that
    /// time is lost: a hit skips the fewest steps that hits skip, and what is late waits for the best model that may serve
    /// it.
    Best,
    /// It is rejected.
    Reject,
}

/// Who goes first, and by when.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueSettings {
    /// Who goes first.
    pub order: Order,
    /// What becomes of those that are late.
    pub late: Late,
    /// From arrival to when a request without a deadline of its own should be finished.
    pub due: Duration,
    /// If given, while the cluster is overrun hits wait for a model that serves misses, and fall back on smaller ones so
    /// many times their own time there before they are due.
    pub fall_back: Option<f64>,
    /// Whether a hit that starts while another worker is ready for it too skips the fewest steps that hits skip, if it is
    /// in time all the same.
    pub ease: bool,
    /// The fewest steps that a hit skips.
    pub least_skipped: u32,
    /// Whether a request is rejected at once that cannot be in time behind what goes before it.
    pub admission: bool,
    /// By tenant; those beyond the end have the usual terms.
    pub terms: Vec<Terms>,
}

impl QueueSettings {
    /// The paper's: misses first, nobody looks at deadlines.
    #[must_use]
    pub const fn paper() -> Self {
        Self {
            order: Order::MissesFirst,
            late: Late::InTurn,
            due: Duration::ZERO,
            fall_back: None,
            ease: false,
            least_skipped: 0,
            admission: false,
            terms: Vec::new(),
        }
    }

    /// Of a tenant.
    pub(super) fn terms(&self, tenant: TenantId) -> Terms {
        self.terms.get(tenant.0 as usize).copied().unwrap_or_default()
    }
}
