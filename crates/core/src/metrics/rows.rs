//! Records of single requests that have ended: the rows of `requests.csv`, and the little of them that bounds and warnings need.

use alloc::collections::BTreeMap;

use super::quality::{QualityKind, QualitySettings};
use crate::journal::{Journal, Record};
use crate::request::{Outcome, RequestId, TenantId};
use crate::scheduler::{Action, Decision, DecisionKind, Ended, Run};
use crate::time::Time;

/// Records of single requests that a fold keeps in memory; each kind includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Keep {
    /// None.
    #[default]
    Nothing,
    /// A [`RequestEnd`] of each request (40 bytes) and the absences of workers, for bounds and warnings.
    Ends,
    /// A [`RequestRow`] of each request (144 bytes) too.
    Rows,
}

/// A request that has ended: a row of `requests.csv`.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestRow {
    /// Row in the trace.
    pub id: RequestId,
    /// Time at which it was due.
    pub arrival: Time,
    /// Deadline, if it had one.
    pub deadline: Option<Time>,
    /// Tenant.
    pub tenant: TenantId,
    /// Latest decision; `None` if never routed.
    pub decision: Option<Decision>,
    /// Latest job; `None` if it was part of none.
    pub run: Option<Run>,
    /// Time at which it ended.
    pub finish: Time,
    /// Number of jobs that it was part of.
    pub attempts: u32,
    /// Outcome.
    pub outcome: Outcome,
    /// Cosine of its image and prompt by the encoder, in a live run.
    pub similarity_to_prompt: Option<f64>,
    /// Quality of its image in points of `CLIPScore`, and how the value is known; `None` if it is not, or without an image.
    pub quality: Option<(f64, QualityKind)>,
}

impl RequestRow {
    /// Makes the row of a request that ended now.
    pub(super) fn new(now: Time, ended: &Ended, quality: &QualitySettings, total_steps: u32) -> Self {
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
            quality: None,
        };
        if row.completed() {
            row.quality = quality.of_request(&row, total_steps);
        }
        row
    }

    /// Returns whether an image came of it.
    pub fn completed(&self) -> bool {
        self.outcome == Outcome::Completed
    }

    /// Returns whether it was answered with a cached image as it is.
    pub fn returned(&self) -> bool {
        self.decision.is_some_and(|decision| decision.kind == DecisionKind::Return)
    }
}

/// End of a request, as bounds and warnings need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestEnd {
    /// Row in the trace.
    pub id: RequestId,
    /// Tenant.
    pub tenant: TenantId,
    /// Time at which the request was due.
    pub arrival: Time,
    /// Time at which it ended.
    pub finish: Time,
    /// Least time that it takes on the first GPU type, nanoseconds ([`super::bound`]).
    pub least_work: u64,
    /// Kind of its latest decision; `None` if never routed.
    pub kind: Option<DecisionKind>,
    /// Whether an image came of it.
    pub completed: bool,
    /// Whether its latest job ran on the large model.
    pub by_large: bool,
}

impl RequestEnd {
    /// Keeps what is needed of a row.
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
        }
    }
}

/// Record of a single request.
pub(super) trait OfRequest {
    /// Returns the request.
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

/// Sorts records by request. Without room for a second copy: where every request has one, each is put at its own place.
pub(super) fn sort_by_request<T: OfRequest>(records: &mut [T]) {
    for at in 0..records.len() {
        while records[at].request().row() != at {
            let own = records[at].request();
            if records.get(own.row()).is_none_or(|other| other.request() == own) {
                records.sort_unstable_by_key(OfRequest::request);
                return;
            }
            records.swap(at, own.row());
        }
    }
}

/// Fold that hands out the rows of requests while a run goes on, in the order of the trace. It holds a row only until all
/// requests before it have ended, so that a run of any length fits into memory.
#[derive(Debug)]
pub struct RowsInOrder<F> {
    quality: QualitySettings,
    total_steps: u32,
    next: RequestId,
    /// Rows that wait for an earlier one.
    waiting: BTreeMap<RequestId, RequestRow>,
    each: F,
}

impl<F: FnMut(RequestRow)> RowsInOrder<F> {
    /// Makes a fold that calls `each` with every row.
    #[must_use]
    pub fn new(quality: QualitySettings, total_steps: u32, each: F) -> Self {
        Self { quality, total_steps, next: RequestId(0), waiting: BTreeMap::new(), each }
    }

    /// Hands out the rows that still wait, once the run has ended: requests before them never came.
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
        let row = RequestRow::new(now, ended, &self.quality, self.total_steps);
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
