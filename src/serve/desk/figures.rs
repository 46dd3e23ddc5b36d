//! Figures of each tenant, kept apart so that what one is shown depends on its own requests alone: its windows of time, how
//! many of its requests run, and how many cached pictures are its own.

use super::Facts;
use super::history::{History, Window};
use crate::request::TenantId;
use crate::time::Time;

/// One tenant's figures.
#[derive(Debug)]
pub(super) struct Figures {
    pub(super) history: History,
    pub(super) running: u64,
    pub(super) cached: u64,
}

/// The figures of all tenants, by number; empty without keys.
#[derive(Debug)]
pub(super) struct AllFigures(Vec<Figures>);

impl AllFigures {
    pub(super) fn new(facts: &Facts) -> Self {
        let none = || Figures { history: History::without_workers(), running: 0, cached: 0 };
        Self(facts.tenants.iter().map(|_| none()).collect())
    }

    /// Figures of a tenant, its windows brought up to now; `None` without keys, or where the owner is not known.
    pub(super) fn up_to(&mut self, now: Time, tenant: Option<TenantId>, waiting: usize) -> Option<&mut Figures> {
        let figures = self.0.get_mut(tenant?.0 as usize)?;
        figures.history.advance(now, waiting);
        Some(figures)
    }

    /// Windows, and (waiting, running, cached).
    pub(super) fn lately(&mut self, now: Time, tenant: TenantId, waiting: usize) -> (Vec<Window>, [u64; 3]) {
        let Some(figures) = self.up_to(now, Some(tenant), waiting) else { return (Vec::new(), [waiting as u64, 0, 0]) };
        (figures.history.windows(now, waiting), [waiting as u64, figures.running, figures.cached])
    }

    /// Whole seconds in which so many requests of a tenant were served lately.
    pub(super) fn seconds_for(&self, now: Time, tenant: TenantId, requests: usize) -> Option<u64> {
        Some(self.0.get(tenant.0 as usize)?.history.seconds_for(now, requests))
    }
}
