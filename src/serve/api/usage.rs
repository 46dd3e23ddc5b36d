//! Limits on the use of the server: quotas of tenants, rates of keys, and running jobs, with what of them is used up.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Mutex;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use super::jobs;
use crate::request::TenantId;
use crate::serve::clock::HostClock;
use crate::serve::keys::{Keys, Tenant};
use crate::serve::ledger::{Entry, Ledger, LedgerError, Used};
use crate::serve::lock;
use crate::serve::settings::ServeSettings;

/// Use of the server by all tenants.
pub struct Usage {
    /// Limits by key, in the order of the file. Without keys there is one entry for everybody.
    pub(super) keys: Vec<KeyLimits>,
    /// Limits by tenant. Without keys there is one entry for everybody.
    pub(super) limits: Vec<Limits>,
    pub(super) jobs: Mutex<BTreeMap<String, jobs::Running>>,
}

impl Usage {
    /// Makes the limits of the settings and the keys, with the used quotas of the ledger.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn load(
        settings: &ServeSettings,
        keys: Option<&Keys>,
        tenants: &[String],
        ledger: &Ledger,
    ) -> Result<Self, LedgerError> {
        let limits = |tenant: &str| {
            let key = keys.and_then(|keys| keys.all().find(|key| key.tenant == tenant));
            Ok(Limits {
                tenant: tenant.to_owned(),
                a_day: key.and_then(|key| key.images_per_day).or(settings.images_per_day),
                used: Mutex::new(ledger.used(tenant)?.unwrap_or_default()),
                begun: Mutex::default(),
            })
        };
        let number = |name: &str| tenants.iter().position(|tenant| tenant == name).map(|place| TenantId(place as u32));
        let keys = match keys {
            Some(keys) => keys.all().map(|key| KeyLimits::new(settings, Some(key), number(&key.tenant))).collect(),
            None => vec![KeyLimits::new(settings, None, Some(TenantId(0)))],
        };
        // Without keys there is one quota, under the empty name that the ledger has for it.
        let everybody = [String::new()];
        let tenants = if tenants.is_empty() { &everybody } else { tenants };
        let limits = tenants.iter().map(|tenant| limits(tenant)).collect::<Result<_, LedgerError>>()?;
        Ok(Self { keys, limits, jobs: Mutex::default() })
    }

    /// Returns the number of the tenant with this name, or `None` if there is no such tenant. Without keys, everybody
    /// is the tenant without a name.
    pub(super) fn number(&self, tenant: Option<&str>) -> Option<TenantId> {
        let name = tenant.unwrap_or_default();
        let known = self.limits.iter().position(|limits| limits.tenant == name);
        known.map(|known| TenantId(known as u32))
    }

    /// Returns the number of images that a tenant may request in a day, or `None` without a limit.
    pub(super) fn daily(&self, tenant: TenantId) -> Option<u64> {
        self.limits.get(tenant.0 as usize).and_then(|limits| limits.a_day)
    }

    /// Returns the entries for the ledger: the used quotas.
    pub(super) fn entries(&self) -> Vec<Entry> {
        let counted = self.limits.iter().filter(|limits| limits.a_day.is_some());
        counted.map(|limits| Entry::Used(limits.tenant.clone(), *lock(&limits.used))).collect()
    }
}

/// Limits of a key, and its tenant.
pub(super) struct KeyLimits {
    /// Tenant of the key; `None` for an operator's key if its name has no key of a tenant.
    pub(super) tenant: Option<TenantId>,
    /// Number of images that may be requested at once.
    pub(super) burst: u32,
    rate: DefaultDirectRateLimiter,
}

impl KeyLimits {
    fn new(settings: &ServeSettings, key: Option<&Tenant>, tenant: Option<TenantId>) -> Self {
        let rate = key.and_then(|key| key.rate_per_min).unwrap_or(settings.rate_per_min);
        let burst = key.and_then(|key| key.burst).unwrap_or_else(|| settings.burst_at(rate));
        let least = |count| NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
        let rate = RateLimiter::direct(Quota::per_minute(least(rate)).allow_burst(least(burst)));
        Self { tenant, burst, rate }
    }

    /// Checks that a number of images may be requested with the key now, and counts them. Otherwise returns the seconds
    /// to wait. More images than the burst are never allowed.
    pub(super) fn check_rate(&self, images: u32) -> Result<(), u64> {
        match self.rate.check_n(NonZeroU32::new(images).unwrap_or(NonZeroU32::MIN)) {
            Ok(Ok(())) => Ok(()),
            // The seconds are rounded up: a client that waits for as long must not be refused again.
            Ok(Err(wait)) => Err(wait.wait_time_from(DefaultClock::default().now()).as_secs() + 1),
            // `Server::fits` has refused more images than the burst before.
            Err(_) => Err(60),
        }
    }
}

/// Limits of a tenant.
pub(super) struct Limits {
    tenant: String,
    /// Number of images that the tenant may request in a day; `None` means no limit.
    pub(super) a_day: Option<u64>,
    used: Mutex<Used>,
    /// Time on the monotonic clock at which the day of `used` began, or the program did.
    begun: Mutex<Duration>,
}

impl Limits {
    /// Takes a number of images from the quota of the day. Returns whether the quota had that many. A date that goes
    /// back begins no new day until a day has passed on the monotonic clock: a date that was far ahead once must not
    /// lock a tenant out for longer.
    pub(super) fn take(&self, images: u64, clock: &HostClock) -> bool {
        let Some(most) = self.a_day else { return true };
        let (today, mut used) = (clock.date() / 86_400, lock(&self.used));
        let mut begun = lock(&self.begun);
        let has_passed = clock.passed().saturating_sub(*begun) >= Duration::from_secs(86_400);
        if used.day < today || (used.day > today && has_passed) {
            *used = Used { day: today, images: 0 };
            *begun = clock.passed();
        }
        let fits = used.images + images <= most;
        used.images += if fits { images } else { 0 };
        fits
    }

    /// Gives images back that were taken from the quota but then not accepted.
    pub(super) fn give_back(&self, images: u64) {
        let mut used = lock(&self.used);
        used.images = used.images.saturating_sub(images);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::serve::clock::tests::set;

    const DAY: u64 = 86_400;

    #[test]
    fn a_date_that_went_back_begins_no_new_quota() {
        let folder = tempfile::tempdir().expect("a folder");
        let (clock, hands) = set(100 * DAY);
        let ledger = Ledger::open(folder.path(), &clock, None).expect("a ledger");
        let settings = ServeSettings { images_per_day: Some(2), ..ServeSettings::default() };
        let usage = Usage::load(&settings, None, &[], &ledger).expect("usage");
        assert_eq!((usage.number(None), usage.number(Some("alice"))), (Some(TenantId(0)), None));
        let limits = &usage.limits[0];
        assert!(limits.take(2, &clock) && !limits.take(1, &clock));
        hands.date.store(99 * DAY, Ordering::Relaxed);
        assert!(!limits.take(1, &clock), "a day back");
        hands.date.store(101 * DAY, Ordering::Relaxed);
        assert!(limits.take(2, &clock) && !limits.take(1, &clock));
        hands.date.store(50 * DAY, Ordering::Relaxed);
        hands.passed_s.store(DAY - 1, Ordering::Relaxed);
        assert!(!limits.take(1, &clock));
        hands.passed_s.store(DAY, Ordering::Relaxed);
        assert!(limits.take(1, &clock), "a day has passed");
    }
}
