//! What the core expects of its workers: their GPU types and, by the profile, how long things take. Never what they
//! really take: that is the executor's to tell.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::model::{GpuId, ModelId, Work};
use crate::profile::Profile;
use crate::time::Duration;

use super::event::WorkerId;

/// The workers' GPUs and the profile of everything that runs on them.
#[derive(Clone, Debug)]
pub struct Hardware {
    /// GPU type by worker.
    pub gpus: Vec<GpuId>,
    /// Expected times.
    pub profile: Arc<Profile>,
}

impl Hardware {
    /// Equal workers of which nothing is expected: for runs that measure.
    #[must_use]
    pub fn unmeasured(workers: usize, models: usize) -> Self {
        Self { gpus: vec![GpuId(0); workers], profile: Arc::new(Profile::unmeasured(models)) }
    }

    /// Workers.
    pub const fn workers(&self) -> usize {
        self.gpus.len()
    }

    /// GPU types that there are.
    pub fn types(&self) -> usize {
        self.gpus.iter().map(|gpu| gpu.index() + 1).max().unwrap_or(0)
    }

    /// Of a job of one request.
    pub fn job(&self, gpu: GpuId, work: Work) -> Duration {
        self.batch(gpu, work, 1)
    }

    /// Of a job of so many requests.
    pub fn batch(&self, gpu: GpuId, work: Work, requests: usize) -> Duration {
        let service = self.profile.service(gpu, work.model);
        Duration::from_seconds_saturating(service.job_s(work) * service.batch_factor(requests as u32))
    }

    /// GPU type of a worker.
    pub fn gpu(&self, worker: WorkerId) -> GpuId {
        self.gpus[worker.index()]
    }

    /// Whether a GPU has room for these models at once.
    pub fn fits(&self, gpu: GpuId, models: impl Iterator<Item = ModelId>) -> bool {
        self.profile.fits(gpu, models)
    }

    /// Of bringing a model onto a worker.
    pub fn load(&self, worker: WorkerId, model: ModelId) -> Duration {
        self.profile.load(self.gpus[worker.index()], model)
    }
}
