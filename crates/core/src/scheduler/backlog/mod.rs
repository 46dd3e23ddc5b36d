//! Requests that wait for a worker, in classes of equal work: misses, and hits by the steps they skip. Each class is in
//! the order of the discipline (`order`), and keeps what can no longer be in time behind what can. Which class goes
//! first, and on which worker, is the dispatcher's business.

use alloc::sync::Arc;
use alloc::vec::Vec;

use smallvec::SmallVec;

use super::action::{Decision, DecisionKind};
use super::hardware::Hardware;
use super::serving::Serving;
use crate::model::{GpuId, ModelId, ModelSet, Work};
use crate::request::{Request, RequestId, TenantId};
use crate::time::{Duration, Time};

mod fair;
mod line;
mod order;

pub use fair::Terms;
pub use order::{Late, Order, QueueSettings};

use fair::{Fair, SlackShares};
use line::Line;

/// Requests by which the share of hits is smoothed.
const LATELY: f64 = 128.0;

/// Late requests for each worker from which on time is lost for long.
const OVERRUN: usize = 4;

/// Where a request waits: first by priority, then by the discipline, then by routing. A request that must be tried
/// again goes back to its place, so that order holds whatever fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// Of its tenant, the first one 0.
    pub(super) priority: u32,
    /// What the discipline goes by.
    pub(super) key: u64,
    /// The how-manieth it was routed.
    pub(super) order: u32,
    pub(super) request: RequestId,
}

/// A place, in a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Waits {
    pub(super) place: Place,
    pub(super) class: usize,
    /// When it should be finished.
    pub(super) due: Time,
    /// When it was routed.
    pub(super) since: Time,
    pub(super) tenant: TenantId,
    /// Latest start in time, in nanoseconds; 0 unless the discipline is `fair_slack`.
    pub(super) slack: u64,
}

impl Waits {
    /// Among what is late: nothing but priority and routing counts there.
    const fn behind(self) -> Self {
        Self { place: Place { key: 0, ..self.place }, ..self }
    }
}

/// Requests of equal work.
#[derive(Clone, Debug)]
pub(super) struct Class {
    pub(super) kind: DecisionKind,
    pub(super) skipped_steps: u32,
    /// The models that may serve it, those asked first in front: for misses the best, for hits those that serve no
    /// misses.
    pub(super) choices: SmallVec<[ModelSet; 2]>,
    /// Expected time by GPU type, then model; `None` for models that may not serve it.
    pub(super) times: Arc<[Option<Duration>]>,
    /// So long before they are due, hits that wait for large models fall back on small ones; `None` if they do not wait.
    pub(super) fall_back: Option<Duration>,
    /// The best model that may serve it.
    pub(super) best: ModelSet,
    /// The shortest of these: what cannot be done in that time is late.
    pub(super) shortest: Duration,
    in_time: Line,
    late: Line,
}

/// Everything that waits.
#[derive(Clone, Debug)]
pub(super) struct Backlog {
    settings: QueueSettings,
    serving: Serving,
    hardware: Hardware,
    total_steps: u32,
    /// In order of first appearance; a few.
    classes: Vec<Class>,
    fair: Fair,
    /// Requests that wait in time, where the discipline is `fair_slack`.
    slack_shares: SlackShares,
    waiting: usize,
    /// The share of hits among what was placed lately.
    hits: f64,
}

impl Class {
    /// What goes first of what can be in time, or else of the rest; and whether it can.
    pub(super) fn first(&self, in_time: bool) -> Option<&Waits> {
        self.line(in_time).first()
    }

    /// What can be in time, or the rest, in order.
    pub(super) const fn line(&self, in_time: bool) -> &Line {
        if in_time { &self.in_time } else { &self.late }
    }

    /// What its requests need of a model.
    pub(super) const fn work(&self, model: ModelId, total_steps: u32) -> Work {
        Work { model, total_steps, skipped_steps: self.skipped_steps }
    }

    /// When the one that goes first falls back on small models.
    pub(super) fn falls_back(&self) -> Option<Time> {
        let first = self.in_time.first()?;
        let before = self.fall_back?;
        Some(Time::from_nanoseconds(first.due.nanoseconds().saturating_sub(before.nanoseconds())))
    }

    /// Number of requests that wait.
    pub(super) fn len(&self) -> usize {
        self.in_time.len() + self.late.len()
    }
}

impl Backlog {
    pub(super) fn new(settings: QueueSettings, serving: Serving, hardware: Hardware, total_steps: u32) -> Self {
        Self {
            settings,
            serving,
            hardware,
            total_steps,
            classes: Vec::new(),
            fair: Fair::default(),
            slack_shares: SlackShares::default(),
            waiting: 0,
            hits: 0.0,
        }
    }

    pub(super) const fn settings(&self) -> &QueueSettings {
        &self.settings
    }

    /// What waits.
    pub(super) const fn len(&self) -> usize {
        self.waiting
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// What waits of a kind.
    pub(super) fn waiting(&self, kind: DecisionKind) -> usize {
        self.classes.iter().filter(|class| class.kind == kind).map(Class::len).sum()
    }

    pub(super) fn classes(&self) -> &[Class] {
        &self.classes
    }

    /// Whether anything late waits.
    pub(super) fn any_late(&self) -> bool {
        self.classes.iter().any(|class| !class.late.is_empty())
    }

    /// Whether hits are the smaller part of what comes: then large models can make theirs too, at little cost.
    pub(super) fn hits_are_few(&self) -> bool {
        self.hits < 0.5
    }

    /// Whether so many late requests wait that time is lost for long, and hits are few.
    pub(super) fn is_overrun(&self) -> bool {
        if !self.hits_are_few() {
            return false;
        }
        let late: usize = self.classes.iter().map(|class| class.late.len()).sum();
        late >= OVERRUN * self.hardware.workers()
    }

    /// Whether a miss waits that goes before late requests, or any at all.
    pub(super) fn a_miss_waits(&self, in_time: bool) -> bool {
        let mut misses = self.classes.iter().filter(|class| class.kind == DecisionKind::Miss);
        misses.any(|class| !class.in_time.is_empty() || !in_time && !class.late.is_empty())
    }

    /// When a request should be finished.
    fn due(&self, request: &Request) -> Time {
        request.deadline.unwrap_or(request.arrival + self.settings.due)
    }

    /// Where a request is to wait that was routed as the `order`th.
    pub(super) fn place(&mut self, now: Time, request: &Request, decision: &Decision, order: u32) -> Waits {
        let class = self.class(decision);
        self.hits += (f64::from(u8::from(decision.kind == DecisionKind::Hit)) - self.hits) / LATELY;
        let due = self.due(request);
        let terms = self.settings.terms(request.tenant);
        let latest_start = || due.nanoseconds().saturating_sub(self.usual_time(class).nanoseconds());
        let slack = if self.settings.order == Order::FairSlack { latest_start() } else { 0 };
        let key = match self.settings.order {
            Order::MissesFirst | Order::Oldest => 0,
            Order::Deadline => due.nanoseconds(),
            Order::Slack => latest_start(),
            Order::Fair | Order::FairSlack => {
                let time = self.usual_time(class);
                self.fair.tag(request.tenant, time, terms.weight)
            }
        };
        let place = Place { priority: terms.rank(), key, order, request: request.id };
        Waits { place, class, due, since: now, tenant: request.tenant, slack }
    }

    /// Expected time of a class where it is served first: on the first GPU type.
    fn usual_time(&self, class: usize) -> Duration {
        let class = &self.classes[class];
        let first = class.choices.iter().flat_map(|choice| choice.iter()).next();
        first.and_then(|model| class.times[model.index()]).unwrap_or(class.shortest)
    }

    pub(super) fn add(&mut self, waits: &Waits) {
        let is_new = self.classes[waits.class].in_time.insert(*waits);
        self.waiting += usize::from(is_new);
        if is_new && self.settings.order == Order::FairSlack {
            for (before, after) in self.slack_shares.insert(*waits) {
                self.classes[before.class].in_time.remove(&before);
                self.classes[after.class].in_time.insert(after);
            }
        }
    }

    /// A request as it waits now: with `fair_slack` its tag may be another one than it got when it was routed.
    pub(super) fn current(&self, waits: &Waits) -> Waits {
        self.slack_shares.current(waits).unwrap_or(*waits)
    }

    /// Takes a request out.
    pub(super) fn remove(&mut self, waits: &Waits) {
        let current = self.slack_shares.remove(waits).unwrap_or(*waits);
        let was_there = self.classes[current.class].in_time.remove(&current)
            || self.classes[waits.class].late.remove(&waits.behind());
        self.waiting -= usize::from(was_there);
    }

    /// Takes out what goes first, to be served.
    pub(super) fn take_first(&mut self, class: usize, in_time: bool) -> Option<RequestId> {
        let class = &mut self.classes[class];
        let line = if in_time { &mut class.in_time } else { &mut class.late };
        let first = line.pop_first()?;
        self.waiting -= 1;
        if in_time {
            self.slack_shares.remove(&first);
            self.fair.started(first.place.key);
        }
        Some(first.place.request)
    }

    /// Takes out what can no longer be in time.
    pub(super) fn take_late(&mut self, now: Time) -> SmallVec<[RequestId; 2]> {
        let mut late = SmallVec::new();
        if self.settings.late == Late::InTurn || self.waiting == 0 {
            return late;
        }
        for class in &mut self.classes {
            while let Some(first) = class.in_time.first().copied()
                && now + class.shortest > first.due
            {
                class.in_time.pop_first();
                self.slack_shares.remove(&first);
                self.waiting -= 1;
                late.push(first.place.request);
            }
        }
        late
    }

    /// Puts a request behind those that can be in time, with what is decided for it now. Returns where that is.
    pub(super) fn put_behind(&mut self, waits: &Waits, decision: &Decision) -> Waits {
        let waits = Waits { class: self.class(decision), ..*waits };
        self.classes[waits.class].late.insert(waits.behind());
        self.waiting += 1;
        waits
    }

    /// The class of a decision.
    pub(super) fn class(&mut self, decision: &Decision) -> usize {
        let same = |class: &Class| (class.kind, class.skipped_steps) == (decision.kind, decision.skipped_steps);
        self.classes.iter().position(same).unwrap_or_else(|| {
            self.classes.push(self.new_class(decision));
            self.classes.len() - 1
        })
    }

    fn new_class(&self, decision: &Decision) -> Class {
        let models = self.serving.of(decision);
        let of_misses = self.serving.of_misses();
        let (small, large) = (models.without(of_misses), models.and(of_misses));
        let choices: SmallVec<[ModelSet; 2]> = match decision.kind {
            DecisionKind::Miss | DecisionKind::Draft => {
                models.iter().map(|model| ModelSet::EMPTY.with(model)).collect()
            }
            _ => [small, large].into_iter().filter(|set| !set.is_empty()).collect(),
        };
        let (total_steps, skipped_steps) = (self.total_steps, decision.skipped_steps);
        let time = |gpu: usize, model: usize| {
            let model = ModelId(model as u16);
            let work = Work { model, total_steps, skipped_steps };
            let gpu = GpuId(gpu as u16);
            let able = models.contains(model) && self.hardware.fits(gpu, core::iter::once(model));
            able.then(|| self.hardware.job(gpu, work))
        };
        let gpus = 0..self.hardware.types();
        let times: Arc<[Option<Duration>]> = gpus
            .flat_map(|gpu| (0..self.serving.models()).map(move |model| (gpu, model)))
            .map(|(g, m)| time(g, m))
            .collect();
        let waits = decision.kind == DecisionKind::Hit && !small.is_empty() && !large.is_empty();
        let on_small = small.iter().next().and_then(|model| times[model.index()]).unwrap_or_default();
        let before = |factor: f64| Duration::from_seconds_saturating(factor * on_small.seconds());
        Class {
            fall_back: self.settings.fall_back.filter(|_| waits).map(before),
            kind: decision.kind,
            skipped_steps,
            choices,
            best: models.iter().take(1).collect(),
            shortest: times.iter().flatten().min().copied().unwrap_or_default(),
            times,
            in_time: Line::default(),
            late: Line::default(),
        }
    }
}
