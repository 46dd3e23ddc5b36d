//! Records of single requests that have ended: the rows of `requests.csv`, and the few fields that bounds and warnings
//! need.

use alloc::collections::BTreeMap;

use super::quality::{QualityKind, QualitySettings};
use crate::denoising::Denoising;
use crate::journal::{Journal, Record};
use crate::model::{ModelId, Work};
use crate::request::{Ask, Outcome, Place, RequestId, TenantId};
use crate::scheduler::{Action, Decision, DecisionKind, Ended, Run};
use crate::time::Time;

/// Records of single requests that a fold keeps in memory; each kind includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Keep {
    /// No records.
    #[default]
    Nothing,
    /// Ends of requests, a [`RequestEnd`] of 40 bytes each, and the absences of workers, for bounds and warnings.
    Ends,
    /// Rows of requests too, a [`RequestRow`] of 176 bytes each.
    Rows,
}

/// Request that has ended: a row of `requests.csv`.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestRow {
    /// Row of the request in the trace.
    pub id: RequestId,
    /// Time at which the request was due.
    pub arrival: Time,
    /// Deadline, if the request had one.
    pub deadline: Option<Time>,
    /// Tenant of the request.
    pub tenant: TenantId,
    /// Latest decision; `None` if the request was never routed.
    pub decision: Option<Decision>,
    /// Latest job; `None` if the request was part of none.
    pub run: Option<Run>,
    /// Time at which the request ended.
    pub finish: Time,
    /// Number of jobs that the request was part of.
    pub attempts: u32,
    /// Outcome of the request.
    pub outcome: Outcome,
    /// Cosine of the request's image and prompt by the encoder, in a live run.
    pub similarity_to_prompt: Option<f64>,
    /// Steps of a full generation by the model of the latest job, and those of them that the decision skips; by the
    /// large model if there was no job, and 0 if the request was never routed.
    pub steps: (u32, u32),
    /// Wishes of the request beside its prompt.
    pub ask: Ask,
    /// Place of the picture among those of its request.
    pub place: Place,
    /// Quality of the request's image in points of `CLIPScore`, and the kind of the value; `None` without an image or
    /// if the quality is unknown.
    pub quality: Option<(f64, QualityKind)>,
}

impl RequestRow {
    /// Makes the row of a request that ended now.
    pub(super) fn new(now: Time, ended: &Ended, quality: &QualitySettings, denoising: &Denoising) -> Self {
        let mut row = Self {
            id: ended.request,
            arrival: ended.arrival,
            deadline: ended.deadline,
            tenant: ended.tenant,
            decision: ended.decision,
            run: ended.run,
            finish: now,
            attempts: ended.attempts,
            outcome: ended.outcome.clone(),
            similarity_to_prompt: None,
            steps: (0, 0),
            ask: ended.ask,
            place: ended.place,
            quality: None,
        };
        if let Some(decision) = &row.decision {
            let model = row.run.map_or(ModelId::LARGE, |run| run.model);
            let work = decision.work(model, row.ask.shape(), denoising);
            row.steps = (work.total_steps, work.skipped_steps);
        }
        if row.completed() {
            row.quality = quality.of_request(&row, denoising);
        }
        row
    }

    /// Returns whether the request ended with an image.
    pub fn completed(&self) -> bool {
        self.outcome == Outcome::Completed
    }

    /// Returns the work of the latest decision: on the model of the latest job, or else on the large model; `None` if
    /// the request was never routed.
    pub fn work(&self) -> Option<Work> {
        self.decision?;
        let (model, (total, skipped)) = (self.run.map_or(ModelId::LARGE, |run| run.model), self.steps);
        Some(Work { size: self.ask.size, ..Work::new(model, total, skipped) })
    }

    /// Returns the noise that the hit might start from, by its bound; `None` for a request that is no hit.
    pub fn allowed_sigma(&self, denoising: &Denoising) -> Option<f64> {
        let hit = self.decision.filter(|decision| decision.kind == DecisionKind::Hit)?;
        Some(denoising.allowed(hit.skipped_steps))
    }

    /// Returns the noise that the latest job of the hit started from; `None` for a request that is no hit or had no
    /// job.
    pub fn start_sigma(&self, denoising: &Denoising) -> Option<f64> {
        self.decision.filter(|decision| decision.kind == DecisionKind::Hit)?;
        self.run?;
        Some(denoising.start(self.work()?))
    }

    /// Returns whether the latest decision was to return a cached image as it is.
    pub fn returned(&self) -> bool {
        self.decision.is_some_and(|decision| decision.kind == DecisionKind::Return)
    }
}

/// End of a request, with the fields that bounds and warnings need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestEnd {
    /// Row of the request in the trace.
    pub id: RequestId,
    /// Tenant of the request.
    pub tenant: TenantId,
    /// Time at which the request was due.
    pub arrival: Time,
    /// Time at which the request ended.
    pub finish: Time,
    /// Least time that the request takes on the first GPU type, in nanoseconds ([`super::bound`]).
    pub least_work: u64,
    /// Kind of the latest decision; `None` if the request was never routed.
    pub kind: Option<DecisionKind>,
    /// True if the request ended with an image.
    pub completed: bool,
    /// True if the latest job of the request ran on the large model.
    pub by_large: bool,
    /// Place of the picture among those of its request.
    pub place: Place,
}

impl RequestEnd {
    /// Makes the end of a request from its row.
    pub(super) fn new(row: &RequestRow, least_work: u64) -> Self {
        Self {
            id: row.id,
            tenant: row.tenant,
            arrival: row.arrival,
            finish: row.finish,
            least_work,
            kind: row.decision.map(|decision| decision.kind),
            completed: row.completed(),
            by_large: row.run.is_some_and(|run| run.model.is_large()),
            place: row.place,
        }
    }
}

/// Record of a single request.
pub(super) trait OfRequest {
    /// Returns the request of the record.
    fn request(&self) -> RequestId;
}

impl OfRequest for RequestRow {
    fn request(&self) -> RequestId {
        self.id
    }
}

impl OfRequest for RequestEnd {
    fn request(&self) -> RequestId {
        self.id
    }
}

/// Sorts records by request, in place, so that no second copy takes memory. If every request has a record, each record
/// is swapped to the place of its row; otherwise the records are sorted by comparisons.
pub(super) fn sort_by_request<T: OfRequest>(records: &mut [T]) {
    for at in 0..records.len() {
        while records[at].request().row() != at {
            let own = records[at].request();
            // The place does not exist or is taken: some requests have no record, or one has two.
            if records.get(own.row()).is_none_or(|other| other.request() == own) {
                records.sort_unstable_by_key(OfRequest::request);
                return;
            }
            records.swap(at, own.row());
        }
    }
}

/// Fold that hands out the rows of requests while a run goes on, in the order of the trace. It holds a row until all
/// requests before it have ended and no longer, so that a run of any length fits into memory.
#[derive(Debug)]
pub struct RowsInOrder<F> {
    quality: QualitySettings,
    denoising: Denoising,
    next: RequestId,
    /// Rows that wait for an earlier request to end.
    waiting: BTreeMap<RequestId, RequestRow>,
    each: F,
}

impl<F: FnMut(RequestRow)> RowsInOrder<F> {
    /// Makes a fold that calls `each` with every row.
    #[must_use]
    pub fn new(quality: QualitySettings, denoising: Denoising, each: F) -> Self {
        Self { quality, denoising, next: RequestId(0), waiting: BTreeMap::new(), each }
    }

    /// Hands out the rows that still wait, once the run has ended. Earlier requests without a row never came.
    pub fn finish(mut self) {
        self.waiting.into_values().for_each(&mut self.each);
    }

    fn hand_out(&mut self, row: RequestRow) {
        self.next = RequestId(row.id.0 + 1);
        (self.each)(row);
    }
}

impl<F: FnMut(RequestRow)> Journal for RowsInOrder<F> {
    fn record(&mut self, now: Time, record: Record<'_>) {
        let Record::Action(Action::Finish(ended)) = record else { return };
        let row = RequestRow::new(now, ended, &self.quality, &self.denoising);
        // An earlier request has not ended yet.
        if row.id != self.next {
            self.waiting.insert(row.id, row);
            return;
        }
        self.hand_out(row);
        while let Some(entry) = self.waiting.first_entry().filter(|entry| *entry.key() == self.next) {
            let row = entry.remove();
            self.hand_out(row);
        }
    }
}
