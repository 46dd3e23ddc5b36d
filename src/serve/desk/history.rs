//! History of the last minutes in windows of time, and the current state of each worker, for the charts of the page.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::Serialize;

use super::Facts;
use crate::scheduler::{Action, Event, Note, WorkerId};
use crate::time::{Duration, Time};

const WINDOW_S: u64 = 5;
/// Number of windows that are kept: a quarter of an hour.
const WINDOWS: usize = 180;

/// Window of time, with its counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Window {
    /// Beginning of the window, in seconds from the start of the run.
    pub t: u64,
    /// Number of requests that arrived.
    pub arrivals: u64,
    /// Number of requests that completed.
    pub completions: u64,
    /// Number of requests that were routed.
    pub routed: u64,
    /// Number of hits among the routed requests.
    pub hits: u64,
    /// Number of requests that completed in time.
    pub within_slo: u64,
    /// Number of requests that waited at the end of the window; in the current window, now.
    pub queued: u64,
    /// Number of workers that held each model at the end of the window, by model; in the current window, now.
    pub workers_by_model: Vec<u32>,
}

/// Current state of a worker.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WorkerNow {
    /// Number of the worker.
    pub worker: usize,
    /// Type of the GPU.
    pub gpu: String,
    /// Name of the model that the worker holds, if any.
    pub model: Option<Arc<str>>,
    /// State of the worker: `idle`, `busy`, `loading` or `down`.
    pub state: &'static str,
    /// Number of times that the worker was lost.
    pub losses: u32,
    /// Seconds since the worker was lost; `None` while it can generate images.
    pub lost_s: Option<f64>,
}

/// Latest windows of time, and the workers.
#[derive(Debug)]
pub(super) struct History {
    models: Vec<Arc<str>>,
    windows: VecDeque<Window>,
    workers: Vec<WorkerNow>,
    /// Time at which each worker was lost, by worker; `None` while the worker can generate images.
    lost: Vec<Option<Time>>,
    /// True if `lost` has changed since the last call of `has_changed`.
    changed: bool,
}

impl History {
    pub(super) fn new(facts: &Facts) -> Self {
        let worker = |(worker, model): (usize, &crate::model::ModelId)| WorkerNow {
            worker,
            gpu: facts.gpus[worker].clone(),
            model: Some(facts.models[model.index()].clone()),
            state: "idle",
            losses: 0,
            lost_s: None,
        };
        let workers: Vec<WorkerNow> = facts.initial.iter().enumerate().map(worker).collect();
        let (lost, models) = (vec![None; workers.len()], facts.models.clone());
        let mut history = Self { models, windows: VecDeque::new(), workers, lost, changed: false };
        history.windows.push_back(Window { workers_by_model: history.by_model(), ..Window::default() });
        history
    }

    /// Makes the history of one tenant, which has no workers of its own.
    pub(super) fn without_workers() -> Self {
        let windows = VecDeque::from([Window::default()]);
        Self { models: Vec::new(), windows, workers: Vec::new(), lost: Vec::new(), changed: false }
    }

    fn by_model(&self) -> Vec<u32> {
        let held = |model: &Arc<str>| self.workers.iter().filter(|worker| worker.model.as_ref() == Some(model)).count();
        self.models.iter().map(|model| held(model) as u32).collect()
    }

    fn last(&mut self) -> &mut Window {
        self.windows.back_mut().expect("there is always one")
    }

    /// Brings the windows up to now.
    pub(super) fn advance(&mut self, now: Time, waiting: usize) {
        let begins = now.nanoseconds() / 1_000_000_000 / WINDOW_S * WINDOW_S;
        if begins < self.last().t + WINDOW_S {
            return;
        }
        self.settle(waiting);
        // After a long silence, only the windows that are shown are added.
        let mut next = (self.last().t + WINDOW_S).max(begins.saturating_sub(WINDOW_S * WINDOWS as u64));
        while next <= begins {
            self.windows.push_back(Window { t: next, ..Window::default() });
            self.settle(waiting);
            if self.windows.len() > WINDOWS {
                self.windows.pop_front();
            }
            next += WINDOW_S;
        }
    }

    /// Sets the waiting requests and the workers of the last window to the current ones.
    fn settle(&mut self, waiting: usize) {
        let by_model = self.by_model();
        let last = self.last();
        (last.queued, last.workers_by_model) = (waiting as u64, by_model);
    }

    pub(super) fn arrived(&mut self) {
        self.last().arrivals += 1;
    }

    pub(super) fn routed(&mut self, hit: bool) {
        self.last().routed += 1;
        self.last().hits += u64::from(hit);
    }

    pub(super) fn ended(&mut self, completed: bool, within: bool) {
        self.last().completions += u64::from(completed);
        self.last().within_slo += u64::from(within);
    }

    pub(super) fn event(&mut self, now: Time, event: &Event) {
        match event {
            Event::Arrived(request) if !request.background => self.arrived(),
            Event::JobCompleted { worker, .. } | Event::ModelLoaded { worker } => {
                self.is(*worker, "idle");
                self.found(*worker);
            }
            // These do not end a loss: only a job or a load that succeeded shows that the worker can draw.
            Event::JobFailed { worker, .. } | Event::SourceMissing { worker, .. } | Event::WorkerUp(worker) => {
                self.is(*worker, "idle");
            }
            Event::LoadFailed { worker, loaded, .. } => {
                let model = loaded.map(|model| self.models[model.index()].clone());
                if model.is_some() {
                    self.is(*worker, "idle");
                    self.found(*worker);
                } else {
                    self.lose(now, *worker);
                }
                self.workers[worker.index()].model = model;
            }
            Event::WorkerDown(worker) | Event::WorkerLost { worker, .. } => {
                self.lose(now, *worker);
                self.workers[worker.index()].model = None;
            }
            _ => {}
        }
    }

    /// Notes that a worker cannot generate images.
    fn lose(&mut self, now: Time, worker: WorkerId) {
        self.is(worker, "down");
        self.workers[worker.index()].losses += 1;
        // A worker that fails again before it can draw has been lost since the first failure.
        self.lost[worker.index()].get_or_insert(now);
        self.changed = true;
    }

    /// Notes that a worker can generate images.
    fn found(&mut self, worker: WorkerId) {
        self.changed |= self.lost[worker.index()].take().is_some();
    }

    /// Returns whether a worker was lost or came back since the last call.
    pub(super) fn has_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Returns the time since which no worker can generate images, or `None` while a worker can.
    pub(super) fn workerless(&self) -> Option<Time> {
        let all: Option<Vec<Time>> = self.lost.iter().copied().collect();
        // The last worker to be lost decides.
        all?.into_iter().max()
    }

    pub(super) fn action(&mut self, action: &Action) {
        match action {
            Action::Start { worker, work, .. } => {
                self.is(*worker, "busy");
                self.workers[worker.index()].model = Some(self.models[work.model.index()].clone());
            }
            Action::Load { worker, model, .. } | Action::Note(Note::Switched { worker, model, .. }) => {
                let loads = matches!(action, Action::Load { .. });
                self.is(*worker, if loads { "loading" } else { "idle" });
                self.workers[worker.index()].model = Some(self.models[model.index()].clone());
            }
            _ => {}
        }
    }

    fn is(&mut self, worker: WorkerId, state: &'static str) {
        self.workers[worker.index()].state = state;
    }

    /// Returns the windows up to now, oldest first.
    pub(super) fn windows(&mut self, now: Time, waiting: usize) -> Vec<Window> {
        self.advance(now, waiting);
        self.settle(waiting);
        self.windows.iter().cloned().collect()
    }

    /// Returns the workers as they are now.
    #[must_use]
    pub(super) fn workers(&self, now: Time) -> Vec<WorkerNow> {
        let lost_s = |lost: &Option<Time>| lost.map(|lost| now.since(lost).seconds());
        let one = |(worker, lost): (&WorkerNow, &Option<Time>)| WorkerNow { lost_s: lost_s(lost), ..worker.clone() };
        self.workers.iter().zip(&self.lost).map(one).collect()
    }

    /// Estimates the whole seconds in which a number of requests are served, at the rate of the last minute. The
    /// estimate is from 1 to 60 seconds.
    pub(super) fn seconds_for(&self, now: Time, requests: usize) -> u64 {
        let minute = now.nanoseconds().saturating_sub(Duration::from_seconds_saturating(60.0).nanoseconds());
        let recent = self.windows.iter().filter(|window| window.t * 1_000_000_000 >= minute);
        let (completed, windows) = recent.fold((0, 0), |(sum, count), window| (sum + window.completions, count + 1));
        let a_second = completed as f64 / (f64::from(windows.max(1)) * WINDOW_S as f64);
        if a_second > 0.0 { ((requests as f64 / a_second).ceil() as u64).clamp(1, 60) } else { 60 }
    }
}
