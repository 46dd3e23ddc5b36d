//! Executor of live runs. Actions go to threads. The answers of the threads come back as events, at the time at which
//! the loop hears them. A tokio runtime waits for answers, deadlines and wake-ups (such as that of Ctrl-C) together. A
//! run has one clock, [`Clock`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::Duration as HostDuration;

use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::embedder::{self, Ask, Embed, EmbedError};
use super::limits::Limits;
use super::picture::Picture;
use super::store::{Store, StoreError};
use super::worker::{Drawing, FailedLoad, GoodPrompts, Handle, JobError, LoadError, Paint, Painted, WorkerOrder};
use crate::embedding::Embedding;
use crate::model::{ModelId, Work};
use crate::replay::{Executor, Step};
use crate::request::{Outcome, RequestId};
use crate::scheduler::{Action, JobId, Part, WorkerId};
use crate::time::{Duration, Moment, Rank, Time};

mod answers;
mod book;
mod cuts;
mod elsewhere;
mod inbox;
mod intake;
mod pictures;
mod workers;

pub use book::{Book, Known as KnownRequests};
use cuts::CutPrompts;
pub use elsewhere::{Away, Elsewhere, Standing};
pub use inbox::Paced;
pub use intake::{Clock, Intake};
use workers::{Worker, join};

/// Time before a deadline from which the loop waits in naps, because timers are coarse; and length of a nap.
const TIMER: HostDuration = HostDuration::from_millis(2);
const NAP: HostDuration = HostDuration::from_micros(50);
/// Time that the end of a run waits for its threads: beyond the longest call, and in all if the run was aborted.
const FINISHED: HostDuration = HostDuration::from_secs(30);
const ABORTED: HostDuration = HostDuration::from_secs(2);

/// Answer of a thread to the executor.
#[derive(Debug)]
pub(super) enum Answer {
    Prompt {
        request: RequestId,
        embedding: Result<Embedding, EmbedError>,
    },
    Picture {
        request: RequestId,
        embedding: Result<Embedding, EmbedError>,
    },
    Drawn {
        worker: WorkerId,
        life: u32,
        job: JobId,
        outcome: Result<Vec<(RequestId, Painted)>, JobError>,
    },
    /// Cached picture that a request is answered with.
    Read {
        request: RequestId,
        picture: Result<Arc<Picture>, StoreError>,
    },
    /// End of a load.
    Loaded {
        worker: WorkerId,
        life: u32,
        outcome: Result<(), FailedLoad>,
    },
    Lost {
        worker: WorkerId,
        life: u32,
        why: String,
    },
    /// Worker on another machine that went away.
    Away(Away),
    /// Worker on another machine that was told to end, and has answered for the last time.
    Left(WorkerId),
    /// Lost worker that may begin again.
    Back(WorkerId),
    /// Call to look for stuck threads.
    Watch,
    /// Wake-up: the inbox may have something new, or may have closed.
    Woken,
    /// Order to end the run at once, even if requests have not ended.
    Abort,
}

impl Answer {
    /// Returns the result of the encoder, if the encoder gave this answer.
    pub(super) fn embedding(self) -> Option<Result<Embedding, EmbedError>> {
        match self {
            Self::Prompt { embedding, .. } | Self::Picture { embedding, .. } => Some(embedding),
            _ => None,
        }
    }
}

/// Parts and settings of the executor for a run.
pub struct Setting {
    /// Facts about the requests of the run.
    pub book: Box<dyn Book>,
    /// Names of the models, best first.
    pub models: Vec<String>,
    /// Names of the checkpoints, by number from 1.
    pub checkpoints: Vec<String>,
    /// Usual width and height of pictures, in pixels.
    pub size: [u32; 2],
    /// Function that makes the painter of a worker, with no model loaded.
    pub paint: Box<dyn Fn(WorkerId) -> Box<dyn Paint>>,
    /// Function that workers call with the number of each step of a request's job, from 1, after the step. The last
    /// step is not reported.
    pub stepped: Option<Arc<dyn Fn(RequestId, u32) + Send + Sync>>,
    /// Function that takes warnings, one sentence each.
    pub warn: Box<dyn Fn(&str)>,
    /// Time that a lost worker stays away at first: [`Setting::AWAY`], except in tests.
    pub away: HostDuration,
    /// Time limits of calls.
    pub limits: Limits,
    /// Workers on other machines, if the workers are elsewhere.
    pub elsewhere: Option<Arc<dyn Elsewhere>>,
    /// True if workers run in processes of their own and keep their limits themselves. A stuck thread then only waits
    /// for the disk, and comes back.
    pub isolated: bool,
}

impl Setting {
    /// Time that a lost worker stays away before its thread is started again. The time doubles with each further loss.
    pub const AWAY: HostDuration = HostDuration::from_secs(1);
}

/// Error that ends a run in real time.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LiveError {
    /// Thread or runtime that cannot be started.
    #[error("a thread cannot be started: {0}")]
    Thread(#[from] std::io::Error),
    /// Failure of a worker to load its first model. The cause is the folder of the model, or the device that was chosen
    /// for the model.
    #[error("worker {}: {error}", worker.0)]
    Load {
        /// Worker that could not load.
        worker: WorkerId,
        /// Reason of the failure.
        error: Box<LoadError>,
    },
    /// Loss of a worker while it loaded its first model.
    #[error("worker {} is lost: {why}", worker.0)]
    Lost {
        /// Worker that was lost.
        worker: WorkerId,
        /// Reason of the loss.
        why: String,
    },
    /// Loss of the last worker: the threads of all workers are stuck.
    #[error("every worker is stuck in a call that does not return: the program has to be started again")]
    NoWorker,
    /// Abort of the run before all requests that were in had ended.
    #[error("ended before everything that was in had ended")]
    Aborted,
}

/// State of a request, kept until the core has nothing more to say about the request or its image.
#[derive(Debug, Default)]
struct Request {
    prompt: Option<Embedding>,
    /// Model and steps, and the numbers of the cached pictures that the request is refined from, nearest first.
    work: Option<(Work, Vec<u64>)>,
    picture: Option<Arc<Picture>>,
    image: Option<Embedding>,
    encoding: bool,
    /// True while the disk thread reads the cached picture that the request is answered with.
    reading: bool,
    /// Outcome of a request that ended while its picture is read.
    outcome: Option<Outcome>,
    finished: bool,
}

/// Executor of live runs.
pub struct Live {
    setting: Setting,
    runtime: Runtime,
    answers: UnboundedReceiver<Answer>,
    to_answers: UnboundedSender<Answer>,
    begun: Clock,
    /// Time of the latest event. Time never runs backwards, whatever the clock says.
    latest: Time,
    /// Answer that was heard after something else had fallen due.
    held: Option<Answer>,
    /// Lag of each arrival: time from when a request was due until the loop took the request.
    lags: Vec<Duration>,
    workers: Vec<Worker>,
    embedder: (Sender<Ask>, JoinHandle<()>),
    store: Store,
    intake: Intake,
    /// Number of answers that are still to come.
    in_flight: usize,
    requests: BTreeMap<RequestId, Request>,
    /// Requests that may be forgotten once the core has acted.
    settled: Vec<RequestId>,
    good_prompts: GoodPrompts,
    cut_prompts: CutPrompts,
    /// True if the warning that pictures are not kept was given.
    full: bool,
    /// Error after which the run cannot go on.
    broken: Option<LiveError>,
}

#[expect(clippy::disallowed_methods, reason = "the loop of a run in real time waits")]
fn nap(time: HostDuration) {
    std::thread::sleep(time);
}

impl Live {
    /// Starts all threads and loads the first model of each worker. The clock of the run starts after the last load.
    /// Workers on other machines that are not there are taken in when they come.
    ///
    /// # Errors
    /// Returns an error if a thread cannot be started or a model cannot be loaded.
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
            cut_prompts: CutPrompts::default(),
            full: false,
            broken: None,
        };
        live.watch();
        live.load_first(initial)?;
        live.begun = Clock::start();
        Ok(live)
    }

    /// Returns the clock of the run.
    #[must_use]
    pub const fn clock(&self) -> Clock {
        self.begun
    }

    /// Returns the handle that ends the intake: requests that have arrived are finished, and no more are taken.
    #[must_use]
    pub fn intake(&self) -> Intake {
        self.intake.clone()
    }

    /// Ends all threads and closes the store. Returns warnings (what could not be ended or stored, and how many prompts
    /// were cut), and the lag of each arrival.
    /// The wait for a stuck thread is bounded: by a little more than the longest call, or by 2 s if the run was aborted
    /// or lost its last worker.
    #[must_use]
    pub fn finish(mut self) -> (Vec<String>, Vec<Duration>) {
        // No wait follows the last event of a run, so the requests that it settled are forgotten here.
        self.forget_settled();
        let patience = if self.broken.is_some() { ABORTED } else { self.setting.limits.longest() + FINISHED };
        let disk = patience.min(self.setting.limits.disk);
        let Self { workers, embedder: (ask, embedder), store, lags, cut_prompts, .. } = self;
        drop(ask);
        workers.iter().for_each(Worker::stop);
        let mut threads = vec![embedder];
        for mut worker in workers {
            worker.leave();
            threads.append(&mut worker.leaving);
        }
        // The sessions end with their threads: the next run may need the devices.
        let stuck = join(threads, patience);
        let mut warnings = cut_prompts.totals();
        if stuck > 0 {
            warnings.push(format!("{stuck} threads have not ended"));
        }
        // Disk operations may be many: the time is bounded for one operation.
        warnings.extend(store.close(disk));
        (warnings, lags)
    }

    fn now(&self) -> Time {
        self.latest.max(self.begun.now())
    }

    /// Takes a deadline that was reached. The event is recorded at the time of the deadline, whatever the time is now.
    /// The lateness of the loop thus counts into the time of what follows, such as the embedding of a prompt or the
    /// loads of a tick. The lateness of arrivals is also reported by itself.
    fn reached(&mut self, deadline: Moment) -> Step {
        // A run that goes on for ever would collect lags for ever, so a server collects none.
        let counts = !self.intake.ended.load(Ordering::Relaxed) && !self.setting.book.is_open();
        if deadline.rank == Rank::Outside && counts {
            self.lags.push(self.now().since(deadline.time));
        }
        self.latest = self.latest.max(deadline.time);
        Step::DeadlineReached(self.latest)
    }

    /// Returns the next answer. Returns `None` if the deadline comes first, or after a nap shortly before the deadline.
    fn answer_by(&mut self, deadline: Option<Moment>) -> Option<Answer> {
        if let Some(answer) = self.held.take().or_else(|| self.answers.try_recv().ok()) {
            return Some(answer);
        }
        let Some(deadline) = deadline else {
            // The threads that answer get a turn before the loop sleeps: waking the loop costs more than its work for
            // one answer.
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

    /// Gives an order to the thread of the encoder.
    fn ask(&self, ask: Ask) -> Result<(), EmbedError> {
        self.embedder.0.send(ask).map_err(|_| EmbedError::ThreadDied)
    }

    fn run(&mut self, worker: WorkerId, job: JobId, work: Work, parts: &[Part]) {
        let book = &self.setting.book;
        let with_prompt = |part: &Part| {
            let prompt = book.prompt(part.request).ok_or(part.request)?;
            let (request, source) = (part.request, part.source);
            let (details, noise, own) = (book.details(request), book.noise(request), book.source(request));
            Ok(Drawing { request, source, own, prompt, details, noise })
        };
        let parts_to_draw = match parts.iter().map(with_prompt).collect::<Result<Vec<_>, RequestId>>() {
            Ok(parts) => parts,
            Err(unknown) => return self.refuse(worker, job, unknown),
        };
        let order = WorkerOrder::Run { job, work, parts: parts_to_draw };
        for part in parts {
            // The origins are read now, while the source is there: it may be evicted before the picture is kept.
            let origins = part.source.map(|source| self.store.line(source)).unwrap_or_default();
            self.requests.entry(part.request).or_default().work = Some((work, origins));
        }
        self.draw(worker, job, work, order);
    }
}

impl Executor for Live {
    type Error = LiveError;

    fn submit(&mut self, _: Time, action: &Action) -> Result<(), Self::Error> {
        match *action {
            Action::Encode(request) => {
                self.requests.entry(request).or_default();
                self.in_flight += 1;
                let prompt = self.setting.book.prompt(request).ok_or(EmbedError::UnknownRequest);
                if let Err(error) = prompt.and_then(|prompt| self.ask(Ask::Prompt(request, prompt))) {
                    let _ = self.to_answers.send(Answer::Prompt { request, embedding: Err(error) });
                }
            }
            Action::EncodeImage(request) => self.encode_image(request),
            Action::Start { job, worker, work, ref parts } => self.run(worker, job, work, parts),
            Action::Load { worker, model, .. } => self.load(worker, model),
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
                // Wake-ups and aborts are not among the answers that `in_flight` counts.
                match self.answers.try_recv() {
                    Ok(answer) => self.held = Some(answer),
                    Err(_) => return Ok(Step::Idle),
                }
            }
            let answer = self.answer_by(deadline);
            // Events go to the core in order of time, as the loop sees it: a deadline that passed before an answer was
            // heard goes first.
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
