//! The same core and loop against the real clock: threads, injected failures, lost workers,
//! cancellations, late events. The journal fed into a fresh core gives the same actions, also after a
//! round through its file. Nothing here asserts how long anything takes.

use modm::draw::{Purpose, stream};
use modm::embedding::Embedding;
use modm::journal::{self, Journal, Line, Record, What, Writer};
use modm::metrics::Results;
use modm::model::GpuId;
use modm::replay::{Inbox, Known, replay};
use modm::request::{Outcome, RequestId};
use modm::scheduler::routing::System;
use modm::scheduler::{Event, WorkerId};
use modm::time::{Duration, Time};
use rand::RngExt;

use threads::{Channel, Threads, sleep_ms};
use world::World;

use crate::shadow;
use crate::threads;
use crate::world;

/// Length of a second in the test: periods are 1 to 12 ms.
const SECOND: Duration = Duration::from_nanoseconds(100_000);
const REQUESTS: u32 = 150;

fn at_ms(milliseconds: u64) -> Time {
    Time::from_nanoseconds(milliseconds * 1_000_000)
}

/// Arrivals at about what the workers carry; workers lost and back; cancellations; at last all are back.
fn outside(world: &mut World) -> Vec<(Time, Event)> {
    let mut draws = stream(world.seed, Purpose::Test, 2);
    let between = 3_000_000 / world.workers as u64;
    let mut arrival = Time::ZERO;
    for request in &mut world.requests {
        arrival = arrival + Duration::from_nanoseconds(draws.random_range(0..2 * between));
        request.arrival = arrival;
    }
    let end = arrival.nanoseconds() / 1_000_000 + 20;
    let mut events: Vec<(Time, Event)> =
        world.requests.iter().map(|request| (request.arrival, Event::Arrived(*request))).collect();
    for _ in 0..12 {
        let worker = WorkerId(draws.random_range(0..world.workers as u16));
        let down = draws.random_range(0..end);
        events.push((at_ms(down), Event::WorkerDown(worker)));
        events.push((at_ms(down + draws.random_range(0..8)), Event::WorkerUp(worker)));
    }
    for _ in 0..20 {
        let request = RequestId(draws.random_range(0..REQUESTS));
        let arrival = world.requests[request.row()].arrival;
        let delay = Duration::from_nanoseconds(draws.random_range(0..10_000_000));
        events.push((arrival + delay, Event::Cancelled(request)));
    }
    events.push((arrival, Event::Drain));
    events.extend((0..world.workers as u16).map(|worker| (at_ms(end), Event::WorkerUp(WorkerId(worker)))));
    events.sort_by_key(|(time, _)| *time);
    events
}

fn run(world: &World, mut executor: Threads, inbox: &mut impl Inbox) -> (Vec<Line>, Results) {
    let mut journal = (Vec::<Line>::new(), world.metrics());
    let (mut core, _) = world.core();
    replay(&mut core, &mut executor, inbox, &mut journal).unwrap();
    (journal.0, journal.1.finish_run())
}

/// The components of all embeddings as bits: equality of floats would take 0 for -0.
fn bits(lines: &[Line]) -> Vec<u32> {
    let components = |embedding: &Embedding| embedding.as_slice().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let of_line = |line: &Line| match &line.what {
        What::Event(Event::Encoded { embedding: Some(embedding), .. }) => components(embedding),
        What::Event(Event::JobCompleted { outputs, .. }) => {
            outputs.iter().filter_map(|output| output.embedding.as_ref()).flat_map(components).collect()
        }
        _ => Vec::new(),
    };
    lines.iter().flat_map(of_line).collect()
}

fn written(lines: &[Line]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), &"header").unwrap();
    for line in lines {
        match &line.what {
            What::Event(event) => writer.record(line.time, Record::Event(event)),
            What::Action(action) => writer.record(line.time, Record::Action(action)),
        }
    }
    writer.finish().unwrap()
}

#[test]
fn a_real_time_run_fed_into_a_fresh_core_gives_the_same_actions() {
    for seed in (0..).filter(|&seed| World::draw(seed, 1, SECOND).system == System::Modm).take(6) {
        println!("seed {seed}");
        let mut world = shadow::with_flags(World::draw(seed, REQUESTS, SECOND));
        world.workers = world.workers.max(2);
        world.config.hardware.gpus.resize(world.workers, GpuId(0));
        let events = outside(&mut world);
        let executor = Threads::new(&world);
        let mut inbox = Channel::feed(events, &executor);
        let (lines, results) = run(&world, executor, &mut inbox);
        shadow::check(&world, &lines, &results);

        let file = written(&lines);
        let (header, read) = journal::read::<String>(file.as_slice()).unwrap();
        assert_eq!(header, "header");
        assert_eq!(read, lines);
        assert_eq!(bits(&read), bits(&lines));
        assert_eq!(written(&read), file);
        shadow::check(&world, &read, &results);
    }
}

#[test]
fn a_late_arrival_counts_from_when_it_was_due() {
    let world = World::draw(0, 3, SECOND);
    let executor = Threads::new(&world);
    let mut due = world.requests.clone();
    for (row, request) in (1..).zip(&mut due) {
        request.arrival = at_ms(row);
    }
    // The loop gets round to them only now.
    sleep_ms(20);
    let events = due.iter().map(|request| (request.arrival, Event::Arrived(*request)));
    let (lines, results) = run(&world, executor, &mut Known::new(events));
    let arrivals = lines.iter().filter(|line| matches!(line.what, What::Event(Event::Arrived(_))));
    assert!(arrivals.clone().count() == 3 && arrivals.clone().all(|line| line.time >= at_ms(20)));
    assert_eq!(results.requests.len(), 3);
    let mut latencies = Vec::new();
    for (row, request) in results.requests.iter().zip(&due) {
        let latency = row.finish.since(request.arrival);
        assert!(row.arrival == request.arrival && latency.nanoseconds() >= 17_000_000);
        latencies.extend((row.outcome == Outcome::Completed).then_some(latency));
    }
    latencies.sort_unstable();
    assert_eq!(results.latencies, latencies);
}
