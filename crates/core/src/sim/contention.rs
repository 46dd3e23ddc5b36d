//! Workers of one host that slow each other down, because they share its memory, power and processor: a job is faster while fewer
//! other workers run jobs, and how much faster depends on the models of these jobs. The time of a job is given for all other
//! workers running jobs. Alone the job takes a part of that time, and with some of the others it takes a part in proportion.

use smallvec::SmallVec;

use crate::model::ModelId;
use crate::time::{Duration, Time};

/// Number of workers that run jobs, by model.
#[derive(Clone, Debug, Default)]
pub(super) struct Drawing(SmallVec<[u32; 4]>);

impl Drawing {
    /// Counts a worker under the index of the model of its job.
    pub(super) fn add(&mut self, model: usize) {
        if self.0.len() <= model {
            self.0.resize(model + 1, 0);
        }
        self.0[model] += 1;
    }
}

/// Progress of a job, and its pace.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    /// Index of the model of the job.
    model: usize,
    /// Part of its time that the job takes while no other worker runs a job.
    alone: f64,
    /// Factors on the time of the job while all other workers run jobs with one model, by that model; 1 for models beyond the end.
    beside: SmallVec<[f64; 4]>,
    /// Nanoseconds of the job that are left, if every other worker ran a job.
    left: f64,
    /// Nanoseconds that one nanosecond of `left` takes now.
    factor: f64,
    since: Time,
    /// True if the pace does not depend on the other workers.
    steady: bool,
    /// Number of the present pace. An answer for an earlier number is out of date, because the end of the job has moved.
    pub(super) number: u32,
}

impl Pace {
    /// Begins a job that takes `duration` while every other worker runs a job.
    pub(super) fn begin(&mut self, now: Time, duration: Duration, model: ModelId, alone: f64, beside: &[f64]) {
        self.number = self.number.wrapping_add(1);
        self.model = model.index();
        self.steady = alone >= 1.0 && beside.iter().all(|times| times.to_bits() == 1.0_f64.to_bits());
        if self.steady {
            return;
        }
        (self.alone, self.since) = (alone, now);
        self.beside = SmallVec::from_slice(beside);
        (self.left, self.factor) = (duration.nanoseconds() as f64, 1.0);
    }

    /// Returns the index of the model of the job.
    pub(super) const fn model(&self) -> usize {
        self.model
    }

    /// Returns whether the pace does not depend on the other workers.
    pub(super) const fn is_steady(&self) -> bool {
        self.steady
    }

    /// Changes the pace: from `now` on `drawing` has the workers that run jobs, the worker of this job among them, out of `workers`.
    /// Returns the time that the job still takes at that pace.
    pub(super) fn change(&mut self, now: Time, drawing: &Drawing, workers: usize) -> Duration {
        self.left = (self.left - now.since(self.since).nanoseconds() as f64 / self.factor).max(0.0);
        let busy: u32 = drawing.0.iter().sum();
        self.factor = self.alone + (1.0 - self.alone) * share(busy.saturating_sub(1) as usize, workers);
        for (at, (times, count)) in self.beside.iter().zip(&drawing.0).enumerate() {
            let others = count - u32::from(at == self.model && *count > 0);
            // The time of a worker without neighbours was measured without any, so no factor applies.
            if workers > 1 {
                self.factor += share(others as usize, workers) * (times - 1.0);
            }
        }
        self.since = now;
        self.number = self.number.wrapping_add(1);
        Duration::from_nanoseconds(libm::round(self.left * self.factor) as u64)
    }
}

/// Returns the share of the other workers that run jobs; 1 if there are no others.
fn share(busy_others: usize, workers: usize) -> f64 {
    if workers > 1 { busy_others as f64 / (workers - 1) as f64 } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawing(models: &[usize]) -> Drawing {
        let mut drawing = Drawing::default();
        for model in models {
            drawing.add(*model);
        }
        drawing
    }

    #[test]
    fn a_job_gets_on_faster_alone() {
        let (at, ns) = (Time::from_nanoseconds, Duration::from_nanoseconds);
        let [alone, beside, half] = [(&[0][..], 2), (&[0, 0], 2), (&[0, 0], 3)];
        let mut pace = Pace::default();
        pace.begin(at(100), ns(1000), ModelId(0), 0.8, &[]);
        let mut change = |now, (models, workers): (&[usize], usize)| pace.change(at(now), &drawing(models), workers);
        assert_eq!(change(100, alone), ns(800));
        // Half of the job is done when a neighbour begins, and three quarters are done when the neighbour ends.
        assert_eq!(change(500, beside), ns(500));
        assert_eq!(change(750, alone), ns(200));
        assert_eq!(change(750, half), ns(225));
        assert_eq!(change(975, half), ns(0));
        assert_eq!(change(990, half), ns(0), "late is not negative");
    }

    #[test]
    fn a_job_gets_on_by_the_models_beside_it() {
        let (at, ns) = (Time::from_nanoseconds, Duration::from_nanoseconds);
        let mut pace = Pace::default();
        pace.begin(at(0), ns(1000), ModelId(1), 0.8, &[1.1, 0.9]);
        assert!(!pace.is_steady());
        for (models, workers, expected) in [
            (&[1][..], 2, 800),
            (&[1, 0], 2, 1100),
            (&[1, 1], 2, 900),
            (&[1, 1, 0], 3, 1000),
            (&[1, 0], 3, 950),
            (&[1, 2], 2, 1000),
            (&[1], 1, 1000),
        ] {
            assert_eq!(pace.change(at(0), &drawing(models), workers), ns(expected), "{models:?} of {workers}");
        }
        pace.begin(at(0), ns(1000), ModelId(1), 1.0, &[1.0, 1.0]);
        assert!(pace.is_steady());
    }

    #[test]
    fn a_worker_without_neighbours_is_measured_as_it_is() {
        assert!((share(0, 1) - 1.0).abs() < f64::EPSILON && (share(1, 3) - 0.5).abs() < f64::EPSILON);
    }
}
