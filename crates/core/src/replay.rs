//! The only loop: brings events from outside and from the executor to the core in order of time, and
//! the core's actions to the executor. Simulated and real runs differ in executor and inbox alone.

use alloc::vec::Vec;

use crate::journal::{Journal, Record};
use crate::scheduler::{Action, Event, Scheduler};
use crate::time::{Moment, Rank, Time};

/// Carries out actions. A simulated one jumps its clock, a real one waits. It answers only for the
/// latest load of a worker: the answer of one that was lost meanwhile must not reach the core, which
/// cannot tell it from the next.
pub trait Executor {
    /// What can go wrong that no event can tell.
    type Error;

    /// Begins an action and returns at once.
    ///
    /// # Errors
    /// The executor is broken; the run ends.
    fn submit(&mut self, now: Time, action: &Action) -> Result<(), Self::Error>;

    /// Waits for the next thing to happen before `deadline`. With everything that happens at one
    /// instant, what comes before the deadline by rank is completed first.
    ///
    /// # Errors
    /// The executor is broken; the run ends.
    fn wait(&mut self, deadline: Option<Moment>) -> Result<Step, Self::Error>;

    /// Actions begun whose answer is still to come.
    fn in_flight(&self) -> usize;
}

/// What ended a wait.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Something happened at this time.
    Completed(Time, Event),
    /// The deadline has come; this is the time now.
    DeadlineReached(Time),
    /// The inbox may have something new.
    Woken,
    /// There is no deadline and nothing is in flight.
    Idle,
}

/// What an inbox has next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Something, due at this time.
    At(Time),
    /// Nothing yet; the executor's wait ends with [`Step::Woken`] when that changes.
    Later,
    /// Nothing ever again.
    Closed,
}

/// What comes from outside, in order of time: a trace, or a network.
pub trait Inbox {
    /// What it has next.
    fn next(&mut self) -> Next;
    /// Takes that.
    fn take(&mut self) -> Option<Event>;
}

/// An inbox whose whole content is known: events with their times, in order.
#[derive(Debug)]
pub struct Known<I: Iterator<Item = (Time, Event)>> {
    events: I,
    ahead: Option<(Time, Event)>,
}

impl<I: Iterator<Item = (Time, Event)>> Known<I> {
    /// Over these events.
    pub fn new(mut events: I) -> Self {
        let ahead = events.next();
        Self { events, ahead }
    }
}

impl<I: Iterator<Item = (Time, Event)>> Inbox for Known<I> {
    fn next(&mut self) -> Next {
        self.ahead.as_ref().map_or(Next::Closed, |(time, _)| Next::At(*time))
    }

    fn take(&mut self) -> Option<Event> {
        let (_, event) = core::mem::replace(&mut self.ahead, self.events.next())?;
        Some(event)
    }
}

/// Why a run did not come to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError<E> {
    /// The executor is broken.
    #[error("{0}")]
    Executor(E),
    /// Requests wait, and nothing will ever serve them: every worker that could is gone.
    #[error("{0} requests wait for workers that will never be ready")]
    Stuck(usize),
    /// The clock reached the end of representable time.
    #[error("the run lasts longer than 584 years; are the service times in seconds?")]
    EndOfTime,
}

/// Runs until the inbox is closed and every request has ended.
///
/// # Errors
/// See [`RunError`].
pub fn replay<E: Executor, I: Inbox, J: Journal>(
    core: &mut Scheduler,
    executor: &mut E,
    inbox: &mut I,
    journal: &mut J,
) -> Result<(), RunError<E::Error>> {
    let mut turn = Turn { core, executor, journal, now: Time::ZERO, actions: Vec::new() };
    let mut idle_wakeups = 0;
    loop {
        let next = inbox.next();
        if next == Next::Closed && turn.core.outstanding() == 0 {
            return Ok(());
        }
        let outside = match next {
            Next::At(time) => Some(Moment { time, rank: Rank::Outside }),
            Next::Later | Next::Closed => None,
        };
        let wakeup = turn.core.next_wakeup().map(|time| Moment { time, rank: Rank::Tick });
        let deadline = match (outside, wakeup) {
            (Some(outside), Some(wakeup)) => Some(outside.min(wakeup)),
            (outside, wakeup) => outside.or(wakeup),
        };
        match turn.executor.wait(deadline) {
            Ok(Step::Completed(time, event)) => {
                idle_wakeups = 0;
                turn.take(time, &event)?;
            }
            Ok(Step::DeadlineReached(time)) if deadline == wakeup => {
                let acted = turn.take(time, &Event::WokeUp)?;
                assert!(turn.core.next_wakeup().is_none_or(|next| next > time), "a wake-up must lie ahead");
                idle_wakeups = if acted || turn.executor.in_flight() > 0 { 0 } else { idle_wakeups + 1 };
            }
            Ok(Step::DeadlineReached(time)) => {
                idle_wakeups = 0;
                if let Some(event) = inbox.take() {
                    turn.take(time, &event)?;
                }
            }
            Ok(Step::Woken) => {}
            Ok(Step::Idle) => idle_wakeups = 2,
            Err(error) => return Err(RunError::Executor(error)),
        }
        // The first idle tick may still decide on what was routed before it; a second one changes nothing.
        if idle_wakeups >= 2 && inbox.next() == Next::Closed && turn.core.outstanding() > 0 {
            return Err(RunError::Stuck(turn.core.outstanding()));
        }
    }
}

/// What one event is taken through.
struct Turn<'a, E, J> {
    core: &'a mut Scheduler,
    executor: &'a mut E,
    journal: &'a mut J,
    now: Time,
    actions: Vec<Action>,
}

impl<E: Executor, J: Journal> Turn<'_, E, J> {
    /// Event to journal and core, actions to journal and executor. Returns whether anything was begun.
    fn take(&mut self, time: Time, event: &Event) -> Result<bool, RunError<E::Error>> {
        assert!(time >= self.now, "an executor's time never runs backwards");
        self.now = time;
        if self.now == Time::MAX {
            return Err(RunError::EndOfTime);
        }
        self.journal.record(self.now, Record::Event(event));
        self.core.handle(self.now, event, &mut self.actions);
        let mut acted = false;
        for action in &self.actions {
            self.journal.record(self.now, Record::Action(action));
            acted |= !matches!(action, Action::Note(_));
            self.executor.submit(self.now, action).map_err(RunError::Executor)?;
        }
        self.actions.clear();
        Ok(acted)
    }
}
