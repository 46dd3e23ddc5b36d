//! Turns the answers of threads into events for the core, and brings lost workers back.

use std::sync::Arc;
use std::time::Duration as HostDuration;

use smallvec::SmallVec;

use super::{Answer, Live};
use crate::embedding::Embedding;
use crate::live::embedder::EmbedError;
use crate::live::worker::{FailedLoad, JobError, Painted};
use crate::request::RequestId;
use crate::scheduler::{Event, JobId, LossCause, Output, WorkerId};

/// Longest time that a lost worker stays away, however often the worker was lost.
const LONGEST_AWAY: HostDuration = HostDuration::from_secs(60);

impl Live {
    /// Returns the event of an answer, or `None` if the answer causes no event or is out of date.
    pub(super) fn event(&mut self, answer: Answer) -> Option<Event> {
        match answer {
            Answer::Prompt { request, embedding } => {
                self.in_flight -= 1;
                let embedding = self.embedded(request, "prompt", embedding);
                if let Some(state) = self.requests.get_mut(&request) {
                    state.prompt.clone_from(&embedding);
                }
                Some(Event::Encoded { request, embedding })
            }
            Answer::Picture { request, embedding } => {
                self.in_flight -= 1;
                let embedding = self.embedded(request, "picture", embedding);
                if let Some(state) = self.requests.get_mut(&request) {
                    state.encoding = false;
                    state.image.clone_from(&embedding);
                }
                self.settled.push(request);
                Some(Event::ImageEncoded { request, embedding })
            }
            Answer::Read { request, picture } => {
                self.in_flight -= 1;
                self.given_back(request, picture);
                None
            }
            Answer::Drawn { worker, life, job, outcome } => {
                let state = &mut self.workers[worker.index()];
                if !state.is_in(life) {
                    return None;
                }
                state.job = None;
                self.in_flight -= 1;
                self.leaves_after(worker);
                Some(self.drawn(worker, job, outcome))
            }
            Answer::Loaded { worker, life, outcome } => {
                let state = &mut self.workers[worker.index()];
                if !state.is_in(life) {
                    return None;
                }
                state.loading = false;
                self.in_flight -= 1;
                self.leaves_after(worker);
                Some(match outcome {
                    Ok(()) => Event::ModelLoaded { worker },
                    Err(FailedLoad { held: loaded, error }) => {
                        self.warn(&format!("worker {}: {error}", worker.0));
                        if loaded.is_none() {
                            // The sessions that failed to load or draw may be damaged: the next try gets new sessions.
                            self.workers[worker.index()].leave();
                            self.away(worker);
                        }
                        Event::LoadFailed { worker, loaded, reason: error.to_string() }
                    }
                })
            }
            Answer::Lost { worker, life, why } => {
                let told = format!("its thread died: {why}");
                let lost = |live: &mut Self| live.lost(worker, LossCause::Crashed, &told, "worker lost".to_owned());
                self.workers[worker.index()].is_in(life).then(|| lost(self))
            }
            Answer::Away(away) => self.went_away(away),
            Answer::Left(worker) => self.workers[worker.index()].going.then(|| self.left(worker)),
            Answer::Back(worker) => self.back(worker),
            Answer::Watch => self.look_after(),
            Answer::Woken | Answer::Abort => None,
        }
    }

    fn embedded(&self, request: RequestId, what: &str, embedding: Result<Embedding, EmbedError>) -> Option<Embedding> {
        let warn = |error: &_| self.warn(&format!("the {what} of request {request} has no embedding: {error}"));
        embedding.inspect_err(warn).ok()
    }

    fn drawn(&mut self, worker: WorkerId, job: JobId, outcome: Result<Vec<(RequestId, Painted)>, JobError>) -> Event {
        let error = match outcome {
            Ok(pictures) => {
                let state = &mut self.workers[worker.index()];
                state.losses = 0;
                let mut outputs = SmallVec::new();
                for (request, Painted { picture, cuts, embedding }) in pictures {
                    for cut in cuts {
                        self.setting.book.cut(request, &cut);
                        if let Some(warning) = self.cut_prompts.count(request, cut) {
                            self.warn(&warning);
                        }
                    }
                    let mut output = Output::new(request);
                    // A request that was withdrawn is forgotten already, and its picture is dropped.
                    if let Some(state) = self.requests.get_mut(&request) {
                        state.picture = Some(Arc::new(picture));
                        // An embedding of another space would be compared with what it has nothing to do with.
                        let fits = |own: &Embedding| {
                            state.prompt.as_ref().is_none_or(|prompt| prompt.as_slice().len() == own.as_slice().len())
                        };
                        state.image = embedding.filter(fits);
                        output.embedding.clone_from(&state.image);
                    }
                    outputs.push(output);
                }
                return Event::JobCompleted { worker, job, outputs };
            }
            Err(error) => error,
        };
        match error {
            JobError::SourceMissing(error) => {
                self.warn(&format!("a source cannot be read, its request becomes a miss: {error}"));
                Event::SourceMissing { worker, job }
            }
            JobError::Cancelled => Event::JobFailed { worker, job, reason: "cancelled".to_owned() },
            JobError::UnknownRequest(request) => {
                self.refused(worker, job, format!("request {request} is unknown: nothing is drawn for it"))
            }
            JobError::Request(error) => self.refused(worker, job, error.to_string()),
            JobError::Lost(process) => {
                let (cause, told, reason) = (process.fault.cause(), process.to_string(), process.fault.to_string());
                self.lost_with_job(worker, job, cause, &told, reason)
            }
            JobError::FailedProbe { job: error, probe } => {
                let told = format!("a job failed ({error}), and then a prompt that is good: {probe}");
                self.lost_with_job(worker, job, LossCause::FailedProbe, &told, error.to_string())
            }
        }
    }

    /// Fails a job for a reason that lies in its request.
    fn refused(&self, worker: WorkerId, job: JobId, reason: String) -> Event {
        self.warn(&format!("worker {}: a job failed, and the worker is sound: {reason}", worker.0));
        Event::JobFailed { worker, job, reason }
    }

    /// Gives up a worker together with its job. One event tells of both: between two events the core would give the
    /// worker its next job.
    fn lost_with_job(&mut self, worker: WorkerId, job: JobId, cause: LossCause, told: &str, reason: String) -> Event {
        self.workers[worker.index()].job = Some(job);
        self.in_flight += 1;
        self.lost(worker, cause, told, reason)
    }

    /// Gives up the thread of a worker, which has ended or is left to end by itself. `told` is the reason for the log,
    /// `reason` the one for the requests of the worker's job.
    pub(super) fn lost(&mut self, worker: WorkerId, cause: LossCause, told: &str, reason: String) -> Event {
        self.warn(&format!("worker {} is lost: {told}", worker.0));
        let state = &mut self.workers[worker.index()];
        state.leave();
        self.in_flight -= usize::from(state.job.take().is_some()) + usize::from(std::mem::take(&mut state.loading));
        self.away(worker);
        Event::WorkerLost { worker, cause, reason }
    }

    /// Counts a loss of a worker and has the worker come back after a while, however often it was lost.
    fn away(&mut self, worker: WorkerId) {
        let state = &mut self.workers[worker.index()];
        state.losses = state.losses.saturating_add(1);
        // The time doubles with each loss, because the cause may need time to pass.
        let doubled = 1 << state.losses.clamp(1, 17).saturating_sub(1);
        self.announce(worker, (self.setting.away * doubled).min(LONGEST_AWAY));
    }

    /// Has a worker come back after a while.
    pub(super) fn announce(&mut self, worker: WorkerId, away: HostDuration) {
        let answers = self.to_answers.clone();
        self.in_flight += 1;
        self.runtime.spawn(async move {
            tokio::time::sleep(away).await;
            // Nobody listens once the run is over.
            let _ = answers.send(Answer::Back(worker));
        });
    }

    fn back(&mut self, worker: WorkerId) -> Option<Event> {
        self.in_flight -= 1;
        // The device may not be free yet, or its machine may not be there.
        if self.workers[worker.index()].is_leaving() || !self.is_there(worker) {
            self.announce(worker, self.setting.away);
            return None;
        }
        let state = &mut self.workers[worker.index()];
        if state.handle.is_none()
            && let Err(error) = self.start_worker(worker)
        {
            self.warn(&format!("worker {} has no thread: {error}", worker.0));
            self.away(worker);
            return None;
        }
        Some(Event::WorkerUp(worker))
    }
}
