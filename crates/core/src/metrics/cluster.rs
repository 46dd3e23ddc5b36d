//! Worker seconds: every one of them counted once as busy, loading, idle or down, and by model.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::model::ModelId;
use crate::scheduler::JobId;
use crate::time::{Duration, Time};

/// What a worker's time goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Denoising.
    Busy,
    /// Bringing a model onto the GPU.
    Loading,
    /// Neither.
    Idle,
    /// Lost.
    Down,
}

/// A row of `absences.csv`: when a worker could serve nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbsenceRow {
    /// Which worker.
    pub worker: u16,
    /// Loading or down.
    pub state: State,
    /// What it loaded.
    pub model: Option<ModelId>,
    /// From when.
    pub start: Time,
    /// Until when.
    pub end: Time,
}

/// A row of `workers.csv`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerRow {
    /// Denoising.
    pub busy: Duration,
    /// Bringing a model onto the GPU.
    pub loading: Duration,
    /// Neither.
    pub idle: Duration,
    /// Lost.
    pub down: Duration,
    /// Jobs begun.
    pub jobs: u64,
    /// Loads begun.
    pub loads: u64,
}

#[derive(Clone, Debug)]
struct Worker {
    state: State,
    /// What it holds; while it loads, what it will hold.
    model: Option<ModelId>,
    /// Job that runs while the worker is busy.
    job: JobId,
    since: Time,
    jobs: u64,
    loads: u64,
    /// Time busy, loading, idle and down, by model; the last entry is for a worker without a model.
    spent: Vec<[Duration; 4]>,
}

/// Counts of workers now.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Counts {
    pub(super) busy: u32,
    pub(super) loading: u32,
    pub(super) idle: u32,
    pub(super) down: u32,
    pub(super) by_model: Vec<u32>,
}

/// All workers' seconds so far.
#[derive(Clone, Debug)]
pub(super) struct ClusterWork {
    workers: Vec<Worker>,
    counts: Counts,
    mark: Option<Mark>,
}

/// The cluster as it was: the workers that changed since, as they were.
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
            state: State::Idle,
            model: Some(model),
            job: JobId(0),
            since: Time::ZERO,
            jobs: 0,
            loads: 0,
            spent: vec![[Duration::ZERO; 4]; models + 1],
        };
        Self { workers: initial.iter().map(worker).collect(), counts, mark: None }
    }

    /// Remembers how it is now, to come back to, in place of an earlier mark.
    pub(super) fn set_mark(&mut self) {
        self.mark = Some(Mark { counts: self.counts.clone(), changed: BTreeMap::new() });
    }

    /// Keeps a worker as it was at the mark.
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

    /// Goes back to the mark, if there is one: what came since is left out.
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

    /// What the worker holds.
    pub(super) fn model(&self, worker: usize) -> Option<ModelId> {
        self.workers[worker].model
    }

    /// What it does; `None` for a worker that the cluster does not have.
    pub(super) fn state(&self, worker: usize) -> Option<State> {
        self.workers.get(worker).map(|worker| worker.state)
    }

    /// Returns whether a worker runs this job.
    pub(super) fn runs(&self, worker: usize, job: JobId) -> bool {
        self.workers.get(worker).is_some_and(|worker| worker.state == State::Busy && worker.job == job)
    }

    /// Sets the job of a busy worker.
    pub(super) fn runs_from_now(&mut self, worker: usize, job: JobId) {
        self.workers[worker].job = job;
    }

    /// What it would have to account for until `now`; `None` while it can serve.
    pub(super) fn absence(&self, now: Time, worker: usize) -> Option<AbsenceRow> {
        let Worker { state, model, since, .. } = self.workers[worker];
        let away = matches!(state, State::Loading | State::Down) && since < now;
        away.then_some(AbsenceRow { worker: worker as u16, state, model, start: since, end: now })
    }

    /// Number of workers.
    pub(super) const fn workers(&self) -> usize {
        self.workers.len()
    }

    /// A worker changes state; `model` is what it holds from now on (or will, once loaded).
    pub(super) fn change(&mut self, now: Time, worker: usize, state: State, model: Option<ModelId>) {
        if self.mark.is_some() {
            self.remember(worker);
        }
        let worker = &mut self.workers[worker];
        worker.settle(now);
        *self.counts.of(worker.state) -= 1;
        *self.counts.of(state) += 1;
        // A model counts as held from the end of its load.
        let holds = |model: Option<ModelId>, state| model.filter(|_| state != State::Loading);
        let (before, after) = (holds(worker.model, worker.state), holds(model, state));
        if before != after {
            if let Some(model) = before {
                self.counts.by_model[model.index()] -= 1;
            }
            if let Some(model) = after {
                self.counts.by_model[model.index()] += 1;
            }
        }
        worker.jobs += u64::from(state == State::Busy);
        worker.loads += u64::from(state == State::Loading);
        worker.state = state;
        worker.model = model;
    }

    /// Counts everything up to the end of the run, and not beyond.
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

    pub(super) fn busy(&self) -> Duration {
        self.workers.iter().fold(Duration::ZERO, |sum, worker| sum + worker.sum(State::Busy))
    }

    /// Seconds (busy, loading, idle) by worker and model.
    pub(super) fn by_model(&self) -> impl Iterator<Item = (usize, ModelId, [Duration; 3])> {
        self.workers.iter().enumerate().flat_map(|(index, worker)| {
            let with_models = worker.spent[..worker.spent.len() - 1].iter().enumerate();
            with_models
                .map(move |(model, [busy, loading, idle, _])| (index, ModelId(model as u16), [*busy, *loading, *idle]))
        })
    }
}

impl Counts {
    fn of(&mut self, state: State) -> &mut u32 {
        match state {
            State::Busy => &mut self.busy,
            State::Loading => &mut self.loading,
            State::Idle => &mut self.idle,
            State::Down => &mut self.down,
        }
    }
}

impl Worker {
    fn settle(&mut self, now: Time) {
        let place = self.model.map_or(self.spent.len() - 1, ModelId::index);
        self.spent[place][self.state as usize] += now.since(self.since);
        self.since = self.since.max(now);
    }

    fn sum(&self, state: State) -> Duration {
        self.spent.iter().fold(Duration::ZERO, |sum, spent| sum + spent[state as usize])
    }

    fn row(&self) -> WorkerRow {
        WorkerRow {
            busy: self.sum(State::Busy),
            loading: self.sum(State::Loading),
            idle: self.sum(State::Idle),
            down: self.sum(State::Down),
            jobs: self.jobs,
            loads: self.loads,
        }
    }
}
