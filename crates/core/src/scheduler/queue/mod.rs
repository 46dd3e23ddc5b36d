//! Requests that wait for a worker, in classes of equal work: misses, and hits by the steps they skip. Each class is in
//! the order of the discipline, and keeps what can no longer be in time behind what can. Which class goes
//! first, and on which worker, is the dispatcher's business.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use smallvec::SmallVec;

use super::action::{Decision, DecisionKind, Stage};
use super::hardware::Hardware;
use super::requests::Pending;
use super::serving::Serving;
use crate::request::{RequestId, TenantId};
use crate::time::{Duration, Time};

mod class;
mod deadlines;
mod fair;
mod line;
mod order;
mod two_fifos;

pub(super) use class::{Choice, Class};
pub use fair::Terms;
pub(super) use line::Waits;
pub use order::{Late, Order, QueueSettings};

use class::Tables;
use deadlines::By;
use fair::{Fair, FairSlack};
use two_fifos::TwoFifos;

/// Requests by which the share of hits is smoothed.
const LATELY: f64 = 128.0;

/// Late requests for each worker from which on time is lost for long.
const OVERRUN: usize = 4;

/// What a discipline sees of a request that is routed.
#[derive(Clone, Copy, Debug)]
struct Routed {
    /// When it should be finished.
    due: Time,
    /// Expected time where it is served first.
    usual: Duration,
    /// Of its tenant.
    weight: f64,
}

impl Routed {
    /// Latest start in time, nanoseconds.
    const fn latest_start(&self) -> u64 {
        self.due.nanoseconds().saturating_sub(self.usual.nanoseconds())
    }
}

/// A place, in a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    class: u16,
    pub(super) waits: Waits,
}

/// Policies of the queue: who goes first among what waits in time.
trait Discipline: fmt::Debug + Send {
    /// Key of a request that is routed, the lowest first.
    fn key(&mut self, _routed: &Routed, _tenant: TenantId) -> u64 {
        0
    }

    /// Latest start in time, where the discipline goes by it beside the key.
    fn slack(&self, _routed: &Routed) -> u64 {
        0
    }

    /// Whether misses go before all else of equal priority.
    fn misses_first(&self) -> bool {
        false
    }

    /// Whether of the ready workers the one that is expected to be done first is taken, and not the lowest.
    fn by_time(&self) -> bool {
        true
    }

    /// A request waits from now on. Returns what changes places for that: as it stood, and as it stands from now on.
    fn came(&mut self, _standing: Standing, _slack: u64) -> Vec<(Standing, Standing)> {
        Vec::new()
    }

    /// Where a request stands that may have changed places.
    fn current(&self, standing: Standing, _slack: u64) -> Standing {
        standing
    }

    /// A request no longer waits. Returns where it stood.
    fn went(&mut self, standing: Standing, _slack: u64) -> Standing {
        standing
    }

    /// A request is served.
    fn started(&mut self, _waits: &Waits, _slack: u64) {}
}

/// Everything that waits.
#[derive(Debug)]
pub(super) struct Queue {
    settings: QueueSettings,
    discipline: Box<dyn Discipline>,
    misses_first: bool,
    tables: Tables,
    /// In order of first appearance; a few.
    classes: Vec<Class>,
    waiting: usize,
    /// Of these, hits; and those that are late.
    hits: usize,
    late: usize,
    /// Nobody who goes first in a class is late before this.
    next_late: Time,
    /// Share of hits among what was placed lately.
    hit_share: f64,
}

impl Queue {
    pub(super) fn new(settings: QueueSettings, serving: Serving, hardware: Hardware, total_steps: u32) -> Self {
        let discipline: Box<dyn Discipline> = match settings.order {
            Order::MissesFirst => Box::new(TwoFifos),
            Order::Oldest => Box::new(By::Routing),
            Order::Deadline => Box::new(By::Deadline),
            Order::Slack => Box::new(By::Slack),
            Order::Fair => Box::new(Fair::default()),
            Order::FairSlack => Box::new(FairSlack::default()),
        };
        Self {
            settings,
            misses_first: discipline.misses_first(),
            tables: Tables { serving, hardware, total_steps, by_time: discipline.by_time() },
            discipline,
            classes: Vec::new(),
            waiting: 0,
            hits: 0,
            late: 0,
            next_late: Time::MAX,
            hit_share: 0.0,
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

    /// Hits that wait.
    pub(super) const fn hits(&self) -> usize {
        self.hits
    }

    pub(super) fn classes(&self) -> &[Class] {
        &self.classes
    }

    /// Whether misses of equal priority go before requests of a class.
    pub(super) fn is_behind(&self, class: &Class) -> bool {
        self.misses_first && class.kind != DecisionKind::Miss
    }

    /// Order of a request of a class among requests of all classes.
    pub(super) fn rank(&self, class: usize, waits: &Waits) -> (u32, bool, u64, u32) {
        waits.rank(self.is_behind(&self.classes[class]))
    }

    /// What can be in time, or the rest, in the order in which it would be served, each with its class: the lines of the
    /// classes are merged, which are in that order already.
    pub(super) fn in_order(&self, in_time: bool) -> impl Iterator<Item = (usize, Waits)> {
        let mut lines: Vec<_> =
            self.classes.iter().map(|class| (self.is_behind(class), class.line(in_time).iter().peekable())).collect();
        core::iter::from_fn(move || {
            let heads = lines.iter_mut().enumerate();
            let ranks = heads.filter_map(|(class, (is_behind, line))| Some((line.peek()?.rank(*is_behind), class)));
            let (_, class) = ranks.min()?;
            Some((class, *lines[class].1.next()?))
        })
    }

    /// Whether misses go before all else of equal priority.
    pub(super) const fn misses_first(&self) -> bool {
        self.misses_first
    }

    /// Whether anything late waits.
    pub(super) const fn any_late(&self) -> bool {
        self.late > 0
    }

    /// Whether hits are the smaller part of what comes: then large models can make theirs too, at little cost.
    pub(super) fn hits_are_few(&self) -> bool {
        self.hit_share < 0.5
    }

    /// Whether so many late requests wait that time is lost for long, and hits are few.
    pub(super) fn is_overrun(&self) -> bool {
        self.hits_are_few() && self.late >= OVERRUN * self.tables.hardware.workers()
    }

    /// Whether a miss waits that goes before late requests, or any at all.
    pub(super) fn a_miss_waits(&self, in_time: bool) -> bool {
        let mut misses = self.classes.iter().filter(|class| class.kind == DecisionKind::Miss);
        misses.any(|class| !class.in_time.is_empty() || !in_time && !class.late.is_empty())
    }

    /// When a request is due that does not say.
    pub(super) fn due(&self, arrival: Time) -> Time {
        arrival + self.settings.due
    }

    /// Decides where a request is to wait that has been routed.
    pub(super) fn place(&mut self, pending: &mut Pending, decision: &Decision) {
        let class = self.class(decision);
        self.hit_share += (f64::from(u8::from(decision.kind == DecisionKind::Hit)) - self.hit_share) / LATELY;
        let weight = self.settings.terms(pending.tenant).weight;
        let routed = Routed { due: pending.due, usual: self.classes[usize::from(class)].usual, weight };
        pending.class = class;
        pending.key = self.discipline.key(&routed, pending.tenant);
        pending.slack = self.discipline.slack(&routed);
    }

    /// Where a request waits, or would.
    fn standing(&self, request: RequestId, pending: &Pending) -> Standing {
        let Pending { key, order, due, tenant, class, .. } = *pending;
        let priority = self.settings.terms(tenant).rank();
        Standing { class, waits: Waits { priority, key, order, request, due, tenant } }
    }

    /// Where a request waits now: with `fair_slack` its tag may be another one than it got when it was routed.
    pub(super) fn current(&self, request: RequestId, pending: &Pending) -> Waits {
        self.discipline.current(self.standing(request, pending), pending.slack).waits
    }

    /// Puts a request at its place. What is decided for it may have changed since it was placed.
    pub(super) fn add(&mut self, request: RequestId, pending: &mut Pending, decision: &Decision) {
        pending.class = self.class(decision);
        pending.stage = Stage::Waiting;
        let standing = self.standing(request, pending);
        let class = &mut self.classes[usize::from(standing.class)];
        if !class.in_time.insert(standing.waits) {
            return;
        }
        self.next_late = self.next_late.min(class.latest_start(&standing.waits));
        self.waiting += 1;
        self.hits += usize::from(class.kind == DecisionKind::Hit);
        for (before, after) in self.discipline.came(standing, pending.slack) {
            self.classes[usize::from(before.class)].in_time.remove(&before.waits);
            self.classes[usize::from(after.class)].in_time.insert(after.waits);
            self.watch_first(usize::from(before.class));
            self.watch_first(usize::from(after.class));
        }
    }

    /// Takes out a request that waits.
    pub(super) fn remove(&mut self, request: RequestId, pending: &Pending) {
        let standing = self.standing(request, pending);
        let was_there = if pending.stage == Stage::Late {
            self.late -= 1;
            self.classes[usize::from(standing.class)].late.remove(&standing.waits.behind())
        } else {
            let standing = self.discipline.went(standing, pending.slack);
            self.classes[usize::from(standing.class)].in_time.remove(&standing.waits)
        };
        debug_assert!(was_there, "it waits");
        self.went(usize::from(standing.class));
    }

    /// One less waits in a class.
    fn went(&mut self, class: usize) {
        self.waiting -= 1;
        self.hits -= usize::from(self.classes[class].kind == DecisionKind::Hit);
        self.watch_first(class);
    }

    /// Another request may go first in a class.
    fn watch_first(&mut self, class: usize) {
        let class = &self.classes[class];
        if let Some(first) = class.in_time.first() {
            self.next_late = self.next_late.min(class.latest_start(first));
        }
    }

    /// Takes out what goes first, to be served.
    pub(super) fn take_first(&mut self, class: usize, in_time: bool) -> Option<Waits> {
        let lines = &mut self.classes[class];
        let first = if in_time { lines.in_time.pop_first() } else { lines.late.pop_first() }?;
        self.late -= usize::from(!in_time);
        self.went(class);
        Some(first)
    }

    /// A request that was taken out in time is served.
    pub(super) fn started(&mut self, waits: &Waits, pending: &Pending) {
        self.discipline.started(waits, pending.slack);
    }

    /// Whether it is asked who is late, and anybody may be.
    pub(super) fn parts_late(&self, now: Time) -> bool {
        self.settings.late != Late::InTurn && now >= self.next_late
    }

    /// Takes out what can no longer be in time; whoever takes it tells [`Self::leaves_late`].
    pub(super) fn take_late(&mut self, now: Time) -> SmallVec<[RequestId; 2]> {
        let mut late = SmallVec::new();
        self.next_late = Time::MAX;
        for at in 0..self.classes.len() {
            while let Some(first) = self.classes[at].in_time.first()
                && now + self.classes[at].shortest > first.due
            {
                late.push(first.request);
                self.classes[at].in_time.pop_first();
                self.went(at);
            }
            self.watch_first(at);
        }
        late
    }

    /// A request that was taken out as late no longer waits in time.
    pub(super) fn leaves_late(&mut self, request: RequestId, pending: &Pending) {
        self.discipline.went(self.standing(request, pending), pending.slack);
    }

    /// Puts a request behind those that can be in time, with what is decided for it now.
    pub(super) fn put_behind(&mut self, request: RequestId, pending: &mut Pending, decision: &Decision) {
        pending.class = self.class(decision);
        pending.stage = Stage::Late;
        let standing = self.standing(request, pending);
        let class = &mut self.classes[usize::from(standing.class)];
        class.late.insert(standing.waits.behind());
        self.late += 1;
        self.waiting += 1;
        self.hits += usize::from(class.kind == DecisionKind::Hit);
    }

    /// The class of a decision.
    fn class(&mut self, decision: &Decision) -> u16 {
        let same = |class: &Class| (class.kind, class.skipped_steps) == (decision.kind, decision.skipped_steps);
        let found = self.classes.iter().position(same);
        let at = found.unwrap_or_else(|| {
            self.classes.push(self.tables.class(&self.settings, decision));
            self.classes.len() - 1
        });
        at as u16
    }
}
