//! Choice of the next job and its worker: loads first, then requests in the order of the discipline, each on the ready
//! worker that suits it best (docs/semantics.md, sections 4 and 9). Here it is decided whether a worker with a large
//! model may take a hit. The dispatcher runs once after every event.

use alloc::vec::Vec;

use smallvec::SmallVec;

use super::Scheduler;
use super::action::{Action, Decision, DecisionKind, Note, Part};
use super::allocation::LargeTakesHits;
use super::cluster::{Suited, Switch};
use super::event::{JobId, WorkerId};
use super::queue::{Choice, Class, Late, QueueSettings, WaitingRequest};
use crate::model::Work;
use crate::request::{Outcome, Rejection, RequestId, Weights};
use crate::time::{Duration, Time};

/// Number of starts at which late requests compete with requests in time, of which the last goes to a late request.
/// Late requests thus do not starve.
const LATE_SHARE: u32 = 30;

/// Possible next start: the first request of a line of a class, and the worker for it.
#[derive(Clone, Copy, Debug)]
struct Start {
    class: usize,
    in_time: bool,
    worker: WorkerId,
    /// Rank of the request. The start with the lowest rank is next.
    rank: (u32, bool, u64, u32),
}

impl Scheduler {
    pub(super) fn dispatch(&mut self, now: Time, actions: &mut Vec<Action>) {
        // Switches are reported before any start: the metrics set a worker that switches to idle.
        for Switch { worker, from, model } in self.cluster.switched() {
            actions.push(Action::Note(Note::Switched { worker, from, model }));
        }
        while let Some(worker) = self.cluster.due_to_load() {
            let load = self.cluster.begin_load(worker, now);
            actions.extend(load.map(|Switch { worker, from, model }| Action::Load { worker, from, model }));
        }
        if let Some(targeted) = self.cluster.retargeted() {
            self.queue.retarget(targeted);
        }
        // Late requests leave their lines before anything starts, so that none of them takes the place of a request in
        // time.
        if self.queue.parts_late(now) {
            for request in self.queue.take_late(now) {
                self.be_late(request, actions);
            }
        }
        while let Some(start) = self.next_start(now) {
            // Nearly all runs have jobs of one request, for which nothing needs to be formed.
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

    /// Handles a waiting request that can no longer be in time: rejects it, or moves it behind the requests in time.
    fn be_late(&mut self, request: RequestId, actions: &mut Vec<Action>) {
        let QueueSettings { late, least_skipped, .. } = *self.queue.settings();
        let Self { requests, queue, library, .. } = self;
        let pending = requests.get_mut(request).expect("what waits has not ended");
        queue.leaves_late(request, pending);
        // `take_late` has taken the request out of its line already.
        if late == Late::Reject {
            self.finish(request, Outcome::Rejected(Rejection::TooLate), actions);
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

    /// Returns the next start; `None` if no worker is ready for any waiting request.
    fn next_start(&mut self, now: Time) -> Option<Start> {
        if self.queue.is_empty() || self.cluster.ready_pools().is_empty() {
            return None;
        }
        let in_time = self.first_start(now, true);
        let late = if self.queue.any_late() { self.first_start(now, false) } else { None };
        match (in_time, late) {
            (Some(_), Some(late)) if self.passed_by + 1 >= LATE_SHARE || self.is_overdue(now, &late) => {
                self.passed_by = 0;
                Some(late)
            }
            (Some(in_time), late) => {
                // A start counts only if a late request could have had a worker instead.
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

    /// Returns whether the first request of a late start is late for so long that it goes before those in time.
    fn is_overdue(&self, now: Time, late: &Start) -> bool {
        let first = self.queue.classes()[late.class].first(false);
        first.zip(self.queue.settings().overdue).is_some_and(|(first, overdue)| first.due + overdue <= now)
    }

    /// Returns the start with the lowest rank among the requests in time, or among the late ones, for which a worker is
    /// ready. Classes whose next job still waits for more requests are left out.
    fn first_start(&self, now: Time, in_time: bool) -> Option<Start> {
        let ready = self.cluster.ready_pools();
        let mut first: Option<Start> = None;
        for (index, class) in self.queue.classes().iter().enumerate() {
            if !class.pools.meets(ready) {
                continue;
            }
            let Some(waits) = class.first(in_time) else { continue };
            let rank = self.queue.rank(class, waits, in_time);
            // The search for a worker takes longest, so it is made only for a class whose first request may go before
            // the others.
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

    /// Returns the ready worker that suits a class best: one with a model that is asked as early as possible. Late
    /// requests that wait for the best model are served by no other. Hits that may wait for large models ask these
    /// first, and the small ones only from the time on at which the class falls back.
    pub(super) fn worker_for(&self, now: Time, class: &Class, in_time: bool) -> Option<WorkerId> {
        let first = if self.has_weights { class.first(in_time) } else { None };
        let weights = first.map_or_else(Weights::default, |first| self.weights(first.request));
        // Late requests may wait for the best model only if a worker has it as its target. Otherwise they might wait
        // for ever, so that any model serves them.
        if !in_time && self.makes_the_best_of_it() && self.cluster.any_target(class.best.models) {
            return self.soonest(&class.best, Time::MAX, weights);
        }
        let may = |choice: &&Choice| {
            class.kind == DecisionKind::Miss || !choice.serves_misses || self.large_may_take(class, in_time)
        };
        let mut choices = class.choices.iter().filter(may);
        let by = self.to_finish_by(class, in_time);
        match class.falls_back().filter(|_| in_time && self.may_wait(class)) {
            None => choices.find_map(|choice| self.soonest(choice, by, weights)),
            Some(time) => choices
                .rev()
                .find_map(|choice| self.soonest(choice, by, weights).filter(|_| choice.serves_misses || time <= now)),
        }
    }

    /// Returns the time by which the first request of a class has to be finished by a worker. Where late requests go
    /// behind, a request in time waits for a worker that finishes it in time, rather than be late on one that others
    /// could use.
    fn to_finish_by(&self, class: &Class, in_time: bool) -> Time {
        let first = if in_time && self.queue.settings().late != Late::InTurn { class.first(true) } else { None };
        first.map_or(Time::MAX, |first| first.due)
    }

    /// Returns whether hits may wait for large models: the cluster is overrun, and a worker has a large model that may
    /// serve them as its target.
    fn may_wait(&self, hits: &Class) -> bool {
        let any_target = |choice: &Choice| choice.serves_misses && self.any_large_target(choice);
        self.queue.is_overrun() && hits.choices.iter().any(any_target)
    }

    /// Returns whether any worker has one of the models of a choice that serve misses as its target.
    fn any_large_target(&self, choice: &Choice) -> bool {
        self.cluster.any_target(choice.models.and(self.config.serving.of_misses()))
    }

    /// Returns the next time at which a hit that waits for a large model falls back on a small one that has a ready
    /// worker.
    pub(super) fn next_fall_back(&self) -> Option<Time> {
        if self.queue.is_empty() || self.cluster.ready_pools().is_empty() {
            return None;
        }
        let held = self.queue.classes().iter().filter_map(|class| {
            let time = class.falls_back().filter(|_| self.may_wait(class))?;
            // Without a ready small worker no wake-up is needed: the event that makes one ready runs the dispatcher
            // anyway.
            let mut small = class.choices.iter().filter(|choice| !choice.serves_misses);
            small.find_map(|choice| self.soonest(choice, Time::MAX, Weights::default())).map(|_| time)
        });
        // A time that has passed belongs to a job that waits for more requests: it starts later by its own wake-up.
        held.filter(|time| *time > self.now).min()
    }

    /// Returns whether late requests wait for the best model.
    fn makes_the_best_of_it(&self) -> bool {
        self.queue.settings().late == Late::Best && self.queue.hits_are_few()
    }

    /// Returns whether workers with a model that serves misses may take the hits of a class.
    fn large_may_take(&self, hits: &Class, in_time: bool) -> bool {
        let allowed = match self.large_takes_hits {
            LargeTakesHits::WithoutMisses => true,
            // The paper's `throughput` mode: hits are left to small workers as long as one is a target.
            LargeTakesHits::WithoutSmall => {
                let of_misses = self.config.serving.of_misses();
                !hits.choices.iter().any(|choice| self.cluster.any_target(choice.models.without(of_misses)))
            }
        };
        // Rule (c) of docs/semantics.md, section 4: with misses first, a large worker takes a hit only while no miss
        // waits.
        allowed && !(self.queue.misses_first() && self.queue.a_miss_waits(in_time))
    }

    /// Returns the weights that a request needs on its worker.
    pub(super) fn weights(&self, request: RequestId) -> Weights {
        // Nearly all runs have no checkpoints, and need no look-up.
        if !self.has_weights {
            return Weights::default();
        }
        self.requests.get(request).map_or_else(Weights::default, |pending| pending.ask().weights)
    }

    /// Returns the ready worker with a model of a choice that is expected to finish first, if not after `by`; of equals
    /// the one that has the weights, and then the lowest. In the order of the paper (misses first) all these times are
    /// 0, so the lowest worker is taken.
    fn soonest(&self, choice: &Choice, by: Time, weights: Weights) -> Option<WorkerId> {
        if !choice.set.meets(self.cluster.ready_pools()) {
            return None;
        }
        let mut soonest: Option<(Duration, Suited)> = None;
        for &(time, pool) in &choice.pools {
            // Pools are in order of time, so that no later pool is sooner. Pools of equal time are still compared, by
            // worker.
            if self.now + time > by || soonest.is_some_and(|(before, _)| before < time) {
                break;
            }
            if let Some(suited) = self.cluster.ready(pool, weights) {
                soonest = Some(soonest.map_or((time, suited), |other| other.min((time, suited))));
            }
        }
        soonest.map(|(_, suited)| suited.worker())
    }

    /// Starts a job of waiting requests. If the settings say so, a single request in time may skip fewer steps.
    fn start(&mut self, now: Time, start: Start, waits: &[WaitingRequest], actions: &mut Vec<Action>) {
        // The requests of a larger job share the number of steps that they skip, so that none of them can be eased
        // alone.
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

    /// Begins a job of routed requests on a ready worker. `in_time` has the places in the queue of requests that were
    /// taken from a line in time, and is empty for late and background requests.
    pub(super) fn begin(
        &mut self,
        now: Time,
        worker: WorkerId,
        requests: SmallVec<[RequestId; 2]>,
        in_time: &[WaitingRequest],
        actions: &mut Vec<Action>,
    ) {
        let job = JobId(self.jobs);
        self.jobs += 1;
        let model = self.cluster.get(worker).expect("a ready worker exists").target;
        let (mut parts, mut weights) = (SmallVec::new(), Weights::default());
        let mut work = Work::new(model, 0, 0);
        for (at, &request) in requests.iter().enumerate() {
            let pending = self.requests.get_mut(request).expect("what waits has not ended");
            if let Some(waits) = in_time.get(at) {
                self.queue.started(waits, pending);
            }
            pending.start(now, worker, model, requests.len());
            let decision = pending.decision.expect("what waits was routed");
            // All requests of a job are of one class, so that the work of the first is that of the job.
            if at == 0 {
                let ask = pending.ask();
                (weights, work) = (ask.weights, decision.work(model, ask.shape(), &self.config.denoising));
            }
            parts.push(Part { request, source: decision.source });
        }
        if self.has_weights {
            work.change = self.cluster.change_weights(worker, weights);
        }
        self.cluster.begin(worker, now, work, job, requests);
        actions.push(Action::Start { job, worker, work, parts });
    }

    /// Lets a hit skip only the fewest steps, if another worker is ready for its class and the hit is in time all the
    /// same.
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
        let work = self.config.denoising.refinement(model, class.shape, least_skipped);
        let time = self.expected(start.worker, work, 1);
        let pending = self.requests.get_mut(request).expect("what waits has not ended");
        let decision = pending.decision.as_mut().expect("what waits was routed");
        if now + time <= pending.due && ease(decision, least_skipped) {
            actions.push(Action::Note(Note::Eased { request, skipped_steps: least_skipped }));
        }
    }

    /// Returns whether another worker is ready for a class.
    fn any_other_ready(&self, class: &Class, worker: WorkerId) -> bool {
        let pools = class.choices.iter().flat_map(|choice| &choice.pools);
        pools.map(|(_, pool)| *pool).any(|pool| self.cluster.any_ready_but(pool, worker))
    }
}

/// Limits the steps that a hit skips to `least_skipped`. Returns whether the hit was to skip more. A request that
/// brings its source says how many steps it skips, so that its number stays.
fn ease(decision: &mut Decision, least_skipped: u32) -> bool {
    let more =
        decision.source.is_some() && decision.kind == DecisionKind::Hit && decision.skipped_steps > least_skipped;
    if more {
        decision.skipped_steps = least_skipped;
    }
    more
}
