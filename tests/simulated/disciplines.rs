//! The queue disciplines against what theory says of them: mean waits by class in M/G/1 (Cobham, Operations Research 2,
//! 1954; Pollaczek-Khinchine), earliest deadline first against all schedules there are, the bound of fair queueing, and
//! that nobody starves.

use std::sync::Arc;

use modm::cache::Candidate;
use modm::draw::{Purpose, exponential, stream};
use modm::journal::{Journal, Record};
use modm::model::{GpuId, ModelId, Work};
use modm::profile::{self, Profile};
use modm::replay::{Known, replay};
use modm::request::{Outcome, Request, RequestId, TenantId};
use modm::scheduler::allocation::{Allocation, StaticSplit};
use modm::scheduler::routing::{Load, Route, RoutingPolicy, Storage};
use modm::scheduler::{
    Action, Config, Decision, DecisionKind, Event, Hardware, Late, Order, QueueSettings, Scheduler, TenantTerms,
    WorkerId,
};
use modm::sim::{LatencyModel, Simulated};
use modm::time::{Duration, Time};
use rand::RngExt;

use crate::world::without_embeddings;

const TOLERANCE: f64 = 0.02;
const STEPS: u32 = 10;

/// A request, in seconds.
#[derive(Clone, Copy, Debug)]
struct Task {
    arrival: f64,
    service: f64,
    tenant: u32,
    /// After arrival.
    deadline: Option<f64>,
    /// Steps skipped; 0 for a miss.
    skipped: u32,
}

impl Task {
    const fn new(arrival: f64, service: f64) -> Self {
        Self { arrival, service, tenant: 0, deadline: None, skipped: 0 }
    }
}

/// End of a request.
#[derive(Clone, Debug)]
struct Done {
    start: Option<Time>,
    finish: Time,
    outcome: Outcome,
}

/// Decides as the tasks say, and takes as long as they say.
#[derive(Clone, Debug)]
struct Script(Arc<[Task]>);

impl RoutingPolicy for Script {
    fn storage(&self) -> Storage {
        Storage::None
    }

    fn route(&mut self, request: &Request, _: Option<Candidate<'_>>, _: &Load) -> Route {
        let skipped_steps = self.0[request.id.row()].skipped;
        let kind = if skipped_steps == 0 { DecisionKind::Miss } else { DecisionKind::Hit };
        Route::Queue(Decision { skipped_steps, ..Decision::new(kind) })
    }
}

impl LatencyModel for Script {
    fn retrieval(&mut self, _: RequestId) -> Duration {
        Duration::ZERO
    }

    fn job(&mut self, _: GpuId, _: Work, first: RequestId, _: usize) -> Duration {
        seconds(self.0[first.row()].service)
    }

    fn load(&mut self, _: WorkerId, _: GpuId, _: Option<ModelId>, _: ModelId) -> Duration {
        Duration::ZERO
    }

    fn image_encoding(&mut self, _: RequestId) -> Duration {
        Duration::ZERO
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_seconds_saturating(seconds)
}

/// Starts and ends by request.
#[derive(Debug)]
struct Watch(Vec<Done>);

impl Journal for Watch {
    fn record(&mut self, time: Time, record: Record<'_>) {
        match record {
            Record::Action(Action::Start { parts, .. }) => self.0[parts[0].request.row()].start = Some(time),
            Record::Action(Action::Finish(ended)) => {
                let done = &mut self.0[ended.request.row()];
                (done.finish, done.outcome) = (time, ended.outcome.clone());
            }
            _ => {}
        }
    }
}

/// One model whose jobs are expected to take a second, whatever they skip.
fn one_second() -> Arc<Profile> {
    let text = "source = \"test\"\n[[service]]\ngpu = \"g\"\nmodel = \"m\"\nstep_s = 0\noverhead_s = 1\nload_s = 0\n";
    let file = profile::parse(text, "test".as_ref()).unwrap();
    Arc::new(Profile::select(&file, &["g".to_owned()], &["m".to_owned()]).unwrap())
}

fn run(tasks: &[Task], workers: usize, queue: QueueSettings) -> Vec<Done> {
    let script = Script(tasks.into());
    let hardware = Hardware { gpus: vec![GpuId(0); workers], profile: one_second() };
    let config = Config { queue, ..Config::paper(1, hardware, STEPS) };
    let allocation = StaticSplit::new(Allocation::split(workers, workers, ModelId::LARGE));
    let mut core = Scheduler::new(config, Box::new(script.clone()), None, Box::new(allocation));
    let mut executor = Simulated::new(without_embeddings(script, vec![GpuId(0); workers]));
    let request = |(row, task): (u32, &Task)| {
        let arrival = Time::ZERO + seconds(task.arrival);
        let deadline = task.deadline.map(|after| arrival + seconds(after));
        (arrival, Event::Arrived(Request { deadline, ..Request::new(RequestId(row), arrival, TenantId(task.tenant)) }))
    };
    let nothing = Done { start: None, finish: Time::ZERO, outcome: Outcome::Cancelled };
    let mut watch = Watch(vec![nothing; tasks.len()]);
    replay(&mut core, &mut executor, &mut Known::new((0..).zip(tasks).map(request)), &mut watch).unwrap();
    watch.0
}

fn queue(order: Order, late: Late) -> QueueSettings {
    QueueSettings {
        order,
        late,
        due: seconds(1e6),
        overdue: None,
        fall_back: None,
        ease: false,
        least_skipped: 0,
        admission: false,
        terms: Vec::new(),
    }
}

/// A Poisson stream: its rate, and what it asks for, with a draw of mean 1.
type Stream<'a> = (f64, &'a dyn Fn(f64) -> Task);

/// Poisson streams merged, so many requests in all.
fn poisson(seed: u64, streams: &[Stream<'_>], requests: usize) -> Vec<Task> {
    let total: f64 = streams.iter().map(|(rate, _)| rate).sum();
    let mut draws = stream(seed, Purpose::Test, 50);
    let mut at = 0.0;
    (0..requests)
        .map(|_| {
            at += exponential(&mut draws) / total;
            let mut which = draws.random_range(0.0..total);
            let of = streams.iter().find(|(rate, _)| {
                which -= rate;
                which < 0.0
            });
            let make = of.map_or(streams[0].1, |(_, make)| *make);
            Task { arrival: at, ..make(exponential(&mut draws)) }
        })
        .collect()
}

/// Mean wait of the tasks that are of a class.
fn mean_wait(tasks: &[Task], done: &[Done], of: impl Fn(&Task) -> bool) -> f64 {
    let waits = tasks.iter().zip(done).skip(5_000).filter(|(task, _)| of(task));
    let waits: Vec<f64> = waits.map(|(task, done)| done.start.unwrap().seconds() - task.arrival).collect();
    waits.iter().sum::<f64>() / waits.len() as f64
}

/// Cobham: mean waits by class, the first one first in line; each with its rate, mean service and mean of its square.
fn cobham(classes: &[(f64, f64, f64)]) -> Vec<f64> {
    let residual: f64 = classes.iter().map(|(rate, _, square)| rate * square / 2.0).sum();
    let mut before = 0.0;
    let wait = |(rate, mean, _): &(f64, f64, f64)| {
        let with = before + rate * mean;
        let wait = residual / ((1.0 - before) * (1.0 - with));
        before = with;
        wait
    };
    classes.iter().map(wait).collect()
}

fn close(what: &str, measured: f64, theory: f64) {
    let off = (measured / theory - 1.0).abs();
    println!("{what}: {measured:.4} s, theory {theory:.4} s, {:.2} % off", off * 100.0);
    assert!(off < TOLERANCE, "{what}: {measured} s, theory {theory} s");
}

#[test]
fn priorities_wait_as_cobham_says() {
    let high = |_| Task { tenant: 2, ..Task::new(0.0, 0.5) };
    let middle = |draw: f64| Task { tenant: 0, ..Task::new(0.0, draw) };
    let low = |_| Task { tenant: 1, ..Task::new(0.0, 2.0) };
    let tasks = poisson(1, &[(0.4, &high), (0.3, &middle), (0.15, &low)], 3_000_000);
    let terms = [1, 0, 2].map(|priority| TenantTerms { priority, ..TenantTerms::default() }).to_vec();
    let done = run(&tasks, 1, QueueSettings { terms, ..queue(Order::Oldest, Late::InTurn) });
    let theory = cobham(&[(0.4, 0.5, 0.25), (0.3, 1.0, 2.0), (0.15, 2.0, 4.0)]);
    for (tenant, theory) in [2, 0, 1].into_iter().zip(theory) {
        close(&format!("tenant {tenant}"), mean_wait(&tasks, &done, |task| task.tenant == tenant), theory);
    }
}

#[test]
fn hits_wait_behind_misses_as_cobham_says() {
    let miss = |draw: f64| Task::new(0.0, draw);
    let hit = |_| Task { skipped: 5, ..Task::new(0.0, 0.4) };
    let tasks = poisson(2, &[(0.4, &miss), (0.9, &hit)], 3_000_000);
    let done = run(&tasks, 1, queue(Order::MissesFirst, Late::InTurn));
    let theory = cobham(&[(0.4, 1.0, 2.0), (0.9, 0.4, 0.16)]);
    close("misses", mean_wait(&tasks, &done, |task| task.skipped == 0), theory[0]);
    close("hits", mean_wait(&tasks, &done, |task| task.skipped == 5), theory[1]);
}

#[test]
fn the_oldest_first_everyone_waits_alike() {
    let miss = |draw: f64| Task::new(0.0, draw);
    let hit = |_| Task { skipped: 5, ..Task::new(0.0, 0.4) };
    let tasks = poisson(3, &[(0.4, &miss), (0.9, &hit)], 3_000_000);
    let done = run(&tasks, 1, queue(Order::Oldest, Late::InTurn));
    // Pollaczek and Khinchine: the rate times the mean square, over twice what is left of the time.
    let theory = (0.4 * 2.0 + 0.9 * 0.16) / (2.0 * (1.0 - 0.4 - 0.36));
    close("misses", mean_wait(&tasks, &done, |task| task.skipped == 0), theory);
    close("hits", mean_wait(&tasks, &done, |task| task.skipped == 5), theory);
}

/// Returns whether unit tasks can all be in time, by trying every slot for every task.
fn feasible(tasks: &[(u32, u32)], workers: u8, used: &mut [u8; 32]) -> bool {
    let Some(((release, due), rest)) = tasks.split_first() else { return true };
    (*release..*due).any(|slot| {
        if used[slot as usize] == workers {
            return false;
        }
        used[slot as usize] += 1;
        let fits = feasible(rest, workers, used);
        used[slot as usize] -= 1;
        fits
    })
}

#[test]
fn earliest_deadline_first_is_in_time_whenever_anyone_can_be() {
    let mut possible = 0;
    for seed in 0..600 {
        let mut draws = stream(seed, Purpose::Test, 51);
        let workers = draws.random_range(1..=2);
        let mut tasks: Vec<(u32, u32)> = (0..8)
            .map(|_| {
                let release = draws.random_range(0..6);
                (release, release + draws.random_range(1..6))
            })
            .collect();
        tasks.sort_unstable();
        let can = feasible(&tasks, workers, &mut [0; 32]);
        let task = |(release, due): &(u32, u32)| {
            let deadline = Some(f64::from(due - release) + 0.02);
            // A little more than a slot: who is free at a slot's begin would choose before its arrivals are there.
            Task { deadline, ..Task::new(f64::from(*release), 1.001) }
        };
        let list: Vec<Task> = tasks.iter().map(task).collect();
        for order in [Order::Deadline, Order::Slack] {
            let done = run(&list, workers.into(), queue(order, Late::InTurn));
            let due = |due: u32| Time::ZERO + seconds(f64::from(due) + 0.02);
            let met = tasks.iter().zip(&done).all(|((_, at), done)| done.finish <= due(*at));
            assert_eq!(met, can, "seed {seed}, {order:?}: {tasks:?} on {workers}");
        }
        possible += u32::from(can);
    }
    assert!((100..500).contains(&possible), "both kinds were drawn: {possible}");
}

#[test]
fn fair_shares_are_off_by_no_more_than_a_request_of_each() {
    // All there at once: as long as both wait, both have their share of the service.
    let weights = [3.0, 1.0];
    let tasks: Vec<Task> = (0..400).map(|row| Task { tenant: row % 2, ..Task::new(0.0, 1.0) }).collect();
    let terms = weights.map(|weight| TenantTerms { weight, ..TenantTerms::default() }).to_vec();
    let done = run(&tasks, 1, QueueSettings { terms, ..queue(Order::Fair, Late::InTurn) });
    let mut starts: Vec<(Time, u32)> =
        done.iter().zip(&tasks).map(|(done, task)| (done.start.unwrap(), task.tenant)).collect();
    starts.sort_unstable();
    let mut served = [0.0; 2];
    for (_, tenant) in starts {
        served[tenant as usize] += 1.0;
        if served.iter().any(|served| *served >= 200.0) {
            break;
        }
        let off: f64 = served[0] / weights[0] - served[1] / weights[1];
        assert!(off.abs() <= 1.0 / weights[0] + 1.0 / weights[1], "{served:?}");
    }
    assert!((served[0] - 200.0).abs() < 1e-9 && (60.0..=70.0).contains(&served[1]), "{served:?}");
}

#[test]
fn within_a_fair_share_the_request_that_must_start_first_goes_first() {
    // All there at once, two tenants: each has every second start, and its own are in order of their deadlines.
    let deadline = |row: u32| Some(f64::from(1_000 - row / 2 * 7 % 97));
    let tasks: Vec<Task> =
        (0..100).map(|row| Task { tenant: row % 2, deadline: deadline(row), ..Task::new(0.0, 1.0) }).collect();
    let done = run(&tasks, 1, queue(Order::FairSlack, Late::InTurn));
    let mut starts: Vec<(Time, u32, f64)> = done
        .iter()
        .zip(&tasks)
        .map(|(done, task)| (done.start.unwrap(), task.tenant, task.deadline.unwrap()))
        .collect();
    starts.sort_by_key(|(start, ..)| *start);
    // The first two start with the lowest tags of both, and then one of each with every tag.
    for pair in starts[2..].chunks_exact(2) {
        assert_ne!(pair[0].1, pair[1].1, "they take turns");
    }
    for tenant in 0..2 {
        // The first start of all is that of the first request, which did not wait.
        let own: Vec<f64> =
            starts[1..].iter().filter(|(_, of, _)| *of == tenant).map(|(.., deadline)| *deadline).collect();
        assert!(own.is_sorted(), "{tenant}: {own:?}");
    }
}

#[test]
fn who_comes_after_a_pause_gets_no_credit_for_it() {
    let idle = |row: u32| Task { tenant: u32::from(row >= 50), ..Task::new(if row < 50 { 0.0 } else { 20.5 }, 1.0) };
    let tasks: Vec<Task> = (0..100).map(idle).collect();
    let done = run(&tasks, 1, queue(Order::Fair, Late::InTurn));
    let between = |from: f64, to: f64, tenant: u32| {
        let starts = done.iter().zip(&tasks).filter(|(_, task)| task.tenant == tenant);
        starts.filter(|(done, _)| (from..to).contains(&done.start.unwrap().seconds())).count()
    };
    assert_eq!((between(21.0, 41.0, 0), between(21.0, 41.0, 1)), (10, 10), "from then on they take turns");
}

#[test]
fn late_requests_go_last_but_do_not_starve() {
    // Twice what one worker can do, for a long time: half of them are late at some time.
    let tasks: Vec<Task> =
        (0..2_000).map(|row| Task { deadline: Some(5.0), ..Task::new(f64::from(row) / 2.0, 1.0) }).collect();
    let in_time = |done: &[Done]| {
        let met = |(done, task): &(&Done, &Task)| {
            done.outcome == Outcome::Completed && done.finish.seconds() <= task.arrival + 5.0
        };
        done.iter().zip(&tasks).filter(met).count()
    };
    let fifo = run(&tasks, 1, queue(Order::Oldest, Late::InTurn));
    let last = run(&tasks, 1, queue(Order::Oldest, Late::Last));
    let reject = run(&tasks, 1, queue(Order::Oldest, Late::Reject));
    assert!(in_time(&fifo) < 20, "{}", in_time(&fifo));
    // A worker can do 1,000 while they come; one start in thirty is of a late one.
    assert!((955..=975).contains(&in_time(&last)), "{}", in_time(&last));
    assert!((990..=1_010).contains(&in_time(&reject)), "{}", in_time(&reject));
    assert!(last.iter().all(|done| done.outcome == Outcome::Completed), "all are served in the end");
    let late_starts = last.iter().zip(&tasks).filter(|(done, task)| {
        let start = done.start.unwrap().seconds();
        start < 1_000.0 && start > task.arrival + 4.0
    });
    assert!((30..=40).contains(&late_starts.count()), "while others are in time, one start in thirty");
    let rejected = reject.iter().filter(|done| matches!(done.outcome, Outcome::Rejected(_)));
    assert_eq!(rejected.count() + in_time(&reject), tasks.len());
}

#[test]
fn a_second_deadline_bounds_the_wait_of_what_is_late_and_makes_more_of_it() {
    // A burst that leaves 200 s of work behind, then nine tenths of what the worker can do.
    let burst = (0..400).map(|row| f64::from(row) / 2.0);
    let after = (0..3_000).map(|row| 200.0 + f64::from(row) / 0.9);
    let tasks: Vec<Task> = burst.chain(after).map(|at| Task { deadline: Some(5.0), ..Task::new(at, 1.0) }).collect();
    let measure = |overdue: Option<Duration>| {
        let done = run(&tasks, 1, QueueSettings { overdue, ..queue(Order::Oldest, Late::Last) });
        let waits = || done.iter().zip(&tasks).map(|(done, task)| done.finish.seconds() - task.arrival);
        (waits().fold(0.0, f64::max), waits().filter(|wait| *wait > 5.0).count())
    };
    let (longest, late) = measure(None);
    let (longest_bounded, late_bounded) = measure(Some(seconds(100.0)));
    println!("{longest} s and {late} late without, {longest_bounded} s and {late_bounded} late with a second deadline");
    assert!(longest > 1_000.0 && longest_bounded < 100.0 + 5.0 + 200.0, "{longest} and {longest_bounded} s");
    assert!(late < late_bounded && late_bounded < 2_000, "{late} and {late_bounded} late");
}
