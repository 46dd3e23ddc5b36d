//! The workers as the executor sees them: the thread that each has, what it was told, and how long it may be silent.

use std::thread::JoinHandle;
use std::time::Duration as HostDuration;

use super::{Live, LiveError, nap};
use crate::live::worker::{Handle, Order};
use crate::model::ModelId;
use crate::scheduler::{Event, JobId, LossCause, WorkerId};

/// How often threads are looked at.
const WATCH: HostDuration = HostDuration::from_secs(1);
/// Time that a thread may be silent beyond its process's own limits: the process is ended first.
const MARGIN: HostDuration = HostDuration::from_secs(15);
/// How often an ending thread is looked at.
const POLL: HostDuration = HostDuration::from_millis(2);

/// One worker as the executor sees it.
#[derive(Debug, Default)]
pub(super) struct Worker {
    /// `None` while it is lost.
    pub(super) handle: Option<Handle>,
    /// Threads before it that have not ended: they still hold their device.
    pub(super) leaving: Vec<JoinHandle<()>>,
    /// Tells its answers from those of the threads before it.
    pub(super) life: u32,
    pub(super) loading: bool,
    pub(super) job: Option<JobId>,
    /// Losses since a job was done.
    pub(super) losses: u32,
    /// How long it may be silent while it does what it was told last.
    patience: HostDuration,
}

impl Worker {
    /// Whether an answer is of the thread it has now: others are out of date.
    pub(super) fn is_in(&self, life: u32) -> bool {
        self.life == life && self.handle.is_some()
    }

    /// Leaves its thread to end by itself.
    pub(super) fn leave(&mut self) {
        self.leaving.extend(self.handle.take().map(Handle::leave));
    }

    /// Forgets threads that have ended. Returns whether one has not.
    pub(super) fn is_leaving(&mut self) -> bool {
        self.leaving.retain(|thread| !thread.is_finished());
        !self.leaving.is_empty()
    }

    /// Stops what it draws at the next step.
    pub(super) fn stop(&self) {
        if let (Some(handle), Some(job)) = (&self.handle, self.job) {
            handle.stop(job);
        }
    }

    /// Whether it has been silent for too long.
    fn is_stuck(&self) -> bool {
        let busy = self.loading || self.job.is_some();
        self.handle.as_ref().is_some_and(|handle| busy && handle.silence() > self.patience)
    }

    pub(super) fn order(&mut self, order: Order, patience: HostDuration) {
        self.patience = patience;
        if let Some(handle) = &self.handle {
            handle.order(order);
        }
    }
}

/// Waits for threads to end, and not for ever. Returns how many have not.
pub(super) fn join(threads: Vec<JoinHandle<()>>, mut patience: HostDuration) -> usize {
    let mut threads = threads;
    loop {
        threads.retain(|thread| !thread.is_finished());
        if threads.is_empty() || patience.is_zero() {
            return threads.len();
        }
        nap(POLL);
        patience = patience.saturating_sub(POLL);
    }
}

impl Live {
    /// How long a worker may be silent while it loads a model and tries it, or draws with it.
    fn patience(&self, worker: WorkerId, model: ModelId) -> (HostDuration, HostDuration) {
        let limits = self.setting.limits.model(worker, model);
        let draw = limits.around + limits.step + self.setting.limits.disk;
        if self.setting.isolated {
            // A process is started first, which has as long again.
            return (2 * limits.load + MARGIN, draw + MARGIN);
        }
        (limits.load.max(draw), draw)
    }

    pub(super) fn load(&mut self, worker: WorkerId, model: ModelId) {
        let patience = self.patience(worker, model).0;
        let state = &mut self.workers[worker.index()];
        state.loading = true;
        self.in_flight += 1;
        // One that was lost shows first that it can draw: no request should be tried on a worker that cannot.
        state.order(Order::Load { model, probe: state.losses > 0 }, patience);
    }

    pub(super) fn draw(&mut self, worker: WorkerId, job: JobId, model: ModelId, order: Order) {
        let patience = self.patience(worker, model).1;
        let state = &mut self.workers[worker.index()];
        state.job = Some(job);
        self.in_flight += 1;
        state.order(order, patience);
    }

    /// Has the threads looked at again and again.
    pub(super) fn watch(&self) {
        let answers = self.to_answers.clone();
        self.runtime.spawn(async move {
            loop {
                tokio::time::sleep(WATCH).await;
                if answers.send(super::Answer::Watch).is_err() {
                    return;
                }
            }
        });
    }

    /// Gives up the first thread that has been silent for too long.
    pub(super) fn look_after(&mut self) -> Option<Event> {
        let stuck = self.workers.iter().position(Worker::is_stuck)?;
        let worker = WorkerId(stuck as u16);
        let what = if self.workers[stuck].loading { "a load" } else { "a step of a job" };
        let limit = self.workers[stuck].patience.as_secs_f64();
        // There may be more: one event at a time.
        let _ = self.to_answers.send(super::Answer::Watch);
        let why = format!("{what} took longer than {limit} s");
        let event = self.lost(worker, LossCause::Hung, &why, why.clone());
        if !self.setting.isolated
            && self.workers.iter_mut().all(|worker| worker.handle.is_none() && worker.is_leaving())
        {
            self.broken = Some(LiveError::NoWorker);
        }
        Some(event)
    }
}
