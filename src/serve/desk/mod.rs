//! The desk between the network and the loop: takes requests in, follows each by what the journal records, and hands its
//! picture over. Threads of the network and the loop share it; nothing here waits.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::{oneshot, watch};

use super::meter::Meter;
use super::traffic::Traffic;
use crate::image::ImageId;
use crate::journal::{Journal, Record};
use crate::live::executor::{Book, Clock};
use crate::live::picture::Picture;
use crate::model::ModelId;
use crate::replay::{Inbox, Next};
use crate::request::{Outcome, Request, RequestId, TenantId};
use crate::scheduler::{Action, Decision, DecisionKind, Event, Note};
use crate::time::{Duration, Time};

mod history;

pub use history::{History, Window, WorkerNow};

/// One picture that is wanted.
#[derive(Clone, Debug)]
pub struct Ask {
    /// What it shows.
    pub prompt: Arc<str>,
    /// Who asks.
    pub tenant: TenantId,
    /// What its noise derives from, if whoever asks says so: a seed, and which picture of it.
    pub seed: Option<(u64, u64)>,
    /// When it should be done, counted from now.
    pub deadline: Option<Duration>,
}

/// How a request stands.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// When it came.
    pub arrived: Time,
    /// What was decided, once it is.
    pub decision: Option<Decision>,
    /// What it starts from: the number in the store.
    pub source: Option<u64>,
    /// Where and when it began, with which model: the last time, if more than once.
    pub started: Option<(Time, ModelId)>,
    /// Steps that are behind it, those that were skipped among them.
    pub step: u32,
    /// When and how it ended.
    pub ended: Option<(Time, Outcome)>,
    /// Its picture, if it completed.
    pub picture: Option<Arc<Picture>>,
}

/// A request that was taken in.
#[derive(Debug)]
pub struct Ticket {
    /// Its number.
    pub id: RequestId,
    /// How it stands, from now to its end.
    pub view: watch::Receiver<View>,
    /// Its end alone: who waits for nothing else is woken once.
    over: oneshot::Receiver<()>,
}

impl Ticket {
    /// Waits for its end.
    pub async fn ended(&mut self) -> View {
        // The sender is kept until it has ended.
        let _ = (&mut self.over).await;
        self.view.borrow().clone()
    }
}

/// Why a request is not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// So many wait already; there may be room after so many seconds.
    Full {
        /// An estimate, from how many were served lately.
        retry_after_s: u64,
    },
    /// Nothing more is taken in.
    Draining,
}

/// What the desk knows of the run.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Best first.
    pub models: Vec<String>,
    /// GPU type by worker.
    pub gpus: Vec<String>,
    /// What workers hold at first.
    pub initial: Vec<ModelId>,
    /// Of tenants, by number; empty without keys.
    pub tenants: Vec<String>,
    /// Denoising steps of a full generation.
    pub total_steps: u32,
    /// What noise derives from where a request does not say.
    pub seed: u64,
    /// Within how long a request is in time, for charts and counters.
    pub slo: Duration,
    /// Requests that may wait.
    pub max_queue: usize,
}

/// The desk; clones are the same one.
#[derive(Clone)]
pub struct Desk(Arc<Inner>);

struct Inner {
    facts: Facts,
    state: Mutex<State>,
    /// Of the loop, once it runs: its clock, and what wakes it.
    run: OnceLock<(Clock, Box<dyn Fn() + Send + Sync>)>,
    meter: Meter,
}

struct State {
    next: u32,
    incoming: VecDeque<(Time, Event)>,
    open: BTreeMap<RequestId, Open>,
    /// Taken in, not begun, not ended.
    waiting: usize,
    running: usize,
    draining: bool,
    drained: bool,
    history: History,
    cached: u64,
    /// Numbers in the store of what is cached: what a decision's source is called outside.
    numbers: BTreeMap<ImageId, u64>,
    traffic: Option<Traffic>,
}

struct Open {
    ask: Ask,
    view: watch::Sender<View>,
    over: Option<oneshot::Sender<()>>,
}

impl Desk {
    /// A desk at which nobody has asked for anything.
    #[must_use]
    pub fn new(facts: Facts, meter: Meter, traffic: Option<Traffic>) -> Self {
        let history = History::new(&facts);
        let state = State {
            next: 0,
            incoming: VecDeque::new(),
            open: BTreeMap::new(),
            waiting: 0,
            running: 0,
            draining: false,
            drained: false,
            history,
            cached: 0,
            numbers: BTreeMap::new(),
            traffic,
        };
        Self(Arc::new(Inner { facts, state: Mutex::new(state), run: OnceLock::new(), meter }))
    }

    /// The loop runs: its clock, and what wakes it.
    pub fn opens(&self, clock: Clock, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.0.run.set((clock, Box::new(wake)));
    }

    /// What the desk knows of the run.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.0.facts
    }

    /// Its counters.
    #[must_use]
    pub fn meter(&self) -> &Meter {
        &self.0.meter
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A thread that died while it held the lock left counters that are still counters.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Time {
        self.0.run.get().map_or(Time::ZERO, |(clock, _)| clock.now())
    }

    fn wake(&self) {
        if let Some((_, wake)) = self.0.run.get() {
            wake();
        }
    }

    /// Takes requests in, all or none.
    ///
    /// # Errors
    /// Too many wait, or nothing more is taken in.
    pub fn submit(&self, asks: Vec<Ask>) -> Result<Vec<Ticket>, Refused> {
        let tickets = {
            let mut state = self.state();
            if state.draining || self.0.run.get().is_none() {
                return Err(Refused::Draining);
            }
            if state.waiting + asks.len() > self.0.facts.max_queue {
                let now = self.now();
                return Err(Refused::Full { retry_after_s: state.history.seconds_for(now, asks.len()) });
            }
            // Under the lock, so that arrivals are in the order of time.
            let now = self.now();
            asks.into_iter().map(|ask| state.take_in(now, ask)).collect()
        };
        self.wake();
        Ok(tickets)
    }

    /// Withdraws a request; one that has ended stays as it ended.
    pub fn cancel(&self, id: RequestId) {
        {
            let mut state = self.state();
            let now = self.now();
            if state.open.get(&id).is_none_or(|open| open.view.borrow().ended.is_some()) {
                return;
            }
            state.incoming.push_back((now, Event::Cancelled(id)));
        }
        self.wake();
    }

    /// Takes nothing more in; the loop ends when what is in has ended.
    pub fn drain(&self) {
        self.state().draining = true;
        self.wake();
    }

    /// Whether nothing more is taken in.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.state().draining
    }

    /// Seconds since the loop began.
    #[must_use]
    pub fn uptime_s(&self) -> f64 {
        self.now().seconds()
    }

    /// So many steps of a request's job are done.
    pub fn stepped(&self, id: RequestId, steps: u32) {
        if let Some(open) = self.state().open.get(&id) {
            open.view
                .send_modify(|view| view.step = view.decision.map_or(0, |decision| decision.skipped_steps) + steps);
        }
    }

    /// What happened lately, and how things stand: (windows, workers, waiting, running, cached images).
    #[must_use]
    pub fn lately(&self) -> (Vec<Window>, Vec<WorkerNow>, [u64; 3]) {
        let mut state = self.state();
        let (now, waiting) = (self.now(), state.waiting);
        let counts = [waiting as u64, state.running as u64, state.cached];
        (state.history.windows(now, waiting), state.history.workers().to_vec(), counts)
    }

    /// Writes what traffic has come in so far.
    pub fn close_traffic(&self) -> Option<std::io::Result<()>> {
        self.state().traffic.take().map(Traffic::close)
    }
}

impl State {
    fn take_in(&mut self, now: Time, ask: Ask) -> Ticket {
        let id = RequestId(self.next);
        self.next = self.next.wrapping_add(1);
        let deadline = ask.deadline.map(|deadline| now + deadline);
        let request = Request { id, arrival: now, tenant: ask.tenant, deadline };
        let (view, seen) = watch::channel(View { arrived: now, ..View::default() });
        if let Some(traffic) = &mut self.traffic {
            traffic.arrived(&request, &ask.prompt, ask.deadline);
        }
        let (over, ended) = oneshot::channel();
        self.open.insert(id, Open { ask, view, over: Some(over) });
        self.incoming.push_back((now, Event::Arrived(request)));
        self.waiting += 1;
        Ticket { id, view: seen, over: ended }
    }

    fn update(&self, id: RequestId, change: impl FnOnce(&mut View)) {
        if let Some(open) = self.open.get(&id) {
            open.view.send_modify(change);
        }
    }
}

/// The desk as the loop's inbox.
impl Inbox for Desk {
    fn next(&mut self) -> Next {
        let state = self.state();
        match state.incoming.front() {
            Some((time, _)) => Next::At(*time),
            None if !state.draining => Next::Later,
            None if !state.drained => Next::At(Time::ZERO),
            None => Next::Closed,
        }
    }

    fn take(&mut self) -> Option<Event> {
        let mut state = self.state();
        if let Some((_, event)) = state.incoming.pop_front() {
            return Some(event);
        }
        let ends = state.draining && !state.drained;
        state.drained |= ends;
        ends.then_some(Event::Drain)
    }
}

/// The desk as what the executor asks about requests.
impl Book for Desk {
    fn prompt(&self, request: RequestId) -> Arc<str> {
        self.state().open.get(&request).map_or_else(|| "".into(), |open| open.ask.prompt.clone())
    }

    fn tenant(&self, request: RequestId) -> Option<String> {
        let tenant = self.state().open.get(&request)?.ask.tenant;
        self.0.facts.tenants.get(tenant.0 as usize).cloned()
    }

    fn noise(&self, request: RequestId) -> (u64, u64) {
        let asked = self.state().open.get(&request).and_then(|open| open.ask.seed);
        asked.unwrap_or((self.0.facts.seed, u64::from(request.0)))
    }

    fn result(&self, _: RequestId) -> Option<PathBuf> {
        None
    }

    fn kept(&mut self, image: ImageId, number: u64) {
        self.state().numbers.insert(image, number);
    }

    fn ended(&mut self, request: RequestId, outcome: &Outcome, picture: Option<Arc<Picture>>) {
        let now = self.now();
        let Some((view, over)) = self.state().open.get_mut(&request).map(|open| (open.view.clone(), open.over.take()))
        else {
            return;
        };
        // A picture is handed over with the end, or not at all. Nobody is woken while the desk is locked.
        view.send_modify(|view| {
            view.picture = picture.filter(|_| *outcome == Outcome::Completed);
            view.ended = Some((now.max(view.arrived), outcome.clone()));
        });
        let _ = over.map(|over| over.send(()));
    }

    fn forget(&mut self, request: RequestId) {
        let mut state = self.state();
        state.open.remove(&request);
        if let Some(traffic) = &mut state.traffic {
            traffic.settled(request);
        }
    }

    fn is_open(&self) -> bool {
        !self.state().drained
    }

    fn wants_pictures(&self) -> bool {
        true
    }
}

/// The desk as a journal: what happens to requests, workers and the cache.
impl Journal for Desk {
    fn record(&mut self, time: Time, record: Record<'_>) {
        let mut guard = self.state();
        let state = &mut *guard;
        state.history.advance(time, state.waiting);
        match record {
            Record::Event(event) => {
                state.history.event(event);
                if let Some(traffic) = &mut state.traffic {
                    traffic.event(event);
                }
            }
            Record::Action(action) => {
                state.history.action(action);
                self.0.follow(state, time, action);
            }
        }
    }
}

impl Inner {
    fn follow(&self, state: &mut State, time: Time, action: &Action) {
        match action {
            Action::Note(Note::Routed { request, decision }) => {
                let source = decision.source.and_then(|image| state.numbers.get(&image).copied());
                state.history.routed(decision.kind.is_hit());
                self.meter.routed(decision);
                state.update(*request, |view| (view.decision, view.source) = (Some(*decision), source));
            }
            Action::Note(Note::Eased { request, skipped_steps }) => state.update(*request, |view| {
                if let Some(decision) = &mut view.decision {
                    decision.skipped_steps = *skipped_steps;
                }
            }),
            Action::Start { work, parts, .. } => {
                for part in parts {
                    let first = state.open.get(&part.request).is_some_and(|open| open.view.borrow().started.is_none());
                    state.waiting -= usize::from(first);
                    state.running += usize::from(first);
                    state.update(part.request, |view| {
                        view.started = Some((time, work.model));
                        view.step = work.skipped_steps;
                    });
                }
            }
            Action::Load { model, .. } => self.meter.load(&self.facts.models[model.index()]),
            Action::Keep { .. } => state.cached += 1,
            Action::Note(Note::Left { image, .. }) => {
                state.cached = state.cached.saturating_sub(1);
                state.numbers.remove(image);
            }
            Action::Finish { request, outcome } => {
                let Some(view) = state.open.get(request).map(|open| open.view.borrow().clone()) else { return };
                if view.started.is_some() {
                    state.running = state.running.saturating_sub(1);
                } else {
                    state.waiting = state.waiting.saturating_sub(1);
                }
                let latency = time.since(view.arrived);
                let completed = *outcome == Outcome::Completed;
                let within = completed && latency <= self.facts.slo;
                state.history.ended(completed, within);
                let model = view.started.map(|(_, model)| self.facts.models[model.index()].as_str());
                let kind = view.decision.map_or(DecisionKind::Miss, |decision| decision.kind);
                let queued = view.started.map(|(start, _)| start.since(view.arrived));
                self.meter.ended(outcome, kind, model.unwrap_or("none"), latency, queued, within);
                if let Some(traffic) = &mut state.traffic {
                    traffic.ended(*request, completed && view.started.is_some());
                }
            }
            _ => {}
        }
    }
}
