//! Waiting times of the core against queueing theory: M/M/c (Erlang C), M/D/1 (Pollaczek-Khinchine),
//! M/D/c (the distribution of the number in system, solved numerically), within 2 %; and against the
//! Kiefer-Wolfowitz recursion on the same arrivals, to the nanosecond.

use modm::draw::{Purpose, exponential, stream};
use modm::journal::{Journal, Record};
use modm::model::{GpuId, ModelId, Work};
use modm::replay::{Known, replay};
use modm::request::{Request, RequestId, TenantId};
use modm::scheduler::allocation::{Allocation, StaticSplit};
use modm::scheduler::routing::System;
use modm::scheduler::{Action, Config, Event, Hardware, Scheduler, WorkerId};
use modm::sim::{LatencyModel, Simulated};
use modm::time::{Duration, Time};

use crate::world::without_embeddings;

const TOLERANCE: f64 = 0.02;
/// Requests of one run, and how many at its start are left out: the queue is empty at time zero.
const REQUESTS: u32 = 6_000_000;
const WARM_UP: u32 = 10_000;
/// Mean service time.
const SERVICE_S: f64 = 1.0;

#[derive(Clone, Copy, Debug)]
enum Service {
    Constant,
    Exponential(u64),
}

impl Service {
    fn of(self, row: u32) -> Duration {
        let factor = match self {
            Self::Constant => 1.0,
            Self::Exponential(seed) => exponential(&mut stream(seed, Purpose::Jitter, u64::from(row))),
        };
        Duration::from_seconds_saturating(SERVICE_S * factor)
    }
}

impl LatencyModel for Service {
    fn retrieval(&mut self, _: RequestId) -> Duration {
        Duration::ZERO
    }

    fn job(&mut self, _: GpuId, _: Work, first: RequestId, _: usize) -> Duration {
        self.of(first.0)
    }

    fn load(&mut self, _: WorkerId, _: GpuId, _: Option<ModelId>, _: ModelId) -> Duration {
        Duration::ZERO
    }

    fn image_encoding(&mut self, _: RequestId) -> Duration {
        Duration::ZERO
    }
}

/// Poisson arrivals that keep `servers` busy for this share of the time.
fn arrivals(seed: u64, servers: u32, utilisation: f64) -> Vec<Time> {
    let rate = utilisation * f64::from(servers) / SERVICE_S;
    let mut draws = stream(seed, Purpose::Arrivals, 0);
    let mut at = 0.0;
    let mut next = || {
        at += exponential(&mut draws) / rate;
        Time::from_seconds(at).unwrap()
    };
    (0..REQUESTS).map(|_| next()).collect()
}

/// Sums the waiting times after the warm-up.
struct Waits<'a> {
    arrivals: &'a [Time],
    total: u128,
}

impl Journal for Waits<'_> {
    fn record(&mut self, time: Time, record: Record<'_>) {
        if let Record::Action(Action::Start { parts, .. }) = record {
            let request = parts[0].request;
            if request.0 >= WARM_UP {
                self.total += u128::from(time.since(self.arrivals[request.row()]).nanoseconds());
            }
        }
    }
}

/// Total wait in nanoseconds as the core has it.
fn simulated(arrivals: &[Time], servers: u32, service: Service) -> u128 {
    let workers = servers as usize;
    let config = Config::paper(1, Hardware::unmeasured(workers, 1), 50);
    let allocation = StaticSplit::new(Allocation::split(workers, workers, ModelId::LARGE));
    let mut core = Scheduler::new(config, System::Vanilla.build(&[], 50), None, Box::new(allocation));
    let mut executor = Simulated::new(without_embeddings(service, vec![GpuId(0); workers]));
    let request = |(row, &arrival)| {
        let request = Request::new(RequestId(row), arrival, TenantId(0));
        (arrival, Event::Arrived(request))
    };
    let mut waits = Waits { arrivals, total: 0 };
    replay(&mut core, &mut executor, &mut Known::new((0..).zip(arrivals).map(request)), &mut waits).unwrap();
    waits.total
}

/// The same by the recursion of Kiefer and Wolfowitz: each request takes the server that is free first.
fn by_recursion(arrivals: &[Time], servers: u32, service: Service) -> u128 {
    let mut free = vec![Time::ZERO; servers as usize];
    let mut total = 0;
    for (row, &arrival) in (0..).zip(arrivals) {
        let first = free.iter_mut().min().unwrap();
        let start = arrival.max(*first);
        *first = start + service.of(row);
        if row >= WARM_UP {
            total += u128::from(start.since(arrival).nanoseconds());
        }
    }
    total
}

/// Mean wait of M/M/c: Erlang C.
fn erlang_c(servers: u32, utilisation: f64) -> f64 {
    let load = utilisation * f64::from(servers);
    // Erlang B by its recursion, then C from B.
    let blocked = (1..=servers).fold(1.0, |b, n| load * b / (f64::from(n) + load * b));
    let waits = blocked / (1.0 - utilisation * (1.0 - blocked));
    waits * SERVICE_S / (f64::from(servers) * (1.0 - utilisation))
}

/// Mean wait of M/D/1: Pollaczek-Khinchine.
fn pollaczek_khinchine(utilisation: f64) -> f64 {
    utilisation * SERVICE_S / (2.0 * (1.0 - utilisation))
}

/// Mean wait of M/D/c: whoever is in service now has left one service time later, so the number in
/// system at t + D is what waited at t beyond the servers plus a Poisson number of arrivals. Its
/// stationary distribution by iteration, the mean queue from that and the wait by Little's law.
fn m_d_c(servers: u32, utilisation: f64) -> f64 {
    const STATES: usize = 150;
    let servers = servers as usize;
    let load = utilisation * servers as f64;
    let mut arrivals = vec![libm::exp(-load)];
    for n in 1..STATES {
        arrivals.push(arrivals[n - 1] * load / n as f64);
    }
    let mut now = vec![0.0; STATES];
    now[0] = 1.0;
    loop {
        let mut next = vec![0.0; STATES];
        for (state, share) in now.iter().enumerate() {
            let left = state.saturating_sub(servers);
            for (after, arrived) in next[left..].iter_mut().zip(&arrivals) {
                *after += share * arrived;
            }
        }
        let change: f64 = now.iter().zip(&next).map(|(a, b): (&f64, &f64)| (a - b).abs()).sum();
        now = next;
        if change < 1e-13 {
            break;
        }
    }
    assert!(now[STATES - 1] < 1e-12, "enough states");
    let queue: f64 = now.iter().enumerate().map(|(state, share)| state.saturating_sub(servers) as f64 * share).sum();
    queue * SERVICE_S / load
}

fn check(name: &str, seed: u64, servers: u32, utilisation: f64, service: Service, theory: f64) {
    let arrivals = arrivals(seed, servers, utilisation);
    let total = simulated(&arrivals, servers, service);
    assert_eq!(total, by_recursion(&arrivals, servers, service), "{name}: seed {seed}");
    let mean = total as f64 / 1e9 / f64::from(REQUESTS - WARM_UP);
    let off = (mean / theory - 1.0).abs();
    println!("{name} at {utilisation}: {mean:.5} s, theory {theory:.5} s, {:.2} % off", off * 100.0);
    assert!(off < TOLERANCE, "{name} at {utilisation}, seed {seed}: mean wait {mean} s, theory {theory} s");
}

#[test]
fn the_numeric_solution_agrees_with_the_closed_form_for_one_server() {
    for utilisation in [0.3, 0.5, 0.7, 0.8] {
        let (solved, closed) = (m_d_c(1, utilisation), pollaczek_khinchine(utilisation));
        assert!((solved / closed - 1.0).abs() < 1e-8, "at {utilisation}: {solved} and {closed}");
    }
}

#[test]
fn erlang_c_agrees_with_its_closed_forms() {
    for utilisation in [0.3, 0.5, 0.8] {
        let one = utilisation / (1.0 - utilisation);
        assert!((erlang_c(1, utilisation) / one - 1.0).abs() < 1e-12);
        let two = utilisation * utilisation / (1.0 - utilisation * utilisation);
        assert!((erlang_c(2, utilisation) / two - 1.0).abs() < 1e-12);
    }
}

#[test]
fn waits_agree_with_m_d_1() {
    check("M/D/1", 1, 1, 0.5, Service::Constant, pollaczek_khinchine(0.5));
    check("M/D/1", 2, 1, 0.8, Service::Constant, pollaczek_khinchine(0.8));
}

#[test]
fn waits_agree_with_m_d_c() {
    check("M/D/4", 3, 4, 0.6, Service::Constant, m_d_c(4, 0.6));
    check("M/D/4", 4, 4, 0.8, Service::Constant, m_d_c(4, 0.8));
    check("M/D/16", 5, 16, 0.85, Service::Constant, m_d_c(16, 0.85));
}

#[test]
fn waits_agree_with_m_m_c() {
    check("M/M/1", 6, 1, 0.5, Service::Exponential(6), erlang_c(1, 0.5));
    check("M/M/4", 7, 4, 0.6, Service::Exponential(7), erlang_c(4, 0.6));
    check("M/M/4", 8, 4, 0.8, Service::Exponential(8), erlang_c(4, 0.8));
}
