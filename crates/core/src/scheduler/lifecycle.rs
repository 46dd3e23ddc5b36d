//! Effects of each event on requests, workers and the library: a request is routed, its job completes, or the job fails
//! and the request returns to its old place in its queue. Every request that arrives ends once, in `Scheduler::end`.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::vec::Vec;

use super::Scheduler;
use super::action::{Action, Note, Stage};
use super::allocation::Situation;
use super::cluster::Activity;
use super::event::{JobId, Output, WorkerId};
use super::library::MadeImage;
use super::requests::Pending;
use super::routing::{Load, Route};
use super::situation::{SHOWN_PER_WORKER, situation};
use crate::cache::index::Query;
use crate::embedding::Embedding;
use crate::image::ImageId;
use crate::model::ModelId;
use crate::request::{Ask, Outcome, Place, Rejection, Request, RequestId, Weights};
use crate::time::Time;

impl Scheduler {
    pub(super) fn arrive(&mut self, request: &Request, actions: &mut Vec<Action>) {
        let is_usual = request.ask.is_usual() && request.place.is_only();
        let unusual = if is_usual { None } else { Some(Box::new(self.unusual(request))) };
        let pending = Pending::new(request, unusual, self.queue.due(request.arrival));
        if !self.requests.insert(request.id, pending) {
            return; // The number was seen before. The inbox broke its contract, but the run goes on.
        }
        // A background request has no place in the queue: the dispatcher finds it in this set.
        if request.background {
            self.background.insert(request.id);
        }
        // The request has an entry by now: a rejection goes through `end` too, and `end` makes the record from the
        // entry.
        if self.draining {
            self.finish(request.id, Outcome::Rejected(Rejection::Draining), actions);
        } else {
            actions.push(Action::Encode(request.id));
        }
    }

    /// Returns wishes and place of a request that asks for more than one usual picture.
    #[cold]
    fn unusual(&mut self, request: &Request) -> (Ask, Place) {
        let ask = self.config.without_the_usual(request.ask);
        self.has_weights |= ask.weights != Weights::default();
        (ask, request.place)
    }

    /// Routes a request. The image cache is searched in its present state.
    pub(super) fn encoded(
        &mut self,
        now: Time,
        id: RequestId,
        embedding: Option<&Embedding>,
        actions: &mut Vec<Action>,
    ) {
        // The load is that before the request is placed: levels of approximation are defined by it (docs/semantics.md,
        // section 9).
        let load = self.load(now);
        // The client may have cancelled the request while its prompt was embedded. An answer that comes twice routes
        // nothing again.
        let Some(pending) = self.requests.get_mut(id).filter(|pending| pending.stage == Stage::Encoding) else {
            return;
        };
        pending.order = self.routed;
        self.routed += 1;
        let request = pending.request(id);
        // Pictures of one request start from different images.
        let Self { requests, library, routing, .. } = self;
        let without = requests.sources_beside(id, request.place);
        let query = embedding.map(|embedding| Query { request: Some(id), embedding, without });
        let route = library.look_up(&mut **routing, &load, &request, query.as_ref(), actions);
        if let Route::Queue(decision) | Route::Return(decision) = &route
            && let Some(source) = decision.source.filter(|_| !request.place.is_only())
        {
            requests.starts_from(id, request.place, source);
        }
        // Background requests count in no demand and no level. A rejected request asks nothing of the workers.
        if let Route::Queue(decision) | Route::Return(decision) = &route
            && !request.background
        {
            self.monitor.observe(now, decision, request.ask.shape());
            // What the cache finds says nothing about a request that brings its source.
            if request.ask.skips == 0 {
                self.routing.routed(decision, &load);
            }
        }
        self.apply_route(now, id, route, actions);
        // Admission belongs to the first routing. A request that is routed again, after a lost source or a weak draft,
        // stays admitted.
        if self.queue.settings().admission {
            self.admit(now, id, actions);
        }
    }

    fn load(&self, now: Time) -> Load {
        let (waiting_misses, waiting_hits) = self.waiting();
        Load { now, waiting_misses, waiting_hits, workers: self.config.hardware.workers() }
    }

    /// Carries out a route.
    fn apply_route(&mut self, now: Time, id: RequestId, route: Route, actions: &mut Vec<Action>) {
        let (decision, waits) = match route {
            Route::Queue(decision) => (decision, true),
            Route::Return(decision) => (decision, false),
            Route::Reject(reason) => {
                self.finish(id, Outcome::Rejected(reason), actions);
                return;
            }
        };
        let Self { requests, queue, library, monitor, .. } = self;
        let Some(pending) = requests.get_mut(id) else { return };
        // A request whose source was missing, or whose draft is made again, is still in the stage of its last job.
        let again = pending.stage != Stage::Encoding;
        actions.push(Action::Note(Note::Routed { request: id, arrival: pending.arrival, decision, again }));
        pending.decision = Some(decision);
        // A source is pinned also for a return, which ends at once: the pin is what counts the use for eviction.
        library.pin(&decision);
        if !waits {
            // `Return` goes before `Finish`: a live executor holds the result back while it reads the image.
            actions.extend(decision.source.map(|image| Action::Return { request: id, image }));
            self.finish(id, Outcome::Completed, actions);
        } else if pending.background {
            pending.stage = Stage::Waiting;
        } else {
            pending.since = now;
            queue.place(pending, &decision);
            monitor.waits(now, usize::from(pending.class), pending.due.since(now));
            queue.add(id, pending);
        }
    }

    pub(super) fn finish(&mut self, request: RequestId, outcome: Outcome, actions: &mut Vec<Action>) {
        self.end(request, outcome, None, actions);
    }

    /// Ends a request, with the image that was made for it if there is one. All requests end here.
    fn end(&mut self, request: RequestId, outcome: Outcome, made: Option<MadeImage<'_>>, actions: &mut Vec<Action>) {
        let Self { requests, library, background, .. } = self;
        let Some((ended, pending)) = requests.end(request, outcome) else { return };
        if pending.background {
            background.remove(&request);
        }
        actions.push(Action::Finish(ended));
        library.ended(request, pending, made, actions);
        requests.remove(request);
    }

    pub(super) fn completed(
        &mut self,
        now: Time,
        worker: WorkerId,
        job: JobId,
        outputs: &[Output],
        actions: &mut Vec<Action>,
    ) {
        let Some((model, requests)) = self.cluster.end(worker, job) else { return };
        for &request in &requests {
            let Some(pending) = self.requests.of_job(request, worker) else { continue };
            let output = outputs.iter().find(|output| output.request == request);
            let confidence = output.and_then(|output| output.confidence);
            // Only a cascade decides again: a draft with too little confidence waits once more, as a miss. Its job
            // stays in the record as a span, so that the time of the GPU counts.
            let again = pending.decision.and_then(|made| self.routing.redecide(&made, confidence, self.threshold));
            if let Some(decision) = again {
                self.requests.lost_job(request, now);
                self.apply_route(now, request, Route::Queue(decision), actions);
                continue;
            }
            self.end(request, Outcome::Completed, Some(MadeImage { now, model, output }), actions);
        }
    }

    /// Removes images from the image cache. With `refined`, images that are being made from them are not cached either.
    pub(super) fn withdraw(&mut self, images: &[ImageId], refined: bool, actions: &mut Vec<Action>) {
        if !self.library.withdraw(images, actions) || !refined {
            return;
        }
        let is_from_these = |source: Option<ImageId>| source.is_some_and(|source| images.contains(&source));
        // The mark is set now, since at the end of a job nothing tells any more that its source was withdrawn.
        for pending in self.requests.values_mut() {
            if is_from_these(pending.decision.and_then(|decision| decision.source)) {
                pending.reuse.keep = false;
            }
        }
        self.library.withdraw_refined(is_from_these);
    }

    pub(super) fn job_failed(
        &mut self,
        now: Time,
        worker: WorkerId,
        job: JobId,
        reason: &str,
        actions: &mut Vec<Action>,
    ) {
        let Some((_, requests)) = self.cluster.end(worker, job) else { return };
        for request in requests {
            self.retry(now, request, worker, reason, actions);
        }
    }

    /// Puts a request of a failed job back at its place in the queue, or ends the request if its jobs failed too often.
    fn retry(&mut self, now: Time, request: RequestId, worker: WorkerId, reason: &str, actions: &mut Vec<Action>) {
        let Some(pending) = self.requests.of_job(request, worker) else { return };
        pending.failures += 1;
        // The last job is not noted as lost: it is the `run` of the record, and as a span it would count twice.
        if pending.failures >= self.config.max_attempts {
            self.finish(request, Outcome::Failed(reason.to_owned()), actions);
            return;
        }
        self.requests.lost_job(request, now);
        let Self { requests, queue, .. } = self;
        let Some(pending) = requests.get_mut(request) else { return };
        let decision = pending.decision.expect("what ran was routed");
        if pending.background {
            pending.stage = Stage::Waiting;
        } else {
            queue.add_at_old_place(request, pending, &decision);
        }
        actions.push(Action::Note(Note::Retried { request, kind: decision.kind }));
    }

    /// Routes the requests of a job again, as misses, because a source cannot be read. Each request keeps its position
    /// in the order of routing.
    pub(super) fn source_missing(&mut self, now: Time, worker: WorkerId, job: JobId, actions: &mut Vec<Action>) {
        let Some((_, requests)) = self.cluster.end(worker, job) else { return };
        for request in requests {
            // The load is taken for each request anew: the requests of the job that were routed before it wait by now.
            let load = self.load(now);
            let Some(pending) = self.requests.of_job(request, worker) else { continue };
            let Some(source) = pending.decision.and_then(|decision| decision.source) else {
                // The request has no source that could be missing. It counts as a failure, so that it cannot go on for
                // ever.
                self.retry(now, request, worker, "source missing", actions);
                continue;
            };
            // The decision goes before its source is unpinned: if the request ends now, its source must not be unpinned
            // twice.
            pending.decision = None;
            let own = pending.request(request);
            self.requests.lost_job(request, now);
            self.library.forget(source, actions);
            let route = self.routing.route(&own, None, &load);
            self.apply_route(now, request, route, actions);
        }
    }

    pub(super) fn model_loaded(&mut self, worker: WorkerId) {
        self.cluster.update(worker, |state| {
            // A worker that was lost while it loaded is down, and the answer of that load is out of date.
            if state.activity == Activity::Loading {
                state.activity = Activity::Idle;
                state.loaded = state.loading.take();
                state.resident.extend(state.loaded);
            }
        });
    }

    /// Notes a failed load. The model that the worker still holds becomes its target until the next decision of the
    /// monitor or the next wake-up, when the load may be tried again. A worker without a model is lost.
    pub(super) fn load_failed(&mut self, now: Time, worker: WorkerId, loaded: Option<ModelId>) {
        // Ticks without requests are passed over. The failed load needs the next one, at which it is tried again.
        self.monitor.await_tick(now);
        self.cluster.update(worker, |state| {
            if state.activity == Activity::Loading {
                state.loading = None;
                state.loaded = loaded;
                // Other models may have left the memory too: the event does not tell.
                state.resident = loaded.into_iter().collect();
                state.target = loaded.unwrap_or(state.target);
                state.activity = if loaded.is_some() { Activity::Idle } else { Activity::Down };
            }
        });
    }

    pub(super) fn worker_down(&mut self, now: Time, worker: WorkerId, reason: &str, actions: &mut Vec<Action>) {
        // The target stays: a worker that comes back is idle without a model, so that it loads its target first.
        let before = self.cluster.update(worker, |state| {
            state.loaded = None;
            state.resident.clear();
            state.loading = None;
            core::mem::replace(&mut state.activity, Activity::Down)
        });
        if let Some(Activity::Running { requests, .. }) = before {
            for request in requests {
                self.retry(now, request, worker, reason, actions);
            }
        }
    }

    pub(super) fn worker_up(&mut self, worker: WorkerId) {
        self.cluster.update(worker, |state| {
            if state.activity == Activity::Down {
                state.activity = Activity::Idle;
            }
        });
    }

    pub(super) fn cancel(&mut self, request: RequestId, actions: &mut Vec<Action>) {
        let Some(pending) = self.requests.get(request) else { return };
        // The worker is read before the request ends, since its entry is gone afterwards.
        let worker = pending.runs_on();
        if matches!(pending.stage, Stage::Waiting | Stage::Late) && !pending.background {
            self.queue.remove(request, pending);
        }
        self.finish(request, Outcome::Cancelled, actions);
        let activity = worker.and_then(|worker| Some((worker, &self.cluster.get(worker)?.activity)));
        // The job goes on while any other request of it needs a result.
        if let Some((worker, Activity::Running { job, requests })) = activity {
            let still_runs =
                |other: &RequestId| self.requests.get(*other).is_some_and(|pending| pending.runs_on() == Some(worker));
            if !requests.iter().any(still_runs) {
                actions.push(Action::CancelJob(*job));
            }
        }
    }

    /// Handles a wake-up: for the monitor, for a hit that has waited long enough for a large model, or for a job that
    /// has waited long enough for more requests.
    pub(super) fn woke_up(&mut self, now: Time, actions: &mut Vec<Action>) {
        if !self.tick(now, actions) {
            // A failed load is tried again, because requests that need its model would wait for ever otherwise.
            self.cluster.want_again();
        }
    }

    /// Lets the monitor decide if a decision is due. Returns whether it has decided.
    pub(super) fn tick(&mut self, now: Time, actions: &mut Vec<Action>) -> bool {
        let Self { monitor, cluster, queue, config, .. } = self;
        let shown = if monitor.needs_waiting() { SHOWN_PER_WORKER * config.hardware.workers() } else { 0 };
        let look = || Situation {
            most_together: config.batching.most,
            ..situation(now, cluster, queue, &config.hardware, shown)
        };
        let decided = monitor.tick(now, look);
        let Some((allocation, tick)) = decided else { return false };
        self.large_takes_hits = allocation.large_takes_hits;
        if let Some(cascade) = allocation.cascade {
            (self.threshold, self.batches) = (cascade.threshold, cascade.batches);
        }
        self.cluster.set_targets(&allocation.targets);
        actions.push(Action::Note(Note::Ticked(Box::new(tick))));
        true
    }
}
