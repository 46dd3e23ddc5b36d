//! Workers of one host that slow each other down, because they share its memory, power and processor: a job is faster
//! while fewer other workers run jobs, and how much faster depends on the models of these jobs. The time of a job is
//! given for all other workers running jobs. Alone the job takes a part of that time, and with some of the others it
//! takes a part in proportion.
//!
//! All jobs of one GPU type and model are at one pace. Their ends are therefore kept in work and not in time: when the
//! pace changes, only the first end of each class is computed anew, however many workers there are.

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use core::cmp::Reverse;

use smallvec::SmallVec;

use crate::model::{GpuId, ModelId};
use crate::scheduler::WorkerId;
use crate::time::{Duration, Time};

/// Number of workers that run jobs, by model.
#[derive(Clone, Debug, Default)]
pub(super) struct Drawing(SmallVec<[u32; 4]>);

impl Drawing {
    /// Counts a worker that runs a job of a model.
    pub(super) fn add(&mut self, model: ModelId) {
        if self.0.len() <= model.index() {
            self.0.resize(model.index() + 1, 0);
        }
        self.0[model.index()] += 1;
    }

    /// Counts a worker that no longer runs a job of a model.
    pub(super) fn remove(&mut self, model: ModelId) {
        self.0[model.index()] -= 1;
    }
}

/// Job of a worker; `number` tells the job from later ones of the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RunningJob {
    pub(super) worker: WorkerId,
    pub(super) number: u32,
}

/// Part of its time that a job takes alone, and factors on its time while all other workers run jobs with one model, by
/// that model; 1 for models beyond the end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Neighbours<'a> {
    pub(super) alone: f64,
    pub(super) beside: &'a [f64],
}

impl Neighbours<'_> {
    /// Returns whether the time of a job does not depend on the other workers.
    pub(super) fn are_of_no_effect(self) -> bool {
        self.alone >= 1.0 && self.beside.iter().all(|times| times.to_bits() == 1.0_f64.to_bits())
    }

    /// Returns the nanoseconds that a nanosecond of work takes while the workers of `drawing` run jobs, out of
    /// `workers`. One of them runs the job, which is of `model`.
    fn factor(self, model: ModelId, drawing: &Drawing, workers: usize) -> f64 {
        let busy: u32 = drawing.0.iter().sum();
        // The formula is that of docs/semantics.md, section 8, "Neighbours".
        let mut factor = self.alone + (1.0 - self.alone) * share(busy.saturating_sub(1) as usize, workers);
        for (at, (times, count)) in self.beside.iter().zip(&drawing.0).enumerate() {
            // The job is no neighbour of its own. Its class may have no job at present, and a pace all the same.
            let others = count - u32::from(at == model.index() && *count > 0);
            // A worker without neighbours is measured as it is.
            if workers > 1 {
                factor += share(others as usize, workers) * (times - 1.0);
            }
        }
        factor
    }
}

/// Way in which a job ends. At the same work, a job is completed and not stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ending {
    Completed,
    Stopped,
}

/// Running jobs of one GPU type and model.
#[derive(Clone, Debug)]
struct Class {
    gpu: GpuId,
    model: ModelId,
    /// Work that a job has done that runs since the class was last without jobs, nanoseconds.
    done: f64,
    /// Nanoseconds that one nanosecond of work takes now.
    factor: f64,
    since: Time,
    /// Number of the present pace: an end that was computed for an earlier one has moved.
    number: u32,
    /// Value of `done` at which each job ends, as bits, which are in the order of the values. A job that is stopped has
    /// two ends, of which the first counts.
    ends: BinaryHeap<Reverse<(u64, RunningJob, Ending)>>,
}

impl Class {
    fn advance(&mut self, now: Time) {
        self.done += now.since(self.since).nanoseconds() as f64 / self.factor;
        self.since = now;
    }
}

/// Jobs whose time depends on the other workers, by GPU type and model.
#[derive(Clone, Debug, Default)]
pub(super) struct Contention(Vec<Class>);

/// First end of a class, if no pace changes before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FirstEnd {
    pub(super) class: u16,
    pub(super) number: u32,
    pub(super) time: Time,
}

impl Contention {
    fn position(&self, gpu: GpuId, model: ModelId) -> Option<usize> {
        self.0.iter().position(|class| (class.gpu, class.model) == (gpu, model))
    }

    /// Begins a job that takes `duration` while every other worker runs a job. Returns the work at its begin, for
    /// [`Self::stop`].
    pub(super) fn begin(&mut self, now: Time, gpu: GpuId, model: ModelId, duration: Duration, job: RunningJob) -> f64 {
        let at = self.position(gpu, model).unwrap_or_else(|| {
            let ends = BinaryHeap::new();
            self.0.push(Class { gpu, model, done: 0.0, factor: 1.0, since: now, number: 0, ends });
            self.0.len() - 1
        });
        let class = &mut self.0[at];
        class.advance(now);
        if class.ends.is_empty() {
            // Begun anew, the numbers stay small enough to be exact.
            class.done = 0.0;
        }
        let end = class.done + duration.nanoseconds() as f64;
        // The caller changes the pace next, which announces the first end of the class.
        class.ends.push(Reverse((end.to_bits(), job, Ending::Completed)));
        class.done
    }

    /// Stops a job between two steps: once the work since its begin, at `begun`, is a whole number of steps.
    pub(super) fn stop(&mut self, now: Time, gpu: GpuId, model: ModelId, begun: f64, step: Duration, job: RunningJob) {
        let Some(at) = self.position(gpu, model) else { return };
        let class = &mut self.0[at];
        class.advance(now);
        // Whole nanoseconds: a job that is stopped just between two steps does not run another one.
        let work = Duration::from_nanoseconds(libm::round((class.done - begun).max(0.0)) as u64);
        let end = begun + whole_steps(work, step).nanoseconds() as f64;
        class.ends.push(Reverse((end.to_bits(), job, Ending::Stopped)));
    }

    /// Changes the pace of all classes and returns their first ends. Jobs that are not `current` are forgotten.
    pub(super) fn repace<'a>(
        &mut self,
        now: Time,
        drawing: &Drawing,
        workers: usize,
        neighbours: impl Fn(GpuId, ModelId) -> Neighbours<'a>,
        current: impl Fn(RunningJob) -> bool,
    ) -> SmallVec<[FirstEnd; 4]> {
        let mut first_ends = SmallVec::new();
        for (at, class) in self.0.iter_mut().enumerate() {
            class.advance(now);
            class.number = class.number.wrapping_add(1);
            // Of cancelled jobs only those in front matter. The others are dropped when they come first.
            while class.ends.peek().is_some_and(|Reverse((_, job, _))| !current(*job)) {
                class.ends.pop();
            }
            class.factor = neighbours(class.gpu, class.model).factor(class.model, drawing, workers);
            if let Some(Reverse((end, ..))) = class.ends.peek() {
                // Ends are rounded to nanoseconds, so that a little more than the work may have been done.
                let left = (f64::from_bits(*end) - class.done).max(0.0);
                let time = now + Duration::from_nanoseconds(libm::round(left * class.factor) as u64);
                first_ends.push(FirstEnd { class: at as u16, number: class.number, time });
            }
        }
        first_ends
    }

    /// Takes the first job of a class that ends now, and the way in which it ends; `None` if its end has moved.
    pub(super) fn end(&mut self, class: u16, number: u32) -> Option<(RunningJob, Ending)> {
        let class = &mut self.0[usize::from(class)];
        if class.number != number {
            return None;
        }
        class.ends.pop().map(|Reverse((_, job, ending))| (job, ending))
    }
}

/// Returns the work at the end of the step that is under way after `done`.
pub(super) fn whole_steps(done: Duration, step: Duration) -> Duration {
    let step = step.nanoseconds().max(1);
    Duration::from_nanoseconds(done.nanoseconds().div_ceil(step).saturating_mul(step))
}

/// Returns the share of the other workers that run jobs; 1 if there are no others.
fn share(busy_others: usize, workers: usize) -> f64 {
    if workers > 1 { busy_others as f64 / (workers - 1) as f64 } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GPU: GpuId = GpuId(0);

    fn drawing(models: &[u16]) -> Drawing {
        let mut drawing = Drawing::default();
        for model in models {
            drawing.add(ModelId(*model));
        }
        drawing
    }

    fn job(worker: u16) -> RunningJob {
        RunningJob { worker: WorkerId(worker), number: 1 }
    }

    fn at(nanoseconds: u64) -> Time {
        Time::from_nanoseconds(nanoseconds)
    }

    /// Nanoseconds until the first end of the only class, after a change of the workers that run jobs.
    fn left(contention: &mut Contention, now: u64, models: &[u16], workers: usize, neighbours: Neighbours<'_>) -> u64 {
        let ends = contention.repace(at(now), &drawing(models), workers, |_, _| neighbours, |_| true);
        ends[0].time.nanoseconds() - now
    }

    #[test]
    fn a_job_gets_on_faster_alone() {
        let neighbours = Neighbours { alone: 0.8, beside: &[] };
        let mut contention = Contention::default();
        contention.begin(at(100), GPU, ModelId(0), Duration::from_nanoseconds(1000), job(0));
        let mut left = |now, models: &[u16], workers| left(&mut contention, now, models, workers, neighbours);
        assert_eq!(left(100, &[0], 2), 800);
        // Half is done when a neighbour begins, a quarter when it ends.
        assert_eq!(left(500, &[0, 0], 2), 500);
        assert_eq!(left(750, &[0], 2), 200);
        assert_eq!(left(750, &[0, 0], 3), 225);
        assert_eq!(left(975, &[0, 0], 3), 0);
        assert_eq!(left(990, &[0, 0], 3), 0, "late is not negative");
    }

    #[test]
    fn a_job_gets_on_by_the_models_beside_it() {
        let neighbours = Neighbours { alone: 0.8, beside: &[1.1, 0.9] };
        assert!(!neighbours.are_of_no_effect());
        assert!(Neighbours { alone: 1.0, beside: &[1.0, 1.0] }.are_of_no_effect());
        let mut contention = Contention::default();
        contention.begin(at(0), GPU, ModelId(1), Duration::from_nanoseconds(1000), job(0));
        for (models, workers, expected) in [
            (&[1][..], 2, 800),
            (&[1, 0], 2, 1100),
            (&[1, 1], 2, 900),
            (&[1, 1, 0], 3, 1000),
            (&[1, 0], 3, 950),
            (&[1, 2], 2, 1000),
            (&[1], 1, 1000),
        ] {
            assert_eq!(left(&mut contention, 0, models, workers, neighbours), expected, "{models:?} of {workers}");
        }
    }

    #[test]
    fn jobs_of_a_class_end_in_the_order_of_their_work_and_cancelled_ones_do_not() {
        let neighbours = Neighbours { alone: 0.5, beside: &[] };
        let mut contention = Contention::default();
        for (worker, work) in [(0, 300), (1, 100), (2, 200)] {
            contention.begin(at(0), GPU, ModelId(0), Duration::from_nanoseconds(work), job(worker));
        }
        let running = drawing(&[0, 0, 0]);
        let first = contention.repace(at(0), &running, 3, |_, _| neighbours, |_| true)[0];
        assert_eq!(first.time, at(100));
        assert_eq!(contention.end(first.class, first.number.wrapping_sub(1)), None, "of an earlier pace");
        assert_eq!(contention.end(first.class, first.number), Some((job(1), Ending::Completed)));
        // The job of worker 2 is cancelled; alone, what is left of the last takes half as long.
        let is_current = |job: RunningJob| job.worker != WorkerId(2);
        let next = contention.repace(at(100), &drawing(&[0]), 3, |_, _| neighbours, is_current)[0];
        assert_eq!(next.time, at(200));
        assert_eq!(contention.end(next.class, next.number), Some((job(0), Ending::Completed)));
    }

    #[test]
    fn a_job_stops_between_two_steps_at_the_pace_of_each() {
        let neighbours = Neighbours { alone: 0.5, beside: &[] };
        let (mut contention, step) = (Contention::default(), Duration::from_nanoseconds(100));
        let begun = contention.begin(at(0), GPU, ModelId(0), Duration::from_nanoseconds(1000), job(0));
        assert_eq!(left(&mut contention, 0, &[0], 2, neighbours), 500);
        // Two steps are done at 100, and the third at 150, or at 170 with a neighbour from 130 on.
        contention.stop(at(110), GPU, ModelId(0), begun, step, job(0));
        assert_eq!(left(&mut contention, 110, &[0], 2, neighbours), 40);
        let first = contention.repace(at(130), &drawing(&[0, 0]), 2, |_, _| neighbours, |_| true)[0];
        assert_eq!(first.time, at(170));
        assert_eq!(contention.end(first.class, first.number), Some((job(0), Ending::Stopped)));
        // Just between two steps, a job stops at once; in its last step it is completed.
        for (now, expected, ending) in [(100, 100, Ending::Stopped), (460, 500, Ending::Completed)] {
            let mut contention = Contention::default();
            let begun = contention.begin(at(0), GPU, ModelId(0), Duration::from_nanoseconds(1000), job(0));
            contention.repace(at(0), &drawing(&[0]), 2, |_, _| neighbours, |_| true);
            contention.stop(at(now), GPU, ModelId(0), begun, step, job(0));
            let first = contention.repace(at(now), &drawing(&[0]), 2, |_, _| neighbours, |_| true)[0];
            assert_eq!(first.time, at(expected));
            assert_eq!(contention.end(first.class, first.number), Some((job(0), ending)));
        }
    }

    #[test]
    fn a_worker_without_neighbours_is_measured_as_it_is() {
        assert!((share(0, 1) - 1.0).abs() < f64::EPSILON && (share(1, 3) - 0.5).abs() < f64::EPSILON);
    }
}
