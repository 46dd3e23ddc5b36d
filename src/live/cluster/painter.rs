//! Painter whose device is on another machine. It stands behind the same trait as local painters: the thread of the
//! worker waits here for answers, and a worker that is silent for too long counts as lost.

use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use super::hub::{Heard, Hub, Running, now};
use super::pictures::Arrived;
use super::protocol::{Became, Draw, Setup, What};
use crate::live::isolated::{LostProcess, ProcessFault, Reported};
use crate::live::store::StoreError;
use crate::live::worker::{DrawError, LoadError, Paint, Painted, Task};
use crate::model::ModelId;
use crate::scheduler::WorkerId;

/// Time without any answer after which an order is sent again.
const AGAIN: Duration = Duration::from_secs(1);
/// Time that a picture may be on its way beside the time for its bytes, and the bytes for which it may take a second.
const TRANSFER: Duration = Duration::from_secs(20);
const BYTES_PER_S: u64 = 1_000_000;

/// Returns the time that a picture of this width and height may be on its way.
pub(super) fn transfer(size: [u32; 2]) -> Duration {
    TRANSFER + Duration::from_secs(3 * u64::from(size[0]) * u64::from(size[1]) / BYTES_PER_S)
}

/// Painter on another machine.
#[derive(Debug)]
pub struct RemotePainter {
    hub: Arc<Hub>,
    worker: WorkerId,
    /// Name of the worker that holds the model, as far as it is known.
    holder: Option<String>,
}

impl RemotePainter {
    /// Makes the painter of a place, with no model loaded.
    pub(super) const fn new(hub: Arc<Hub>, worker: WorkerId) -> Self {
        Self { hub, worker, holder: None }
    }

    fn setup(&self) -> &Setup {
        &self.hub.setup
    }

    fn begin(&self, picture: Option<[u32; 2]>, what: What) -> Result<Running, LostProcess> {
        Running::begin(&self.hub, self.worker, picture, what)
            .ok_or_else(|| ProcessFault::Gone("no machine has taken its place".to_owned()).into())
    }
}

/// Waits for the next answer. `call` names the call that the limit is for, in the error.
fn next(running: &Running, limit: Duration, call: &'static str) -> Result<Became, LostProcess> {
    let begun = now();
    let mut sent = begun;
    loop {
        let left = limit.saturating_sub(begun.elapsed());
        match running.heard.recv_timeout(AGAIN.min(left)) {
            // The order runs, so that its next answer is waited for.
            Ok(Heard::Became(Became::Taken)) => {}
            Ok(Heard::Became(became)) => return Ok(became),
            Ok(Heard::Gone(why)) => return Err(ProcessFault::Gone(why).into()),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(ProcessFault::Gone("it was given up".to_owned()).into());
            }
            Err(RecvTimeoutError::Timeout) if begun.elapsed() >= limit => {
                running.stop();
                return Err(ProcessFault::Hung { call, limit }.into());
            }
            // The order, or the answer to it, may have been lost on the way.
            Err(RecvTimeoutError::Timeout) if sent.elapsed() >= AGAIN => {
                running.send();
                sent = now();
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

fn out_of_turn(became: &Became) -> LostProcess {
    let name = format!("{became:?}");
    let name = name.split(|letter: char| !letter.is_alphanumeric()).next().unwrap_or_default().to_owned();
    ProcessFault::OutOfTurn(name).into()
}

fn lost(hung: bool, fault: String, told: String) -> LostProcess {
    LostProcess { fault: ProcessFault::Elsewhere { hung, fault }, last_words: (!told.is_empty()).then_some(told) }
}

impl Paint for RemotePainter {
    fn load(&mut self, model: ModelId) -> Result<(), LoadError> {
        let Some(limit) = self.setup().limits.get(model.index()) else { return Err(LoadError::NoSuchModel) };
        // A process is started first, which may take as long as the load; and the old one may have to be ended.
        let limit = 3 * limit.load + self.hub.settings.notice();
        self.holder = None;
        let running = self.begin(None, What::Load { setup: self.setup().clone(), model })?;
        let became = next(&running, limit, "a load")?;
        running.noted();
        match became {
            Became::Loaded => {
                self.holder = Some(running.name.clone());
                Ok(())
            }
            Became::Failed(words) => Err(LoadError::Failed(Reported::new(words).into())),
            Became::Lost { hung, fault, told } => Err(lost(hung, fault, told).into()),
            Became::Refused(words) => Err(lost(false, words, String::new()).into()),
            other => Err(out_of_turn(&other).into()),
        }
    }

    fn draw(&mut self, task: &Task<'_>, keep_going: &dyn Fn() -> bool) -> Result<Painted, DrawError> {
        let Some(holder) = &self.holder else { return Err(DrawError::NotLoaded) };
        let usual = self.setup().size;
        let size = task.work.size.in_pixels(usual);
        let limits = self.setup().limits[task.work.model.index()].of_size(task.work.size, usual);
        let draw = Draw {
            request: task.request,
            noise: task.noise,
            prompt: task.prompt.to_owned(),
            details: task.details.clone(),
            work: task.work,
            source: task.image,
        };
        let running = self.begin(Some(size), What::Draw(draw))?;
        if running.name != *holder {
            // Another worker has taken the place, with no model.
            running.stop();
            return Err(LostProcess::from(ProcessFault::Gone("another took its place".to_owned())).into());
        }
        let transfer = transfer(size) + self.hub.settings.notice();
        // Steps are told without receipts, so that one limit holds for whatever may lie between two answers: a step,
        // the work around the steps, and a picture on its way.
        let limit = limits.step + limits.around + transfer + self.setup().encode[0];
        let first = limit + transfer + 2 * limits.load;
        let (mut begun, mut goes) = (0, true);
        loop {
            let became =
                next(&running, if begun > 0 { limit } else { first }, "a step of a job, or a picture on its way")?;
            let Became::Steps(steps) = became else { return finish(&running, became) };
            // What counts steps is called for each.
            while goes && begun < steps.min(task.work.steps_run()) {
                begun += 1;
                if !keep_going() {
                    goes = false;
                    running.stop();
                }
            }
            begun = begun.max(1);
        }
    }

    fn reads_sources(&self) -> bool {
        false
    }
}

/// Returns the result of a drawing that has ended.
fn finish(running: &Running, became: Became) -> Result<Painted, DrawError> {
    if let Became::Drawn = became {
        // A worker that says so is not believed: the picture is there, or it is not.
        let Some(Arrived { picture, cuts, embedding }) = running.picture() else {
            running.noted();
            return Err(LostProcess::from(ProcessFault::OutOfTurn("a picture that never came".to_owned())).into());
        };
        return Ok(Painted { picture, cuts, embedding });
    }
    running.noted();
    Err(match became {
        Became::Cancelled => DrawError::Cancelled,
        Became::SourceMissing(words) => DrawError::SourceMissing(StoreError::Elsewhere(words)),
        Became::Failed(words) => DrawError::Failed(Reported::new(words).into()),
        Became::Lost { hung, fault, told } => lost(hung, fault, told).into(),
        Became::Refused(words) => lost(false, words, String::new()).into(),
        other => out_of_turn(&other).into(),
    })
}
