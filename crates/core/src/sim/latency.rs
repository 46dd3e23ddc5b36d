//! How long simulated work takes: by the profile, with jitter drawn per request, or as long as it took in a run
//! that was measured (`measured`). Policies never see this.

use alloc::sync::Arc;

use crate::draw::{Purpose, lognormal, stream};
use crate::model::{GpuId, ModelId, Work};
use crate::profile::Profile;
use crate::request::RequestId;
use crate::scheduler::WorkerId;
use crate::time::Duration;

/// How long work takes. Draws come from (seed, request), never from the order of events.
pub trait LatencyModel {
    /// From a request's arrival to its routing: embedding and search.
    fn retrieval(&mut self, request: RequestId) -> Duration;
    /// Time of a job of so many requests, at least one, with every other worker drawing.
    fn job(&mut self, gpu: GpuId, work: Work, first: RequestId, requests: usize) -> Duration;
    /// The part of that time that it takes while no other worker draws; in between, in proportion.
    fn alone(&self, _gpu: GpuId, _model: ModelId) -> f64 {
        1.0
    }
    /// Time of a job while all other workers draw with a model, in times of [`Self::job`], by that model; 1 beyond the end.
    fn beside(&self, _gpu: GpuId, _model: ModelId) -> &[f64] {
        &[]
    }
    /// Of bringing a model onto a worker's GPU.
    fn load(&mut self, worker: WorkerId, gpu: GpuId, model: ModelId) -> Duration;
    /// From an image's completion to when it can be found.
    fn image_encoding(&mut self, request: RequestId) -> Duration;
}

/// The profile's times: `(overhead_s + step_s * (T - k)) * batch * jitter`, converted once; the jitter of a job is its
/// first request's.
#[derive(Clone, Debug)]
pub struct ProfileLatency {
    /// Service times.
    pub profile: Arc<Profile>,
    /// Of the jitter.
    pub seed: u64,
    /// From arrival to routing.
    pub retrieval: Duration,
    /// From an image's completion to when it can be found.
    pub image_encoding: Duration,
}

impl LatencyModel for ProfileLatency {
    fn retrieval(&mut self, _: RequestId) -> Duration {
        self.retrieval
    }

    fn job(&mut self, gpu: GpuId, work: Work, first: RequestId, requests: usize) -> Duration {
        let service = self.profile.service(gpu, work.model);
        let seconds = service.job_s(work) * service.batch_factor(requests as u32);
        if service.jitter_cv == 0.0 {
            return Duration::from_seconds_saturating(seconds);
        }
        let mut draws = stream(self.seed, Purpose::Jitter, u64::from(first.0));
        Duration::from_seconds_saturating(seconds * lognormal(&mut draws, service.jitter_cv))
    }

    fn alone(&self, gpu: GpuId, model: ModelId) -> f64 {
        self.profile.service(gpu, model).alone
    }

    fn beside(&self, gpu: GpuId, model: ModelId) -> &[f64] {
        self.profile.beside(gpu, model)
    }

    fn load(&mut self, _: WorkerId, gpu: GpuId, model: ModelId) -> Duration {
        self.profile.load(gpu, model)
    }

    fn image_encoding(&mut self, _: RequestId) -> Duration {
        self.image_encoding
    }
}
