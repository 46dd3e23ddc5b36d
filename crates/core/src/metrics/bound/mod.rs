//! Lower bound on the requests that are late under any policy, even one that knows all arrivals. The decisions of the
//! run are kept (which requests hit, and the steps that they skip). Everything else is free, and no model is loaded.
//!
//! Every worker counts as the fastest one, with the fastest model for each request and jobs of the best size. The bound
//! is the larger of two relaxations: in `together` all workers are one machine as fast as their sum; in `apart` jobs of
//! similar lengths have all workers to themselves.

use alloc::vec::Vec;

mod apart;
mod together;

pub use together::{Lateness, fewest_late};

use super::fold::Settings;
use super::rows::{RequestEnd, RequestRow};
use crate::model::{Change, GpuId, ModelId, Work};
use crate::request::{RequestId, Shape};
use crate::scheduler::{Decision, DecisionKind};
use crate::time::{Duration, Time};

/// Request with its least time on one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// Time of arrival.
    pub arrival: Time,
    /// Time at which the request is due; in the order of arrivals.
    pub due: Time,
    /// Least time on one worker, in nanoseconds.
    pub work: u64,
}

/// Returns the least share of a run's requests that could have been late if each request is due `limit` after its
/// arrival; `None` without requests.
pub(super) fn fewest_violations(settings: &Settings, ends: &[RequestEnd], limit: Duration) -> Option<f64> {
    let jobs = jobs(settings, ends, limit);
    let speeds: Vec<u64> = settings.gpus.iter().map(|gpu| speed(settings, *gpu)).collect();
    let fastest = speeds.iter().copied().max()?;
    // Requests of one batch share the time of a job. No request takes a whole job, as `apart` assumes, so that its
    // bound does not hold.
    // The pictures of one request are one job here, which several workers may share, as in `together`.
    let shared = settings.most_together > 1 || ends.iter().any(|end| !end.place.is_only());
    let apart = if shared { 0 } else { apart::fewest_late(&jobs, speeds.len(), fastest) };
    let late = fewest_late(&jobs, speeds.iter().sum()).max(apart);
    (!jobs.is_empty()).then(|| late as f64 / jobs.len() as f64)
}

/// Returns the requests of a run that count, in the order of arrivals, with their least times and with deadlines
/// `limit` after the arrivals. The work of a request is that of all its pictures.
#[must_use]
pub fn jobs(settings: &Settings, ends: &[RequestEnd], limit: Duration) -> Vec<Job> {
    let counted = ends.iter().filter(|end| end.arrival >= settings.warmup);
    let job = |end: &RequestEnd| Job { arrival: end.arrival, due: end.arrival + limit, work: end.least_work };
    let mut jobs = Vec::with_capacity(ends.len());
    let mut of_request: Option<(RequestId, usize)> = None;
    for end in counted {
        let first = end.place.first_of(end.id);
        // The pictures of a request follow each other, since the ends are in order of their rows.
        if let Some((_, at)) = of_request.filter(|(request, _)| !end.place.is_only() && *request == first) {
            let job: &mut Job = &mut jobs[at];
            job.work += end.least_work;
        } else {
            of_request = Some((first, jobs.len()));
            jobs.push(job(end));
        }
    }
    // All requests have the same limit, so that this is the order of deadlines too.
    jobs.sort_by_key(|job| job.arrival);
    jobs
}

/// Returns the seconds of a job of one request on a GPU type.
fn seconds(settings: &Settings, gpu: GpuId, work: Work) -> f64 {
    settings.profile.service(gpu, work.model).job_s(work)
}

/// Returns the speed of a GPU type in thousandths of the speed of the first type, rounded up. It is the largest ratio
/// over all models, numbers of skipped steps and sizes.
#[must_use]
pub fn speed(settings: &Settings, gpu: GpuId) -> u64 {
    let models = (0..settings.models.len() as u16).map(ModelId);
    let least = |gpu, (work, pixels): (Work, Option<u64>)| {
        let service = settings.profile.service(gpu, work.model);
        service.job_s_at(work, pixels.map_or(1.0, |pixels| service.growth(pixels)))
            * least_part(settings, gpu, work.model)
    };
    let works = models.flat_map(|model| extremes(settings, gpu, model));
    let ratio = works.map(|work| least(GpuId(0), work) / least(gpu, work)).filter(|ratio| ratio.is_finite());
    // Rounded up: the machine must not be slower than the worker that it stands for.
    libm::ceil(ratio.fold(0.0, f64::max) * 1000.0) as u64
}

/// Returns works of a model, each with the pixels of its images if they are not usual, among which is the one whose
/// ratio between the first GPU type and `gpu` is largest. Seconds are linear in the steps that run, and linear in the
/// pixels between the sizes that the profile knows, so that the ratio is largest at an end.
fn extremes(settings: &Settings, gpu: GpuId, model: ModelId) -> Vec<(Work, Option<u64>)> {
    let steps = settings.denoising.steps(model, Shape::default());
    let last = steps.saturating_sub(1);
    // The first step that is skipped brings the source's encoding.
    let mut works: Vec<(Work, Option<u64>)> =
        [0, last.min(1), last].map(|skipped| (Work::new(model, steps, skipped), None)).to_vec();
    if settings.requests_differ {
        let known = |gpu| {
            let row = settings.profile.service(gpu, model);
            row.sizes.iter().map(|(pixels, _)| *pixels).chain([row.pixels])
        };
        let largest = u64::from(u16::MAX) * u64::from(u16::MAX);
        let pixels = known(GpuId(0)).chain(known(gpu)).chain([1, largest]);
        let all = pixels.flat_map(|pixels| [(1, 0), (2, 1), (MOST_STEPS, 0)].map(|steps| (steps, Some(pixels))));
        works.extend(all.map(|((total, skipped), pixels)| (Work::new(model, total, skipped), pixels)));
    }
    works
}

/// Steps that stand for any larger number of them: beside these, nothing else in a job counts.
const MOST_STEPS: u32 = 1 << 30;

/// Returns the least time per request in a job of any size, as a part of the time of a job of one request.
fn least_part(settings: &Settings, gpu: GpuId, model: ModelId) -> f64 {
    let service = settings.profile.service(gpu, model);
    let sizes = 1..=service.most().min(settings.most_together);
    sizes.map(|size| service.batch_factor(size) / f64::from(size)).fold(1.0, f64::min)
}

/// Returns the least time of a request on the first GPU type, in nanoseconds, with the model that is fastest for the
/// request. The time is longer or shorter than by the profile in the proportion of the request's own job; 0 for a
/// return.
pub(super) fn least_work(settings: &Settings, row: &RequestRow) -> u64 {
    let Some(decision) = row.decision.filter(|decision| decision.kind != DecisionKind::Return) else { return 0 };
    let shape = row.ask.shape();
    let drawn = row.run.filter(|_| row.completed()).map_or(1.0, |run| {
        let gpu = settings.gpus[run.worker.index()];
        let service = settings.profile.service(gpu, run.model);
        let expected = seconds(settings, gpu, decision.work(run.model, shape, &settings.denoising));
        let taken = row.finish.since(run.start).seconds();
        let together = service.batch_factor(run.together);
        if settings.network.is_some() {
            // The job took its transfers too. Without jitter, its drawing is no quicker than the profile says; with
            // jitter, nothing tells how much of the time was drawing.
            return if service.jitter_cv == 0.0 { 1.0 } else { 0.0 };
        }
        if !settings.requests_differ {
            return taken / (expected * together);
        }
        // A change of weights before the job is no work of the request's own. Without jitter, nothing is quicker than
        // the profile says.
        let own = taken - service.change_s(Change::Both);
        if service.jitter_cv == 0.0 { 1.0 } else { (own / (expected * together)).clamp(0.0, 1.0) }
    });
    // A nanosecond less, since rounding may have lifted the time above the least one.
    Duration::from_seconds_saturating(least_seconds(settings, &decision, shape) * drawn).nanoseconds().saturating_sub(1)
}

/// Returns the least time for a decision on the first GPU type by the profile, in nanoseconds; 0 for a return.
#[must_use]
pub fn least_work_of(settings: &Settings, decision: &Decision, shape: Shape) -> u64 {
    if decision.kind == DecisionKind::Return {
        return 0;
    }
    Duration::from_seconds_saturating(least_seconds(settings, decision, shape)).nanoseconds().saturating_sub(1)
}

/// Returns the least seconds for a decision on the first GPU type: with the model that is fastest for it, in the job
/// size with the least time per request, while no other worker slows the job down.
fn least_seconds(settings: &Settings, decision: &Decision, shape: Shape) -> f64 {
    let models = settings.serving.models_for(decision);
    let least = |model| {
        let work = decision.work(model, shape, &settings.denoising);
        seconds(settings, GpuId(0), work) * least_part(settings, GpuId(0), model)
    };
    let fastest = models.iter().map(least).fold(f64::INFINITY, f64::min);
    let alone = models.iter().map(|model| settings.profile.least_part(GpuId(0), model)).fold(1.0, f64::min);
    fastest * alone
}
