//! What goes wrong with simulated workers while they are there: slow spells and loads that fail. Workers that are lost
//! and come back are events from outside, like arrivals.

use alloc::vec::Vec;

use crate::model::ModelId;
use crate::scheduler::WorkerId;
use crate::time::Time;

/// From when on, and until when.
pub type Spell = core::ops::Range<Time>;

/// Spells of workers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Faults {
    /// Jobs begun in this spell take so many times as long.
    pub slow: Vec<(WorkerId, Spell, f64)>,
    /// Loads begun in this spell fail at their end.
    pub failing_loads: Vec<(WorkerId, Spell)>,
    /// When workers are lost, with what they hold.
    pub lost: Vec<(WorkerId, Time)>,
    /// What each worker holds at time zero.
    pub initial: Vec<ModelId>,
}

impl Faults {
    /// How many times as long a job takes that begins now, if it is not as ever.
    pub(super) fn slowdown(&self, worker: WorkerId, now: Time) -> Option<f64> {
        let spells = self.slow.iter().filter(|(slow, spell, _)| *slow == worker && spell.contains(&now));
        spells.map(|(.., factor)| *factor).reduce(|a, b| a * b)
    }

    /// What a worker still holds that loaded this last.
    pub(super) fn held(&self, worker: WorkerId, last: Option<(Time, ModelId)>, now: Time) -> Option<ModelId> {
        let initial = || self.initial.get(worker.index()).map(|model| (Time::ZERO, *model));
        let (since, model) = last.or_else(initial)?;
        let lost = self.lost.iter().any(|(lost, time)| *lost == worker && (since..=now).contains(time));
        (!lost).then_some(model)
    }

    /// Whether a load fails that begins now.
    pub(super) fn load_fails(&self, worker: WorkerId, now: Time) -> bool {
        self.failing_loads.iter().any(|(failing, spell)| *failing == worker && spell.contains(&now))
    }
}
