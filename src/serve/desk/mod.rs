//! The desk between the network and the loop: takes requests in, follows each by what the journal records, and hands its
//! picture over. This file is the side of the network, `clerk` that of the loop; neither holds the other up: the network
//! touches a queue and nothing else, and the loop takes it whole.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration as HostDuration;

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
mod figures;
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
    /// Seed and row that its noise derives from. The desk chooses them if the request does not.
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
    /// Number in the store of what it starts from, if the request's tenant may see that.
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
    /// The tenant's share of the queue is full; there may be room after so many seconds.
    ShareFull {
        /// An estimate, from how many of the tenant's were served lately.
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
    /// Tenants whose images everybody may see.
    pub public: Vec<TenantId>,
    /// Denoising steps of a full generation.
    pub total_steps: u32,
    /// What noise derives from where a request does not say.
    pub seed: u64,
    /// Within how long a request is in time, for charts and counters.
    pub slo: Duration,
    /// Requests that may wait.
    pub max_queue: usize,
    /// Requests of one tenant that may wait.
    pub max_queue_per_tenant: usize,
    /// How long the disk may take for one picture before the server is not ready.
    pub disk_limit: HostDuration,
}

impl Facts {
    /// Whether a tenant may see what another one's request made; everybody may where there are no keys.
    fn may_see(&self, tenant: TenantId, owner: Option<TenantId>) -> bool {
        self.tenants.is_empty() || owner.is_some_and(|owner| owner == tenant || self.public.contains(&owner))
    }
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
    /// The same by tenant.
    shares: Vec<AtomicUsize>,
    /// Since when no worker can draw, nanoseconds of the run; `u64::MAX` while one can.
    workerless: AtomicU64,
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
    /// Requests of each tenant so far. Noise goes by these: with the number over all, a picture would tell how many others
    /// asked for.
    asked: BTreeMap<TenantId, u64>,
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
        let shares = (0..facts.tenants.len().max(1)).map(|_| AtomicUsize::new(0)).collect();
        Self(Arc::new(Inner {
            facts,
            shares,
            queue: Mutex::default(),
            state,
            waiting: AtomicUsize::new(0),
            workerless: AtomicU64::new(u64::MAX),
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

    /// Whether so many requests of a tenant would be taken in now.
    ///
    /// # Errors
    /// Too many wait, of all or of this tenant, or nothing more is taken in.
    pub fn has_room(&self, tenant: TenantId, requests: usize) -> Result<(), Refused> {
        if self.is_draining() || self.0.run.get().is_none() {
            return Err(Refused::Draining);
        }
        if self.0.waiting.load(Ordering::Relaxed) + requests > self.0.facts.max_queue {
            return Err(Refused::Full { retry_after_s: lock(&self.0.state).seconds_for(self.now(), None, requests) });
        }
        if self.0.share(tenant).load(Ordering::Relaxed) + requests > self.0.facts.max_queue_per_tenant {
            let retry_after_s = lock(&self.0.state).seconds_for(self.now(), Some(tenant), requests);
            return Err(Refused::ShareFull { retry_after_s });
        }
        Ok(())
    }

    /// Takes requests of a tenant in, all or none.
    ///
    /// # Errors
    /// Too many wait, of all or of this tenant, or nothing more is taken in.
    pub fn submit(&self, asks: Vec<Ask>) -> Result<Vec<Ticket>, Refused> {
        let mut queue = lock(&self.0.queue);
        // Under the lock, so that nothing comes in after the loop has seen that nothing will.
        let Some(tenant) = asks.first().map(|ask| ask.tenant) else { return Ok(Vec::new()) };
        self.has_room(tenant, asks.len())?;
        self.0.waiting.fetch_add(asks.len(), Ordering::Relaxed);
        self.0.share(tenant).fetch_add(asks.len(), Ordering::Relaxed);
        // Likewise, so that arrivals are in the order of time.
        let now = self.now();
        let first = queue.incoming.is_empty();
        let tickets = asks.into_iter().map(|ask| queue.take_in(now, self.0.facts.seed, ask)).collect();
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

    /// Time since which every worker has been lost, or loading after a loss; zero while one can draw.
    #[must_use]
    pub fn without_worker(&self) -> HostDuration {
        let since = Time::from_nanoseconds(self.0.workerless.load(Ordering::Relaxed));
        // At least a nanosecond, so that it is not zero at the very beginning.
        let passed = |since| self.now().since(since).nanoseconds().max(1);
        HostDuration::from_nanos(if since == Time::MAX { 0 } else { passed(since) })
    }

    /// Time that the loop has left what came in unheard.
    #[must_use]
    pub fn unheard(&self) -> HostDuration {
        let oldest = lock(&self.0.queue).incoming.first().map(|came| came.time);
        HostDuration::from_nanos(oldest.map_or(0, |oldest| self.now().since(oldest).nanoseconds()))
    }

    /// Ends the wait for everything that has not ended: the loop is over, or is not waited for. Nobody is told an end.
    pub fn abandon(&self) {
        lock(&self.0.queue).incoming.clear();
        lock(&self.0.state).abandon();
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

    /// The same of one tenant: (windows without workers, waiting, running, cached images).
    #[must_use]
    pub fn lately_of(&self, tenant: TenantId) -> (Vec<Window>, [u64; 3]) {
        let waiting = self.0.share(tenant).load(Ordering::Relaxed);
        lock(&self.0.state).lately_of(tenant, self.now(), waiting)
    }

    /// Folder of the recording, while traffic is being recorded.
    #[must_use]
    pub fn recording(&self) -> Option<std::path::PathBuf> {
        lock(&self.0.state).traffic.as_ref().and_then(Traffic::folder).map(std::path::Path::to_owned)
    }

    /// Writes the traffic and audits that have come in so far, as far as the disk does within `patience`.
    pub fn close_files(&self, patience: HostDuration) -> Option<std::io::Result<()>> {
        if let Some(audits) = &self.0.audits {
            audits.close(patience);
        }
        let traffic = lock(&self.0.state).traffic.take();
        traffic.map(|traffic| traffic.close(patience))
    }
}

impl Inner {
    /// Requests of a tenant that wait.
    fn share(&self, tenant: TenantId) -> &AtomicUsize {
        &self.shares[tenant.0 as usize]
    }
}

impl Queue {
    fn next_id(&mut self) -> RequestId {
        let id = RequestId(self.next);
        self.next = self.next.wrapping_add(1);
        id
    }

    fn take_in(&mut self, now: Time, seed: u64, mut ask: Ask) -> Ticket {
        let asked = self.asked.entry(ask.tenant).or_default();
        ask.seed = ask.seed.or(Some((seed, *asked)));
        *asked += 1;
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
