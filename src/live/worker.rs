//! A worker's thread: it owns the sessions of its device and does what it is told, one thing after the other.
//! Whatever goes wrong there is an answer; a thread that dies says so with its last breath.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use tokio::sync::mpsc::UnboundedSender;

use super::executor::Answer;
use super::picture::Picture;
use super::store::Sources;
use crate::image::ImageId;
use crate::model::{ModelId, Work};
use crate::request::RequestId;
use crate::scheduler::{JobId, WorkerId};

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
}

/// What a worker is told.
pub(super) enum Order {
    Load(ModelId),
    Run { job: JobId, work: Work, parts: Vec<Drawing> },
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
    thread: JoinHandle<()>,
}

const NONE: u64 = u64::MAX;

impl Handle {
    /// Starts a worker's thread. `life` tells its answers from those of the threads before it.
    pub(super) fn start(
        worker: WorkerId,
        life: u32,
        paint: Box<dyn Paint>,
        stepped: Stepped,
        sources: Sources,
        answers: UnboundedSender<Answer>,
    ) -> std::io::Result<Self> {
        let (orders, work) = channel();
        let stop = Arc::new(AtomicU64::new(NONE));
        let mut thread = Thread { worker, life, paint, stepped, sources, answers, stop: stop.clone(), held: None };
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
        Ok(Self { orders, stop, thread })
    }

    /// Tells the thread what to do next. A dead thread has said that it is dead.
    pub(super) fn order(&self, order: Order) {
        if let Order::Run { .. } = order {
            self.stop.store(NONE, Ordering::Relaxed);
        }
        let _ = self.orders.send(order);
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
    held: Option<ModelId>,
}

impl Thread {
    fn run(&mut self, orders: &Receiver<Order>) {
        let (worker, life) = (self.worker, self.life);
        for order in orders {
            let answer = match order {
                Order::Load(model) => Answer::Loaded { worker, life, outcome: self.load(model) },
                Order::Run { job, work, parts } => {
                    Answer::Drawn { worker, life, job, outcome: self.draw(job, work, &parts) }
                }
            };
            if self.answers.send(answer).is_err() {
                return;
            }
        }
    }

    /// A load that fails brings back what was there; says what the worker holds then, and why.
    fn load(&mut self, model: ModelId) -> Result<(), (Option<ModelId>, String)> {
        let before = self.held.take();
        let Err(why) = self.paint.load(model) else {
            self.held = Some(model);
            return Ok(());
        };
        self.held = before.filter(|before| self.paint.load(*before).is_ok());
        Err((self.held, why))
    }

    fn draw(&mut self, job: JobId, work: Work, parts: &[Drawing]) -> Result<Vec<(RequestId, Picture)>, DrawError> {
        let (stop, stepped) = (self.stop.clone(), self.stepped.clone());
        let one = |part: &Drawing| {
            let source =
                part.source.map(|image| self.sources.read(image)).transpose().map_err(DrawError::SourceMissing)?;
            let (request, prompt, noise) = (part.request, &*part.prompt, part.noise);
            let task = Task { request, noise, prompt, work, source: source.as_deref() };
            // It is asked before each step: what was asked before is done.
            let done = Cell::new(0);
            let keep_going = || {
                if let Some(stepped) = stepped.as_ref().filter(|_| done.get() > 0) {
                    stepped(request, done.get());
                }
                done.set(done.get() + 1);
                stop.load(Ordering::Relaxed) != job.0
            };
            Ok((request, self.paint.draw(&task, &keep_going)?))
        };
        parts.iter().map(one).collect()
    }
}
