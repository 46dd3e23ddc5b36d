//! Which requests make a job together: of one class, in order, as many as there may be (docs/semantics.md, section 9). Which class, and on which worker, is the dispatcher's business.

use smallvec::SmallVec;

use super::Scheduler;
use super::event::WorkerId;
use super::queue::{Class, Waits};
use crate::model::{ModelId, Work};
use crate::time::{Duration, Time};

/// How jobs are formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    /// The most requests of a job, where the profile has batches as large.
    pub most: u32,
    /// So long the first request of a job waits for others, unless it would be late for that.
    pub wait: Duration,
    /// Whether a job is kept small enough that none of its requests is late for the company. Good while the queues are
    /// short; under overload the larger jobs serve more requests in time.
    pub by_deadline: bool,
}

impl Batching {
    /// One request a job.
    pub const OFF: Self = Self { most: 1, wait: Duration::ZERO, by_deadline: true };
}

impl Scheduler {
    /// The most requests of a job on a worker.
    fn most(&self, worker: WorkerId, model: ModelId) -> usize {
        let most = self.config.batching.most;
        if most == 1 {
            return 1;
        }
        let measured = self.config.hardware.profile.service(self.config.hardware.gpu(worker), model).most();
        let decided = self.batches.get(model.index()).copied().unwrap_or(most);
        most.min(measured).min(decided).max(1) as usize
    }

    /// When what goes first in a class starts on a worker although others could still join it; `None` for at once.
    pub(super) fn ripens(&self, class: &Class, worker: WorkerId) -> Option<Time> {
        if self.config.batching.most == 1 || self.config.batching.wait == Duration::ZERO {
            return None;
        }
        let (first, waiting) = (class.first(true)?, class.line(true).len());
        let model = self.cluster.get(worker)?.target;
        if waiting >= self.most(worker, model) {
            return None;
        }
        let time = self.expected(worker, class.work(model, self.config.total_steps), waiting);
        let latest = Time::from_nanoseconds(first.due.nanoseconds().saturating_sub(time.nanoseconds()));
        let since = self.requests.get(first.request)?.since;
        Some(latest.min(since + self.config.batching.wait)).filter(|time| *time > self.now)
    }

    /// When a job that waits for company, with a worker ready for it, starts without more of it.
    pub(super) fn next_ripe(&self) -> Option<Time> {
        if self.cluster.ready_pools().is_empty() {
            return None;
        }
        let classes = self.queue.classes().iter().filter(|class| class.first(true).is_some());
        classes.filter_map(|class| self.ripens(class, self.worker_for(self.now, class, true)?)).min()
    }

    /// Takes the requests of a job out of what waits.
    pub(super) fn form(&mut self, class: usize, in_time: bool, worker: WorkerId) -> SmallVec<[Waits; 4]> {
        let mut formed = SmallVec::new();
        let Some(model) = self.cluster.get(worker).map(|worker| worker.target) else { return formed };
        let most = self.most(worker, model);
        let work = self.queue.classes()[class].work(model, self.config.total_steps);
        let alone = self.now + self.expected(worker, work, 1);
        let mut tightest = Time::MAX;
        while formed.len() < most {
            let Some(first) = self.queue.classes()[class].first(in_time) else { break };
            // One that is late by itself loses nothing.
            let due = if alone <= first.due { first.due } else { Time::MAX };
            let together = self.now + self.expected(worker, work, formed.len() + 1);
            if in_time && self.config.batching.by_deadline && !formed.is_empty() && together > tightest.min(due) {
                break;
            }
            tightest = tightest.min(due);
            formed.extend(self.queue.take_first(class, in_time));
        }
        formed
    }

    /// Expected time of a job of so many requests.
    pub(super) fn expected(&self, worker: WorkerId, work: Work, requests: usize) -> Duration {
        self.config.hardware.batch(self.config.hardware.gpu(worker), work, requests)
    }
}
