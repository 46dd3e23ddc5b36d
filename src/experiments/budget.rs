//! Runs that end as soon as more requests are known to be late than are allowed. A journal counts the late requests,
//! and an inbox closes.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::journal::{Journal, Record};
use crate::metrics::bound::{Job, Lateness, least_work_of, speed};
use crate::metrics::{Keep, Settings};
use crate::replay::{Inbox, Next};
use crate::request::{Outcome, RequestId, Shape};
use crate::scheduler::{Action, Event, Note};
use crate::simulation::Simulation;
use crate::time::{Duration, Time};
use crate::window::Window;

/// Returns the largest number of late requests at which the share of requests in time is still at least `attainment`.
#[must_use]
pub fn allowed_late(requests: u64, attainment: f64) -> u64 {
    // The comparison itself decides. A formula solved for the number could be off by one through rounding.
    (0..=requests).rev().find(|late| (requests - late) as f64 / requests as f64 >= attainment).unwrap_or(0)
}

/// Budget of late requests of one run.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Latency up to which a request is in time.
    pub limit: Duration,
    /// Number of requests that may be late.
    pub allowed: u64,
    /// End of the warm-up: requests that arrive earlier are left out.
    pub warmup: Time,
    /// Settings of the run, if its jobs take exactly the profile's times or longer. Requests that no policy could serve
    /// in time then count as late at once.
    pub bound: Option<Settings>,
}

impl Budget {
    /// Returns the budget of a run. Requests that take longer than `limit` are late, and `allowed` requests may be
    /// late.
    #[must_use]
    pub fn for_run(simulation: &Simulation, limit: Duration, allowed: u64) -> Self {
        let slow = simulation.scenario.faults.events.iter().filter_map(|event| event.factor);
        // The bound does not hold for jobs that may be shorter than in the profile: a factor of 0 says so.
        let slow = slow.chain(simulation.actual.iter().map(|_| 0.0));
        Self {
            limit,
            allowed,
            warmup: simulation.warmup(),
            bound: Self::bounded(simulation.settings(Keep::Nothing, false), slow.fold(1.0, f64::min)),
        }
    }

    /// Returns the settings for [`Self::bound`], if the bound holds: neither jitter nor a factor below 1 makes jobs
    /// shorter than in the profile.
    #[must_use]
    pub fn bounded(settings: Settings, fastest_factor: f64) -> Option<Settings> {
        let gpus = settings.gpus.iter().copied();
        let models = 0..settings.models.len() as u16;
        let mut rows = gpus.flat_map(|gpu| models.clone().map(move |model| (gpu, crate::model::ModelId(model))));
        let exact = rows.all(|(gpu, model)| settings.profile.service(gpu, model).jitter_cv == 0.0);
        (exact && fastest_factor >= 1.0).then_some(settings)
    }
}

/// Counts of one run, shared by the journal and the inbox of the run.
#[derive(Clone, Debug)]
pub struct Watch(Rc<RefCell<Counts>>);

#[derive(Debug)]
struct Counts {
    budget: Budget,
    arrived: u64,
    late: u64,
    /// Requests that count and have neither ended nor become late, by their first picture.
    open: Window<Open>,
    /// Requests that count, in the order of arrival, up to the first one that is not yet overdue. Requests that have
    /// ended are among them.
    oldest: VecDeque<(Time, RequestId)>,
    bound: Option<Lateness>,
}

/// Request that has neither ended nor become late.
#[derive(Clone, Copy, Debug)]
struct Open {
    arrival: Time,
    /// Number of pictures that have not ended.
    left: u16,
    shape: Shape,
}

impl Watch {
    /// Makes counts of 0 for a budget.
    #[must_use]
    pub fn new(budget: Budget) -> Self {
        let thousandths = |settings: &Settings| settings.gpus.iter().map(|gpu| speed(settings, *gpu)).sum();
        let bound = budget.bound.as_ref().map(|settings| Lateness::new(thousandths(settings)));
        let (open, oldest) = (Window::default(), VecDeque::new());
        Self(Rc::new(RefCell::new(Counts { budget, arrived: 0, late: 0, open, oldest, bound })))
    }

    /// Returns the number of requests that have arrived so far and count.
    #[must_use]
    pub fn arrived(&self) -> u64 {
        self.0.borrow().arrived
    }

    /// Returns the number of requests that are known to be late, by what happened or by the bound.
    #[must_use]
    pub fn late(&self) -> u64 {
        self.0.borrow().late()
    }

    /// Returns whether more requests are late than are allowed.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let counts = self.0.borrow();
        counts.late() > counts.budget.allowed
    }
}

impl Counts {
    fn late(&self) -> u64 {
        // The larger number counts and not the sum: a request that the bound counts may be among those that are late by
        // now.
        self.late.max(self.bound.as_ref().map_or(0, Lateness::late))
    }

    /// Counts requests as late that are still open after their latest time.
    fn overdue(&mut self, now: Time) {
        while let Some(&(arrival, id)) = self.oldest.front() {
            if now.since(arrival) <= self.budget.limit {
                break;
            }
            self.oldest.pop_front();
            self.late += u64::from(self.open.remove(id.0).is_some());
        }
    }

    fn routed(&mut self, request: RequestId, decision: &crate::scheduler::Decision) {
        let Some(bound) = &mut self.bound else { return };
        // Requests of the warm-up, those that are late already and pictures beside the first are not open. The bound
        // stays a lower bound without them.
        let (Some(settings), Some(open)) = (&self.budget.bound, self.open.get(request.0)) else { return };
        let (arrival, work) = (open.arrival, least_work_of(settings, decision, open.shape));
        bound.add(Job { arrival, due: arrival + self.budget.limit, work });
    }
}

impl Journal for Watch {
    fn record(&mut self, time: Time, record: Record<'_>) {
        let mut counts = self.0.borrow_mut();
        // Every record says how far time has come, so this comes before the record itself, whatever it is.
        counts.overdue(time);
        match record {
            Record::Event(Event::Arrived(request))
                if request.arrival >= counts.budget.warmup && request.place.at == 0 =>
            {
                counts.arrived += 1;
                let (arrival, shape) = (request.arrival, request.ask.shape());
                counts.open.insert(request.id.0, Open { arrival, left: request.place.of, shape });
                counts.oldest.push_back((request.arrival, request.id));
            }
            Record::Action(Action::Note(Note::Routed { request, decision, .. })) => counts.routed(*request, decision),
            Record::Action(Action::Finish(ended)) => {
                // A request that is not open is late already, or arrived during the warm-up.
                let first = ended.place.first_of(ended.request).0;
                let limit = counts.budget.limit;
                let Some(open) = counts.open.get_mut(first) else { return };
                open.left -= 1;
                let late = ended.outcome != Outcome::Completed || time.since(open.arrival) > limit;
                if late || open.left == 0 {
                    counts.open.remove(first);
                }
                counts.late += u64::from(late);
            }
            _ => {}
        }
    }
}

/// Inbox that closes as soon as too many requests are late.
#[derive(Debug)]
pub struct Budgeted<I: Iterator<Item = (Time, Event)>> {
    events: std::iter::Peekable<I>,
    watch: Watch,
}

impl<I: Iterator<Item = (Time, Event)>> Budgeted<I> {
    /// Makes an inbox of these events, which are in the order of time.
    pub fn new(events: I, watch: Watch) -> Self {
        Self { events: events.peekable(), watch }
    }
}

impl<I: Iterator<Item = (Time, Event)>> Inbox for Budgeted<I> {
    fn next(&mut self) -> Next {
        match self.events.peek() {
            Some((time, _)) if !self.watch.is_over() => Next::At(*time),
            _ => Next::Closed,
        }
    }

    fn take(&mut self) -> Option<Event> {
        self.events.next().map(|(_, event)| event)
    }
}
