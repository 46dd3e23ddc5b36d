//! The ends of a run that others hold: its clock, and what wakes it or ends its intake.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::sync::mpsc::UnboundedSender;

use super::Answer;
use crate::time::Time;

#[expect(clippy::disallowed_methods, reason = "a run in real time has the host's clock")]
fn now() -> Instant {
    Instant::now()
}

/// The time of a run, for whoever is not its loop.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// One that begins now.
    #[must_use]
    pub fn start() -> Self {
        Self(now())
    }

    /// Since the run began.
    #[must_use]
    pub fn now(&self) -> Time {
        Time::from_nanoseconds(u64::try_from((now() - self.0).as_nanos()).unwrap_or(u64::MAX))
    }
}

/// Wakes a run or ends its intake, from anywhere.
#[derive(Clone, Debug)]
pub struct Intake {
    /// Whether it has ended.
    pub ended: Arc<AtomicBool>,
    answers: UnboundedSender<Answer>,
}

impl Intake {
    /// Of the run that hears these answers.
    pub(super) fn new(answers: UnboundedSender<Answer>) -> Self {
        Self { ended: Arc::default(), answers }
    }

    /// Takes nothing more.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        self.wake();
    }

    /// Ends the run now: what is in stays undone.
    pub fn abort(&self) {
        let _ = self.answers.send(Answer::Abort);
    }

    /// The inbox may have something new.
    pub fn wake(&self) {
        // Nobody listens once the run is over.
        let _ = self.answers.send(Answer::Woken);
    }
}
