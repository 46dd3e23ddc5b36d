//! The workers: what each holds and does, and which are ready for what, kept so that finding the
//! lowest ready worker of a pool (GPU type and model) does not get slower with the cluster. No decisions here.

use alloc::vec::Vec;

use smallvec::SmallVec;

use super::event::{JobId, WorkerId};
use super::hardware::Hardware;
use crate::model::{GpuId, ModelId, ModelSet, Work};
use crate::request::RequestId;
use crate::time::Time;

/// What a worker does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Activity {
    Idle,
    Running { job: JobId, requests: SmallVec<[RequestId; 2]> },
    Loading,
    Down,
}

#[derive(Clone, Debug)]
pub(super) struct Worker {
    /// What it would run with.
    pub(super) loaded: Option<ModelId>,
    /// All that is in its GPU's memory, `loaded` last.
    pub(super) resident: SmallVec<[ModelId; 2]>,
    /// What it is loading; the target may change meanwhile.
    pub(super) loading: Option<ModelId>,
    pub(super) target: ModelId,
    /// What the monitor wants here; the target, unless its load failed.
    pub(super) wanted: ModelId,
    pub(super) activity: Activity,
    /// When what it runs or loads began.
    begun: Time,
    /// Work of the job that it runs.
    work: Work,
}

/// Some of the pools of workers: a bit each by GPU type, then model. Those beyond the last bit share it, so that a pool that is
/// in the set may still have to be looked at, and one that is not need not be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pools(u64);

impl Pools {
    const fn bit(pool: usize) -> u64 {
        1 << if pool < 63 { pool } else { 63 }
    }

    /// With this one.
    pub(super) const fn with(self, pool: usize) -> Self {
        Self(self.0 | Self::bit(pool))
    }

    /// Whether any of these may be among the others.
    pub(super) const fn meets(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// All workers, and the sets the dispatcher asks for.
#[derive(Debug)]
pub(super) struct Cluster {
    workers: Vec<Worker>,
    hardware: Hardware,
    models: usize,
    /// Ready workers by pool.
    ready: Vec<WorkerSet>,
    /// Pools with a ready worker.
    ready_pools: Pools,
    due_to_load: WorkerSet,
    due_count: usize,
    /// Workers, not down, by target.
    targets: Vec<usize>,
    /// Workers that went on to another of the models they hold, not yet told.
    switched: Vec<(WorkerId, ModelId)>,
}

impl Cluster {
    /// Every worker has its target loaded.
    pub(super) fn new(targets: &[ModelId], hardware: &Hardware, models: usize) -> Self {
        let worker = |&target| Worker {
            loaded: Some(target),
            resident: SmallVec::from_slice(&[target]),
            loading: None,
            target,
            wanted: target,
            activity: Activity::Idle,
            begun: Time::ZERO,
            work: Work { model: target, total_steps: 0, skipped_steps: 0 },
        };
        let workers: Vec<Worker> = targets.iter().map(worker).collect();
        let empty = WorkerSet::new(workers.len());
        let mut listed = Self {
            workers,
            hardware: hardware.clone(),
            models,
            ready: vec![empty.clone(); hardware.types() * models],
            ready_pools: Pools::default(),
            due_to_load: empty,
            due_count: 0,
            targets: vec![0; models],
            switched: Vec::new(),
        };
        for index in 0..listed.workers.len() {
            listed.list(index);
        }
        listed
    }

    pub(super) fn get(&self, worker: WorkerId) -> Option<&Worker> {
        self.workers.get(worker.index())
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (WorkerId, &Worker)> {
        self.workers.iter().enumerate().map(|(index, worker)| (WorkerId(index as u16), worker))
    }

    /// Changes a worker and its places in the sets. Unknown workers are ignored.
    pub(super) fn update<T>(&mut self, worker: WorkerId, change: impl FnOnce(&mut Worker) -> T) -> Option<T> {
        let index = worker.index();
        if index >= self.workers.len() {
            return None;
        }
        self.unlist(index);
        let result = change(&mut self.workers[index]);
        self.switch(index);
        self.list(index);
        Some(result)
    }

    /// Gives a ready worker its next job.
    pub(super) fn begin(
        &mut self,
        worker: WorkerId,
        now: Time,
        work: Work,
        job: JobId,
        requests: SmallVec<[RequestId; 2]>,
    ) {
        let state = &mut self.workers[worker.index()];
        state.activity = Activity::Running { job, requests };
        (state.begun, state.work) = (now, work);
        let pool = self.pool(self.hardware.gpus[worker.index()], work.model);
        self.no_longer_ready(worker.index(), pool);
    }

    /// The model that a worker has run a job with and the requests of it, the worker being idle again; `None` if it does not
    /// run this job.
    pub(super) fn end(&mut self, worker: WorkerId, job: JobId) -> Option<(ModelId, SmallVec<[RequestId; 2]>)> {
        let state = self.workers.get_mut(worker.index())?;
        match &mut state.activity {
            Activity::Running { job: running, requests } if *running == job => {
                let requests = core::mem::take(requests);
                state.activity = Activity::Idle;
                let model = state.work.model;
                if state.loaded == Some(state.target) {
                    self.ready_now(worker.index(), self.pool(self.hardware.gpus[worker.index()], model));
                } else {
                    self.targets[state.target.index()] -= 1;
                    self.switch(worker.index());
                    self.list(worker.index());
                }
                Some((model, requests))
            }
            _ => None,
        }
    }

    /// An idle worker goes on to its target if that is in its memory.
    fn switch(&mut self, index: usize) {
        let worker = &mut self.workers[index];
        let (target, held) = (worker.target, &mut worker.resident);
        if worker.activity == Activity::Idle && worker.loaded != Some(target) && held.contains(&target) {
            held.retain(|model| *model != target);
            held.push(target);
            worker.loaded = Some(target);
            self.switched.push((WorkerId(index as u16), target));
        }
    }

    /// Workers that went on to another model without a load since this was asked last.
    pub(super) fn switched(&mut self) -> impl Iterator<Item = (WorkerId, ModelId)> {
        self.switched.drain(..)
    }

    /// Begins the load of a worker's target: what has been used longest ago leaves until there is room. Returns it.
    pub(super) fn begin_load(&mut self, worker: WorkerId, now: Time) -> Option<ModelId> {
        let (gpu, hardware) = (self.hardware.gpu(worker), self.hardware.clone());
        self.update(worker, |state| {
            let target = state.target;
            let fits = |held: &[ModelId]| hardware.fits(gpu, held.iter().copied().chain([target]));
            while !state.resident.is_empty() && !fits(&state.resident) {
                state.resident.remove(0);
            }
            state.activity = Activity::Loading;
            state.loading = Some(target);
            state.begun = now;
            target
        })
    }

    /// When a worker is expected to be done with what it does; `None` while it is down.
    pub(super) fn free(&self, worker: WorkerId, now: Time) -> Option<Time> {
        let state = &self.workers[worker.index()];
        let until = match &state.activity {
            Activity::Idle => now,
            Activity::Running { requests, .. } => {
                state.begun + self.hardware.batch(self.hardware.gpu(worker), state.work, requests.len())
            }
            Activity::Loading => state.loading.map_or(now, |model| state.begun + self.hardware.load(worker, model)),
            Activity::Down => return None,
        };
        Some(until.max(now))
    }

    pub(super) fn set_targets(&mut self, targets: &[ModelId]) {
        for (worker, &target) in self.workers.iter_mut().zip(targets) {
            worker.wanted = target;
        }
        self.want_again();
    }

    /// Makes what is wanted the target of every worker.
    pub(super) fn want_again(&mut self) {
        for index in 0..self.workers.len() {
            if self.workers[index].target != self.workers[index].wanted {
                self.update(WorkerId(index as u16), |worker| worker.target = worker.wanted);
            }
        }
    }

    /// Pools in which a worker could begin a job.
    pub(super) const fn ready_pools(&self) -> Pools {
        self.ready_pools
    }

    /// The lowest worker of a pool that could begin a job.
    pub(super) fn ready(&self, pool: usize) -> Option<WorkerId> {
        self.ready[pool].first()
    }

    /// Whether any other worker of a pool could begin a job.
    pub(super) fn any_ready_but(&self, pool: usize, worker: WorkerId) -> bool {
        self.ready[pool].any_but(worker.index())
    }

    /// Pool of a GPU type and a model.
    pub(super) const fn pool(&self, gpu: GpuId, model: ModelId) -> usize {
        gpu.index() * self.models + model.index()
    }

    /// The lowest worker that could begin a job with a model.
    pub(super) fn ready_with(&self, model: ModelId) -> Option<WorkerId> {
        self.ready.iter().skip(model.index()).step_by(self.models).filter_map(WorkerSet::first).min()
    }

    pub(super) fn due_to_load(&self) -> Option<WorkerId> {
        if self.due_count == 0 { None } else { self.due_to_load.first() }
    }

    /// Whether any worker that is not down has one of these models as its target.
    pub(super) fn any_target(&self, models: ModelSet) -> bool {
        models.iter().any(|model| self.targets[model.index()] > 0)
    }

    fn ready_now(&mut self, index: usize, pool: usize) {
        self.ready[pool].insert(index);
        self.ready_pools = self.ready_pools.with(pool);
    }

    fn no_longer_ready(&mut self, index: usize, pool: usize) {
        if self.ready[pool].remove(index) {
            let filled = self.ready.iter().enumerate().filter(|(_, set)| !set.is_empty());
            self.ready_pools = filled.fold(Pools::default(), |pools, (pool, _)| pools.with(pool));
        }
    }

    /// Puts a worker into the set that it belongs to.
    fn list(&mut self, index: usize) {
        let worker = &self.workers[index];
        self.targets[worker.target.index()] += usize::from(worker.activity != Activity::Down);
        if worker.activity != Activity::Idle {
            return;
        }
        if worker.loaded == Some(worker.target) {
            self.ready_now(index, self.pool(self.hardware.gpus[index], worker.target));
        } else {
            self.due_to_load.insert(index);
            self.due_count += 1;
        }
    }

    /// Takes a worker out of the set that it belongs to.
    fn unlist(&mut self, index: usize) {
        let worker = &self.workers[index];
        self.targets[worker.target.index()] -= usize::from(worker.activity != Activity::Down);
        if worker.activity != Activity::Idle {
            return;
        }
        if worker.loaded == Some(worker.target) {
            self.no_longer_ready(index, self.pool(self.hardware.gpus[index], worker.target));
        } else {
            self.due_to_load.remove(index);
            self.due_count -= 1;
        }
    }
}

/// A set of workers as bits: lowest first.
#[derive(Clone, Debug)]
struct WorkerSet {
    /// A bit a worker.
    words: Vec<u64>,
    /// A bit for each of `words` that is not zero: 65,536 workers have 16 of these.
    filled: Vec<u64>,
    count: usize,
}

impl WorkerSet {
    fn new(workers: usize) -> Self {
        let words = workers.div_ceil(64);
        Self { words: vec![0; words], filled: vec![0; words.div_ceil(64)], count: 0 }
    }

    const fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn insert(&mut self, index: usize) {
        let (word, bit) = (&mut self.words[index / 64], 1 << (index % 64));
        self.count += usize::from(*word & bit == 0);
        *word |= bit;
        self.filled[index / 4096] |= 1 << (index / 64 % 64);
    }

    /// Returns whether nobody is left.
    fn remove(&mut self, index: usize) -> bool {
        let (word, bit) = (&mut self.words[index / 64], 1 << (index % 64));
        self.count -= usize::from(*word & bit != 0);
        *word &= !bit;
        if *word == 0 {
            self.filled[index / 4096] &= !(1 << (index / 64 % 64));
        }
        self.count == 0
    }

    /// Whether any other worker is in it.
    fn any_but(&self, index: usize) -> bool {
        let is_in = self.words[index / 64] >> (index % 64) & 1 == 1;
        self.count > usize::from(is_in)
    }

    fn first(&self) -> Option<WorkerId> {
        if self.count == 0 {
            return None;
        }
        let (at, filled) = self.filled.iter().enumerate().find(|(_, filled)| **filled != 0)?;
        let word = at * 64 + filled.trailing_zeros() as usize;
        Some(WorkerId((word * 64) as u16 + self.words[word].trailing_zeros() as u16))
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;

    use rand::RngExt;

    use super::*;
    use crate::draw::{Purpose, stream};

    #[test]
    fn the_lowest_ready_worker_comes_first_on_large_clusters() {
        let (large, small) = (ModelId::LARGE, ModelId(1));
        let mut targets = vec![large; 130];
        targets.resize(200, small);
        let mut workers = Cluster::new(&targets, &Hardware::unmeasured(200, 2), 2);
        assert_eq!(workers.ready_with(large), Some(WorkerId(0)));
        assert_eq!(workers.ready_with(small), Some(WorkerId(130)));
        for index in 0..130 {
            workers.update(WorkerId(index), |worker| worker.activity = Activity::Down);
        }
        assert_eq!(workers.ready_with(large), None);
        workers.update(WorkerId(129), |worker| worker.activity = Activity::Idle);
        assert_eq!(workers.ready_with(large), Some(WorkerId(129)));
        targets.fill(large);
        targets[150] = small;
        workers.set_targets(&targets);
        assert_eq!(workers.due_to_load(), Some(WorkerId(130)));
        let smalls = ModelSet::EMPTY.with(small);
        assert!(workers.any_target(smalls) && !workers.ready_pools().is_empty());
        workers.update(WorkerId(150), |worker| worker.activity = Activity::Down);
        assert!(!workers.any_target(smalls));
    }

    #[test]
    fn sets_of_workers_do_what_trees_do() {
        let mut draws = stream(5, Purpose::Test, 0);
        for workers in [1, 64, 65, 4096, 4097, 10_000] {
            let (mut set, mut tree) = (WorkerSet::new(workers), BTreeSet::new());
            for _ in 0..2_000 {
                // Often the first of them, so that whole words are emptied.
                let any = draws.random_range(0..workers);
                let index = if draws.random_bool(0.5) { tree.first().copied().unwrap_or(any) } else { any };
                if draws.random_bool(0.6) {
                    tree.remove(&index);
                    assert_eq!(set.remove(index), tree.is_empty());
                } else {
                    set.insert(any);
                    tree.insert(any);
                }
                assert_eq!(set.is_empty(), tree.is_empty());
                assert_eq!(set.any_but(index), tree.iter().any(|other| *other != index));
                assert_eq!(set.first().map(WorkerId::index), tree.first().copied());
            }
        }
    }
}
