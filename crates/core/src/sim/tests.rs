//! Tests of the executor with the loop and the core, for what random runs do not look at: the pace of jobs beside lost
//! workers and of jobs that are stopped.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::*;
use crate::journal::{Line, What};
use crate::replay::{Known, replay};
use crate::request::{Request, TenantId};
use crate::scheduler::allocation::{Allocation, StaticSplit};
use crate::scheduler::routing::System;
use crate::scheduler::{Config, Hardware, LossCause, Scheduler};

const STEPS: u32 = 10;

/// Latency model in which a job takes 1000 s while every other worker runs a job, and half of that alone.
struct Shared;

impl LatencyModel for Shared {
    fn retrieval(&mut self, _: RequestId) -> Duration {
        Duration::ZERO
    }

    fn job(&mut self, _: GpuId, _: Work, _: RequestId, _: usize) -> Duration {
        seconds(1000)
    }

    fn alone(&self, _: GpuId, _: ModelId) -> f64 {
        0.5
    }

    fn load(&mut self, _: WorkerId, _: GpuId, _: Option<ModelId>, _: ModelId) -> Duration {
        seconds(50)
    }

    fn image_encoding(&mut self, _: RequestId) -> Duration {
        Duration::ZERO
    }
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_nanoseconds(seconds * 1_000_000_000)
}

fn at(second: u64) -> Time {
    Time::ZERO + seconds(second)
}

fn executor(workers: usize) -> Simulated<Shared> {
    Simulated::new(Settings {
        latency: Shared,
        gpus: vec![GpuId(0); workers],
        prompts: None,
        images: None,
        sizes: ImageSizes::default(),
        confidences: None,
        faults: Faults::default(),
    })
}

fn arrival(second: u64, row: u32) -> (Time, Event) {
    (at(second), Event::Arrived(Request::new(RequestId(row), at(second), TenantId(0))))
}

/// Returns the events of a run of `vanilla`, with their times in seconds.
fn run(workers: usize, outside: Vec<(Time, Event)>) -> Vec<(f64, Event)> {
    let config = Config::paper(1, Hardware::unmeasured(workers, 1), STEPS);
    let allocation = StaticSplit::new(Allocation::new(vec![ModelId::LARGE; workers]));
    let mut core = Scheduler::new(config, System::Vanilla.build(&[], STEPS), None, Box::new(allocation));
    let mut journal = Vec::<Line>::new();
    replay(&mut core, &mut executor(workers), &mut Known::new(outside.into_iter()), &mut journal).expect("the end");
    let events = journal.into_iter().filter_map(|line| match line.what {
        What::Event(event) => Some((line.time.seconds(), event)),
        What::Action(_) => None,
    });
    events.collect()
}

/// Returns the ends of jobs with images among events: times in seconds, and the workers.
fn completed(events: &[(f64, Event)]) -> Vec<(f64, u16)> {
    let ends = events.iter().filter_map(|(time, event)| match event {
        Event::JobCompleted { worker, .. } => Some((*time, worker.0)),
        _ => None,
    });
    ends.collect()
}

#[test]
fn a_lost_worker_draws_no_more() {
    let worker = WorkerId(0);
    let lost = Event::WorkerLost { worker, cause: LossCause::Crashed, reason: "gone".into() };
    for loss in [Event::WorkerDown(worker), lost] {
        let events = run(3, vec![arrival(0, 0), (at(100), loss)]);
        // The job begins anew at 100 s, on a worker without busy neighbours, and is not answered for the lost one.
        assert_eq!(completed(&events), [(600.0, 1)]);
    }
}

#[test]
fn a_job_goes_on_faster_once_its_neighbour_is_lost() {
    let events = run(2, vec![arrival(0, 0), arrival(0, 1), (at(400), Event::WorkerDown(WorkerId(1)))]);
    // 600 s of work are left, which take half as long; the other request waits for this worker.
    assert_eq!(completed(&events), [(700.0, 0), (1200.0, 0)]);
}

#[test]
fn a_worker_that_comes_back_begins_anew() {
    let worker = WorkerId(0);
    let outside = vec![arrival(0, 0), (at(100), Event::WorkerDown(worker)), (at(110), Event::WorkerUp(worker))];
    // Its model is loaded in 50 s.
    assert_eq!(completed(&run(1, outside)), [(1160.0, 0)]);
}

#[test]
fn a_cancelled_job_stops_between_two_steps_that_it_makes() {
    // A step of 100 s takes 50 s alone: at 160 s three are done, and the fourth is under way.
    let cancelled = |second, row| (at(second), Event::Cancelled(RequestId(row)));
    let stops = |events: &[(f64, Event)]| -> Vec<(f64, u16)> {
        let stops = events.iter().filter_map(|(time, event)| match event {
            Event::JobFailed { worker, .. } => Some((*time, worker.0)),
            _ => None,
        });
        stops.collect()
    };
    let events = run(2, vec![arrival(0, 0), cancelled(160, 0), arrival(300, 1)]);
    assert_eq!(stops(&events), [(200.0, 0)]);
    assert_eq!(completed(&events), [(800.0, 0)]);
    // A neighbour from 180 s on, by when the fourth step is six tenths done, slows the rest of the step.
    let events = run(2, vec![arrival(0, 0), cancelled(160, 0), arrival(180, 1)]);
    assert_eq!(stops(&events), [(220.0, 0)]);
    // 40 s with the neighbour, and the rest alone.
    assert_eq!(completed(&events), [(700.0, 1)]);
}
