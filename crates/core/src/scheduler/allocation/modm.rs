//! Global monitor of the paper (arXiv 2503.11972, Algorithm 1, its PID controller, and the choice of the small model by
//! load). It decides once a period, from the rates of the window alone. It considers neither waiting requests nor load
//! times, and its controller has no anti-windup: it serves to reproduce the paper.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::{Allocation, AllocationPolicy, Decided, Demand, LargeTakesHits, Situation, Ticks};
use crate::model::ModelId;
use crate::time::{Duration, Time};

/// Goal of the monitor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Quality of the images: as many large workers as the load allows. Not where the load changes within a period.
    #[default]
    Quality,
    /// Throughput: large workers in proportion to the work that needs them. Not where the cluster has room to spare.
    Throughput,
    /// Small model by load: the large model alone while it carries the load, then the first of the small models that
    /// does. The split is that of mode `quality` with that model. Not with one small model.
    Load,
}

/// Loads at which [`Mode::Load`] changes the small model, as shares of what the cluster carries.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Switching {
    /// Share of what the present model carries above which the next one comes in, above `down`.
    pub up: f64,
    /// Share of what the previous model carries below which that one comes back, above 0.
    pub down: f64,
}

impl Default for Switching {
    /// Returns shares that give the paper's loads on 16 MI210 (section 5): the large model alone up to 10.6 requests a
    /// minute and SDXL up to 22.6, at a hit rate of 0.72 with 0.7 of the steps left. The way back is at three quarters
    /// of these, which is twice as far as chance takes the 66 requests of a period at 22 a minute.
    fn default() -> Self {
        Self { up: 0.8, down: 0.6 }
    }
}

/// Gains of the PID controller.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
struct Rates {
    large: f64,
    small: f64,
}

/// Settings of the monitor.
#[derive(Clone, Debug, PartialEq)]
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
    /// Least number of workers that small models keep while requests hit; less than `workers`, and 0 in the paper.
    /// Rounding leaves a small model that is quick enough no worker, and hits would wait behind every miss.
    pub least_small: usize,
    /// Full generations per minute of one worker on the cluster's first GPU type, by model. Modes other than
    /// [`Mode::Load`] use the first small model alone, which there must be.
    pub rates: Vec<f64>,
    /// Loads at which the small model changes.
    pub switching: Switching,
}

/// Global monitor of the paper.
#[derive(Clone, Debug)]
pub struct ModmAllocation {
    settings: ModmSettings,
    ticks: Ticks,
    /// Model that serves the hits by the last decision: the large one if it is alone.
    serves_hits: ModelId,
    /// Model of the workers that are not large, which the large model alone leaves as it is.
    small: ModelId,
    state: f64,
    integral: f64,
    previous_error: f64,
}

impl ModmAllocation {
    /// Makes a monitor that first decides one period after time zero.
    #[must_use]
    pub fn new(settings: ModmSettings) -> Self {
        let state = settings.initial_large as f64;
        let ticks = Ticks::new(settings.period);
        let is_large_alone = settings.mode == Mode::Load && settings.initial_large == settings.workers;
        let serves_hits = if is_large_alone { ModelId::LARGE } else { FIRST_SMALL };
        Self { settings, ticks, serves_hits, small: FIRST_SMALL, state, integral: 0.0, previous_error: 0.0 }
    }

    /// Chooses the model that serves the hits by load: the best one that carries what comes, with the shares of
    /// [`Switching`] between coming in and going.
    fn choose(&mut self, demand: &Demand) {
        let (rates, Switching { up, down }) = (&self.settings.rates, self.settings.switching);
        let load = |model: usize| demand.rate_per_min() / carried(demand, rates, model, self.settings.workers as f64);
        let mut model = self.serves_hits.index();
        while model + 1 < rates.len() && load(model) > up {
            model += 1;
        }
        while model > 0 && load(model - 1) < down {
            model -= 1;
        }
        self.serves_hits = ModelId(model as u16);
        if model > 0 {
            self.small = self.serves_hits;
        }
    }

    fn allocation(&self, n_large: usize) -> Allocation {
        let split = Allocation::split(self.settings.workers, n_large, self.small);
        let large_takes_hits = match self.settings.mode {
            Mode::Quality | Mode::Load => LargeTakesHits::WithoutMisses,
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

/// First of the small models.
const FIRST_SMALL: ModelId = ModelId(1);

/// Returns the requests per minute that the workers carry if the large model serves the misses and `model` the hits.
fn carried(demand: &Demand, rates: &[f64], model: usize, workers: f64) -> f64 {
    workers / (demand.misses() / rates[0] + demand.hits_by(ModelId(model as u16)) / rates[model])
}

/// Returns the number of large workers of Algorithm 1: enough for the misses, then as many more as leave enough
/// capacity for the hits. Returns also whether the load exceeds the capacity at the number that the misses need.
fn quality(demand: &Demand, small: ModelId, rates: Rates, headroom: f64, workers: f64) -> (f64, bool) {
    let (rate, hit_rate) = (demand.rate_per_min(), demand.hit_rate());
    let misses = (1.0 - hit_rate) * rate * demand.drawn;
    let hits = hit_rate * rate * demand.refined[small.index()];
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
    let misses = demand.misses();
    let hits = demand.hits_by(FIRST_SMALL) * rates.large / rates.small;
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
        if self.settings.mode == Mode::Load {
            self.choose(demand);
        }
        let rates = Rates { large: self.settings.rates[0], small: self.settings.rates[self.serves_hits.index()] };
        let (wanted, overloaded) = match self.settings.mode {
            Mode::Load if self.serves_hits == ModelId::LARGE => {
                let carried = carried(demand, &self.settings.rates, 0, workers);
                (workers, Some(demand.rate_per_min() > carried))
            }
            Mode::Quality | Mode::Load => {
                let (wanted, overloaded) = quality(demand, self.serves_hits, rates, self.settings.headroom, workers);
                (wanted, Some(overloaded))
            }
            Mode::Throughput => (throughput(demand, rates, workers), None),
        };
        // The large model alone serves the hits too.
        let is_alone = self.settings.mode == Mode::Load && self.serves_hits == ModelId::LARGE;
        let least_small = if demand.hits > 0 && !is_alone { self.settings.least_small } else { 0 };
        let most_large = (workers - least_small as f64).max(1.0);
        let wanted = wanted.clamp(1.0, most_large);
        let n_large = if let Some(pid) = self.settings.pid {
            self.control(wanted, pid).min(most_large)
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
    use smallvec::SmallVec;

    use super::*;

    fn settings(mode: Mode, pid: Option<Pid>) -> ModmSettings {
        ModmSettings {
            mode,
            period: Duration::from_nanoseconds(180_000_000_000),
            headroom: 0.9,
            pid,
            workers: 16,
            initial_large: 16,
            least_small: 0,
            rates: [91.5, 16.5, 6.5].map(|seconds| 60.0 / seconds).to_vec(),
            switching: Switching::default(),
        }
    }

    fn demand(requests: u64, hits: u64, refine_fraction: f64) -> Demand {
        let window = Duration::from_nanoseconds(180_000_000_000);
        Demand { window, requests, hits, refined: SmallVec::from_elem(refine_fraction, 3), drawn: 1.0 }
    }

    fn step(policy: &mut ModmAllocation, demand: Option<&Demand>) -> Option<Decided> {
        policy.decide(policy.ticks.next, &Situation { demand: demand.cloned(), ..Situation::default() })
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
    fn a_quick_small_model_keeps_a_worker_if_it_is_to() {
        for (mode, least_small, expected) in
            [(Mode::Throughput, 0, 16), (Mode::Throughput, 1, 15), (Mode::Throughput, 3, 13), (Mode::Quality, 1, 15)]
        {
            let rates = vec![1.0, 100.0];
            let mut policy = ModmAllocation::new(ModmSettings { least_small, rates, ..settings(mode, None) });
            // 0.4 / (0.4 + 0.6 * 0.7 / 100) of 16 = 15.8
            let decided = step(&mut policy, Some(&demand(30, 18, 0.7))).expect("a decision");
            assert_eq!(decided.allocation.counts(2)[0], expected, "{mode:?}, {least_small}");
            let without_hits = step(&mut policy, Some(&demand(30, 0, 0.0))).expect("a decision");
            assert_eq!(without_hits.allocation.counts(2)[0], 16);
        }
    }

    #[test]
    fn the_small_model_follows_the_load_with_hysteresis() {
        let mut policy = ModmAllocation::new(settings(Mode::Load, None));
        assert_eq!(policy.initial().counts(3)[..], [16, 0, 0]);
        // 72 % hits that keep 70 % of their steps: the large model alone carries 13.3 a minute, with SDXL 28.3.
        let mut at = |per_min: u64| {
            let minutes = 25; // long enough for whole numbers of requests and hits
            let window = Duration::from_nanoseconds(minutes * 60_000_000_000);
            let requests = per_min * minutes;
            let demand = Demand { window, ..demand(requests, requests * 18 / 25, 0.7) };
            let decided = step(&mut policy, Some(&demand)).expect("a decision");
            let counts = decided.allocation.counts(3);
            let model = policy.serves_hits.index();
            let large = if model == 0 { 16 } else { decided.wanted_large };
            assert_eq!((counts[0], counts[0] + counts[model.max(1)]), (large, 16), "{per_min} a minute");
            (model, decided.overloaded)
        };
        let rising = [(6, 0), (10, 0), (12, 1), (22, 1), (24, 2), (26, 2)];
        // The way back is at 17 and 8 a minute.
        let falling = [(20, 2), (18, 2), (16, 1), (12, 1), (9, 1), (7, 0), (10, 0)];
        for (per_min, model) in rising.into_iter().chain(falling) {
            assert_eq!(at(per_min), (model, Some(false)), "{per_min} a minute");
        }
        // One decision may pass over a model, in both directions.
        assert_eq!(at(27), (2, Some(false)));
        assert_eq!(at(5), (0, Some(false)));
        assert_eq!(at(60), (2, Some(true)), "more than the last model carries");
    }

    #[test]
    fn workers_that_the_controller_has_not_taken_yet_keep_their_model() {
        let mut policy = ModmAllocation::new(settings(Mode::Load, Some(Pid::default())));
        let busy = step(&mut policy, Some(&demand(75, 54, 0.7))).expect("a decision").allocation.counts(3);
        assert!(busy[2] > 0 && busy[1] == 0, "{busy:?}");
        let calm = step(&mut policy, Some(&demand(15, 11, 0.7))).expect("a decision");
        assert_eq!(calm.wanted_large, 16);
        let counts = calm.allocation.counts(3);
        assert!(counts[0] < 16 && counts[1] == 0, "no loads of another small model on the way: {counts:?}");
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
