//! Waiting requests, in classes of equal work: misses, drafts, and hits by skipped steps, each by size and number of
//! steps. Each class has two lines:
//! requests that can meet their deadline, in the order of the discipline, and late requests. The dispatcher chooses
//! class and worker.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use smallvec::SmallVec;

use super::action::{Decision, DecisionKind, Stage};
use super::hardware::Hardware;
use super::requests::Pending;
use super::serving::Serving;
use crate::denoising::Denoising;
use crate::request::{RequestId, Shape, TenantId};
use crate::time::{Duration, Time};

mod class;
mod deadlines;
mod fair;
mod line;
mod order;
mod two_fifos;

pub(super) use class::{Choice, Class};
pub use fair::TenantTerms;
pub(super) use line::WaitingRequest;
pub use order::{Late, Order, QueueSettings};

use class::Tables;
use deadlines::By;
use fair::{Fair, FairSlack};
use two_fifos::TwoFifos;

/// Number of requests over which the share of hits is smoothed.
const LATELY: f64 = 128.0;

/// Number of late requests for each worker from which the queue counts as overrun.
const OVERRUN: usize = 4;

/// Facts of a routed request that a discipline may use.
#[derive(Clone, Copy, Debug)]
struct Routed {
    /// Deadline.
    due: Time,
    /// Expected service time on the first GPU type with the model that is tried first.
    usual: Duration,
    /// Weight of the tenant.
    weight: f64,
}

impl Routed {
    /// Returns the latest start that meets the deadline, in nanoseconds.
    const fn latest_start(&self) -> u64 {
        latest_start(self.due, self.usual)
    }
}

/// Returns the latest start that meets a deadline with work of this length, in nanoseconds.
const fn latest_start(due: Time, time: Duration) -> u64 {
    due.nanoseconds().saturating_sub(time.nanoseconds())
}

/// Class of a request and its place there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    class: u16,
    pub(super) waits: WaitingRequest,
}

/// Discipline of the queue: the order of the requests that can meet their deadlines.
trait Discipline: fmt::Debug + Send {
    /// Returns the key of a routed request. The lowest key is served first.
    fn key(&mut self, _routed: &Routed, _tenant: TenantId) -> u64 {
        0
    }

    /// Returns the latest start of a routed request in nanoseconds, if the discipline uses it beside the key; 0
    /// otherwise.
    fn slack(&self, _routed: &Routed) -> u64 {
        0
    }

    /// Returns whether misses are served before all other requests of equal priority.
    fn misses_first(&self) -> bool {
        false
    }

    /// Returns whether a request goes to the ready worker that is expected to finish first, rather than to the one with
    /// the lowest number.
    fn by_time(&self) -> bool {
        true
    }

    /// Notes that a request entered its line in time. Returns the requests whose places change, each with its old and
    /// its new place.
    fn joined(&mut self, _standing: Standing, _slack: u64) -> Vec<(Standing, Standing)> {
        Vec::new()
    }

    /// Returns the present place of a request.
    fn current(&self, standing: Standing, _slack: u64) -> Standing {
        standing
    }

    /// Notes that a request leaves its line in time without being served. Returns its last place.
    fn left(&mut self, standing: Standing, _slack: u64) -> Standing {
        standing
    }

    /// Notes that a request from a line in time is served.
    fn started(&mut self, _waits: &WaitingRequest, _slack: u64) {}
}

/// Waiting requests of all classes.
#[derive(Debug)]
pub(super) struct Queue {
    settings: QueueSettings,
    discipline: Box<dyn Discipline>,
    misses_first: bool,
    tables: Tables,
    /// Classes in order of first appearance. There are few.
    classes: Vec<Class>,
    /// Number of waiting requests.
    waiting: usize,
    /// Number of hits among the waiting requests.
    hits: usize,
    /// Number of late requests among the waiting requests.
    late: usize,
    /// Time before which no first request of a class can become late.
    next_late: Time,
    /// Share of hits among the latest requests, as an exponential mean from 0 to 1.
    hit_share: f64,
}

impl Queue {
    pub(super) fn new(settings: QueueSettings, serving: Serving, hardware: Hardware, denoising: Denoising) -> Self {
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
            tables: Tables {
                targeted: vec![true; hardware.types() * serving.models()],
                by_time: discipline.by_time(),
                serving,
                hardware,
                denoising,
            },
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

    /// Returns the number of waiting requests.
    pub(super) const fn len(&self) -> usize {
        self.waiting
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Returns the number of waiting hits.
    pub(super) const fn hits(&self) -> usize {
        self.hits
    }

    pub(super) fn classes(&self) -> &[Class] {
        &self.classes
    }

    /// Returns whether misses of equal priority are served before requests of a class.
    pub(super) fn is_behind(&self, class: &Class) -> bool {
        self.misses_first && class.kind != DecisionKind::Miss
    }

    /// Returns the rank of a request of a class among all classes. The lowest rank is served first.
    pub(super) fn rank(&self, class: &Class, waits: &WaitingRequest, in_time: bool) -> (u32, bool, u64, u32) {
        // The latest start depends on the models that workers have as their targets. Within a class the order is the
        // same.
        let by_slack = in_time && self.settings.order == Order::Slack;
        let key = if by_slack { latest_start(waits.due, class.present) } else { waits.key };
        (waits.priority, self.is_behind(class), key, waits.order)
    }

    /// Sets the pools that workers have as their targets.
    pub(super) fn retarget(&mut self, targeted: impl Iterator<Item = bool>) {
        self.tables.targeted.clear();
        self.tables.targeted.extend(targeted);
        for at in 0..self.classes.len() {
            self.tables.retarget(&mut self.classes[at]);
            self.watch_first(at);
        }
    }

    /// Returns the requests of the lines in time, or of the late lines unless `in_time`, in the order of service, each
    /// with its class. Each line is in that order already, so the lines are merged.
    pub(super) fn in_order(&self, in_time: bool) -> impl Iterator<Item = (usize, WaitingRequest)> {
        // There are few lines, so that the smallest of their heads is found by looking at each.
        let mut lines: Vec<_> =
            self.classes.iter().map(|class| (class, class.line(in_time).iter().peekable())).collect();
        core::iter::from_fn(move || {
            let heads = lines.iter_mut().enumerate();
            let ranks = heads.filter_map(|(at, (class, line))| Some((self.rank(class, line.peek()?, in_time), at)));
            let (_, at) = ranks.min()?;
            Some((at, *lines[at].1.next()?))
        })
    }

    /// Returns whether misses are served before all other requests of equal priority.
    pub(super) const fn misses_first(&self) -> bool {
        self.misses_first
    }

    /// Returns whether any late request waits.
    pub(super) const fn any_late(&self) -> bool {
        self.late > 0
    }

    /// Returns whether fewer than half of the latest requests are hits. Large models can then serve hits too at little
    /// cost.
    pub(super) fn hits_are_few(&self) -> bool {
        self.hit_share < 0.5
    }

    /// Returns whether hits are few and at least [`OVERRUN`] late requests wait for each worker.
    pub(super) fn is_overrun(&self) -> bool {
        self.hits_are_few() && self.late >= OVERRUN * self.tables.hardware.workers()
    }

    /// Returns whether a miss waits: with `in_time` a miss in time, otherwise any miss.
    pub(super) fn a_miss_waits(&self, in_time: bool) -> bool {
        let mut misses = self.classes.iter().filter(|class| class.kind == DecisionKind::Miss);
        misses.any(|class| !class.in_time.is_empty() || !in_time && !class.late.is_empty())
    }

    /// Returns the time by which a request that has no deadline should be finished.
    pub(super) fn due(&self, arrival: Time) -> Time {
        arrival + self.settings.due
    }

    /// Sets the class, the key and the latest start of a routed request.
    pub(super) fn place(&mut self, pending: &mut Pending, decision: &Decision) {
        let class = self.class(decision, pending.ask().shape());
        self.hit_share += (f64::from(u8::from(decision.kind == DecisionKind::Hit)) - self.hit_share) / LATELY;
        let weight = self.settings.terms(pending.tenant).weight;
        let routed = Routed { due: pending.due, usual: self.classes[usize::from(class)].usual, weight };
        pending.class = class;
        pending.key = self.discipline.key(&routed, pending.tenant);
        pending.slack = self.discipline.slack(&routed);
    }

    /// Returns the place of a request according to its class and its key.
    fn standing(&self, request: RequestId, pending: &Pending) -> Standing {
        let Pending { key, order, due, tenant, class, .. } = *pending;
        let priority = self.settings.terms(tenant).rank();
        Standing { class, waits: WaitingRequest { priority, key, order, request, due, tenant } }
    }

    /// Returns the present place of a waiting request. With `fair_slack` the tag of the request may have changed since
    /// routing.
    pub(super) fn current(&self, request: RequestId, pending: &Pending) -> WaitingRequest {
        self.discipline.current(self.standing(request, pending), pending.slack).waits
    }

    /// Adds a request that is retried. The class follows from `decision`, which may have changed since routing.
    pub(super) fn add_at_old_place(&mut self, request: RequestId, pending: &mut Pending, decision: &Decision) {
        pending.class = self.class(decision, pending.ask().shape());
        self.add(request, pending);
    }

    /// Adds a request at the place that [`Self::place`] gave it.
    pub(super) fn add(&mut self, request: RequestId, pending: &mut Pending) {
        pending.stage = Stage::Waiting;
        let standing = self.standing(request, pending);
        let class = &mut self.classes[usize::from(standing.class)];
        if !class.in_time.insert(standing.waits) {
            return;
        }
        // The request need not be the first of its line. If the time is too early, the lines are looked at once too
        // often.
        self.next_late = self.next_late.min(class.latest_start(&standing.waits));
        self.entered(usize::from(standing.class));
        // With `fair_slack` the tags of one tenant's requests change hands, so that requests of other classes move as
        // well.
        for (before, after) in self.discipline.joined(standing, pending.slack) {
            self.classes[usize::from(before.class)].in_time.remove(&before.waits);
            self.classes[usize::from(after.class)].in_time.insert(after.waits);
            self.watch_first(usize::from(before.class));
            self.watch_first(usize::from(after.class));
        }
    }

    /// Removes a waiting request.
    pub(super) fn remove(&mut self, request: RequestId, pending: &Pending) {
        let standing = self.standing(request, pending);
        let was_there = if pending.stage == Stage::Late {
            self.late -= 1;
            self.classes[usize::from(standing.class)].late.remove(&standing.waits.behind())
        } else {
            // The tag may have changed since routing: the discipline knows the present place.
            let standing = self.discipline.left(standing, pending.slack);
            self.classes[usize::from(standing.class)].in_time.remove(&standing.waits)
        };
        debug_assert!(was_there, "it waits");
        self.left(usize::from(standing.class));
    }

    /// Counts a request that entered a class.
    fn entered(&mut self, class: usize) {
        self.waiting += 1;
        self.hits += usize::from(self.classes[class].kind == DecisionKind::Hit);
    }

    /// Counts a request that left a class.
    fn left(&mut self, class: usize) {
        self.waiting -= 1;
        self.hits -= usize::from(self.classes[class].kind == DecisionKind::Hit);
        self.watch_first(class);
    }

    /// Updates `next_late` after the first request of a class changed.
    fn watch_first(&mut self, class: usize) {
        let class = &self.classes[class];
        if let Some(first) = class.in_time.first() {
            self.next_late = self.next_late.min(class.latest_start(first));
        }
    }

    /// Removes the first request of a line, to be served.
    pub(super) fn take_first(&mut self, class: usize, in_time: bool) -> Option<WaitingRequest> {
        let lines = &mut self.classes[class];
        let first = if in_time { lines.in_time.pop_first() } else { lines.late.pop_first() }?;
        self.late -= usize::from(!in_time);
        self.left(class);
        Some(first)
    }

    /// Notifies the discipline that a request from a line in time is served.
    pub(super) fn started(&mut self, waits: &WaitingRequest, pending: &Pending) {
        self.discipline.started(waits, pending.slack);
    }

    /// Returns whether the settings treat late requests differently and any request may be late at `now`.
    pub(super) fn parts_late(&self, now: Time) -> bool {
        self.settings.late != Late::InTurn && now >= self.next_late
    }

    /// Removes the requests that can no longer meet their deadlines, and returns them. The caller passes each to
    /// [`Self::leaves_late`].
    pub(super) fn take_late(&mut self, now: Time) -> SmallVec<[RequestId; 2]> {
        let mut late = SmallVec::new();
        // The time is found anew from the lines as they are after this.
        self.next_late = Time::MAX;
        for at in 0..self.classes.len() {
            // Only the first of a line is looked at: a request behind it that cannot be in time either is late once it
            // comes first.
            while let Some(first) = self.classes[at].in_time.first()
                && now + self.classes[at].shortest > first.due
            {
                late.push(first.request);
                self.classes[at].in_time.pop_first();
                self.left(at);
            }
            self.watch_first(at);
        }
        late
    }

    /// Notifies the discipline that a request left its line in time because it is late.
    pub(super) fn leaves_late(&mut self, request: RequestId, pending: &Pending) {
        self.discipline.left(self.standing(request, pending), pending.slack);
    }

    /// Adds a late request to the late line of the class of `decision`.
    pub(super) fn put_behind(&mut self, request: RequestId, pending: &mut Pending, decision: &Decision) {
        pending.class = self.class(decision, pending.ask().shape());
        pending.stage = Stage::Late;
        let standing = self.standing(request, pending);
        self.classes[usize::from(standing.class)].late.insert(standing.waits.behind());
        self.late += 1;
        self.entered(usize::from(standing.class));
    }

    /// Returns the index of the class of a decision. Makes the class if the decision is the first of its work.
    fn class(&mut self, decision: &Decision, shape: Shape) -> u16 {
        let same = |class: &Class| {
            (class.kind, class.skipped_steps) == (decision.kind, decision.skipped_steps) && class.shape == shape
        };
        let found = self.classes.iter().position(same);
        let at = found.unwrap_or_else(|| {
            self.classes.push(self.tables.class(&self.settings, decision, shape));
            self.classes.len() - 1
        });
        // Inputs have at most `Shape::MOST` sizes and steps, and each has a class for a miss and for each bound.
        debug_assert!(u16::try_from(at).is_ok(), "more kinds of work than inputs may have");
        at as u16
    }
}
