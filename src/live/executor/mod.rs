//! The executor that draws: actions go to threads, their answers come back as events at the time they are
//! heard. A tokio runtime waits for answers, deadlines and Ctrl-C together; it is the only clock of a run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::Duration as HostDuration;

use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::embedder::{self, Ask, Embed};
use super::limits::Limits;
use super::picture::Picture;
use super::store::Store;
use super::worker::{Drawing, GoodPrompts, Handle, JobError, Order, Paint};
use crate::embedding::Embedding;
use crate::model::{ModelId, Work};
use crate::replay::{Executor, Step};
use crate::request::RequestId;
use crate::scheduler::{Action, Event, JobId, Part, WorkerId};
use crate::time::{Duration, Moment, Rank, Time};

mod answers;
mod book;
mod inbox;
mod intake;
mod pictures;
mod workers;

pub use book::{Book, Known as KnownRequests};
pub use inbox::Paced;
pub use intake::{Clock, Intake};
use workers::{Worker, join};

/// Timers are coarse: the last stretch to a deadline is waited for in naps.
const TIMER: HostDuration = HostDuration::from_millis(2);
const NAP: HostDuration = HostDuration::from_micros(50);
/// How long the end of a run waits for its threads beyond what a call may take, and when it was aborted.
const FINISHED: HostDuration = HostDuration::from_secs(30);
const ABORTED: HostDuration = HostDuration::from_secs(2);

/// What threads tell the executor.
#[derive(Debug)]
pub(super) enum Answer {
    Prompt {
        request: RequestId,
        embedding: Result<Embedding, String>,
    },
    Picture {
        request: RequestId,
        embedding: Result<Embedding, String>,
    },
    Drawn {
        worker: WorkerId,
        life: u32,
        job: JobId,
        outcome: Result<Vec<(RequestId, Picture)>, JobError>,
    },
    /// A load ended, or came to nothing: with what the worker holds now.
    Loaded {
        worker: WorkerId,
        life: u32,
        outcome: Result<(), (Option<ModelId>, String)>,
    },
    Lost {
        worker: WorkerId,
        life: u32,
        why: String,
    },
    /// A lost worker may begin again.
    Back(WorkerId),
    /// Time to see whether a thread is stuck.
    Watch,
    /// The inbox may have something new, or nothing any more.
    Woken,
    /// The run ends now, whatever is in.
    Abort,
}

impl Answer {
    /// What was asked of the encoder.
    pub(super) fn embedding(self) -> Option<Result<Embedding, String>> {
        match self {
            Self::Prompt { embedding, .. } | Self::Picture { embedding, .. } => Some(embedding),
            _ => None,
        }
    }
}

/// What the executor needs to know of a run.
pub struct Setting {
    /// What is known of its requests.
    pub book: Box<dyn Book>,
    /// Best first.
    pub models: Vec<String>,
    /// Makes the worker of a number, with nothing loaded.
    pub paint: Box<dyn Fn(WorkerId) -> Box<dyn Paint>>,
    /// Told by workers of each step of a request's job, by its number from 1.
    pub stepped: Option<Arc<dyn Fn(RequestId, u32) + Send + Sync>>,
    /// What goes wrong on the way is told here, a sentence each.
    pub warn: Box<dyn Fn(&str)>,
    /// How long a lost worker stays away at first; [`Setting::AWAY`] but in tests.
    pub away: HostDuration,
    /// How long calls may take.
    pub limits: Limits,
    /// Whether workers keep their limits themselves, in processes of their own: a thread that is stuck is then one that
    /// waits for the disk, and comes back.
    pub isolated: bool,
}

impl Setting {
    /// How long a lost worker stays away before its thread is started again; twice as long after each further loss.
    pub const AWAY: HostDuration = HostDuration::from_secs(1);
}

/// Why a run in real time cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LiveError {
    /// A thread or the runtime cannot be started.
    #[error("a thread cannot be started: {0}")]
    Thread(#[from] std::io::Error),
    /// A worker could not load what it begins with: the fault of the model's folder, or of the device that was chosen
    /// for it.
    #[error("worker {}: {why}", worker.0)]
    Load {
        /// Which.
        worker: WorkerId,
        /// Why.
        why: String,
    },
    /// A worker was lost while it loaded what it begins with.
    #[error("worker {} is lost: {why}", worker.0)]
    Lost {
        /// Which.
        worker: WorkerId,
        /// Why.
        why: String,
    },
    /// No thread of a worker is left that is not stuck.
    #[error("every worker is stuck in a call that does not return: the program has to be started again")]
    NoWorker,
    /// Somebody ended the run before all had ended that was in.
    #[error("ended before everything that was in had ended")]
    Aborted,
}

/// What is known of a request until the core has no more to say about it or its image.
#[derive(Debug, Default)]
struct Request {
    prompt: Option<Embedding>,
    /// Model and steps, and the numbers of what it is made from, nearest first.
    work: Option<(Work, Vec<u64>)>,
    picture: Option<Arc<Picture>>,
    image: Option<Embedding>,
    encoding: bool,
    finished: bool,
}

/// The executor.
pub struct Live {
    setting: Setting,
    runtime: Runtime,
    answers: UnboundedReceiver<Answer>,
    to_answers: UnboundedSender<Answer>,
    begun: Clock,
    /// Of the latest event: time never runs backwards, whatever the clock says.
    latest: Time,
    /// An answer that was heard after something else had fallen due.
    held: Option<Answer>,
    /// How late each request was taken.
    lags: Vec<Duration>,
    workers: Vec<Worker>,
    embedder: (Sender<Ask>, JoinHandle<()>),
    store: Store,
    intake: Intake,
    /// Answers that are to come.
    in_flight: usize,
    requests: BTreeMap<RequestId, Request>,
    /// Requests that may be forgotten once the core has acted.
    settled: Vec<RequestId>,
    good_prompts: GoodPrompts,
    /// Whether it was told that pictures are not kept.
    full: bool,
    /// Why the run cannot go on.
    broken: Option<LiveError>,
}

#[expect(clippy::disallowed_methods, reason = "the loop of a run in real time waits")]
fn nap(time: HostDuration) {
    std::thread::sleep(time);
}

impl Live {
    /// Starts all threads and loads what each worker begins with; the clock starts at the end of it.
    ///
    /// # Errors
    /// A thread cannot be started, or a model cannot be loaded.
    pub fn start(
        setting: Setting,
        store: Store,
        initial: &[ModelId],
        embed: Box<dyn Embed>,
    ) -> Result<Self, LiveError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (to_answers, answers) = unbounded_channel();
        let embedder = embedder::start(embed, to_answers.clone())?;
        let intake = Intake::new(to_answers.clone());
        let mut live = Self {
            workers: initial.iter().map(|_| Worker::default()).collect(),
            setting,
            runtime,
            answers,
            to_answers,
            begun: Clock::start(),
            latest: Time::ZERO,
            held: None,
            lags: Vec::new(),
            embedder,
            store,
            intake,
            in_flight: 0,
            requests: BTreeMap::new(),
            settled: Vec::new(),
            good_prompts: GoodPrompts::default(),
            full: false,
            broken: None,
        };
        live.watch();
        for (worker, model) in initial.iter().enumerate() {
            live.start_worker(WorkerId(worker as u16))?;
            live.load(WorkerId(worker as u16), *model);
        }
        while live.in_flight > 0 {
            let Some(answer) = live.runtime.block_on(live.answers.recv()) else { break };
            match answer {
                Answer::Loaded { outcome: Ok(()), worker, .. } => {
                    live.workers[worker.index()].loading = false;
                    live.in_flight -= 1;
                }
                Answer::Loaded { outcome: Err((_, why)), worker, .. } => return Err(LiveError::Load { worker, why }),
                Answer::Lost { worker, why, .. } => return Err(LiveError::Lost { worker, why }),
                Answer::Watch => {
                    if let Some(Event::WorkerLost { worker, reason: why, .. }) = live.look_after() {
                        return Err(LiveError::Lost { worker, why });
                    }
                }
                _ => {}
            }
        }
        live.begun = Clock::start();
        Ok(live)
    }

    /// Its clock.
    #[must_use]
    pub const fn clock(&self) -> Clock {
        self.begun
    }

    /// What ends the intake: what has arrived is finished, and nothing more is taken.
    #[must_use]
    pub fn intake(&self) -> Intake {
        self.intake.clone()
    }

    /// Ends all threads and closes the store. Returns what could not be ended or stored, and how late each request was
    /// taken. Waits for no thread that is stuck: longer than a load may take, or hardly at all if the run was aborted.
    #[must_use]
    pub fn finish(mut self) -> (Vec<String>, Vec<Duration>) {
        // The last event of a run is followed by no other wait.
        self.forget_settled();
        let patience = if self.broken.is_some() { ABORTED } else { self.setting.limits.longest() + FINISHED };
        let disk = patience.min(self.setting.limits.disk);
        let Self { workers, embedder: (ask, embedder), store, lags, .. } = self;
        drop(ask);
        workers.iter().for_each(Worker::stop);
        let mut threads = vec![embedder];
        for mut worker in workers {
            worker.leave();
            threads.append(&mut worker.leaving);
        }
        // Their sessions are gone when this returns: the next run may need the devices.
        let stuck = join(threads, patience);
        let mut failures = Vec::new();
        if stuck > 0 {
            failures.push(format!("{stuck} threads have not ended"));
        }
        // Of the disk, one operation is waited for.
        failures.extend(store.close(disk));
        (failures, lags)
    }

    fn now(&self) -> Time {
        self.latest.max(self.begun.now())
    }

    /// Something has fallen due. It is recorded for then, whatever the time is now: how late the loop was counts into
    /// what follows from it, the embedding of a prompt or the loads of a tick, and is told apart.
    fn reached(&mut self, deadline: Moment) -> Step {
        // A run that goes on for ever would remember them for ever.
        let counts = !self.intake.ended.load(Ordering::Relaxed) && !self.setting.book.is_open();
        if deadline.rank == Rank::Outside && counts {
            self.lags.push(self.now().since(deadline.time));
        }
        self.latest = self.latest.max(deadline.time);
        Step::DeadlineReached(self.latest)
    }

    /// The next answer, unless the deadline comes first.
    fn answer_by(&mut self, deadline: Option<Moment>) -> Option<Answer> {
        if let Some(answer) = self.held.take().or_else(|| self.answers.try_recv().ok()) {
            return Some(answer);
        }
        let Some(deadline) = deadline else {
            // Those who answer get a turn before the loop sleeps: to wake it costs more than what it does for one answer.
            std::thread::yield_now();
            return self.answers.try_recv().ok().or_else(|| self.runtime.block_on(self.answers.recv()));
        };
        let left = HostDuration::from_nanos(deadline.time.since(self.now()).nanoseconds());
        if let Some(most) = left.checked_sub(TIMER) {
            let answers = &mut self.answers;
            let answer = async { tokio::time::timeout(most, answers.recv()).await };
            return self.runtime.block_on(answer).ok().flatten();
        }
        nap(left.min(NAP));
        None
    }

    fn warn(&self, message: &str) {
        (self.setting.warn)(message);
    }

    fn start_worker(&mut self, worker: WorkerId) -> std::io::Result<()> {
        let state = &mut self.workers[worker.index()];
        state.life += 1;
        let (paint, stepped) = ((self.setting.paint)(worker), self.setting.stepped.clone());
        let (sources, prompts, answers) = (self.store.sources(), self.good_prompts.clone(), self.to_answers.clone());
        let handle = Handle::start(worker, state.life, paint, stepped, sources, prompts, answers);
        state.handle = Some(handle?);
        Ok(())
    }

    fn run(&mut self, worker: WorkerId, job: JobId, work: Work, parts: &[Part]) {
        let book = &self.setting.book;
        let with_prompt = |part: &Part| Drawing {
            request: part.request,
            source: part.source,
            prompt: book.prompt(part.request),
            noise: book.noise(part.request),
        };
        let order = Order::Run { job, work, parts: parts.iter().map(with_prompt).collect() };
        for part in parts {
            // Now, while the source is there: it may be evicted by when the picture is kept.
            let origins = part.source.map(|source| self.store.line(source)).unwrap_or_default();
            self.requests.entry(part.request).or_default().work = Some((work, origins));
        }
        self.draw(worker, job, work.model, order);
    }
}

impl Executor for Live {
    type Error = LiveError;

    fn submit(&mut self, _: Time, action: &Action) -> Result<(), Self::Error> {
        match *action {
            Action::Encode(request) => {
                self.requests.entry(request).or_default();
                self.in_flight += 1;
                let prompt = self.setting.book.prompt(request);
                if self.embedder.0.send(Ask::Prompt(request, prompt)).is_err() {
                    let embedding = Err("the thread of the encoder has died".to_owned());
                    let _ = self.to_answers.send(Answer::Prompt { request, embedding });
                }
            }
            Action::EncodeImage(request) => self.encode_image(request),
            Action::Start { job, worker, work, ref parts } => self.run(worker, job, work, parts),
            Action::Load { worker, model } => self.load(worker, model),
            Action::Return { request, image } => self.give_back(request, image),
            Action::Keep { image, .. } => self.keep(image),
            Action::Release(image) => self.store.release(image),
            Action::CancelJob(job) => {
                let worker = self.workers.iter().find(|worker| worker.job == Some(job));
                if let Some(handle) = worker.and_then(|worker| worker.handle.as_ref()) {
                    handle.stop(job);
                }
            }
            Action::Finish(ref ended) => self.finished(ended.request, &ended.outcome),
            Action::Note(_) => {}
        }
        Ok(())
    }

    fn wait(&mut self, deadline: Option<Moment>) -> Result<Step, Self::Error> {
        self.forget_settled();
        if matches!(self.broken, Some(LiveError::NoWorker)) {
            return Err(LiveError::NoWorker);
        }
        loop {
            if deadline.is_none() && self.in_flight == 0 && self.held.is_none() && !self.setting.book.is_open() {
                match self.answers.try_recv() {
                    Ok(answer) => self.held = Some(answer),
                    Err(_) => return Ok(Step::Idle),
                }
            }
            let answer = self.answer_by(deadline);
            // In the order of time, as the loop sees it: what fell due before an answer was heard goes first.
            let now = self.now();
            if let Some(deadline) = deadline.filter(|deadline| deadline.time <= now) {
                self.held = answer;
                return Ok(self.reached(deadline));
            }
            match answer {
                Some(Answer::Woken) => return Ok(Step::Woken),
                Some(Answer::Abort) => {
                    self.broken = Some(LiveError::Aborted);
                    return Err(LiveError::Aborted);
                }
                Some(answer) => {
                    if let Some(event) = self.event(answer) {
                        self.latest = now;
                        return Ok(Step::Completed(now, event));
                    }
                }
                None => {}
            }
        }
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }
}
