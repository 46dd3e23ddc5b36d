//! State of the workers, with sets of ready workers by pool (GPU type and model). The time to find the lowest ready
//! worker of a pool hardly depends on the size of the cluster. The module takes no decisions.

use alloc::vec::Vec;

use smallvec::SmallVec;

use super::event::{JobId, WorkerId};
use super::hardware::Hardware;
use crate::model::{Change, GpuId, ModelId, ModelSet, Work};
use crate::request::{RequestId, Weights};
use crate::time::Time;

/// Activity of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Activity {
    Idle,
    Running { job: JobId, requests: SmallVec<[RequestId; 2]> },
    Loading,
    Down,
}

#[derive(Clone, Debug)]
pub(super) struct Worker {
    /// Model that the next job would use.
    pub(super) loaded: Option<ModelId>,
    /// Models in the memory of the GPU, `loaded` last.
    pub(super) resident: SmallVec<[ModelId; 2]>,
    /// Model that is being loaded. The target may change meanwhile.
    pub(super) loading: Option<ModelId>,
    pub(super) target: ModelId,
    /// Model that the monitor wants here: the target, unless the load of the target failed.
    pub(super) wanted: ModelId,
    pub(super) activity: Activity,
    /// Start of the job or the load.
    begun: Time,
    /// Work of the job that runs.
    work: Work,
    /// Checkpoint and LoRAs of the latest job; none after a load.
    weights: Weights,
}

/// Set of pools, one bit each, by GPU type, then model. Pools from number 63 on share the last bit: the set may seem to
/// contain a pool that was never added, but contains every pool that was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pools(u64);

impl Pools {
    const fn bit(pool: usize) -> u64 {
        1 << if pool < 63 { pool } else { 63 }
    }

    /// Returns the set with this pool.
    pub(super) const fn with(self, pool: usize) -> Self {
        Self(self.0 | Self::bit(pool))
    }

    /// Returns whether the two sets may have a pool in common.
    pub(super) const fn meets(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Worker with how much it lacks of the weights of a job: 0 for nothing, 1 for LoRAs, 2 for the checkpoint. The lowest
/// lacks least, and of equals has the lowest number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Suited(u32);

impl Suited {
    const fn new(lacks: u8, worker: WorkerId) -> Self {
        Self((lacks as u32) << 16 | worker.0 as u32)
    }

    /// Returns the worker.
    pub(super) const fn worker(self) -> WorkerId {
        WorkerId((self.0 & 0xffff) as u16)
    }
}

/// Change of the model that a worker's next job uses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Switch {
    pub(super) worker: WorkerId,
    /// Model before the change; `None` if the worker had none.
    pub(super) from: Option<ModelId>,
    /// Model after the change.
    pub(super) model: ModelId,
}

/// All workers, and the sets that the dispatcher uses.
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
    /// Number of workers that are not down, by pool of their GPU type and target.
    targets: Vec<usize>,
    /// True if a pool has come to be the target of a worker, or no longer is, since the last call of
    /// [`Self::retargeted`].
    retargeted: bool,
    /// Workers that switched to another model in their memory since the last report.
    switched: Vec<Switch>,
    /// True once a worker has had a checkpoint or LoRAs.
    has_weights: bool,
}

impl Cluster {
    /// Makes a cluster in which every worker has its target loaded.
    pub(super) fn new(targets: &[ModelId], hardware: &Hardware, models: usize) -> Self {
        let worker = |&target| Worker {
            loaded: Some(target),
            resident: SmallVec::from_slice(&[target]),
            loading: None,
            target,
            wanted: target,
            activity: Activity::Idle,
            begun: Time::ZERO,
            work: Work::new(target, 0, 0),
            weights: Weights::default(),
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
            targets: vec![0; hardware.types() * models],
            retargeted: true,
            switched: Vec::new(),
            has_weights: false,
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
        // The worker leaves the set of its old state and enters that of its new one, whatever `change` does. So no
        // field can be changed without its set.
        self.unlist(index);
        let result = change(&mut self.workers[index]);
        self.switch(index);
        self.list(index);
        Some(result)
    }

    /// Starts a job on a ready worker.
    pub(super) fn begin(
        &mut self,
        worker: WorkerId,
        now: Time,
        work: Work,
        job: JobId,
        requests: SmallVec<[RequestId; 2]>,
    ) {
        // A job changes only the set of the worker's pool, and jobs begin and end all the time. So `begin` and `end` do
        // without the general `update`.
        let state = &mut self.workers[worker.index()];
        state.activity = Activity::Running { job, requests };
        (state.begun, state.work) = (now, work);
        let pool = self.pool(self.hardware.gpus[worker.index()], work.model);
        self.no_longer_ready(worker.index(), pool);
    }

    /// Gives a worker the weights of its next job. Returns what it has to change for them.
    pub(super) fn change_weights(&mut self, worker: WorkerId, weights: Weights) -> Change {
        self.has_weights |= weights != Weights::default();
        core::mem::replace(&mut self.workers[worker.index()].weights, weights).change(weights)
    }

    /// Ends a job and leaves its worker idle. Returns the model and the requests of the job; `None` if the worker does
    /// not run it.
    pub(super) fn end(&mut self, worker: WorkerId, job: JobId) -> Option<(ModelId, SmallVec<[RequestId; 2]>)> {
        let state = self.workers.get_mut(worker.index())?;
        match &mut state.activity {
            // The number tells the answer of a job that was lost with its worker from that of the job that runs now.
            Activity::Running { job: running, requests } if *running == job => {
                let requests = core::mem::take(requests);
                state.activity = Activity::Idle;
                let model = state.work.model;
                if state.loaded == Some(state.target) {
                    self.ready_now(worker.index(), self.pool(self.hardware.gpus[worker.index()], model));
                } else {
                    // The monitor changed the target while the job ran. `list` counts the target again.
                    self.count_target(worker.index(), false);
                    self.switch(worker.index());
                    self.list(worker.index());
                }
                Some((model, requests))
            }
            _ => None,
        }
    }

    /// Switches an idle worker to its target if the target is in its memory.
    fn switch(&mut self, index: usize) {
        let worker = &mut self.workers[index];
        let (target, held) = (worker.target, &mut worker.resident);
        if worker.activity == Activity::Idle && worker.loaded != Some(target) && held.contains(&target) {
            // The list is in order of last use: `begin_load` makes room from the front.
            held.retain(|model| *model != target);
            held.push(target);
            let from = worker.loaded.replace(target);
            worker.weights = Weights::default();
            self.switched.push(Switch { worker: WorkerId(index as u16), from, model: target });
        }
    }

    /// Takes the switches to another model without a load since the last call.
    pub(super) fn switched(&mut self) -> impl Iterator<Item = Switch> {
        self.switched.drain(..)
    }

    /// Begins to load the target of a worker. Models leave the memory, least recently used first, until there is room.
    pub(super) fn begin_load(&mut self, worker: WorkerId, now: Time) -> Option<Switch> {
        let Worker { target, resident, .. } = self.get(worker)?;
        let (target, gpu) = (*target, self.hardware.gpu(worker));
        // The target itself is not resident, since `switch` would have taken it without a load.
        let fits = |held: &[ModelId]| self.hardware.fits(gpu, held.iter().copied().chain([target]));
        // A target that does not fit beside anything is loaded into an empty memory.
        let leaving = (0..resident.len()).find(|leaving| fits(&resident[*leaving..])).unwrap_or(resident.len());
        self.update(worker, |state| {
            state.resident.drain(..leaving);
            state.activity = Activity::Loading;
            state.loading = Some(target);
            state.weights = Weights::default();
            state.begun = now;
            Switch { worker, from: state.loaded, model: target }
        })
    }

    /// Returns the time at which a worker is expected to be idle; `None` while it is down.
    pub(super) fn free(&self, worker: WorkerId, now: Time) -> Option<Time> {
        let state = &self.workers[worker.index()];
        let until = match &state.activity {
            Activity::Idle => now,
            Activity::Running { requests, .. } => {
                state.begun + self.hardware.batch(self.hardware.gpu(worker), state.work, requests.len())
            }
            Activity::Loading => {
                let load = |model| self.hardware.load(worker, state.loaded, model);
                state.loading.map_or(now, |model| state.begun + load(model))
            }
            Activity::Down => return None,
        };
        // A job that takes longer than the profile expects is expected to end now.
        Some(until.max(now))
    }

    pub(super) fn set_targets(&mut self, targets: &[ModelId]) {
        for (worker, &target) in self.workers.iter_mut().zip(targets) {
            worker.wanted = target;
        }
        self.want_again();
    }

    /// Returns whether a worker keeps what it holds because a load of what the monitor wants failed.
    pub(super) fn has_failed_load(&self) -> bool {
        self.workers.iter().any(|worker| worker.target != worker.wanted)
    }

    /// Sets the target of every worker to the model that the monitor wants.
    pub(super) fn want_again(&mut self) {
        for index in 0..self.workers.len() {
            if self.workers[index].target != self.workers[index].wanted {
                self.update(WorkerId(index as u16), |worker| worker.target = worker.wanted);
            }
        }
    }

    /// Returns the pools that have a ready worker.
    pub(super) const fn ready_pools(&self) -> Pools {
        self.ready_pools
    }

    /// Returns the ready worker of a pool that suits a job with these weights best.
    pub(super) fn ready(&self, pool: usize, weights: Weights) -> Option<Suited> {
        if !self.has_weights {
            return self.ready[pool].first().map(|worker| Suited::new(0, worker));
        }
        let lacks = |worker: WorkerId| match self.workers[worker.index()].weights.change(weights) {
            Change::Nothing => 0,
            Change::Loras => 1,
            Change::Checkpoint | Change::Both => 2,
        };
        self.ready[pool].iter().map(|worker| Suited::new(lacks(worker), worker)).min()
    }

    /// Returns whether any other worker of a pool is ready.
    pub(super) fn any_ready_but(&self, pool: usize, worker: WorkerId) -> bool {
        self.ready[pool].any_but(worker.index())
    }

    /// Returns the pool of a GPU type and a model.
    pub(super) const fn pool(&self, gpu: GpuId, model: ModelId) -> usize {
        gpu.index() * self.models + model.index()
    }

    /// Returns the lowest worker that is ready with a model.
    pub(super) fn ready_with(&self, model: ModelId) -> Option<WorkerId> {
        // Pools are numbered by GPU type, then model, so that every `models`-th pool is of the same model.
        self.ready.iter().skip(model.index()).step_by(self.models).filter_map(WorkerSet::first).min()
    }

    pub(super) fn due_to_load(&self) -> Option<WorkerId> {
        self.due_to_load.first()
    }

    /// Returns whether any worker that is not down has one of these models as its target.
    pub(super) fn any_target(&self, models: ModelSet) -> bool {
        let of_these = |pool: usize| models.contains(ModelId((pool % self.models) as u16));
        self.targets.iter().enumerate().any(|(pool, count)| *count > 0 && of_these(pool))
    }

    /// Returns the pools that a worker that is not down has as its target, if they changed since the last call.
    pub(super) fn retargeted(&mut self) -> Option<impl Iterator<Item = bool>> {
        let changed = core::mem::take(&mut self.retargeted);
        changed.then(|| self.targets.iter().map(|count| *count > 0))
    }

    /// Counts a worker in or out by its target, unless the worker is down.
    fn count_target(&mut self, index: usize, enters: bool) {
        let worker = &self.workers[index];
        if worker.activity == Activity::Down {
            return;
        }
        let pool = self.pool(self.hardware.gpus[index], worker.target);
        let count = &mut self.targets[pool];
        *count = if enters { *count + 1 } else { *count - 1 };
        self.retargeted |= *count == usize::from(enters);
    }

    fn ready_now(&mut self, index: usize, pool: usize) {
        self.ready[pool].insert(index);
        self.ready_pools = self.ready_pools.with(pool);
    }

    fn no_longer_ready(&mut self, index: usize, pool: usize) {
        if self.ready[pool].remove(index) {
            // Several pools may share a bit, so the set is made anew.
            let filled = self.ready.iter().enumerate().filter(|(_, set)| !set.is_empty());
            self.ready_pools = filled.fold(Pools::default(), |pools, (pool, _)| pools.with(pool));
        }
    }

    /// Adds a worker to the set of its state.
    fn list(&mut self, index: usize) {
        self.count_target(index, true);
        let worker = &self.workers[index];
        if worker.activity != Activity::Idle {
            return;
        }
        if worker.loaded == Some(worker.target) {
            self.ready_now(index, self.pool(self.hardware.gpus[index], worker.target));
        } else {
            self.due_to_load.insert(index);
        }
    }

    /// Removes a worker from the set of its state.
    fn unlist(&mut self, index: usize) {
        self.count_target(index, false);
        let worker = &self.workers[index];
        if worker.activity != Activity::Idle {
            return;
        }
        if worker.loaded == Some(worker.target) {
            self.no_longer_ready(index, self.pool(self.hardware.gpus[index], worker.target));
        } else {
            self.due_to_load.remove(index);
        }
    }
}

/// Set of workers, one bit each.
#[derive(Clone, Debug)]
struct WorkerSet {
    /// One bit for each worker.
    words: Vec<u64>,
    /// One bit for each number in `words` that is not zero. For 65,536 workers there are 16 numbers.
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

    /// Removes a worker. Returns whether the set is empty afterwards.
    fn remove(&mut self, index: usize) -> bool {
        let (word, bit) = (&mut self.words[index / 64], 1 << (index % 64));
        self.count -= usize::from(*word & bit != 0);
        *word &= !bit;
        if *word == 0 {
            self.filled[index / 4096] &= !(1 << (index / 64 % 64));
        }
        self.count == 0
    }

    /// Returns whether the set has any other worker.
    fn any_but(&self, index: usize) -> bool {
        let is_in = self.words[index / 64] >> (index % 64) & 1 == 1;
        self.count > usize::from(is_in)
    }

    fn iter(&self) -> impl Iterator<Item = WorkerId> {
        let filled = self.words.iter().enumerate().filter(|(_, word)| **word != 0);
        filled.flat_map(|(at, word)| {
            let bits = (0..64).filter(move |bit| word >> bit & 1 == 1);
            bits.map(move |bit| WorkerId((at * 64 + bit) as u16))
        })
    }

    fn first(&self) -> Option<WorkerId> {
        if self.count == 0 {
            return None;
        }
        let (at, filled) = self.filled.iter().enumerate().find(|(_, filled)| **filled != 0)?;
        let word = at * 64 + filled.trailing_zeros() as usize;
        // A cluster has at most 65,535 workers, so that the number fits.
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
                // The first worker is removed often, so that whole words become empty.
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
