//! Global monitor of the paper (arXiv 2503.11972, Algorithm 1 and its PID controller). It decides once a period, from
//! the rates of the window alone. It considers neither waiting requests nor load times, and its controller has no
//! anti-windup: it serves to reproduce the paper.

use serde::{Deserialize, Serialize};

use super::{Allocation, AllocationPolicy, Decided, Demand, LargeTakesHits, Situation, Ticks};
use crate::model::ModelId;
use crate::time::{Duration, Time};

/// Goal of the monitor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Quality of the images: as many large workers as the load allows.
    #[default]
    Quality,
    /// Throughput: large workers in proportion to the work that needs them.
    Throughput,
}

/// Gains of the PID controller.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pid {
    /// Proportional gain.
    pub kp: f64,
    /// Integral gain.
    pub ki: f64,
    /// Derivative gain.
    pub kd: f64,
    /// Time between two decisions, above 0. The unit is the paper's, minutes: the default of 3 stands for its period of
    /// 180 s. The value does not follow the period of the scenario.
    pub dt: f64,
}

impl Default for Pid {
    /// Returns the paper's gains.
    fn default() -> Self {
        Self { kp: 0.6, ki: 0.05, kd: 0.05, dt: 3.0 }
    }
}

/// Full generations per minute of one worker, on the cluster's first GPU type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Rate with the large model.
    pub large: f64,
    /// Rate with the first small model.
    pub small: f64,
}

/// Settings of the monitor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ModmSettings {
    /// Goal of the monitor.
    pub mode: Mode,
    /// Time between two decisions, above 0.
    pub period: Duration,
    /// Share of the capacity that quality mode plans with.
    pub headroom: f64,
    /// Gains of the controller. With `None`, the number of large workers follows the wanted number at once.
    pub pid: Option<Pid>,
    /// Number of workers of the cluster.
    pub workers: usize,
    /// Number of large workers at time zero, from 1 to `workers`.
    pub initial_large: usize,
    /// Model of the other workers.
    pub small: ModelId,
    /// Throughput of one worker, by model.
    pub rates: Rates,
}

/// Global monitor of the paper.
#[derive(Clone, Debug)]
pub struct ModmAllocation {
    settings: ModmSettings,
    ticks: Ticks,
    state: f64,
    integral: f64,
    previous_error: f64,
}

impl ModmAllocation {
    /// Makes a monitor that first decides one period after time zero.
    #[must_use]
    pub fn new(settings: ModmSettings) -> Self {
        let state = settings.initial_large as f64;
        Self { settings, ticks: Ticks::new(settings.period), state, integral: 0.0, previous_error: 0.0 }
    }

    fn allocation(&self, n_large: usize) -> Allocation {
        let split = Allocation::split(self.settings.workers, n_large, self.settings.small);
        let large_takes_hits = match self.settings.mode {
            Mode::Quality => LargeTakesHits::WithoutMisses,
            Mode::Throughput => LargeTakesHits::WithoutSmall,
        };
        Allocation { large_takes_hits, ..split }
    }

    /// Moves the real-valued number of large workers towards `wanted`, and returns it rounded to whole workers.
    fn control(&mut self, wanted: f64, pid: Pid) -> f64 {
        let workers = self.settings.workers as f64;
        let error = wanted - self.state;
        self.integral += error * pid.dt;
        let derivative = (error - self.previous_error) / pid.dt;
        self.previous_error = error;
        let delta = (pid.kp * error + pid.ki * self.integral + pid.kd * derivative).clamp(-workers, workers);
        self.state = (self.state + delta).clamp(0.0, workers);
        libm::roundeven(self.state).clamp(1.0, workers)
    }
}

/// Returns the number of large workers of Algorithm 1: enough for the misses, then as many more as leave enough
/// capacity for the hits. Returns also whether the load exceeds the capacity at the number that the misses need.
fn quality(demand: &Demand, rates: Rates, headroom: f64, workers: f64) -> (f64, bool) {
    let (rate, hit_rate) = (demand.rate_per_min(), demand.hit_rate());
    let misses = (1.0 - hit_rate) * rate;
    let hits = hit_rate * rate * demand.refine_fraction;
    let carries = |n: f64| headroom * (n * rates.large - misses + (workers - n) * rates.small) >= hits;
    let start = libm::ceil(misses / rates.large).max(1.0);
    let mut n = start.min(workers);
    let overloaded = start > workers || !carries(n);
    while n < workers && headroom * ((n + 1.0) * rates.large - misses + (workers - n - 1.0) * rates.small) >= hits {
        n += 1.0;
    }
    (n, overloaded)
}

/// Returns the number of large workers in proportion to the work of the misses, which only large workers can serve.
fn throughput(demand: &Demand, rates: Rates, workers: f64) -> f64 {
    let hit_rate = demand.hit_rate();
    let misses = 1.0 - hit_rate;
    let hits = hit_rate * demand.refine_fraction * rates.large / rates.small;
    libm::roundeven(misses / (misses + hits) * workers)
}

impl AllocationPolicy for ModmAllocation {
    fn initial(&self) -> Allocation {
        self.allocation(self.settings.initial_large)
    }

    fn next_decision(&self) -> Option<Time> {
        Some(self.ticks.next)
    }

    fn needs_demand(&self) -> bool {
        true
    }

    fn needs_waiting(&self) -> bool {
        false
    }

    fn pass_over(&mut self, now: Time) -> Time {
        self.ticks.pass_over(now)
    }

    fn decide(&mut self, now: Time, situation: &Situation) -> Option<Decided> {
        self.ticks.pass_over(now);
        let demand = situation.demand.as_ref()?;
        let workers = self.settings.workers as f64;
        let (wanted, overloaded) = match self.settings.mode {
            Mode::Quality => {
                let (wanted, overloaded) = quality(demand, self.settings.rates, self.settings.headroom, workers);
                (wanted, Some(overloaded))
            }
            Mode::Throughput => (throughput(demand, self.settings.rates, workers), None),
        };
        let wanted = wanted.clamp(1.0, workers);
        let n_large = if let Some(pid) = self.settings.pid {
            self.control(wanted, pid)
        } else {
            self.state = wanted;
            wanted
        };
        Some(Decided {
            allocation: self.allocation(n_large as usize),
            wanted_large: wanted as u32,
            controller_state: self.state,
            overloaded,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(mode: Mode, pid: Option<Pid>) -> ModmSettings {
        ModmSettings {
            mode,
            period: Duration::from_nanoseconds(180_000_000_000),
            headroom: 0.9,
            pid,
            workers: 16,
            initial_large: 16,
            small: ModelId(1),
            rates: Rates { large: 60.0 / 91.5, small: 60.0 / 16.5 },
        }
    }

    fn demand(requests: u64, hits: u64, refine_fraction: f64) -> Demand {
        Demand { window: Duration::from_nanoseconds(180_000_000_000), requests, hits, refine_fraction }
    }

    fn step(policy: &mut ModmAllocation, demand: Option<&Demand>) -> Option<Decided> {
        policy.decide(policy.ticks.next, &Situation { demand: demand.copied(), ..Situation::default() })
    }

    #[test]
    fn quality_mode_keeps_large_workers_while_the_load_allows() {
        let mut policy = ModmAllocation::new(settings(Mode::Quality, None));
        let calm = step(&mut policy, Some(&demand(30, 20, 0.7))).expect("a decision");
        assert_eq!((calm.wanted_large, calm.overloaded), (16, Some(false)));
        // 20 requests a minute with 70 % hits: the 6 misses need 9.15 large workers, so at least 10. The hits need 9.8
        // a minute; 13 large workers leave 0.9 * (13 * 0.656 - 6 + 3 * 3.636) = 12.1 for them, 14 only 9.4.
        let busy = step(&mut policy, Some(&demand(60, 42, 0.7))).expect("a decision");
        assert_eq!((busy.wanted_large, busy.overloaded), (13, Some(false)));
        let flood = step(&mut policy, Some(&demand(600, 60, 0.7))).expect("a decision");
        assert_eq!((flood.wanted_large, flood.overloaded), (16, Some(true)));
    }

    #[test]
    fn throughput_mode_splits_in_proportion() {
        let mut policy = ModmAllocation::new(settings(Mode::Throughput, None));
        let decided = step(&mut policy, Some(&demand(120, 84, 0.7))).expect("a decision");
        // 0.3 / (0.3 + 0.7 * 0.7 * 16.5 / 91.5) of 16 = 12.36
        assert_eq!(decided.wanted_large, 12);
        assert_eq!(decided.allocation.large_takes_hits, LargeTakesHits::WithoutSmall);
    }

    #[test]
    fn an_empty_window_changes_nothing_but_the_next_tick() {
        let mut policy = ModmAllocation::new(settings(Mode::Quality, Some(Pid::default())));
        assert_eq!(step(&mut policy, None), None);
        assert_eq!(policy.next_decision(), Some(Time::from_nanoseconds(360_000_000_000)));
        assert!((policy.state - 16.0).abs() < f64::EPSILON && policy.integral == 0.0);
    }

    #[test]
    fn a_late_tick_keeps_the_grid() {
        let mut policy = ModmAllocation::new(settings(Mode::Quality, None));
        policy.decide(Time::from_nanoseconds(541_000_000_000), &Situation::default());
        assert_eq!(policy.next_decision(), Some(Time::from_nanoseconds(720_000_000_000)));
    }
}
