//! Loop of every run, the only one: it brings events from outside and from the executor to the core in order of time,
//! and the actions of the core to the executor. Simulated and real runs differ only in executor and inbox.

use alloc::vec::Vec;

use crate::journal::{Journal, Record};
use crate::scheduler::{Action, Event, Scheduler};
use crate::time::{Moment, Rank, Time};

/// Executor of actions. A simulated executor moves its clock forward, and a real executor waits. An executor answers
/// only for the latest load of a worker: the answer of an earlier load that was lost must not reach the core, which
/// cannot tell it from the answer of the next load.
pub trait Executor {
    /// Error that no event can report.
    type Error;

    /// Begins an action and returns at once.
    ///
    /// # Errors
    /// The executor is broken; the run ends.
    fn submit(&mut self, now: Time, action: &Action) -> Result<(), Self::Error>;

    /// Takes notice of an event from outside, before the actions that follow from it. An executor whose workers are
    /// lost by such events learns of it here; all others have nothing to do.
    fn notice(&mut self, _now: Time, _event: &Event) {}

    /// Waits for the next event before `deadline`. Of all that happens at one instant, the events whose rank comes
    /// before the deadline are completed first.
    ///
    /// # Errors
    /// The executor is broken; the run ends.
    fn wait(&mut self, deadline: Option<Moment>) -> Result<Step, Self::Error>;

    /// Returns the number of actions that have begun and whose answer is still to come.
    fn in_flight(&self) -> usize;
}

/// End of a wait.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Event that happened at this time.
    Completed(Time, Event),
    /// Deadline that has come, with the time now.
    DeadlineReached(Time),
    /// Inbox that may have something new.
    Woken,
    /// State without a deadline and without actions in flight.
    Idle,
}

/// Next event of an inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Event that is due at this time.
    At(Time),
    /// No event yet. The executor's wait ends with [`Step::Woken`] when that changes.
    Later,
    /// No event ever again.
    Closed,
}

/// Source of events from outside, in order of time: a trace, or a network.
pub trait Inbox {
    /// Returns the time of the next event, or that there is none.
    fn next(&mut self) -> Next;
    /// Takes the next event.
    fn take(&mut self) -> Option<Event>;
}

/// Inbox whose whole content is known: events with their times, in order.
#[derive(Debug)]
pub struct Known<I: Iterator<Item = (Time, Event)>> {
    events: I,
    ahead: Option<(Time, Event)>,
}

impl<I: Iterator<Item = (Time, Event)>> Known<I> {
    /// Returns an inbox of these events.
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

/// Reason for which a run did not come to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError<E> {
    /// Executor that is broken.
    #[error("{0}")]
    Executor(E),
    /// Number of requests that wait and that nothing will ever serve: every worker that could is gone.
    #[error("{0} requests wait for workers that will never be ready")]
    Stuck(usize),
    /// Clock at the end of representable time.
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
        // At one instant a wake-up goes before an event from outside, by its rank.
        let deadline = match (outside, wakeup) {
            (Some(outside), Some(wakeup)) => Some(outside.min(wakeup)),
            (outside, wakeup) => outside.or(wakeup),
        };
        match turn.executor.wait(deadline) {
            Ok(Step::Completed(time, event)) => {
                idle_wakeups = 0;
                turn.take(time, &event)?;
            }
            // The two ranks differ, so that the deadline is either the wake-up or the event from outside.
            Ok(Step::DeadlineReached(time)) if deadline == wakeup => {
                let acted = turn.take(time, &Event::WokeUp)?;
                assert!(turn.core.next_wakeup().is_none_or(|next| next > time), "a wake-up must lie ahead");
                idle_wakeups = if acted || turn.executor.in_flight() > 0 { 0 } else { idle_wakeups + 1 };
            }
            Ok(Step::DeadlineReached(time)) => {
                idle_wakeups = 0;
                if let Some(event) = inbox.take() {
                    turn.executor.notice(time, &event);
                    turn.take(time, &event)?;
                }
            }
            Ok(Step::Woken) => {}
            // No deadline and nothing in flight: unless the inbox has something new, this does not change.
            Ok(Step::Idle) => idle_wakeups = 2,
            Err(error) => return Err(RunError::Executor(error)),
        }
        // The first idle tick may still decide on requests that were routed before it. A second idle tick changes
        // nothing.
        if idle_wakeups >= 2 && inbox.next() == Next::Closed && turn.core.outstanding() > 0 {
            return Err(RunError::Stuck(turn.core.outstanding()));
        }
    }
}

/// Parts of the loop that one event passes through.
struct Turn<'a, E, J> {
    core: &'a mut Scheduler,
    executor: &'a mut E,
    journal: &'a mut J,
    now: Time,
    actions: Vec<Action>,
}

impl<E: Executor, J: Journal> Turn<'_, E, J> {
    /// Passes an event to journal and core, and the core's actions to journal and executor. Returns whether any action
    /// but a note was begun.
    fn take(&mut self, time: Time, event: &Event) -> Result<bool, RunError<E::Error>> {
        assert!(time >= self.now, "an executor's time never runs backwards");
        self.now = time;
        // Sums of times saturate here: from now on, events would all fall at one instant.
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
