//! The near future under a split: requests, in order, each on the worker that can take it first. A plan, not the
//! dispatcher: what is late is left out, since late requests go behind all others.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{Class, Seat};
use crate::model::ModelId;
use crate::scheduler::hardware::Hardware;
use crate::time::{Duration, Time};

/// A request that is or will be there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Task {
    /// When it can start.
    pub(super) ready: Time,
    /// When it should be finished.
    pub(super) due: Time,
    pub(super) class: usize,
}

/// What is expected to come, to be played forward under several splits.
#[derive(Debug)]
pub(super) struct Outlook<'a> {
    hardware: &'a Hardware,
    models: usize,
    classes: &'a [Class],
    tasks: &'a [Task],
    /// Requests done less than this before they are due count as late.
    pub(super) cushion: Duration,
    /// Whether requests wait for the best model that would have them done in time.
    pub(super) best_first: bool,
    /// When the workers of a GPU type with a model are free, by type, then model.
    pools: Vec<BinaryHeap<Reverse<Time>>>,
}

impl<'a> Outlook<'a> {
    pub(super) fn new(hardware: &'a Hardware, models: usize, classes: &'a [Class], tasks: &'a [Task]) -> Self {
        let pools = vec![BinaryHeap::new(); hardware.types() * models];
        Self { hardware, models, classes, tasks, cushion: Duration::ZERO, best_first: false, pools }
    }

    /// Whether every class has a worker that may serve it.
    pub(super) fn serves_all(&self, seats: &[Seat]) -> bool {
        let serves = |class: &Class, seat: &Seat| class.times[self.pool(seat.gpu.index(), seat.target)].is_some();
        self.classes.iter().all(|class| seats.iter().any(|seat| serves(class, seat)))
    }

    const fn pool(&self, gpu: usize, model: ModelId) -> usize {
        gpu * self.models + model.index()
    }

    /// Tells of each request whether it would be in time, and which model would serve it.
    pub(super) fn play(&mut self, seats: &[Seat], mut tell: impl FnMut(bool, Option<ModelId>)) {
        self.pools.iter_mut().for_each(BinaryHeap::clear);
        for seat in seats {
            let load = if seat.holds == Some(seat.target) {
                Duration::ZERO
            } else {
                self.hardware.load(seat.worker, seat.target)
            };
            let pool = self.pool(seat.gpu.index(), seat.target);
            self.pools[pool].push(Reverse(seat.free + load));
        }
        for task in self.tasks {
            let Some((pool, finish)) = self.place(task) else {
                tell(false, None);
                continue;
            };
            self.pools[pool].pop();
            self.pools[pool].push(Reverse(finish));
            tell(true, Some(ModelId((pool % self.models) as u16)));
        }
    }

    /// The pool that can begin with a request first, of those that would have it done in time; of equals the one that
    /// takes least time for it.
    fn place(&self, task: &Task) -> Option<(usize, Time)> {
        let times = &self.classes[task.class].times;
        let candidates = self.pools.iter().zip(times.iter()).enumerate().filter_map(|(pool, (free, time))| {
            let start = free.peek()?.0.max(task.ready);
            let finish = start + (*time)?;
            let model = pool % self.models;
            let rank = if self.best_first { (model, start) } else { (0, start) };
            (finish + self.cushion <= task.due).then_some((rank.0, rank.1, finish, pool))
        });
        candidates.min().map(|(_, _, finish, pool)| (pool, finish))
    }
}
