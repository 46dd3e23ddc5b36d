//! Classes of requests of equal work, with tables of models, pools and expected times. The tables of a class are made
//! once, when the first request of the class is routed.

use alloc::sync::Arc;
use alloc::vec::Vec;

use smallvec::SmallVec;

use super::QueueSettings;
use super::line::{Line, WaitingRequest};
use crate::denoising::Denoising;
use crate::model::{GpuId, ModelId, ModelSet, Work};
use crate::request::Shape;
use crate::scheduler::action::{Decision, DecisionKind};
use crate::scheduler::cluster::Pools;
use crate::scheduler::hardware::Hardware;
use crate::scheduler::serving::Serving;
use crate::time::{Duration, Time};

/// Requests of equal work.
#[derive(Clone, Debug)]
pub(in crate::scheduler) struct Class {
    pub(in crate::scheduler) kind: DecisionKind,
    pub(in crate::scheduler) skipped_steps: u32,
    pub(in crate::scheduler) shape: Shape,
    /// Models that may serve the class, in the order in which the dispatcher tries them: for misses and drafts the best
    /// model first, for hits the models that serve no misses first.
    pub(in crate::scheduler) choices: SmallVec<[Choice; 2]>,
    /// Best model that may serve the class.
    pub(in crate::scheduler) best: Choice,
    /// Pools of all choices.
    pub(in crate::scheduler) pools: Pools,
    /// Expected time by GPU type, then model. `None` for a model that may not serve the class or does not fit the GPU.
    pub(in crate::scheduler) times: Arc<[Option<Duration>]>,
    /// Time before the deadline at which a hit that waits for a large model falls back on a small one. `None` if
    /// requests of the class never wait for a large model.
    pub(in crate::scheduler) fall_back: Option<Duration>,
    /// Shortest of `times` in the pools that are the target of a worker. A request with less time left until its
    /// deadline is late.
    pub(in crate::scheduler) shortest: Duration,
    /// Expected time on the first GPU type with the model that is tried first.
    pub(super) usual: Duration,
    /// Expected time on the first GPU type with the model that is tried first of those that are the target of a worker.
    pub(super) present: Duration,
    pub(super) in_time: Line,
    pub(super) late: Line,
}

/// Models that the dispatcher tries at the same time.
#[derive(Clone, Debug)]
pub(in crate::scheduler) struct Choice {
    pub(in crate::scheduler) models: ModelSet,
    /// True if any of the models may serve misses too.
    pub(in crate::scheduler) serves_misses: bool,
    /// Expected time and number of each pool that has one of the models, fastest first. All times are 0 if the
    /// discipline ignores time.
    pub(in crate::scheduler) pools: SmallVec<[(Duration, usize); 2]>,
    /// Set of the same pools.
    pub(in crate::scheduler) set: Pools,
}

/// Facts from which classes are made.
#[derive(Clone, Debug)]
pub(super) struct Tables {
    pub(super) serving: Serving,
    pub(super) hardware: Hardware,
    pub(super) denoising: Denoising,
    /// True if a request goes to the ready worker that is expected to finish first, rather than to the one with the
    /// lowest number.
    pub(super) by_time: bool,
    /// True for each pool that a worker has as its target.
    pub(super) targeted: Vec<bool>,
}

impl Tables {
    /// Makes the class of a decision for a size and a number of steps.
    pub(super) fn class(&self, settings: &QueueSettings, decision: &Decision, shape: Shape) -> Class {
        let models = self.serving.models_for(decision);
        let of_misses = self.serving.of_misses();
        let (small, large) = (models.without(of_misses), models.and(of_misses));
        // Full generations try one model after the other, the best first. Hits try all small models at once, then all
        // large ones.
        let sets: SmallVec<[ModelSet; 2]> = match decision.kind {
            DecisionKind::Miss | DecisionKind::Draft => {
                models.iter().map(|model| ModelSet::EMPTY.with(model)).collect()
            }
            _ => [small, large].into_iter().filter(|set| !set.is_empty()).collect(),
        };
        let times = self.times(models, decision, shape);
        let choices: SmallVec<[Choice; 2]> = sets.iter().map(|set| self.choice(*set, &times)).collect();
        let best = self.choice(models.iter().take(1).collect(), &times);
        // Only a hit that both a small and a large model may serve can wait for the one and fall back on the other.
        let waits = decision.kind == DecisionKind::Hit && !small.is_empty() && !large.is_empty();
        // The times are by GPU type, then model, so that the first of them are those of the first GPU type.
        let on_small = small.iter().next().and_then(|model| times[model.index()]).unwrap_or_default();
        let before = |factor: f64| Duration::from_seconds_saturating(factor * on_small.seconds());
        let first = sets.iter().flat_map(|set| set.iter()).next();
        let shortest = times.iter().flatten().min().copied().unwrap_or_default();
        let usual = first.and_then(|model| times[model.index()]).unwrap_or(shortest);
        let all = choices.iter().chain([&best]).flat_map(|choice| &choice.pools);
        let mut class = Class {
            kind: decision.kind,
            skipped_steps: decision.skipped_steps,
            shape,
            pools: all.fold(Pools::default(), |set, (_, pool)| set.with(*pool)),
            choices,
            best,
            fall_back: settings.fall_back.filter(|_| waits).map(before),
            shortest,
            usual,
            present: usual,
            times,
            in_time: Line::default(),
            late: Line::default(),
        };
        self.retarget(&mut class);
        class
    }

    /// Sets the times of a class that follow from the targets of the workers. A class that no target serves keeps the
    /// times with its best models, because a decision about the targets will follow.
    pub(super) fn retarget(&self, class: &mut Class) {
        let count = self.serving.models();
        let times = || class.times.iter().enumerate().filter_map(|(pool, time)| Some((pool, (*time)?)));
        let targeted = times().filter(|(pool, _)| self.targeted[*pool]);
        let shortest = targeted.map(|(_, time)| time).min();
        class.shortest = shortest.or_else(|| times().map(|(_, time)| time).min()).unwrap_or_default();
        let is_target = |model: &ModelId| self.targeted.iter().skip(model.index()).step_by(count).any(|is| *is);
        let first = class.choices.iter().flat_map(|choice| choice.models.iter()).find(is_target);
        class.present = first.and_then(|model| class.times[model.index()]).unwrap_or(class.usual);
    }

    fn times(&self, models: ModelSet, decision: &Decision, shape: Shape) -> Arc<[Option<Duration>]> {
        let time = |gpu: usize, model: usize| {
            let (gpu, model) = (GpuId(gpu as u16), ModelId(model as u16));
            let able = models.contains(model) && self.hardware.fits(gpu, core::iter::once(model));
            able.then(|| self.hardware.job(gpu, decision.work(model, shape, &self.denoising)))
        };
        let gpus = 0..self.hardware.types();
        gpus.flat_map(|gpu| (0..self.serving.models()).map(move |model| (gpu, model)))
            .map(|(g, m)| time(g, m))
            .collect()
    }

    fn choice(&self, models: ModelSet, times: &[Option<Duration>]) -> Choice {
        let count = self.serving.models();
        let of_these = |pool: usize| models.contains(ModelId((pool % count) as u16));
        let able = times.iter().enumerate().filter(|(pool, _)| of_these(*pool));
        let mut pools: SmallVec<[(Duration, usize); 2]> = able
            .filter_map(|(pool, time)| {
                Some((if self.by_time { (*time)? } else { (*time).map(|_| Duration::ZERO)? }, pool))
            })
            .collect();
        // The dispatcher stops at the first pool that is slower than the one found.
        pools.sort_unstable();
        let set = pools.iter().fold(Pools::default(), |set, (_, pool)| set.with(*pool));
        Choice { models, serves_misses: !models.and(self.serving.of_misses()).is_empty(), pools, set }
    }
}

impl Class {
    /// Returns the first request of the line in time, or of the late line unless `in_time`.
    pub(in crate::scheduler) fn first(&self, in_time: bool) -> Option<&WaitingRequest> {
        self.line(in_time).first()
    }

    /// Returns the line of requests in time, or the late line unless `in_time`.
    pub(in crate::scheduler) const fn line(&self, in_time: bool) -> &Line {
        if in_time { &self.in_time } else { &self.late }
    }

    /// Returns the work of a request of the class on a model.
    pub(in crate::scheduler) fn work(&self, model: ModelId, denoising: &Denoising) -> Work {
        self.kind.work(self.skipped_steps, model, self.shape, denoising)
    }

    /// Returns the time at which the first request in time falls back on small models.
    pub(in crate::scheduler) fn falls_back(&self) -> Option<Time> {
        let before = self.fall_back?;
        let first = self.in_time.first()?;
        Some(Time::from_nanoseconds(first.due.nanoseconds().saturating_sub(before.nanoseconds())))
    }

    /// Returns the latest start with which a request meets its deadline with its fastest model and GPU type.
    pub(super) const fn latest_start(&self, waits: &WaitingRequest) -> Time {
        Time::from_nanoseconds(waits.due.nanoseconds().saturating_sub(self.shortest.nanoseconds()))
    }

    /// Returns the number of waiting requests of the class.
    pub(in crate::scheduler) fn len(&self) -> usize {
        self.in_time.len() + self.late.len()
    }
}
