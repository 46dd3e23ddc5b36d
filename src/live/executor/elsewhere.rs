//! Workers on other machines, as the executor sees them: they may be absent at the start, leave, and come back.

use std::time::Duration as HostDuration;

use serde::Serialize;

use super::{Answer, Live, LiveError};
use crate::live::store::Sources;
use crate::live::worker::LoadError;
use crate::model::ModelId;
use crate::scheduler::{Event, LossCause, WorkerId};

/// Worker that went away while it did nothing. One that did something answers for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Away {
    /// Worker.
    pub worker: WorkerId,
    /// True if it was told to end, which is no fault.
    pub left: bool,
    /// Reason, in words.
    pub why: String,
}

/// Worker on another machine, for those who show who is there.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Standing {
    /// Number of the worker; `None` if it waits for a place.
    pub worker: Option<usize>,
    /// Name of the machine.
    pub node: String,
    /// Device, e.g. `cuda:0`.
    pub device: String,
    /// GPU type.
    pub gpu: String,
    /// Version of modm there.
    pub version: String,
    /// State: `here`, `leaving`, `waiting` for a place, or `refused`.
    pub state: &'static str,
    /// Reason of a refusal.
    pub reason: Option<String>,
    /// Seconds since its last heartbeat.
    pub silent_s: f64,
    /// Number of pictures that it has drawn since it was started.
    pub pictures: u64,
    /// Number of sources that it has fetched.
    pub sources_fetched: u64,
    /// Number of sources that it had already.
    pub sources_kept: u64,
    /// Bytes of pictures that it has sent and fetched.
    pub bytes: u64,
    /// Seconds that it has worked.
    pub busy_s: f64,
}

/// Workers on other machines, which come and go.
pub trait Elsewhere: Send + Sync {
    /// Returns whether a machine is there for a worker.
    fn is_there(&self, worker: WorkerId) -> bool;

    /// Has `away` called for each worker that goes away while it does nothing.
    fn listen(&self, away: Box<dyn Fn(Away) + Send + Sync>);

    /// Lets workers fetch pictures of a store.
    fn give_sources(&self, sources: Sources);

    /// Returns the time by which a call of a worker may take longer than on this machine.
    fn slack(&self) -> HostDuration;

    /// Returns who is there: workers with places first, then those that wait, then those that are refused.
    fn standing(&self) -> Vec<Standing>;
}

/// Returns whether a load failed since the machine went away.
fn is_gone(error: &LiveError) -> bool {
    match error {
        LiveError::Load { error, .. } => {
            matches!(&**error, LoadError::Lost(lost) if lost.fault.cause() == LossCause::Gone)
        }
        _ => false,
    }
}

impl Live {
    /// Returns whether there is a machine for a worker.
    pub(super) fn is_there(&self, worker: WorkerId) -> bool {
        self.setting.elsewhere.as_ref().is_none_or(|elsewhere| elsewhere.is_there(worker))
    }

    /// Loads the first model of each worker, and waits until all have it. Workers on other machines that are not there,
    /// or cannot load, are said to be lost by the first events of the run.
    pub(super) fn load_first(&mut self, initial: &[ModelId]) -> Result<(), LiveError> {
        if let Some(elsewhere) = &self.setting.elsewhere {
            let answers = self.to_answers.clone();
            elsewhere.listen(Box::new(move |away| drop(answers.send(Answer::Away(away)))));
        }
        let mut absent: Vec<(WorkerId, String)> = Vec::new();
        let mut fault = None;
        for (worker, model) in initial.iter().enumerate() {
            let worker = WorkerId(worker as u16);
            self.start_worker(worker)?;
            if self.is_there(worker) {
                self.load(worker, *model);
            } else {
                absent.push((worker, "it has not joined yet".to_owned()));
            }
        }
        while self.in_flight > 0 {
            let Some(answer) = self.runtime.block_on(self.answers.recv()) else { break };
            let failed = match answer {
                Answer::Loaded { outcome, worker, .. } => {
                    self.workers[worker.index()].loading = false;
                    self.in_flight -= 1;
                    outcome.err().map(|failed| (worker, LiveError::Load { worker, error: failed.error }))
                }
                Answer::Lost { worker, why, .. } => Some((worker, LiveError::Lost { worker, why })),
                Answer::Watch => match self.look_after() {
                    Some(Event::WorkerLost { worker, reason: why, .. }) => {
                        Some((worker, LiveError::Lost { worker, why }))
                    }
                    _ => None,
                },
                _ => None,
            };
            let Some((worker, error)) = failed else { continue };
            if self.setting.elsewhere.is_none() {
                return Err(error);
            }
            absent.push((worker, error.to_string()));
            if !is_gone(&error) {
                fault = Some(error);
            }
        }
        // Machines that went away come back. If none of those that are there can load, that does not mend itself.
        if let Some(error) = fault.filter(|_| absent.len() == initial.len()) {
            return Err(error);
        }
        for (worker, why) in absent {
            let _ = self.to_answers.send(Answer::Away(Away { worker, left: false, why }));
        }
        Ok(())
    }

    /// Gives up a worker that went away. One that does something answers first.
    pub(super) fn went_away(&mut self, Away { worker, left, why }: Away) -> Option<Event> {
        let state = &mut self.workers[worker.index()];
        state.handle.as_ref()?;
        if state.job.is_some() || state.loading {
            // A worker that is lost answers so. One that was told to end has finished, and its answer is on its way.
            state.going = left;
            return None;
        }
        if !left {
            return Some(self.lost(worker, LossCause::Gone, &why, format!("its machine is gone: {why}")));
        }
        Some(self.left(worker))
    }

    /// Gives up a worker that was told to end, with what the core has given it since. The core gives that to others,
    /// and it counts as no attempt.
    pub(super) fn left(&mut self, worker: WorkerId) -> Event {
        let state = &mut self.workers[worker.index()];
        state.leave();
        self.in_flight -= usize::from(state.job.take().is_some()) + usize::from(std::mem::take(&mut state.loading));
        self.announce(worker, self.setting.away);
        Event::WorkerDown(worker)
    }

    /// Has a worker that is to be left given up after the core has acted on its last answer.
    pub(super) fn leaves_after(&self, worker: WorkerId) {
        if self.workers[worker.index()].going {
            let _ = self.to_answers.send(Answer::Left(worker));
        }
    }
}
