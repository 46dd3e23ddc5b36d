//! Figures of each tenant: its windows of time, its number of running requests, and its number of cached pictures. The
//! figures are kept apart, so that what a tenant is shown depends on its own requests alone.

use super::Facts;
use super::history::{History, Window};
use crate::request::TenantId;
use crate::time::Time;

/// Figures of one tenant.
#[derive(Debug)]
pub(super) struct Figures {
    pub(super) history: History,
    pub(super) running: u64,
    pub(super) cached: u64,
}

/// Figures of all tenants, by number; empty without keys.
#[derive(Debug)]
pub(super) struct AllFigures(Vec<Figures>);

impl AllFigures {
    pub(super) fn new(facts: &Facts) -> Self {
        let none = || Figures { history: History::without_workers(), running: 0, cached: 0 };
        Self(facts.tenants.iter().map(|_| none()).collect())
    }

    /// Returns the figures of a tenant, with its windows brought up to now; `None` without keys, or if the owner is not
    /// known.
    pub(super) fn up_to(&mut self, now: Time, tenant: Option<TenantId>, waiting: usize) -> Option<&mut Figures> {
        let figures = self.0.get_mut(tenant?.0 as usize)?;
        figures.history.advance(now, waiting);
        Some(figures)
    }

    /// Returns the windows of a tenant, and its numbers of waiting requests, running requests and cached pictures.
    pub(super) fn recent(&mut self, now: Time, tenant: TenantId, waiting: usize) -> (Vec<Window>, [u64; 3]) {
        let Some(figures) = self.up_to(now, Some(tenant), waiting) else { return (Vec::new(), [waiting as u64, 0, 0]) };
        (figures.history.windows(now, waiting), [waiting as u64, figures.running, figures.cached])
    }

    /// Estimates the whole seconds in which a number of a tenant's requests are served, at the rate of the last minute.
    pub(super) fn seconds_for(&self, now: Time, tenant: TenantId, requests: usize) -> Option<u64> {
        Some(self.0.get(tenant.0 as usize)?.history.seconds_for(now, requests))
    }
}
