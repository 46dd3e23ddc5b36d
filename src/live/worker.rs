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

use super::executor::Answer;
use super::picture::Picture;
use super::store::Sources;
use crate::image::ImageId;
use crate::model::{ModelId, Work};
use crate::request::RequestId;
use crate::scheduler::{JobId, LossCause, WorkerId};

/// Painter that loads models and draws on the device of a worker. The real ones are [`super::painter::Painter`] and
/// [`super::isolated::IsolatedPainter`], tests have others.
pub trait Paint: Send {
    /// Loads a model onto the device. The model that was there is dropped first.
    ///
    /// # Errors
    /// Returns the reason if the model cannot be loaded. The device is empty then.
    fn load(&mut self, model: ModelId) -> Result<(), String>;

    /// Draws the picture of one request with the model that is loaded. Calls `keep_going` before each step.
    ///
    /// # Errors
    /// Returns an error if the drawing was cancelled or failed.
    fn draw(&mut self, task: &Task<'_>, keep_going: &dyn Fn() -> bool) -> Result<Picture, DrawError>;
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
    /// Model, and numbers of total and skipped denoising steps.
    pub work: Work,
    /// Source picture, if steps are skipped.
    pub source: Option<&'a Picture>,
}

/// Reason that there is no picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DrawError {
    /// Cancellation of the drawing.
    Cancelled,
    /// Source that cannot be read, with the reason.
    SourceMissing(String),
    /// Failure of the device or the model, with the reason.
    Failed(String),
    /// Loss of the sessions, with all models that were loaded.
    Lost {
        /// Kind of the fault.
        cause: LossCause,
        /// Reason, for the client that asked for the picture.
        why: String,
        /// Reason, for the log.
        told: String,
    },
}

/// Reason that a job has no pictures, after it is known whether the request or the worker is at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum JobError {
    Cancelled,
    SourceMissing(String),
    /// Fault of the request: the worker is sound, but the picture cannot be drawn.
    Request(String),
    /// Fault of the worker, which is lost.
    Worker {
        cause: LossCause,
        why: String,
        told: String,
    },
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
    pub(super) prompt: Arc<str>,
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

    /// Loads a model. If the load fails, brings the previous model back. Returns the model that the worker holds after
    /// a failure, and the reason.
    fn load(&mut self, model: ModelId, probe: bool) -> Result<(), (Option<ModelId>, String)> {
        let before = self.held.take();
        // The trust was earned by the sessions that are dropped now.
        self.trust = None;
        let Err(why) = self.paint.load(model) else {
            self.held = Some(model);
            if probe && let Err(error) = self.probe(model) {
                // The model that is loaded cannot draw, so the worker holds no model.
                self.held = None;
                return Err((None, format!("the model is loaded and cannot draw: {}", error.told())));
            }
            return Ok(());
        };
        self.progress.touch();
        // The progress is noted before, so that the second load has a limit of its own.
        self.held = before.filter(|before| self.paint.load(*before).is_ok());
        Err((self.held, why))
    }

    fn draw(&mut self, job: JobId, work: Work, parts: &[Drawing]) -> Result<Vec<(RequestId, Picture)>, DrawError> {
        let (stop, stepped, progress) = (self.stop.clone(), self.stepped.clone(), self.progress.clone());
        let one = |part: &Drawing| {
            let source = part
                .source
                .map(|image| self.sources.read(image))
                .transpose()
                .map_err(|why| DrawError::SourceMissing(why.to_string()))?;
            progress.touch();
            let (request, prompt, noise) = (part.request, &*part.prompt, part.noise);
            let task = Task { request, noise, prompt, work, source: source.as_deref() };
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
            let picture = self.paint.draw(&task, &keep_going)?;
            self.good_prompts.drawn(work.model, &part.prompt);
            Ok((request, picture))
        };
        parts.iter().map(one).collect()
    }

    /// Decides who is at fault for a failed job: the request, if the worker can still draw a prompt that it could draw
    /// before, otherwise the worker.
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
            // A client that sends a thousand bad requests does not cause a thousand probes.
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

    /// Draws a prompt that is known to be good, in one step, and drops the picture.
    fn probe(&mut self, model: ModelId) -> Result<(), DrawError> {
        self.progress.touch();
        let prompt = self.good_prompts.prompt_of(model);
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
    /// Returns the reason, for the log.
    fn told(&self) -> &str {
        match self {
            Self::Cancelled => "cancelled",
            Self::SourceMissing(why) | Self::Failed(why) => why,
            Self::Lost { told, .. } => told,
        }
    }
}
