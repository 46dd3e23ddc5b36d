//! The near future under a split: requests, in order, each on the worker that can take it first. A plan, not the
//! dispatcher: what is late is left out, since late requests go behind all others.

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::ops::ControlFlow;

use smallvec::SmallVec;

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
    /// Pools that may serve a class, by class.
    places: Vec<SmallVec<[Place; 2]>>,
    /// Requests done less than this before they are due count as late.
    pub(super) cushion: Duration,
    /// Whether requests wait for the best model that would have them done in time.
    pub(super) best_first: bool,
    /// When the workers of a GPU type with a model are free, by type, then model.
    pools: Vec<BinaryHeap<Reverse<Time>>>,
}

/// A pool that may serve a class.
#[derive(Clone, Copy, Debug)]
struct Place {
    pool: usize,
    model: usize,
    /// Time that a request takes there, and time for which it keeps its worker.
    whole: Duration,
    part: Duration,
}

impl<'a> Outlook<'a> {
    pub(in crate::scheduler) fn new(
        hardware: &'a Hardware,
        models: usize,
        classes: &'a [Class],
        tasks: &'a [Task],
        most: u32,
    ) -> Self {
        let pools = hardware.types() * models;
        // What a job as large as may be takes, in times of a job of one, and for each of its requests, is taken for what every
        // job is like: a request takes long, and its worker is soon free again.
        let taken = |pool: usize, alone: Duration| {
            let service = hardware.profile.service(GpuId((pool / models) as u16), ModelId((pool % models) as u16));
            let size = service.most().min(most);
            let scaled = |factor: f64| Duration::from_seconds_saturating(alone.seconds() * factor);
            let factor = service.batch_factor(size);
            if size > 1 { (scaled(factor), scaled(factor / f64::from(size))) } else { (alone, alone) }
        };
        let places = |class: &Class| {
            let able = class.times.iter().enumerate().filter_map(|(pool, time)| Some((pool, (*time)?)));
            let place = |(pool, alone)| {
                let (whole, part) = taken(pool, alone);
                Place { pool, model: pool % models, whole, part }
            };
            able.map(place).collect()
        };
        Self {
            hardware,
            models,
            classes,
            tasks,
            places: classes.iter().map(places).collect(),
            cushion: Duration::ZERO,
            best_first: false,
            pools: vec![BinaryHeap::new(); pools],
        }
    }

    /// Whether every class has a worker that may serve it.
    pub(super) fn serves_all(&self, seats: &[Seat]) -> bool {
        let serves = |class: &Class, seat: &Seat| class.times[self.pool(seat.gpu.index(), seat.target)].is_some();
        self.classes.iter().all(|class| seats.iter().any(|seat| serves(class, seat)))
    }

    const fn pool(&self, gpu: usize, model: ModelId) -> usize {
        gpu * self.models + model.index()
    }

    /// Tells of each request whether it would be in time, and which model would serve it, until nobody wants to hear more.
    pub(in crate::scheduler) fn play(
        &mut self,
        seats: &[Seat],
        mut tell: impl FnMut(Option<ModelId>) -> ControlFlow<()>,
    ) {
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
            let model = self.place(task).map(|(place, free)| {
                if let Some(mut first) = self.pools[place.pool].peek_mut() {
                    *first = Reverse(free);
                }
                ModelId(place.model as u16)
            });
            if tell(model).is_break() {
                break;
            }
        }
    }

    /// The pool that can begin with a request first, of those that would have it done in time; of equals the one that
    /// takes least time for it. With when its worker is free again.
    fn place(&self, task: &Task) -> Option<(Place, Time)> {
        let mut best: Option<((usize, Time, Time, usize), Place)> = None;
        for place in &self.places[task.class] {
            let Some(Reverse(free)) = self.pools[place.pool].peek() else { continue };
            let start = (*free).max(task.ready);
            let finish = start + place.whole;
            let rank = (if self.best_first { place.model } else { 0 }, start, finish, place.pool);
            if finish + self.cushion <= task.due && best.is_none_or(|(least, _)| rank < least) {
                best = Some((rank, *place));
            }
        }
        best.map(|((_, start, ..), place)| (place, start + place.part))
    }
}
