//! Faults of simulated workers while they are not lost: times at which jobs are slow, and loads that fail. The loss and
//! the return of workers are events from outside, like arrivals.

use alloc::vec::Vec;

use crate::model::ModelId;
use crate::scheduler::WorkerId;
use crate::time::Time;

/// Range of time during which a fault lasts.
pub type Spell = core::ops::Range<Time>;

/// Faults of all workers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Faults {
    /// Workers, the range of time in which the jobs that begin are slow, and the factor on the time of these jobs.
    pub slow: Vec<(WorkerId, Spell, f64)>,
    /// Workers, and the range of time in which the loads that begin fail at their end.
    pub failing_loads: Vec<(WorkerId, Spell)>,
    /// Workers, and the times at which they are lost with the model that they hold.
    pub lost: Vec<(WorkerId, Time)>,
    /// Model that each worker holds at time zero, by worker.
    pub initial: Vec<ModelId>,
}

impl Faults {
    /// Returns the factor on the time of a job that begins now; `None` if no fault slows it.
    pub(super) fn slowdown(&self, worker: WorkerId, now: Time) -> Option<f64> {
        let spells = self.slow.iter().filter(|(slow, spell, _)| *slow == worker && spell.contains(&now));
        spells.map(|(.., factor)| *factor).reduce(|a, b| a * b)
    }

    /// Returns the model that a worker still holds after a failed load. `last` is its last successful load, with the
    /// start of that load; `None` stands for the model at time zero. A worker that has been lost since holds none.
    pub(super) fn held(&self, worker: WorkerId, last: Option<(Time, ModelId)>, now: Time) -> Option<ModelId> {
        let initial = || self.initial.get(worker.index()).map(|model| (Time::ZERO, *model));
        let (since, model) = last.or_else(initial)?;
        // The time since the start of the load counts: a worker that is lost while it loads does not get the model.
        let lost = self.lost.iter().any(|(lost, time)| *lost == worker && (since..=now).contains(time));
        (!lost).then_some(model)
    }

    /// Returns whether a load that begins now fails.
    pub(super) fn load_fails(&self, worker: WorkerId, now: Time) -> bool {
        self.failing_loads.iter().any(|(failing, spell)| *failing == worker && spell.contains(&now))
    }
}
