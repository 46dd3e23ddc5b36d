//! Allocation policies at work: after a step in load they settle, no class starves, and what our policy does is plotted
//! and measured against the paper's monitor in docs/policies.md.

use std::sync::Arc;

use modm::cache::Candidate;
use modm::draw::{Purpose, stream};
use modm::journal::{Journal, Record};
use modm::model::{GpuId, ModelId};
use modm::profile::{self, Profile};
use modm::replay::{Known, replay};
use modm::request::{Outcome, Request, RequestId, TenantId};
use modm::scheduler::allocation::{
    Allocation, AllocationPolicy, Mode, ModmAllocation, ModmSettings, Pid, StaticSplit, Switching, WhatIf,
    WhatIfSettings,
};
use modm::scheduler::routing::{Load, Route, RoutingPolicy, Storage};
use modm::scheduler::{
    Action, Config, Decision, DecisionKind, Event, Hardware, Late, Note, Order, QueueSettings, Scheduler,
};
use modm::sim::{ProfileLatency, Simulated};
use modm::time::{Duration, Time};
use rand::RngExt;

use crate::program::{Folder, Row};
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
        worth: vec![1.0, 0.0],
        hardware: hardware(),
        window: seconds(2.0 * FULL_S),
        horizon: seconds(4.0 * FULL_S),
        gap: seconds(FULL_S / 2.0),
        cushion: seconds(FULL_S / 10.0),
        best_first: false,
        load_price: 2.0,
        late_price: 10.0,
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
        least_small: 0,
        rates: vec![60.0 / FULL_S, 60.0 / 16.5],
        switching: Switching::default(),
    }))
}

/// Record of a run: splits decided, and how each request ended.
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
    let mut requests = Vec::new();
    let mut at = 0.0;
    for (until, per_minute) in stretches {
        while at < *until {
            requests.push((requests.len() as u32, at, 2.0 * FULL_S));
            at += 60.0 / per_minute;
        }
    }
    run_requests(policy, WORKERS, ours, &requests)
}

/// Runs requests: number, arrival in seconds, and seconds until each is due.
fn run_requests(policy: Box<dyn AllocationPolicy>, workers: usize, ours: bool, requests: &[(u32, f64, f64)]) -> Watch {
    let queue = QueueSettings {
        order: if ours { Order::Slack } else { Order::MissesFirst },
        late: if ours { Late::Last } else { Late::InTurn },
        due: seconds(2.0 * FULL_S),
        ease: false,
        least_skipped: 5,
        ..QueueSettings::paper()
    };
    let hardware = Hardware { gpus: vec![GpuId(0); workers], profile: profile() };
    let config = Config { queue, ..Config::paper(2, hardware, STEPS) };
    let mut core = Scheduler::new(config, Box::new(Turns), None, policy);
    let latency =
        ProfileLatency { profile: profile(), seed: 0, retrieval: Duration::ZERO, image_encoding: Duration::ZERO };
    let mut executor = Simulated::new(without_embeddings(latency, vec![GpuId(0); workers]));
    let request = |(row, at, due): &(u32, f64, f64)| {
        let arrival = Time::from_seconds(*at).unwrap();
        let deadline = Some(arrival + seconds(*due));
        (arrival, Event::Arrived(Request { deadline, ..Request::new(RequestId(*row), arrival, TenantId(0)) }))
    };
    let mut watch = Watch::default();
    replay(&mut core, &mut executor, &mut Known::new(requests.iter().map(request)), &mut watch).unwrap();
    watch
}

#[test]
fn after_a_step_in_load_the_split_settles_within_two_decisions() {
    for (before, after) in [(6.0, 22.0), (8.0, 25.0), (22.0, 12.0), (12.0, 18.0)] {
        let watch = run(what_if(), true, &[(7200.0, before), (18_000.0, after)]);
        let decisions: Vec<(f64, u32)> =
            watch.splits.iter().copied().filter(|(time, _)| (7200.0..18_000.0).contains(time)).collect();
        println!("{before} to {after}: {decisions:?}");
        // Where the load asks for a split between two, they alternate.
        let settled = decisions.iter().filter(|(time, _)| *time > 10_800.0).chain(decisions.last());
        let settled: Vec<u32> = settled.map(|(_, large)| *large).collect();
        let (low, high) = (settled.iter().min().copied().unwrap(), settled.iter().max().copied().unwrap());
        assert!(high <= low + 1, "{before} to {after} never settles: {decisions:?}");
        let right = |large: u32| (low - 1..=high + 1).contains(&large);
        assert!(decisions.iter().skip(1).all(|(_, large)| right(*large)), "{before} to {after}: {decisions:?}");
        let paper = run(paper(), false, &[(7200.0, before), (18_000.0, after)]);
        let late = |watch: &Watch| {
            let late = |(time, row, _): &&(f64, u32, Outcome)| time - watch.arrivals[*row as usize] > 2.0 * FULL_S;
            watch.ends.iter().filter(late).count()
        };
        assert!(late(&watch) <= late(&paper), "{before} to {after}: {} and {} late", late(&watch), late(&paper));
    }
}

/// Scenario in which the rate rises in steps that the large model alone, `SDXL` and `SANA` carry, and falls back.
const RISING: &str = r#"
name = "rising"
[trace]
warm_requests = 1_000
[trace.synthetic]
requests = 5_000
arrivals = { process = "steps", steps = [[8_600, 7], [12_200, 7], [15_800, 20], [19_400, 36], [26_600, 5]] }
[trace.synthetic.prompts]
topics = 500
topic_exponent = 0.3
session_requests = 1.4
repeats = 0.4
variation = 0.04
word_exponent = 0.3
own_words = 6
[cluster]
gpus = [{ type = "mi210", count = 16 }]
[models]
small = ["sdxl", "sana-1.6b"]
[allocation]
mode = "load"
pid = "off"
[[variant]]
name = "by-load"
"#;

#[test]
fn by_load_the_large_model_is_alone_then_one_small_model_comes_after_the_other() {
    let folder = Folder::new(&[("scenario.toml", RISING)]);
    folder.works(&["compare", "scenario.toml", "--seeds", "1", "--no-range", "--out", "out", "--quiet"]);
    let number = |row: &Row, column: &str| row[column].parse::<f64>().unwrap();
    let (mut seen, mut highest) = (Vec::new(), 0.0_f64);
    for row in folder.rows("out/by-load/allocation.csv") {
        let targets = ["target_sd3.5-large", "target_sdxl", "target_sana-1.6b"];
        let [large, sdxl, sana] = targets.map(|column| row[column].parse::<u32>().unwrap());
        assert!(sdxl == 0 || sana == 0, "one small model at a time: {row:?}");
        assert_eq!(large + sdxl + sana, 16, "{row:?}");
        highest = highest.max(number(&row, "request_rate_per_min"));
        let model = match (sdxl, sana) {
            (0, 0) => "none",
            (_, 0) => "sdxl",
            _ => "sana",
        };
        if seen.last() != Some(&model) {
            seen.push(model);
        }
    }
    assert!(highest > 25.0, "{highest} a minute");
    assert_eq!((seen.first(), seen.last()), (Some(&"none"), Some(&"none")), "{seen:?}");
    let first_of = |name: &str| seen.iter().position(|model| *model == name).unwrap();
    assert!(first_of("sdxl") < first_of("sana") && seen.len() <= 9, "{seen:?}");
    // The figure has the same by the rate of arrivals.
    let figure = folder.rows("out/figures/models-by-load-by-load.csv");
    let workers = |model: &str| -> Vec<f64> {
        figure.iter().filter(|row| row["series"] == model).map(|row| number(row, "y")).collect()
    };
    let [large, sana] = ["sd3.5-large", "sana-1.6b"].map(workers);
    assert!(large[0] > 15.9 && sana[0] == 0.0 && sana[sana.len() - 1] > 0.5, "{large:?} {sana:?}");
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

/// Seconds of the fastest possible work of a request of [`Turns`]: misses on the large model, hits on the small one.
fn work_s(row: u32) -> f64 {
    match row % 10 {
        0 | 3 | 7 => FULL_S,
        1 | 5 | 9 => 45.0 * 0.33,
        2 | 6 => 35.0 * 0.33,
        _ => 25.0 * 0.33,
    }
}

/// Mean seconds of work of a request at the fastest.
fn mean_work_s() -> f64 {
    (0..10).map(work_s).sum::<f64>() / 10.0
}

/// After a burst the backlog is worked off within three times what it takes at the fastest: the work that waits at the
/// end of the burst over what the later load leaves of 95 % of the workers (loads and uneven splits take the rest),
/// plus four full generations. It is worked off when nobody waits whose image should be there and whose job would have
/// ended by now.
#[test]
fn after_any_burst_the_queue_empties() {
    for seed in 0..24 {
        let mut draws = stream(seed, Purpose::Test, 71);
        let capacity_per_min = 60.0 * WORKERS as f64 / mean_work_s();
        let (calm, burst) = (draws.random_range(0.3..0.88), draws.random_range(1.1..3.0));
        let (from, length) = (7200.0, draws.random_range(600.0..5400.0));
        let until = from + length;
        let stretches = [(from, calm), (until, burst), (until + 100_000.0, calm)];
        let watch = run(what_if(), true, &stretches.map(|(until, load)| (until, load * capacity_per_min)));
        let mut ends = vec![0.0; watch.arrivals.len()];
        watch.ends.iter().for_each(|(end, row, _)| ends[*row as usize] = *end);
        // Requests that wait or run at a time, of those that arrived by another.
        let open = |time: f64, arrived: f64| {
            let requests = watch.arrivals.iter().zip(&ends);
            requests.filter(|(arrival, end)| **arrival <= arrived && **end > time).count()
        };
        let spare = WORKERS as f64 * (0.95 - calm);
        let bound = 3.0 * open(until, until) as f64 * mean_work_s() / spare + 4.0 * FULL_S;
        let mut times = (0..4000).map(|step| f64::from(step) * 30.0);
        let empty = times.find(|took| open(until + took, until + took - 3.0 * FULL_S) == 0);
        let took = empty.unwrap_or(f64::INFINITY);
        println!("{calm:.2} {burst:.2} {length:.0}: {} open, {took:.0} s of {bound:.0}", open(until, until));
        assert!(took <= bound, "seed {seed}: {took:.0} s, not within {bound:.0}");
        let rejected = watch.ends.iter().filter(|(.., outcome)| *outcome != Outcome::Completed).count();
        assert_eq!((rejected, watch.ends.len()), (0, watch.arrivals.len()), "all are served");
    }
}

/// Seconds at which requests end on workers that keep these models.
fn ends_on(targets: &[ModelId], requests: &[(u32, f64, f64)]) -> Vec<(u32, f64)> {
    let keeps = Box::new(StaticSplit::new(Allocation::new(targets.to_vec())));
    let watch = run_requests(keeps, targets.len(), true, requests);
    watch.ends.iter().map(|(end, row, _)| (*row, (end * 100.0).round() / 100.0)).collect()
}

/// Requests of [`Turns`]: 0 and 7 are misses, 4 and 8 hits that take 45.75 s on a large worker and 8.25 s on a small
/// one.
#[test]
fn a_hit_goes_by_the_time_that_it_takes_on_the_models_there_are() {
    // On a small worker the hit could begin last. On the only large one it has to go first, and both are in time.
    let requests = [(0, 0.0, 183.0), (4, 1.0, 183.0), (7, 60.0, 183.0)];
    assert_eq!(ends_on(&[ModelId(0)], &requests), [(0, 91.5), (4, 137.25), (7, 228.75)]);
}

#[test]
fn a_hit_waits_for_a_worker_that_has_it_done_in_time() {
    // The large worker is idle but would have the second hit done after it is due.
    let requests = [(4, 0.0, 183.0), (8, 1.0, 20.0)];
    assert_eq!(ends_on(&[ModelId(0), ModelId(1)], &requests), [(4, 8.25), (8, 16.5)]);
    // Without any small worker the hit is late at once, and is served all the same.
    assert_eq!(ends_on(&[ModelId(0)], &requests), [(4, 45.75), (8, 91.5)]);
}
