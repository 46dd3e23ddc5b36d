//! Thread of a worker. The thread owns the sessions of its device and carries out its orders one after the other. Every
//! failure becomes an answer, and a thread that panics sends a last answer before it ends.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use super::details::{Details, USUAL};
use super::error::Error;
use super::executor::Answer;
use super::isolated::LostProcess;
use super::picture::Picture;
use super::pipeline::Cut;
use super::store::{Sources, StoreError};
use crate::embedding::Embedding;
use crate::image::ImageId;
use crate::model::{ModelId, Work};
use crate::request::RequestId;
use crate::scheduler::{JobId, WorkerId};

/// Painter that loads models and draws on the device of a worker. The real ones are [`super::painter::Painter`] and
/// [`super::isolated::IsolatedPainter`], tests have others.
pub trait Paint: Send {
    /// Loads a model onto the device. The model that was there is dropped first.
    ///
    /// # Errors
    /// Returns an error if the model cannot be loaded. The device is empty then.
    fn load(&mut self, model: ModelId) -> Result<(), LoadError>;

    /// Draws the picture of one request with the model that is loaded. Calls `keep_going` before each step.
    ///
    /// # Errors
    /// Returns an error if the drawing was cancelled or failed.
    fn draw(&mut self, task: &Task<'_>, keep_going: &dyn Fn() -> bool) -> Result<Painted, DrawError>;

    /// Returns whether the pictures of sources are to be read for this painter. One that is far away fetches those that
    /// it lacks.
    fn reads_sources(&self) -> bool {
        true
    }
}

/// Picture that was drawn, and what its prompt lost.
#[derive(Clone, Debug)]
pub struct Painted {
    /// Picture of the task.
    pub picture: Picture,
    /// Parts of the prompt that the model's text encoders did not see.
    pub cuts: Vec<Cut>,
    /// Embedding of the picture, if the painter has computed it.
    pub embedding: Option<Embedding>,
}

impl From<Picture> for Painted {
    fn from(picture: Picture) -> Self {
        Self { picture, cuts: Vec::new(), embedding: None }
    }
}

/// Picture to draw.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// Request that the picture belongs to.
    pub request: RequestId,
    /// Seed and row that the noise of the picture derives from.
    pub noise: (u64, u64),
    /// Prompt of the picture.
    pub prompt: &'a str,
    /// Wishes of the request beside its prompt.
    pub details: &'a Details,
    /// Model, size, and numbers of total and skipped denoising steps.
    pub work: Work,
    /// Source picture, if steps are skipped and the painter has sources read.
    pub source: Option<&'a Picture>,
    /// Source among the images of the run, if steps are skipped.
    pub image: Option<ImageId>,
}

/// Reason that a model is not loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// Model that the run does not have.
    #[error("there is no such model")]
    NoSuchModel,
    /// Failure of the model or the device.
    #[error(transparent)]
    Failed(#[from] Error),
    /// Loss of the process that loaded the model.
    #[error(transparent)]
    Lost(#[from] LostProcess),
    /// Model that was loaded, and then drew no picture.
    #[error("the model is loaded and cannot draw: {0}")]
    CannotDraw(DrawError),
}

/// Reason that there is no picture.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DrawError {
    /// Cancellation of the drawing.
    #[error("cancelled")]
    Cancelled,
    /// Source that cannot be read.
    #[error(transparent)]
    SourceMissing(#[from] StoreError),
    /// Model that the painter does not hold.
    #[error("the model is not loaded")]
    NotLoaded,
    /// Checkpoint that the run does not have.
    #[error("there is no such checkpoint")]
    NoSuchCheckpoint,
    /// Failure of the model or the device.
    #[error(transparent)]
    Failed(#[from] Error),
    /// Loss of the process that drew, with all models that were loaded.
    #[error(transparent)]
    Lost(#[from] LostProcess),
}

/// Reason that a job has no pictures, after it is known whether the request or the worker is at fault.
#[derive(Debug)]
pub(super) enum JobError {
    Cancelled,
    SourceMissing(StoreError),
    /// Request that is forgotten, or was never known.
    UnknownRequest(RequestId),
    /// Fault of the request: the worker is sound, but the picture cannot be drawn.
    Request(DrawError),
    /// Fault of the worker, whose process is lost.
    Lost(LostProcess),
    /// Fault of the worker, which then failed to draw a prompt that is good, too.
    FailedProbe {
        job: DrawError,
        probe: DrawError,
    },
}

/// Failure of a load, and the model that the worker holds after it.
#[derive(Debug)]
pub(super) struct FailedLoad {
    pub(super) held: Option<ModelId>,
    pub(super) error: Box<LoadError>,
}

/// Order to the thread of a worker.
pub(super) enum WorkerOrder {
    /// Load of a model. With `probe`, the load succeeds only after a picture was drawn with the model.
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

/// Picture of a job.
pub(super) struct Drawing {
    pub(super) request: RequestId,
    pub(super) source: Option<ImageId>,
    /// Source that the request brings; it is in no image cache.
    pub(super) own: Option<Arc<Picture>>,
    pub(super) prompt: Arc<str>,
    pub(super) details: Details,
    pub(super) noise: (u64, u64),
}

/// Function that is called after each step of a request's job except the last.
type Stepped = Option<Arc<dyn Fn(RequestId, u32) + Send + Sync>>;

/// Executor's end of a worker's thread.
#[derive(Debug)]
pub(super) struct Handle {
    orders: Sender<WorkerOrder>,
    /// Number of the job to stop, or `NONE`.
    stop: Arc<AtomicU64>,
    progress: Progress,
    thread: JoinHandle<()>,
}

const NONE: u64 = u64::MAX;

/// Time that a worker is trusted after it drew a probe, and number of failed jobs that the trust covers.
const TRUST: Duration = Duration::from_secs(10);
const TRUSTED_FAILURES: u32 = 8;
/// Prompt of a probe if no other prompt has been drawn yet. Every pipeline with guidance conditions on the empty
/// prompt.
const EMPTY_PROMPT: &str = "";

#[expect(clippy::disallowed_methods, reason = "a run in real time has the host's clock")]
fn now() -> Instant {
    Instant::now()
}

/// Last prompt that any worker has drawn with each model. A probe draws this prompt.
#[derive(Clone, Debug, Default)]
pub(super) struct GoodPrompts(Arc<Mutex<BTreeMap<ModelId, Arc<str>>>>);

impl GoodPrompts {
    fn drawn(&self, model: ModelId, prompt: &Arc<str>) {
        self.known().insert(model, prompt.clone());
    }

    fn prompt_of(&self, model: ModelId) -> Arc<str> {
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

    /// Returns the time since the last progress.
    pub(super) fn silence(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

impl Handle {
    /// Starts the thread of a worker. The number `life` tells the answers of this thread from those of earlier threads.
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

    /// Gives an order to the thread. If the thread has died, it has already said so in an answer.
    pub(super) fn order(&self, order: WorkerOrder) {
        if let WorkerOrder::Run { .. } = order {
            self.stop.store(NONE, Ordering::Relaxed);
        }
        self.progress.touch();
        let _ = self.orders.send(order);
    }

    /// Returns the time since the thread's last progress.
    pub(super) fn silence(&self) -> Duration {
        self.progress.silence()
    }

    /// Gives no more orders: the thread ends after the orders that it has.
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
    /// Time until which a failed job counts as the fault of its request without a probe, and number of such failures
    /// left.
    trust: Option<(Instant, u32)>,
}

impl Thread {
    fn run(&mut self, orders: &Receiver<WorkerOrder>) {
        let (worker, life) = (self.worker, self.life);
        for order in orders {
            self.progress.touch();
            let answer = match order {
                WorkerOrder::Load { model, probe } => Answer::Loaded { worker, life, outcome: self.load(model, probe) },
                WorkerOrder::Run { job, work, parts } => {
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

    /// Loads a model. If the load fails, brings the previous model back.
    fn load(&mut self, model: ModelId, probe: bool) -> Result<(), FailedLoad> {
        let before = self.held.take();
        // The trust was earned by the sessions that are dropped now.
        self.trust = None;
        let Err(error) = self.paint.load(model) else {
            self.held = Some(model);
            if probe && let Err(error) = self.probe(model) {
                // The model that is loaded cannot draw, so the worker holds no model.
                self.held = None;
                return Err(FailedLoad { held: None, error: LoadError::CannotDraw(error).into() });
            }
            return Ok(());
        };
        self.progress.touch();
        // The progress is noted before, so that the second load has a limit of its own.
        self.held = before.filter(|before| self.paint.load(*before).is_ok());
        Err(FailedLoad { held: self.held, error: error.into() })
    }

    fn draw(&mut self, job: JobId, work: Work, parts: &[Drawing]) -> Result<Vec<(RequestId, Painted)>, DrawError> {
        let (stop, stepped, progress) = (self.stop.clone(), self.stepped.clone(), self.progress.clone());
        let one = |part: &Drawing| {
            let image = part.source.filter(|_| self.paint.reads_sources());
            let source = image.map(|image| self.sources.read(image)).transpose()?.or_else(|| part.own.clone());
            progress.touch();
            let (request, prompt, noise) = (part.request, &*part.prompt, part.noise);
            let details = &part.details;
            let task = Task { request, noise, prompt, details, work, source: source.as_deref(), image: part.source };
            // `keep_going` is called before each step, so the steps of earlier calls are done.
            let done = Cell::new(0);
            let keep_going = || {
                progress.touch();
                if let Some(stepped) = stepped.as_ref().filter(|_| done.get() > 0) {
                    stepped(request, done.get());
                }
                done.set(done.get() + 1);
                stop.load(Ordering::Relaxed) != job.0
            };
            let painted = self.paint.draw(&task, &keep_going)?;
            // A probe draws with the model's own weights, of which a checkpoint's picture says nothing.
            if task.details.checkpoint == 0 {
                self.good_prompts.drawn(work.model, &part.prompt);
            }
            Ok((request, painted))
        };
        parts.iter().map(one).collect()
    }

    /// Decides who is at fault for a failed job: the request, if the worker can still draw a prompt that it could draw
    /// before, otherwise the worker.
    fn judge(&mut self, error: DrawError, work: Work) -> JobError {
        let error = match error {
            DrawError::Cancelled => return JobError::Cancelled,
            DrawError::SourceMissing(error) => return JobError::SourceMissing(error),
            DrawError::Lost(process) => return JobError::Lost(process),
            failed @ (DrawError::NotLoaded | DrawError::NoSuchCheckpoint | DrawError::Failed(_)) => failed,
        };
        if let Some((until, left)) = &mut self.trust
            && now() < *until
            && *left > 0
        {
            // A client that sends a thousand bad requests does not cause a thousand probes.
            *left -= 1;
            return JobError::Request(error);
        }
        match self.probe(work.model) {
            Ok(()) => {
                self.trust = Some((now() + TRUST, TRUSTED_FAILURES));
                JobError::Request(error)
            }
            Err(probe) => JobError::FailedProbe { job: error, probe },
        }
    }

    /// Draws a prompt that is known to be good, in one step, and drops the picture. The model has its own weights: a
    /// checkpoint that cannot be used is no fault of the worker.
    fn probe(&mut self, model: ModelId) -> Result<(), DrawError> {
        self.progress.touch();
        let prompt = self.good_prompts.prompt_of(model);
        let work = Work::new(model, 1, 0);
        let request = RequestId(u32::MAX);
        let task = Task { request, noise: (0, 0), prompt: &prompt, details: &USUAL, work, source: None, image: None };
        let progress = self.progress.clone();
        let keep_going = || {
            progress.touch();
            true
        };
        self.paint.draw(&task, &keep_going).map(drop)
    }
}
