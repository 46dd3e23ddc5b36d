//! The workers: what each holds and does, and which are ready for what, kept so that finding the
//! lowest ready worker does not get slower with the cluster. No decisions here.

use smallvec::SmallVec;

use super::allocation::Allocation;
use super::event::{JobId, WorkerId};
use crate::model::ModelId;
use crate::request::RequestId;

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
    pub(super) loaded: Option<ModelId>,
    /// What it is loading; the target may change meanwhile.
    pub(super) loading: Option<ModelId>,
    pub(super) target: ModelId,
    /// What the monitor wants here; the target, unless its load failed.
    pub(super) wanted: ModelId,
    pub(super) activity: Activity,
}

/// All workers, and the sets the dispatcher asks for.
#[derive(Clone, Debug)]
pub(super) struct Workers {
    all: Vec<Worker>,
    ready_large: WorkerSet,
    ready_small: WorkerSet,
    due_to_load: WorkerSet,
    /// Workers, not down, whose target is a small model.
    small_targets: usize,
}

impl Workers {
    /// Every worker has its target loaded.
    pub(super) fn new(allocation: &Allocation) -> Self {
        let worker =
            |&target| Worker { loaded: Some(target), loading: None, target, wanted: target, activity: Activity::Idle };
        let workers: Vec<Worker> = allocation.targets.iter().map(worker).collect();
        let empty = WorkerSet::new(workers.len());
        let mut listed = Self {
            all: workers,
            ready_large: empty.clone(),
            ready_small: empty.clone(),
            due_to_load: empty,
            small_targets: 0,
        };
        for index in 0..listed.all.len() {
            listed.list(index);
        }
        listed
    }

    pub(super) fn get(&self, worker: WorkerId) -> Option<&Worker> {
        self.all.get(worker.index())
    }

    /// Changes a worker and its places in the sets. Unknown workers are ignored.
    pub(super) fn update<T>(&mut self, worker: WorkerId, change: impl FnOnce(&mut Worker) -> T) -> Option<T> {
        let index = worker.index();
        if index >= self.all.len() {
            return None;
        }
        self.unlist(index);
        let result = change(&mut self.all[index]);
        self.list(index);
        Some(result)
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

    pub(super) fn ready_large(&self) -> Option<WorkerId> {
        self.ready_large.first()
    }

    pub(super) fn ready_small(&self) -> Option<WorkerId> {
        self.ready_small.first()
    }

    pub(super) fn due_to_load(&self) -> Option<WorkerId> {
        self.due_to_load.first()
    }

    pub(super) const fn any_small_target(&self) -> bool {
        self.small_targets > 0
    }

    /// The set a worker belongs to.
    fn set(&mut self, index: usize) -> Option<&mut WorkerSet> {
        let worker = &self.all[index];
        match worker.activity {
            Activity::Idle if worker.loaded != Some(worker.target) => Some(&mut self.due_to_load),
            Activity::Idle if worker.target.is_large() => Some(&mut self.ready_large),
            Activity::Idle => Some(&mut self.ready_small),
            Activity::Running { .. } | Activity::Loading | Activity::Down => None,
        }
    }

    fn counts_as_small(&self, index: usize) -> usize {
        let worker = &self.all[index];
        usize::from(!worker.target.is_large() && worker.activity != Activity::Down)
    }

    fn list(&mut self, index: usize) {
        self.small_targets += self.counts_as_small(index);
        if let Some(set) = self.set(index) {
            set.insert(index);
        }
    }

    fn unlist(&mut self, index: usize) {
        self.small_targets -= self.counts_as_small(index);
        if let Some(set) = self.set(index) {
            set.remove(index);
        }
    }
}

/// A set of workers as bits: lowest first.
#[derive(Clone, Debug)]
struct WorkerSet(Vec<u64>);

impl WorkerSet {
    fn new(workers: usize) -> Self {
        Self(vec![0; workers.div_ceil(64)])
    }

    fn insert(&mut self, index: usize) {
        self.0[index / 64] |= 1 << (index % 64);
    }

    fn remove(&mut self, index: usize) {
        self.0[index / 64] &= !(1 << (index % 64));
    }

    fn first(&self) -> Option<WorkerId> {
        let (at, word) = self.0.iter().enumerate().find(|(_, word)| **word != 0)?;
        Some(WorkerId((at * 64) as u16 + word.trailing_zeros() as u16))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_ready_worker_comes_first_on_large_clusters() {
        let mut workers = Workers::new(&Allocation::split(200, 130, ModelId(1)));
        assert_eq!(workers.ready_large(), Some(WorkerId(0)));
        assert_eq!(workers.ready_small(), Some(WorkerId(130)));
        for index in 0..130 {
            workers.update(WorkerId(index), |worker| worker.activity = Activity::Down);
        }
        assert_eq!(workers.ready_large(), None);
        workers.update(WorkerId(129), |worker| worker.activity = Activity::Idle);
        assert_eq!(workers.ready_large(), Some(WorkerId(129)));
        let mut targets = vec![ModelId::LARGE; 200];
        targets[150] = ModelId(1);
        workers.set_targets(&targets);
        assert_eq!(workers.due_to_load(), Some(WorkerId(130)));
        assert!(workers.any_small_target());
        workers.update(WorkerId(150), |worker| worker.activity = Activity::Down);
        assert!(!workers.any_small_target());
    }
}
