//! Scheduler's side of a cluster: hears heartbeats and answers, keeps the lease, takes pictures in, and carries the
//! orders of [`RemotePainter`]s. The scheduler core alone decides; nothing is queued here.

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use async_nats::Message;
use futures_util::StreamExt as _;
use tokio::runtime::{Builder, Handle, Runtime};

use super::RemotePainter;
use super::connection::{ClusterError, Connection, Say};
use super::lease::{Held, lease};
use super::painter::transfer;
use super::pictures::{Arrived, Permits, PictureServer};
use super::protocol::{Answer, Became, Order, PROTOCOL, Presence, Setup, What, read, written};
use super::roster::{Change, Roster};
use super::settings::ClusterSettings;
use crate::input::hexadecimal;
use crate::live::executor::{Away, Elsewhere, Standing};
use crate::live::store::Sources;
use crate::scheduler::WorkerId;

/// Width and height of a large picture, for the time that one may be on its way.
const LARGE: [u32; 2] = [4096; 2];
/// Time that the end of a scheduler waits for the NATS server.
const END: Duration = Duration::from_secs(2);

#[expect(clippy::disallowed_methods, reason = "heartbeats are judged by the host's clock")]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// Makes a name that no other has, and that nobody can guess.
pub(super) fn secret() -> String {
    // The generator of the standard library's hash maps is seeded by the system, and is not made for secrets.
    let mut bytes = [0; 16];
    rustls_random(&mut bytes);
    hexadecimal(&bytes)
}

fn rustls_random(bytes: &mut [u8]) {
    use tokio_rustls::rustls::crypto::ring::default_provider;
    default_provider().secure_random.fill(bytes).expect("the system has random numbers");
}

/// News of an order.
#[derive(Debug)]
pub(super) enum Heard {
    Became(Became),
    Gone(String),
}

/// Latest order of a place.
#[derive(Debug, Default)]
struct Latest {
    number: u64,
    /// End that hears of the order while it runs.
    waits: Option<Sender<Heard>>,
}

struct State {
    roster: Roster,
    latest: Vec<Latest>,
    /// Orders whose pictures are in memory, by worker and number: their workers are told once they are not.
    unsettled: BTreeSet<(String, u64)>,
}

/// Parts that painters and tasks share.
pub(super) struct Hub {
    connection: Connection,
    session: String,
    handle: Handle,
    permits: Permits,
    pub(super) setup: Setup,
    pub(super) settings: ClusterSettings,
    state: Mutex<State>,
    joined: Condvar,
    away: OnceLock<Box<dyn Fn(Away) + Send + Sync>>,
    sources: Arc<OnceLock<Sources>>,
    say: Say,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("session", &self.session).finish_non_exhaustive()
    }
}

impl Hub {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, heartbeat: &Message) {
        // A worker that was removed by hand is as one that is silent.
        if heartbeat.payload.is_empty() {
            return;
        }
        let name = heartbeat.subject.rsplit('.').next().unwrap_or_default();
        match read::<Presence>(&format!("worker {name}"), &heartbeat.payload) {
            // A worker speaks for itself only: its subject is what its credentials allow.
            Ok(presence) if presence.worker == name => self.change(|roster| roster.hear(presence, now())),
            Ok(_) => (self.say)(&format!("worker {name} calls itself another: it is not used")),
            Err(why) => self.change(|roster| roster.fault(name, why)),
        }
    }

    /// Changes who is there, and tells everybody whom it concerns.
    fn change(&self, change: impl FnOnce(&mut Roster) -> Vec<Change>) {
        let mut told = Vec::new();
        let changes = {
            let State { roster, latest, .. } = &mut *self.state();
            let changes = change(roster);
            for change in &changes {
                if let Change::Gone { worker, left, why } = change {
                    // An order that runs hears of it; without one, the executor does.
                    match latest[worker.index()].waits.take() {
                        Some(waits) => drop(waits.send(Heard::Gone(why.clone()))),
                        None => told.push(Away { worker: *worker, left: *left, why: why.clone() }),
                    }
                }
            }
            changes
        };
        for change in changes {
            match change {
                Change::Joined(worker, name) => {
                    (self.say)(&format!("worker {}: {name} has joined", worker.0));
                    self.joined.notify_all();
                }
                Change::Waits(name) => (self.say)(&format!("{name} waits for a place: all of its GPU type are taken")),
                Change::NotTaken(why) => (self.say)(&format!("not taken: {why}")),
                Change::Refused(name, why) => (self.say)(&format!("{name} is not used: {why}")),
                Change::Gone { worker, why, .. } => (self.say)(&format!("worker {} is gone: {why}", worker.0)),
            }
        }
        if let Some(away) = self.away.get() {
            told.into_iter().for_each(away);
        }
    }

    fn answer(&self, message: &Message) {
        let name = message.subject.rsplit('.').next().unwrap_or_default();
        let Answer { session, number, life, what, .. } = match read(&format!("worker {name}"), &message.payload) {
            Ok(answer) => answer,
            Err(why) => return self.change(|roster| roster.fault(name, why)),
        };
        if session != self.session {
            return;
        }
        let ends = what.is_end();
        let outdated = {
            let State { roster, latest, unsettled } = &mut *self.state();
            let place = roster.worker(name).filter(|place| roster.at(*place).is_some_and(|there| there.life == life));
            let latest = place.map(|place| &mut latest[place.index()]).filter(|latest| latest.number == number);
            match latest.and_then(|latest| if ends { latest.waits.take() } else { latest.waits.clone() }) {
                Some(waits) => waits.send(Heard::Became(what)).is_err(),
                None => !unsettled.contains(&(name.to_owned(), number)),
            }
        };
        // Nobody waits for it any more: the worker may forget it. It changes nothing here.
        if outdated && ends {
            self.send(name, &self.order(number, String::new(), What::Noted));
        }
    }

    fn order(&self, number: u64, ticket: String, what: What) -> Order {
        Order { protocol: PROTOCOL, session: self.session.clone(), number, ticket, what }
    }

    fn send(&self, name: &str, order: &Order) {
        self.publish(self.connection.names.orders(name), written(order));
    }

    /// Sends bytes. What cannot be sent now is sent once the connection is back, or never: whoever waits sends it
    /// again.
    fn publish(&self, subject: String, bytes: Vec<u8>) {
        let client = self.connection.client.clone();
        self.handle.spawn(async move {
            let _ = client.publish(subject, bytes.into()).await;
        });
    }
}

/// Order that runs on a worker elsewhere.
#[derive(Debug)]
pub(super) struct Running {
    hub: Arc<Hub>,
    worker: WorkerId,
    pub(super) name: String,
    number: u64,
    ticket: String,
    bytes: Vec<u8>,
    pub(super) heard: Receiver<Heard>,
}

impl Running {
    /// Sends an order to the worker at a place. A drawing is permitted to send a picture of this width and height.
    /// Returns `None` if no worker is there.
    pub(super) fn begin(hub: &Arc<Hub>, worker: WorkerId, picture: Option<[u32; 2]>, what: What) -> Option<Self> {
        let (waits, heard) = channel();
        let came = waits.clone();
        let ticket = secret();
        let (name, number) = {
            let State { roster, latest, .. } = &mut *hub.state();
            let name = roster.at(worker)?.worker.clone();
            let latest = latest.get_mut(worker.index())?;
            latest.number += 1;
            latest.waits = Some(waits);
            let number = latest.number;
            // A worker that begins something does not leave.
            let _ = roster.set_busy(worker, true);
            (name, number)
        };
        if let (Some(size), What::Draw(draw)) = (picture, &what) {
            // A picture that has come ends its order: no other message is waited for.
            let came = Box::new(move || drop(came.send(Heard::Became(Became::Drawn))));
            hub.permits.grant(&ticket, size, draw.source, came);
        }
        let bytes = written(&hub.order(number, ticket.clone(), what));
        let running = Self { hub: hub.clone(), worker, name, number, ticket, bytes, heard };
        running.send();
        Some(running)
    }

    /// Sends the order, once more if it may not have come through.
    pub(super) fn send(&self) {
        self.hub.publish(self.hub.connection.names.orders(&self.name), self.bytes.clone());
    }

    /// Tells the worker to stop at its next step.
    pub(super) fn stop(&self) {
        self.hub.send(&self.name, &self.hub.order(self.number, String::new(), What::Stop));
    }

    /// Returns the picture that came for the order, if one did. Its worker forgets the picture once nobody holds it
    /// here any more: it is on disk then, or in the hands of whoever asked for it.
    pub(super) fn picture(&self) -> Option<Arrived> {
        let Arrived { picture, cuts, embedding } = self.hub.permits.end(&self.ticket)?;
        let (hub, name, number) = (self.hub.clone(), self.name.clone(), self.number);
        hub.state().unsettled.insert((name.clone(), number));
        let worker = self.worker;
        let noted = move || {
            let is_latest = {
                let mut state = hub.state();
                state.unsettled.remove(&(name.clone(), number));
                state.latest[worker.index()].number == number
            };
            // A later order has told the worker already that this one is over.
            if is_latest {
                hub.send(&name, &hub.order(number, String::new(), What::Noted));
            }
        };
        Some(Arrived { picture: picture.with_receipt(Box::new(noted)), cuts, embedding })
    }

    /// Tells the worker that its answer was heard, where no picture is to be kept.
    pub(super) fn noted(&self) {
        self.hub.send(&self.name, &self.hub.order(self.number, String::new(), What::Noted));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.hub.permits.end(&self.ticket));
        let worker = self.worker;
        self.hub.state().latest[worker.index()].waits = None;
        self.hub.change(|roster| roster.set_busy(worker, false));
    }
}

/// Cluster of workers on other machines, as a scheduler has it.
#[derive(Debug)]
pub struct Cluster {
    hub: Arc<Hub>,
    held: Arc<tokio::sync::Mutex<Option<Held>>>,
    runtime: Option<Runtime>,
}

impl Cluster {
    /// Connects to the NATS server, takes the lease of the cluster and begins to hear workers. The cluster has a place
    /// for a worker of each of these GPU types. Folders are those of `setup`, by hash and name. `say` takes sentences
    /// for the log.
    ///
    /// # Errors
    /// Returns an error if the server cannot be reached, if another scheduler has the cluster, or if the address for
    /// pictures cannot be listened on.
    pub fn open(
        settings: ClusterSettings,
        setup: Setup,
        (gpus, folders): (Vec<String>, Vec<(String, String)>),
        say: Say,
    ) -> Result<Self, ClusterError> {
        let runtime = Builder::new_multi_thread().worker_threads(2).thread_name("cluster").enable_all().build()?;
        let handle = runtime.handle().clone();
        let (hub, held) = runtime.block_on(async {
            let silence = settings.notice() / 2;
            let place = (settings.url.as_str(), settings.name.as_str());
            let connection =
                Connection::open(place, &settings.identity, "modm scheduler", silence, say.clone()).await?;
            let (permits, sources) = (Permits::default(), Arc::<OnceLock<Sources>>::default());
            let server = PictureServer::start(settings.pictures, permits.clone(), sources.clone()).await?;
            let address = settings.pictures_from_outside.clone().unwrap_or_else(|| server.address.to_string());
            let session = secret();
            let lease = lease(session.clone(), address, server.pin);
            // Heartbeats are listened for first, so that none is missed.
            let heartbeats = connection.client.subscribe(connection.names.heartbeat("*")).await;
            let answers = connection.client.subscribe(connection.names.answers("*")).await;
            let held = Held::take(&connection, lease, settings.notice()).await?;
            let failed = |error: &dyn std::fmt::Display| ClusterError::Unreachable {
                url: settings.url.clone(),
                why: error.to_string(),
            };
            let heartbeats = heartbeats.map_err(|error| failed(&error))?;
            let answers = answers.map_err(|error| failed(&error))?;
            let latest = gpus.iter().map(|_| Latest::default()).collect();
            let roster = Roster::new(gpus, folders, settings.notice());
            let state = Mutex::new(State { roster, latest, unsettled: BTreeSet::new() });
            let (joined, away) = (Condvar::new(), OnceLock::new());
            let hub = Hub { connection, session, handle, permits, setup, settings, state, joined, away, sources, say };
            let hub = Arc::new(hub);
            let held = Arc::new(tokio::sync::Mutex::new(Some(held)));
            tokio::spawn(hear(hub.clone(), heartbeats, Hub::hear));
            tokio::spawn(hear(hub.clone(), answers, Hub::answer));
            tokio::spawn(look_after(hub.clone()));
            tokio::spawn(renew(hub.clone(), held.clone()));
            Ok::<_, ClusterError>((hub, held))
        })?;
        Ok(Self { hub, held, runtime: Some(runtime) })
    }

    /// Waits for workers, at most the time that the settings say: for `all` places to be taken, or else until one is
    /// taken and the others have had the time of some heartbeats.
    ///
    /// # Errors
    /// Returns an error if no worker has joined by then.
    pub fn wait_for_workers(&self, all: bool) -> Result<(), ClusterError> {
        let hub = &self.hub;
        let (begun, mut first) = (now(), None);
        let mut state = hub.state();
        loop {
            let mut left = hub.settings.join().saturating_sub(begun.elapsed());
            if !all && state.roster.free() < state.latest.len() {
                let first = *first.get_or_insert_with(now);
                left = left.min(hub.settings.notice().saturating_sub(first.elapsed()));
            }
            let (free, places) = (state.roster.free(), state.latest.len());
            if free == 0 {
                return Ok(());
            }
            if left.is_zero() {
                if free < places {
                    drop(state);
                    (hub.say)(&format!("{free} of {places} workers have not joined: they are taken in when they come"));
                    return Ok(());
                }
                let refused: Vec<String> =
                    state.roster.refused(now()).map(|(seen, why, _)| format!("; {}: {why}", seen.worker)).collect();
                return Err(ClusterError::NoWorker {
                    name: hub.settings.name.clone(),
                    url: hub.settings.url.clone(),
                    join_s: hub.settings.join_s,
                    gpus: state.roster.gpus().join(" or "),
                    refused: refused.concat(),
                });
            }
            let waited = hub.joined.wait_timeout(state, left.min(Duration::from_millis(250)));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Makes the painter of a place.
    #[must_use]
    pub fn painter(&self, worker: WorkerId) -> RemotePainter {
        RemotePainter::new(self.hub.clone(), worker)
    }
}

impl Elsewhere for Cluster {
    fn is_there(&self, worker: WorkerId) -> bool {
        self.hub.state().roster.at(worker).is_some_and(|there| !there.leaving)
    }

    fn listen(&self, away: Box<dyn Fn(Away) + Send + Sync>) {
        let _ = self.hub.away.set(away);
    }

    fn give_sources(&self, sources: Sources) {
        let _ = self.hub.sources.set(sources);
    }

    fn slack(&self) -> Duration {
        let load = self.hub.setup.limits.iter().map(|limits| limits.load).max().unwrap_or_default();
        let [encode, load_encoder] = self.hub.setup.encode;
        2 * (transfer(LARGE) + load) + encode + load_encoder + self.hub.settings.notice()
    }

    fn standing(&self) -> Vec<Standing> {
        let state = self.hub.state();
        let taken =
            state.roster.taken(now()).map(|(worker, presence, silent)| standing(Some(worker), presence, silent));
        let waiting = state.roster.waiting(now()).map(|(presence, silent)| standing(None, presence, silent));
        let refused = state.roster.refused(now()).map(|(presence, why, silent)| Standing {
            state: "refused",
            reason: Some(why.to_owned()),
            ..standing(None, presence, silent)
        });
        taken.chain(waiting).chain(refused).collect()
    }
}

/// Returns how a worker stands.
fn standing(worker: Option<WorkerId>, presence: &Presence, silent: Duration) -> Standing {
    let state = match worker {
        Some(_) if presence.leaving => "leaving",
        Some(_) => "here",
        None => "waiting",
    };
    Standing {
        worker: worker.map(WorkerId::index),
        node: presence.node.clone(),
        device: presence.device.clone(),
        gpu: presence.gpu.clone(),
        version: presence.version.clone(),
        state,
        reason: None,
        silent_s: silent.as_secs_f64(),
        pictures: presence.totals.pictures,
        sources_fetched: presence.totals.fetched,
        sources_kept: presence.totals.kept,
        bytes: presence.totals.bytes,
        busy_s: presence.totals.busy_s,
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        let (held, hub) = (self.held.clone(), self.hub.clone());
        let end = async move {
            let held = held.lock().await.take();
            if let Some(held) = held {
                held.give_back(&hub.connection).await;
            }
            hub.connection.flush().await;
        };
        // The owner may be a task of another runtime, where nothing may wait: a thread of its own may.
        let ends = std::thread::spawn(move || {
            // Without the NATS server the lease is left behind, and the next scheduler finds that nobody renews it.
            let _ = runtime.block_on(async { tokio::time::timeout(END, end).await });
            runtime.shutdown_background();
        });
        let _ = ends.join();
    }
}

async fn hear(hub: Arc<Hub>, mut messages: async_nats::Subscriber, hear: fn(&Hub, &Message)) {
    while let Some(message) = messages.next().await {
        hear(&hub, &message);
    }
}

/// Gives up workers that are silent, again and again.
async fn look_after(hub: Arc<Hub>) {
    loop {
        tokio::time::sleep(hub.settings.notice() / 4).await;
        hub.change(|roster| roster.sweep(now()));
    }
}

/// Renews the lease, again and again. Without the NATS server each attempt takes long, so that nothing else waits for
/// it.
async fn renew(hub: Arc<Hub>, held: Arc<tokio::sync::Mutex<Option<Held>>>) {
    let mut said = String::new();
    loop {
        tokio::time::sleep(hub.settings.notice() / 4).await;
        let mut held = held.lock().await;
        let Some(held) = held.as_mut() else { return };
        match held.renew(&hub.connection).await {
            Ok(()) => said.clear(),
            // Said once, and not at each attempt.
            Err(why) if said != why => {
                (hub.say)(&why);
                said = why;
            }
            Err(_) => {}
        }
    }
}
