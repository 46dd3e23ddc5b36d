//! Runs that end once more requests are known to be late than are allowed: a journal that counts, and an inbox that
//! closes.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::journal::{Journal, Record};
use crate::metrics::bound::{Job, Lateness, least_work_of, speed};
use crate::metrics::{Keep, Settings};
use crate::replay::{Inbox, Next};
use crate::request::{Outcome, RequestId};
use crate::scheduler::{Action, Event, Note};
use crate::simulation::Simulation;
use crate::time::{Duration, Time};
use crate::window::Window;

/// Largest number of late requests with which the share in time is still no less.
#[must_use]
pub fn allowed_late(requests: u64, attainment: f64) -> u64 {
    (0..=requests).rev().find(|late| (requests - late) as f64 / requests as f64 >= attainment).unwrap_or(0)
}

/// Budget of one run.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Latency up to which a request is in time.
    pub limit: Duration,
    /// Requests that may be late.
    pub allowed: u64,
    /// Requests that arrive earlier are left out.
    pub warmup: Time,
    /// Settings of the run, where its jobs take exactly the profile's times or longer: then requests that no policy could
    /// serve in time count as late at once.
    pub bound: Option<Settings>,
}

impl Budget {
    /// Returns a budget of late requests: those that take longer than `limit` are late, and so many may be.
    #[must_use]
    pub fn for_run(simulation: &Simulation, limit: Duration, allowed: u64) -> Self {
        let slow = simulation.scenario.faults.events.iter().filter_map(|event| event.factor);
        // Jobs that may be shorter than the profile has them leave no bound.
        let slow = slow.chain(simulation.actual.iter().map(|_| 0.0));
        Self {
            limit,
            allowed,
            warmup: simulation.warmup(),
            bound: Self::bounded(simulation.settings(Keep::Nothing, false), slow.fold(1.0, f64::min)),
        }
    }

    /// Settings for [`Self::bound`], if the bound holds: no draws make jobs shorter than the profile has them.
    #[must_use]
    pub fn bounded(settings: Settings, fastest_factor: f64) -> Option<Settings> {
        let gpus = settings.gpus.iter().copied();
        let models = 0..settings.models.len() as u16;
        let mut rows = gpus.flat_map(|gpu| models.clone().map(move |model| (gpu, crate::model::ModelId(model))));
        let exact = rows.all(|(gpu, model)| settings.profile.service(gpu, model).jitter_cv == 0.0);
        (exact && fastest_factor >= 1.0).then_some(settings)
    }
}

/// Counts of one run; shared by what records the run and what feeds it.
#[derive(Clone, Debug)]
pub struct Watch(Rc<RefCell<Counts>>);

#[derive(Debug)]
struct Counts {
    budget: Budget,
    arrived: u64,
    late: u64,
    /// Arrivals of the requests that count and are neither ended nor late.
    open: Window<Time>,
    /// The same in order of arrival, those that have ended included.
    oldest: VecDeque<(Time, RequestId)>,
    bound: Option<Lateness>,
}

impl Watch {
    /// Counts nothing yet.
    #[must_use]
    pub fn new(budget: Budget) -> Self {
        let thousandths = |settings: &Settings| settings.gpus.iter().map(|gpu| speed(settings, *gpu)).sum();
        let bound = budget.bound.as_ref().map(|settings| Lateness::new(thousandths(settings)));
        let (open, oldest) = (Window::default(), VecDeque::new());
        Self(Rc::new(RefCell::new(Counts { budget, arrived: 0, late: 0, open, oldest, bound })))
    }

    /// Requests that came so far.
    #[must_use]
    pub fn arrived(&self) -> u64 {
        self.0.borrow().arrived
    }

    /// Requests that are known to be late, by what happened or by the bound.
    #[must_use]
    pub fn late(&self) -> u64 {
        self.0.borrow().late()
    }

    /// Whether too many are late.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let counts = self.0.borrow();
        counts.late() > counts.budget.allowed
    }
}

impl Counts {
    fn late(&self) -> u64 {
        self.late.max(self.bound.as_ref().map_or(0, Lateness::late))
    }

    /// Counts those still open after their latest time as late.
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
        let (Some(settings), Some(&arrival)) = (&self.budget.bound, self.open.get(request.0)) else { return };
        let work = least_work_of(settings, decision);
        bound.add(Job { arrival, due: arrival + self.budget.limit, work });
    }
}

impl Journal for Watch {
    fn record(&mut self, time: Time, record: Record<'_>) {
        let mut counts = self.0.borrow_mut();
        counts.overdue(time);
        match record {
            Record::Event(Event::Arrived(request)) if request.arrival >= counts.budget.warmup => {
                counts.arrived += 1;
                counts.open.insert(request.id.0, request.arrival);
                counts.oldest.push_back((request.arrival, request.id));
            }
            Record::Action(Action::Note(Note::Routed { request, decision, .. })) => counts.routed(*request, decision),
            Record::Action(Action::Finish(ended)) => {
                // What is not open is late already, or of the warm-up.
                let arrival = counts.open.remove(ended.request.0);
                let met = ended.outcome == Outcome::Completed;
                let late = arrival.is_some_and(|arrival| !met || time.since(arrival) > counts.budget.limit);
                counts.late += u64::from(late);
            }
            _ => {}
        }
    }
}

/// A trace that ends once too much of it was late.
#[derive(Debug)]
pub struct Budgeted<I: Iterator<Item = (Time, Event)>> {
    events: std::iter::Peekable<I>,
    watch: Watch,
}

impl<I: Iterator<Item = (Time, Event)>> Budgeted<I> {
    /// Over these events, in order of time.
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
