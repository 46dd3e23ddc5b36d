//! Side of the desk that the loop uses: its inbox, the answers to the executor's questions about requests, and the
//! changes of requests' states by the records of the journal. One thread uses this side. Its lock is there for the
//! threads that read the state.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use super::audits::{Due, Role};
use super::figures::{AllFigures, Figures};
use super::history::{History, Window, WorkerNow};
use super::{Arrival, Ask, Deletion, Desk, EDIT, Facts, Inner, News, View};
use crate::image::ImageId;
use crate::journal::{Journal, Record};
use crate::live::details::Details;
use crate::live::executor::Book;
use crate::live::faults::may_panic;
use crate::live::picture::Picture;
use crate::live::pipeline::Cut;
use crate::live::store::Deleted;
use crate::replay::{Inbox, Next};
use crate::request::{Outcome, Request, RequestId, TenantId};
use crate::scheduler::{Action, DecisionKind, Event, Note};
use crate::serve::lock;
use crate::serve::traffic::Traffic;
use crate::time::Time;

/// State of the requests that the loop has taken and not forgotten, with figures of the run.
pub(super) struct ClerkState {
    open: BTreeMap<RequestId, Open>,
    running: usize,
    history: History,
    cached: u64,
    /// Cached pictures, by image. A decision's source is shown to clients by its number in the store, and only to those
    /// who may see its owner's pictures.
    pictures: BTreeMap<ImageId, Cached>,
    tenants: AllFigures,
    pub(super) traffic: Option<Traffic>,
    /// Number of audits that are requested and have not ended.
    pub(super) auditing: usize,
}

/// Cached picture.
#[derive(Clone, Copy, Debug, Default)]
struct Cached {
    /// Number of the picture in the image store, once the picture is there.
    number: Option<u64>,
    /// Tenant of the request for which the picture was made, if that is known.
    owner: Option<TenantId>,
}

/// Request, from its arrival until nothing more follows for it.
pub(super) struct Open {
    pub(super) request: Request,
    pub(super) ask: Ask,
    pub(super) view: View,
    pub(super) role: Role,
    /// Channel that receives the state of the request at its end.
    pub(super) over: Option<oneshot::Sender<View>>,
}

impl ClerkState {
    pub(super) fn new(facts: &Facts, traffic: Option<Traffic>) -> Self {
        let history = History::new(facts);
        let (open, pictures, tenants) = (BTreeMap::new(), BTreeMap::new(), AllFigures::new(facts));
        Self { open, running: 0, history, cached: 0, pictures, tenants, traffic, auditing: 0 }
    }

    /// Forgets all requests that have not ended. Their channels are dropped, so that the callers that wait learn that
    /// no end will follow.
    pub(super) fn abandon(&mut self) {
        self.open.clear();
        self.running = 0;
    }

    fn arrived(&mut self, open: Open) {
        if let Some(traffic) = self.traffic.as_mut().filter(|_| !open.role.is_audit()) {
            traffic.arrived(&open.request, &open.ask);
        }
        self.open.insert(open.request.id, open);
    }

    pub(super) fn open(&self, id: RequestId) -> Option<&Open> {
        self.open.get(&id)
    }

    pub(super) fn open_mut(&mut self, id: RequestId) -> Option<&mut Open> {
        self.open.get_mut(&id)
    }

    /// Changes the state of a request, and sends the state to the followers of the request.
    pub(super) fn update(&mut self, id: RequestId, change: impl FnOnce(&mut View)) {
        if let Some(open) = self.open.get_mut(&id) {
            change(&mut open.view);
            if let Some(progress) = &open.ask.progress {
                progress.send_replace(open.view.clone());
            }
        }
    }

    /// Estimates the whole seconds until there is room for a number of requests, in the whole queue or in the share of
    /// a tenant.
    pub(super) fn seconds_for(&self, now: Time, tenant: Option<TenantId>, requests: usize) -> u64 {
        let own = tenant.and_then(|tenant| self.tenants.seconds_for(now, tenant, requests));
        own.unwrap_or_else(|| self.history.seconds_for(now, requests))
    }

    pub(super) fn lately_of(&mut self, tenant: TenantId, now: Time, waiting: usize) -> (Vec<Window>, [u64; 3]) {
        self.tenants.recent(now, tenant, waiting)
    }

    /// Returns whether a request refines a picture that it has brought.
    fn refines_own(&self, request: RequestId) -> bool {
        self.open.get(&request).is_some_and(|open| open.ask.source.is_some())
    }

    /// Returns the tenant of an open request.
    fn tenant(&self, request: RequestId) -> Option<TenantId> {
        self.open.get(&request).map(|open| open.ask.tenant)
    }

    /// Returns the tenant of a picture: that of its request, or that of an entry from an earlier run.
    fn owner(&self, image: ImageId) -> Option<TenantId> {
        let known = self.pictures.get(&image).and_then(|picture| picture.owner);
        known.or_else(|| image.request().and_then(|request| self.tenant(request)))
    }

    pub(super) fn recent(&mut self, now: Time, waiting: usize) -> (Vec<Window>, Vec<WorkerNow>, [u64; 3]) {
        let counts = [waiting as u64, self.running as u64, self.cached];
        (self.history.windows(now, waiting), self.history.workers(now), counts)
    }
}

/// Inbox of the loop. It takes the whole queue of the desk at once.
pub struct Arrivals {
    desk: Desk,
    came: Vec<Arrival>,
    taken: VecDeque<(Time, News)>,
    /// Deletions that the loop has taken: the channels of the answers, and what was deleted.
    deleted: Vec<(oneshot::Sender<Deleted>, Deleted)>,
}

impl Desk {
    /// Notes the number in the store, and the owner if known, of a picture from an earlier run.
    pub fn adopted(&self, image: ImageId, number: u64, owner: Option<TenantId>) {
        lock(&self.0.state).pictures.insert(image, Cached { number: Some(number), owner });
    }

    /// Makes the inbox of the loop. There is only one loop.
    #[must_use]
    pub fn arrivals(&self) -> Arrivals {
        Arrivals { desk: self.clone(), came: Vec::new(), taken: VecDeque::new(), deleted: Vec::new() }
    }
}

impl Arrivals {
    /// Takes the whole queue of the desk. Returns whether no more entries will follow.
    fn hear(&mut self) -> bool {
        let inner = &self.desk.0;
        let draining = {
            let mut queue = lock(&inner.queue);
            // The lists are swapped: the lock is held for a moment, and both keep their memory.
            std::mem::swap(&mut queue.incoming, &mut self.came);
            // The flag is read with the queue locked: what was accepted before the flag was set is in the list.
            self.desk.is_draining()
        };
        if !self.came.is_empty() {
            let mut state = lock(&inner.state);
            for came in self.came.drain(..) {
                came.open.into_iter().for_each(|open| state.arrived(inner.drawn(open)));
                self.taken.push_back((came.time, came.what));
            }
        }
        draining
    }
}

impl Inbox for Arrivals {
    fn next(&mut self) -> Next {
        // The loop has handled everything that it took, so that the deletions are done.
        for (done, deleted) in self.deleted.drain(..) {
            // The caller may have stopped waiting.
            let _ = done.send(deleted);
        }
        let draining = self.taken.is_empty() && self.hear();
        match self.taken.front() {
            Some((time, _)) => Next::At(*time),
            None if !draining => Next::Later,
            None if !self.desk.0.drained.load(Ordering::Relaxed) => Next::At(Time::ZERO),
            None => Next::Closed,
        }
    }

    fn take(&mut self) -> Option<Event> {
        may_panic("loop");
        match self.taken.pop_front() {
            Some((_, News::Event(event))) => return Some(event),
            Some((_, News::Deletion(Deletion { sources, number, refined, done }))) => {
                // The deletion runs on the loop's own thread: it finds all pictures that were kept until now, and none
                // is kept meanwhile.
                let (deleted, images) = sources.delete(number, refined);
                self.deleted.push((done, deleted));
                return Some(Event::Withdrawn { images, refined });
            }
            None => {}
        }
        let ends = self.desk.is_draining() && !self.desk.0.drained.swap(true, Ordering::Relaxed);
        ends.then_some(Event::Drain)
    }
}

/// Answers to the questions of the executor about requests.
impl Book for Desk {
    fn prompt(&self, request: RequestId) -> Option<Arc<str>> {
        lock(&self.0.state).open.get(&request).map(|open| open.ask.prompt.clone())
    }

    fn tenant(&self, request: RequestId) -> Option<String> {
        let tenant = lock(&self.0.state).open.get(&request)?.ask.tenant;
        self.0.facts.tenants.get(tenant.0 as usize).cloned()
    }

    fn noise(&self, request: RequestId) -> (u64, u64) {
        let state = lock(&self.0.state);
        state.open.get(&request).map_or((self.0.facts.seed, u64::from(request.0)), |open| self.0.noise(open))
    }

    fn details(&self, request: RequestId) -> Details {
        lock(&self.0.state).open.get(&request).map(|open| open.ask.details.clone()).unwrap_or_default()
    }

    fn source(&self, request: RequestId) -> Option<Arc<Picture>> {
        lock(&self.0.state).open.get(&request)?.ask.source.clone()
    }

    fn cut(&mut self, request: RequestId, cut: &Cut) {
        lock(&self.0.state).update(request, |view| view.cuts.push(cut.clone()));
    }

    fn result(&self, _: RequestId) -> Option<PathBuf> {
        None
    }

    fn kept(&mut self, image: ImageId, number: u64) {
        let mut state = lock(&self.0.state);
        let owner = state.owner(image);
        state.pictures.insert(image, Cached { number: Some(number), owner });
    }

    fn ended(&mut self, request: RequestId, outcome: &Outcome, picture: Option<Arc<Picture>>) {
        let (now, mut over) = (self.now(), None);
        let mut state = lock(&self.0.state);
        state.update(request, |view| {
            // A picture is delivered with the end of its request, or not at all.
            view.picture = picture.filter(|_| *outcome == Outcome::Completed);
            view.ended = Some((now.max(view.arrived), outcome.clone()));
        });
        if let Some(open) = state.open.get_mut(&request) {
            over = open.over.take().map(|over| (over, open.view.clone()));
        }
        // The lock is released before the caller that waits is woken.
        drop(state);
        if let Some((over, view)) = over {
            let _ = over.send(view);
        }
    }

    fn forget(&mut self, request: RequestId) {
        let mut state = lock(&self.0.state);
        state.open.remove(&request);
        if let Some(traffic) = &mut state.traffic {
            traffic.settled(request);
        }
    }

    fn is_open(&self) -> bool {
        !self.0.drained.load(Ordering::Relaxed)
    }

    fn wants_pictures(&self) -> bool {
        true
    }
}

/// Journal that follows requests, workers and the image cache.
impl Journal for Desk {
    fn record(&mut self, time: Time, record: Record<'_>) {
        let mut due = None;
        let mut state = lock(&self.0.state);
        state.history.advance(time, self.0.waiting.load(Ordering::Relaxed));
        match record {
            Record::Event(event) => {
                state.history.event(time, event);
                self.0.meter.event(event);
                if state.history.has_changed() {
                    let since = state.history.workerless().map_or(u64::MAX, Time::nanoseconds);
                    self.0.workerless.store(since, Ordering::Relaxed);
                }
                if let Event::Arrived(request) = event
                    && !request.background
                    && let Some(figures) = self.0.figures(&mut state, time, Some(request.tenant))
                {
                    figures.history.arrived();
                }
                due = self.0.heard(&mut state, event);
                if let Some(traffic) = &mut state.traffic {
                    traffic.event(event);
                }
            }
            Record::Action(action) => {
                state.history.action(action);
                self.0.apply(&mut state, time, action);
            }
        }
        drop(state);
        if let Some(Due { ask, hit }) = due {
            self.audit(ask, hit);
        }
    }
}

impl Inner {
    /// Returns a tenant's figures, brought up to now.
    fn figures<'a>(&self, state: &'a mut ClerkState, now: Time, tenant: Option<TenantId>) -> Option<&'a mut Figures> {
        let waiting = self.share(tenant?).load(Ordering::Relaxed);
        state.tenants.up_to(now, tenant, waiting)
    }

    fn apply(&self, state: &mut ClerkState, time: Time, action: &Action) {
        match action {
            Action::Note(Note::Routed { request, decision, .. }) => {
                let tenant = state.tenant(*request);
                let picture = decision.source.and_then(|image| state.pictures.get(&image));
                let visible =
                    picture.filter(|picture| tenant.is_some_and(|own| self.facts.may_see(own, picture.owner)));
                let source = visible.and_then(|picture| picture.number);
                // A refinement of a client's own picture says nothing of what the cache is worth.
                if !state.audits(*request) && !state.refines_own(*request) {
                    state.history.routed(decision.kind.is_hit());
                    if let Some(figures) = self.figures(state, time, tenant) {
                        figures.history.routed(decision.kind.is_hit());
                    }
                    self.meter.routed(decision);
                }
                state.update(*request, |view| (view.decision, view.source) = (Some(*decision), source));
            }
            Action::Note(Note::Eased { request, skipped_steps }) => state.update(*request, |view| {
                if let Some(decision) = &mut view.decision {
                    decision.skipped_steps = *skipped_steps;
                }
            }),
            Action::Start { work, parts, .. } => {
                for part in parts {
                    let mut first = false;
                    state.update(part.request, |view| {
                        // A job that is tried again starts again. Its requests left the queue at the first start.
                        first = view.started.is_none();
                        view.started = Some((time, work.model));
                        view.cuts.clear();
                        view.step = work.skipped_steps;
                        view.steps = Some((work.total_steps, work.skipped_steps));
                    });
                    if first && !state.audits(part.request) {
                        self.started(state, time, part.request);
                    }
                }
            }
            Action::Load { model, .. } => self.meter.load(&self.facts.models[model.index()]),
            Action::Keep { image, .. } => {
                let owner = state.owner(*image);
                // The owner is noted now, because its request is forgotten long before the picture leaves. The number
                // follows once the picture is in the store.
                state.pictures.entry(*image).or_default().owner = owner;
                state.cached += 1;
                if let Some(figures) = self.figures(state, time, owner) {
                    figures.cached += 1;
                }
            }
            Action::Note(Note::Left { image, .. }) => {
                let owner = state.pictures.remove(image).and_then(|picture| picture.owner);
                state.cached = state.cached.saturating_sub(1);
                if let Some(figures) = self.figures(state, time, owner) {
                    figures.cached = figures.cached.saturating_sub(1);
                }
            }
            Action::Finish(ended) => self.finished(state, time, ended.request, &ended.outcome),
            _ => {}
        }
    }

    /// Counts a request as no longer waiting.
    fn left_the_queue(&self, tenant: Option<TenantId>) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        if let Some(tenant) = tenant {
            self.share(tenant).fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Counts a request as running, when a worker begins it for the first time.
    fn started(&self, state: &mut ClerkState, time: Time, request: RequestId) {
        let tenant = state.tenant(request);
        state.running += 1;
        if let Some(figures) = self.figures(state, time, tenant) {
            figures.running += 1;
        }
        self.left_the_queue(tenant);
    }

    fn finished(&self, state: &mut ClerkState, time: Time, request: RequestId, outcome: &Outcome) {
        if state.audits(request) {
            self.audit_ended(state, outcome);
            return;
        }
        let Some(View { arrived, decision, started, .. }) = state.open.get(&request).map(|open| &open.view) else {
            return;
        };
        let (arrived, decision, started) = (*arrived, *decision, *started);
        let tenant = state.tenant(request);
        let latency = time.since(arrived);
        let completed = *outcome == Outcome::Completed;
        let within = completed && latency <= self.facts.slo;
        state.history.ended(completed, within);
        if let Some(figures) = self.figures(state, time, tenant) {
            figures.history.ended(completed, within);
            figures.running = figures.running.saturating_sub(u64::from(started.is_some()));
        }
        if started.is_some() {
            state.running = state.running.saturating_sub(1);
        } else {
            self.left_the_queue(tenant);
        }
        let model = started.map(|(_, model)| &self.facts.models[model.index()]);
        let kind = decision.map_or(DecisionKind::Miss, |decision| decision.kind);
        let word = if state.refines_own(request) { EDIT } else { kind.word() };
        let queued = started.map(|(start, _)| start.since(arrived));
        self.meter.ended(outcome, word, model, latency, queued, within);
        if let Some(traffic) = &mut state.traffic {
            traffic.ended(request, completed && started.is_some());
        }
    }
}
