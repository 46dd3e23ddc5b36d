//! Workers that slow each other down (one host's memory, power and processor): a job gets on faster while fewer
//! others draw, and by how much depends on the models that they draw with. Its time is that with all of them drawing; alone it
//! takes a part of that, and in between in proportion.

use smallvec::SmallVec;

use crate::model::ModelId;
use crate::time::{Duration, Time};

/// Workers that draw, by model.
#[derive(Clone, Debug, Default)]
pub(super) struct Drawing(SmallVec<[u32; 4]>);

impl Drawing {
    /// Counts a worker by the index of the model that it draws with.
    pub(super) fn add(&mut self, model: usize) {
        if self.0.len() <= model {
            self.0.resize(model + 1, 0);
        }
        self.0[model] += 1;
    }
}

/// How a job gets on.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    /// Index of the model that it draws with.
    model: usize,
    /// The part of its time that the job takes alone.
    alone: f64,
    /// Times of its time that it takes beside each model; 1 beyond the end.
    beside: SmallVec<[f64; 4]>,
    /// Nanoseconds that are left, with every other worker drawing.
    left: f64,
    /// What a nanosecond of those takes now.
    factor: f64,
    since: Time,
    /// Whether it is the same whatever the others do.
    steady: bool,
    /// Tells when it is due from when it was thought to be.
    pub(super) number: u32,
}

impl Pace {
    /// A job that takes so long with every other worker drawing.
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

    /// Index of the model that the job draws with.
    pub(super) const fn model(&self) -> usize {
        self.model
    }

    /// Whether it is the same whatever the others do.
    pub(super) const fn is_steady(&self) -> bool {
        self.steady
    }

    /// From now on these of so many workers draw, itself among them. Returns how long the job takes from here, if that
    /// stays so.
    pub(super) fn change(&mut self, now: Time, drawing: &Drawing, workers: usize) -> Duration {
        self.left = (self.left - now.since(self.since).nanoseconds() as f64 / self.factor).max(0.0);
        let busy: u32 = drawing.0.iter().sum();
        self.factor = self.alone + (1.0 - self.alone) * share(busy.saturating_sub(1) as usize, workers);
        for (at, (times, count)) in self.beside.iter().zip(&drawing.0).enumerate() {
            let others = count - u32::from(at == self.model && *count > 0);
            // A worker without neighbours is measured as it is.
            if workers > 1 {
                self.factor += share(others as usize, workers) * (times - 1.0);
            }
        }
        self.since = now;
        self.number = self.number.wrapping_add(1);
        Duration::from_nanoseconds(libm::round(self.left * self.factor) as u64)
    }
}

/// The share of a worker's neighbours that draws.
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
        // Half is done when a neighbour begins, a quarter when it ends.
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
