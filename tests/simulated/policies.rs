//! Allocation policies at work: after a step in load they settle, no class starves, and what our policy does is plotted
//! and measured against the paper's monitor in docs/policies.md.

use std::sync::Arc;

use modm::cache::Candidate;
use modm::journal::{Journal, Record};
use modm::model::{GpuId, ModelId};
use modm::profile::{self, Profile};
use modm::replay::{Known, replay};
use modm::request::{Outcome, Request, RequestId, TenantId};
use modm::scheduler::allocation::{
    AllocationPolicy, Mode, ModmAllocation, ModmSettings, Pid, Rates, WhatIf, WhatIfSettings,
};
use modm::scheduler::routing::{Load, Route, RoutingPolicy, Storage};
use modm::scheduler::{
    Action, Config, Decision, DecisionKind, Event, Hardware, Late, Note, Order, QueueSettings, Scheduler,
};
use modm::sim::{ProfileLatency, Simulated};
use modm::time::{Duration, Time};

use crate::world::without_embeddings;

const STEPS: u32 = 50;
const WORKERS: usize = 16;
const FULL_S: f64 = 91.5;

fn seconds(seconds: f64) -> Duration {
    Duration::from_seconds_saturating(seconds)
}

/// Three misses and seven hits in turn.
#[derive(Debug)]
struct Turns;

impl RoutingPolicy for Turns {
    fn storage(&self) -> Storage {
        Storage::None
    }

    fn route(&mut self, request: &Request, _: Option<Candidate<'_>>, _: &Load) -> Route {
        let (kind, skipped_steps) = match request.id.0 % 10 {
            0 | 3 | 7 => (DecisionKind::Miss, 0),
            1 | 5 | 9 => (DecisionKind::Hit, 5),
            2 | 6 => (DecisionKind::Hit, 15),
            _ => (DecisionKind::Hit, 25),
        };
        Route::Queue(Decision { skipped_steps, ..Decision::new(kind) })
    }
}

/// The paper's service times on MI210.
fn profile() -> Arc<Profile> {
    let row = |model: &str, step: f64| {
        format!("[[service]]\ngpu = \"g\"\nmodel = \"{model}\"\nstep_s = {step}\nload_s = 22.7\n")
    };
    let text = format!("source = \"test\"\n{}{}", row("large", FULL_S / 50.0), row("small", 0.33));
    let file = profile::parse(&text, "test".as_ref()).unwrap();
    Arc::new(Profile::select(&file, &["g".to_owned()], &["large".to_owned(), "small".to_owned()]).unwrap())
}

fn hardware() -> Hardware {
    Hardware { gpus: vec![GpuId(0); WORKERS], profile: profile() }
}

fn what_if() -> Box<dyn AllocationPolicy> {
    Box::new(WhatIf::new(WhatIfSettings {
        initial: vec![ModelId::LARGE; WORKERS],
        models: 2,
        hardware: hardware(),
        window: seconds(2.0 * FULL_S),
        calm: seconds(4.0 * FULL_S),
        gap: seconds(FULL_S / 2.0),
        cushion: seconds(FULL_S / 10.0),
        best_first: true,
        load_price: 1.0,
    }))
}

fn paper() -> Box<dyn AllocationPolicy> {
    Box::new(ModmAllocation::new(ModmSettings {
        mode: Mode::Quality,
        period: seconds(180.0),
        headroom: 0.9,
        pid: Some(Pid::default()),
        workers: WORKERS,
        initial_large: WORKERS,
        small: ModelId(1),
        rates: Rates { large: 60.0 / FULL_S, small: 60.0 / 16.5 },
    }))
}

/// What happened: splits decided, and how each request ended.
#[derive(Debug, Default)]
struct Watch {
    splits: Vec<(f64, u32)>,
    ends: Vec<(f64, u32, Outcome)>,
    arrivals: Vec<f64>,
}

impl Journal for Watch {
    fn record(&mut self, time: Time, record: Record<'_>) {
        match record {
            Record::Action(Action::Note(Note::Ticked(tick))) => self.splits.push((time.seconds(), tick.n_large)),
            Record::Action(Action::Finish(ended)) => {
                self.ends.push((time.seconds(), ended.request.0, ended.outcome.clone()));
            }
            Record::Event(Event::Arrived(request)) => self.arrivals.push(request.arrival.seconds()),
            _ => {}
        }
    }
}

/// Runs stretches of (until second, requests a minute) at constant gaps.
fn run(policy: Box<dyn AllocationPolicy>, ours: bool, stretches: &[(f64, f64)]) -> Watch {
    let mut arrivals = Vec::new();
    let mut at = 0.0;
    for (until, per_minute) in stretches {
        while at < *until {
            arrivals.push(at);
            at += 60.0 / per_minute;
        }
    }
    let queue = QueueSettings {
        order: if ours { Order::Slack } else { Order::MissesFirst },
        late: if ours { Late::Best } else { Late::InTurn },
        due: seconds(2.0 * FULL_S),
        fall_back: ours.then_some(1.5),
        least_skipped: 5,
        ..QueueSettings::paper()
    };
    let config = Config { queue, ..Config::paper(2, hardware(), STEPS) };
    let mut core = Scheduler::new(config, Box::new(Turns), None, policy);
    let latency =
        ProfileLatency { profile: profile(), seed: 0, retrieval: Duration::ZERO, image_encoding: Duration::ZERO };
    let mut executor = Simulated::new(without_embeddings(latency, vec![GpuId(0); WORKERS]));
    let request = |(row, at): (u32, &f64)| {
        let arrival = Time::from_seconds(*at).unwrap();
        (arrival, Event::Arrived(Request::new(RequestId(row), arrival, TenantId(0))))
    };
    let mut watch = Watch::default();
    replay(&mut core, &mut executor, &mut Known::new((0..).zip(&arrivals).map(request)), &mut watch).unwrap();
    watch
}

/// The split after the last decision until then.
fn split_at(watch: &Watch, until: f64) -> u32 {
    watch.splits.iter().take_while(|(time, _)| *time <= until).last().map_or(WORKERS as u32, |(_, large)| *large)
}

#[test]
fn after_a_step_in_load_the_split_settles_within_two_decisions() {
    for (before, after) in [(6.0, 22.0), (8.0, 25.0), (22.0, 12.0), (12.0, 18.0)] {
        let watch = run(what_if(), true, &[(7200.0, before), (18_000.0, after)]);
        let settled = split_at(&watch, 17_900.0);
        let decisions: Vec<(f64, u32)> =
            watch.splits.iter().copied().filter(|(time, _)| (7200.0..18_000.0).contains(time)).collect();
        println!("{before} to {after}: {decisions:?}");
        let later = decisions.iter().skip(1).map(|(_, large)| large.abs_diff(settled));
        assert!(later.max().unwrap_or(0) <= 1, "{before} to {after}: {decisions:?}");
        let paper = run(paper(), false, &[(7200.0, before), (18_000.0, after)]);
        let late = |watch: &Watch| {
            let late = |(time, row, _): &&(f64, u32, Outcome)| time - watch.arrivals[*row as usize] > 2.0 * FULL_S;
            watch.ends.iter().filter(late).count()
        };
        assert!(late(&watch) <= late(&paper), "{before} to {after}: {} and {} late", late(&watch), late(&paper));
    }
}

#[test]
fn no_class_starves_however_long_the_overload() {
    // Three times what the cluster carries, for four hours.
    let watch = run(what_if(), true, &[(14_400.0, 80.0)]);
    for (name, of) in [("misses", [0, 3, 7]), ("short hits", [1, 5, 9]), ("long hits", [4, 8, 8])] {
        for hour in 0..4 {
            let within = f64::from(hour) * 3600.0..f64::from(hour + 1) * 3600.0;
            let served = watch.ends.iter().filter(|(time, row, _)| within.contains(time) && of.contains(&(row % 10)));
            let served = served.count();
            assert!(served >= 40, "{name}: {served} in hour {hour}");
        }
    }
    assert!(watch.ends.iter().all(|(_, _, outcome)| *outcome == Outcome::Completed), "all are served in the end");
    assert_eq!(watch.ends.len(), watch.arrivals.len());
}
