//! Asynchronous jobs. A job is on disk before it is acknowledged, can be followed by events, and can be withdrawn at
//! any time. The module `resume` begins the jobs again that had not ended when the program did.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration as HostDuration;

use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::FutureExt as _;
use futures_util::stream::{Stream, unfold};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::ask::WantedPictures;
use super::pictures::{self, Keeping, MadePicture, RESULT};
use super::{Access, ApiError, Caller, Id, Server, Shared, foreign, fresh_name, next_job_name};
use crate::live::faults::may_panic;
use crate::request::{Outcome, RequestId};
use crate::serve::desk::{Ask, Ticket, View};
use crate::serve::ledger::{Entry, Job, Status};
use crate::serve::offers::Encoding;

/// Time between two comments that keep a silent stream of events open.
pub(super) const KEEP_ALIVE: HostDuration = HostDuration::from_secs(15);
/// Time between two attempts to write the end of a job to a disk that fails.
const RETRY: HostDuration = HostDuration::from_millis(500);

/// Job that has not ended, for the handlers that answer questions about it.
pub(super) struct Running {
    job: Job,
    now: watch::Receiver<Now>,
    withdraw: watch::Sender<bool>,
}

/// Current state of a job.
#[derive(Clone, Debug, Default)]
struct Now {
    /// State of the first picture that has not ended.
    view: View,
    /// Job as it was written to disk at its end.
    ended: Option<Box<Job>>,
}

/// Job that has not ended, for the task that follows it to its end.
pub(super) struct Followed {
    to: watch::Sender<Now>,
    withdrawn: watch::Receiver<bool>,
}

impl Followed {
    /// Adds a job to those that run. From now on the job can be found and withdrawn.
    pub(super) fn begin(server: &Server, job: &Job) -> Self {
        let (to, now) = watch::channel(Now::default());
        let (withdraw, withdrawn) = watch::channel(false);
        server.running().insert(job.id.clone(), Running { job: job.clone(), now, withdraw });
        Self { to, withdrawn }
    }

    /// Waits until the job is withdrawn, or for ever if it is not.
    pub(super) async fn withdrawn(&mut self) {
        if self.withdrawn.wait_for(|withdrawn| *withdrawn).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Writes the end of a job to disk and tells the followers of the job.
    pub(super) async fn end(self, server: &Server, job: Job, files: Vec<(String, Vec<u8>)>) {
        let id = job.id.clone();
        // The row is on disk before the job leaves the list of running jobs: whoever does not find it there reads its
        // end from the ledger.
        let ended = keep_end(server, job, files).await;
        self.to.send_modify(|now| now.ended = Some(Box::new(ended)));
        server.running().remove(&id);
    }

    /// Leaves a job that cannot go on now to the next start of the program.
    pub(super) fn leave(self, server: &Server, id: &str) {
        // The followers of the job learn that nothing more will come.
        drop(self.to);
        server.running().remove(id);
    }

    /// Follows a job's requests to their end.
    pub(super) async fn follow(
        mut self,
        server: &Server,
        mut job: Job,
        tickets: Vec<Ticket>,
        progress: Vec<watch::Receiver<View>>,
    ) {
        may_panic("job");
        let requests: Vec<RequestId> = tickets.iter().map(|ticket| ticket.id).collect();
        let mut views = Vec::with_capacity(tickets.len());
        for (mut ticket, mut progress) in tickets.into_iter().zip(progress) {
            let view = loop {
                tokio::select! {
                    view = ticket.ended() => break view,
                    Ok(()) = progress.changed() => {
                        let view = progress.borrow_and_update().clone();
                        self.to.send_modify(|now| now.view = view);
                    }
                    // The tickets end soon, because a request stops at its next denoising step.
                    Ok(()) = self.withdrawn.changed() => requests.iter().for_each(|id| server.desk.cancel(*id)),
                }
            };
            self.to.send_modify(|now| now.view = view.clone());
            views.push(view);
        }
        if views.iter().any(|view| view.ended.is_none()) {
            // The server ends before the job. On disk the job is queued, and the next start begins it again.
            return self.leave(server, &job.id);
        }
        let files = conclude(server, &mut job, &views).await;
        self.end(server, job, files).await;
    }
}

/// Handles `POST /v1/jobs`: accepts a job.
pub(super) async fn submit(
    State(server): Shared,
    access: Access,
    wanted: WantedPictures,
) -> Result<Response, ApiError> {
    let caller = access.caller()?;
    if wanted.stream {
        let message = "stream: expected false: a job has events at GET /v1/jobs/{id}/events";
        return Err(ApiError::wrong("stream", message));
    }
    let job = Job {
        id: next_job_name(),
        tenant: caller.name.clone(),
        created: server.upkeep.clock.date(),
        ended: None,
        attempts: 0,
        prompt: wanted.prompt.clone(),
        pictures: wanted.pictures,
        seed: wanted.seed,
        deadline_s: wanted.deadline_s,
        reuse: wanted.reuse,
        wanted: wanted.wanted.clone(),
        status: Status::Queued,
        made: Vec::new(),
        error: None,
    };
    // The desk accepts the job before it is written, so that a refused job leaves nothing on disk. The job is
    // acknowledged once it is on disk.
    let mut views = Vec::new();
    let tickets = server.submit(&access, wanted.pictures, || {
        let (asks, followed) = followed(wanted.asks(caller, &server.offers));
        views = followed;
        asks
    })?;
    let answer = described(&server, &job, None);
    let place = format!("/v1/jobs/{}", job.id);
    // A separate task writes and follows the job: a client that goes away meanwhile must not leave a job on disk that
    // nobody follows.
    let kept = tokio::spawn(keep_and_follow(server, job, tickets, views)).await;
    kept.map_err(|error| ApiError::failed(error.to_string()))??;
    let mut response = super::json(StatusCode::ACCEPTED, &answer);
    if let Ok(place) = HeaderValue::from_str(&place) {
        response.headers_mut().insert(LOCATION, place);
    }
    foreign::name(&mut response, &wanted.ignored);
    Ok(response)
}

/// Gives each ask a channel for its progress. Returns the asks and the receivers of the channels.
pub(super) fn followed(mut asks: Vec<Ask>) -> (Vec<Ask>, Vec<watch::Receiver<View>>) {
    let follow = |ask: &mut Ask| {
        let (progress, view) = watch::channel(View::default());
        ask.progress = Some(progress);
        view
    };
    let views = asks.iter_mut().map(follow).collect();
    (asks, views)
}

/// Writes a job to disk and follows it from then on. A job that cannot be written is withdrawn.
async fn keep_and_follow(
    server: Arc<Server>,
    job: Job,
    tickets: Vec<Ticket>,
    views: Vec<watch::Receiver<View>>,
) -> Result<(), ApiError> {
    if let Err(error) = server.ledger.write(vec![Entry::NewJob(Box::new(job.clone()))]).await {
        for ticket in tickets {
            server.desk.cancel(ticket.id);
        }
        return Err(error.into());
    }
    let (followed, own) = (Followed::begin(&server, &job), server.clone());
    let copy = job.clone();
    tokio::spawn(watched(server, copy, async move { followed.follow(&own, job, tickets, views).await }));
    Ok(())
}

/// Runs the task that follows a job. If the task panics, the job ends as failed: it would never end otherwise.
pub(super) async fn watched(server: Arc<Server>, mut job: Job, follows: impl Future<Output = ()>) {
    if AssertUnwindSafe(follows).catch_unwind().await.is_ok() {
        return;
    }
    tracing::error!(job = job.id, "the task that follows a job panicked: the job ends as failed");
    (job.status, job.error) = (Status::Failed, Some("the server failed while the job was under way".to_owned()));
    let job = keep_end(&server, job, Vec::new()).await;
    server.running().remove(&job.id);
}

/// Writes the outcomes of a job's requests into the job. Returns the files of its pictures, by name.
async fn conclude(server: &Server, job: &mut Job, views: &[View]) -> Vec<(String, Vec<u8>)> {
    let cancelled = views.iter().any(|view| matches!(view.ended, Some((_, Outcome::Cancelled))));
    let mut files = Vec::new();
    for view in views {
        let made = async { pictures::encoded(pictures::picture_of(view)?, Encoding::Png).await };
        match made.await {
            Ok(bytes) => {
                let id = fresh_name(RESULT);
                job.made.extend(serde_json::to_value(MadePicture::from_view(server, &id, view, job.seed)));
                files.push((id, bytes));
            }
            Err(error) => job.error = Some(error.body()["error"]["message"].as_str().unwrap_or_default().to_owned()),
        }
    }
    job.status = match (cancelled, &job.error) {
        (true, _) => Status::Cancelled,
        (false, None) => Status::Completed,
        (false, Some(_)) => Status::Failed,
    };
    // A job has all of its pictures or none.
    if job.status != Status::Completed {
        files.clear();
        job.made.clear();
    }
    if job.status == Status::Cancelled {
        job.error = None;
    }
    files
}

/// Writes the end of a job to disk, in one transaction with its pictures. After a crash before the transaction the job
/// is begun again, and a crash after it changes nothing. The write is repeated until the disk works. A ledger that
/// fails for too long ends the program, and pictures that cannot be written for as long make their job fail.
async fn keep_end(server: &Server, mut job: Job, mut files: Vec<(String, Vec<u8>)>) -> Job {
    let begun = server.upkeep.clock.passed();
    if !job.reuse.keep {
        // The prompt was kept only to begin the job again. Every end is written here, also that of a job that never
        // began.
        job.prompt.clear();
        job.wanted.negative_prompt.clear();
    }
    loop {
        // The date is that of the attempt that succeeds: a job is kept from then on, however long the disk has failed.
        job.ended = Some(server.upkeep.clock.date());
        let end = Entry::Job(Box::new(job.clone()));
        let Err(error) = pictures::keep(server, job.tenant.clone(), &files, Some(end)).await else { return job };
        tracing::warn!(job = job.id, %error, "the end of a job is not on disk yet");
        let waited = server.upkeep.clock.passed().saturating_sub(begun).as_secs_f64();
        // A ledger that fails for as long ends the program, so that only files are given up here.
        if matches!(error, Keeping::Files(_)) && waited > server.settings.disk_retry_s {
            job.status = Status::Failed;
            job.error = Some("its pictures could not be written to the server's disk".to_owned());
            job.made.clear();
            files.clear();
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Describes a job as clients get it.
fn described(server: &Server, job: &Job, view: Option<&View>) -> Value {
    let status = match (job.status, view) {
        (Status::Queued, Some(view)) if view.started.is_some() => "running",
        (Status::Queued, _) => "queued",
        (Status::Completed, _) => "completed",
        (Status::Failed, _) => "failed",
        (Status::Cancelled, _) => "cancelled",
    };
    let total = view.and_then(|view| view.steps).map(|(total, _)| total);
    let total = total.or(job.wanted.steps).unwrap_or(server.desk.facts().total_steps);
    let step = if job.status == Status::Completed { total } else { view.map_or(0, |view| view.step) };
    let picture = |made: &Value| {
        let id = made["id"].as_str().unwrap_or_default();
        json!({ "url": pictures::url(server, id, job.wanted.encoding), "modm": made })
    };
    let error = job.error.as_ref().map(|why| ApiError::failed(why.clone()).body()["error"].clone());
    json!({
        "id": job.id,
        "object": "image.job",
        "created": job.created,
        "status": status,
        "step": step,
        "steps": total,
        "data": job.made.iter().map(picture).collect::<Vec<_>>(),
        "error": error,
    })
}

/// Job that the caller may see, either running in memory or ended on disk.
enum VisibleJob {
    Running(Job, watch::Receiver<Now>, watch::Sender<bool>),
    Ended(Job),
}

async fn find(server: &Arc<Server>, caller: &Caller, id: &str) -> Result<VisibleJob, ApiError> {
    let missing = || ApiError::not_found("there is no such job for this key");
    // The job of another tenant is answered like a job that does not exist, so that nobody learns which names exist.
    let mine = |job: &Job| server.keys.is_none() || job.tenant == caller.name;
    // Running jobs come first. A job that ends between the two look-ups is on disk before it leaves the list.
    let running = server
        .running()
        .get(id)
        .map(|running| VisibleJob::Running(running.job.clone(), running.now.clone(), running.withdraw.clone()));
    let found =
        if let Some(found) = running { found } else { VisibleJob::Ended(read(server, id).await?.ok_or_else(missing)?) };
    let (VisibleJob::Running(job, ..) | VisibleJob::Ended(job)) = &found;
    if mine(job) { Ok(found) } else { Err(missing()) }
}

/// Reads the row of a job from the ledger.
async fn read(server: &Arc<Server>, id: &str) -> Result<Option<Job>, ApiError> {
    let (own, id) = (server.clone(), id.to_owned());
    Ok(server.on_disk(move || own.ledger.job(&id)).await??)
}

/// Describes the current state of a job, given its row on disk.
pub(super) fn as_it_stands(server: &Server, job: &Job) -> Value {
    let running = server.running().get(&job.id).map(|running| running.now.clone());
    match running {
        None => described(server, job, None),
        Some(now) => {
            let now = now.borrow();
            described(server, now.ended.as_deref().unwrap_or(job), Some(&now.view))
        }
    }
}

impl VisibleJob {
    fn described(&self, server: &Server) -> Value {
        match self {
            Self::Ended(job) => described(server, job, None),
            Self::Running(job, now, _) => {
                let now = now.borrow();
                described(server, now.ended.as_deref().unwrap_or(job), Some(&now.view))
            }
        }
    }
}

/// Handles `GET /v1/jobs/{id}`: describes a job.
pub(super) async fn job(State(server): Shared, caller: Caller, Id(id): Id) -> Result<Response, ApiError> {
    let found = find(&server, &caller, &id).await?;
    Ok(super::json(StatusCode::OK, &found.described(&server)))
}

/// Handles `DELETE /v1/jobs/{id}`: withdraws a job and waits for its end.
pub(super) async fn cancel(State(server): Shared, caller: Caller, Id(id): Id) -> Result<Response, ApiError> {
    let found = find(&server, &caller, &id).await?;
    if let VisibleJob::Running(_, mut now, withdraw) = found {
        withdraw.send_replace(true);
        let _ = now.wait_for(|now| now.ended.is_some()).await;
    }
    let found = find(&server, &caller, &id).await?;
    Ok(super::json(StatusCode::OK, &found.described(&server)))
}

/// Handles `GET /v1/jobs/{id}/events`: streams the events of a job.
pub(super) async fn events(
    State(server): Shared,
    caller: Caller,
    Id(id): Id,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let found = find(&server, &caller, &id).await?;
    let told = JobEvents { server, found, said: BTreeSet::new(), step: 0, over: false };
    let stream = unfold(told, |mut told| async { told.next().await.map(|event| (Ok(event), told)) });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// Stream of a job's events, with what it has told so far.
struct JobEvents {
    server: Arc<Server>,
    found: VisibleJob,
    /// Names of the events among `queued`, `routed` and `started` that were sent.
    said: BTreeSet<&'static str>,
    step: u32,
    over: bool,
}

impl JobEvents {
    /// Waits for the next event. Returns `None` after the last one.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if self.over {
                return None;
            }
            if let Some(event) = self.now() {
                return Some(event);
            }
            let VisibleJob::Running(_, now, _) = &mut self.found else { return None };
            if now.changed().await.is_err() {
                // The job ended, or is left to the next start of the program. Its row on disk tells which.
                let (VisibleJob::Running(job, ..) | VisibleJob::Ended(job)) = &self.found;
                let ended = read(&self.server, &job.id).await.ok().flatten()?;
                if ended.status == Status::Queued {
                    return None;
                }
                self.found = VisibleJob::Ended(ended);
            }
        }
    }

    fn now(&mut self) -> Option<Event> {
        let event = |name: &str, data: &Value| Event::default().event(name).data(data.to_string());
        let facts = self.server.desk.facts();
        let (view, ended) = match &mut self.found {
            VisibleJob::Running(_, now, _) => {
                let now = now.borrow_and_update();
                (now.view.clone(), now.ended.clone())
            }
            VisibleJob::Ended(job) => (View::default(), Some(Box::new(job.clone()))),
        };
        if self.said.insert("queued") {
            return Some(event("queued", &json!({})));
        }
        if let Some(decision) = view.decision.filter(|_| self.said.insert("routed")) {
            let skipped = decision.skipped_steps;
            let (kind, similarity) = (decision.kind.word(), decision.similarity);
            return Some(event(
                "routed",
                &json!({ "decision": kind, "skipped_steps": skipped, "similarity": similarity }),
            ));
        }
        if let Some((_, model)) = view.started.filter(|_| self.said.insert("started")) {
            return Some(event("started", &json!({ "model": facts.models[model.index()] })));
        }
        if let Some(job) = ended {
            self.over = true;
            let described = described(&self.server, &job, None);
            return Some(event(described["status"].as_str().unwrap_or("failed"), &described));
        }
        if view.step > self.step {
            self.step = view.step;
            return Some(event(
                "step",
                &json!({ "step": view.step, "steps": view.steps.map_or(facts.total_steps, |(total, _)| total) }),
            ));
        }
        // The next picture of the same job begins again at its first denoising step.
        if view.step < self.step {
            self.step = view.step;
        }
        None
    }
}
