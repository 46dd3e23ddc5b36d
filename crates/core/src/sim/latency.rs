//! Times of simulated work: from the profile, with jitter drawn for each request, or from a run that was measured
//! (`measured`). Policies never see these times.

use alloc::sync::Arc;

use crate::draw::{Purpose, lognormal, stream};
use crate::model::{GpuId, ModelId, Work};
use crate::profile::Profile;
use crate::request::RequestId;
use crate::scheduler::WorkerId;
use crate::time::Duration;

/// Source of the times that work takes. Random draws depend on the seed and the request, never on the order of events.
pub trait LatencyModel {
    /// Returns the time from the arrival of a request to its routing: embedding and search.
    fn retrieval(&mut self, request: RequestId) -> Duration;
    /// Returns the time of a job of `requests` requests, at least one, while every other worker runs a job.
    fn job(&mut self, gpu: GpuId, work: Work, first: RequestId, requests: usize) -> Duration;
    /// Returns the part of the time of [`Self::job`] that a job takes while no other worker runs a job. With some of
    /// the others running, the part is in proportion.
    fn alone(&self, _gpu: GpuId, _model: ModelId) -> f64 {
        1.0
    }
    /// Returns the factors on the time of [`Self::job`] while all other workers run jobs with one model, by that model.
    /// Models beyond the end have factor 1.
    fn beside(&self, _gpu: GpuId, _model: ModelId) -> &[f64] {
        &[]
    }
    /// Returns the time to load a model onto the GPU of a worker that last held the model `from`, if any.
    fn load(&mut self, worker: WorkerId, gpu: GpuId, from: Option<ModelId>, model: ModelId) -> Duration;
    /// Returns the time from the completion of an image until searches can find it.
    fn image_encoding(&mut self, request: RequestId) -> Duration;
}

/// Times from the profile: the seconds of a job x batch x jitter, and then those of a change of weights, converted to
/// nanoseconds once.
/// The jitter of a job is that of its first request.
#[derive(Clone, Debug)]
pub struct ProfileLatency {
    /// Profile with the service times.
    pub profile: Arc<Profile>,
    /// Seed of the jitter.
    pub seed: u64,
    /// Time from the arrival of a request to its routing.
    pub retrieval: Duration,
    /// Time from the completion of an image until searches can find it.
    pub image_encoding: Duration,
}

impl LatencyModel for ProfileLatency {
    fn retrieval(&mut self, _: RequestId) -> Duration {
        self.retrieval
    }

    fn job(&mut self, gpu: GpuId, work: Work, first: RequestId, requests: usize) -> Duration {
        let service = self.profile.service(gpu, work.model);
        let seconds = service.job_s(work) * service.batch_factor(requests as u32);
        let change_s = service.change_s(work.change);
        if service.jitter_cv == 0.0 {
            return Duration::from_seconds_saturating(seconds + change_s);
        }
        // The request alone is the key: a job that is tried again has the jitter that it had the first time.
        let mut draws = stream(self.seed, Purpose::Jitter, u64::from(first.0));
        Duration::from_seconds_saturating(seconds * lognormal(&mut draws, service.jitter_cv) + change_s)
    }

    fn alone(&self, gpu: GpuId, model: ModelId) -> f64 {
        self.profile.service(gpu, model).alone
    }

    fn beside(&self, gpu: GpuId, model: ModelId) -> &[f64] {
        self.profile.beside(gpu, model)
    }

    fn load(&mut self, _: WorkerId, gpu: GpuId, from: Option<ModelId>, model: ModelId) -> Duration {
        self.profile.load(gpu, from, model)
    }

    fn image_encoding(&mut self, _: RequestId) -> Duration {
        self.image_encoding
    }
}
