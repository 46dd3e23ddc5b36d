//! Who gets which worker: loads first, then requests in the order of the discipline, each on the worker that suits it
//! best of those that are ready (docs/semantics.md, sections 4 and 9). Runs once after every event.

use smallvec::SmallVec;

use super::action::{Action, DecisionKind, Note, Part};
use super::allocation::LargeTakesHits;
use super::backlog::{Class, Late, Order, QueueSettings};
use super::event::{JobId, WorkerId};
use super::worker::Activity;
use super::{Phase, Scheduler};
use crate::model::{ModelSet, Work};
use crate::request::{Outcome, RequestId};
use crate::time::{Duration, Time};

/// Of the starts that could be of a late request, one in so many is.
const LATE_SHARE: u32 = 10;

/// A start that could be next: what waits first in a class, and the worker for it.
#[derive(Clone, Copy, Debug)]
struct Start {
    class: usize,
    in_time: bool,
    worker: WorkerId,
    /// The least one is next.
    rank: (u32, bool, u64, u32),
}

impl Scheduler {
    pub(super) fn dispatch(&mut self, now: Time, actions: &mut Vec<Action>) {
        while let Some(worker) = self.workers.due_to_load() {
            let hardware = &self.config.hardware;
            let model = self.workers.update(worker, |state| {
                state.activity = Activity::Loading;
                state.loading = Some(state.target);
                state.until = now + hardware.load(worker, state.target);
                state.target
            });
            actions.extend(model.map(|model| Action::Load { worker, model }));
        }
        for request in self.backlog.take_late(now) {
            self.be_late(request, actions);
        }
        while let Some(start) = self.next_start() {
            let request = self.backlog.take_first(start.class, start.in_time);
            self.start(now, start, request, actions);
        }
    }

    /// A request that waits can no longer be in time.
    fn be_late(&mut self, request: RequestId, actions: &mut Vec<Action>) {
        let QueueSettings { late, least_skipped, .. } = *self.backlog.settings();
        if late == Late::Reject {
            self.finish(request, Outcome::Rejected("cannot be in time any more".into()), actions);
            return;
        }
        let pending = self.requests.get_mut(request.0).expect("what waits has not ended");
        let decision = pending.decision.as_mut().expect("what waits was routed");
        if late == Late::Best && decision.kind == DecisionKind::Hit && decision.skipped_steps > least_skipped {
            decision.skipped_steps = least_skipped;
            actions.push(Action::Note(Note::Eased { request, skipped_steps: least_skipped }));
        }
        pending.waits = pending.waits.map(|waits| self.backlog.put_behind(&waits, decision));
    }

    /// The next start, if a worker is ready for anything that waits.
    fn next_start(&mut self) -> Option<Start> {
        if self.backlog.is_empty() || !self.workers.any_ready() {
            return None;
        }
        let in_time = self.first_start(true);
        // Without late requests set apart, all are in time as far as the lines go.
        let late = self.first_start(false);
        match (in_time, late) {
            (Some(_), Some(late)) if self.passed_by + 1 >= LATE_SHARE => {
                self.passed_by = 0;
                Some(late)
            }
            (Some(in_time), late) => {
                self.passed_by += u32::from(late.is_some());
                Some(in_time)
            }
            (None, Some(late)) => {
                self.passed_by = 0;
                Some(late)
            }
            (None, None) => None,
        }
    }

    /// What goes first of what can be in time, or of the rest, among what a worker is ready for.
    fn first_start(&self, in_time: bool) -> Option<Start> {
        let candidates = self.backlog.classes().iter().enumerate().filter_map(|(index, class)| {
            let place = class.first(in_time)?;
            let worker = self.worker_for(class, in_time)?;
            let behind_misses = self.order() == Order::MissesFirst && class.kind != DecisionKind::Miss;
            let rank = (place.priority, behind_misses, place.key, place.order);
            Some(Start { class: index, in_time, worker, rank })
        });
        candidates.min_by_key(|start| start.rank)
    }

    const fn order(&self) -> Order {
        self.backlog.settings().order
    }

    /// The ready worker that suits a class best: of the models asked first, if one of theirs is ready.
    fn worker_for(&self, class: &Class, in_time: bool) -> Option<WorkerId> {
        if !in_time && self.backlog.settings().late == Late::Best && self.workers.any_target(class.best) {
            return self.soonest(class.best, class);
        }
        let may = |models: &&ModelSet| {
            let serve_misses = !models.and(self.config.serving.of_misses()).is_empty();
            class.kind == DecisionKind::Miss || !serve_misses || self.large_may_take(class, in_time)
        };
        class.choices.iter().filter(may).find_map(|models| self.soonest(*models, class))
    }

    /// Whether workers whose model serves misses may take these hits.
    fn large_may_take(&self, hits: &Class, in_time: bool) -> bool {
        let of_misses = self.config.serving.of_misses();
        let allowed = match self.large_takes_hits {
            LargeTakesHits::WithoutMisses => true,
            LargeTakesHits::WithoutSmall => {
                !hits.choices.iter().any(|models| self.workers.any_target(models.without(of_misses)))
            }
        };
        allowed && (self.order() != Order::MissesFirst || !self.backlog.a_miss_waits(in_time))
    }

    /// Of the ready workers with one of these models, the one that is expected to be done first, then the lowest; by
    /// the paper's rule simply the lowest.
    fn soonest(&self, models: ModelSet, class: &Class) -> Option<WorkerId> {
        let count = self.config.serving.models();
        let ready = (0..self.workers.types()).flat_map(|gpu| models.iter().map(move |model| (gpu, model)));
        let ready = ready.filter_map(|(gpu, model)| {
            let worker = self.workers.ready(gpu, model)?;
            let time = class.times[gpu * count + model.index()]?;
            let time = if self.order() == Order::MissesFirst { Duration::ZERO } else { time };
            Some((time, worker))
        });
        ready.min().map(|(_, worker)| worker)
    }

    /// Starts a job of one request. (A job is a list; forming larger ones is batching's business.)
    fn start(&mut self, now: Time, start: Start, request: Option<RequestId>, actions: &mut Vec<Action>) {
        let request = request.expect("a start is of what waits");
        let worker = start.worker;
        let gpu = self.config.hardware.gpus[worker.index()].index();
        let times = &self.backlog.classes()[start.class].times;
        let models = self.config.serving.models();
        let job = JobId(self.jobs);
        self.jobs += 1;
        let model = self
            .workers
            .update(worker, |state| {
                state.activity = Activity::Running { job, requests: SmallVec::from_slice(&[request]) };
                let expected = times[gpu * models + state.target.index()];
                state.until = now + expected.unwrap_or_default();
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
