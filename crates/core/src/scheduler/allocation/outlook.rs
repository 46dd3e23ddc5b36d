//! Simulation of the near future under an allocation: each request in order goes to the worker that can begin with it
//! first. The simulation is simpler than the dispatcher: late requests take no time, since they are served behind all
//! others.

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::ops::ControlFlow;

use smallvec::SmallVec;

use super::{Class, Seat};
use crate::model::{GpuId, ModelId};
use crate::scheduler::action::DecisionKind;
use crate::scheduler::hardware::Hardware;
use crate::time::{Duration, Time};

/// Request that waits or is expected.
#[derive(Clone, Copy, Debug)]
pub(in crate::scheduler) struct Task {
    /// Time from which the request can start.
    pub(in crate::scheduler) ready: Time,
    /// Time by which the request should be finished.
    pub(in crate::scheduler) due: Time,
    /// Class of the request, as an index into the list of classes.
    pub(in crate::scheduler) class: usize,
}

/// Expected requests, to be simulated under several allocations.
#[derive(Debug)]
pub(in crate::scheduler) struct Outlook<'a> {
    hardware: &'a Hardware,
    models: usize,
    classes: &'a [Class],
    tasks: &'a [Task],
    /// Pools that may serve a class, by class.
    places: Vec<SmallVec<[Place; 2]>>,
    /// Safety margin: a request that finishes less than this time before its deadline counts as late.
    pub(super) cushion: Duration,
    /// True if requests wait for the best model that finishes them in time, even if another model could begin sooner.
    pub(super) best_first: bool,
    /// True if the models that serve misses leave a hit to the others, as long as a worker has one of these as its
    /// target.
    pub(super) hits_without_large: bool,
    /// Number of workers, and of requests, that each simulated one stands for.
    pub(super) stride: usize,
    /// Times at which the workers of a pool are free, by GPU type, then model.
    pools: Vec<BinaryHeap<Reverse<Time>>>,
    /// Time up to which [`Self::spare`] counts.
    pub(super) until: Time,
    /// Worker time that the requests of the last simulation leave over until then, by pool, in nanoseconds; below zero
    /// if their work goes on after that.
    spare: Vec<i128>,
}

/// Pool that may serve a class: the workers of a GPU type with a model.
#[derive(Clone, Copy, Debug)]
struct Place {
    pool: usize,
    model: usize,
    /// True if the request is a hit and the model serves misses too.
    is_large: bool,
    /// Time that a request takes in the pool.
    whole: Duration,
    /// Time for which the request keeps its worker: its part of a job.
    part: Duration,
}

/// Sample of the workers of each pool.
struct Sample {
    /// Number of workers, by pool.
    all: SmallVec<[usize; 8]>,
    /// Number of workers in the sample, by pool.
    chosen: SmallVec<[usize; 8]>,
    /// Remainder of (workers seen x `chosen` / `all`), in units of 1 / `all`, by pool.
    rest: SmallVec<[usize; 8]>,
}

impl Sample {
    /// Makes a sample of one in `stride` of the workers, which are in these pools.
    fn new(pools: usize, workers: impl Iterator<Item = usize>, stride: usize) -> Self {
        let mut all = SmallVec::from_elem(0, pools);
        workers.for_each(|pool| all[pool] += 1);
        let (mut so_far, mut taken) = (0, 0);
        let choose = |all: &usize| {
            so_far += all;
            // Rounding the sums and not the pools leaves the whole cluster as large as it is. No pool is left without a
            // worker, because its requests would all be late.
            let up_to = (so_far + stride / 2) / stride;
            let own = up_to.saturating_sub(taken).clamp((*all).min(1), *all);
            taken += own;
            own
        };
        Self { chosen: all.iter().map(choose).collect(), all, rest: SmallVec::from_elem(0, pools) }
    }

    /// Returns whether the next worker of a pool is in the sample.
    fn takes(&mut self, pool: usize) -> bool {
        self.rest[pool] += self.chosen[pool];
        let takes = self.rest[pool] >= self.all[pool];
        if takes {
            self.rest[pool] -= self.all[pool];
        }
        takes
    }
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
        // Every job is assumed to be as large as allowed: a request takes the time of the whole job, but keeps its
        // worker only for its part of that time.
        let taken = |pool: usize, alone: Duration| {
            let service = hardware.profile.service(GpuId((pool / models) as u16), ModelId((pool % models) as u16));
            let size = service.most().min(most);
            let scaled = |factor: f64| Duration::from_seconds_saturating(alone.seconds() * factor);
            let factor = service.batch_factor(size);
            if size > 1 { (scaled(factor), scaled(factor / f64::from(size))) } else { (alone, alone) }
        };
        let mut misses = classes.iter().filter(|class| class.kind == DecisionKind::Miss);
        let of_misses: SmallVec<[bool; 8]> = match misses.next() {
            Some(class) => class.times.iter().map(Option::is_some).collect(),
            None => SmallVec::from_elem(false, pools),
        };
        let places = |class: &Class| {
            let able = class.times.iter().enumerate().filter_map(|(pool, time)| Some((pool, (*time)?)));
            let place = |(pool, alone)| {
                let (whole, part) = taken(pool, alone);
                let is_large = class.kind == DecisionKind::Hit && of_misses[pool];
                Place { pool, model: pool % models, is_large, whole, part }
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
            hits_without_large: false,
            stride: 1,
            pools: vec![BinaryHeap::new(); pools],
            until: Time::ZERO,
            spare: vec![0; pools],
        }
    }

    /// Returns the classes of the requests.
    pub(super) const fn classes(&self) -> &'a [Class] {
        self.classes
    }

    /// Returns the number of the requests.
    pub(super) const fn tasks(&self) -> usize {
        self.tasks.len()
    }

    /// Returns whether every class has a worker whose target may serve it.
    pub(super) fn serves_all(&self, seats: &[Seat]) -> bool {
        let serves = |class: &Class, seat: &Seat| class.times[self.pool(seat.gpu.index(), seat.target)].is_some();
        self.classes.iter().all(|class| seats.iter().any(|seat| serves(class, seat)))
    }

    const fn pool(&self, gpu: usize, model: ModelId) -> usize {
        gpu * self.models + model.index()
    }

    /// Simulates the requests in order under the targets of `seats`. Calls `tell` for each with the model that would
    /// serve the request in time, or `None` if the request would be late, until `tell` breaks.
    pub(in crate::scheduler) fn play(
        &mut self,
        seats: &[Seat],
        mut tell: impl FnMut(Option<ModelId>) -> ControlFlow<()>,
    ) {
        self.seat(seats);
        for task in self.tasks {
            let model = self.place(task).map(|(place, free)| {
                if task.ready < self.until {
                    self.spare[place.pool] -= i128::from(place.part.nanoseconds());
                }
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

    /// Puts the workers into their pools, or one in [`Self::stride`] of each pool, evenly in the order of `seats`.
    fn seat(&mut self, seats: &[Seat]) {
        self.pools.iter_mut().for_each(BinaryHeap::clear);
        self.spare.fill(0);
        let pools = seats.iter().map(|seat| self.pool(seat.gpu.index(), seat.target));
        let mut sample = (self.stride > 1).then(|| Sample::new(self.pools.len(), pools, self.stride));
        for seat in seats {
            let pool = self.pool(seat.gpu.index(), seat.target);
            if sample.as_mut().is_some_and(|sample| !sample.takes(pool)) {
                continue;
            }
            let free = self.free(seat);
            self.pools[pool].push(Reverse(free));
            self.spare[pool] += i128::from(self.until.nanoseconds()) - i128::from(free.nanoseconds());
        }
    }

    /// Returns how many of the late requests that wait still do so after the last simulation: those for whose class the
    /// pools have no time left until [`Self::until`]. Quick classes go first, each where it takes the least time.
    pub(super) fn stay_late(&self) -> usize {
        let mut spare: SmallVec<[i128; 8]> = self.spare.iter().map(|spare| spare * self.stride as i128).collect();
        let part = |place: &Place| place.part;
        let mut classes: SmallVec<[usize; 8]> =
            (0..self.classes.len()).filter(|class| self.classes[*class].late > 0).collect();
        classes.sort_by_key(|class| self.places[*class].iter().map(part).min());
        let mut stay = 0;
        for class in classes {
            let mut places = self.places[class].clone();
            places.sort_by_key(part);
            let mut rest = self.classes[class].late;
            for place in places {
                let each = i128::from(place.part.nanoseconds()).max(1);
                let fit = (spare[place.pool] / each).clamp(0, rest as i128);
                spare[place.pool] -= fit * each;
                rest -= fit as usize;
            }
            stay += rest;
        }
        stay
    }

    /// Returns whether a request is certainly in time behind `waiting` requests of each class, without simulating them.
    /// `false` leaves the question open. Proof: even if one pool serves all waiting requests, the first worker of the
    /// pool is free no later than the workers of the pool are free on average, because the requests leave no gaps.
    pub(in crate::scheduler) fn is_in_time_behind_all(&self, seats: &[Seat], own: &Task, waiting: &[usize]) -> bool {
        self.places[own.class].iter().any(|place| {
            let of_pool = seats.iter().filter(|seat| self.pool(seat.gpu.index(), seat.target) == place.pool);
            let free = of_pool.map(|seat| u128::from(self.free(seat).nanoseconds()));
            let (workers, free) = free.fold((0, 0), |(workers, sum), free| (workers + 1, sum + free));
            let part = |class: usize| self.places[class].iter().find(|other| other.pool == place.pool);
            let work: u128 = (waiting.iter().enumerate())
                .filter_map(|(class, count)| Some(u128::from(part(class)?.part.nanoseconds()) * *count as u128))
                .sum();
            let finish = |workers: u128| (free + work) / workers + u128::from(place.whole.nanoseconds());
            workers > 0 && finish(workers) <= u128::from(own.due.nanoseconds())
        })
    }

    /// Returns the time at which a worker is free and holds its target.
    fn free(&self, seat: &Seat) -> Time {
        let is_there = seat.holds.contains(seat.target);
        let load =
            if is_there { Duration::ZERO } else { self.hardware.quickest_load(seat.worker, seat.holds, seat.target) };
        seat.free + load
    }

    /// Returns the pool for a request, and the time at which the worker there is free again. Of the pools that finish
    /// the request in time, the one that can begin first is taken, and among equals the one that finishes first.
    /// `best_first` prefers the better model. `None` if the request would be late.
    #[inline]
    fn place(&self, task: &Task) -> Option<(Place, Time)> {
        let mut best: Option<(&Place, Time, Time)> = None;
        let places = &self.places[task.class];
        let is_there = |place: &Place| !place.is_large && !self.pools[place.pool].is_empty();
        let without_large = self.hits_without_large && places.iter().any(is_there);
        // The pools are tried in order, so that the first of equals stays.
        for place in places {
            if place.is_large && without_large {
                continue;
            }
            let Some(Reverse(free)) = self.pools[place.pool].peek() else { continue };
            let start = (*free).max(task.ready);
            let finish = start + place.whole;
            if finish + self.cushion > task.due {
                continue;
            }
            let goes_first = |(other, its_start, its_finish): (&Place, Time, Time)| {
                if self.best_first && place.model != other.model {
                    place.model < other.model
                } else {
                    start < its_start || start == its_start && finish < its_finish
                }
            };
            if best.is_none_or(goes_first) {
                best = Some((place, start, finish));
            }
        }
        best.map(|(place, start, _)| (*place, start + place.part))
    }
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;
    use crate::draw::{Purpose, stream};
    use crate::model::ModelSet;
    use crate::scheduler::{DecisionKind, WorkerId};

    #[test]
    fn what_is_in_time_behind_all_is_in_time_in_any_order() {
        let ms = |count: u64| Duration::from_nanoseconds(count * 1_000_000);
        let mut surely = [0, 0];
        for seed in 0..3_000 {
            let mut draws = stream(seed, Purpose::Test, 62);
            let workers = draws.random_range(1..5_usize);
            let hardware = Hardware::unmeasured(workers, 2);
            let now = Time::ZERO + ms(1_000);
            let seats: Vec<Seat> = (0..workers)
                .map(|worker| Seat {
                    worker: WorkerId(worker as u16),
                    gpu: GpuId(0),
                    holds: ModelSet::EMPTY.with(ModelId(0)).with(ModelId(1)),
                    target: ModelId(draws.random_range(0..2)),
                    free: now + ms(draws.random_range(0..30)),
                })
                .collect();
            let mut class = || Class {
                kind: DecisionKind::Miss,
                skipped_steps: 0,
                times: (0..2).map(|_| draws.random_bool(0.8).then(|| ms(draws.random_range(1..20)))).collect(),
                waiting: 0,
                late: 0,
            };
            let classes = [class(), class()];
            let mut task =
                || Task { ready: now, due: now + ms(draws.random_range(0..150)), class: draws.random_range(0..2) };
            let tasks: Vec<Task> = (0..12).map(|_| task()).collect();
            let own = tasks[tasks.len() - 1];
            let waiting =
                [0, 1].map(|class| tasks[..tasks.len() - 1].iter().filter(|task| task.class == class).count());
            let mut outlook = Outlook::new(&hardware, 2, &classes, &tasks, 1);
            let is_surely = outlook.is_in_time_behind_all(&seats, &own, &waiting);
            let mut played = false;
            outlook.play(&seats, |model| {
                played = model.is_some();
                ControlFlow::Continue(())
            });
            assert!(played || !is_surely, "seed {seed}");
            surely[usize::from(played)] += usize::from(is_surely);
        }
        assert!(surely[1] > 500, "it often knows: {surely:?}");
    }

    #[test]
    fn a_sample_has_workers_of_each_pool_in_proportion() {
        let hardware = Hardware::unmeasured(400, 3);
        for seed in 0..300 {
            let mut draws = stream(seed, Purpose::Test, 63);
            let most = draws.random_range(1..400_u16);
            let seats: Vec<Seat> = (0..most)
                .map(|worker| Seat {
                    worker: WorkerId(worker),
                    gpu: GpuId(0),
                    holds: ModelSet::EMPTY,
                    target: ModelId(draws.random_range(0..3_u16).min(draws.random_range(0..3))),
                    free: Time::ZERO,
                })
                .collect();
            let all = [0, 1, 2].map(|model| seats.iter().filter(|seat| seat.target == ModelId(model)).count());
            let mut outlook = Outlook::new(&hardware, 3, &[], &[], 1);
            outlook.stride = draws.random_range(1..12);
            outlook.seat(&seats);
            let chosen = [0, 1, 2].map(|pool: usize| outlook.pools[pool].len());
            for (chosen, all) in chosen.into_iter().zip(all) {
                let share = all as f64 / outlook.stride as f64;
                assert!(
                    (chosen as f64 - share).abs() <= 2.0 && (chosen == 0) == (all == 0),
                    "seed {seed}: {chosen} of {all}"
                );
            }
            let whole = usize::from(most) / outlook.stride;
            let sum: usize = chosen.iter().sum();
            assert!(sum >= whole && sum <= whole + 3, "seed {seed}: {sum} for {whole}");
        }
    }

    #[test]
    fn late_requests_take_what_is_left_of_the_workers_quick_ones_first() {
        let ms = |count: u64| Duration::from_nanoseconds(count * 1_000_000);
        let hardware = Hardware::unmeasured(2, 2);
        let now = Time::ZERO + ms(1_000);
        let seat = |worker: u16| Seat {
            worker: WorkerId(worker),
            gpu: GpuId(0),
            holds: ModelSet::EMPTY.with(ModelId(worker)),
            target: ModelId(worker),
            free: now + ms(10),
        };
        let class = |kind, late, times: [Option<u64>; 2]| Class {
            kind,
            skipped_steps: 0,
            times: times.map(|time| time.map(ms)).into(),
            waiting: late,
            late,
        };
        // The miss takes 20 of the 90 ms that the large worker has until 1,100 ms, the small worker has all of them.
        let tasks = [Task { ready: now, due: now + ms(500), class: 0 }];
        let stay_late = |[misses, hits]: [usize; 2]| {
            let classes = [
                class(DecisionKind::Miss, misses, [Some(20), None]),
                class(DecisionKind::Hit, hits, [Some(15), Some(5)]),
            ];
            let mut outlook = Outlook::new(&hardware, 2, &classes, &tasks, 1);
            outlook.until = now + ms(100);
            outlook.play(&[seat(0), seat(1)], |_| ControlFlow::Continue(()));
            outlook.stay_late()
        };
        assert_eq!(stay_late([0, 0]), 0);
        assert_eq!(stay_late([3, 18]), 0, "three misses and eighteen hits fit");
        assert_eq!(stay_late([5, 0]), 2, "the fourth miss would end after that");
        assert_eq!(stay_late([0, 23]), 1, "hits go to the large worker when the small one is full");
        assert_eq!(stay_late([3, 19]), 1, "which then lacks the time for a miss");
    }
}
