//! Loads of models: those that fail, those of workers that are lost, and targets that change meanwhile.

use super::*;
use crate::time::Duration;

#[test]
fn a_failed_load_leaves_the_old_model_in_use_until_the_next_tick_tries_again() {
    // One tick with a decision, then ticks without one.
    let mut bench = Bench::new(&[MEDIUM], vec![Some(vec![LARGE]), None, None]);
    bench.ask(0, 1);
    assert_eq!(without_notes(bench.tick()), [load(0, Some(MEDIUM), LARGE)]);
    assert_eq!(without_notes(bench.load_failed(0, Some(MEDIUM))), []);
    let hit = start(0, 0, MEDIUM, 1, Some(ImageId::warm(0)));
    assert_eq!(without_notes(bench.ask(1, 0)), [hit], "it serves what it can");
    bench.complete(0, 0, 1, 0);
    assert_eq!(without_notes(bench.tick()), [load(0, Some(MEDIUM), LARGE)], "request 0 waits for it");
    assert_eq!(without_notes(bench.tell(Event::ModelLoaded { worker: WorkerId(0) })), [start(1, 0, LARGE, 0, None)]);
}

/// Monitor that decides at events, at most every ten seconds: first for the large model, then never again.
#[derive(Debug, Default)]
struct AtEvents {
    last: Time,
    next: Option<Time>,
    has_decided: bool,
}

impl AllocationPolicy for AtEvents {
    fn initial(&self) -> Allocation {
        Allocation::new(vec![MEDIUM])
    }

    fn next_decision(&self) -> Option<Time> {
        self.next
    }

    fn happened(&mut self, now: Time) -> bool {
        let due = self.last + Duration::from_nanoseconds(10_000_000_000);
        self.next = Some(due.max(now));
        due <= now
    }

    fn decide(&mut self, now: Time, _: &Situation) -> Option<Decided> {
        (self.last, self.next) = (now, None);
        let allocation = Allocation::new(vec![LARGE]);
        let decided = Decided { allocation, wanted_large: 1, controller_state: 0.0, overloaded: None };
        (!core::mem::replace(&mut self.has_decided, true)).then_some(decided)
    }
}

#[test]
fn a_failed_load_is_tried_again_under_a_monitor_that_decides_at_events() {
    let mut bench = Bench::with(config(), System::Modm.build(&[(0.5, 10)], 20), Box::new(AtEvents::default()));
    bench.now = 20;
    assert_eq!(without_notes(bench.ask(0, 1)), [load(0, Some(MEDIUM), LARGE)]);
    // The least time between decisions has passed: the monitor looks within the event, and decides nothing.
    bench.now = 40;
    assert_eq!(without_notes(bench.load_failed(0, Some(MEDIUM))), []);
    assert_eq!(without_notes(bench.tick()), [load(0, Some(MEDIUM), LARGE)], "request 0 waits for it");
}

#[test]
fn a_failed_load_that_leaves_nothing_takes_the_worker_away() {
    let mut bench = Bench::new(&[LARGE, SMALL], vec![Some(vec![LARGE, LARGE])]);
    assert_eq!(without_notes(bench.tick()), [load(1, Some(SMALL), LARGE)]);
    bench.load_failed(1, None);
    bench.ask(0, 1);
    bench.ask(1, 1);
    assert_eq!(bench.core.waiting(), (1, 0));
    assert_eq!(without_notes(bench.tell(Event::WorkerUp(WorkerId(1)))), [load(1, None, LARGE)]);
    assert_eq!(without_notes(bench.tell(Event::ModelLoaded { worker: WorkerId(1) })), [start(1, 1, LARGE, 1, None)]);
}

#[test]
fn a_worker_lost_while_it_loads_starts_over_and_stale_answers_are_ignored() {
    let mut bench = Bench::new(&[LARGE, SMALL], vec![Some(vec![LARGE, LARGE])]);
    bench.tick();
    bench.tell(Event::WorkerDown(WorkerId(1)));
    assert_eq!(without_notes(bench.tell(Event::ModelLoaded { worker: WorkerId(1) })), [], "it is down");
    assert_eq!(without_notes(bench.load_failed(1, Some(SMALL))), []);
    assert_eq!(without_notes(bench.tell(Event::WorkerUp(WorkerId(0)))), [], "it was never lost");
    assert_eq!(without_notes(bench.tell(Event::WorkerUp(WorkerId(1)))), [load(1, None, LARGE)]);
    assert_eq!(without_notes(bench.tell(Event::WorkerUp(WorkerId(1)))), [], "it is back already");
    for unknown in [Event::WorkerDown(WorkerId(9)), Event::ModelLoaded { worker: WorkerId(9) }] {
        assert_eq!(without_notes(bench.tell(unknown)), []);
    }
}

#[test]
fn a_target_changed_during_a_load_is_loaded_after_it() {
    let mut bench = Bench::new(&[LARGE, MEDIUM], vec![Some(vec![LARGE, SMALL]), Some(vec![LARGE, LARGE])]);
    assert_eq!(without_notes(bench.tick()), [load(1, Some(MEDIUM), SMALL)]);
    assert_eq!(without_notes(bench.tick()), []);
    assert_eq!(without_notes(bench.tell(Event::ModelLoaded { worker: WorkerId(1) })), [load(1, Some(SMALL), LARGE)]);
}
