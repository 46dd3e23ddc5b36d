//! Admission of requests: right after its routing, a request is rejected if it cannot be in time behind the requests
//! that go first. All times are expected ones, as in `allocation::outlook`. Late requests go behind all others and
//! delay none.

use alloc::vec::Vec;
use core::ops::ControlFlow;

use smallvec::SmallVec;

use super::Scheduler;
use super::action::{Action, Stage};
use super::allocation::{Outlook, Task};
use super::queue::WaitingRequest;
use super::situation::situation;
use crate::request::{Outcome, Rejection, RequestId};
use crate::time::Time;

impl Scheduler {
    /// Rejects a request that has just been put at its place in the queue if it cannot be in time there.
    pub(super) fn admit(&mut self, now: Time, request: RequestId, actions: &mut Vec<Action>) {
        let Some(pending) = self.requests.get(request).filter(|pending| pending.stage == Stage::Waiting) else {
            return;
        };
        if pending.background {
            return;
        }
        let own = (usize::from(pending.class), self.queue.current(request, pending));
        let Some(others) = self.late_behind(now, own) else { return };
        self.queue.remove(request, pending);
        self.finish(request, Outcome::Rejected(Rejection::Behind { others }), actions);
    }

    /// Returns the number of requests in time that go before a request, if it is late because of them; `None` if it is
    /// in time.
    fn late_behind(&self, now: Time, own: (usize, WaitingRequest)) -> Option<usize> {
        let hardware = &self.config.hardware;
        let situation = situation(now, &self.cluster, &self.queue, hardware, 0);
        let task = |&(class, waits): &(usize, WaitingRequest)| Task { ready: now, due: waits.due, class };
        let outlook = |tasks| {
            let most = self.config.batching.most;
            Outlook::new(hardware, self.config.serving.models(), &situation.classes, tasks, most)
        };
        let mut waiting: SmallVec<[usize; 8]> =
            self.queue.classes().iter().map(|class| class.line(true).len()).collect();
        // The request stands in its line already.
        waiting[own.0] -= 1;
        // The first test can only prove that the request is in time, but it needs no list of the requests before it.
        if outlook(&[]).is_in_time_behind_all(&situation.seats, &task(&own), &waiting) {
            return None;
        }
        let rank =
            |(class, waits): &(usize, WaitingRequest)| self.queue.rank(&self.queue.classes()[*class], waits, true);
        let before = self.queue.in_order(true).take_while(|other| rank(other) < rank(&own));
        let tasks: Vec<Task> = before.chain([own]).map(|waits| task(&waits)).collect();
        let mut is_last_in_time = false;
        // The request comes last, so that the last verdict is its own.
        outlook(&tasks).play(&situation.seats, |model| {
            is_last_in_time = model.is_some();
            ControlFlow::Continue(())
        });
        (!is_last_in_time).then(|| tasks.len() - 1)
    }
}
