//! Admission at arrival: whether a request would be in time behind what goes before it. Expectations alone, as in
//! `allocation::outlook`; what is late already goes behind everything and is in nobody's way.

use alloc::vec::Vec;
use core::ops::ControlFlow;

use super::action::{Action, DecisionKind};
use super::allocation::{Outlook, Task};
use super::backlog::{Order, Waits};
use super::situation::situation;
use super::{Phase, Scheduler};
use crate::request::{Outcome, RequestId};
use crate::time::Time;

impl Scheduler {
    /// Rejects a request that has just been put at its place if it cannot be in time there.
    pub(super) fn admit(&mut self, now: Time, request: RequestId, actions: &mut Vec<Action>) {
        if !self.backlog.settings().admission {
            return;
        }
        let Some(waits) = self.requests.get(request.0).filter(|pending| pending.phase == Phase::Waiting) else {
            return;
        };
        let Some(waits) = waits.waits.map(|waits| self.backlog.current(&waits)) else { return };
        let before = self.before(&waits);
        if self.would_be_in_time(now, &waits, &before) {
            return;
        }
        self.backlog.remove(&waits);
        let reason = format!("cannot be in time behind {} others", before.len());
        self.finish(request, Outcome::Rejected(reason), actions);
    }

    /// What goes before it of what can be in time, in order.
    fn before(&self, own: &Waits) -> Vec<Waits> {
        let misses_first = self.backlog.settings().order == Order::MissesFirst;
        let classes = self.backlog.classes();
        let rank = |waits: &Waits| {
            let behind = misses_first && classes[waits.class].kind != DecisionKind::Miss;
            (waits.place.priority, behind, waits.place.key, waits.place.order)
        };
        let waiting = classes.iter().flat_map(|class| class.line(true).iter());
        let mut before: Vec<Waits> = waiting.filter(|waits| rank(waits) < rank(own)).copied().collect();
        before.sort_unstable_by_key(rank);
        before
    }

    fn would_be_in_time(&self, now: Time, own: &Waits, before: &[Waits]) -> bool {
        let hardware = &self.config.hardware;
        let situation = situation(now, &self.workers, &self.backlog, hardware, 0);
        let task = |waits: &Waits| Task { ready: now, due: waits.due, class: waits.class };
        let tasks: Vec<Task> = before.iter().chain([own]).map(task).collect();
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
