//! Hand of an agent: the thread that loads, draws, embeds and sends, one order after the other.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedSender;

use super::super::hub::now;
use super::super::pictures::{Line, LineError};
use super::super::protocol::{Became, Draw, Lease, Setup, Totals, What};
use super::{Shared, SharedEmbed};
use crate::embedding::Embedding;
use crate::image::ImageId;
use crate::live::isolated::LostProcess;
use crate::live::picture::Picture;
use crate::live::pipeline::Cut;
use crate::live::settings::Device;
use crate::live::worker::{DrawError, LoadError, Paint, Painted, Task};
use crate::model::ModelId;
use crate::scheduler::LossCause;

/// Time between two attempts to send or fetch a picture: at first, and at most.
const AGAIN: Duration = Duration::from_millis(100);
const LONGEST_AGAIN: Duration = Duration::from_secs(2);

/// Least time between two messages about the steps of a drawing.
const TOLD: Duration = Duration::from_millis(100);

/// Order for the hand.
pub(super) struct Job {
    pub(super) lease: Lease,
    pub(super) number: u64,
    pub(super) ticket: String,
    pub(super) what: What,
    /// True once nobody wants the result any more.
    pub(super) stop: Arc<AtomicBool>,
}

/// Report of the hand to its agent, about the order with this number of this session.
pub(super) struct Report {
    pub(super) session: String,
    pub(super) number: u64,
    pub(super) became: Became,
}

/// Picture whose scheduler has not said that it is safe, with what it was drawn from. A scheduler that died meanwhile,
/// and asks for the same once more, gets it without a drawing.
#[derive(Default)]
pub(super) struct Unsettled(Mutex<Option<Drawn>>);

/// Picture that is drawn: what it is a function of, in words, the picture, and what its prompt lost.
type Drawn = (String, Arc<Picture>, Vec<Cut>);

impl Unsettled {
    fn lock(&self) -> MutexGuard<'_, Option<Drawn>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the picture.
    pub(super) fn forget(&self) {
        *self.lock() = None;
    }
}

/// State of the thread.
pub(super) struct Hand {
    pub(super) shared: Arc<Shared>,
    pub(super) device: Device,
    pub(super) handle: Handle,
    pub(super) reports: UnboundedSender<Report>,
    pub(super) totals: Arc<Mutex<Totals>>,
    pub(super) unsettled: Arc<Unsettled>,
    pub(super) paint: Option<(Setup, Box<dyn Paint>)>,
    pub(super) model: Option<ModelId>,
    pub(super) embed: Option<SharedEmbed>,
    /// Connection for pictures, with the session that it belongs to.
    pub(super) line: Option<(String, Line)>,
}

impl Hand {
    /// Carries out orders until there can be no more.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        for job in jobs {
            let begun = now();
            let done = catch_unwind(AssertUnwindSafe(|| self.carry_out(&job)));
            let became = done.unwrap_or_else(|_| {
                // What a panic has left behind is not used again.
                (self.paint, self.model, self.embed, self.line) = (None, None, None, None);
                let told = "the worker panicked".to_owned();
                Became::Lost { hung: false, fault: told.clone(), told }
            });
            self.count(|totals| totals.busy_s += begun.elapsed().as_secs_f64());
            let report = Report { session: job.lease.session, number: job.number, became };
            if self.reports.send(report).is_err() {
                return;
            }
        }
    }

    fn carry_out(&mut self, job: &Job) -> Became {
        match &job.what {
            What::Load { setup, model } => self.load(setup, *model),
            What::Draw(draw) => self.draw(job, draw).unwrap_or_else(|became| became),
            What::Stop | What::Noted => Became::Failed("the order is none for a hand".to_owned()),
        }
    }

    fn count(&self, count: impl FnOnce(&mut Totals)) {
        count(&mut self.totals.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn load(&mut self, setup: &Setup, model: ModelId) -> Became {
        if self.paint.as_ref().is_none_or(|(known, _)| known != setup) {
            // The old processes go first: the device may not have room for both.
            self.paint = None;
            let tools = &self.shared.tools;
            self.embed = setup.encoder.as_ref().and_then(|encoder| tools.embed(encoder, setup.encode));
            match tools.paint(self.device, setup) {
                Ok(paint) => self.paint = Some((setup.clone(), paint)),
                Err(words) => return Became::Refused(words),
            }
        }
        self.model = None;
        let Some((_, paint)) = &mut self.paint else { return Became::Failed("there is no painter".to_owned()) };
        match paint.load(model) {
            Ok(()) => {
                self.model = Some(model);
                Became::Loaded
            }
            Err(LoadError::Lost(process)) => lost(&process),
            Err(error) => Became::Failed(error.to_string()),
        }
    }

    /// Draws a picture and sends it. Returns what became of it, as an error if there is none.
    fn draw(&mut self, job: &Job, draw: &Draw) -> Result<Became, Became> {
        let source = draw.source.map(|image| self.source(job, image)).transpose()?;
        let key = self.key(draw, source.as_deref());
        let unsettled = self.unsettled.lock().take().filter(|(known, ..)| *known == key);
        let (picture, cuts) = match unsettled {
            Some((_, picture, cuts)) => (picture, cuts),
            None => self.paint(job, draw, source.as_deref())?,
        };
        let embedding = self.embedding(&picture);
        self.send(job, &picture, &cuts, embedding.as_ref())?;
        let image = ImageId::of_request(draw.request);
        self.keep(&job.lease.session, image, picture.clone());
        *self.unsettled.lock() = Some((key, picture, cuts));
        Ok(Became::Drawn)
    }

    fn keep(&self, session: &str, image: ImageId, picture: Arc<Picture>) {
        self.shared.sources.lock().unwrap_or_else(PoisonError::into_inner).keep(session, image, picture);
    }

    /// Returns what a picture is a function of, in words: it is the same picture for the same words.
    fn key(&self, draw: &Draw, source: Option<&Picture>) -> String {
        let Draw { noise, prompt, details, work, .. } = draw;
        let source = source.map(|source| (source.size(), crc32fast::hash(source.bytes())));
        let setup = self.paint.as_ref().map(|(setup, _)| (&setup.models, &setup.checkpoints, setup.size));
        format!("{noise:?} {prompt:?} {details:?} {work:?} {source:?} {setup:?}")
    }

    fn paint(&mut self, job: &Job, draw: &Draw, source: Option<&Picture>) -> Result<(Arc<Picture>, Vec<Cut>), Became> {
        let loaded = self.model == Some(draw.work.model);
        let Some((_, paint)) = self.paint.as_mut().filter(|_| loaded) else {
            return Err(Became::Failed(DrawError::NotLoaded.to_string()));
        };
        let task = Task {
            request: draw.request,
            noise: draw.noise,
            prompt: &draw.prompt,
            details: &draw.details,
            work: draw.work,
            source,
            image: None,
        };
        let (session, number, reports) = (&job.lease.session, job.number, &self.reports);
        let (begun, told) = (Cell::new(0), Cell::new(now()));
        let keep_going = || {
            begun.set(begun.get() + 1);
            // Models of short steps would fill the network with what nobody looks at so often.
            if told.get().elapsed() >= TOLD {
                told.set(now());
                let became = Became::Steps(begun.get());
                let _ = reports.send(Report { session: session.clone(), number, became });
            }
            !job.stop.load(Ordering::Relaxed)
        };
        match paint.draw(&task, &keep_going) {
            Ok(Painted { picture, cuts, .. }) => {
                self.count(|totals| totals.pictures += 1);
                Ok((Arc::new(picture), cuts))
            }
            Err(DrawError::Cancelled) => Err(Became::Cancelled),
            Err(DrawError::SourceMissing(error)) => Err(Became::SourceMissing(error.to_string())),
            Err(DrawError::Lost(process)) => {
                self.model = None;
                Err(lost(&process))
            }
            Err(error) => Err(Became::Failed(error.to_string())),
        }
    }

    /// Embeds a picture; `None` if the scheduler is to do it.
    fn embedding(&self, picture: &Picture) -> Option<Embedding> {
        let embed = self.embed.as_ref()?;
        match embed.lock().unwrap_or_else(PoisonError::into_inner).picture(picture) {
            Ok(embedding) => Some(embedding),
            Err(error) => {
                (self.shared.say)(&format!("a picture is not embedded here, but by the scheduler: {error}"));
                None
            }
        }
    }

    /// Returns a source, from this node or from the scheduler.
    fn source(&mut self, job: &Job, image: ImageId) -> Result<Arc<Picture>, Became> {
        let session = &job.lease.session;
        let kept = self.shared.sources.lock().unwrap_or_else(PoisonError::into_inner).get(session, image);
        if let Some(picture) = kept {
            self.count(|totals| totals.kept += 1);
            return Ok(picture);
        }
        let ticket = &job.ticket;
        let fetched = self.persist(job, &async |line: &mut Line| line.fetch(ticket, image).await)?;
        let picture = Arc::new(fetched);
        self.count(|totals| {
            totals.fetched += 1;
            totals.bytes += picture.bytes().len() as u64;
        });
        self.keep(session, image, picture.clone());
        Ok(picture)
    }

    /// Sends a picture, for as long as it is wanted.
    fn send(
        &mut self,
        job: &Job,
        picture: &Picture,
        cuts: &[Cut],
        embedding: Option<&Embedding>,
    ) -> Result<(), Became> {
        self.persist(job, &async |line: &mut Line| line.send(&job.ticket, picture, cuts, embedding).await)?;
        self.count(|totals| totals.bytes += picture.bytes().len() as u64);
        Ok(())
    }

    /// Does something over the connection for pictures, again and again until the connection holds or nobody wants the
    /// result any more.
    fn persist<T>(&mut self, job: &Job, work: &impl AsyncFn(&mut Line) -> Result<T, LineError>) -> Result<T, Became> {
        let Lease { session, pictures, pin, .. } = &job.lease;
        if self.line.as_ref().is_none_or(|(known, _)| known != session) {
            let line = Line::new(pictures.clone(), pin).map_err(|error| Became::Failed(error.to_string()))?;
            self.line = Some((session.clone(), line));
        }
        let Some((_, line)) = &mut self.line else { return Err(Became::Cancelled) };
        let mut pause = AGAIN;
        loop {
            match self.handle.block_on(work(line)) {
                Ok(done) => return Ok(done),
                Err(LineError::Missing(words)) => return Err(Became::SourceMissing(words)),
                Err(error @ LineError::Refused(_)) => return Err(Became::Failed(error.to_string())),
                Err(error @ LineError::Connection(..)) => {
                    if pause == AGAIN {
                        (self.shared.say)(&format!("{error}; trying again"));
                    }
                }
            }
            if job.stop.load(Ordering::Relaxed) {
                return Err(Became::Cancelled);
            }
            // The timer is made within the runtime, which it belongs to.
            self.handle.block_on(async { tokio::time::sleep(pause).await });
            pause = (2 * pause).min(LONGEST_AGAIN);
        }
    }
}

fn lost(process: &LostProcess) -> Became {
    let hung = process.fault.cause() == LossCause::Hung;
    Became::Lost { hung, fault: process.fault.to_string(), told: process.to_string() }
}
