//! What an answer of a thread amounts to for the core, and what becomes of workers that are lost.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{Answer, Live};
use crate::embedding::Embedding;
use crate::live::picture::Picture;
use crate::live::worker::DrawError;
use crate::request::RequestId;
use crate::scheduler::{Event, JobId, Output, WorkerId};

/// Losses in a row, without a job done in between, after which a worker is given up.
const MOST_LOSSES: u32 = 6;
/// Jobs that fail in a row on a worker before its sessions are made anew.
const MOST_FAILURES: u32 = 2;

impl Live {
    /// What an answer amounts to; `None` if it is out of date.
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
            Answer::Drawn { worker, life, job, outcome } => {
                let state = &mut self.workers[worker.index()];
                if !state.is_in(life) {
                    return None;
                }
                state.job = None;
                self.in_flight -= 1;
                Some(self.drawn(worker, job, outcome))
            }
            Answer::Loaded { worker, life, outcome } => {
                let state = &mut self.workers[worker.index()];
                if !state.is_in(life) {
                    return None;
                }
                state.loading = false;
                self.in_flight -= 1;
                Some(match outcome {
                    Ok(()) => Event::ModelLoaded { worker },
                    Err((loaded, reason)) => {
                        self.warn(&format!("worker {}: {reason}", worker.0));
                        if loaded.is_none() {
                            self.away(worker);
                        }
                        Event::LoadFailed { worker, loaded, reason }
                    }
                })
            }
            Answer::Lost { worker, life, why } => {
                self.workers[worker.index()].is_in(life).then(|| self.lost(worker, &why))
            }
            Answer::Back(worker) => self.back(worker),
            Answer::Woken => None,
        }
    }

    fn embedded(&self, request: RequestId, what: &str, embedding: Result<Embedding, String>) -> Option<Embedding> {
        embedding.inspect_err(|why| self.warn(&format!("the {what} of request {request} has no embedding: {why}"))).ok()
    }

    fn drawn(&mut self, worker: WorkerId, job: JobId, outcome: Result<Vec<(RequestId, Picture)>, DrawError>) -> Event {
        let reason = match outcome {
            Ok(pictures) => {
                let state = &mut self.workers[worker.index()];
                (state.failures, state.losses) = (0, 0);
                let mut outputs = SmallVec::new();
                for (request, picture) in pictures {
                    // Nobody wants the picture of a request that was withdrawn.
                    if let Some(state) = self.requests.get_mut(&request) {
                        state.picture = Some(Arc::new(picture));
                    }
                    outputs.push(Output::of(request));
                }
                return Event::JobCompleted { worker, job, outputs };
            }
            Err(DrawError::SourceMissing(why)) => {
                self.warn(&format!("a source cannot be read, its request becomes a miss: {why}"));
                return Event::SourceMissing { worker, job };
            }
            Err(DrawError::Cancelled) => "cancelled".to_owned(),
            Err(DrawError::Failed(why)) => {
                self.warn(&format!("worker {}: a job failed: {why}", worker.0));
                let state = &mut self.workers[worker.index()];
                state.failures += 1;
                if state.failures >= MOST_FAILURES {
                    state.failures = 0;
                    // One event for both: between two, the core would give the worker its next job.
                    state.job = Some(job);
                    self.in_flight += 1;
                    return self.lost(worker, "several jobs failed: its sessions are made anew");
                }
                why
            }
        };
        Event::JobFailed { worker, job, reason }
    }

    /// A worker's thread is gone, or is left to end by itself.
    fn lost(&mut self, worker: WorkerId, why: &str) -> Event {
        self.warn(&format!("worker {} is lost: {why}", worker.0));
        let state = &mut self.workers[worker.index()];
        state.leave();
        self.in_flight -= usize::from(state.job.take().is_some()) + usize::from(std::mem::take(&mut state.loading));
        self.away(worker);
        Event::WorkerDown(worker)
    }

    /// Has a lost worker come back after a while, unless it was lost too often.
    fn away(&mut self, worker: WorkerId) {
        let state = &mut self.workers[worker.index()];
        state.losses += 1;
        if state.losses >= MOST_LOSSES {
            self.warn(&format!("worker {} is given up", worker.0));
            return;
        }
        self.announce(worker);
    }

    /// Has a worker come back after a while.
    fn announce(&mut self, worker: WorkerId) {
        // Longer each time: what is wrong may pass.
        let doubled = 1 << self.workers[worker.index()].losses.clamp(1, MOST_LOSSES).saturating_sub(1);
        let (answers, away) = (self.to_answers.clone(), self.setting.away * doubled);
        self.in_flight += 1;
        self.runtime.spawn(async move {
            tokio::time::sleep(away).await;
            // Nobody listens once the run is over.
            let _ = answers.send(Answer::Back(worker));
        });
    }

    fn back(&mut self, worker: WorkerId) -> Option<Event> {
        self.in_flight -= 1;
        let state = &mut self.workers[worker.index()];
        state.leaving.retain(|thread| !thread.is_finished());
        if !state.leaving.is_empty() {
            self.announce(worker); // Its device is not free yet.
            return None;
        }
        if state.handle.is_none()
            && let Err(error) = self.start_worker(worker)
        {
            self.warn(&format!("worker {} stays away: {error}", worker.0));
            return None;
        }
        Some(Event::WorkerUp(worker))
    }
}
