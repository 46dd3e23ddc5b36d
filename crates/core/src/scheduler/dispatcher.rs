//! Who gets which worker: loads first, then requests in the order of the discipline, each on the worker that suits it
//! best of those that are ready (docs/semantics.md, sections 4 and 9). Runs once after every event.

use alloc::vec::Vec;

use smallvec::SmallVec;

use super::Scheduler;
use super::action::{Action, Decision, DecisionKind, Note, Part};
use super::allocation::LargeTakesHits;
use super::event::{JobId, WorkerId};
use super::queue::{Choice, Class, Late, QueueSettings, Waits};
use crate::model::Work;
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
        for (worker, model) in self.cluster.switched() {
            actions.push(Action::Note(Note::Switched { worker, model }));
        }
        while let Some(worker) = self.cluster.due_to_load() {
            let model = self.cluster.begin_load(worker, now);
            actions.extend(model.map(|model| Action::Load { worker, model }));
        }
        if self.queue.parts_late(now) {
            for request in self.queue.take_late(now) {
                self.be_late(request, actions);
            }
        }
        while let Some(start) = self.next_start(now) {
            if self.config.batching.most == 1 {
                let first = self.queue.take_first(start.class, start.in_time);
                self.start(now, start, first.as_slice(), actions);
            } else {
                let formed = self.form(start.class, start.in_time, start.worker);
                self.start(now, start, &formed, actions);
            }
        }
        if !self.background.is_empty() {
            self.dispatch_background(now, actions);
        }
    }

    /// A request that waits can no longer be in time.
    fn be_late(&mut self, request: RequestId, actions: &mut Vec<Action>) {
        let QueueSettings { late, least_skipped, .. } = *self.queue.settings();
        let Self { requests, queue, library, .. } = self;
        let pending = requests.get_mut(request).expect("what waits has not ended");
        queue.leaves_late(request, pending);
        if late == Late::Reject {
            self.finish(request, Outcome::Rejected("cannot be in time any more".into()), actions);
            return;
        }
        let best = late == Late::Best && queue.hits_are_few() && library.is_by_image();
        let decision = pending.decision.as_mut().expect("what waits was routed");
        if best && ease(decision, least_skipped) {
            actions.push(Action::Note(Note::Eased { request, skipped_steps: least_skipped }));
        }
        let decision = *decision;
        queue.put_behind(request, pending, &decision);
    }

    /// The next start, if a worker is ready for anything that waits.
    fn next_start(&mut self, now: Time) -> Option<Start> {
        if self.queue.is_empty() || self.cluster.ready_pools().is_empty() {
            return None;
        }
        let in_time = self.first_start(now, true);
        let late = if self.queue.any_late() { self.first_start(now, false) } else { None };
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
        let ready = self.cluster.ready_pools();
        let mut first: Option<Start> = None;
        for (index, class) in self.queue.classes().iter().enumerate() {
            if !class.pools.meets(ready) {
                continue;
            }
            let Some(waits) = class.first(in_time) else { continue };
            let rank = waits.rank(self.queue.is_behind(class));
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

    /// The ready worker that suits a class best: of the models asked first, if one of theirs is ready.
    pub(super) fn worker_for(&self, now: Time, class: &Class, in_time: bool) -> Option<WorkerId> {
        if !in_time && self.makes_the_best_of_it() && self.cluster.any_target(class.best.models) {
            return self.soonest(&class.best);
        }
        let may = |choice: &&Choice| {
            class.kind == DecisionKind::Miss || !choice.serves_misses || self.large_may_take(class, in_time)
        };
        let mut choices = class.choices.iter().filter(may);
        match class.falls_back().filter(|_| in_time && self.may_wait(class)) {
            None => choices.find_map(|choice| self.soonest(choice)),
            Some(time) => {
                choices.rev().find_map(|choice| self.soonest(choice).filter(|_| choice.serves_misses || time <= now))
            }
        }
    }

    /// Whether any worker has what these hits wait for as its target.
    fn may_wait(&self, hits: &Class) -> bool {
        let any_target = |choice: &Choice| choice.serves_misses && self.any_large_target(choice);
        self.queue.is_overrun() && hits.choices.iter().any(any_target)
    }

    /// Whether any worker has one of a choice's models that serve misses as its target.
    fn any_large_target(&self, choice: &Choice) -> bool {
        self.cluster.any_target(choice.models.and(self.config.serving.of_misses()))
    }

    /// When a hit that waits for a large model falls back on a small one that is ready for it.
    pub(super) fn next_fall_back(&self) -> Option<Time> {
        if self.queue.is_empty() || self.cluster.ready_pools().is_empty() {
            return None;
        }
        let held = self.queue.classes().iter().filter_map(|class| {
            let time = class.falls_back().filter(|_| self.may_wait(class))?;
            let mut small = class.choices.iter().filter(|choice| !choice.serves_misses);
            small.find_map(|choice| self.soonest(choice)).map(|_| time)
        });
        // One that has come is of a job that waits for company.
        held.filter(|time| *time > self.now).min()
    }

    /// Whether what is late waits for the best model.
    fn makes_the_best_of_it(&self) -> bool {
        self.queue.settings().late == Late::Best && self.queue.hits_are_few()
    }

    /// Whether workers whose model serves misses may take these hits.
    fn large_may_take(&self, hits: &Class, in_time: bool) -> bool {
        let allowed = match self.large_takes_hits {
            LargeTakesHits::WithoutMisses => true,
            LargeTakesHits::WithoutSmall => {
                let of_misses = self.config.serving.of_misses();
                !hits.choices.iter().any(|choice| self.cluster.any_target(choice.models.without(of_misses)))
            }
        };
        allowed && !(self.queue.misses_first() && self.queue.a_miss_waits(in_time))
    }

    /// Of the ready workers with one of these models, the one that is expected to be done first, then the lowest; by
    /// the paper's rule simply the lowest.
    fn soonest(&self, choice: &Choice) -> Option<WorkerId> {
        if !choice.set.meets(self.cluster.ready_pools()) {
            return None;
        }
        let mut soonest: Option<(Duration, WorkerId)> = None;
        for &(time, pool) in &choice.pools {
            if soonest.is_some_and(|(before, _)| before < time) {
                break;
            }
            if let Some(worker) = self.cluster.ready(pool) {
                soonest = Some(soonest.map_or((time, worker), |other| other.min((time, worker))));
            }
        }
        soonest.map(|(_, worker)| worker)
    }

    /// Starts a job.
    fn start(&mut self, now: Time, start: Start, waits: &[Waits], actions: &mut Vec<Action>) {
        if start.in_time
            && self.queue.settings().ease
            && let [first] = waits
        {
            self.ease(now, start, first.request, actions);
        }
        let mut requests = SmallVec::new();
        for waits in waits {
            requests.push(waits.request);
        }
        self.begin(now, start.worker, requests, if start.in_time { waits } else { &[] }, actions);
    }

    /// Begins a job of requests that have been decided for, on a worker that is ready; those that were taken out of the queue
    /// in time with where they stood.
    pub(super) fn begin(
        &mut self,
        now: Time,
        worker: WorkerId,
        requests: SmallVec<[RequestId; 2]>,
        in_time: &[Waits],
        actions: &mut Vec<Action>,
    ) {
        let job = JobId(self.jobs);
        self.jobs += 1;
        let model = self.cluster.get(worker).expect("a ready worker exists").target;
        let (mut parts, mut skipped_steps) = (SmallVec::new(), 0);
        for (at, &request) in requests.iter().enumerate() {
            let pending = self.requests.get_mut(request).expect("what waits has not ended");
            if let Some(waits) = in_time.get(at) {
                self.queue.started(waits, pending);
            }
            pending.start(now, worker, model, requests.len());
            let decision = pending.decision.expect("what waits was routed");
            skipped_steps = decision.skipped_steps;
            parts.push(Part { request, source: decision.source });
        }
        let work = Work { model, total_steps: self.config.total_steps, skipped_steps };
        self.cluster.begin(worker, now, work, job, requests);
        actions.push(Action::Start { job, worker, work, parts });
    }

    /// With a worker to spare, a hit skips the fewest steps with which it is in time.
    fn ease(&mut self, now: Time, start: Start, request: RequestId, actions: &mut Vec<Action>) {
        let least_skipped = self.queue.settings().least_skipped;
        let model = self.cluster.get(start.worker).expect("a ready worker exists").target;
        let class = &self.queue.classes()[start.class];
        if !self.library.is_by_image()
            || !self.config.serving.of_hits(least_skipped).contains(model)
            || !self.any_other_ready(class, start.worker)
        {
            return;
        }
        let work = Work { model, total_steps: self.config.total_steps, skipped_steps: least_skipped };
        let time = self.expected(start.worker, work, 1);
        let pending = self.requests.get_mut(request).expect("what waits has not ended");
        let decision = pending.decision.as_mut().expect("what waits was routed");
        if now + time <= pending.due && ease(decision, least_skipped) {
            actions.push(Action::Note(Note::Eased { request, skipped_steps: least_skipped }));
        }
    }

    /// Whether a worker besides this one is ready for a class.
    fn any_other_ready(&self, class: &Class, worker: WorkerId) -> bool {
        let pools = class.choices.iter().flat_map(|choice| &choice.pools);
        pools.map(|(_, pool)| *pool).any(|pool| self.cluster.any_ready_but(pool, worker))
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
