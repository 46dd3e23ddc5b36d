//! Section `[queue]`: order of waiting requests, their deadlines, and the treatment of late requests.
//! `scheduler::queue` applies the settings while requests wait.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AllocationKind, Scenario};
use crate::input::InputError;
use crate::scheduler::routing::System;
use crate::scheduler::{Late, Order};

/// Section `[queue]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QueueSection {
    /// Order in which waiting requests are served. If absent, `misses_first` for `modm` (`slack` with `what_if`) and
    /// `oldest` for the other systems.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// Treatment of a request that can no longer meet its deadline. If absent, `in_turn`: nothing changes for the
    /// request (`last` with `what_if`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late: Option<Late>,
    /// Second deadline: time after its deadline from which a late request goes before those in time, in full
    /// generations of the large model on the first GPU type. If absent, it never does. Used with `late = "last"` and
    /// `"best"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overdue_multiple: Option<f64>,
    /// Multiple of a hit's time on a small model: time before its deadline at which the hit falls back on small models.
    /// While so many requests are late that the cluster cannot catch up soon, hits wait for a model that serves misses
    /// until then. 1.5 if absent. Used only with `late = "best"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fall_back: Option<f64>,
    /// True if a hit skips only the fewest steps that hits skip when it starts while another worker is ready for it
    /// too, provided that the hit still meets its deadline.
    #[serde(skip_serializing_if = "super::is_default")]
    #[schemars(!skip_serializing_if)]
    pub ease: bool,
    /// True if a request that cannot meet its deadline behind the requests before it is rejected at once.
    #[serde(skip_serializing_if = "super::is_default")]
    #[schemars(!skip_serializing_if)]
    pub admission: bool,
    /// Deadline of a request that has none of its own, as a time after its arrival: a multiple of the time of a full
    /// generation on the large model on the first GPU type.
    pub deadline_multiple: f64,
}

impl Default for QueueSection {
    fn default() -> Self {
        Self {
            order: None,
            late: None,
            overdue_multiple: None,
            fall_back: None,
            ease: false,
            admission: false,
            deadline_multiple: 2.0,
        }
    }
}

/// Discipline in force: the scenario's own settings, or the defaults for its system and its allocation policy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct InForce {
    pub(super) order: Order,
    pub(super) late: Late,
    pub(super) fall_back: f64,
}

impl Scenario {
    /// Sets the order of requests for a server that knows its tenants, unless the scenario sets one. The order is
    /// `fair`, so that the backlog of one tenant does not delay the requests of another, or `fair_slack` where `slack`
    /// would be the default. Returns the order in force.
    pub fn order_between_tenants(&mut self) -> Order {
        let fair = if self.discipline().order == Order::Slack { Order::FairSlack } else { Order::Fair };
        *self.queue.order.get_or_insert(fair)
    }

    /// Returns the discipline in force.
    pub(super) fn discipline(&self) -> InForce {
        let ours = self.allocation.policy == AllocationKind::WhatIf && self.system.policy == System::Modm;
        let (order, late) =
            if ours { (Order::Slack, Late::Last) } else { (self.system.policy.default_order(), Late::InTurn) };
        InForce {
            order: self.queue.order.unwrap_or(order),
            late: self.queue.late.unwrap_or(late),
            fall_back: self.queue.fall_back.unwrap_or(1.5),
        }
    }
}

impl QueueSection {
    /// Checks that all values are in range.
    pub(super) fn check(&self, file: &Path) -> Result<(), InputError> {
        if !(self.deadline_multiple > 0.0 && self.deadline_multiple <= 1e6) {
            let accepted = "expected a multiple above 0, at most 1000000";
            return Err(InputError::new(file, accepted).value("queue.deadline_multiple", self.deadline_multiple));
        }
        for (key, multiple) in [("queue.overdue_multiple", self.overdue_multiple), ("queue.fall_back", self.fall_back)]
        {
            if let Some(multiple) = multiple.filter(|multiple| !(0.0..=1e6).contains(multiple)) {
                return Err(InputError::new(file, "expected a multiple from 0 to 1000000").value(key, multiple));
            }
        }
        Ok(())
    }
}
