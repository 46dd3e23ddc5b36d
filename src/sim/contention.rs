//! Workers that slow each other down (one host's memory, power and processor): a job gets on faster while fewer
//! others draw. Its time is that with all of them drawing; alone it takes a part of that, and in between in proportion.

use crate::time::{Duration, Time};

/// How a job gets on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// The part of its time that the job takes alone.
    alone: f64,
    /// Nanoseconds that are left, with every other worker drawing.
    left: f64,
    /// What a nanosecond of those takes now.
    factor: f64,
    since: Time,
    /// Tells when it is due from when it was thought to be.
    pub(super) number: u32,
}

impl Pace {
    /// A job that takes so long with every other worker drawing.
    pub(super) fn begin(&mut self, now: Time, duration: Duration, alone: f64) {
        let number = self.number.wrapping_add(1);
        *self = Self { alone, left: duration.nanoseconds() as f64, factor: 1.0, since: now, number };
    }

    /// Whether it is the same whatever the others do.
    pub(super) const fn is_steady(&self) -> bool {
        self.alone >= 1.0
    }

    /// From now on this share of the others draws. Returns how long the job takes from here, if that stays so.
    pub(super) fn change(&mut self, now: Time, others: f64) -> Duration {
        self.left = (self.left - now.since(self.since).nanoseconds() as f64 / self.factor).max(0.0);
        self.factor = self.alone + (1.0 - self.alone) * others;
        self.since = now;
        self.number = self.number.wrapping_add(1);
        Duration::from_nanoseconds((self.left * self.factor).round() as u64)
    }
}

/// The share of a worker's neighbours that draws.
pub(super) fn share(busy_others: usize, workers: usize) -> f64 {
    if workers > 1 { busy_others as f64 / (workers - 1) as f64 } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_gets_on_faster_alone() {
        let (at, ns) = (Time::from_nanoseconds, Duration::from_nanoseconds);
        let mut pace = Pace::default();
        pace.begin(at(100), ns(1000), 0.8);
        assert_eq!(pace.change(at(100), 0.0), ns(800));
        // Half is done when a neighbour begins, a quarter when it ends.
        assert_eq!(pace.change(at(500), 1.0), ns(500));
        assert_eq!(pace.change(at(750), 0.0), ns(200));
        assert_eq!(pace.change(at(750), 0.5), ns(225));
        assert_eq!(pace.change(at(975), 0.5), ns(0));
        assert_eq!(pace.change(at(990), 0.5), ns(0), "late is not negative");
    }

    #[test]
    fn a_worker_without_neighbours_is_measured_as_it_is() {
        assert!((share(0, 1) - 1.0).abs() < f64::EPSILON && (share(1, 3) - 0.5).abs() < f64::EPSILON);
    }
}
