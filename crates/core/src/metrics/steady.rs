//! Steady throughput: requests weighed by their work, so that a system is not credited with cheap requests that overtake
//! dear ones. The formula is that of docs/semantics.md, section 7.

use smallvec::SmallVec;

use crate::time::{Duration, Time};

/// GPU time of one request's jobs: when each job ran, and among how many requests it is divided.
#[derive(Clone, Debug, Default)]
pub(super) struct Spent(SmallVec<[(Time, Time, u32); 1]>);

impl Spent {
    /// Adds a job, a failed one as well: its GPU was busy.
    pub(super) fn add(&mut self, start: Time, end: Time, requests: usize) {
        self.0.push((start, end, requests as u32));
    }

    /// Nanoseconds of this request, up to a time and after it.
    fn split_at(&self, time: Time) -> (f64, f64) {
        self.0.iter().fold((0.0, 0.0), |(before, after), &(start, end, requests)| {
            let share = |from: Time, until: Time| until.since(from).nanoseconds() as f64 / f64::from(requests.max(1));
            let cut = time.clamp(start, end);
            (before + share(start, cut), after + share(cut, end))
        })
    }
}

/// Sums over the completed requests that count.
#[derive(Clone, Debug, Default)]
pub(super) struct Steady {
    completed: u64,
    first_arrival: Option<Time>,
    last_arrival: Time,
    /// Nanoseconds of GPU time up to the last arrival so far.
    before: f64,
    /// Nanoseconds of GPU time after the last arrival so far.
    after: f64,
}

impl Steady {
    /// A request that counts arrived. All work of the requests that completed so far lies before that.
    pub(super) fn arrived(&mut self, at: Time) {
        self.first_arrival.get_or_insert(at);
        self.last_arrival = self.last_arrival.max(at);
        self.before += core::mem::take(&mut self.after);
    }

    /// A request that counts completed.
    pub(super) fn completed(&mut self, spent: &Spent) {
        self.completed += 1;
        let (before, after) = spent.split_at(self.last_arrival);
        self.before += before;
        self.after += after;
    }

    /// Requests a minute; `None` if all requests arrived at once.
    pub(super) fn per_min(&self) -> Option<f64> {
        let arrivals = self.last_arrival.since(self.first_arrival?);
        let all = self.before + self.after;
        let share = if all > 0.0 { self.before / all } else { 1.0 };
        (arrivals > Duration::ZERO).then(|| self.completed as f64 * share / (arrivals.seconds() / 60.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(count: u64) -> Time {
        Time::from_nanoseconds(count * 1_000_000_000)
    }

    fn spent(jobs: &[(u64, u64, usize)]) -> Spent {
        let mut spent = Spent::default();
        for &(start, end, requests) in jobs {
            spent.add(second(start), second(end), requests);
        }
        spent
    }

    #[test]
    fn work_after_the_last_arrival_does_not_count() {
        let mut steady = Steady::default();
        steady.arrived(second(0));
        steady.completed(&spent(&[(0, 30, 1)]));
        steady.arrived(second(60));
        // Begun before the last arrival, done after it: 10 s of 40 s; shared by two.
        steady.completed(&spent(&[(50, 90, 2)]));
        steady.completed(&spent(&[(50, 90, 2)]));
        let expected = 3.0 * (30.0 + 10.0) / 70.0;
        assert!((steady.per_min().expect("a rate") - expected).abs() < 1e-9);
    }

    #[test]
    fn failed_attempts_are_work() {
        let mut steady = Steady::default();
        steady.arrived(second(0));
        steady.arrived(second(60));
        steady.completed(&spent(&[(0, 20, 1), (40, 80, 1)]));
        assert!((steady.per_min().expect("a rate") - 40.0 / 60.0).abs() < 1e-9);
    }

    #[test]
    fn without_work_it_is_the_rate_of_completions() {
        let mut steady = Steady::default();
        assert_eq!(steady.per_min(), None);
        steady.arrived(second(10));
        steady.completed(&Spent::default());
        assert_eq!(steady.per_min(), None, "all at once");
        steady.arrived(second(40));
        steady.completed(&Spent::default());
        assert!((steady.per_min().expect("a rate") - 4.0).abs() < 1e-9);
    }
}
