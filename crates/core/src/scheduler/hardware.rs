//! Expectations of the core about its workers: their GPU types and, from the profile, the times of jobs and loads. The
//! times that jobs and loads take in truth are known to the executor alone.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::model::{GpuId, ModelId, ModelSet, Work};
use crate::profile::Profile;
use crate::time::Duration;

use super::event::WorkerId;

/// GPU types of the workers, and the profile of the models on them.
#[derive(Clone, Debug)]
pub struct Hardware {
    /// GPU type by worker.
    pub gpus: Vec<GpuId>,
    /// Profile with the expected times.
    pub profile: Arc<Profile>,
}

impl Hardware {
    /// Makes equal workers on which jobs and loads are expected to take no time, for runs that measure these times.
    #[must_use]
    pub fn unmeasured(workers: usize, models: usize) -> Self {
        Self { gpus: vec![GpuId(0); workers], profile: Arc::new(Profile::unmeasured(models)) }
    }

    /// Returns the number of workers.
    pub const fn workers(&self) -> usize {
        self.gpus.len()
    }

    /// Returns the number of GPU types.
    pub fn types(&self) -> usize {
        self.gpus.iter().map(|gpu| gpu.index() + 1).max().unwrap_or(0)
    }

    /// Returns the expected time of a job of one request.
    pub fn job(&self, gpu: GpuId, work: Work) -> Duration {
        self.batch(gpu, work, 1)
    }

    /// Returns the expected time of a job of `requests` requests.
    pub fn batch(&self, gpu: GpuId, work: Work, requests: usize) -> Duration {
        let service = self.profile.service(gpu, work.model);
        // The product is made in seconds and converted once (docs/semantics.md, section 1), as the simulator does it.
        let seconds = service.job_s(work) * service.batch_factor(requests as u32);
        Duration::from_seconds_saturating(seconds + service.change_s(work.change))
    }

    /// Returns the GPU type of a worker.
    pub fn gpu(&self, worker: WorkerId) -> GpuId {
        self.gpus[worker.index()]
    }

    /// Returns whether a GPU has room for all of these models at once.
    pub fn fits(&self, gpu: GpuId, models: impl Iterator<Item = ModelId>) -> bool {
        self.profile.fits(gpu, models)
    }

    /// Returns the expected time to load a model onto a worker that last held the model `from`, if any.
    pub fn load(&self, worker: WorkerId, from: Option<ModelId>, model: ModelId) -> Duration {
        self.profile.load(self.gpus[worker.index()], from, model)
    }

    /// Returns the shortest expected time to load a model onto a worker that holds these models. A GPU that holds
    /// several last held one of them.
    pub fn quickest_load(&self, worker: WorkerId, held: ModelSet, model: ModelId) -> Duration {
        let gpu = self.gpus[worker.index()];
        let any = self.profile.load(gpu, None, model);
        if !self.profile.loads_differ() {
            return any;
        }
        held.iter().map(|from| self.profile.load(gpu, Some(from), model)).min().unwrap_or(any)
    }
}
