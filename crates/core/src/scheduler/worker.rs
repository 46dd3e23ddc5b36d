//! The workers: what each holds and does, and which are ready for what, kept so that finding the
//! lowest ready worker of a GPU type does not get slower with the cluster. No decisions here.

use alloc::vec::Vec;

use smallvec::SmallVec;

use super::event::{JobId, WorkerId};
use super::hardware::Hardware;
use crate::model::{ModelId, ModelSet};
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
    /// When what it runs or loads is expected to end.
    pub(super) until: Time,
}

/// All workers, and the sets the dispatcher asks for.
#[derive(Clone, Debug)]
pub(super) struct Workers {
    all: Vec<Worker>,
    hardware: Hardware,
    types: usize,
    models: usize,
    /// By GPU type, then model.
    ready: Vec<WorkerSet>,
    ready_count: usize,
    due_to_load: WorkerSet,
    /// Workers, not down, by target.
    targets: Vec<usize>,
    /// Workers that went on to another of the models they hold, not yet told.
    switched: Vec<(WorkerId, ModelId)>,
}

impl Workers {
    /// Every worker has its target loaded.
    pub(super) fn new(targets: &[ModelId], hardware: &Hardware, models: usize) -> Self {
        let worker = |&target| Worker {
            loaded: Some(target),
            resident: SmallVec::from_slice(&[target]),
            loading: None,
            target,
            wanted: target,
            activity: Activity::Idle,
            until: Time::ZERO,
        };
        let workers: Vec<Worker> = targets.iter().map(worker).collect();
        let types = hardware.types();
        let empty = WorkerSet::new(workers.len());
        let mut listed = Self {
            all: workers,
            hardware: hardware.clone(),
            types,
            models,
            ready: vec![empty.clone(); types * models],
            ready_count: 0,
            due_to_load: empty,
            targets: vec![0; models],
            switched: Vec::new(),
        };
        for index in 0..listed.all.len() {
            listed.list(index);
        }
        listed
    }

    pub(super) fn get(&self, worker: WorkerId) -> Option<&Worker> {
        self.all.get(worker.index())
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (WorkerId, &Worker)> {
        self.all.iter().enumerate().map(|(index, worker)| (WorkerId(index as u16), worker))
    }

    /// Changes a worker and its places in the sets. Unknown workers are ignored.
    pub(super) fn update<T>(&mut self, worker: WorkerId, change: impl FnOnce(&mut Worker) -> T) -> Option<T> {
        let index = worker.index();
        if index >= self.all.len() {
            return None;
        }
        self.unlist(index);
        let result = change(&mut self.all[index]);
        self.switch(index);
        self.list(index);
        Some(result)
    }

    /// An idle worker goes on to its target if that is in its memory.
    fn switch(&mut self, index: usize) {
        let worker = &mut self.all[index];
        let (target, held) = (worker.target, &mut worker.resident);
        if worker.activity == Activity::Idle && worker.loaded != Some(target) && held.contains(&target) {
            held.retain(|model| *model != target);
            held.push(target);
            worker.loaded = Some(target);
            self.switched.push((WorkerId(index as u16), target));
        }
    }

    /// Workers that went on to another model without a load since this was asked last.
    pub(super) fn switched(&mut self) -> Vec<(WorkerId, ModelId)> {
        core::mem::take(&mut self.switched)
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
            state.until = now + hardware.load(worker, target);
            target
        })
    }

    /// When what a worker does is expected to end; that changes none of the sets.
    pub(super) fn expect(&mut self, worker: WorkerId, until: Time) {
        self.all[worker.index()].until = until;
    }

    pub(super) fn set_targets(&mut self, targets: &[ModelId]) {
        for (worker, &target) in self.all.iter_mut().zip(targets) {
            worker.wanted = target;
        }
        self.want_again();
    }

    /// Makes what is wanted the target of every worker.
    pub(super) fn want_again(&mut self) {
        for index in 0..self.all.len() {
            if self.all[index].target != self.all[index].wanted {
                self.update(WorkerId(index as u16), |worker| worker.target = worker.wanted);
            }
        }
    }

    /// GPU types that there are.
    pub(super) const fn types(&self) -> usize {
        self.types
    }

    /// Whether any worker could begin a job.
    pub(super) const fn any_ready(&self) -> bool {
        self.ready_count > 0
    }

    /// The lowest worker of a GPU type that holds a model and could begin a job with it.
    pub(super) fn ready(&self, gpu: usize, model: ModelId) -> Option<WorkerId> {
        self.ready[gpu * self.models + model.index()].first()
    }

    pub(super) fn due_to_load(&self) -> Option<WorkerId> {
        self.due_to_load.first()
    }

    /// Whether any worker that is not down has one of these models as its target.
    pub(super) fn any_target(&self, models: ModelSet) -> bool {
        models.iter().any(|model| self.targets[model.index()] > 0)
    }

    /// The set a worker belongs to, and whether it is one of the ready ones.
    fn set(&mut self, index: usize) -> Option<(&mut WorkerSet, bool)> {
        let worker = &self.all[index];
        match worker.activity {
            Activity::Idle if worker.loaded != Some(worker.target) => Some((&mut self.due_to_load, false)),
            Activity::Idle => {
                let ready = self.hardware.gpus[index].index() * self.models + worker.target.index();
                Some((&mut self.ready[ready], true))
            }
            Activity::Running { .. } | Activity::Loading | Activity::Down => None,
        }
    }

    fn list(&mut self, index: usize) {
        let worker = &self.all[index];
        self.targets[worker.target.index()] += usize::from(worker.activity != Activity::Down);
        if let Some((set, ready)) = self.set(index) {
            set.insert(index);
            self.ready_count += usize::from(ready);
        }
    }

    fn unlist(&mut self, index: usize) {
        let worker = &self.all[index];
        self.targets[worker.target.index()] -= usize::from(worker.activity != Activity::Down);
        if let Some((set, ready)) = self.set(index) {
            set.remove(index);
            self.ready_count -= usize::from(ready);
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
}

impl WorkerSet {
    fn new(workers: usize) -> Self {
        let words = workers.div_ceil(64);
        Self { words: vec![0; words], filled: vec![0; words.div_ceil(64)] }
    }

    fn insert(&mut self, index: usize) {
        self.words[index / 64] |= 1 << (index % 64);
        self.filled[index / 4096] |= 1 << (index / 64 % 64);
    }

    fn remove(&mut self, index: usize) {
        self.words[index / 64] &= !(1 << (index % 64));
        if self.words[index / 64] == 0 {
            self.filled[index / 4096] &= !(1 << (index / 64 % 64));
        }
    }

    fn first(&self) -> Option<WorkerId> {
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
        let mut workers = Workers::new(&targets, &Hardware::unmeasured(200, 2), 2);
        assert_eq!(workers.ready(0, large), Some(WorkerId(0)));
        assert_eq!(workers.ready(0, small), Some(WorkerId(130)));
        for index in 0..130 {
            workers.update(WorkerId(index), |worker| worker.activity = Activity::Down);
        }
        assert_eq!(workers.ready(0, large), None);
        workers.update(WorkerId(129), |worker| worker.activity = Activity::Idle);
        assert_eq!(workers.ready(0, large), Some(WorkerId(129)));
        targets.fill(large);
        targets[150] = small;
        workers.set_targets(&targets);
        assert_eq!(workers.due_to_load(), Some(WorkerId(130)));
        let smalls = ModelSet::EMPTY.with(small);
        assert!(workers.any_target(smalls) && workers.any_ready());
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
                    set.remove(index);
                    tree.remove(&index);
                } else {
                    set.insert(any);
                    tree.insert(any);
                }
                assert_eq!(set.first().map(WorkerId::index), tree.first().copied());
            }
        }
    }
}
