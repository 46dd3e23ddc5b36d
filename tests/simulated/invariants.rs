//! Seeded random workloads with faults over all systems and policies; after every event a shadow model
//! says what must have happened. `MODM_TEST_ROUNDS` sets how many; a failure names its seed, and
//! `MODM_TEST_SEED` runs that one alone.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};

use modm::draw::{Purpose, stream};
use modm::image::ImageId;
use modm::journal::{self, Journal as _, Line, Record, What};
use modm::metrics::Results;
use modm::model::ModelId;
use modm::network::Network;
use modm::replay::{Executor, Known, Step, replay};
use modm::request::RequestId;
use modm::scheduler::{Action, Event, JobId, Note, WorkerId};
use modm::sim::{ProfileLatency, Simulated};
use modm::time::{Duration, Moment, Time};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use world::World;

use crate::shadow;
use crate::world;

const SECOND: Duration = Duration::from_nanoseconds(1_000_000_000);
const REQUESTS: u32 = 120;

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// A simulated executor, some of whose answers become failures, until a time after which all is well.
struct Faulty {
    inner: Simulated<ProfileLatency>,
    draws: ChaCha8Rng,
    until: Time,
    /// Jobs that start from an image.
    refining: BTreeMap<JobId, bool>,
    /// Model that each worker holds, and the one that it loads.
    models: Vec<(Option<ModelId>, ModelId)>,
}

impl Faulty {
    fn spoil(&mut self, event: Event) -> Event {
        match event {
            Event::JobCompleted { worker, job, .. } if self.refining[&job] && self.draws.random_bool(0.05) => {
                Event::SourceMissing { worker, job }
            }
            Event::JobCompleted { worker, job, .. } if self.draws.random_bool(0.05) => {
                Event::JobFailed { worker, job, reason: "out of memory".into() }
            }
            Event::ModelLoaded { worker } if self.draws.random_bool(0.2) => {
                // Either it still has what it had, or nothing.
                let (held, _) = &mut self.models[worker.index()];
                *held = held.filter(|_| self.draws.random_bool(0.7));
                Event::LoadFailed { worker, loaded: *held, reason: "no such file".into() }
            }
            event => event,
        }
    }
}

impl Executor for Faulty {
    type Error = Infallible;

    fn submit(&mut self, now: Time, action: &Action) -> Result<(), Infallible> {
        match action {
            Action::Start { job, parts, work, worker } => {
                self.refining.insert(*job, parts[0].source.is_some());
                self.models[worker.index()].0 = Some(work.model);
            }
            Action::Load { worker, model, .. } => self.models[worker.index()].1 = *model,
            _ => {}
        }
        self.inner.submit(now, action)
    }

    fn notice(&mut self, now: Time, event: &Event) {
        self.inner.notice(now, event);
    }

    fn wait(&mut self, deadline: Option<Moment>) -> Result<Step, Infallible> {
        Ok(match self.inner.wait(deadline)? {
            Step::Completed(time, event) if time < self.until => Step::Completed(time, self.spoil(event)),
            step => step,
        })
    }

    fn in_flight(&self) -> usize {
        self.inner.in_flight()
    }
}

/// Arrivals, and what else happens: workers lost and back, cancellations, a drain near the end; at last
/// every worker is back. With the time from which nothing fails any more.
fn outside(world: &World, draws: &mut ChaCha8Rng) -> (Vec<(Time, Event)>, Time) {
    let at = |seconds: f64| Time::ZERO + Duration::from_seconds_saturating(seconds.floor());
    let last = world.requests.last().unwrap().arrival;
    let end = last.seconds() + 100.0;
    let mut events: Vec<(Time, Event)> =
        world.requests.iter().map(|request| (request.arrival, Event::Arrived(*request))).collect();
    let workers = world.workers as u16;
    for _ in 0..draws.random_range(0..20) {
        // One worker more than there are.
        let worker = WorkerId(draws.random_range(0..=workers));
        let event = if draws.random() { Event::WorkerDown(worker) } else { Event::WorkerUp(worker) };
        events.push((at(draws.random_range(0.0..end)), event));
    }
    for _ in 0..draws.random_range(0..30) {
        // Waiting, running, gone, not there yet, or never there.
        let row = draws.random_range(0..REQUESTS + 10);
        let arrival = world.requests.get(row as usize).map_or(0.0, |request| request.arrival.seconds());
        let when = at((arrival + draws.random_range(-5.0..100.0)).max(0.0));
        events.push((when, Event::Cancelled(RequestId(row))));
    }
    for _ in 0..draws.random_range(0..6) {
        // Cached, in use, gone, to come, or never there.
        let image = |draws: &mut ChaCha8Rng| match draws.random_range(0..10) {
            0 | 1 => ImageId::warm(draws.random_range(0..10)),
            _ => ImageId::of_request(RequestId(draws.random_range(0..REQUESTS))),
        };
        let images = (0..draws.random_range(0..10)).map(|_| image(draws)).collect();
        events.push((at(draws.random_range(0.0..end)), Event::Withdrawn { images, refined: draws.random() }));
    }
    if draws.random() {
        events.push((at(draws.random_range(0.8..1.1) * last.seconds()), Event::Drain));
    }
    let until = at(end);
    events.extend((0..workers).map(|worker| (until, Event::WorkerUp(WorkerId(worker)))));
    if draws.random() {
        // Long after the last request has ended: worker seconds there belong to no run.
        events.push((at(end + 20_000.0), Event::WorkerDown(WorkerId(0))));
        events.push((at(end + 30_000.0), Event::WorkerUp(WorkerId(0))));
    }
    events.sort_by_key(|(time, _)| *time);
    (events, until)
}

/// Returns a network over which a picture takes from nothing to some minutes, or none in two thirds of the worlds.
fn network(world: &World) -> Option<Network> {
    let mut draws = stream(world.seed, Purpose::Test, 31);
    let nodes = draws.random_range(1..=world.workers as u16);
    draws.random_bool(1.0 / 3.0).then(|| Network {
        nodes: (0..world.workers).map(|_| draws.random_range(0..nodes)).collect(),
        latency: Duration::from_nanoseconds(draws.random_range(0..3) * 500_000_000),
        bandwidth: draws.random_range(1..1000),
        node_bandwidth: draws.random_range(1..1000),
        picture_bytes: draws.random_range(0..20),
        usual_pixels: 1024 * 1024,
        sources: draws.random_range(0..10),
    })
}

/// Returns the journal and the results of a world with faults.
fn run(seed: u64, network: impl FnOnce(&World) -> Option<Network>) -> (World, Vec<Line>, Results) {
    let world = shadow::with_flags(World::draw(seed, REQUESTS, SECOND));
    let mut draws = stream(seed, Purpose::Test, 1);
    let (events, until) = outside(&world, &mut draws);
    let models = world.initial().targets.iter().map(|&model| (Some(model), model)).collect();
    let mut executor = Faulty {
        inner: world.executor_over(network(&world), world.latency()),
        draws,
        until,
        refining: BTreeMap::new(),
        models,
    };
    let mut journal = (Vec::<Line>::new(), world.metrics());
    let (mut core, _) = world.core();
    replay(&mut core, &mut executor, &mut Known::new(events.into_iter()), &mut journal).unwrap();
    let (lines, metrics) = journal;
    (world, lines, metrics.finish_run())
}

fn round(seed: u64) {
    let (world, lines, results) = run(seed, network);
    shadow::check(&world, &lines, &results);
    check_file(&lines);
    check_cache(&lines, &results);
}

/// A journal is the same when it is read back from its file.
fn check_file(lines: &[Line]) {
    let mut writer = journal::Writer::new(Vec::new(), &"header").unwrap();
    for Line { time, what } in lines {
        match what {
            What::Event(event) => writer.record(*time, Record::Event(event)),
            What::Action(action) => writer.record(*time, Record::Action(action)),
        }
    }
    let (_, read): (String, Vec<Line>) = journal::read(writer.finish().unwrap().as_slice()).unwrap();
    assert_eq!(read, lines);
}

/// Requests that came and did not leave are there, and every request that is searched for is a miss or a hit.
fn check_cache(lines: &[Line], results: &Results) {
    let Some(cache) = &results.cache else { return };
    let mut held = 0;
    for row in &cache.rows {
        held = held + row.inserts - row.evictions - row.expiries - row.unreadable - row.withdrawn;
        assert_eq!(row.entries, held, "{row:?}");
        assert_eq!(row.searches, row.misses + row.hits_by_skipped_steps.iter().sum::<u64>(), "{row:?}");
        assert!(row.near_misses <= row.misses && row.hits_by_age.iter().sum::<u64>() <= row.searches - row.misses);
    }
    let routed = lines.iter().filter_map(|line| match &line.what {
        What::Action(Action::Note(Note::Routed { request, decision, .. })) => {
            // A hit without a source of the cache was not searched for: its request has brought its own.
            (!decision.kind.is_hit() || decision.source.is_some()).then_some(*request)
        }
        _ => None,
    });
    let routed: BTreeSet<RequestId> = routed.collect();
    assert_eq!(cache.rows.iter().map(|row| row.searches).sum::<u64>(), routed.len() as u64);
}

#[test]
fn whatever_happens_the_core_does_what_the_shadow_says() {
    let one = from_environment("MODM_TEST_SEED");
    let rounds = from_environment("MODM_TEST_ROUNDS").unwrap_or(200);
    for seed in one.map_or(0..rounds, |seed| seed..seed + 1) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| round(seed))) {
            let what = panic.downcast_ref::<String>().map_or("see above", String::as_str);
            panic!("MODM_TEST_SEED={seed}: {what}");
        }
    }
}

#[test]
fn a_network_that_takes_no_time_changes_no_event() {
    let instant = |world: &World| {
        Some(Network {
            nodes: (0..world.workers as u16).map(|worker| worker / 2).collect(),
            latency: Duration::ZERO,
            bandwidth: 1,
            node_bandwidth: 1,
            picture_bytes: 0,
            usual_pixels: 1,
            sources: 3,
        })
    };
    for seed in 0..from_environment("MODM_TEST_ROUNDS").unwrap_or(200) {
        let ((_, lines, results), (_, mut with, same)) = (run(seed, |_| None), run(seed, instant));
        for line in &mut with {
            if let What::Event(Event::JobCompleted { outputs, .. }) = &mut line.what {
                outputs.iter_mut().for_each(|output| output.source_fetched = None);
            }
        }
        let first = lines.iter().zip(&with).find(|(line, other)| line != other);
        assert!(first.is_none() && lines.len() == with.len(), "seed {seed}: {first:#?}");
        assert_eq!(results, same, "seed {seed}");
    }
}
