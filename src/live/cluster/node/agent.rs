//! Agent of a device: takes orders, has its hand carry them out, and answers. Every order may come twice, and every
//! answer is repeated until the scheduler says that it was heard: what comes twice changes nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::connection::State;
use async_nats::{HeaderMap, Message, Subscriber};
use futures_util::StreamExt as _;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::super::connection::{ClusterError, REQUEST};
use super::super::hub::now;
use super::super::lease::read_lease;
use super::super::protocol::{Answer, Became, Lease, Order, PROTOCOL, Presence, Totals, What, read, written};
use super::hand::{Hand, Job, Report, Unsettled};
use super::{NodeOptions, Shared};
use crate::live::settings::Device;

/// Time after which an answer that was not heard is repeated; the time doubles up to the longest.
const AGAIN: Duration = Duration::from_secs(1);
const LONGEST_AGAIN: Duration = Duration::from_secs(30);
/// Time that a worker that ends waits for its last answer to be heard.
const FAREWELL: Duration = Duration::from_secs(10);
/// Time between two looks at what is due.
const TICK: Duration = Duration::from_millis(100);

/// Order that the hand carries out.
struct Running {
    number: u64,
    stop: Arc<AtomicBool>,
}

/// Answer that ended an order, until it was heard.
struct Ended {
    number: u64,
    bytes: Vec<u8>,
    at: Instant,
    again: Instant,
    pause: Duration,
}

/// Agent of a device.
pub(super) struct Agent {
    shared: Arc<Shared>,
    presence: Presence,
    heartbeat: Duration,
    jobs: Sender<Job>,
    reports: UnboundedReceiver<Report>,
    totals: Arc<Mutex<Totals>>,
    unsettled: Arc<Unsettled>,
    lease: Option<Lease>,
    /// Session whose orders were refused last, so that it is said once.
    refused: String,
    latest: u64,
    running: Option<Running>,
    /// Order that waits until the hand has stopped the one before it.
    next: Option<Order>,
    ended: Option<Ended>,
}

impl Agent {
    /// Starts the hand of a device.
    pub(super) fn start(
        shared: Arc<Shared>,
        presence: Presence,
        device: Device,
        options: &NodeOptions,
    ) -> Result<Self, ClusterError> {
        let (jobs, orders) = channel();
        let (to_agent, reports) = unbounded_channel();
        let (totals, unsettled) = (Arc::<Mutex<Totals>>::default(), Arc::<Unsettled>::default());
        let hand = Hand {
            shared: shared.clone(),
            device,
            handle: Handle::current(),
            reports: to_agent,
            totals: totals.clone(),
            unsettled: unsettled.clone(),
            paint: None,
            model: None,
            embed: None,
            line: None,
        };
        std::thread::Builder::new().name(presence.worker.clone()).spawn(move || hand.run(&orders))?;
        let heartbeat = options.heartbeat;
        let (lease, running, next, ended) = (None, None, None, None);
        let refused = String::new();
        Ok(Self {
            shared,
            presence,
            heartbeat,
            jobs,
            reports,
            totals,
            unsettled,
            lease,
            refused,
            latest: 0,
            running,
            next,
            ended,
        })
    }

    /// Takes orders until the node is to end and nothing is left to do.
    pub(super) async fn run(mut self) {
        let names = self.shared.connection.names.clone();
        let subject = names.orders(&self.presence.worker);
        let mut orders = loop {
            match self.shared.connection.client.subscribe(subject.clone()).await {
                Ok(orders) => break orders,
                Err(error) => (self.shared.say)(&format!("{subject} cannot be listened to: {error}")),
            }
            tokio::time::sleep(AGAIN).await;
        };
        let shown = Arc::new(Mutex::new(self.presence.clone()));
        let heart = tokio::spawn(beat(self.shared.clone(), shown.clone(), self.totals.clone(), self.heartbeat));
        self.serve(&mut orders, &shown).await;
        heart.abort();
        // As the key-value protocol marks a key that is gone.
        let mut gone = HeaderMap::new();
        gone.insert("KV-Operation", "DEL");
        let subject = names.heartbeat(&self.presence.worker);
        let _ = self.shared.connection.client.publish_with_headers(subject, gone, "".into()).await;
    }

    async fn serve(&mut self, orders: &mut Subscriber, shown: &Mutex<Presence>) {
        let mut tick = tokio::time::interval(TICK);
        let mut since = None;
        loop {
            tokio::select! {
                order = orders.next() => match order {
                    Some(message) => self.take(&message).await,
                    None => return,
                },
                Some(report) = self.reports.recv() => self.report(report).await,
                _ = tick.tick() => {
                    self.repeat().await;
                    if (self.shared.ending)() {
                        let since = *since.get_or_insert_with(now);
                        if self.leave(shown, since).await {
                            return;
                        }
                    }
                }
            }
        }
    }

    /// Says that the worker leaves. Returns whether nothing is left to do.
    async fn leave(&mut self, shown: &Mutex<Presence>, since: Instant) -> bool {
        if !self.presence.leaving {
            self.presence.leaving = true;
            let told = {
                let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
                shown.leaving = true;
                written(&*shown)
            };
            // The scheduler hears at once, and not at the next heartbeat: it gives no more orders.
            let subject = self.shared.connection.names.heartbeat(&self.presence.worker);
            let _ = self.shared.connection.client.publish(subject, told.into()).await;
            self.shared.connection.flush().await;
            (self.shared.say)(&format!("{} finishes what it does, and ends", self.presence.worker));
            return false;
        }
        let heard = self.ended.as_ref().is_none_or(|ended| ended.at.max(since).elapsed() > FAREWELL);
        self.running.is_none() && self.next.is_none() && heard && since.elapsed() > 2 * TICK
    }

    async fn take(&mut self, message: &Message) {
        let order: Order = match read("the scheduler", &message.payload) {
            Ok(order) => order,
            Err(why) => {
                if self.refused != why {
                    (self.shared.say)(&format!("{}: {why}", self.presence.worker));
                    self.refused.clone_from(&why);
                }
                // The answer tells the scheduler the version of this worker.
                self.answer("", 0, Became::Refused(why)).await;
                return;
            }
        };
        if !self.knows(&order.session).await {
            return;
        }
        match order.what {
            What::Noted => {
                if self.ended.as_ref().is_some_and(|ended| ended.number == order.number) {
                    self.ended = None;
                    self.unsettled.forget();
                }
            }
            What::Stop => {
                if let Some(running) = self.running.as_ref().filter(|running| running.number == order.number) {
                    running.stop.store(true, Ordering::Relaxed);
                }
                self.next.take_if(|next| next.number == order.number);
            }
            What::Load { .. } | What::Draw(_) => self.begin(order).await,
        }
    }

    async fn begin(&mut self, order: Order) {
        let number = order.number;
        if number < self.latest {
            return; // It is out of date: the scheduler waits for a later one.
        }
        if number == self.latest {
            if let Some(ended) = self.ended.as_ref().filter(|ended| ended.number == number) {
                self.publish(ended.bytes.clone()).await;
            } else if self.running.is_some() || self.next.is_some() {
                let session = order.session.clone();
                self.answer(&session, number, Became::Taken).await;
            }
            return;
        }
        self.latest = number;
        self.ended = None;
        match &self.running {
            // The scheduler waits for the new order only.
            Some(running) => {
                running.stop.store(true, Ordering::Relaxed);
                self.next = Some(order);
            }
            None => self.start_job(order),
        }
    }

    fn start_job(&mut self, order: Order) {
        let Some(lease) = self.lease.clone() else { return };
        let Order { number, ticket, what, .. } = order;
        let stop = Arc::new(AtomicBool::new(false));
        self.running = Some(Running { number, stop: stop.clone() });
        // The hand ends with its agent only.
        let _ = self.jobs.send(Job { lease, number, ticket, what, stop });
    }

    /// Returns whether the orders of a session are to be taken: it is the one that has the lease.
    async fn knows(&mut self, session: &str) -> bool {
        if self.lease.as_ref().is_some_and(|lease| lease.session == session) {
            return true;
        }
        let lease = tokio::time::timeout(REQUEST, read_lease(&self.shared.connection)).await;
        match lease.ok().flatten() {
            Some(lease) if lease.session == session => {
                (self.shared.say)(&format!(
                    "{} takes orders of the scheduler {} (modm {})",
                    self.presence.worker,
                    &session[..session.len().min(8)],
                    lease.version
                ));
                // What the scheduler before wanted, nobody waits for.
                if let Some(running) = &self.running {
                    running.stop.store(true, Ordering::Relaxed);
                }
                (self.next, self.ended, self.latest, self.lease) = (None, None, 0, Some(lease));
                true
            }
            _ => {
                if self.refused != session {
                    session.clone_into(&mut self.refused);
                    (self.shared.say)(&format!(
                        "{}: orders of a scheduler without the lease of the cluster are not taken",
                        self.presence.worker
                    ));
                }
                false
            }
        }
    }

    async fn report(&mut self, Report { session, number, became }: Report) {
        let ends = became.is_end();
        let current = self.running.as_ref().is_some_and(|running| running.number == number)
            && self.lease.as_ref().is_some_and(|lease| lease.session == session);
        if !ends {
            if current {
                self.answer(&session, number, became).await;
            }
            return;
        }
        self.running = None;
        // Without a later order, the scheduler waits for this one.
        if current && self.next.is_none() {
            // The scheduler knows a picture by its arrival: nothing is said of one unless no order and no receipt
            // follows.
            let is_known = matches!(became, Became::Drawn);
            let bytes = self.written(&session, number, became);
            if !is_known {
                self.publish(bytes.clone()).await;
            }
            let at = now();
            self.ended = Some(Ended { number, bytes, at, again: at + AGAIN, pause: AGAIN });
        }
        if let Some(order) = self.next.take() {
            self.start_job(order);
        }
    }

    async fn repeat(&mut self) {
        let Some(ended) = self.ended.as_mut().filter(|ended| now() >= ended.again) else { return };
        ended.pause = (2 * ended.pause).min(LONGEST_AGAIN);
        ended.again = now() + ended.pause;
        let bytes = ended.bytes.clone();
        self.publish(bytes).await;
    }

    fn written(&self, session: &str, number: u64, what: Became) -> Vec<u8> {
        let (session, life) = (session.to_owned(), self.presence.life.clone());
        written(&Answer { protocol: PROTOCOL, session, number, life, what })
    }

    async fn answer(&self, session: &str, number: u64, what: Became) {
        self.publish(self.written(session, number, what)).await;
    }

    async fn publish(&self, bytes: Vec<u8>) {
        let subject = self.shared.connection.names.answers(&self.presence.worker);
        // What is lost on the way is repeated.
        let _ = self.shared.connection.client.publish(subject, bytes.into()).await;
    }
}

/// Says again and again that the worker is there. The bucket keeps what is said for those who ask later; those who
/// listen need no bucket.
async fn beat(shared: Arc<Shared>, shown: Arc<Mutex<Presence>>, totals: Arc<Mutex<Totals>>, every: Duration) {
    loop {
        let (subject, value) = {
            let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
            shown.totals = *totals.lock().unwrap_or_else(PoisonError::into_inner);
            (shared.connection.names.heartbeat(&shown.worker), written(&*shown))
        };
        // Heartbeats of a time without a connection are of no use later, so that none is kept for then.
        if shared.connection.client.connection_state() == State::Connected {
            let _ = shared.connection.client.publish(subject, value.into()).await;
        }
        tokio::time::sleep(every).await;
    }
}
