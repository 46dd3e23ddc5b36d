//! Answers that the simulated executor will give, in the order in which they are due.

use core::cmp::Ordering;

use super::contention::RunningJob;
use crate::request::RequestId;
use crate::scheduler::{JobId, WorkerId};
use crate::time::{Moment, Rank, Time};

/// Answer and the time at which it is due, in the order of docs/semantics.md, section 2.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    pub(super) time: Time,
    /// Rank among the answers that are due at the same time, in the high bits, and the number of the answer in the low
    /// bits. The numbers of all answers differ.
    order: u64,
    pub(super) answer: Answer,
}

/// Number of bits in [`Due::order`] for the number of the answer.
const NUMBER: u32 = 56;

impl Due {
    /// Makes the answer with this number, which no other answer has.
    pub(super) const fn new(time: Time, rank: Rank, number: u64, answer: Answer) -> Self {
        Self { time, order: (rank as u64) << NUMBER | number, answer }
    }

    fn key(&self) -> (Time, u64) {
        (self.time, self.order)
    }

    /// Returns whether the answer comes after a deadline.
    pub(super) fn is_after(&self, deadline: Moment) -> bool {
        (deadline.time, deadline.rank as u64) < (self.time, self.order >> NUMBER)
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    /// End of the drawing of a job whose time does not depend on other workers.
    Drawn(RunningJob),
    /// End of the first job of a class, if the pace of the class has not changed since.
    FirstEnded {
        class: u16,
        number: u32,
    },
    Stopped {
        worker: WorkerId,
        job: JobId,
    },
    /// End of a stage of a job that is over the network.
    StageEnded(RunningJob),
    /// Arrival of a cancellation at the node of a worker.
    CancelArrived {
        worker: WorkerId,
        job: JobId,
    },
    Loaded {
        worker: WorkerId,
        load: u64,
        fails: bool,
    },
    Encoded(RequestId),
    ImageEncoded(RequestId),
}
