//! Background requests: work that nobody waits for, such as audits of hits. They wait apart from the queue. They start
//! only while the queue is empty, on the best model that may serve them, and are cancelled as soon as a request waits
//! that their worker could serve. Neither the monitor nor the discipline of the queue counts them (docs/semantics.md,
//! section 9).

use alloc::vec::Vec;

use smallvec::smallvec;

use super::Scheduler;
use super::action::{Action, Decision, Stage};
use super::event::WorkerId;
use crate::request::RequestId;
use crate::time::Time;

impl Scheduler {
    /// Starts background requests if the queue is empty, or else cancels those that are in the way. Runs after all
    /// other starts.
    pub(super) fn dispatch_background(&mut self, now: Time, actions: &mut Vec<Action>) {
        if self.queue.is_empty() {
            while let Some((request, worker)) = self.next_background() {
                self.begin(now, worker, smallvec![request], &[], actions);
            }
            return;
        }
        for request in self.in_the_way() {
            // The request is not tried again: under load it would begin again and again and never finish.
            self.cancel(request, actions);
        }
    }

    /// Returns the background request that was routed first among those for which a worker is ready, and the worker.
    fn next_background(&self) -> Option<(RequestId, WorkerId)> {
        let waiting = self.background.iter().filter_map(|request| {
            let pending = self.requests.get(*request)?;
            let worker = self.best_worker(pending.decision.as_ref().filter(|_| pending.stage == Stage::Waiting)?)?;
            Some((pending.order, *request, worker))
        });
        waiting.min().map(|(_, request, worker)| (request, worker))
    }

    /// Returns the lowest ready worker with the best model that may serve a decision.
    fn best_worker(&self, decision: &Decision) -> Option<WorkerId> {
        let model = self.config.serving.models_for(decision).iter().next()?;
        self.cluster.ready_with(model)
    }

    /// Returns the background requests that run on a worker that could serve a waiting request.
    fn in_the_way(&self) -> Vec<RequestId> {
        let runs = |request: &RequestId| Some((*request, self.requests.get(*request)?.runs_on()?));
        let running = self.background.iter().filter_map(runs);
        running.filter(|(_, worker)| self.is_waited_for(*worker)).map(|(request, _)| request).collect()
    }

    /// Returns whether any request waits that the target model of a worker may serve.
    fn is_waited_for(&self, worker: WorkerId) -> bool {
        let Some(model) = self.cluster.get(worker).map(|state| state.target) else { return false };
        let place = self.cluster.pool(self.config.hardware.gpu(worker), model);
        self.queue.classes().iter().any(|class| class.times[place].is_some() && class.len() > 0)
    }

    /// Stops accepting requests. Background requests are cancelled at once, because nobody waits for them.
    pub(super) fn drain(&mut self, actions: &mut Vec<Action>) {
        self.draining = true;
        // Each cancellation takes its request out of the set.
        for request in self.background.clone() {
            self.cancel(request, actions);
        }
    }
}
