//! A real-time executor for tests: one thread a worker that sleeps in place of denoising, one for
//! encoding, and an inbox fed by another thread. Some jobs and loads fail. Not `live`: no sessions,
//! no images.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use modm::draw::{Purpose, stream};
use modm::embedding::EmbeddingMatrix;
use modm::model::ModelId;
use modm::replay::{Executor, Inbox, Next, Step};
use modm::request::RequestId;
use modm::scheduler::{Action, Event, JobId, Output, Part, WorkerId};
use modm::time::{Duration, Moment, Time};
use rand::RngExt;
use smallvec::SmallVec;

use crate::world::World;

#[expect(clippy::disallowed_methods, reason = "a test against the real clock")]
fn clock() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "a test against the real clock")]
pub(crate) fn sleep_ms(milliseconds: u64) {
    std::thread::sleep(std::time::Duration::from_millis(milliseconds));
}

/// Message of the threads to the executor.
pub(crate) enum Answer {
    Event(Event),
    /// The end of a worker's nth load; of no interest if it has begun another since.
    Load(u64, Event),
    /// The inbox may have something new.
    Woken,
    /// The inbox will never have anything new.
    Closed,
}

enum Order {
    Run { job: JobId, parts: SmallVec<[Part; 1]> },
    Load { number: u64, model: ModelId },
}

/// Input to embed.
enum Ask {
    Prompt(RequestId),
    Image(RequestId),
}

/// The executor; its threads end when it is dropped.
pub(crate) struct Threads {
    begun: Instant,
    orders: Vec<Sender<Order>>,
    embeddings: Sender<Ask>,
    answers: Receiver<Answer>,
    to_answers: Sender<Answer>,
    cancelled: Arc<Mutex<BTreeSet<JobId>>>,
    loads: BTreeMap<WorkerId, u64>,
    in_flight: usize,
    closed: bool,
}

impl Threads {
    pub(crate) fn new(world: &World) -> Self {
        let seed = world.seed;
        let (to_answers, answers) = channel();
        let cancelled = Arc::<Mutex<BTreeSet<JobId>>>::default();
        let worker = |worker| {
            let (order, orders) = channel();
            let (answers, cancelled) = (to_answers.clone(), cancelled.clone());
            let images = (world.image_encoding == Duration::ZERO).then(|| world.images.clone());
            std::thread::spawn(move || work(WorkerId(worker), seed, &orders, &answers, images.as_ref(), &cancelled));
            order
        };
        let orders = (0..world.workers as u16).map(worker).collect();
        let (ask, asked) = channel();
        let (encoded, prompts, images) = (to_answers.clone(), world.prompts.clone(), world.images.clone());
        let encoding_ms = u64::from(world.retrieval > Duration::ZERO);
        std::thread::spawn(move || {
            for ask in asked {
                sleep_ms(encoding_ms);
                let event = match ask {
                    Ask::Prompt(request) => {
                        Event::Encoded { request, embedding: Some(prompts.embedding(request.row())) }
                    }
                    Ask::Image(request) => {
                        Event::ImageEncoded { request, embedding: Some(images.embedding(request.row())) }
                    }
                };
                if encoded.send(Answer::Event(event)).is_err() {
                    return;
                }
            }
        });
        let loads = BTreeMap::new();
        let (begun, in_flight, closed) = (clock(), 0, false);
        Self { begun, orders, embeddings: ask, answers, to_answers, cancelled, loads, in_flight, closed }
    }

    /// Channel on which an inbox says that it has something new.
    pub(crate) fn waker(&self) -> Sender<Answer> {
        self.to_answers.clone()
    }

    pub(crate) const fn begun(&self) -> Instant {
        self.begun
    }

    fn now(&self) -> Time {
        Time::from_nanoseconds((clock() - self.begun).as_nanos() as u64)
    }

    /// `None` for an answer that is out of date.
    fn step(&mut self, answer: Answer) -> Option<Step> {
        match answer {
            Answer::Woken => Some(Step::Woken),
            Answer::Closed => {
                self.closed = true;
                Some(Step::Woken)
            }
            Answer::Event(event) => {
                self.in_flight -= 1;
                Some(Step::Completed(self.now(), event))
            }
            Answer::Load(number, event) => {
                self.in_flight -= 1;
                let (Event::ModelLoaded { worker } | Event::LoadFailed { worker, .. }) = event else {
                    unreachable!("a load ends well or badly")
                };
                (self.loads[&worker] == number).then(|| Step::Completed(self.now(), event))
            }
        }
    }
}

impl Executor for Threads {
    type Error = Infallible;

    fn submit(&mut self, _: Time, action: &Action) -> Result<(), Infallible> {
        let alive = "threads live as long as the executor";
        match *action {
            Action::Encode(request) => self.embeddings.send(Ask::Prompt(request)).expect(alive),
            Action::EncodeImage(request) => self.embeddings.send(Ask::Image(request)).expect(alive),
            Action::Start { job, worker, ref parts, .. } => {
                self.orders[worker.index()].send(Order::Run { job, parts: parts.clone() }).expect(alive);
            }
            Action::Load { worker, model, .. } => {
                let number = self.loads.entry(worker).or_insert(0);
                *number += 1;
                self.orders[worker.index()].send(Order::Load { number: *number, model }).expect(alive);
            }
            Action::CancelJob(job) => {
                self.cancelled.lock().unwrap().insert(job);
                return Ok(());
            }
            _ => return Ok(()),
        }
        self.in_flight += 1;
        Ok(())
    }

    fn wait(&mut self, deadline: Option<Moment>) -> Result<Step, Infallible> {
        loop {
            let answer = match deadline {
                None if self.closed && self.in_flight == 0 => return Ok(Step::Idle),
                None => self.answers.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(deadline) => {
                    let left = std::time::Duration::from_nanos(deadline.time.since(self.now()).nanoseconds());
                    self.answers.recv_timeout(left)
                }
            };
            match (answer, deadline) {
                (Ok(answer), _) => {
                    if let Some(step) = self.step(answer) {
                        return Ok(step);
                    }
                }
                (Err(_), Some(deadline)) => return Ok(Step::DeadlineReached(self.now().max(deadline.time))),
                (Err(_), None) => unreachable!("the executor holds a sender itself"),
            }
        }
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }
}

/// A worker's thread.
fn work(
    worker: WorkerId,
    seed: u64,
    orders: &Receiver<Order>,
    answers: &Sender<Answer>,
    images: Option<&EmbeddingMatrix>,
    cancelled: &Mutex<BTreeSet<JobId>>,
) {
    let mut draws = stream(seed, Purpose::Test, 100 + u64::from(worker.0));
    let mut held = None;
    for order in orders {
        let answer = match order {
            Order::Run { job, parts } => {
                let steps = draws.random_range(1..=5);
                let stopped = (0..steps).any(|_| {
                    sleep_ms(1);
                    cancelled.lock().unwrap().contains(&job)
                });
                let luck: f64 = draws.random();
                let output = |part: &Part| Output {
                    request: part.request,
                    embedding: images.map(|images| images.embedding(part.request.row())),
                    bytes: None,
                    confidence: None,
                    source_fetched: None,
                };
                Answer::Event(if stopped {
                    Event::JobFailed { worker, job, reason: "cancelled".into() }
                } else if luck < 0.1 {
                    Event::JobFailed { worker, job, reason: "out of memory".into() }
                } else if luck < 0.2 && parts[0].source.is_some() {
                    Event::SourceMissing { worker, job }
                } else {
                    Event::JobCompleted { worker, job, outputs: parts.iter().map(output).collect() }
                })
            }
            Order::Load { number, model } => {
                sleep_ms(draws.random_range(1..=4));
                // A failed load leaves what was there before, if anything was.
                let failed = held.is_some() && draws.random_bool(0.2);
                if !failed {
                    held = Some(model);
                }
                let reason = || "no such file".to_owned();
                let ended = Event::ModelLoaded { worker };
                Answer::Load(
                    number,
                    if failed { Event::LoadFailed { worker, loaded: held, reason: reason() } } else { ended },
                )
            }
        };
        if answers.send(answer).is_err() {
            return;
        }
    }
}

/// An inbox over a channel: what another thread sends, in order of time.
pub(crate) struct Channel {
    from: Receiver<(Time, Event)>,
    ahead: VecDeque<(Time, Event)>,
    closed: bool,
}

impl Channel {
    /// Sends each event when its time comes, some a little early, and wakes the executor.
    pub(crate) fn feed(events: Vec<(Time, Event)>, executor: &Threads) -> Self {
        let (to, from) = channel();
        let (waker, begun) = (executor.waker(), executor.begun());
        std::thread::spawn(move || {
            for (row, (time, event)) in events.into_iter().enumerate() {
                let early = if row % 3 == 0 { 2_000_000 } else { 0 };
                while ((clock() - begun).as_nanos() as u64) + early < time.nanoseconds() {
                    sleep_ms(1);
                }
                if to.send((time, event)).is_err() || waker.send(Answer::Woken).is_err() {
                    return;
                }
            }
            drop(to);
            // Nobody listens if the run is over.
            waker.send(Answer::Closed).unwrap_or_default();
        });
        Self { from, ahead: VecDeque::new(), closed: false }
    }
}

impl Inbox for Channel {
    fn next(&mut self) -> Next {
        while !self.closed {
            match self.from.try_recv() {
                Ok(event) => self.ahead.push_back(event),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => self.closed = true,
            }
        }
        match self.ahead.front() {
            Some((time, _)) => Next::At(*time),
            None if self.closed => Next::Closed,
            None => Next::Later,
        }
    }

    fn take(&mut self) -> Option<Event> {
        self.ahead.pop_front().map(|(_, event)| event)
    }
}
