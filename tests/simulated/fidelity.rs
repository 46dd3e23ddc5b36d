//! The simulator against itself: a run fed with its own durations is the same run, whatever slowed its jobs down, in
//! random worlds. That it repeats live runs is tested in `live_failures` and through the program in `validate`.

use std::sync::Arc;

use modm::metrics::Results;
use modm::metrics::fidelity::{self, Compared};
use modm::profile::Profile;
use modm::replay::{Known, replay};
use modm::scheduler::Event;
use modm::scheduler::QueueSettings;
use modm::scheduler::routing::System;
use modm::sim::{LatencyModel, Measured, ProfileLatency};
use modm::time::Duration;

use world::World;

use crate::world;

const SECOND: Duration = Duration::from_nanoseconds(1_000_000_000);

fn run(world: &World, latency: impl LatencyModel) -> (Results, Measured) {
    let mut executor = world.executor(latency);
    let events = world.requests.iter().map(|request| (request.arrival, Event::Arrived(*request)));
    let mut journal = (world.metrics(), Measured::default());
    replay(&mut world.core().0, &mut executor, &mut Known::new(events), &mut journal).unwrap();
    (journal.0.finish_run(), journal.1)
}

/// The world's profile with this much of a job's time where no neighbour draws.
fn latency(world: &World, alone: f64) -> ProfileLatency {
    let mut profile = serde_json::to_value(&*world.profile).unwrap();
    for row in profile["service"].as_array_mut().unwrap() {
        row["alone"] = alone.into();
    }
    let profile: Profile = serde_json::from_value(profile).unwrap();
    ProfileLatency { profile: Arc::new(profile), ..world.latency() }
}

fn makespan_s(results: &Results) -> f64 {
    results.requests.iter().map(|row| row.finish.seconds()).fold(0.0, f64::max)
}

#[test]
fn a_run_fed_with_its_own_durations_is_the_same_run() {
    for seed in 0..60 {
        let world = World::draw(seed, 80, SECOND);
        let (first, durations) = run(&world, latency(&world, 1.0));
        assert_eq!(durations.mishaps(), 0);
        let (again, _) = run(&world, durations);
        assert!(first == again, "seed {seed}");
    }
}

#[test]
fn workers_that_slow_each_other_down_are_repeated_too_and_alone_they_are_faster() {
    let (mut faster, mut alike, mut several) = (0, 0, 0);
    for seed in 0..60 {
        let world = World::draw(seed, 80, SECOND);
        let (steady, _) = run(&world, latency(&world, 1.0));
        let (first, durations) = run(&world, latency(&world, 0.6));
        let (again, _) = run(&world, durations);
        // Where several things fall on one instant, their order may differ; what is decided must not.
        let agreement = fidelity::agreement(&first, &again);
        let of =
            |name: &str| agreement.iter().find(|measure| measure.name == name).map_or(1.0, |measure| measure.value);
        assert!((of("same_latency") - 1.0).abs() < f64::EPSILON || of("same_worker") < 1.0, "seed {seed}");
        alike += usize::from(first == again);
        if world.workers == 1 {
            assert!(steady.requests == first.requests, "seed {seed}: nobody is there to slow it down");
        } else {
            several += 1;
            faster += usize::from(makespan_s(&first) <= makespan_s(&steady));
        }
    }
    assert!(alike >= 50, "{alike} of 60 are the same to the nanosecond");
    assert!(
        4 * faster >= 3 * several,
        "{faster} of {several} end sooner: a queue that is served sooner may decide otherwise"
    );
}

fn row<'a>(rows: &'a [Compared], name: &str) -> &'a Compared {
    rows.iter().find(|row| row.name == name).unwrap_or_else(|| panic!("{name}"))
}

#[test]
fn errors_are_told_in_the_unit_of_their_measure() {
    let names = ["large", "medium", "small"].map(str::to_owned);
    // One model for everything: what takes longer does so in proportion.
    let world = (0..2_000)
        .map(|seed| World::draw(seed, 200, SECOND))
        .filter(|world| world.requests.iter().all(|request| request.ask.is_usual() && request.place.is_only()))
        .filter(|world| world.workers == 3 && world.config.hardware.types() == 1 && world.config.batching.most == 1)
        .find(|world| {
            let queue = QueueSettings { order: world.system.default_order(), ..QueueSettings::paper() };
            world.system == System::Vanilla && world.config.queue == queue
        });
    let world = world.unwrap();
    let (live, _) = run(&world, latency(&world, 1.0));
    let scaled = |factor: f64| {
        let mut profile = serde_json::to_value(&*world.profile).unwrap();
        for row in profile["service"].as_array_mut().unwrap() {
            row["step_s"] = (row["step_s"].as_f64().unwrap() * factor).into();
        }
        let profile: Profile = serde_json::from_value(profile).unwrap();
        run(&world, ProfileLatency { profile: Arc::new(profile), ..latency(&world, 1.0) }).0
    };
    let same = fidelity::compare(&live, std::slice::from_ref(&live), &names);
    assert!(same.iter().all(|row| row.error.abs() < f64::EPSILON && row.spread.is_none()), "{same:?}");
    let twice = [scaled(1.1), scaled(1.3)];
    let mut rows = fidelity::compare(&live, &twice, &names);
    fidelity::sensitivity(&mut rows, &live, &[scaled(1.01)], &[scaled(0.99)], &names);
    let service = row(&rows, "service_per_request");
    assert!((0.05..0.35).contains(&service.error), "{service:?}");
    assert!(service.spread.is_some_and(|spread| spread > 0.05));
    let mean = rows.iter().filter(|row| row.name.starts_with("service_mean large")).collect::<Vec<_>>();
    assert!(!mean.is_empty());
    for row in mean {
        // Jobs of one kind take 1.2 times as long, and 1 % more for 1 % more.
        assert!((row.error - 0.2).abs() < 0.02, "{row:?}");
        assert!(row.per_percent.is_some_and(|change| (change - 0.01).abs() < 0.002), "{row:?}");
    }
    let ratio = fidelity::service_ratio(&live, &twice);
    assert!((ratio - 1.0 / 1.2).abs() < 0.02, "jobs of one kind are compared, whatever there is more of: {ratio}");
    let latency = row(&rows, "latency_mean");
    assert!(latency.error > 0.2 && latency.per_percent.is_some_and(|change| change > 0.005), "queues add to it");
}
