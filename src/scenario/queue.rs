//! `[queue]`: who goes first, by when, and what becomes of those that are late. What that means while requests wait is
//! `scheduler::queue`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{AllocationKind, Scenario};
use crate::input::InputError;
use crate::scheduler::routing::System;
use crate::scheduler::{Late, Order};

/// `[queue]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueueSection {
    /// Who goes first; if absent, misses for `modm` (least slack with `what_if`) and the oldest for the other systems.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// What becomes of a request that can no longer be in time; if absent, nothing (`best` with `what_if`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late: Option<Late>,
    /// While so many requests are late that time is lost for long, hits wait for a model that serves misses, and fall back
    /// on smaller ones so many times their own time there before they are due; 1.5 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fall_back: Option<f64>,
    /// Whether a hit that starts while another worker is ready for it too skips the fewest steps that hits skip, if it is
    /// in time all the same; if absent, only with `what_if`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ease: Option<bool>,
    /// Whether a request is rejected at once that cannot be in time behind what goes before it.
    #[serde(skip_serializing_if = "super::is_default")]
    pub admission: bool,
    /// When a request without a deadline of its own should be finished: so many full generations on the large model
    /// (first GPU type) after its arrival.
    pub deadline_multiple: f64,
}

impl Default for QueueSection {
    fn default() -> Self {
        Self { order: None, late: None, fall_back: None, ease: None, admission: false, deadline_multiple: 2.0 }
    }
}

/// What is in force: the scenario's own, or what goes with its system and its allocation policy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct InForce {
    pub(super) order: Order,
    pub(super) late: Late,
    pub(super) fall_back: f64,
    pub(super) ease: bool,
}

impl Scenario {
    /// Sets the order of requests for a server that knows its tenants, unless the scenario sets one: `fair`, so that no
    /// tenant's backlog holds another's requests up, or `fair_slack` where `slack` would be the default. Returns the order
    /// in force.
    pub fn order_between_tenants(&mut self) -> Order {
        let fair = if self.discipline().order == Order::Slack { Order::FairSlack } else { Order::Fair };
        *self.queue.order.get_or_insert(fair)
    }

    /// The discipline in force.
    pub(super) fn discipline(&self) -> InForce {
        let ours = self.allocation.policy == AllocationKind::WhatIf && self.system.policy == System::Modm;
        let (order, late) =
            if ours { (Order::Slack, Late::Best) } else { (self.system.policy.default_order(), Late::InTurn) };
        InForce {
            order: self.queue.order.unwrap_or(order),
            late: self.queue.late.unwrap_or(late),
            fall_back: self.queue.fall_back.unwrap_or(1.5),
            ease: self.queue.ease.unwrap_or(ours),
        }
    }
}

impl QueueSection {
    /// What is out of range.
    pub(super) fn check(&self, file: &Path) -> Result<(), InputError> {
        if !(self.deadline_multiple > 0.0 && self.deadline_multiple <= 1e6) {
            let accepted = "expected a multiple above 0, at most 1000000";
            return Err(InputError::new(file, accepted).value("queue.deadline_multiple", self.deadline_multiple));
        }
        if let Some(times) = self.fall_back.filter(|times| !(0.0..=1e6).contains(times)) {
            let accepted = "expected a multiple from 0 to 1000000";
            return Err(InputError::new(file, accepted).value("queue.fall_back", times));
        }
        Ok(())
    }
}
