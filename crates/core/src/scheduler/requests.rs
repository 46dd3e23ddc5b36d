//! Table of the requests that have not ended. A waiting request has one entry in this table and one entry in a line of
//! the queue.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use smallvec::SmallVec;

use super::action::{Decision, Ended, Run, Span, Stage};
use super::event::WorkerId;
use crate::image::ImageId;
use crate::model::ModelId;
use crate::request::{Ask, Outcome, Place, Request, RequestId, Reuse, TenantId};
use crate::time::Time;
use crate::window::Window;

/// Entry of a request that has not ended.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) arrival: Time,
    /// Deadline, or the time that the settings of the queue give a request without one.
    pub(super) due: Time,
    /// Time at which the request was last routed.
    pub(super) since: Time,
    /// Start of the latest job.
    started: Time,
    /// Key that the discipline gave the request at routing.
    pub(super) key: u64,
    /// Latest start that meets `due`, in nanoseconds; 0 unless the discipline is `fair_slack`.
    pub(super) slack: u64,
    /// Latest decision of routing; `None` before the first.
    pub(super) decision: Option<Decision>,
    pub(super) tenant: TenantId,
    /// Position in the order of routing, from 0.
    pub(super) order: u32,
    /// Number of jobs that had the request. `started`, `worker`, `model` and `together` describe the latest of them.
    attempts: u32,
    pub(super) failures: u32,
    worker: WorkerId,
    model: ModelId,
    together: u16,
    /// Index of the class in which the request waits, or waited last.
    pub(super) class: u16,
    pub(super) stage: Stage,
    pub(super) reuse: Reuse,
    pub(super) background: bool,
    has_deadline: bool,
    /// Wishes of the request beside its prompt, and its place among the pictures of its request; `None` for one usual
    /// picture.
    unusual: Option<Box<(Ask, Place)>>,
}

impl Pending {
    /// Makes the entry of a request that arrived. `unusual` are its wishes and its place if they are not usual; `due`
    /// is used if it has no deadline.
    pub(super) fn new(request: &Request, unusual: Option<Box<(Ask, Place)>>, due: Time) -> Self {
        Self {
            arrival: request.arrival,
            due: request.deadline.unwrap_or(due),
            since: Time::ZERO,
            started: Time::ZERO,
            key: 0,
            slack: 0,
            decision: None,
            tenant: request.tenant,
            order: 0,
            attempts: 0,
            failures: 0,
            worker: WorkerId(0),
            model: ModelId::LARGE,
            together: 0,
            class: 0,
            stage: Stage::Encoding,
            reuse: request.reuse,
            background: request.background,
            has_deadline: request.deadline.is_some(),
            unusual,
        }
    }

    /// Returns the request as it arrived.
    pub(super) fn request(&self, id: RequestId) -> Request {
        let Self { arrival, tenant, reuse, background, .. } = *self;
        Request {
            id,
            arrival,
            tenant,
            deadline: self.deadline(),
            reuse,
            background,
            ask: self.ask(),
            place: self.place(),
        }
    }

    /// Returns what the request asks for beside its prompt.
    pub(super) fn ask(&self) -> Ask {
        self.unusual.as_ref().map_or_else(Ask::default, |unusual| unusual.0)
    }

    /// Returns the place of the picture among those of its request.
    pub(super) fn place(&self) -> Place {
        self.unusual.as_ref().map_or(Place::ONLY, |unusual| unusual.1)
    }

    fn deadline(&self) -> Option<Time> {
        self.has_deadline.then_some(self.due)
    }

    /// Notes the start of a job with `together` requests.
    pub(super) fn start(&mut self, now: Time, worker: WorkerId, model: ModelId, together: usize) {
        self.stage = Stage::Running;
        self.attempts += 1;
        (self.started, self.worker, self.model, self.together) = (now, worker, model, together as u16);
    }

    /// Returns the worker that runs the request; `None` if no worker does.
    pub(super) fn runs_on(&self) -> Option<WorkerId> {
        (self.stage == Stage::Running).then_some(self.worker)
    }

    /// Returns the latest job of the request; `None` if there was none.
    fn run(&self) -> Option<Run> {
        let Self { worker, model, started: start, .. } = *self;
        (self.attempts > 0).then_some(Run { worker, model, start, together: u32::from(self.together) })
    }
}

/// All requests that have not ended.
#[derive(Debug, Default)]
pub(super) struct Requests {
    live: Window<Pending>,
    /// Jobs without a result after which the request waited again, by request. Few requests have any.
    spans: BTreeMap<RequestId, Vec<Span>>,
    /// Requests of several pictures that have not ended, by their first picture.
    open: BTreeMap<RequestId, OpenRequest>,
}

/// Request of several pictures.
#[derive(Debug)]
struct OpenRequest {
    /// Number of pictures that have not ended. One may have ended before the next arrives.
    left: u16,
    /// Sources of its pictures, those that have ended included.
    sources: SmallVec<[ImageId; 4]>,
}

impl Requests {
    /// Returns the number of requests that have not ended.
    pub(super) const fn len(&self) -> usize {
        self.live.len()
    }

    /// Inserts the entry of a request. Returns whether the number of the request is new.
    pub(super) fn insert(&mut self, id: RequestId, pending: Pending) -> bool {
        let place = pending.place();
        let is_new = self.live.insert(id.0, pending);
        if !place.is_only() && is_new {
            let open = || OpenRequest { left: place.of, sources: SmallVec::new() };
            self.open.entry(place.first_of(id)).or_insert_with(open);
        }
        is_new
    }

    pub(super) fn get(&self, id: RequestId) -> Option<&Pending> {
        self.live.get(id.0)
    }

    pub(super) fn get_mut(&mut self, id: RequestId) -> Option<&mut Pending> {
        self.live.get_mut(id.0)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Pending> {
        self.live.values_mut()
    }

    /// Returns a request of the job that `worker` has just ended; `None` if the request was cancelled meanwhile.
    pub(super) fn of_job(&mut self, id: RequestId, worker: WorkerId) -> Option<&mut Pending> {
        self.live.get_mut(id.0).filter(|pending| pending.runs_on() == Some(worker))
    }

    /// Returns the sources of the pictures of a request so far.
    pub(super) fn sources_beside(&self, id: RequestId, place: Place) -> &[ImageId] {
        if place.is_only() {
            return &[];
        }
        self.open.get(&place.first_of(id)).map_or(&[], |open| &open.sources)
    }

    /// Notes that a picture of a request of several starts from an image.
    pub(super) fn starts_from(&mut self, id: RequestId, place: Place, source: ImageId) {
        if let Some(open) = self.open.get_mut(&place.first_of(id)) {
            open.sources.push(source);
        }
    }

    /// Notes that the job of a request ended at `now` without a result.
    pub(super) fn lost_job(&mut self, id: RequestId, now: Time) {
        if let Some(Run { start, together, .. }) = self.get(id).and_then(Pending::run) {
            self.spans.entry(id).or_default().push(Span { start, end: now, together });
        }
    }

    /// Returns the record of a request that ends now, and its entry, which stays in the table until [`Self::remove`].
    pub(super) fn end(&mut self, id: RequestId, outcome: Outcome) -> Option<(Box<Ended>, &Pending)> {
        let pending = self.live.get(id.0)?;
        // In most runs no job is lost, and nothing is searched.
        let earlier = if self.spans.is_empty() { None } else { self.spans.remove(&id) };
        let ended = Box::new(Ended {
            request: id,
            outcome,
            stage: pending.stage,
            arrival: pending.arrival,
            tenant: pending.tenant,
            deadline: pending.deadline(),
            decision: pending.decision,
            attempts: pending.attempts,
            run: pending.run(),
            earlier: earlier.unwrap_or_default(),
            ask: pending.ask(),
            place: pending.place(),
        });
        Some((ended, pending))
    }

    /// Removes the entry of a request that has ended.
    pub(super) fn remove(&mut self, id: RequestId) {
        let removed = self.live.remove(id.0);
        if self.open.is_empty() {
            return;
        }
        let Some(place) = removed.map(|pending| pending.place()).filter(|place| !place.is_only()) else { return };
        let first = place.first_of(id);
        if let Some(open) = self.open.get_mut(&first) {
            open.left = open.left.saturating_sub(1);
            if open.left == 0 {
                self.open.remove(&first);
            }
        }
    }
}
