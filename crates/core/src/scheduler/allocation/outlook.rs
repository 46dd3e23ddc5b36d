//! The near future under a split: requests, in order, each on the worker that can take it first. A plan, not the
//! dispatcher: what is late is left out, since late requests go behind all others.

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use core::cmp::Reverse;

use super::{Class, Seat};
use crate::model::{GpuId, ModelId};
use crate::scheduler::hardware::Hardware;
use crate::time::{Duration, Time};

/// A request that is or will be there.
#[derive(Clone, Copy, Debug)]
pub(in crate::scheduler) struct Task {
    /// When it can start.
    pub(in crate::scheduler) ready: Time,
    /// When it should be finished.
    pub(in crate::scheduler) due: Time,
    /// As a place in the list of classes.
    pub(in crate::scheduler) class: usize,
}

/// What is expected to come, to be played forward under several splits.
#[derive(Debug)]
pub(in crate::scheduler) struct Outlook<'a> {
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
    /// What a job as large as may be takes there, in times of a job of one, and for each of its requests; `None` where
    /// jobs are of one. Taken for what every job is like: a request takes long, and its worker is soon free again.
    together: Vec<Option<(f64, f64)>>,
}

impl<'a> Outlook<'a> {
    pub(in crate::scheduler) fn new(
        hardware: &'a Hardware,
        models: usize,
        classes: &'a [Class],
        tasks: &'a [Task],
        most: u32,
    ) -> Self {
        let pools = vec![BinaryHeap::new(); hardware.types() * models];
        let together = |pool: usize| {
            let service = hardware.profile.service(GpuId((pool / models) as u16), ModelId((pool % models) as u16));
            let size = service.most().min(most);
            let factor = service.batch_factor(size);
            (size > 1).then(|| (factor, factor / f64::from(size)))
        };
        let together = (0..pools.len()).map(together).collect();
        Self { hardware, models, classes, tasks, cushion: Duration::ZERO, best_first: false, pools, together }
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
    pub(in crate::scheduler) fn play(&mut self, seats: &[Seat], mut tell: impl FnMut(bool, Option<ModelId>)) {
        self.pools.iter_mut().for_each(BinaryHeap::clear);
        for seat in seats {
            let load = if seat.holds.contains(seat.target) {
                Duration::ZERO
            } else {
                self.hardware.load(seat.worker, seat.target)
            };
            let pool = self.pool(seat.gpu.index(), seat.target);
            self.pools[pool].push(Reverse(seat.free + load));
        }
        for task in self.tasks {
            let Some((pool, free)) = self.place(task) else {
                tell(false, None);
                continue;
            };
            self.pools[pool].pop();
            self.pools[pool].push(Reverse(free));
            tell(true, Some(ModelId((pool % self.models) as u16)));
        }
    }

    /// The pool that can begin with a request first, of those that would have it done in time; of equals the one that
    /// takes least time for it. With when its worker is free again.
    fn place(&self, task: &Task) -> Option<(usize, Time)> {
        let times = &self.classes[task.class].times;
        let candidates = self.pools.iter().zip(times.iter()).enumerate().filter_map(|(pool, (free, time))| {
            let start = free.peek()?.0.max(task.ready);
            let (whole, part) = self.taken(pool, (*time)?);
            let finish = start + whole;
            let model = pool % self.models;
            let rank = if self.best_first { (model, start) } else { (0, start) };
            (finish + self.cushion <= task.due).then_some((rank.0, rank.1, finish, pool, start + part))
        });
        candidates.min().map(|(.., pool, free)| (pool, free))
    }

    /// How long a request takes, and how long it keeps its worker.
    fn taken(&self, pool: usize, alone: Duration) -> (Duration, Duration) {
        let scaled = |factor: f64| Duration::from_seconds_saturating(alone.seconds() * factor);
        self.together[pool].map_or((alone, alone), |(whole, part)| (scaled(whole), scaled(part)))
    }
}
