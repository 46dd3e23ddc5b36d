//! Background requests: work that nobody waits for, such as audits of hits. They wait apart from the backlog, start only
//! while nothing else waits, on the best model that may serve them, and are called off as soon as something waits that their
//! worker could serve. Neither the monitor nor the queue discipline hears of them (docs/semantics.md, section 9).

use alloc::vec::Vec;

use smallvec::smallvec;

use super::action::Action;
use super::event::WorkerId;
use super::{Phase, Scheduler};
use crate::request::RequestId;
use crate::time::Time;

impl Scheduler {
    /// Starts what may start, or calls off what is in the way. Comes after all other starts.
    pub(super) fn dispatch_background(&mut self, now: Time, actions: &mut Vec<Action>) {
        if self.background.is_empty() {
            return;
        }
        if self.backlog.is_empty() {
            while let Some((request, worker)) = self.next_background() {
                let requests = smallvec![request];
                let (job, model) = self.occupy(worker, &requests);
                self.begin(now, worker, job, model, requests, actions);
            }
            return;
        }
        for request in self.in_the_way() {
            // It is cancelled and not tried again: under load it would begin over and over and come to nothing.
            self.cancel(request, actions);
        }
    }

    /// The background request that was routed first of those that a worker is ready for, and the worker.
    fn next_background(&self) -> Option<(RequestId, WorkerId)> {
        let waiting = self.background.iter().filter_map(|request| {
            let pending = self.requests.get(request.0)?;
            let worker = self.best_worker(pending.decision.as_ref().filter(|_| pending.phase == Phase::Waiting)?)?;
            Some((pending.order, *request, worker))
        });
        waiting.min().map(|(_, request, worker)| (request, worker))
    }

    /// The lowest ready worker with the best model that may serve this.
    fn best_worker(&self, decision: &super::Decision) -> Option<WorkerId> {
        let model = self.config.serving.of(decision).iter().next()?;
        (0..self.workers.types()).filter_map(|gpu| self.workers.ready(gpu, model)).min()
    }

    /// Background requests that run where something that waits could be served.
    fn in_the_way(&self) -> Vec<RequestId> {
        let runs = |request: &RequestId| match self.requests.get(request.0)?.phase {
            Phase::Running(worker, _) => Some((*request, worker)),
            Phase::Encoding | Phase::Waiting => None,
        };
        let running = self.background.iter().filter_map(runs);
        running.filter(|(_, worker)| self.is_waited_for(*worker)).map(|(request, _)| request).collect()
    }

    /// Whether anything waits that the model which a worker is to hold may serve.
    fn is_waited_for(&self, worker: WorkerId) -> bool {
        let Some(model) = self.workers.get(worker).map(|state| state.target) else { return false };
        let place = self.config.hardware.gpu(worker).index() * self.config.serving.models() + model.index();
        self.backlog.classes().iter().any(|class| class.times[place].is_some() && class.len() > 0)
    }

    /// Accepts no more requests. Nobody waits for background requests: they end at once.
    pub(super) fn drain(&mut self, actions: &mut Vec<Action>) {
        self.draining = true;
        for request in self.background.clone() {
            self.cancel(request, actions);
        }
    }
}
