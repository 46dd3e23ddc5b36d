//! What each event does to requests, workers and the cache. Every request that arrives ends once, in
//! `Scheduler::finish`.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::vec::Vec;

use smallvec::SmallVec;

use super::action::{Action, Decision, DecisionKind, Note};
use super::allocation::Situation;
use super::event::{JobId, Output, WorkerId};
use super::routing::{Load, Route, Storage};
use super::situation::{SHOWN_PER_WORKER, situation};
use super::worker::Activity;
use super::{Admitted, Pending, Phase, Scheduler};
use crate::cache::index::Query;
use crate::cache::{Admission, Candidate};
use crate::embedding::Embedding;
use crate::image::ImageId;
use crate::model::ModelId;
use crate::request::{Outcome, Owner, Request, RequestId, TenantId};
use crate::time::Time;

impl Scheduler {
    pub(super) fn arrive(&mut self, request: Request, actions: &mut Vec<Action>) {
        let pending =
            Pending { request, phase: Phase::Encoding, decision: None, order: 0, waits: None, failures: 0, key: None };
        if !self.requests.insert(request.id.0, pending) {
            return; // A number that was seen before: the inbox broke its contract, the run goes on.
        }
        if request.background {
            self.background.insert(request.id);
        }
        if self.draining {
            self.finish(request.id, Outcome::Rejected("draining".into()), actions);
        } else {
            actions.push(Action::Encode(request.id));
        }
    }

    /// Routes a request: the cache is searched as it is now.
    pub(super) fn encoded(
        &mut self,
        now: Time,
        id: RequestId,
        embedding: Option<Embedding>,
        actions: &mut Vec<Action>,
    ) {
        let Some(pending) = self.requests.get_mut(id.0) else { return };
        if pending.phase != Phase::Encoding {
            return;
        }
        pending.order = self.routed;
        self.routed += 1;
        let request = pending.request;
        let load = self.load(now);
        let route = self.look_up(&load, &request, embedding.as_ref(), actions);
        if matches!(self.storage, Storage::ByPrompt(_))
            && request.reuse.keep
            && let Some(pending) = self.requests.get_mut(id.0)
        {
            pending.key = embedding;
        }
        if let Route::Queue(decision) | Route::Return(decision) = &route
            && !request.background
        {
            self.monitor.observe(now, decision);
            self.routing.routed(decision, &load);
        }
        self.follow(now, id, route, actions);
        self.admit(now, id, actions);
    }

    /// Searches where the request may look, in turn until something is found that is of use, and decides.
    fn look_up(
        &mut self,
        load: &Load,
        request: &Request,
        embedding: Option<&Embedding>,
        actions: &mut Vec<Action>,
    ) -> Route {
        let (Some(cache), Some(embedding)) = (&mut self.cache, embedding) else {
            return self.routing.route(request, None, load);
        };
        cache.routing(request.id);
        if !request.reuse.look_up {
            return self.routing.route(request, None, load);
        }
        cache.expire(load.now, &mut self.departures);
        let query = Query { request: Some(request.id), embedding };
        let (mut nearest, mut truly_nearest) = (None, None::<f64>);
        let mut found = None;
        for place in cache.places(request.tenant) {
            truly_nearest = cache.audit(place, &query).into_iter().chain(truly_nearest).reduce(f64::max);
            let candidate = cache.nearest(place, &query);
            let route = self.routing.route(request, candidate, load);
            if !route.is_miss() {
                found = Some(route);
                break;
            }
            nearest = [nearest, candidate].into_iter().flatten().reduce(Candidate::nearer);
        }
        let route = found.unwrap_or_else(|| self.routing.route(request, nearest, load));
        self.depart(actions);
        if let Some(nearest) = truly_nearest {
            actions.push(Action::Note(Note::Audited { request: request.id, nearest }));
        }
        route
    }

    fn load(&self, now: Time) -> Load {
        let (waiting_misses, waiting_hits) = self.waiting();
        Load { now, waiting_misses, waiting_hits, workers: self.config.hardware.workers() }
    }

    /// Carries out a route.
    fn follow(&mut self, now: Time, id: RequestId, route: Route, actions: &mut Vec<Action>) {
        let (decision, waits) = match route {
            Route::Queue(decision) => (decision, true),
            Route::Return(decision) => (decision, false),
            Route::Reject(reason) => {
                self.finish(id, Outcome::Rejected(reason), actions);
                return;
            }
        };
        actions.push(Action::Note(Note::Routed { request: id, decision }));
        self.take_source(id, decision);
        if waits {
            if let Some(pending) = self.requests.get_mut(id.0).filter(|pending| !pending.request.background) {
                let waits = self.backlog.place(now, &pending.request, &decision, pending.order);
                self.monitor.waits(now, waits.class, waits.due.since(now));
                pending.waits = Some(waits);
            }
            self.enqueue(id);
        } else {
            actions.extend(decision.source.map(|image| Action::Return { request: id, image }));
            self.finish(id, Outcome::Completed, actions);
        }
    }

    fn take_source(&mut self, id: RequestId, decision: Decision) {
        if let Some(pending) = self.requests.get_mut(id.0) {
            pending.decision = Some(decision);
        }
        if let (Some(image), Some(cache)) = (decision.source, &mut self.cache) {
            cache.pin(image, decision.skipped_steps);
        }
    }

    /// The requests of a job, and its worker idle again; `None` if the worker does not run this job.
    fn end_job(&mut self, worker: WorkerId, job: JobId) -> Option<SmallVec<[RequestId; 2]>> {
        match &self.workers.get(worker)?.activity {
            Activity::Running { job: running, .. } if *running == job => {}
            _ => return None,
        }
        let activity =
            self.workers.update(worker, |worker| core::mem::replace(&mut worker.activity, Activity::Idle))?;
        match activity {
            Activity::Running { requests, .. } => Some(requests),
            _ => None,
        }
    }

    /// Whether a request is still served by this job: it may have been cancelled meanwhile.
    fn runs_in(&self, request: RequestId, job: JobId) -> bool {
        let phase = self.requests.get(request.0).map(|pending| pending.phase);
        matches!(phase, Some(Phase::Running(_, running)) if running == job)
    }

    pub(super) fn completed(
        &mut self,
        now: Time,
        worker: WorkerId,
        job: JobId,
        outputs: &[Output],
        actions: &mut Vec<Action>,
    ) {
        let model = self.workers.get(worker).and_then(|worker| worker.loaded);
        let Some(requests) = self.end_job(worker, job) else { return };
        for request in requests {
            let output = outputs.iter().find(|output| output.request == request);
            if !self.runs_in(request, job) {
                continue;
            }
            let made = self.requests.get(request.0).and_then(|pending| pending.decision);
            let confidence = output.and_then(|output| output.confidence);
            let again = made.and_then(|made| self.routing.again(&made, confidence, self.threshold));
            if let Some(decision) = again {
                self.follow(now, request, Route::Queue(decision), actions);
                continue;
            }
            let Some(pending) = self.finish(request, Outcome::Completed, actions) else { continue };
            self.keep_or_encode(now, request, &pending, model, output, actions);
        }
    }

    /// Stores the image of a completed request if it is admitted, at once or when its embedding is there.
    fn keep_or_encode(
        &mut self,
        now: Time,
        request: RequestId,
        pending: &Pending,
        model: Option<ModelId>,
        output: Option<&Output>,
        actions: &mut Vec<Action>,
    ) {
        let embedding = output.and_then(|output| output.embedding.as_ref());
        let bytes = output.and_then(|output| output.bytes);
        let miss = pending.decision.is_some_and(|decision| decision.kind == DecisionKind::Miss);
        let Request { tenant, reuse, background, .. } = pending.request;
        let by_image = self.storage == Storage::ByImage
            && reuse.keep
            && match self.config.admission {
                Admission::All => true,
                Admission::Large => model.is_some_and(ModelId::is_large),
                Admission::Miss => miss,
            };
        let key = match self.storage {
            Storage::None => None,
            Storage::ByPrompt(_) => pending.key.as_ref().filter(|_| miss && reuse.keep),
            Storage::ByImage => embedding.filter(|_| by_image),
        };
        if let Some(key) = key {
            self.keep(now, request, tenant, bytes, key, actions);
        }
        let measured = self.config.measures_images && (reuse.keep || background);
        if embedding.is_none() && (by_image || measured) {
            let source = pending.decision.and_then(|decision| decision.source);
            self.encoding.insert(request, by_image.then_some(Admitted { tenant, bytes, source }));
            actions.push(Action::EncodeImage(request));
        }
    }

    /// An image can be found from now on. One that could not be embedded is let go.
    pub(super) fn image_encoded(
        &mut self,
        now: Time,
        request: RequestId,
        key: Option<Embedding>,
        actions: &mut Vec<Action>,
    ) {
        if let (Some(Some(Admitted { tenant, bytes, .. })), Some(key)) = (self.encoding.remove(&request), key) {
            self.keep(now, request, tenant, bytes, &key, actions);
        }
    }

    /// Puts the image made for a tenant's request into the cache.
    fn keep(
        &mut self,
        now: Time,
        request: RequestId,
        tenant: TenantId,
        bytes: Option<u64>,
        key: &Embedding,
        actions: &mut Vec<Action>,
    ) {
        let owner = self.cache.as_ref().map_or(Owner::Tenant(tenant), |cache| cache.owner(tenant));
        self.store(now, ImageId::of_request(request), owner, bytes, key, actions);
    }

    /// Takes images out of the cache; with `refined`, what is being made from them is not cached either.
    pub(super) fn withdraw(&mut self, images: &[ImageId], refined: bool, actions: &mut Vec<Action>) {
        let Some(cache) = &mut self.cache else { return };
        for image in images {
            cache.withdraw(*image, &mut self.departures);
        }
        self.depart(actions);
        if !refined {
            return;
        }
        let from_these = |source: Option<ImageId>| source.is_some_and(|source| images.contains(&source));
        for pending in self.requests.values_mut() {
            if from_these(pending.decision.and_then(|decision| decision.source)) {
                pending.request.reuse.keep = false;
            }
        }
        for admitted in self.encoding.values_mut() {
            *admitted = admitted.filter(|admitted| !from_these(admitted.source));
        }
    }

    pub(super) fn job_failed(&mut self, worker: WorkerId, job: JobId, reason: &str, actions: &mut Vec<Action>) {
        let Some(requests) = self.end_job(worker, job) else { return };
        self.retry(&requests, job, reason, actions);
    }

    /// Puts the requests of a lost job back in their places, or ends those tried often enough.
    fn retry(&mut self, requests: &[RequestId], job: JobId, reason: &str, actions: &mut Vec<Action>) {
        for &request in requests {
            if !self.runs_in(request, job) {
                continue;
            }
            let Some(pending) = self.requests.get_mut(request.0) else { continue };
            pending.failures += 1;
            if pending.failures >= self.config.max_attempts {
                self.finish(request, Outcome::Failed(reason.to_owned()), actions);
            } else {
                self.enqueue(request);
            }
        }
    }

    /// The requests of a job whose source cannot be read become misses, at their places.
    pub(super) fn source_missing(&mut self, now: Time, worker: WorkerId, job: JobId, actions: &mut Vec<Action>) {
        let Some(requests) = self.end_job(worker, job) else { return };
        for request in requests {
            if !self.runs_in(request, job) {
                continue;
            }
            let Some(pending) = self.requests.get_mut(request.0) else { continue };
            let Some(source) = pending.decision.and_then(|decision| decision.source) else {
                // It had none to miss; counted like any failure, so that it cannot go on for ever.
                self.retry(&[request], job, "source missing", actions);
                continue;
            };
            pending.decision = None;
            let request_data = pending.request;
            if let Some(cache) = &mut self.cache {
                cache.forget(source, &mut self.departures);
            }
            self.depart(actions);
            self.let_go(Some(source), actions);
            let load = self.load(now);
            let route = self.routing.route(&request_data, None, &load);
            self.follow(now, request, route, actions);
        }
    }

    pub(super) fn model_loaded(&mut self, worker: WorkerId) {
        self.workers.update(worker, |state| {
            if state.activity == Activity::Loading {
                state.activity = Activity::Idle;
                state.loaded = state.loading.take();
                state.resident.extend(state.loaded);
            }
        });
    }

    /// The worker keeps what it holds until the monitor's next tick; without a model it is lost.
    pub(super) fn load_failed(&mut self, now: Time, worker: WorkerId, loaded: Option<ModelId>) {
        self.monitor.await_tick(now);
        self.workers.update(worker, |state| {
            if state.activity == Activity::Loading {
                state.loading = None;
                state.loaded = loaded;
                // What else it had may be lost too: nobody says.
                state.resident = loaded.into_iter().collect();
                state.target = loaded.unwrap_or(state.target);
                state.activity = if loaded.is_some() { Activity::Idle } else { Activity::Down };
            }
        });
    }

    pub(super) fn worker_down(&mut self, worker: WorkerId, reason: &str, actions: &mut Vec<Action>) {
        let before = self.workers.update(worker, |state| {
            state.loaded = None;
            state.resident.clear();
            state.loading = None;
            core::mem::replace(&mut state.activity, Activity::Down)
        });
        if let Some(Activity::Running { job, requests }) = before {
            self.retry(&requests, job, reason, actions);
        }
    }

    pub(super) fn worker_up(&mut self, worker: WorkerId) {
        self.workers.update(worker, |state| {
            if state.activity == Activity::Down {
                state.activity = Activity::Idle;
            }
        });
    }

    pub(super) fn cancel(&mut self, request: RequestId, actions: &mut Vec<Action>) {
        let Some(pending) = self.requests.get(request.0) else { return };
        let (phase, waits) = (pending.phase, pending.waits);
        self.finish(request, Outcome::Cancelled, actions);
        match phase {
            Phase::Encoding => {}
            Phase::Waiting => waits.iter().for_each(|waits| self.backlog.remove(waits)),
            Phase::Running(worker, job) => {
                let nobody_left = match self.workers.get(worker).map(|worker| &worker.activity) {
                    Some(Activity::Running { requests, .. }) => requests.iter().all(|&other| !self.runs_in(other, job)),
                    _ => false,
                };
                if nobody_left {
                    actions.push(Action::CancelJob(job));
                }
            }
        }
    }

    /// The core was woken: for the monitor, or for a hit that has waited long enough.
    pub(super) fn woke_up(&mut self, now: Time, actions: &mut Vec<Action>) {
        if !self.tick(now, actions) {
            // A load that failed is tried again, or what waits for that model would wait for ever.
            self.workers.want_again();
        }
    }

    /// Lets the monitor decide if it is time to. Returns whether it has.
    pub(super) fn tick(&mut self, now: Time, actions: &mut Vec<Action>) -> bool {
        let Self { monitor, workers, backlog, config, .. } = self;
        let shown = if monitor.needs_waiting() { SHOWN_PER_WORKER * config.hardware.workers() } else { 0 };
        let look = || Situation {
            most_together: config.batching.most,
            ..situation(now, workers, backlog, &config.hardware, shown)
        };
        let decided = monitor.tick(now, look);
        let Some((allocation, tick)) = decided else { return false };
        self.large_takes_hits = allocation.large_takes_hits;
        if let Some(cascade) = allocation.cascade {
            (self.threshold, self.batches) = (cascade.threshold, cascade.batches);
        }
        self.workers.set_targets(&allocation.targets);
        actions.push(Action::Note(Note::Ticked(Box::new(tick))));
        true
    }
}
