//! The executor that draws: actions go to threads, their answers come back as events at the time they are
//! heard. A tokio runtime waits for answers, deadlines and Ctrl-C together; it is the only clock of a run.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::{Duration as HostDuration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::embedder::{self, Ask, Embed};
use super::picture::Picture;
use super::store::{Record, Store};
use super::worker::{DrawError, Handle, Order, Paint};
use crate::embedding::Embedding;
use crate::image::ImageId;
use crate::model::{ModelId, Work};
use crate::replay::{Executor, Step};
use crate::request::{Outcome, RequestId};
use crate::scheduler::{Action, JobId, Part, WorkerId};
use crate::time::{Moment, Time};

mod answers;
mod inbox;

pub use inbox::Paced;

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
        outcome: Result<Vec<(RequestId, Picture)>, DrawError>,
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
    IntakeEnded,
}

/// What the executor needs to know of a run.
pub struct Setting {
    /// By row.
    pub prompts: Vec<Arc<str>>,
    /// By row, where the trace has them.
    pub tenants: Option<Vec<String>>,
    /// Best first.
    pub models: Vec<String>,
    /// All noise derives from it.
    pub seed: u64,
    /// Where the picture of a request goes.
    pub result: Box<dyn Fn(RequestId) -> PathBuf>,
    /// Makes the worker of a number, with nothing loaded.
    pub paint: Box<dyn Fn(WorkerId) -> Box<dyn Paint>>,
    /// What goes wrong on the way is told here, a sentence each.
    pub warn: Box<dyn Fn(&str)>,
    /// How long a lost worker stays away; [`Setting::AWAY`] but in tests.
    pub away: HostDuration,
}

impl Setting {
    /// How long a lost worker stays away before its thread is started again.
    pub const AWAY: HostDuration = HostDuration::from_secs(1);
}

/// Why a run in real time cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// A thread or the runtime cannot be started.
    #[error("a thread cannot be started: {0}")]
    Thread(#[from] std::io::Error),
    /// A worker could not load what it begins with.
    #[error("worker {}: {why}", worker.0)]
    Load {
        /// Which.
        worker: WorkerId,
        /// Why.
        why: String,
    },
}

/// Ends a run's intake from anywhere.
#[derive(Clone, Debug)]
pub struct Intake {
    /// Whether it has ended.
    pub ended: Arc<AtomicBool>,
    answers: UnboundedSender<Answer>,
}

impl Intake {
    /// Takes nothing more.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        // Nobody listens once the run is over.
        let _ = self.answers.send(Answer::IntakeEnded);
    }
}

/// One worker as the executor sees it.
#[derive(Debug, Default)]
struct Worker {
    /// `None` while it is lost.
    handle: Option<Handle>,
    /// Threads before it that have not ended: they still hold their device.
    leaving: Vec<JoinHandle<()>>,
    /// Tells its answers from those of the threads before it.
    life: u32,
    loading: bool,
    job: Option<JobId>,
    /// Jobs that failed since one was done.
    failures: u32,
    /// Losses since a job was done.
    losses: u32,
}

/// What is known of a request until the core has no more to say about it or its image.
#[derive(Debug, Default)]
struct Request {
    prompt: Option<Embedding>,
    work: Option<(Work, Option<ImageId>)>,
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
    begun: Instant,
    /// Time never runs backwards, whatever the clock says.
    latest: Time,
    workers: Vec<Worker>,
    embedder: (Sender<Ask>, JoinHandle<()>),
    store: Store,
    intake: Intake,
    /// Answers that are to come.
    in_flight: usize,
    requests: BTreeMap<RequestId, Request>,
    /// Requests that may be forgotten once the core has acted.
    settled: Vec<RequestId>,
}

impl Worker {
    /// Whether an answer is of the thread it has now: others are out of date.
    fn is_in(&self, life: u32) -> bool {
        self.life == life && self.handle.is_some()
    }

    /// Leaves its thread to end by itself.
    fn leave(&mut self) {
        self.leaving.extend(self.handle.take().map(Handle::leave));
    }

    /// Ends its threads.
    fn join(mut self) {
        self.leave();
        for thread in self.leaving {
            let _ = thread.join();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a run in real time has the host's clock")]
fn clock() -> Instant {
    Instant::now()
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
        let intake = Intake { ended: Arc::default(), answers: to_answers.clone() };
        let mut live = Self {
            workers: initial.iter().map(|_| Worker::default()).collect(),
            setting,
            runtime,
            answers,
            to_answers,
            begun: clock(),
            latest: Time::ZERO,
            embedder,
            store,
            intake,
            in_flight: 0,
            requests: BTreeMap::new(),
            settled: Vec::new(),
        };
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
                Answer::Loaded { outcome: Err((_, why)), worker, .. } | Answer::Lost { worker, why, .. } => {
                    return Err(LiveError::Load { worker, why });
                }
                _ => {}
            }
        }
        live.begun = clock();
        Ok(live)
    }

    /// What ends the intake: what has arrived is finished, and nothing more is taken.
    #[must_use]
    pub fn intake(&self) -> Intake {
        self.intake.clone()
    }

    /// Ends all threads and closes the store. Returns what could not be stored.
    #[must_use]
    pub fn finish(self) -> Vec<String> {
        let Self { workers, embedder: (ask, embedder), store, .. } = self;
        drop(ask);
        // Their sessions are gone when this returns: the next run may need the devices.
        workers.into_iter().for_each(Worker::join);
        let _ = embedder.join();
        store.close()
    }

    fn now(&mut self) -> Time {
        let passed = u64::try_from((clock() - self.begun).as_nanos()).unwrap_or(u64::MAX);
        self.latest = self.latest.max(Time::from_nanoseconds(passed));
        self.latest
    }

    fn warn(&self, message: &str) {
        (self.setting.warn)(message);
    }

    fn start_worker(&mut self, worker: WorkerId) -> std::io::Result<()> {
        let state = &mut self.workers[worker.index()];
        state.life += 1;
        let paint = (self.setting.paint)(worker);
        let handle = Handle::start(worker, state.life, paint, self.store.sources(), self.to_answers.clone());
        state.handle = Some(handle?);
        Ok(())
    }

    fn load(&mut self, worker: WorkerId, model: ModelId) {
        let state = &mut self.workers[worker.index()];
        state.loading = true;
        self.in_flight += 1;
        if let Some(handle) = &state.handle {
            handle.order(Order::Load(model));
        }
    }

    fn run(&mut self, worker: WorkerId, job: JobId, work: Work, parts: &[Part]) {
        let with_prompt = |part: &Part| (*part, self.setting.prompts[part.request.row()].clone());
        let order = Order::Run { job, work, parts: parts.iter().map(with_prompt).collect() };
        for part in parts {
            self.requests.entry(part.request).or_default().work = Some((work, part.source));
        }
        let state = &mut self.workers[worker.index()];
        state.job = Some(job);
        self.in_flight += 1;
        if let Some(handle) = &state.handle {
            handle.order(order);
        }
    }

    /// Embeds the image of a request that has completed.
    fn encode_image(&mut self, request: RequestId) {
        let state = self.requests.entry(request).or_default();
        state.encoding = true;
        self.in_flight += 1;
        let ask = state.picture.clone().map(|picture| Ask::Picture(request, picture));
        let sent = ask.is_some_and(|ask| self.embedder.0.send(ask).is_ok());
        if !sent {
            let embedding = Err("there is no picture".to_owned());
            let _ = self.to_answers.send(Answer::Picture { request, embedding });
        }
    }

    /// Puts an image's content into the store, under what the core finds it by.
    fn keep(&mut self, image: ImageId) {
        let Some(request) = image.request() else { return }; // It was there before the run.
        let Some(state) = self.requests.get(&request) else { return };
        let (Some(picture), Some((work, source))) = (&state.picture, state.work) else { return };
        // Where images are found by their prompts, they are kept before they are embedded.
        let Some(key) = state.image.as_ref().or(state.prompt.as_ref()).cloned() else { return };
        let setting = &self.setting;
        let source = source.and_then(|source| self.store.number(source));
        let record = |file| Record {
            file,
            prompt: setting.prompts[request.row()].to_string(),
            tenant: setting.tenants.as_ref().map(|tenants| tenants[request.row()].clone()),
            model: setting.models[work.model.index()].clone(),
            seed: (setting.seed, u64::from(request.0)),
            steps: (work.total_steps, work.skipped_steps),
            source,
            key,
        };
        self.store.keep(image, picture.clone(), record);
    }

    /// A request has ended; its picture goes to the results.
    fn finished(&mut self, request: RequestId, completed: bool) {
        let file = (self.setting.result)(request);
        let state = self.requests.entry(request).or_default();
        state.finished = true;
        if let Some(picture) = state.picture.clone().filter(|_| completed) {
            self.store.write_result(file, picture);
        }
        self.settled.push(request);
    }

    /// Forgets requests that the core has nothing more to say about.
    fn forget_settled(&mut self) {
        for request in std::mem::take(&mut self.settled) {
            if self.requests.get(&request).is_some_and(|state| state.finished && !state.encoding) {
                self.requests.remove(&request);
            }
        }
    }
}

impl Executor for Live {
    type Error = std::convert::Infallible;

    fn submit(&mut self, _: Time, action: Action) -> Result<(), Self::Error> {
        match action {
            Action::Encode(request) => {
                self.requests.entry(request).or_default();
                self.in_flight += 1;
                let prompt = self.setting.prompts[request.row()].clone();
                // The thread lives as long as this sender, and a panic in it is caught.
                let _ = self.embedder.0.send(Ask::Prompt(request, prompt));
            }
            Action::EncodeImage(request) => self.encode_image(request),
            Action::Start { job, worker, work, parts } => self.run(worker, job, work, &parts),
            Action::Load { worker, model } => self.load(worker, model),
            Action::Return { request, image } => self.store.copy_result(image, (self.setting.result)(request)),
            Action::Keep { image, .. } => self.keep(image),
            Action::Release(image) => self.store.release(image),
            Action::CancelJob(job) => {
                let worker = self.workers.iter().find(|worker| worker.job == Some(job));
                if let Some(handle) = worker.and_then(|worker| worker.handle.as_ref()) {
                    handle.stop(job);
                }
            }
            Action::Finish { request, outcome } => self.finished(request, outcome == Outcome::Completed),
            Action::Note(_) => {}
        }
        Ok(())
    }

    fn wait(&mut self, deadline: Option<Moment>) -> Result<Step, Self::Error> {
        self.forget_settled();
        loop {
            // What has come is handled before what is due: completions before arrivals.
            let answer = match (self.answers.try_recv().ok(), deadline) {
                (Some(answer), _) => Some(answer),
                (None, None) if self.in_flight == 0 => return Ok(Step::Idle),
                (None, None) => self.runtime.block_on(self.answers.recv()),
                (None, Some(deadline)) => {
                    let now = self.now();
                    let left = HostDuration::from_nanos(deadline.time.since(now).nanoseconds());
                    if left.is_zero() {
                        return Ok(Step::DeadlineReached(now));
                    }
                    let answers = &mut self.answers;
                    let answer = self.runtime.block_on(async { tokio::time::timeout(left, answers.recv()).await });
                    answer.ok().flatten()
                }
            };
            match answer {
                Some(Answer::IntakeEnded) => return Ok(Step::Woken),
                Some(answer) => {
                    if let Some(event) = self.event(answer) {
                        return Ok(Step::Completed(self.now(), event));
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
