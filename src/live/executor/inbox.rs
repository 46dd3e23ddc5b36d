//! A trace as it comes in real time: each request when it is due, until somebody ends the intake.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::replay::{Inbox, Known, Next};
use crate::scheduler::Event;
use crate::time::Time;

/// A trace's arrivals, and after Ctrl-C nothing but the order to finish what is in.
#[derive(Debug)]
pub struct Paced<I: Iterator<Item = (Time, Event)>> {
    trace: Known<I>,
    interrupted: Arc<AtomicBool>,
    drained: bool,
}

impl<I: Iterator<Item = (Time, Event)>> Paced<I> {
    /// Over these arrivals; `interrupted` ends them.
    pub fn new(arrivals: I, interrupted: Arc<AtomicBool>) -> Self {
        Self { trace: Known::new(arrivals), interrupted, drained: false }
    }
}

impl<I: Iterator<Item = (Time, Event)>> Inbox for Paced<I> {
    fn next(&mut self) -> Next {
        match (self.interrupted.load(Ordering::Relaxed), self.drained) {
            (false, _) => self.trace.next(),
            (true, false) => Next::At(Time::ZERO), // At once.
            (true, true) => Next::Closed,
        }
    }

    fn take(&mut self) -> Option<Event> {
        if !self.interrupted.load(Ordering::Relaxed) {
            return self.trace.take();
        }
        (!std::mem::replace(&mut self.drained, true)).then_some(Event::Drain)
    }
}
