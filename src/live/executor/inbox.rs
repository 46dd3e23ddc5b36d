//! Arrivals of a trace in real time: each request arrives when it is due, until the intake is ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::replay::{Inbox, Known, Next};
use crate::scheduler::Event;
use crate::time::Time;

/// Arrivals of a trace. After an interrupt, the only event is the order to finish the requests that are in.
#[derive(Debug)]
pub struct Paced<I: Iterator<Item = (Time, Event)>> {
    trace: Known<I>,
    interrupted: Arc<AtomicBool>,
    drained: bool,
}

impl<I: Iterator<Item = (Time, Event)>> Paced<I> {
    /// Makes an inbox of these arrivals. The flag `interrupted` ends the arrivals.
    pub fn new(arrivals: I, interrupted: Arc<AtomicBool>) -> Self {
        Self { trace: Known::new(arrivals), interrupted, drained: false }
    }
}

impl<I: Iterator<Item = (Time, Event)>> Inbox for Paced<I> {
    fn next(&mut self) -> Next {
        match (self.interrupted.load(Ordering::Relaxed), self.drained) {
            (false, _) => self.trace.next(),
            (true, false) => Next::At(Time::ZERO), // The order is due at once.
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
