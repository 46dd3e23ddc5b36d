//! Worker seconds of a run. Every worker second is counted once, as busy, loading, idle or down, and by model.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::model::ModelId;
use crate::scheduler::JobId;
use crate::time::{Duration, Time};

/// State of a worker, by which its time is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerState {
    /// Busy worker, which denoises.
    Busy,
    /// Loading worker, which brings a model onto the GPU.
    Loading,
    /// Idle worker, which neither denoises nor loads.
    Idle,
    /// Lost worker.
    Down,
}

/// Row of `absences.csv`: a time in which a worker could serve no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbsenceRow {
    /// Worker that was absent.
    pub worker: u16,
    /// State of the worker: loading or down.
    pub state: WorkerState,
    /// Model that the worker loaded; `None` if the worker was down.
    pub model: Option<ModelId>,
    /// Start of the absence.
    pub start: Time,
    /// End of the absence.
    pub end: Time,
}

/// Row of `workers.csv`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerRow {
    /// Time spent denoising.
    pub busy: Duration,
    /// Time spent bringing models onto the GPU.
    pub loading: Duration,
    /// Time spent idle.
    pub idle: Duration,
    /// Time in which the worker was lost.
    pub down: Duration,
    /// Number of jobs begun.
    pub jobs: u64,
    /// Number of loads begun.
    pub loads: u64,
}

#[derive(Clone, Debug)]
struct Worker {
    state: WorkerState,
    /// Model that the worker holds; while it loads, the model that it will hold.
    model: Option<ModelId>,
    /// Job that runs while the worker is busy.
    job: JobId,
    since: Time,
    jobs: u64,
    loads: u64,
    /// Time busy, loading, idle and down, by model; the last entry is for a worker without a model.
    spent: Vec<[Duration; 4]>,
}

/// Number of workers in each state now, and number of workers that hold each model.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Counts {
    pub(super) busy: u32,
    pub(super) loading: u32,
    pub(super) idle: u32,
    pub(super) down: u32,
    pub(super) by_model: Vec<u32>,
}

/// Worker seconds of all workers so far.
#[derive(Clone, Debug)]
pub(super) struct ClusterWork {
    workers: Vec<Worker>,
    counts: Counts,
    mark: Option<Mark>,
}

/// State of the cluster at a mark: the counts, and the workers that have changed since the mark, as they were at the
/// mark.
#[derive(Clone, Debug)]
struct Mark {
    counts: Counts,
    changed: BTreeMap<usize, Worker>,
}

impl ClusterWork {
    pub(super) fn new(initial: &[ModelId], models: usize) -> Self {
        let mut counts = Counts { idle: initial.len() as u32, by_model: vec![0; models], ..Counts::default() };
        for model in initial {
            counts.by_model[model.index()] += 1;
        }
        let worker = |&model| Worker {
            state: WorkerState::Idle,
            model: Some(model),
            job: JobId(0),
            since: Time::ZERO,
            jobs: 0,
            loads: 0,
            spent: vec![[Duration::ZERO; 4]; models + 1],
        };
        Self { workers: initial.iter().map(worker).collect(), counts, mark: None }
    }

    /// Sets a mark at the present state, for [`Self::back_to_mark`]. The mark replaces an earlier one.
    pub(super) fn set_mark(&mut self) {
        self.mark = Some(Mark { counts: self.counts.clone(), changed: BTreeMap::new() });
    }

    /// Keeps a copy of a worker as it was at the mark.
    #[cold]
    fn remember(&mut self, worker: usize) {
        if let Some(mark) = &mut self.mark {
            mark.changed.entry(worker).or_insert_with(|| self.workers[worker].clone());
        }
    }

    /// Forgets the mark.
    pub(super) fn forget_mark(&mut self) {
        self.mark = None;
    }

    /// Restores the state at the mark, if there is one, and leaves out what came after the mark.
    pub(super) fn back_to_mark(&mut self) {
        if let Some(Mark { counts, changed }) = self.mark.take() {
            self.counts = counts;
            for (index, worker) in changed {
                self.workers[index] = worker;
            }
        }
    }

    pub(super) const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Returns the model that a worker holds.
    pub(super) fn model(&self, worker: usize) -> Option<ModelId> {
        self.workers[worker].model
    }

    /// Returns the state of a worker; `None` for a worker that the cluster does not have.
    pub(super) fn state(&self, worker: usize) -> Option<WorkerState> {
        self.workers.get(worker).map(|worker| worker.state)
    }

    /// Returns whether a worker runs this job.
    pub(super) fn runs(&self, worker: usize, job: JobId) -> bool {
        self.workers.get(worker).is_some_and(|worker| worker.state == WorkerState::Busy && worker.job == job)
    }

    /// Sets the job of a busy worker.
    pub(super) fn runs_from_now(&mut self, worker: usize, job: JobId) {
        self.workers[worker].job = job;
    }

    /// Returns the absence of a worker up to `now`; `None` while the worker can serve.
    pub(super) fn absence(&self, now: Time, worker: usize) -> Option<AbsenceRow> {
        let Worker { state, model, since, .. } = self.workers[worker];
        let away = matches!(state, WorkerState::Loading | WorkerState::Down) && since < now;
        away.then_some(AbsenceRow { worker: worker as u16, state, model, start: since, end: now })
    }

    /// Returns the number of workers.
    pub(super) const fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Changes the state of a worker. `model` is the model that the worker holds from now on, or that it will hold once
    /// it is loaded.
    pub(super) fn change(&mut self, now: Time, worker: usize, state: WorkerState, model: Option<ModelId>) {
        if self.mark.is_some() {
            self.remember(worker);
        }
        let worker = &mut self.workers[worker];
        worker.settle(now);
        *self.counts.count_mut(worker.state) -= 1;
        *self.counts.count_mut(state) += 1;
        // A model counts as held from the end of its load.
        let holds = |model: Option<ModelId>, state| model.filter(|_| state != WorkerState::Loading);
        let (before, after) = (holds(worker.model, worker.state), holds(model, state));
        if before != after {
            if let Some(model) = before {
                self.counts.by_model[model.index()] -= 1;
            }
            if let Some(model) = after {
                self.counts.by_model[model.index()] += 1;
            }
        }
        worker.jobs += u64::from(state == WorkerState::Busy);
        worker.loads += u64::from(state == WorkerState::Loading);
        worker.state = state;
        worker.model = model;
    }

    /// Counts the time of every worker up to the end of the run.
    pub(super) fn settle(&mut self, end: Time) {
        for worker in &mut self.workers {
            worker.settle(end);
        }
    }

    pub(super) fn rows(&self) -> Vec<WorkerRow> {
        self.workers.iter().map(Worker::row).collect()
    }

    pub(super) fn loads(&self) -> u64 {
        self.workers.iter().map(|worker| worker.loads).sum()
    }

    /// Returns the worker seconds busy. They are no [`Duration`]: ten years of 59 workers are beyond its end.
    pub(super) fn busy_s(&self) -> f64 {
        let nanoseconds = |worker: &Worker| u128::from(worker.sum(WorkerState::Busy).nanoseconds());
        self.workers.iter().map(nanoseconds).sum::<u128>() as f64 / 1e9
    }

    /// Returns the time busy, loading and idle, by worker and model.
    pub(super) fn by_model(&self) -> impl Iterator<Item = (usize, ModelId, [Duration; 3])> {
        self.workers.iter().enumerate().flat_map(|(index, worker)| {
            let with_models = worker.spent[..worker.spent.len() - 1].iter().enumerate();
            with_models
                .map(move |(model, [busy, loading, idle, _])| (index, ModelId(model as u16), [*busy, *loading, *idle]))
        })
    }
}

impl Counts {
    fn count_mut(&mut self, state: WorkerState) -> &mut u32 {
        match state {
            WorkerState::Busy => &mut self.busy,
            WorkerState::Loading => &mut self.loading,
            WorkerState::Idle => &mut self.idle,
            WorkerState::Down => &mut self.down,
        }
    }
}

impl Worker {
    fn settle(&mut self, now: Time) {
        let place = self.model.map_or(self.spent.len() - 1, ModelId::index);
        self.spent[place][self.state as usize] += now.since(self.since);
        self.since = self.since.max(now);
    }

    fn sum(&self, state: WorkerState) -> Duration {
        self.spent.iter().fold(Duration::ZERO, |sum, spent| sum + spent[state as usize])
    }

    fn row(&self) -> WorkerRow {
        WorkerRow {
            busy: self.sum(WorkerState::Busy),
            loading: self.sum(WorkerState::Loading),
            idle: self.sum(WorkerState::Idle),
            down: self.sum(WorkerState::Down),
            jobs: self.jobs,
            loads: self.loads,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::MAX_INPUT_S;

    #[test]
    fn years_of_many_workers_are_counted() {
        let mut cluster = ClusterWork::new(&[ModelId::LARGE; 100], 1);
        (0..100).for_each(|worker| cluster.change(Time::ZERO, worker, WorkerState::Busy, Some(ModelId::LARGE)));
        cluster.settle(Time::from_seconds(MAX_INPUT_S).expect("an input may name it"));
        assert_eq!(cluster.busy_s().to_bits(), (100.0 * MAX_INPUT_S).to_bits());
    }
}
