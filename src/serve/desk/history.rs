//! The last minutes in windows of time, and what each worker does now: for the page's charts.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::Serialize;

use super::Facts;
use crate::scheduler::{Action, Event, Note, WorkerId};
use crate::time::{Duration, Time};

const WINDOW_S: u64 = 5;
/// A quarter of an hour.
const WINDOWS: usize = 180;

/// A window of time.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Window {
    /// Seconds from the start of the run to its beginning.
    pub t: u64,
    /// Requests that came.
    pub arrivals: u64,
    /// Requests that completed.
    pub completions: u64,
    /// Requests that were routed, and hits among them.
    pub routed: u64,
    /// Likewise.
    pub hits: u64,
    /// Completions in time.
    pub within_slo: u64,
    /// Requests that waited at its end, or now.
    pub queued: u64,
    /// Workers that held each model at its end, or now.
    pub workers_by_model: Vec<u32>,
}

/// What a worker does.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WorkerNow {
    /// Its number.
    pub worker: usize,
    /// The GPU's type.
    pub gpu: String,
    /// The model that it holds.
    pub model: Option<Arc<str>>,
    /// `idle`, `busy`, `loading` or `down`.
    pub state: &'static str,
    /// Number of times that it was lost.
    pub losses: u32,
    /// Seconds since it was lost, until it can draw again.
    pub lost_s: Option<f64>,
}

/// The last windows.
#[derive(Debug)]
pub(super) struct History {
    models: Vec<Arc<str>>,
    windows: VecDeque<Window>,
    workers: Vec<WorkerNow>,
    /// Time of each worker's loss, while it is lost.
    lost: Vec<Option<Time>>,
    /// Whether that has changed since it was asked.
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

    /// Windows of one tenant, which has no workers of its own.
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
        // After a long silence only what is shown is made up.
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

    /// How things stand, in the last window.
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

    /// A worker cannot draw.
    fn lose(&mut self, now: Time, worker: WorkerId) {
        self.is(worker, "down");
        self.workers[worker.index()].losses += 1;
        self.lost[worker.index()].get_or_insert(now);
        self.changed = true;
    }

    /// A worker can draw.
    fn found(&mut self, worker: WorkerId) {
        self.changed |= self.lost[worker.index()].take().is_some();
    }

    /// Whether a worker was lost or came back since this was asked.
    pub(super) fn has_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Since when no worker can draw, if that is so.
    pub(super) fn workerless(&self) -> Option<Time> {
        let all: Option<Vec<Time>> = self.lost.iter().copied().collect();
        all?.into_iter().max()
    }

    pub(super) fn action(&mut self, action: &Action) {
        match action {
            Action::Start { worker, work, .. } => {
                self.is(*worker, "busy");
                self.workers[worker.index()].model = Some(self.models[work.model.index()].clone());
            }
            Action::Load { worker, model } | Action::Note(Note::Switched { worker, model }) => {
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

    /// The windows up to now, oldest first.
    pub(super) fn windows(&mut self, now: Time, waiting: usize) -> Vec<Window> {
        self.advance(now, waiting);
        self.settle(waiting);
        self.windows.iter().cloned().collect()
    }

    /// The workers as they are now.
    #[must_use]
    pub(super) fn workers(&self, now: Time) -> Vec<WorkerNow> {
        let lost_s = |lost: &Option<Time>| lost.map(|lost| now.since(lost).seconds());
        let one = |(worker, lost): (&WorkerNow, &Option<Time>)| WorkerNow { lost_s: lost_s(lost), ..worker.clone() };
        self.workers.iter().zip(&self.lost).map(one).collect()
    }

    /// Whole seconds in which so many requests were served lately; at least one, at most a minute.
    pub(super) fn seconds_for(&self, now: Time, requests: usize) -> u64 {
        let minute = now.nanoseconds().saturating_sub(Duration::from_seconds_saturating(60.0).nanoseconds());
        let recent = self.windows.iter().filter(|window| window.t * 1_000_000_000 >= minute);
        let (completed, windows) = recent.fold((0, 0), |(sum, count), window| (sum + window.completions, count + 1));
        let a_second = completed as f64 / (f64::from(windows.max(1)) * WINDOW_S as f64);
        if a_second > 0.0 { ((requests as f64 / a_second).ceil() as u64).clamp(1, 60) } else { 60 }
    }
}
