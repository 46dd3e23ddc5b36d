//! Admission at arrival: whether a request would be in time behind what goes before it. Expectations alone, as in
//! `allocation::outlook`; what is late already goes behind everything and is in nobody's way.

use alloc::vec::Vec;
use core::ops::ControlFlow;

use super::Scheduler;
use super::action::{Action, Stage};
use super::allocation::{Outlook, Task};
use super::queue::Waits;
use super::situation::situation;
use crate::request::{Outcome, RequestId};
use crate::time::Time;

impl Scheduler {
    /// Rejects a request that has just been put at its place if it cannot be in time there.
    pub(super) fn admit(&mut self, now: Time, request: RequestId, actions: &mut Vec<Action>) {
        let Some(pending) = self.requests.get(request).filter(|pending| pending.stage == Stage::Waiting) else {
            return;
        };
        if pending.background {
            return;
        }
        let waits = self.queue.current(request, pending);
        let own = (usize::from(pending.class), waits);
        let before = self.before(own);
        if self.would_be_in_time(now, own, &before) {
            return;
        }
        self.queue.remove(request, pending);
        let reason = format!("cannot be in time behind {} others", before.len());
        self.finish(request, Outcome::Rejected(reason), actions);
    }

    /// What goes before it of what can be in time, in order, each with its class.
    fn before(&self, own: (usize, Waits)) -> Vec<(usize, Waits)> {
        let classes = self.queue.classes();
        let rank = |(class, waits): &(usize, Waits)| waits.rank(self.queue.is_behind(&classes[*class]));
        let waiting =
            classes.iter().enumerate().flat_map(|(at, class)| class.line(true).iter().map(move |waits| (at, *waits)));
        let mut before: Vec<(usize, Waits)> = waiting.filter(|waits| rank(waits) < rank(&own)).collect();
        before.sort_unstable_by_key(rank);
        before
    }

    fn would_be_in_time(&self, now: Time, own: (usize, Waits), before: &[(usize, Waits)]) -> bool {
        let hardware = &self.config.hardware;
        let situation = situation(now, &self.cluster, &self.queue, hardware, 0);
        let task = |&(class, waits): &(usize, Waits)| Task { ready: now, due: waits.due, class };
        let tasks: Vec<Task> = before.iter().chain([&own]).map(task).collect();
        let models = self.config.serving.models();
        let mut outlook = Outlook::new(hardware, models, &situation.classes, &tasks, self.config.batching.most);
        let mut last = false;
        outlook.play(&situation.seats, |model| {
            last = model.is_some();
            ControlFlow::Continue(())
        });
        last
    }
}
