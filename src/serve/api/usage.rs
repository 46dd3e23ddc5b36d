//! What the server remembers of those who ask: how much, how fast, and which jobs of theirs run.

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

/// Of all tenants.
pub struct Usage {
    /// Limits by key, in the order of the file; one for everybody without keys.
    pub(super) keys: Vec<KeyLimits>,
    /// By tenant; one for everybody without keys.
    pub(super) limits: Vec<Limits>,
    pub(super) jobs: Mutex<BTreeMap<String, jobs::Running>>,
}

impl Usage {
    /// As the ledger has it.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn of(
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
        let everybody = [String::new()];
        let tenants = if tenants.is_empty() { &everybody } else { tenants };
        let limits = tenants.iter().map(|tenant| limits(tenant)).collect::<Result<_, LedgerError>>()?;
        Ok(Self { keys, limits, jobs: Mutex::default() })
    }

    /// The number of a tenant; nobody has that of somebody else. Everybody is the tenant without a name where there are no keys.
    pub(super) fn number(&self, tenant: Option<&str>) -> Option<TenantId> {
        let name = tenant.unwrap_or_default();
        let known = self.limits.iter().position(|limits| limits.tenant == name);
        known.map(|known| TenantId(known as u32))
    }

    /// Images that a tenant may ask for on a day, if there is a limit.
    pub(super) fn daily(&self, tenant: TenantId) -> Option<u64> {
        self.limits.get(tenant.0 as usize).and_then(|limits| limits.a_day)
    }

    /// What is to be kept of it: the quotas that are used.
    pub(super) fn entries(&self) -> Vec<Entry> {
        let counted = self.limits.iter().filter(|limits| limits.a_day.is_some());
        counted.map(|limits| Entry::Used(limits.tenant.clone(), *lock(&limits.used))).collect()
    }
}

/// How fast may be asked with a key, and for whom.
pub(super) struct KeyLimits {
    /// Its tenant; none for an operator's key whose tenant has no key that draws.
    pub(super) tenant: Option<TenantId>,
    /// Images at once.
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

    /// Whether so many images may be asked for now; else in how many seconds. More than the burst never may.
    pub(super) fn check_rate(&self, images: u32) -> Result<(), u64> {
        match self.rate.check_n(NonZeroU32::new(images).unwrap_or(NonZeroU32::MIN)) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(wait)) => Err(wait.wait_time_from(DefaultClock::default().now()).as_secs() + 1),
            Err(_) => Err(60),
        }
    }
}

/// Limits of a tenant.
pub(super) struct Limits {
    tenant: String,
    /// Images a day; none without a limit.
    pub(super) a_day: Option<u64>,
    used: Mutex<Used>,
    /// Passed time when the day of `used` began, or the program did.
    begun: Mutex<Duration>,
}

impl Limits {
    /// Takes so many images from the day's quota, if it has them. A date that went back begins no new day, until a day has
    /// passed on the clock that no one sets: one that was far ahead once must not lock a tenant out for longer.
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

    /// Images that were taken from the quota and then not taken in.
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
        let usage = Usage::of(&settings, None, &[], &ledger).expect("usage");
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
