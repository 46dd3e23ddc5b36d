//! Steady throughput: requests weighed by their work, so that a system is not credited with cheap requests that
//! overtake dear ones. The formula is that of docs/semantics.md, section 7.

use crate::scheduler::{Ended, Run, Span};
use crate::time::{Duration, Time};

/// Returns the nanoseconds of GPU time that the jobs of a completed request spent up to `time`, and after it. Failed
/// jobs are included. The time of a job is divided equally among its requests.
fn spent(now: Time, ended: &Ended, time: Time) -> (f64, f64) {
    let last = ended.run.map(|Run { start, together, .. }| Span { start, end: now, together });
    ended.earlier.iter().copied().chain(last).fold((0.0, 0.0), |(before, after), Span { start, end, together }| {
        let share = |from: Time, until: Time| until.since(from).nanoseconds() as f64 / f64::from(together.max(1));
        let cut = time.clamp(start, end);
        (before + share(start, cut), after + share(cut, end))
    })
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
    /// Takes in the arrival of a request that counts. All work of the requests that have completed so far lies before
    /// this arrival.
    pub(super) fn arrived(&mut self, at: Time) {
        self.first_arrival.get_or_insert(at);
        self.last_arrival = self.last_arrival.max(at);
        self.before += core::mem::take(&mut self.after);
    }

    /// Takes in the completion of a picture of a request that counts. `whole` says whether the request is completed
    /// with it.
    pub(super) fn completed(&mut self, now: Time, ended: &Ended, whole: bool) {
        self.completed += u64::from(whole);
        let (before, after) = spent(now, ended, self.last_arrival);
        self.before += before;
        self.after += after;
    }

    /// Returns the steady throughput in requests a minute; `None` if all requests arrived at once.
    pub(super) fn per_min(&self) -> Option<f64> {
        let arrivals = self.last_arrival.since(self.first_arrival?);
        let all = self.before + self.after;
        // Returns alone take no work: then all of them count.
        let share = if all > 0.0 { self.before / all } else { 1.0 };
        (arrivals > Duration::ZERO).then(|| self.completed as f64 * share / (arrivals.seconds() / 60.0))
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::model::ModelId;
    use crate::request::{Outcome, Request, RequestId, TenantId};
    use crate::scheduler::WorkerId;

    fn second(count: u64) -> Time {
        Time::from_nanoseconds(count * 1_000_000_000)
    }

    /// Completes a request at the end of the last of these jobs. A job is given by its start and end in seconds and its
    /// number of requests.
    fn complete(steady: &mut Steady, jobs: &[(u64, u64, u32)]) {
        let span = |&(start, end, together)| Span { start: second(start), end: second(end), together };
        let mut spans: Vec<Span> = jobs.iter().map(span).collect();
        let last = spans.pop();
        let run = last.map(|last| Run {
            worker: WorkerId(0),
            model: ModelId::LARGE,
            start: last.start,
            together: last.together,
        });
        let request = Request::new(RequestId(0), Time::ZERO, TenantId(0));
        let (attempts, earlier) = (jobs.len() as u32, spans);
        let ended = Ended { attempts, run, earlier, ..Ended::unrouted(&request, Outcome::Completed) };
        steady.completed(last.map_or(Time::ZERO, |last| last.end), &ended, true);
    }

    #[test]
    fn work_after_the_last_arrival_does_not_count() {
        let mut steady = Steady::default();
        steady.arrived(second(0));
        complete(&mut steady, &[(0, 30, 1)]);
        steady.arrived(second(60));
        // Two requests share a job that begins before the last arrival and ends after it: 10 s of its 40 s count.
        complete(&mut steady, &[(50, 90, 2)]);
        complete(&mut steady, &[(50, 90, 2)]);
        let expected = 3.0 * (30.0 + 10.0) / 70.0;
        assert!((steady.per_min().expect("a rate") - expected).abs() < 1e-9);
    }

    #[test]
    fn failed_attempts_are_work() {
        let mut steady = Steady::default();
        steady.arrived(second(0));
        steady.arrived(second(60));
        complete(&mut steady, &[(0, 20, 1), (40, 80, 1)]);
        assert!((steady.per_min().expect("a rate") - 40.0 / 60.0).abs() < 1e-9);
    }

    #[test]
    fn without_work_it_is_the_rate_of_completions() {
        let mut steady = Steady::default();
        assert_eq!(steady.per_min(), None);
        steady.arrived(second(10));
        complete(&mut steady, &[]);
        assert_eq!(steady.per_min(), None, "all at once");
        steady.arrived(second(40));
        complete(&mut steady, &[]);
        assert!((steady.per_min().expect("a rate") - 4.0).abs() < 1e-9);
    }
}
