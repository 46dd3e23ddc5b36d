//! The fold itself: records in, sums and rows kept; `measures` makes results of them.
//! It knows the settings of the run and nothing of
//! the core's insides, so a journal that is read back gives the same results.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use smallvec::SmallVec;

use super::aggregate::Aggregate;
use super::cache::{CacheFold, CacheMark, HitCriteria};
use super::cluster::{AbsenceRow, ClusterWork, State};
use super::quality::{QualityFold, QualityKind, QualitySettings, made};
use super::real_time::RealTime;
use super::retrieval::Retrieval;
use super::steady::Spent;
use super::windows::{Mark, Waiting, Windows};
use crate::journal::{Journal, Record};
use crate::model::{GpuId, ModelId};
use crate::profile::Profile;
use crate::request::{Outcome, Request, RequestId, TenantId};
use crate::scheduler::{Action, Decision, DecisionKind, Event, Hardware, JobId, Note, Part, Serving, Tick, WorkerId};
use crate::time::{Duration, Time};
use crate::window::Window;

/// What the fold needs to know of a run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Models, best first.
    pub models: Vec<String>,
    /// What each may serve.
    pub serving: Serving,
    /// Denoising steps of a full generation (T).
    pub total_steps: u32,
    /// GPU type by worker.
    pub gpus: Vec<GpuId>,
    /// Dollars an hour by worker, where known.
    pub usd_per_hour: Vec<Option<f64>>,
    /// What each worker holds at time zero.
    pub initial: Vec<ModelId>,
    /// Service times and power.
    pub profile: Arc<Profile>,
    /// Scores and similarities that qualities follow from.
    pub quality: QualitySettings,
    /// The most requests of a job.
    pub most_together: u32,
    /// Share of the large model's quality that hits are assumed to keep, by level of approximation; empty without levels.
    pub assumed_quality: Vec<f64>,
    /// Multiples of a full generation on the large model.
    pub slo_multiples: Vec<f64>,
    /// Requests that arrive earlier are left out of the measures.
    pub warmup: Time,
    /// Length of a window of the timeline.
    pub window: Duration,
    /// What a hit is; `None` for a system that keeps nothing.
    pub cache: Option<HitCriteria>,
    /// Whether to keep a row for each request.
    pub keep_requests: bool,
    /// Whether the clock is a real one: delays of the loop are measured, and images as the encoder sees them.
    pub real_time: bool,
}

impl Settings {
    /// The paper's: a large model and smaller ones, SLOs of two and four full generations, windows of a minute; all requests
    /// count, none has a row.
    #[must_use]
    pub fn paper(models: Vec<String>, hardware: &Hardware, total_steps: u32, initial: Vec<ModelId>) -> Self {
        Self {
            serving: Serving::large_and_small(models.len()),
            models,
            total_steps,
            gpus: hardware.gpus.clone(),
            usd_per_hour: vec![None; hardware.workers()],
            initial,
            profile: hardware.profile.clone(),
            quality: QualitySettings::default(),
            most_together: 1,
            assumed_quality: Vec::new(),
            slo_multiples: vec![2.0, 4.0],
            warmup: Time::ZERO,
            window: Duration::from_nanoseconds(60_000_000_000),
            cache: None,
            keep_requests: false,
            real_time: false,
        }
    }
}

/// A request that has ended: a row of `requests.csv`.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestRow {
    /// Its row in the trace.
    pub id: RequestId,
    /// When it was due.
    pub arrival: Time,
    /// When it should have been finished.
    pub deadline: Option<Time>,
    /// Whose.
    pub tenant: TenantId,
    /// `None` if never routed.
    pub decision: Option<Decision>,
    /// Where it ran last, with which model and since when.
    pub run: Option<(WorkerId, ModelId, Time)>,
    /// When it ended.
    pub finish: Time,
    /// Jobs it was part of.
    pub attempts: u32,
    /// Requests of the last of these.
    pub together: u32,
    /// How.
    pub outcome: Outcome,
    /// What the encoder says of its image and prompt, in a live run.
    pub similarity_to_prompt: Option<f64>,
    /// Quality of its image in points of `CLIPScore`, and how the value is known; `None` if it is not, or without an image.
    pub quality: Option<(f64, QualityKind)>,
}

impl RequestRow {
    /// Whether an image came of it.
    pub fn completed(&self) -> bool {
        self.outcome == Outcome::Completed
    }

    /// Whether it was answered with a cached image as it is.
    pub fn returned(&self) -> bool {
        self.decision.is_some_and(|decision| decision.kind == DecisionKind::Return)
    }
}

/// A decision of the monitor: a row of `allocation.csv`.
#[derive(Clone, Debug, PartialEq)]
pub struct TickRow {
    /// When.
    pub time: Time,
    /// What.
    pub tick: Tick,
}

/// A request that has not ended.
#[derive(Debug)]
struct Open {
    request: Request,
    decision: Option<Decision>,
    run: Option<(WorkerId, ModelId, Time)>,
    waits_as: Option<DecisionKind>,
    attempts: u32,
    together: u32,
    /// GPU time of its jobs so far.
    spent: Spent,
}

impl Open {
    /// It waits as this kind from now on, or no longer.
    fn wait_as(&mut self, kind: Option<DecisionKind>, waiting: &mut Waiting) {
        if let Some(before) = self.waits_as {
            *waiting.of(before) -= 1;
        }
        if let Some(after) = kind {
            *waiting.of(after) += 1;
        }
        self.waits_as = kind;
    }
}

/// The job a worker runs, and since when.
type Job = (JobId, Time, SmallVec<[RequestId; 2]>);

/// The fold.
#[derive(Debug)]
pub struct Metrics {
    pub(super) settings: Settings,
    pub(super) thresholds: Vec<(f64, f64)>,
    pub(super) limits: Vec<Duration>,
    open: Window<Open>,
    /// By worker.
    jobs: Vec<Option<Job>>,
    pub(super) waiting: Waiting,
    pub(super) cluster: ClusterWork,
    pub(super) windows: Windows,
    pub(super) aggregate: Aggregate,
    pub(super) ticks: Vec<TickRow>,
    /// If requests are kept.
    pub(super) absences: Vec<AbsenceRow>,
    pub(super) requests: Vec<RequestRow>,
    /// When the last request so far ended.
    pub(super) end: Time,
    /// Completed requests, those of the warm-up included.
    pub(super) completed: u64,
    /// What was counted when it ended, once something else happens after that and before the next arrival:
    /// if no request follows, that is not part of the run.
    pub(super) at_end: Option<(Mark, Option<CacheMark>)>,
    pub(super) made: Vec<((ModelId, u32), u64)>,
    pub(super) quality: QualityFold,
    /// Jobs begun, and the requests of all of them.
    pub(super) jobs_begun: (u64, u64),
    /// Completed hits by level of approximation.
    pub(super) hits_by_level: Vec<u64>,
    /// `None` where nothing is kept: such a run pays nothing for it.
    pub(super) cache: Option<CacheFold>,
    pub(super) real_time: Option<RealTime>,
    pub(super) retrieval: Retrieval,
}

impl Metrics {
    /// A fold at time zero.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let full = settings.profile.full_generation_s(GpuId(0), ModelId::LARGE, settings.total_steps);
        let thresholds: Vec<(f64, f64)> = settings.slo_multiples.iter().map(|&m| (m, m * full)).collect();
        let limits = thresholds.iter().map(|(_, s)| Duration::from_seconds_saturating(*s)).collect();
        Self {
            cluster: ClusterWork::new(&settings.initial, settings.models.len()),
            windows: Windows::new(settings.window, settings.models.len(), thresholds.len()),
            aggregate: Aggregate::new(thresholds.len()),
            thresholds,
            limits,
            jobs: vec![None; settings.initial.len()],
            open: Window::default(),
            waiting: Waiting::default(),
            ticks: Vec::new(),
            absences: Vec::new(),
            requests: Vec::new(),
            end: Time::ZERO,
            completed: 0,
            at_end: None,
            made: Vec::new(),
            quality: QualityFold::default(),
            jobs_begun: (0, 0),
            hits_by_level: vec![0; settings.assumed_quality.len()],
            cache: settings.cache.clone().map(|criteria| CacheFold::new(criteria, settings.real_time)),
            real_time: settings.real_time.then(RealTime::default),
            retrieval: Retrieval::default(),
            settings,
        }
    }

    fn event(&mut self, now: Time, event: &Event) {
        match event {
            Event::Arrived(request) => {
                let (decision, run, waits_as, spent) = (None, None, None, Spent::default());
                let open = Open { request: *request, decision, run, waits_as, attempts: 0, together: 0, spent };
                if self.open.insert(request.id.0, open) {
                    self.windows.arrived();
                    if request.arrival >= self.settings.warmup {
                        self.aggregate.arrived(request.arrival, request.deadline.is_some());
                    }
                }
            }
            Event::JobCompleted { worker, job, .. } => {
                self.end_job(now, *worker, Some(*job));
            }
            Event::JobFailed { worker, job, .. } | Event::SourceMissing { worker, job } => {
                let requests = self.end_job(now, *worker, Some(*job));
                self.wait_again(&requests);
            }
            Event::ModelLoaded { worker } if self.cluster.state(worker.index()) == Some(State::Loading) => {
                let model = self.cluster.model(worker.index());
                self.change(now, worker.index(), State::Idle, model);
            }
            Event::LoadFailed { worker, loaded, .. } if self.cluster.state(worker.index()) == Some(State::Loading) => {
                let state = if loaded.is_some() { State::Idle } else { State::Down };
                self.change(now, worker.index(), state, *loaded);
            }
            Event::WorkerDown(worker) | Event::WorkerLost { worker, .. }
                if self.cluster.state(worker.index()).is_some() =>
            {
                let requests = self.end_job(now, *worker, None);
                self.wait_again(&requests);
                self.change(now, worker.index(), State::Down, None);
            }
            Event::WorkerUp(worker) if self.cluster.state(worker.index()) == Some(State::Down) => {
                self.change(now, worker.index(), State::Idle, None);
            }
            _ => {}
        }
    }

    fn action(&mut self, now: Time, action: &Action) {
        match action {
            Action::Note(Note::Routed { request, decision }) => {
                let Some(open) = self.open.get_mut(request.0) else { return };
                // Routed again, if its source was missing; that is not another routed request.
                let first = open.decision.replace(*decision).is_none();
                if first {
                    self.windows.routed(decision.kind.is_hit());
                }
                if let Some(cache) = &mut self.cache {
                    let counts = open.request.arrival >= self.settings.warmup;
                    if first {
                        cache.routed(now, self.windows.start(), &open.request, decision, counts);
                    } else {
                        cache.routed_again(*request);
                    }
                }
                open.wait_as(Some(decision.kind), &mut self.waiting);
                let counts = open.request.arrival >= self.settings.warmup;
                self.retrieval.routed(*request, decision.similarity, counts);
            }
            Action::Note(Note::Eased { request, skipped_steps }) => {
                let open = self.open.get_mut(request.0);
                if let Some(decision) = open.and_then(|open| open.decision.as_mut()) {
                    decision.skipped_steps = *skipped_steps;
                }
            }
            Action::Note(Note::Audited { request, nearest }) => self.retrieval.audited(*request, *nearest),
            Action::Note(Note::Ticked(tick)) => self.ticks.push(TickRow { time: now, tick: (**tick).clone() }),
            Action::Start { job, worker, work, parts } => self.start(now, *job, *worker, work.model, parts),
            Action::Load { worker, model } => {
                self.change(now, worker.index(), State::Loading, Some(*model));
            }
            Action::Note(Note::Switched { worker, model }) => {
                self.change(now, worker.index(), State::Idle, Some(*model));
            }
            Action::Finish { request, outcome } => self.finish(now, *request, outcome),
            Action::Keep { image, bytes } => {
                if let Some(cache) = &mut self.cache {
                    cache.kept(now, self.windows.start(), *image, *bytes);
                }
            }
            Action::Note(Note::Left { image, cause }) => {
                if let Some(cache) = &mut self.cache {
                    cache.left(self.windows.start(), *image, *cause);
                }
            }
            Action::Encode(_)
            | Action::EncodeImage(_)
            | Action::Return { .. }
            | Action::Release(_)
            | Action::CancelJob(_) => {}
        }
    }

    /// A worker changes state; `model` is what it holds from now on (or will, once loaded).
    fn change(&mut self, now: Time, worker: usize, state: State, model: Option<ModelId>) {
        if self.settings.keep_requests {
            self.absences.extend(self.cluster.absence(now, worker));
        }
        self.cluster.change(now, worker, state, model);
    }

    fn start(&mut self, now: Time, job: JobId, worker: WorkerId, model: ModelId, parts: &[Part]) {
        self.change(now, worker.index(), State::Busy, Some(model));
        self.jobs_begun = (self.jobs_begun.0 + 1, self.jobs_begun.1 + parts.len() as u64);
        self.jobs[worker.index()] = Some((job, now, parts.iter().map(|part| part.request).collect()));
        for part in parts {
            if let Some(open) = self.open.get_mut(part.request.0) {
                open.wait_as(None, &mut self.waiting);
                open.run = Some((worker, model, now));
                open.attempts += 1;
                open.together = parts.len() as u32;
            }
        }
    }

    /// The requests of the job a worker runs (of this job, if one is named), and the worker idle.
    fn end_job(&mut self, now: Time, worker: WorkerId, job: Option<JobId>) -> SmallVec<[RequestId; 2]> {
        let Some(running) = self.jobs.get_mut(worker.index()) else { return SmallVec::new() };
        let ended = running.take_if(|(running, ..)| job.is_none_or(|job| job == *running));
        let Some((_, start, requests)) = ended else { return SmallVec::new() };
        for request in &requests {
            if let Some(open) = self.open.get_mut(request.0) {
                open.spent.add(start, now, requests.len());
            }
        }
        let model = self.cluster.model(worker.index());
        self.change(now, worker.index(), State::Idle, model);
        requests
    }

    /// Requests whose job came to nothing wait again, until the core says otherwise.
    fn wait_again(&mut self, requests: &[RequestId]) {
        for request in requests {
            if let Some(open) = self.open.get_mut(request.0) {
                let kind = open.decision.map(|decision| decision.kind);
                open.wait_as(kind, &mut self.waiting);
            }
        }
    }

    fn finish(&mut self, now: Time, request: RequestId, outcome: &Outcome) {
        let Some(mut open) = self.open.remove(request.0) else { return };
        open.wait_as(None, &mut self.waiting);
        let mut row = RequestRow {
            id: request,
            arrival: open.request.arrival,
            deadline: open.request.deadline,
            tenant: open.request.tenant,
            decision: open.decision,
            run: open.run,
            finish: now,
            attempts: open.attempts,
            together: open.together,
            outcome: outcome.clone(),
            similarity_to_prompt: None,
            quality: None,
        };
        if row.completed() {
            row.quality = self.settings.quality.of_request(&row, self.settings.total_steps);
        }
        self.end = now;
        if self.at_end.take().is_some() {
            self.cluster.forget_mark();
        }
        let completed = *outcome == Outcome::Completed;
        let latency = now.since(row.arrival);
        let met = self.limits.iter().map(|limit| completed && latency <= *limit);
        self.windows.ended(completed, met.clone());
        self.completed += u64::from(completed);
        if row.arrival >= self.settings.warmup {
            self.aggregate.ended(&row, self.settings.total_steps, met);
            if completed {
                self.aggregate.steady.completed(&open.spent);
                self.quality.completed(&row);
                self.count_made(&row);
                let level = row.decision.filter(|decision| decision.kind.is_hit()).map(|hit| usize::from(hit.level));
                if let Some(count) = level.and_then(|level| self.hits_by_level.get_mut(level)) {
                    *count += 1;
                }
            }
        }
        if self.settings.keep_requests {
            self.requests.push(row);
        }
    }

    /// Counts a completed image by what made it.
    fn count_made(&mut self, row: &RequestRow) {
        let made = made(row);
        match self.made.iter_mut().find(|(what, _)| *what == made) {
            Some((_, count)) => *count += 1,
            None => self.made.push((made, 1)),
        }
    }
}

impl Journal for Metrics {
    fn record(&mut self, time: Time, record: Record<'_>) {
        let idle = self.open.is_empty() && time > self.end;
        if idle && self.at_end.is_none() && !matches!(record, Record::Event(Event::Arrived(_))) {
            self.cluster.set_mark();
            self.at_end = Some((self.windows.mark(), self.cache.as_ref().map(CacheFold::mark)));
        }
        self.windows.advance(time, self.cluster.counts(), self.waiting);
        match record {
            Record::Event(event) => {
                self.event(time, event);
                let warmup = self.settings.warmup;
                self.real_time.iter_mut().for_each(|fold| fold.event(time, event, warmup));
            }
            Record::Action(action) => {
                self.action(time, action);
                self.real_time.iter_mut().for_each(|fold| fold.action(time, action));
            }
        }
    }
}
