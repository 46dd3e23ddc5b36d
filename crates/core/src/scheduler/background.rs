//! Background requests: work that nobody waits for, such as audits of hits. They wait apart from the queue, start only
//! while nothing else waits, on the best model that may serve them, and are called off as soon as something waits that their
//! worker could serve. Neither the monitor nor the queue discipline hears of them (docs/semantics.md, section 9).

use alloc::vec::Vec;

use smallvec::smallvec;

use super::Scheduler;
use super::action::{Action, Decision, Stage};
use super::event::WorkerId;
use crate::request::RequestId;
use crate::time::Time;

impl Scheduler {
    /// Starts what may start, or calls off what is in the way. Comes after all other starts.
    pub(super) fn dispatch_background(&mut self, now: Time, actions: &mut Vec<Action>) {
        if self.queue.is_empty() {
            while let Some((request, worker)) = self.next_background() {
                self.begin(now, worker, smallvec![request], &[], actions);
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
            let pending = self.requests.get(*request)?;
            let worker = self.best_worker(pending.decision.as_ref().filter(|_| pending.stage == Stage::Waiting)?)?;
            Some((pending.order, *request, worker))
        });
        waiting.min().map(|(_, request, worker)| (request, worker))
    }

    /// The lowest ready worker with the best model that may serve this.
    fn best_worker(&self, decision: &Decision) -> Option<WorkerId> {
        let model = self.config.serving.of(decision).iter().next()?;
        self.cluster.ready_with(model)
    }

    /// Background requests that run where something that waits could be served.
    fn in_the_way(&self) -> Vec<RequestId> {
        let runs = |request: &RequestId| Some((*request, self.requests.get(*request)?.runs_on()?));
        let running = self.background.iter().filter_map(runs);
        running.filter(|(_, worker)| self.is_waited_for(*worker)).map(|(request, _)| request).collect()
    }

    /// Whether anything waits that the model which a worker is to hold may serve.
    fn is_waited_for(&self, worker: WorkerId) -> bool {
        let Some(model) = self.cluster.get(worker).map(|state| state.target) else { return false };
        let place = self.cluster.pool(self.config.hardware.gpu(worker), model);
        self.queue.classes().iter().any(|class| class.times[place].is_some() && class.len() > 0)
    }

    /// Accepts no more requests. Nobody waits for background requests: they end at once.
    pub(super) fn drain(&mut self, actions: &mut Vec<Action>) {
        self.draining = true;
        for request in self.background.clone() {
            self.cancel(request, actions);
        }
    }
}
