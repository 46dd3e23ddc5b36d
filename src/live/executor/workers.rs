//! Workers as the executor sees them: their threads, their orders, and the time that a thread may be silent.

use std::thread::JoinHandle;
use std::time::Duration as HostDuration;

use super::{Answer, Live, LiveError, nap};
use crate::live::worker::{Handle, JobError, WorkerOrder};
use crate::model::{ModelId, Size, Work};
use crate::request::RequestId;
use crate::scheduler::{Event, JobId, LossCause, WorkerId};

/// Time between two looks for stuck threads.
const WATCH: HostDuration = HostDuration::from_secs(1);
/// Time that a thread may be silent beyond the limits of its process, so that the process is ended first.
const MARGIN: HostDuration = HostDuration::from_secs(15);
/// Time between two looks at threads that are ending.
const POLL: HostDuration = HostDuration::from_millis(2);

/// Worker as the executor sees it.
#[derive(Debug, Default)]
pub(super) struct Worker {
    /// Thread of the worker; `None` while the worker is lost.
    pub(super) handle: Option<Handle>,
    /// Earlier threads of the worker that have not ended and still hold its device.
    pub(super) leaving: Vec<JoinHandle<()>>,
    /// Number of the current thread, which tells its answers from those of earlier threads.
    pub(super) life: u32,
    pub(super) loading: bool,
    pub(super) job: Option<JobId>,
    /// Number of losses since a job was last completed.
    pub(super) losses: u32,
    /// True if the worker's machine is to be left once its job is done: it gets no more orders.
    pub(super) going: bool,
    /// Time that the thread may be silent while it carries out its last order.
    patience: HostDuration,
}

impl Worker {
    /// Returns whether an answer is from the current thread. Answers of earlier threads are out of date.
    pub(super) fn is_in(&self, life: u32) -> bool {
        self.life == life && self.handle.is_some()
    }

    /// Leaves the thread to end by itself.
    pub(super) fn leave(&mut self) {
        self.going = false;
        self.leaving.extend(self.handle.take().map(Handle::leave));
    }

    /// Forgets threads that have ended. Returns whether some have not.
    pub(super) fn is_leaving(&mut self) -> bool {
        self.leaving.retain(|thread| !thread.is_finished());
        !self.leaving.is_empty()
    }

    /// Stops the current job at its next step.
    pub(super) fn stop(&self) {
        if let (Some(handle), Some(job)) = (&self.handle, self.job) {
            handle.stop(job);
        }
    }

    /// Returns whether the thread has been silent for too long.
    fn is_stuck(&self) -> bool {
        let busy = self.loading || self.job.is_some();
        self.handle.as_ref().is_some_and(|handle| busy && handle.silence() > self.patience)
    }

    pub(super) fn order(&mut self, order: WorkerOrder, patience: HostDuration) {
        self.patience = patience;
        if self.going {
            return; // What was to be done goes back to the core, with the worker.
        }
        if let Some(handle) = &self.handle {
            handle.order(order);
        }
    }
}

/// Waits for threads to end, but not longer than `patience`. Returns the number of threads that have not ended.
pub(super) fn join(threads: Vec<JoinHandle<()>>, mut patience: HostDuration) -> usize {
    // `JoinHandle::join` waits without a limit, so that the ends of the threads are looked for instead.
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
    /// Returns the times that a worker may be silent: while it loads a model and tries the model, and while it draws
    /// pictures of a size.
    fn patience(&self, worker: WorkerId, model: ModelId, size: Size) -> (HostDuration, HostDuration) {
        let limits = self.setting.limits.model(worker, model).of_size(size, self.setting.size);
        // The longest silence of a job is the read of a source, or the last step with the decoding. The sum covers
        // both.
        let draw = limits.around.saturating_add(limits.step).saturating_add(self.setting.limits.disk);
        // A job may begin with a change to another checkpoint, and with the way back if that fails.
        let change = if self.setting.checkpoints.is_empty() { HostDuration::ZERO } else { 2 * limits.load };
        let slack = self.setting.elsewhere.as_ref().map_or(HostDuration::ZERO, |elsewhere| elsewhere.slack());
        let draw = draw.saturating_add(change).saturating_add(slack);
        if self.setting.isolated {
            // A process is started first, which may take as long as the load.
            return (2 * limits.load + slack + MARGIN, draw.saturating_add(MARGIN));
        }
        (limits.load.max(draw), draw)
    }

    pub(super) fn load(&mut self, worker: WorkerId, model: ModelId) {
        let patience = self.patience(worker, model, Size::USUAL).0;
        let state = &mut self.workers[worker.index()];
        state.loading = true;
        self.in_flight += 1;
        // A worker that was lost first shows that it can draw: no request should be tried on a worker that cannot.
        state.order(WorkerOrder::Load { model, probe: state.losses > 0 }, patience);
    }

    pub(super) fn draw(&mut self, worker: WorkerId, job: JobId, work: Work, order: WorkerOrder) {
        let patience = self.patience(worker, work.model, work.size).1;
        let state = &mut self.workers[worker.index()];
        state.job = Some(job);
        self.in_flight += 1;
        state.order(order, patience);
    }

    /// Fails a job without drawing: one of its requests is unknown, and has no prompt.
    pub(super) fn refuse(&mut self, worker: WorkerId, job: JobId, unknown: RequestId) {
        let state = &mut self.workers[worker.index()];
        state.job = Some(job);
        self.in_flight += 1;
        // The core expects no event while it gives orders: the failure comes later, like the answer of a thread.
        let outcome = Err(JobError::UnknownRequest(unknown));
        let _ = self.to_answers.send(Answer::Drawn { worker, life: state.life, job, outcome });
    }

    /// Starts a task that has the threads looked at again and again.
    pub(super) fn watch(&self) {
        let answers = self.to_answers.clone();
        self.runtime.spawn(async move {
            loop {
                tokio::time::sleep(WATCH).await;
                if answers.send(Answer::Watch).is_err() {
                    return;
                }
            }
        });
    }

    /// Gives up the first worker whose thread has been silent for too long.
    pub(super) fn look_after(&mut self) -> Option<Event> {
        let stuck = self.workers.iter().position(Worker::is_stuck)?;
        let worker = WorkerId(stuck as u16);
        let what = if self.workers[stuck].loading { "a load" } else { "a step of a job" };
        let limit = self.workers[stuck].patience.as_secs_f64();
        // More threads may be stuck. Each look gives one event, so another look follows.
        let _ = self.to_answers.send(Answer::Watch);
        let why = format!("{what} took longer than {limit} s");
        let event = self.lost(worker, LossCause::Hung, &why, why.clone());
        // A thread whose sessions are in a process comes back, because the process has limits of its own.
        if !self.setting.isolated
            && self.workers.iter_mut().all(|worker| worker.handle.is_none() && worker.is_leaving())
        {
            self.broken = Some(LiveError::NoWorker);
        }
        Some(event)
    }
}
