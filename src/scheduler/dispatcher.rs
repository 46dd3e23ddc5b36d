//! Who gets which worker: loads first, then misses, hits on small models, hits on large ones
//! (docs/semantics.md, section 4). Runs once after every event.

use smallvec::SmallVec;

use super::action::{Action, Part};
use super::allocation::LargeTakesHits;
use super::event::{JobId, WorkerId};
use super::worker::Activity;
use super::{Phase, Scheduler};
use crate::model::Work;
use crate::request::RequestId;

impl Scheduler {
    pub(super) fn dispatch(&mut self, actions: &mut Vec<Action>) {
        while let Some(worker) = self.workers.due_to_load() {
            let model = self.workers.update(worker, |worker| {
                worker.activity = Activity::Loading;
                worker.loading = Some(worker.target);
                worker.target
            });
            actions.extend(model.map(|model| Action::Load { worker, model }));
        }
        while !self.misses.is_empty()
            && let Some(worker) = self.workers.ready_large()
        {
            let request = self.misses.take_first();
            self.start(worker, request, actions);
        }
        while !self.hits.is_empty()
            && let Some(worker) = self.workers.ready_small()
        {
            let request = self.hits.take_first();
            self.start(worker, request, actions);
        }
        while self.large_may_take_hits()
            && let Some(worker) = self.workers.ready_large()
        {
            let request = self.hits.take_first();
            self.start(worker, request, actions);
        }
    }

    fn large_may_take_hits(&self) -> bool {
        let allowed = match self.large_takes_hits {
            LargeTakesHits::WithoutMisses => true,
            LargeTakesHits::WithoutSmall => !self.workers.any_small_target(),
        };
        allowed && self.misses.is_empty() && !self.hits.is_empty()
    }

    /// Starts a job of one request. (A job is a list; forming larger ones is batching's business.)
    fn start(&mut self, worker: WorkerId, request: Option<RequestId>, actions: &mut Vec<Action>) {
        let request = request.expect("the queue was not empty");
        let job = JobId(self.jobs);
        self.jobs += 1;
        let model = self
            .workers
            .update(worker, |state| {
                state.activity = Activity::Running { job, requests: SmallVec::from_slice(&[request]) };
                state.target
            })
            .expect("a ready worker exists");
        let pending = self.requests.get_mut(request.0).expect("what waits has not ended");
        pending.phase = Phase::Running(worker, job);
        let decision = pending.decision.expect("what waits was routed");
        let work = Work { model, total_steps: self.config.total_steps, skipped_steps: decision.skipped_steps };
        let parts = SmallVec::from_slice(&[Part { request, source: decision.source }]);
        actions.push(Action::Start { job, worker, work, parts });
    }
}
