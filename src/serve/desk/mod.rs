//! Desk between the network and the loop. It accepts requests, follows each request by the records of the journal, and
//! delivers its picture. This file is the side of the network, `clerk` the side of the loop. Neither side blocks the
//! other: the network only adds to a queue, and the loop takes the whole queue at once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration as HostDuration;

use tokio::sync::{oneshot, watch};

use super::audit::Audits;
use super::lock;
use super::meter::Meter;
use super::traffic::Traffic;
use crate::live::details::Details;
use crate::live::executor::Clock;
use crate::live::picture::Picture;
use crate::live::pipeline::Cut;
use crate::live::store::{Deleted, Sources};
use crate::model::ModelId;
use crate::request::{self, Outcome, Place, Request, RequestId, Reuse, TenantId};
use crate::scheduler::{Decision, Event};
use crate::time::{Duration, Time};

mod audits;
mod clerk;
mod figures;
mod history;

use audits::Role;
pub use clerk::Arrivals;
use clerk::{ClerkState, Open};
pub use history::{Window, WorkerNow};

/// Word in place of a decision's for a picture that was refined from one that its client had sent.
pub const EDIT: &str = "edit";

/// Request for one picture.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Prompt of the picture.
    pub prompt: Arc<str>,
    /// Tenant of the request.
    pub tenant: TenantId,
    /// Seed and row from which the noise derives. The desk chooses them if the client gave no seed.
    pub seed: Option<(u64, u64)>,
    /// Time after the arrival within which the picture should be done, if there is a deadline.
    pub deadline: Option<Duration>,
    /// Use of the image cache that the request allows.
    pub reuse: Reuse,
    /// Wishes beside the prompt, as the scheduler knows them.
    pub wishes: request::Ask,
    /// The same, as the workers know them.
    pub details: Details,
    /// Source that the request brings, if it brings one: it is nowhere else, and goes with the request.
    pub source: Option<Arc<Picture>>,
    /// Channel that receives every change of the request's state, if the request is followed.
    pub progress: Option<watch::Sender<View>>,
}

/// State of a request.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Time of the arrival.
    pub arrived: Time,
    /// Decision for the request, once it is routed.
    pub decision: Option<Decision>,
    /// Number in the image store of the request's source, if the request's tenant may see that picture.
    pub source: Option<u64>,
    /// Time at which a worker began the request, and the model. If the request began more than once, the last time
    /// counts.
    pub started: Option<(Time, ModelId)>,
    /// Total and skipped denoising steps of the job that began last.
    pub steps: Option<(u32, u32)>,
    /// Number of denoising steps that are done, skipped steps included.
    pub step: u32,
    /// Parts of the prompt that the model's text encoders did not see.
    pub cuts: Vec<Cut>,
    /// Time and outcome of the request's end.
    pub ended: Option<(Time, Outcome)>,
    /// Picture of the request, if it completed.
    pub picture: Option<Arc<Picture>>,
}

/// Handle of an accepted request.
#[derive(Debug)]
pub struct Ticket {
    /// Number of the request.
    pub id: RequestId,
    over: oneshot::Receiver<View>,
}

impl Ticket {
    /// Waits for the end of the request and returns the request's last state.
    pub async fn ended(&mut self) -> View {
        // A loop that died ended no request: the default view has no end.
        (&mut self.over).await.unwrap_or_default()
    }
}

/// Reason why a request is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Full queue.
    Full {
        /// Estimated seconds until there is room, from the number of requests that were served lately.
        retry_after_s: u64,
    },
    /// Full share of the queue of the request's tenant.
    ShareFull {
        /// Estimated seconds until there is room, from the number of the tenant's requests that were served lately.
        retry_after_s: u64,
    },
    /// Server that accepts no requests, because it is shutting down or its loop does not run yet.
    Draining,
}

/// Constant facts about the run.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Names of the models, best first.
    pub models: Vec<Arc<str>>,
    /// Types of the GPUs, by worker.
    pub gpus: Vec<String>,
    /// Models that the workers hold at the start, by worker.
    pub initial: Vec<ModelId>,
    /// Names of the tenants, by number; empty without keys.
    pub tenants: Vec<String>,
    /// Tenants whose images all tenants may see.
    pub public: Vec<TenantId>,
    /// Number of denoising steps of a full generation.
    pub total_steps: u32,
    /// Seed from which the noise of a request derives if the client gave no seed.
    pub seed: u64,
    /// Latency within which a request counts as in time, for charts and counters.
    pub slo: Duration,
    /// Number of requests that may wait.
    pub max_queue: usize,
    /// Number of requests of one tenant that may wait.
    pub max_queue_per_tenant: usize,
    /// Time that the disk may take for one picture before the server counts as not ready.
    pub disk_limit: HostDuration,
}

impl Facts {
    /// Returns whether a tenant may see the picture of an owner's request. Without keys everybody may see every
    /// picture.
    fn may_see(&self, tenant: TenantId, owner: Option<TenantId>) -> bool {
        self.tenants.is_empty() || owner.is_some_and(|owner| owner == tenant || self.public.contains(&owner))
    }
}

/// Desk between the network and the loop. Clones share the same desk.
#[derive(Clone)]
pub struct Desk(Arc<Inner>);

struct Inner {
    facts: Facts,
    // `submit` locks `state` while it holds `queue`. No thread locks them in the other order, so that they cannot
    // deadlock.
    queue: Mutex<Queue>,
    state: Mutex<ClerkState>,
    /// Number of accepted requests that have neither begun nor ended. Only the loop lowers it, and it is raised only
    /// with the queue locked.
    waiting: AtomicUsize,
    /// Number of such requests, by tenant.
    shares: Vec<AtomicUsize>,
    /// Time since which no worker can generate images, in nanoseconds of the run; `u64::MAX` while a worker can.
    workerless: AtomicU64,
    draining: AtomicBool,
    drained: AtomicBool,
    /// Clock of the loop, and function that wakes the loop, once the loop runs.
    run: OnceLock<(Clock, Box<dyn Fn() + Send + Sync>)>,
    meter: Meter,
    /// Audits of hits; `None` if hits are not audited.
    audits: Option<Audits>,
}

/// Requests and other news that the loop has not taken yet.
#[derive(Default)]
struct Queue {
    next: u32,
    /// Number of requests so far, by tenant. Noise derives from these numbers: with one number over all tenants, a
    /// picture would reveal how many pictures other tenants requested.
    asked: BTreeMap<TenantId, u64>,
    incoming: Vec<Arrival>,
}

/// Entry of the queue. The entry of an arrival also has the request.
struct Arrival {
    time: Time,
    what: News,
    open: Option<Open>,
}

/// Kind of an entry of the queue.
enum News {
    Event(Event),
    /// Deletion of cached pictures. The loop finds the pictures when it takes the deletion.
    Deletion(Deletion),
}

/// Order to delete a cached picture.
struct Deletion {
    sources: Sources,
    number: u64,
    /// True if the pictures that were refined from it are deleted, too.
    refined: bool,
    /// Channel that receives what was deleted.
    done: oneshot::Sender<Deleted>,
}

impl Desk {
    /// Makes a desk without requests.
    #[must_use]
    pub fn new(facts: Facts, meter: Meter, traffic: Option<Traffic>, audits: Option<Audits>) -> Self {
        let state = Mutex::new(ClerkState::new(&facts, traffic));
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

    /// Sets the clock of the loop and the function that wakes the loop. From then on the desk accepts requests.
    pub fn opens(&self, clock: Clock, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.0.run.set((clock, Box::new(wake)));
    }

    /// Returns the facts about the run.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.0.facts
    }

    /// Returns the audits of hits, or `None` if hits are not audited.
    #[must_use]
    pub fn audits(&self) -> Option<&Audits> {
        self.0.audits.as_ref()
    }

    /// Returns the metrics of the server.
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

    /// Checks that a number of requests of a tenant would be accepted now.
    ///
    /// # Errors
    /// Too many requests wait, of all tenants or of this one, or the desk accepts no requests.
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

    /// Accepts the pictures of one request, all or none.
    ///
    /// # Errors
    /// Too many requests wait, of all tenants or of this one, or the desk accepts no requests.
    pub fn submit(&self, asks: Vec<Ask>) -> Result<Vec<Ticket>, Refused> {
        let mut queue = lock(&self.0.queue);
        // The check is made under the lock, so that no request is accepted after the loop has seen that none will
        // follow.
        let Some(tenant) = asks.first().map(|ask| ask.tenant) else { return Ok(Vec::new()) };
        self.has_room(tenant, asks.len())?;
        self.0.waiting.fetch_add(asks.len(), Ordering::Relaxed);
        self.0.share(tenant).fetch_add(asks.len(), Ordering::Relaxed);
        // The time is read under the lock as well, so that arrivals are in the order of time.
        let now = self.now();
        let first = queue.incoming.is_empty();
        let of = asks.len() as u16;
        queue.make_room(u32::from(of));
        let places = (0..of).map(|at| Place { at, of });
        let tickets = asks.into_iter().zip(places);
        let tickets = tickets.map(|(ask, place)| queue.take_in(now, self.0.facts.seed, ask, place)).collect();
        drop(queue);
        // The loop was woken for the first entry of the queue, and takes all of them.
        if first {
            self.wake();
        }
        Ok(tickets)
    }

    /// Withdraws a request. A request that has ended keeps its outcome.
    pub fn cancel(&self, id: RequestId) {
        let mut queue = lock(&self.0.queue);
        let time = self.now();
        queue.incoming.push(Arrival { time, what: News::Event(Event::Cancelled(id)), open: None });
        drop(queue);
        self.wake();
    }

    /// Deletes a cached picture, and with `refined` the pictures that were refined from it. Returns what was deleted,
    /// once no request can find these pictures any more.
    ///
    /// # Errors
    /// The server is being shut down.
    pub async fn delete(&self, sources: Sources, number: u64, refined: bool) -> Result<Deleted, Refused> {
        let (done, deleted) = oneshot::channel();
        {
            let mut queue = lock(&self.0.queue);
            // The check is made under the lock: the loop takes every order that comes before it is told to end.
            if self.is_draining() {
                return Err(Refused::Draining);
            }
            let what = News::Deletion(Deletion { sources, number, refined, done });
            queue.incoming.push(Arrival { time: self.now(), what, open: None });
        }
        self.wake();
        deleted.await.map_err(|_| Refused::Draining)
    }

    /// Stops accepting requests. The loop ends when all accepted requests have ended.
    pub fn drain(&self) {
        {
            // With the lock held, each request either comes before the flag, and is heard, or sees it.
            let _queue = lock(&self.0.queue);
            self.0.draining.store(true, Ordering::Relaxed);
        }
        self.wake();
    }

    /// Returns whether the desk has stopped accepting requests.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }

    /// Returns the time for which every worker has been lost, or loading after a loss; zero while a worker can generate
    /// images.
    #[must_use]
    pub fn without_worker(&self) -> HostDuration {
        let since = Time::from_nanoseconds(self.0.workerless.load(Ordering::Relaxed));
        // The result is at least a nanosecond, so that it is not zero at the very beginning.
        let passed = |since| self.now().since(since).nanoseconds().max(1);
        HostDuration::from_nanos(if since == Time::MAX { 0 } else { passed(since) })
    }

    /// Returns the time for which the oldest entry of the queue has waited for the loop; zero if the queue is empty.
    #[must_use]
    pub fn unheard(&self) -> HostDuration {
        let oldest = lock(&self.0.queue).incoming.first().map(|came| came.time);
        HostDuration::from_nanos(oldest.map_or(0, |oldest| self.now().since(oldest).nanoseconds()))
    }

    /// Ends the wait for all requests that have not ended, because the loop is over or is not waited for. The callers
    /// that wait get no end.
    pub fn abandon(&self) {
        lock(&self.0.queue).incoming.clear();
        lock(&self.0.state).abandon();
    }

    /// Returns the seconds since the loop began.
    #[must_use]
    pub fn uptime_s(&self) -> f64 {
        self.now().seconds()
    }

    /// Notes the number of denoising steps of a request's job that are done.
    pub fn stepped(&self, id: RequestId, steps: u32) {
        lock(&self.0.state).update(id, |view| view.step = view.steps.map_or(0, |(_, skipped)| skipped) + steps);
    }

    /// Returns the latest windows of time, the workers, and the numbers of waiting requests, running requests and
    /// cached images.
    #[must_use]
    pub fn recent(&self) -> (Vec<Window>, Vec<WorkerNow>, [u64; 3]) {
        let waiting = self.0.waiting.load(Ordering::Relaxed);
        lock(&self.0.state).recent(self.now(), waiting)
    }

    /// Returns the latest windows of time of one tenant, without workers, and its numbers of waiting requests, running
    /// requests and cached images.
    #[must_use]
    pub fn lately_of(&self, tenant: TenantId) -> (Vec<Window>, [u64; 3]) {
        let waiting = self.0.share(tenant).load(Ordering::Relaxed);
        lock(&self.0.state).lately_of(tenant, self.now(), waiting)
    }

    /// Returns the folder of the recording, while traffic is being recorded.
    #[must_use]
    pub fn recording(&self) -> Option<std::path::PathBuf> {
        lock(&self.0.state).traffic.as_ref().and_then(Traffic::folder).map(std::path::Path::to_owned)
    }

    /// Ends the files of recorded traffic and audits: waits until they are on disk, each for at most `patience`.
    /// Returns the result for the traffic, if it is recorded.
    pub fn close_files(&self, patience: HostDuration) -> Option<std::io::Result<()>> {
        if let Some(audits) = &self.0.audits {
            audits.close(patience);
        }
        let traffic = lock(&self.0.state).traffic.take();
        traffic.map(|traffic| traffic.close(patience))
    }
}

impl Inner {
    /// Returns the number of a tenant's requests that wait.
    fn share(&self, tenant: TenantId) -> &AtomicUsize {
        &self.shares[tenant.0 as usize]
    }
}

impl Queue {
    fn next_id(&mut self) -> RequestId {
        let id = RequestId(self.next);
        // Requests of the same number ended long ago: four thousand million others came between them.
        self.next = self.next.wrapping_add(1);
        id
    }

    /// Sees to it that so many numbers follow one another: those of the pictures of one request do.
    fn make_room(&mut self, numbers: u32) {
        if self.next.checked_add(numbers).is_none() {
            self.next = 0;
        }
    }

    fn take_in(&mut self, now: Time, seed: u64, mut ask: Ask, place: Place) -> Ticket {
        let asked = self.asked.entry(ask.tenant).or_default();
        ask.seed = ask.seed.or(Some((seed, *asked)));
        *asked += 1;
        let id = self.next_id();
        let deadline = ask.deadline.map(|deadline| now + deadline);
        let (reuse, wishes) = (ask.reuse, ask.wishes);
        let request = Request { deadline, reuse, ask: wishes, place, ..Request::new(id, now, ask.tenant) };
        let (over, ended) = oneshot::channel();
        let view = View { arrived: now, ..View::default() };
        let open = Open { request, ask, view, role: Role::default(), over: Some(over) };
        self.incoming.push(Arrival { time: now, what: News::Event(Event::Arrived(request)), open: Some(open) });
        Ticket { id, over: ended }
    }
}
