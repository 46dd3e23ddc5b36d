//! Lower bound on the requests that are late under any policy, even one that knows all arrivals. The decisions of the run are
//! kept (which requests hit, and the steps they skip); everything else is free, and no model is loaded.
//!
//! Every worker counts as the fastest one, with the fastest model for each request and jobs of the best size. The bound is the
//! larger of two relaxations: in `together` all workers are one machine as fast as their sum, in `apart` jobs of like lengths have
//! all workers to themselves.

use alloc::vec::Vec;

mod apart;
mod together;

pub use together::{Lateness, fewest_late};

use super::fold::Settings;
use super::rows::{RequestEnd, RequestRow};
use crate::model::{GpuId, ModelId, Work};
use crate::scheduler::{Decision, DecisionKind};
use crate::time::{Duration, Time};

/// Request with the least time that it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// Time of arrival.
    pub arrival: Time,
    /// Deadline; in the order of arrivals.
    pub due: Time,
    /// Least time on one worker, nanoseconds.
    pub work: u64,
}

/// The least share of a run's requests that could have been late, each being due so long after its arrival.
pub(super) fn fewest_violations(settings: &Settings, ends: &[RequestEnd], limit: Duration) -> Option<f64> {
    let jobs = jobs(settings, ends, limit);
    let speeds: Vec<u64> = settings.gpus.iter().map(|gpu| speed(settings, *gpu)).collect();
    let fastest = speeds.iter().copied().max()?;
    // The requests of a job need not wait for each other: there is no whole job that one of them takes.
    let apart = if settings.most_together > 1 { 0 } else { apart::fewest_late(&jobs, speeds.len(), fastest) };
    let late = fewest_late(&jobs, speeds.iter().sum()).max(apart);
    (!jobs.is_empty()).then(|| late as f64 / jobs.len() as f64)
}

/// Least time of each request of a run, with deadlines `limit` after the arrivals.
#[must_use]
pub fn jobs(settings: &Settings, ends: &[RequestEnd], limit: Duration) -> Vec<Job> {
    let counted = ends.iter().filter(|end| end.arrival >= settings.warmup);
    let job = |end: &RequestEnd| Job { arrival: end.arrival, due: end.arrival + limit, work: end.least_work };
    let mut jobs = Vec::with_capacity(ends.len());
    jobs.extend(counted.map(job));
    jobs.sort_by_key(|job| job.arrival);
    jobs
}

/// The seconds that a request takes on a GPU type, by model.
fn seconds(settings: &Settings, gpu: GpuId, model: ModelId, skipped_steps: u32) -> f64 {
    let work = Work { model, total_steps: settings.total_steps, skipped_steps };
    settings.profile.service(gpu, model).job_s(work)
}

/// Thousandths by which a GPU type is as fast as the first one, with what it is best at; rounded up.
#[must_use]
pub fn speed(settings: &Settings, gpu: GpuId) -> u64 {
    let models = (0..settings.models.len() as u16).map(ModelId);
    // A ratio of two sums lies between its ends.
    let ends = models.flat_map(|model| [(model, 0), (model, settings.total_steps.saturating_sub(1))]);
    let least = |gpu, model, skipped| seconds(settings, gpu, model, skipped) * least_part(settings, gpu, model);
    let ratio = ends.map(|(model, skipped)| least(GpuId(0), model, skipped) / least(gpu, model, skipped));
    libm::ceil(ratio.fold(0.0, f64::max) * 1000.0) as u64
}

/// A request's part of the job in which it takes least, in times of a job of its own.
fn least_part(settings: &Settings, gpu: GpuId, model: ModelId) -> f64 {
    let service = settings.profile.service(gpu, model);
    let sizes = 1..=service.most().min(settings.most_together);
    sizes.map(|size| service.batch_factor(size) / f64::from(size)).fold(1.0, f64::min)
}

/// Least time of a request on the first GPU type, nanoseconds: with the model that is fastest for it, and as much above or
/// below the profile as its job was.
pub(super) fn least_work(settings: &Settings, row: &RequestRow) -> u64 {
    let Some(decision) = row.decision.filter(|decision| decision.kind != DecisionKind::Return) else { return 0 };
    let skipped = decision.skipped_steps;
    let drawn = row.run.filter(|_| row.completed()).map_or(1.0, |run| {
        let gpu = settings.gpus[run.worker.index()];
        let together = settings.profile.service(gpu, run.model).batch_factor(run.together);
        row.finish.since(run.start).seconds() / (seconds(settings, gpu, run.model, skipped) * together)
    });
    Duration::from_seconds_saturating(least_seconds(settings, &decision) * drawn).nanoseconds().saturating_sub(1)
}

/// Nanoseconds that a decision takes at least on the first GPU type, by the profile; 0 for a return.
#[must_use]
pub fn least_work_of(settings: &Settings, decision: &Decision) -> u64 {
    if decision.kind == DecisionKind::Return {
        return 0;
    }
    Duration::from_seconds_saturating(least_seconds(settings, decision)).nanoseconds().saturating_sub(1)
}

/// Seconds with the model that is fastest for a decision, on the first GPU type, in the job in which that is least.
fn least_seconds(settings: &Settings, decision: &Decision) -> f64 {
    let models = settings.serving.of(decision);
    let least =
        |model| seconds(settings, GpuId(0), model, decision.skipped_steps) * least_part(settings, GpuId(0), model);
    let fastest = models.iter().map(least).fold(f64::INFINITY, f64::min);
    let alone = models.iter().map(|model| settings.profile.least_part(GpuId(0), model)).fold(1.0, f64::min);
    fastest * alone
}
