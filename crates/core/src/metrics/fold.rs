//! Fold over the records of a run: it takes records in and keeps sums and rows, of which `measures` makes the results.
//! The fold knows the settings of the run and no internal state of the core, so that a journal that is read back gives
//! the same results.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::aggregate::Aggregate;
use super::bound::least_work;
use super::cache::{CacheFold, CacheMark, HitCriteria};
use super::cluster::{AbsenceRow, ClusterWork, WorkerState};
use super::network::NetworkFold;
use super::quality::{QualityFold, QualitySettings, made};
use super::real_time::RealTime;
use super::retrieval::Retrieval;
use super::rows::{Keep, RequestEnd, RequestRow};
use super::windows::{Mark, Waiting, Windows};
use crate::denoising::Denoising;
use crate::journal::{Journal, Record};
use crate::model::{Change, GpuId, ModelId, Work};
use crate::network::Network;
use crate::profile::Profile;
use crate::request::{Outcome, RequestId};
use crate::scheduler::{
    Action, DecisionKind, Ended, Event, Hardware, JobId, Note, Part, Serving, Stage, Tick, WorkerId,
};
use crate::time::{Duration, Time};

/// Settings of a run that the fold needs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Names of the models, best first.
    pub models: Vec<String>,
    /// Decisions that each model may serve.
    pub serving: Serving,
    /// Steps and noise levels of the models.
    pub denoising: Denoising,
    /// GPU type, by worker.
    pub gpus: Vec<GpuId>,
    /// Price in dollars an hour, by worker; `None` where it is unknown.
    pub usd_per_hour: Vec<Option<f64>>,
    /// Model that each worker holds at time zero.
    pub initial: Vec<ModelId>,
    /// Profile with service times and power.
    pub profile: Arc<Profile>,
    /// Scores and similarities from which the quality of images follows.
    pub quality: QualitySettings,
    /// Largest number of requests in a job.
    pub most_together: u32,
    /// Share of the large model's quality that hits are assumed to keep, by level of approximation; empty without
    /// levels.
    pub assumed_quality: Vec<f64>,
    /// Multiples of a full generation on the large model that are the SLOs.
    pub slo_multiples: Vec<f64>,
    /// End of the warm-up. Requests that arrive earlier are left out of the measures.
    pub warmup: Time,
    /// Length of a window of the timeline.
    pub window: Duration,
    /// Criteria of hits; `None` for a system that keeps no images.
    pub cache: Option<HitCriteria>,
    /// Records of single requests that are kept.
    pub keep: Keep,
    /// True if requests may differ in size, steps, number of images or weights.
    pub requests_differ: bool,
    /// True if the run is in real time. Delays of the loop are measured then, and the similarity of images to their
    /// prompts.
    pub real_time: bool,
    /// Network of a simulated cluster, if it has one.
    pub network: Option<Network>,
}

impl Settings {
    /// Returns the settings of the paper: a large model and smaller ones, SLOs of two and four full generations,
    /// windows of a minute. All requests count, and no request has a row.
    #[must_use]
    pub fn paper(models: Vec<String>, hardware: &Hardware, total_steps: u32, initial: Vec<ModelId>) -> Self {
        Self {
            serving: Serving::large_and_small(models.len()),
            denoising: Denoising::alike(models.len(), total_steps),
            models,
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
            keep: Keep::Nothing,
            requests_differ: false,
            real_time: false,
            network: None,
        }
    }
}

/// Request of several pictures, some of which have not ended.
#[derive(Debug)]
struct OpenRequest {
    /// Number of pictures that have not ended.
    left: u16,
    worst: Outcome,
}

/// Returns the rank by which one of several outcomes is that of their request.
const fn severity(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Completed => 0,
        Outcome::Cancelled => 1,
        Outcome::Rejected(_) => 2,
        Outcome::Failed(_) => 3,
    }
}

/// Decision of the monitor: a row of `allocation.csv`.
#[derive(Clone, Debug, PartialEq)]
pub struct TickRow {
    /// Time of the decision.
    pub time: Time,
    /// Decision and the numbers behind it.
    pub tick: Tick,
}

/// Fold over the records of a run. Each kind of record has a function of its own, because one function for all kinds
/// would save the many registers of the longest kind at every record.
#[derive(Debug)]
pub struct Metrics {
    pub(super) settings: Settings,
    pub(super) thresholds: Vec<(f64, f64)>,
    pub(super) limits: Vec<Duration>,
    /// Arrival time of the picture in the current event, while the core has not answered the event, whether its request
    /// has a deadline, and whether it is the first of its request.
    arrived: Option<(Time, bool, bool)>,
    /// Number of requests that have not ended.
    outstanding: u64,
    pub(super) waiting: Waiting,
    pub(super) cluster: ClusterWork,
    pub(super) windows: Windows,
    pub(super) aggregate: Aggregate,
    pub(super) ticks: Vec<TickRow>,
    /// Absences of workers; kept if the ends of requests are kept.
    pub(super) absences: Vec<AbsenceRow>,
    pub(super) ends: Vec<RequestEnd>,
    pub(super) requests: Vec<RequestRow>,
    /// Time at which the latest request ended.
    pub(super) end: Time,
    /// Number of completed requests, those of the warm-up included.
    pub(super) completed: u64,
    /// Number of completed pictures, those of the warm-up included.
    pub(super) pictures: u64,
    /// Requests of several pictures that have not ended, by the identity of their first picture.
    open: BTreeMap<RequestId, OpenRequest>,
    /// Checkpoints and sets of LoRAs that workers changed before jobs.
    pub(super) changes: (u64, u64),
    /// State of the windows and the image cache when the latest request ended. It is set if no request is left and an
    /// event other than an arrival follows. If no further request arrives, what follows is not part of the run.
    pub(super) at_end: Option<(Mark, Option<CacheMark>)>,
    pub(super) made: Vec<((ModelId, u32), u64)>,
    pub(super) quality: QualityFold,
    /// Number of jobs begun, and number of requests of all these jobs.
    pub(super) jobs_begun: (u64, u64),
    /// Number of completed hits, by level of approximation.
    pub(super) hits_by_level: Vec<u64>,
    /// Fold of the image cache; `None` for a system that keeps no images, so that such a run does no work for it.
    pub(super) cache: Option<CacheFold>,
    pub(super) real_time: Option<RealTime>,
    pub(super) retrieval: Retrieval,
    pub(super) network: Option<Box<NetworkFold>>,
}

impl Metrics {
    /// Makes a fold at time zero.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let full = settings.profile.full_generation_s(GpuId(0), ModelId::LARGE, settings.denoising.large_steps());
        let thresholds: Vec<(f64, f64)> = settings.slo_multiples.iter().map(|&m| (m, m * full)).collect();
        let limits = thresholds.iter().map(|(_, s)| Duration::from_seconds_saturating(*s)).collect();
        Self {
            cluster: ClusterWork::new(&settings.initial, settings.models.len()),
            windows: Windows::new(settings.window, settings.models.len(), thresholds.len()),
            aggregate: Aggregate::new(thresholds.len()),
            thresholds,
            limits,
            arrived: None,
            outstanding: 0,
            waiting: Waiting::default(),
            ticks: Vec::new(),
            absences: Vec::new(),
            ends: Vec::new(),
            requests: Vec::new(),
            end: Time::ZERO,
            completed: 0,
            pictures: 0,
            open: BTreeMap::new(),
            changes: (0, 0),
            at_end: None,
            made: Vec::new(),
            quality: QualityFold::default(),
            jobs_begun: (0, 0),
            hits_by_level: vec![0; settings.assumed_quality.len()],
            cache: settings.cache.clone().map(|criteria| CacheFold::new(criteria, settings.real_time)),
            real_time: settings.real_time.then(RealTime::default),
            retrieval: Retrieval::default(),
            network: settings.network.clone().map(|network| Box::new(NetworkFold::new(network))),
            settings,
        }
    }

    /// Reserves memory for `requests` requests at once. A vector that grows while the run goes on needs its memory
    /// twice while it is moved.
    pub fn expect(&mut self, requests: usize) {
        self.aggregate.latencies.reserve_exact(requests);
        if self.settings.keep >= Keep::Ends {
            self.ends.reserve_exact(requests);
        }
        if self.settings.keep >= Keep::Rows {
            self.requests.reserve_exact(requests);
        }
    }

    #[inline(never)]
    fn event(&mut self, now: Time, event: &Event) {
        // Time passes between events only: actions have the time of their event.
        // An event at the very time of the last end still belongs to the run.
        let idle = self.outstanding == 0 && now > self.end;
        if idle && self.at_end.is_none() && !matches!(event, Event::Arrived(_)) {
            self.cluster.set_mark();
            self.at_end = Some((self.windows.mark(), self.cache.as_ref().map(CacheFold::mark)));
        }
        // The counts have held up to now: they are integrated before the event changes any of them.
        self.windows.advance(now, self.cluster.counts(), self.waiting);
        self.arrived = None;
        if let Some(network) = &mut self.network
            && let Event::JobCompleted { worker, job, outputs } = event
            && self.cluster.runs(worker.index(), *job)
        {
            network.completed(worker.index(), outputs);
        }
        match event {
            Event::Arrived(request) => {
                self.arrived = Some((request.arrival, request.deadline.is_some(), request.place.at == 0));
            }
            // The core ignores answers that are out of date, and so does the fold.
            Event::JobCompleted { worker, job, .. }
            | Event::JobFailed { worker, job, .. }
            | Event::SourceMissing { worker, job }
                if self.cluster.runs(worker.index(), *job) =>
            {
                let model = self.cluster.model(worker.index());
                self.change(now, worker.index(), WorkerState::Idle, model);
            }
            Event::ModelLoaded { worker } if self.cluster.state(worker.index()) == Some(WorkerState::Loading) => {
                let model = self.cluster.model(worker.index());
                self.change(now, worker.index(), WorkerState::Idle, model);
            }
            Event::LoadFailed { worker, loaded, .. }
                if self.cluster.state(worker.index()) == Some(WorkerState::Loading) =>
            {
                let state = if loaded.is_some() { WorkerState::Idle } else { WorkerState::Down };
                self.change(now, worker.index(), state, *loaded);
            }
            Event::WorkerDown(worker) | Event::WorkerLost { worker, .. }
                if self.cluster.state(worker.index()).is_some() =>
            {
                self.change(now, worker.index(), WorkerState::Down, None);
            }
            Event::WorkerUp(worker) if self.cluster.state(worker.index()) == Some(WorkerState::Down) => {
                self.change(now, worker.index(), WorkerState::Idle, None);
            }
            _ => {}
        }
    }

    fn action(&mut self, now: Time, action: &Action) {
        match action {
            // The core answers an arrival with this, or ends the request. An arrival that it ignores is not counted.
            Action::Encode(_) => self.arrive(),
            Action::Note(note) => self.note(now, note),
            Action::Start { job, worker, work, parts } => self.start(now, *job, *worker, *work, parts),
            Action::Load { worker, model, .. } => {
                self.change(now, worker.index(), WorkerState::Loading, Some(*model));
            }
            Action::Finish(ended) => self.finish(now, ended),
            Action::Keep { image, bytes } => {
                // Warm images are kept before the first event, so that no event has touched the window yet.
                self.windows.touch();
                if let Some(cache) = &mut self.cache {
                    cache.kept(now, self.windows.start(), *image, *bytes);
                }
            }
            Action::EncodeImage(_) | Action::Return { .. } | Action::Release(_) | Action::CancelJob(_) => {}
        }
    }

    #[inline(never)]
    fn note(&mut self, now: Time, note: &Note) {
        match note {
            Note::Routed { request, arrival, decision, again } => {
                if !again {
                    self.windows.routed(decision.kind.is_hit());
                }
                let counts = *arrival >= self.settings.warmup;
                if let Some(cache) = &mut self.cache {
                    if *again {
                        cache.routed_again(*request);
                    } else {
                        cache.routed(now, self.windows.start(), *request, decision, counts);
                    }
                }
                *self.waiting.count_mut(decision.kind) += 1;
                // Without a new audit, as for a request that is routed again, this does nothing.
                self.retrieval.routed(*request, decision.similarity, counts);
            }
            Note::Retried { kind, .. } => *self.waiting.count_mut(*kind) += 1,
            Note::Audited { request, nearest } => self.retrieval.audited(*request, *nearest),
            Note::Ticked(tick) => self.ticks.push(TickRow { time: now, tick: (**tick).clone() }),
            Note::Switched { worker, model, .. } => {
                self.change(now, worker.index(), WorkerState::Idle, Some(*model));
            }
            Note::Left { image, cause } => {
                if let Some(cache) = &mut self.cache {
                    cache.left(self.windows.start(), *image, *cause);
                }
            }
            Note::Eased { .. } => {}
        }
    }

    #[inline(never)]
    fn start(&mut self, now: Time, job: JobId, worker: WorkerId, work: Work, parts: &[Part]) {
        self.change(now, worker.index(), WorkerState::Busy, Some(work.model));
        self.changes.0 += u64::from(matches!(work.change, Change::Checkpoint | Change::Both));
        self.changes.1 += u64::from(matches!(work.change, Change::Loras | Change::Both));
        self.cluster.runs_from_now(worker.index(), job);
        if let Some(network) = &mut self.network {
            network.started(worker.index(), work.size);
        }
        self.jobs_begun = (self.jobs_begun.0 + 1, self.jobs_begun.1 + parts.len() as u64);
        // All requests of a job wait as one kind, and only hits have a source or skip steps: a source that a request
        // brings is not named.
        let is_hit = work.skipped_steps > 0 || parts.first().is_some_and(|part| part.source.is_some());
        *self.waiting.count_mut(if is_hit { DecisionKind::Hit } else { DecisionKind::Miss }) -= parts.len() as u64;
    }

    /// Counts the request that arrived, once the core has answered its arrival.
    fn arrive(&mut self) {
        let Some((arrival, has_deadline, is_first)) = self.arrived.take() else { return };
        self.outstanding += 1;
        if !is_first {
            return;
        }
        self.windows.arrived();
        if arrival >= self.settings.warmup {
            self.aggregate.arrived(arrival, has_deadline);
        }
    }

    /// Changes the state of a worker. `model` is the model that the worker holds from now on, or that it will hold once
    /// it is loaded.
    fn change(&mut self, now: Time, worker: usize, state: WorkerState, model: Option<ModelId>) {
        if self.settings.keep >= Keep::Ends {
            self.absences.extend(self.cluster.absence(now, worker));
        }
        self.cluster.change(now, worker, state, model);
    }

    #[inline(never)]
    fn finish(&mut self, now: Time, ended: &Ended) {
        // A request that is rejected at its arrival ends without having been encoded.
        self.arrive();
        self.outstanding = self.outstanding.saturating_sub(1);
        let waits_as = ended.decision.map(|decision| decision.kind).filter(|kind| match ended.stage {
            Stage::Waiting | Stage::Late => true,
            // A return is routed and ends at once, without a job.
            Stage::Encoding => *kind == DecisionKind::Return,
            Stage::Running => false,
        });
        if let Some(kind) = waits_as {
            *self.waiting.count_mut(kind) -= 1;
        }
        let row = RequestRow::new(now, ended, &self.settings.quality, &self.settings.denoising);
        self.end = now;
        // An end after the mark means that the run went on: the mark was too early.
        if self.at_end.take().is_some() {
            self.cluster.forget_mark();
        }
        let counts = row.arrival >= self.settings.warmup;
        let whole = if row.place.is_only() {
            self.request_ended(&row, &row.outcome, counts);
            row.completed()
        } else {
            let of_request = self.outcome_of_request(&row);
            if let Some(outcome) = &of_request {
                self.request_ended(&row, outcome, counts);
            }
            of_request == Some(Outcome::Completed)
        };
        self.pictures += u64::from(row.completed());
        if counts {
            self.aggregate.picture_ended(&row);
            if row.completed() {
                self.aggregate.steady.completed(now, ended, whole);
                self.quality.completed(&row);
                self.count_made(&row);
                let level = row.decision.filter(|decision| decision.kind.is_hit()).map(|hit| usize::from(hit.level));
                if let Some(count) = level.and_then(|level| self.hits_by_level.get_mut(level)) {
                    *count += 1;
                }
            }
        }
        if self.settings.keep >= Keep::Ends {
            self.ends.push(RequestEnd::new(&row, least_work(&self.settings, &row)));
        }
        if self.settings.keep >= Keep::Rows {
            self.requests.push(row);
        }
    }

    /// Returns the outcome of the request of several pictures one of which has just ended; `None` if others have not.
    fn outcome_of_request(&mut self, row: &RequestRow) -> Option<Outcome> {
        let first = row.place.first_of(row.id);
        let open = self.open.entry(first).or_insert(OpenRequest { left: row.place.of, worst: Outcome::Completed });
        open.left = open.left.saturating_sub(1);
        if severity(&row.outcome) > severity(&open.worst) {
            open.worst = row.outcome.clone();
        }
        if open.left > 0 {
            return None;
        }
        self.open.remove(&first).map(|open| open.worst)
    }

    /// Counts a request that has ended with its last picture.
    #[inline]
    fn request_ended(&mut self, last: &RequestRow, outcome: &Outcome, counts: bool) {
        let completed = *outcome == Outcome::Completed;
        self.windows.ended(completed);
        if completed {
            self.completed += 1;
            let latency = last.finish.since(last.arrival);
            for (multiple, _) in self.limits.iter().enumerate().filter(|(_, limit)| latency <= **limit) {
                self.windows.met(multiple);
                self.aggregate.met(multiple, counts);
            }
        }
        if counts {
            self.aggregate.request_ended(last, outcome);
        }
    }

    /// Counts a completed image by the model and the skipped steps that made it.
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
        match record {
            Record::Event(event) => {
                if let Some(real_time) = &mut self.real_time {
                    real_time.event(time, event, self.settings.warmup);
                }
                self.event(time, event);
            }
            Record::Action(action) => {
                if let Some(real_time) = &mut self.real_time {
                    real_time.action(time, action);
                }
                self.action(time, action);
            }
        }
    }
}
