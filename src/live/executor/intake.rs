//! Handles of a run for code outside its loop: the clock of the run, and the intake, which wakes the run or ends it.

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

/// Clock of a run, for code outside its loop.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// Starts a clock at zero.
    #[must_use]
    pub fn start() -> Self {
        Self(now())
    }

    /// Returns the time since the clock was started.
    #[must_use]
    pub fn now(&self) -> Time {
        Time::from_nanoseconds(u64::try_from((now() - self.0).as_nanos()).unwrap_or(u64::MAX))
    }
}

/// Handle that wakes a run or ends its intake, from any thread.
#[derive(Clone, Debug)]
pub struct Intake {
    /// True if the intake has ended.
    pub ended: Arc<AtomicBool>,
    answers: UnboundedSender<Answer>,
}

impl Intake {
    /// Makes the handle of the run that receives these answers.
    pub(super) fn new(answers: UnboundedSender<Answer>) -> Self {
        Self { ended: Arc::default(), answers }
    }

    /// Ends the intake: no more requests are taken.
    pub fn end(&self) {
        // The flag is set before the wake-up, so that the loop finds it.
        self.ended.store(true, Ordering::Relaxed);
        self.wake();
    }

    /// Ends the run at once. Requests that are in are not finished.
    pub fn abort(&self) {
        let _ = self.answers.send(Answer::Abort);
    }

    /// Wakes the run, because its inbox may have something new.
    pub fn wake(&self) {
        // Nobody listens once the run is over.
        let _ = self.answers.send(Answer::Woken);
    }
}
