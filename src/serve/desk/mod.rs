//! The desk between the network and the loop: takes requests in, follows each by what the journal records, and hands its
//! picture over. This file is the side of the network, `clerk` that of the loop; neither holds the other up: the network
//! touches a queue and nothing else, and the loop takes it whole.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use tokio::sync::{oneshot, watch};

use super::audit::Audits;
use super::lock;
use super::meter::Meter;
use super::traffic::Traffic;
use crate::live::executor::Clock;
use crate::live::picture::Picture;
use crate::live::store::{Deleted, Sources};
use crate::model::ModelId;
use crate::request::{Outcome, Request, RequestId, Reuse, TenantId};
use crate::scheduler::{Decision, Event};
use crate::time::{Duration, Time};

mod audits;
mod clerk;
mod history;

use audits::Role;
pub use clerk::Arrivals;
use clerk::{Open, State};
pub use history::{Window, WorkerNow};

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
    /// Use of the image cache that it allows.
    pub reuse: Reuse,
    /// Who is told of every change on the way, if anybody is.
    pub progress: Option<watch::Sender<View>>,
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
    over: oneshot::Receiver<View>,
}

impl Ticket {
    /// Waits for its end.
    pub async fn ended(&mut self) -> View {
        // A loop that died ended nothing: the view says so.
        (&mut self.over).await.unwrap_or_default()
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
    pub models: Vec<Arc<str>>,
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
    queue: Mutex<Queue>,
    state: Mutex<State>,
    /// Taken in, not begun, not ended. Only the loop lowers it, and it is raised with the queue locked.
    waiting: AtomicUsize,
    draining: AtomicBool,
    drained: AtomicBool,
    /// Of the loop, once it runs: its clock, and what wakes it.
    run: OnceLock<(Clock, Box<dyn Fn() + Send + Sync>)>,
    meter: Meter,
    /// `None` where hits are not audited.
    audits: Option<Audits>,
}

/// What the loop has not heard of.
#[derive(Default)]
struct Queue {
    next: u32,
    incoming: Vec<Came>,
}

/// Something that came: an arrival brings its request with it.
struct Came {
    time: Time,
    what: What,
    open: Option<Open>,
}

/// News for the loop.
enum What {
    Event(Event),
    /// Cached pictures are deleted; the loop finds which when it takes this.
    Deletion(Deletion),
}

/// A cached picture that is to be deleted.
struct Deletion {
    sources: Sources,
    number: u64,
    /// Whether what was refined from it is deleted, too.
    refined: bool,
    /// Told what was deleted.
    done: oneshot::Sender<Deleted>,
}

impl Desk {
    /// A desk at which nobody has asked for anything.
    #[must_use]
    pub fn new(facts: Facts, meter: Meter, traffic: Option<Traffic>, audits: Option<Audits>) -> Self {
        let state = Mutex::new(State::new(&facts, traffic));
        Self(Arc::new(Inner {
            facts,
            queue: Mutex::default(),
            state,
            waiting: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            drained: AtomicBool::new(false),
            run: OnceLock::new(),
            meter,
            audits,
        }))
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

    /// Its audits of hits; `None` where hits are not audited.
    #[must_use]
    pub fn audits(&self) -> Option<&Audits> {
        self.0.audits.as_ref()
    }

    /// Its counters.
    #[must_use]
    pub fn meter(&self) -> &Meter {
        &self.0.meter
    }

    fn now(&self) -> Time {
        self.0.run.get().map_or(Time::ZERO, |(clock, _)| clock.now())
    }

    fn wake(&self) {
        if let Some((_, wake)) = self.0.run.get() {
            wake();
        }
    }

    /// Whether so many requests would be taken in now.
    ///
    /// # Errors
    /// Too many wait, or nothing more is taken in.
    pub fn has_room(&self, requests: usize) -> Result<(), Refused> {
        if self.is_draining() || self.0.run.get().is_none() {
            return Err(Refused::Draining);
        }
        if self.0.waiting.load(Ordering::Relaxed) + requests > self.0.facts.max_queue {
            return Err(Refused::Full { retry_after_s: lock(&self.0.state).seconds_for(self.now(), requests) });
        }
        Ok(())
    }

    /// Takes requests in, all or none.
    ///
    /// # Errors
    /// Too many wait, or nothing more is taken in.
    pub fn submit(&self, asks: Vec<Ask>) -> Result<Vec<Ticket>, Refused> {
        let mut queue = lock(&self.0.queue);
        // Under the lock, so that nothing comes in after the loop has seen that nothing will.
        self.has_room(asks.len())?;
        self.0.waiting.fetch_add(asks.len(), Ordering::Relaxed);
        // Likewise, so that arrivals are in the order of time.
        let now = self.now();
        let first = queue.incoming.is_empty();
        let tickets = asks.into_iter().map(|ask| queue.take_in(now, ask)).collect();
        drop(queue);
        // What is not the first was announced with the first.
        if first {
            self.wake();
        }
        Ok(tickets)
    }

    /// Withdraws a request; one that has ended stays as it ended.
    pub fn cancel(&self, id: RequestId) {
        let mut queue = lock(&self.0.queue);
        let time = self.now();
        queue.incoming.push(Came { time, what: What::Event(Event::Cancelled(id)), open: None });
        drop(queue);
        self.wake();
    }

    /// Takes a cached picture out of the cache, and with `refined` what was refined from it. Returns what was deleted once
    /// nothing can find it any more.
    ///
    /// # Errors
    /// The server is being shut down.
    pub async fn delete(&self, sources: Sources, number: u64, refined: bool) -> Result<Deleted, Refused> {
        let (done, deleted) = oneshot::channel();
        {
            let mut queue = lock(&self.0.queue);
            // Under the lock: what comes before the loop is told to end is heard by it.
            if self.is_draining() {
                return Err(Refused::Draining);
            }
            let what = What::Deletion(Deletion { sources, number, refined, done });
            queue.incoming.push(Came { time: self.now(), what, open: None });
        }
        self.wake();
        deleted.await.map_err(|_| Refused::Draining)
    }

    /// Takes nothing more in; the loop ends when what is in has ended.
    pub fn drain(&self) {
        {
            let _queue = lock(&self.0.queue);
            self.0.draining.store(true, Ordering::Relaxed);
        }
        self.wake();
    }

    /// Whether nothing more is taken in.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }

    /// Seconds since the loop began.
    #[must_use]
    pub fn uptime_s(&self) -> f64 {
        self.now().seconds()
    }

    /// So many steps of a request's job are done.
    pub fn stepped(&self, id: RequestId, steps: u32) {
        lock(&self.0.state)
            .update(id, |view| view.step = view.decision.map_or(0, |decision| decision.skipped_steps) + steps);
    }

    /// What happened lately, and how things stand: (windows, workers, waiting, running, cached images).
    #[must_use]
    pub fn lately(&self) -> (Vec<Window>, Vec<WorkerNow>, [u64; 3]) {
        let waiting = self.0.waiting.load(Ordering::Relaxed);
        lock(&self.0.state).lately(self.now(), waiting)
    }

    /// Writes what traffic has come in so far.
    pub fn close_traffic(&self) -> Option<std::io::Result<()>> {
        lock(&self.0.state).traffic.take().map(Traffic::close)
    }
}

impl Queue {
    fn next_id(&mut self) -> RequestId {
        let id = RequestId(self.next);
        self.next = self.next.wrapping_add(1);
        id
    }

    fn take_in(&mut self, now: Time, ask: Ask) -> Ticket {
        let id = self.next_id();
        let deadline = ask.deadline.map(|deadline| now + deadline);
        let request = Request { deadline, reuse: ask.reuse, ..Request::new(id, now, ask.tenant) };
        let (over, ended) = oneshot::channel();
        let view = View { arrived: now, ..View::default() };
        let open = Open { request, ask, view, role: Role::default(), over: Some(over) };
        self.incoming.push(Came { time: now, what: What::Event(Event::Arrived(request)), open: Some(open) });
        Ticket { id, over: ended }
    }
}
