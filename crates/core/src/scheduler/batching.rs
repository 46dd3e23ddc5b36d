//! Choice of the requests of a job: they are of one class, in its order, and as many as the job may have
//! (docs/semantics.md, section 9). The dispatcher chooses the class and the worker.

use smallvec::SmallVec;

use super::Scheduler;
use super::event::WorkerId;
use super::queue::{Class, WaitingRequest};
use crate::model::{ModelId, Work};
use crate::time::{Duration, Time};

/// Settings for jobs of several requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    /// Largest number of requests of a job. The profile may allow fewer.
    pub most: u32,
    /// Longest time that the first request of a job waits for others. It waits less if it would be late otherwise.
    pub wait: Duration,
    /// True if a job is kept so small that none of its requests is late because of the others. That is better while the
    /// queues are short. Under overload, larger jobs serve more requests in time.
    pub by_deadline: bool,
}

impl Batching {
    /// Settings for jobs of one request each.
    pub const OFF: Self = Self { most: 1, wait: Duration::ZERO, by_deadline: true };
}

impl Scheduler {
    /// Returns the largest number of requests of a job with a model on a worker.
    fn most(&self, worker: WorkerId, model: ModelId) -> usize {
        let most = self.config.batching.most;
        if most == 1 {
            return 1;
        }
        let measured = self.config.hardware.profile.service(self.config.hardware.gpu(worker), model).most();
        let decided = self.batches.get(model.index()).copied().unwrap_or(most);
        most.min(measured).min(decided).max(1) as usize
    }

    /// Returns the time at which the first request of a class starts on a worker although others could still join its
    /// job; `None` if the job starts at once.
    pub(super) fn ripens(&self, class: &Class, worker: WorkerId) -> Option<Time> {
        if self.config.batching.most == 1 || self.config.batching.wait == Duration::ZERO {
            return None;
        }
        let (first, waiting) = (class.first(true)?, class.line(true).len());
        let model = self.cluster.get(worker)?.target;
        if waiting >= self.most(worker, model) {
            return None;
        }
        // The time is that of a job of the requests that wait now: that is the job that starts if nobody joins.
        let time = self.expected(worker, class.work(model, &self.config.denoising), waiting);
        let latest = Time::from_nanoseconds(first.due.nanoseconds().saturating_sub(time.nanoseconds()));
        let since = self.requests.get(first.request)?.since;
        // A time that is past, such as that of a deadline that cannot be met any more, means that the job starts at
        // once.
        Some(latest.min(since + self.config.batching.wait)).filter(|time| *time > self.now)
    }

    /// Returns the next time at which a job that waits for more requests, with a worker ready, starts without them.
    pub(super) fn next_ripe(&self) -> Option<Time> {
        if self.cluster.ready_pools().is_empty() {
            return None;
        }
        let classes = self.queue.classes().iter().filter(|class| class.first(true).is_some());
        classes.filter_map(|class| self.ripens(class, self.worker_for(self.now, class, true)?)).min()
    }

    /// Takes the requests of a job from a line of a class.
    pub(super) fn form(&mut self, class: usize, in_time: bool, worker: WorkerId) -> SmallVec<[WaitingRequest; 4]> {
        let mut formed = SmallVec::new();
        let Some(model) = self.cluster.get(worker).map(|worker| worker.target) else { return formed };
        let most = self.most(worker, model);
        let work = self.queue.classes()[class].work(model, &self.config.denoising);
        let alone = self.now + self.expected(worker, work, 1);
        let (mut tightest, mut weights) = (Time::MAX, None);
        while formed.len() < most {
            // The request stays in its line until it is known to fit the job.
            let Some(first) = self.queue.classes()[class].first(in_time) else { break };
            // A worker has one checkpoint and one set of LoRAs at a time.
            let needs = self.weights(first.request);
            if *weights.get_or_insert(needs) != needs {
                break;
            }
            // A request that would be late in a job of its own too loses nothing, so it sets no limit.
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

    /// Returns the expected time of a job of `requests` requests.
    pub(super) fn expected(&self, worker: WorkerId, work: Work, requests: usize) -> Duration {
        self.config.hardware.batch(self.config.hardware.gpu(worker), work, requests)
    }
}
