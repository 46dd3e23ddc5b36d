//! Who gets which worker: loads first, then requests in the order of the discipline, each on the worker that suits it
//! best of those that are ready (docs/semantics.md, sections 4 and 9). Runs once after every event.

use alloc::vec::Vec;

use smallvec::SmallVec;

use super::action::{Action, Decision, DecisionKind, Note, Part};
use super::allocation::LargeTakesHits;
use super::backlog::{Class, Late, Order, QueueSettings, Waits};
use super::event::{JobId, WorkerId};
use super::routing::Storage;
use super::worker::Activity;
use super::{Phase, Scheduler};
use crate::model::{ModelId, ModelSet, Work};
use crate::request::{Outcome, RequestId};
use crate::time::{Duration, Time};

/// Of the starts that could be of a late request, one in so many is.
const LATE_SHARE: u32 = 30;

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
        let switched = self.workers.switched().into_iter();
        actions.extend(switched.map(|(worker, model)| Action::Note(Note::Switched { worker, model })));
        while let Some(worker) = self.workers.due_to_load() {
            let model = self.workers.begin_load(worker, now);
            actions.extend(model.map(|model| Action::Load { worker, model }));
        }
        for request in self.backlog.take_late(now) {
            self.be_late(request, actions);
        }
        while let Some(start) = self.next_start(now) {
            let requests = self.form(start.class, start.in_time, start.worker);
            self.start(now, start, requests, actions);
        }
        self.dispatch_background(now, actions);
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
        let best = late == Late::Best && self.backlog.hits_are_few() && self.storage == Storage::ByImage;
        if best && ease(decision, least_skipped) {
            actions.push(Action::Note(Note::Eased { request, skipped_steps: least_skipped }));
        }
        pending.waits = pending.waits.map(|waits| self.backlog.put_behind(&waits, decision));
    }

    /// The next start, if a worker is ready for anything that waits.
    fn next_start(&mut self, now: Time) -> Option<Start> {
        if self.backlog.is_empty() || !self.workers.any_ready() {
            return None;
        }
        let in_time = self.first_start(now, true);
        let late = if self.backlog.any_late() { self.first_start(now, false) } else { None };
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
    fn first_start(&self, now: Time, in_time: bool) -> Option<Start> {
        let mut first: Option<Start> = None;
        for (index, class) in self.backlog.classes().iter().enumerate() {
            let Some(&Waits { place, .. }) = class.first(in_time) else { continue };
            let behind_misses = self.order() == Order::MissesFirst && class.kind != DecisionKind::Miss;
            let rank = (place.priority, behind_misses, place.key, place.order);
            // To look for a worker takes longest: only for what would go before the others.
            if first.is_some_and(|first| first.rank < rank) {
                continue;
            }
            let Some(worker) = self.worker_for(now, class, in_time) else { continue };
            if !(in_time && self.ripens(class, worker).is_some()) {
                first = Some(Start { class: index, in_time, worker, rank });
            }
        }
        first
    }

    const fn order(&self) -> Order {
        self.backlog.settings().order
    }

    /// The ready worker that suits a class best: of the models asked first, if one of theirs is ready.
    pub(super) fn worker_for(&self, now: Time, class: &Class, in_time: bool) -> Option<WorkerId> {
        if !in_time && self.makes_the_best_of_it() && self.workers.any_target(class.best) {
            return self.soonest(class.best, class);
        }
        let may = |models: &&ModelSet| {
            let serve_misses = !models.and(self.config.serving.of_misses()).is_empty();
            class.kind == DecisionKind::Miss || !serve_misses || self.large_may_take(class, in_time)
        };
        let mut choices = class.choices.iter().filter(may);
        match class.falls_back().filter(|_| in_time && self.may_wait(class)) {
            None => choices.find_map(|models| self.soonest(*models, class)),
            Some(time) => choices.rev().find_map(|models| {
                let small = models.and(self.config.serving.of_misses()).is_empty();
                self.soonest(*models, class).filter(|_| !small || time <= now)
            }),
        }
    }

    /// Whether any worker has what these hits wait for as its target.
    fn may_wait(&self, hits: &Class) -> bool {
        let of_misses = self.config.serving.of_misses();
        self.backlog.is_overrun() && hits.choices.iter().any(|models| self.workers.any_target(models.and(of_misses)))
    }

    /// When a hit that waits for a large model falls back on a small one that is ready for it.
    pub(super) fn next_fall_back(&self) -> Option<Time> {
        let never = self.backlog.settings().fall_back.is_none();
        if never || self.backlog.is_empty() || !self.workers.any_ready() {
            return None;
        }
        let held = self.backlog.classes().iter().filter_map(|class| {
            let time = class.falls_back().filter(|_| self.may_wait(class))?;
            let of_misses = self.config.serving.of_misses();
            let small = class.choices.iter().map(|models| models.without(of_misses));
            small.filter(|models| !models.is_empty()).find_map(|models| self.soonest(models, class)).map(|_| time)
        });
        // One that has come is of a job that waits for company.
        held.filter(|time| *time > self.now).min()
    }

    /// Whether what is late waits for the best model.
    fn makes_the_best_of_it(&self) -> bool {
        self.backlog.settings().late == Late::Best && self.backlog.hits_are_few()
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
        let (count, by_time) = (self.config.serving.models(), self.order() != Order::MissesFirst);
        let mut soonest: Option<(Duration, WorkerId)> = None;
        for gpu in 0..self.workers.types() {
            for model in models.iter() {
                let Some(worker) = self.workers.ready(gpu, model) else { continue };
                let Some(time) = class.times[gpu * count + model.index()] else { continue };
                let found = (if by_time { time } else { Duration::ZERO }, worker);
                soonest = Some(soonest.map_or(found, |other| other.min(found)));
            }
        }
        soonest.map(|(_, worker)| worker)
    }

    /// Starts a job.
    fn start(&mut self, now: Time, start: Start, requests: SmallVec<[RequestId; 2]>, actions: &mut Vec<Action>) {
        let (job, model) = self.occupy(start.worker, &requests);
        if start.in_time
            && self.backlog.settings().ease
            && let [request] = requests.as_slice()
        {
            self.ease(now, start, model, *request, actions);
        }
        self.begin(now, start.worker, job, model, requests, actions);
    }

    /// Gives a ready worker its next job. Returns the job and the model that the worker holds.
    pub(super) fn occupy(&mut self, worker: WorkerId, requests: &[RequestId]) -> (JobId, ModelId) {
        let job = JobId(self.jobs);
        self.jobs += 1;
        let model = self.workers.update(worker, |state| {
            state.activity = Activity::Running { job, requests: SmallVec::from_slice(requests) };
            state.target
        });
        (job, model.expect("a ready worker exists"))
    }

    /// Begins a job of requests that have been decided for.
    pub(super) fn begin(
        &mut self,
        now: Time,
        worker: WorkerId,
        job: JobId,
        model: ModelId,
        requests: SmallVec<[RequestId; 2]>,
        actions: &mut Vec<Action>,
    ) {
        let (mut parts, mut skipped_steps) = (SmallVec::new(), 0);
        for request in requests {
            let pending = self.requests.get_mut(request.0).expect("what waits has not ended");
            pending.phase = Phase::Running(worker, job);
            let decision = pending.decision.expect("what waits was routed");
            skipped_steps = decision.skipped_steps;
            parts.push(Part { request, source: decision.source });
        }
        let work = Work { model, total_steps: self.config.total_steps, skipped_steps };
        let expected = self.expected(worker, work, parts.len());
        self.workers.expect(worker, now + expected);
        actions.push(Action::Start { job, worker, work, parts });
    }

    /// With a worker to spare, a hit skips the fewest steps with which it is in time.
    fn ease(&mut self, now: Time, start: Start, model: ModelId, request: RequestId, actions: &mut Vec<Action>) {
        let least_skipped = self.backlog.settings().least_skipped;
        let class = &self.backlog.classes()[start.class];
        let spare = class.choices.iter().any(|models| self.soonest(*models, class).is_some());
        if !spare || self.storage != Storage::ByImage || !self.config.serving.of_hits(least_skipped).contains(model) {
            return;
        }
        let work = Work { model, total_steps: self.config.total_steps, skipped_steps: least_skipped };
        let time = self.expected(start.worker, work, 1);
        let pending = self.requests.get_mut(request.0).expect("what waits has not ended");
        let due = pending.waits.expect("what waits has a place").due;
        let decision = pending.decision.as_mut().expect("what waits was routed");
        if now + time <= due && ease(decision, least_skipped) {
            actions.push(Action::Note(Note::Eased { request, skipped_steps: least_skipped }));
        }
    }
}

/// Lets a hit skip no more steps than these. Returns whether it was to skip more.
fn ease(decision: &mut Decision, least_skipped: u32) -> bool {
    let more = decision.kind == DecisionKind::Hit && decision.skipped_steps > least_skipped;
    if more {
        decision.skipped_steps = least_skipped;
    }
    more
}
