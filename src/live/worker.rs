//! A worker's thread: it owns the sessions of its device and does what it is told, one thing after the other.
//! Whatever goes wrong there is an answer; a thread that dies says so with its last breath.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use super::executor::Answer;
use super::picture::Picture;
use super::store::Sources;
use crate::image::ImageId;
use crate::model::{ModelId, Work};
use crate::request::RequestId;
use crate::scheduler::{JobId, LossCause, WorkerId};

/// What a worker does with its device: the real one is [`super::painter::Painter`], tests have others.
pub trait Paint: Send {
    /// Brings a model onto the device. What was there before is gone first.
    ///
    /// # Errors
    /// It cannot be loaded: why. The device is empty then.
    fn load(&mut self, model: ModelId) -> Result<(), String>;

    /// Draws one request's picture with the model that is loaded. `keep_going` is asked before each step.
    ///
    /// # Errors
    /// It was called off, or failed.
    fn draw(&mut self, task: &Task<'_>, keep_going: &dyn Fn() -> bool) -> Result<Picture, DrawError>;
}

/// A picture to draw.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// For whom.
    pub request: RequestId,
    /// What its noise derives from: seed and row.
    pub noise: (u64, u64),
    /// What it shows.
    pub prompt: &'a str,
    /// Model and steps.
    pub work: Work,
    /// What it starts from, if steps are skipped.
    pub source: Option<&'a Picture>,
}

/// Why there is no picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DrawError {
    /// It was called off.
    Cancelled,
    /// Its source cannot be read: why.
    SourceMissing(String),
    /// The device or the model failed: why.
    Failed(String),
    /// The sessions are gone, with all that was loaded.
    Lost {
        /// Kind of the fault.
        cause: LossCause,
        /// Why, for whoever asked.
        why: String,
        /// Why, for the log.
        told: String,
    },
}

/// Why a job has no pictures, after it is known whose fault that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum JobError {
    Cancelled,
    SourceMissing(String),
    /// The worker is sound: what was asked cannot be drawn.
    Request(String),
    /// The worker is lost.
    Worker {
        cause: LossCause,
        why: String,
        told: String,
    },
}

/// What a worker is told.
pub(super) enum Order {
    /// With `probe`, it is loaded once a picture could be drawn with it.
    Load {
        model: ModelId,
        probe: bool,
    },
    Run {
        job: JobId,
        work: Work,
        parts: Vec<Drawing>,
    },
}

/// One picture of a job.
pub(super) struct Drawing {
    pub(super) request: RequestId,
    pub(super) source: Option<ImageId>,
    pub(super) prompt: Arc<str>,
    pub(super) noise: (u64, u64),
}

/// Told of each step of a request's job.
type Stepped = Option<Arc<dyn Fn(RequestId, u32) + Send + Sync>>;

/// The executor's end of a worker's thread.
#[derive(Debug)]
pub(super) struct Handle {
    orders: Sender<Order>,
    /// The job to stop, or `NONE`.
    stop: Arc<AtomicU64>,
    progress: Progress,
    thread: JoinHandle<()>,
}

const NONE: u64 = u64::MAX;

/// How long the trust lasts that a drawn probe earns its worker, and for how many failures.
const TRUST: Duration = Duration::from_secs(10);
const TRUSTED_FAILURES: u32 = 8;
/// Prompt of a probe before any other has been drawn: every pipeline that has guidance conditions on it.
const EMPTY_PROMPT: &str = "";

#[expect(clippy::disallowed_methods, reason = "a run in real time has the host's clock")]
fn now() -> Instant {
    Instant::now()
}

/// The last prompt that any worker has drawn with each model: what a probe draws.
#[derive(Clone, Debug, Default)]
pub(super) struct GoodPrompts(Arc<Mutex<BTreeMap<ModelId, Arc<str>>>>);

impl GoodPrompts {
    fn drawn(&self, model: ModelId, prompt: &Arc<str>) {
        self.known().insert(model, prompt.clone());
    }

    fn of(&self, model: ModelId) -> Arc<str> {
        self.known().get(&model).cloned().unwrap_or_else(|| EMPTY_PROMPT.into())
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<ModelId, Arc<str>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Time of a worker thread's last progress, for the watchdog.
#[derive(Clone, Debug)]
pub(super) struct Progress(Arc<Mutex<Instant>>);

impl Progress {
    fn begin() -> Self {
        Self(Arc::new(Mutex::new(now())))
    }

    fn touch(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now();
    }

    /// Time since then.
    pub(super) fn silence(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

impl Handle {
    /// Starts a worker's thread. `life` tells its answers from those of the threads before it.
    pub(super) fn start(
        worker: WorkerId,
        life: u32,
        paint: Box<dyn Paint>,
        stepped: Stepped,
        sources: Sources,
        good_prompts: GoodPrompts,
        answers: UnboundedSender<Answer>,
    ) -> std::io::Result<Self> {
        let (orders, work) = channel();
        let stop = Arc::new(AtomicU64::new(NONE));
        let progress = Progress::begin();
        let mut thread = Thread {
            worker,
            life,
            paint,
            stepped,
            sources,
            answers,
            stop: stop.clone(),
            progress: progress.clone(),
            held: None,
            good_prompts,
            trust: None,
        };
        let run = move || {
            let ended = catch_unwind(AssertUnwindSafe(|| thread.run(&work)));
            if let Err(panic) = ended {
                let why = panic.downcast_ref::<String>().cloned();
                let why = why.or_else(|| panic.downcast_ref::<&str>().map(|why| (*why).to_owned()));
                let why = why.unwrap_or_else(|| "its thread died".to_owned());
                // Nobody listens once the run is over.
                let _ = thread.answers.send(Answer::Lost { worker, life, why });
            }
        };
        let thread = std::thread::Builder::new().name(format!("worker {}", worker.0)).spawn(run)?;
        Ok(Self { orders, stop, progress, thread })
    }

    /// Tells the thread what to do next. A dead thread has said that it is dead.
    pub(super) fn order(&self, order: Order) {
        if let Order::Run { .. } = order {
            self.stop.store(NONE, Ordering::Relaxed);
        }
        self.progress.touch();
        let _ = self.orders.send(order);
    }

    /// Time since the thread last got on with what it was told.
    pub(super) fn silence(&self) -> Duration {
        self.progress.silence()
    }

    /// Nothing more is ordered: the thread ends when it is through with what it has.
    pub(super) fn leave(self) -> JoinHandle<()> {
        self.thread
    }

    /// Stops a job at its next step.
    pub(super) fn stop(&self, job: JobId) {
        self.stop.store(job.0, Ordering::Relaxed);
    }
}

struct Thread {
    worker: WorkerId,
    life: u32,
    paint: Box<dyn Paint>,
    stepped: Stepped,
    sources: Sources,
    answers: UnboundedSender<Answer>,
    stop: Arc<AtomicU64>,
    progress: Progress,
    held: Option<ModelId>,
    good_prompts: GoodPrompts,
    /// Until when a failed job is taken for its request's fault without a probe, and how many may fail.
    trust: Option<(Instant, u32)>,
}

impl Thread {
    fn run(&mut self, orders: &Receiver<Order>) {
        let (worker, life) = (self.worker, self.life);
        for order in orders {
            self.progress.touch();
            let answer = match order {
                Order::Load { model, probe } => Answer::Loaded { worker, life, outcome: self.load(model, probe) },
                Order::Run { job, work, parts } => {
                    let drawn = self.draw(job, work, &parts);
                    let outcome = drawn.map_err(|error| self.judge(error, work));
                    Answer::Drawn { worker, life, job, outcome }
                }
            };
            if self.answers.send(answer).is_err() {
                return;
            }
        }
    }

    /// A load that fails brings back what was there; says what the worker holds then, and why.
    fn load(&mut self, model: ModelId, probe: bool) -> Result<(), (Option<ModelId>, String)> {
        let before = self.held.take();
        self.trust = None;
        let Err(why) = self.paint.load(model) else {
            self.held = Some(model);
            if probe && let Err(error) = self.probe(model) {
                // What is loaded cannot draw: the worker has nothing.
                self.held = None;
                return Err((None, format!("the model is loaded and cannot draw: {}", error.told())));
            }
            return Ok(());
        };
        self.progress.touch();
        self.held = before.filter(|before| self.paint.load(*before).is_ok());
        Err((self.held, why))
    }

    fn draw(&mut self, job: JobId, work: Work, parts: &[Drawing]) -> Result<Vec<(RequestId, Picture)>, DrawError> {
        let (stop, stepped, progress) = (self.stop.clone(), self.stepped.clone(), self.progress.clone());
        let one = |part: &Drawing| {
            let source =
                part.source.map(|image| self.sources.read(image)).transpose().map_err(DrawError::SourceMissing)?;
            progress.touch();
            let (request, prompt, noise) = (part.request, &*part.prompt, part.noise);
            let task = Task { request, noise, prompt, work, source: source.as_deref() };
            // It is asked before each step: what was asked before is done.
            let done = Cell::new(0);
            let keep_going = || {
                progress.touch();
                if let Some(stepped) = stepped.as_ref().filter(|_| done.get() > 0) {
                    stepped(request, done.get());
                }
                done.set(done.get() + 1);
                stop.load(Ordering::Relaxed) != job.0
            };
            let picture = self.paint.draw(&task, &keep_going)?;
            self.good_prompts.drawn(work.model, &part.prompt);
            Ok((request, picture))
        };
        parts.iter().map(one).collect()
    }

    /// Tells whose fault a failed job is: its request's, if the worker can still draw what it could before.
    fn judge(&mut self, error: DrawError, work: Work) -> JobError {
        let why = match error {
            DrawError::Cancelled => return JobError::Cancelled,
            DrawError::SourceMissing(why) => return JobError::SourceMissing(why),
            DrawError::Lost { cause, why, told } => return JobError::Worker { cause, why, told },
            DrawError::Failed(why) => why,
        };
        if let Some((until, left)) = &mut self.trust
            && now() < *until
            && *left > 0
        {
            // Who sends a thousand bad requests does not have a thousand probes drawn.
            *left -= 1;
            return JobError::Request(why);
        }
        match self.probe(work.model) {
            Ok(()) => {
                self.trust = Some((now() + TRUST, TRUSTED_FAILURES));
                JobError::Request(why)
            }
            Err(error) => {
                let told = format!("a job failed ({why}), and then a prompt that is good: {}", error.told());
                JobError::Worker { cause: LossCause::FailedProbe, why, told }
            }
        }
    }

    /// Draws a prompt that is known to be good, in as few steps as there can be; the picture is thrown away.
    fn probe(&mut self, model: ModelId) -> Result<(), DrawError> {
        self.progress.touch();
        let prompt = self.good_prompts.of(model);
        let work = Work { model, total_steps: 1, skipped_steps: 0 };
        let task = Task { request: RequestId(u32::MAX), noise: (0, 0), prompt: &prompt, work, source: None };
        let progress = self.progress.clone();
        let keep_going = || {
            progress.touch();
            true
        };
        self.paint.draw(&task, &keep_going).map(drop)
    }
}

impl DrawError {
    /// Why, for the log.
    fn told(&self) -> &str {
        match self {
            Self::Cancelled => "cancelled",
            Self::SourceMissing(why) | Self::Failed(why) => why,
            Self::Lost { told, .. } => told,
        }
    }
}
