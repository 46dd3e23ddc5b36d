//! How long simulated work takes: the profile's times, with jitter drawn per request. Policies never see this.

use std::sync::Arc;

use crate::draw::{Purpose, lognormal, stream};
use crate::model::{GpuId, ModelId, Work};
use crate::profile::Profile;
use crate::request::RequestId;
use crate::time::Duration;

/// How long work takes. Draws come from (seed, request), never from the order of events.
pub trait LatencyModel {
    /// Of a job.
    fn duration(&self, gpu: GpuId, work: Work, request: RequestId) -> Duration;
    /// Of bringing a model onto a GPU.
    fn load(&self, gpu: GpuId, model: ModelId) -> Duration;
}

/// The profile's times: `(overhead_s + step_s * (T - k)) * jitter`, converted once.
#[derive(Clone, Debug)]
pub struct ProfileLatency {
    profile: Arc<Profile>,
    seed: u64,
}

impl ProfileLatency {
    /// With the jitter of this seed.
    #[must_use]
    pub const fn new(profile: Arc<Profile>, seed: u64) -> Self {
        Self { profile, seed }
    }
}

impl LatencyModel for ProfileLatency {
    fn duration(&self, gpu: GpuId, work: Work, request: RequestId) -> Duration {
        let service = self.profile.service(gpu, work.model);
        let seconds = service.job_s(work);
        if service.jitter_cv == 0.0 {
            return Duration::from_seconds_saturating(seconds);
        }
        let mut draws = stream(self.seed, Purpose::Jitter, u64::from(request.0));
        Duration::from_seconds_saturating(seconds * lognormal(&mut draws, service.jitter_cv))
    }

    fn load(&self, gpu: GpuId, model: ModelId) -> Duration {
        self.profile.load(gpu, model)
    }
}
