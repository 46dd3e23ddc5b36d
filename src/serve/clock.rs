//! Clocks of the host: dates for people and quotas, and a monotonic clock, which nobody sets and which tells whether
//! the dates can be trusted. A date that jumps ahead makes no result old: see [`JumpGuard`].

use std::sync::Arc;
use std::time::Duration;

/// Environment variable of debug builds: seconds to add to the date, so that tests can run with a wrong clock.
const OFFSET: &str = "MODM_TEST_CLOCK_S";

/// Source of dates and of elapsed time.
trait Source: Send + Sync {
    /// Returns the date, in seconds since 1970.
    fn date(&self) -> u64;
    /// Returns the time since some moment before the first call. Nobody sets this clock, and it never goes back.
    fn passed(&self) -> Duration;
}

/// Clocks of the host. Clones share the same clocks.
#[derive(Clone)]
pub struct HostClock(Arc<dyn Source>);

struct Host {
    begun: std::time::Instant,
    /// Seconds that are added to the date, for tests.
    offset: i64,
}

impl Source for Host {
    #[expect(clippy::disallowed_methods, reason = "dates of answers and quotas of a day are the host's")]
    fn date(&self) -> u64 {
        super::api::since_1970(std::time::SystemTime::now()).saturating_add_signed(self.offset)
    }

    fn passed(&self) -> Duration {
        self.begun.elapsed()
    }
}

impl HostClock {
    /// Makes the clocks of the host.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "nothing of it reaches a measured result")]
    pub fn new() -> Self {
        let offset = std::env::var(OFFSET).ok().filter(|_| cfg!(debug_assertions));
        let offset = offset.and_then(|text| text.parse().ok()).unwrap_or(0);
        Self(Arc::new(Host { begun: std::time::Instant::now(), offset }))
    }

    /// Returns the date, in seconds since 1970.
    #[must_use]
    pub fn date(&self) -> u64 {
        self.0.date()
    }

    /// Returns the time since the program began.
    #[must_use]
    pub fn passed(&self) -> Duration {
        self.0.passed()
    }
}

impl Default for HostClock {
    fn default() -> Self {
        Self::new()
    }
}

/// Guard against the removal of results and recordings because of a wrong date. If the date jumps ahead by more than a
/// tenth of the shortest time for which anything is kept, at a start or while the program runs, nothing is removed
/// until the time for which it is kept has passed on the monotonic clock. Nothing is therefore removed more than a
/// tenth of its time too early, however wrong the date is.
#[derive(Debug)]
pub struct JumpGuard {
    /// Shortest time for which anything is kept.
    keep: Duration,
    /// Date and time on the monotonic clock at which the date was last trusted.
    believed: (u64, Duration),
    /// Time on the monotonic clock at which the date last jumped ahead.
    jumped: Option<Duration>,
}

impl JumpGuard {
    /// Makes the guard at the start of the program. `last` is the date of the ledger's last transaction. Returns the
    /// guard and a warning if the date jumped.
    #[must_use]
    pub fn new(clock: &HostClock, keep: Duration, last: Option<u64>) -> (Self, Option<String>) {
        let (date, passed) = (clock.date(), clock.passed());
        let mut guard = Self { keep, believed: (last.unwrap_or(date), passed), jumped: None };
        let warning = guard.check(date, passed);
        (guard, warning)
    }

    /// Compares the clocks. Returns a warning if the date jumped.
    pub fn look(&mut self, clock: &HostClock) -> Option<String> {
        self.check(clock.date(), clock.passed())
    }

    fn check(&mut self, date: u64, passed: Duration) -> Option<String> {
        let (believed, at) = self.believed;
        let expected = believed.saturating_add(passed.saturating_sub(at).as_secs());
        // `believed` changes only at a jump, so that small jumps add up to a large one.
        let most = self.keep.as_secs() / 10;
        let ahead = date.saturating_sub(expected);
        // Dates are whole seconds, so that a second is no jump even where a tenth is less than a second.
        if ahead > most.max(1) {
            self.believed = (date, passed);
            self.jumped = Some(passed);
            return Some(format!(
                "the date is {ahead} s later than expected: nothing is forgotten for as long as it is kept"
            ));
        }
        let back = expected.saturating_sub(date);
        if back > most.max(1) {
            self.believed = (date, passed);
            return Some(format!(
                "the date is {back} s earlier than expected: nothing is forgotten early, and no quota begins anew"
            ));
        }
        None
    }

    /// Returns whether what is kept for so long, and is older by its date, may be forgotten now.
    #[must_use]
    pub fn may_forget(&self, clock: &HostClock, keep: Duration) -> bool {
        self.jumped.is_none_or(|at| clock.passed() >= at + keep)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// Clocks that a test sets.
    #[derive(Default)]
    pub(crate) struct Set {
        pub(crate) date: AtomicU64,
        pub(crate) passed_s: AtomicU64,
    }

    impl Source for Set {
        fn date(&self) -> u64 {
            self.date.load(Ordering::Relaxed)
        }

        fn passed(&self) -> Duration {
            Duration::from_secs(self.passed_s.load(Ordering::Relaxed))
        }
    }

    /// Makes a clock that shows a date until the test sets another.
    pub(crate) fn set(date: u64) -> (HostClock, Arc<Set>) {
        let set = Arc::new(Set { date: date.into(), passed_s: 0.into() });
        (HostClock(set.clone()), set)
    }

    #[test]
    fn a_date_that_jumps_ahead_makes_nothing_old() {
        let (clock, hands) = set(1_000_000);
        let keep = Duration::from_secs(1000);
        let (mut guard, warning) = JumpGuard::new(&clock, keep, Some(999_950));
        assert!(warning.is_none() && guard.may_forget(&clock, keep), "a short stop");
        hands.passed_s.store(50, Ordering::Relaxed);
        hands.date.store(1_000_050, Ordering::Relaxed);
        assert_eq!(guard.look(&clock), None);
        // Several small jumps add up to a large one.
        for step in 1..=3 {
            hands.date.store(1_000_050 + 40 * step, Ordering::Relaxed);
            let warned = guard.look(&clock).is_some();
            assert_eq!(warned, step == 2, "{step}");
        }
        assert!(!guard.may_forget(&clock, keep));
        hands.passed_s.store(1049, Ordering::Relaxed);
        assert!(!guard.may_forget(&clock, keep));
        hands.passed_s.store(1050, Ordering::Relaxed);
        assert!(guard.may_forget(&clock, keep) && !guard.may_forget(&clock, keep + Duration::from_secs(1)));
    }

    #[test]
    fn a_start_far_ahead_is_held_and_one_without_a_ledger_is_not() {
        let (clock, _) = set(1_000_000);
        let keep = Duration::from_secs(86_400);
        let (guard, warning) = JumpGuard::new(&clock, keep, Some(1_000_000 - 3 * 86_400));
        assert!(!guard.may_forget(&clock, keep) && warning.is_some_and(|text| text.contains("259200 s later")));
        let (guard, warning) = JumpGuard::new(&clock, keep, None);
        assert!(guard.may_forget(&clock, keep) && warning.is_none());
        let (guard, warning) = JumpGuard::new(&clock, keep, Some(2_000_000));
        assert!(guard.may_forget(&clock, keep) && warning.is_some_and(|text| text.contains("earlier")));
    }
}
