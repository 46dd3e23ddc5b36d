//! Seeded arrival processes of the requests of a synthetic trace.
//!
//! All transcendental functions are those of `libm`. The continuous distributions of `rand_distr` are not used, because
//! their `ln` and `exp` are the platform's as soon as any other crate enables `num-traits/std`.

use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Complaint, above_zero, within};
use crate::draw::{self, Purpose};
use crate::time::{MAX_INPUT_S, Time};

/// Start of the paper's ramp, which is a sigmoid of slope 1.5 over x from -2 to 6.
const RAMP_FROM: f64 = -2.0;
const RAMP_TO: f64 = 6.0;
const RAMP_SLOPE: f64 = 1.5;

/// Arrival process of requests. Rates are in requests a minute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "process", rename_all = "snake_case", deny_unknown_fields)]
pub enum Arrivals {
    /// Independent exponential gaps.
    Poisson {
        /// Mean rate.
        #[serde(default = "defaults::rate")]
        rate_per_min: f64,
    },
    /// Independent gamma gaps. Arrivals are burstier than Poisson for a coefficient of variation above 1, and more even
    /// below 1.
    Gamma {
        /// Mean rate.
        #[serde(default = "defaults::rate")]
        rate_per_min: f64,
        /// Coefficient of variation of the gaps; 1 is Poisson.
        #[serde(default = "defaults::cv")]
        cv: f64,
    },
    /// Poisson process whose rate switches between calm spells and bursts (Markov-modulated).
    Bursts {
        /// Rate during a calm spell; may be 0.
        #[serde(default = "defaults::calm_rate")]
        calm_rate_per_min: f64,
        /// Rate during a burst.
        #[serde(default = "defaults::burst_rate")]
        burst_rate_per_min: f64,
        /// Mean length of a calm spell, seconds. Lengths are exponential.
        #[serde(default = "defaults::mean_calm")]
        mean_calm_s: f64,
        /// Mean length of a burst, seconds. Lengths are exponential.
        #[serde(default = "defaults::mean_burst")]
        mean_burst_s: f64,
    },
    /// Poisson process with rate `rate (1 + amplitude sin(2 pi t / period))`.
    Diurnal {
        /// Mean rate.
        #[serde(default = "defaults::rate")]
        rate_per_min: f64,
        /// Swing of the rate relative to the mean rate, 0 to 1.
        #[serde(default = "defaults::amplitude")]
        amplitude: f64,
        /// Length of a cycle, seconds.
        #[serde(default = "defaults::period")]
        period_s: f64,
    },
    /// Rising rate of the paper: the gap after request i is 1 / rate(i), with
    /// `rate(i) = min + (max - min) sigmoid(1.5 x)`, x from -2 to 6 over the trace. Nothing is random.
    Sigmoid {
        /// Rate `min` from which the ramp rises. At the first request, the rate is already 4.7 % of the way up.
        #[serde(default = "defaults::min_rate")]
        min_rate_per_min: f64,
        /// Rate `max` up to which the ramp rises.
        #[serde(default = "defaults::max_rate")]
        max_rate_per_min: f64,
    },
    /// Even gaps, with the first request at time zero. Nothing is random.
    Constant {
        /// Rate of all arrivals.
        #[serde(default = "defaults::rate")]
        rate_per_min: f64,
    },
    /// Poisson process whose rate changes at given times. The last rate holds to the end of the trace.
    Steps {
        /// Rows `[until_s, rate_per_min]` with rising times in seconds. A rate of 0 is a pause.
        steps: Vec<(f64, f64)>,
        /// True if gaps are even instead of random.
        #[serde(default, skip_serializing_if = "is_random")]
        #[schemars(!skip_serializing_if)]
        even: bool,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_random(even: &bool) -> bool {
    !*even
}

/// Default values that serde takes as functions.
mod defaults {
    pub(super) const fn rate() -> f64 {
        20.0
    }
    pub(super) const fn cv() -> f64 {
        2.0
    }
    pub(super) const fn calm_rate() -> f64 {
        10.0
    }
    pub(super) const fn burst_rate() -> f64 {
        60.0
    }
    pub(super) const fn mean_calm() -> f64 {
        600.0
    }
    pub(super) const fn mean_burst() -> f64 {
        120.0
    }
    pub(super) const fn amplitude() -> f64 {
        0.5
    }
    pub(super) const fn period() -> f64 {
        86_400.0
    }
    pub(super) const fn min_rate() -> f64 {
        6.0
    }
    pub(super) const fn max_rate() -> f64 {
        26.0
    }
}

impl Default for Arrivals {
    fn default() -> Self {
        Self::Poisson { rate_per_min: defaults::rate() }
    }
}

impl Arrivals {
    /// Returns the first value that cannot be used.
    pub(super) fn complaint(&self) -> Option<Complaint> {
        match self {
            Self::Poisson { rate_per_min } | Self::Constant { rate_per_min } => rate("rate_per_min", *rate_per_min),
            Self::Gamma { rate_per_min, cv } => rate("rate_per_min", *rate_per_min).or_else(|| {
                within(
                    "cv",
                    *cv,
                    0.01..=20.0,
                    "expected a coefficient of variation from 0.01 to 20 (for 0 use constant)",
                )
            }),
            Self::Bursts { calm_rate_per_min, burst_rate_per_min, mean_calm_s, mean_burst_s } => {
                rate_or_zero("calm_rate_per_min", *calm_rate_per_min)
                    .or_else(|| rate("burst_rate_per_min", *burst_rate_per_min))
                    .or_else(|| spell("mean_calm_s", *mean_calm_s))
                    .or_else(|| spell("mean_burst_s", *mean_burst_s))
            }
            Self::Diurnal { rate_per_min, amplitude, period_s } => rate("rate_per_min", *rate_per_min)
                .or_else(|| within("amplitude", *amplitude, 0.0..=1.0, "expected a share of the mean rate from 0 to 1"))
                .or_else(|| seconds("period_s", *period_s)),
            Self::Sigmoid { min_rate_per_min, max_rate_per_min } => {
                rate("min_rate_per_min", *min_rate_per_min).or_else(|| rate("max_rate_per_min", *max_rate_per_min))
            }
            Self::Steps { steps, .. } => steps_complaint(steps),
        }
    }

    /// Returns the arrival times, never decreasing, or `None` if the trace would last longer than ten years. Sums are
    /// in f64 seconds, and each time is converted once, so that the roundings to nanoseconds do not add up.
    pub(super) fn times(&self, requests: u32, seed: u64) -> Option<Vec<Time>> {
        let times = self.times_until(requests, seed, MAX_INPUT_S);
        let whole = times.len() == requests as usize;
        if whole { times.into_iter().map(Time::from_seconds).collect() } else { None }
    }

    /// Returns at most `requests` arrival times before `until`, in seconds.
    pub(super) fn times_until(&self, requests: u32, seed: u64, until: f64) -> Vec<f64> {
        let mut generator = draw::stream(seed, Purpose::Arrivals, 0);
        let mut next = self.process(requests);
        let mut now = 0.0;
        let mut times = Vec::new();
        for row in 0..requests {
            now = next(&mut generator, row, now);
            if now > until {
                break;
            }
            times.push(now);
        }
        times
    }

    /// Returns the process with all rates multiplied by `factor`.
    pub(super) fn scaled(&self, factor: f64) -> Self {
        let mut scaled = self.clone();
        match &mut scaled {
            Self::Poisson { rate_per_min }
            | Self::Gamma { rate_per_min, .. }
            | Self::Diurnal { rate_per_min, .. }
            | Self::Constant { rate_per_min } => *rate_per_min *= factor,
            Self::Bursts { calm_rate_per_min: low, burst_rate_per_min: high, .. }
            | Self::Sigmoid { min_rate_per_min: low, max_rate_per_min: high } => {
                *low *= factor;
                *high *= factor;
            }
            Self::Steps { steps, .. } => steps.iter_mut().for_each(|(_, rate_per_min)| *rate_per_min *= factor),
        }
        scaled
    }

    /// Returns the process for a trace with this number of requests.
    fn process(&self, requests: u32) -> Process<'_> {
        match *self {
            Self::Poisson { rate_per_min } => {
                Box::new(move |generator, _, now| now + draw::exponential(generator) * gap_s(rate_per_min))
            }
            Self::Gamma { rate_per_min, cv } => {
                let shape = 1.0 / (cv * cv);
                Box::new(move |generator, _, now| now + gamma(generator, shape) / shape * gap_s(rate_per_min))
            }
            Self::Bursts { calm_rate_per_min, burst_rate_per_min, mean_calm_s, mean_burst_s } => {
                // A burst that ends at zero, so that the trace begins with a calm spell of random length.
                let mut spell = Spell { burst: true, until: 0.0 };
                Box::new(move |generator, _, now| {
                    modulated(
                        generator,
                        now,
                        &mut spell,
                        [calm_rate_per_min, burst_rate_per_min],
                        [mean_calm_s, mean_burst_s],
                    )
                })
            }
            Self::Diurnal { rate_per_min, amplitude, period_s } => Box::new(move |generator, _, mut now| {
                // Thinning: candidates come at the highest rate, and each is kept with probability rate / highest rate.
                loop {
                    now += draw::exponential(generator) * gap_s(rate_per_min * (1.0 + amplitude));
                    let swing = libm::sin(std::f64::consts::TAU * now / period_s);
                    if now > MAX_INPUT_S || draw::uniform(generator) * (1.0 + amplitude) <= 1.0 + amplitude * swing {
                        return now;
                    }
                }
            }),
            Self::Sigmoid { min_rate_per_min, max_rate_per_min } => Box::new(move |_, row, now| match row {
                0 => 0.0,
                _ => now + gap_s(ramp(row - 1, requests, min_rate_per_min, max_rate_per_min)),
            }),
            // The time is row times gap and not a sum of gaps, so that the rate is exact in a trace of any length.
            Self::Constant { rate_per_min } => Box::new(move |_, row, _| f64::from(row) * gap_s(rate_per_min)),
            Self::Steps { ref steps, even } => Box::new(move |generator, _, now| {
                let hazard = if even { 1.0 } else { draw::exponential(generator) };
                stepped(hazard, now, steps)
            }),
        }
    }
}

/// Function from a row and the time of the arrival before it to the arrival time of the row, in seconds.
type Process<'a> = Box<dyn FnMut(&mut ChaCha8Rng, u32, f64) -> f64 + 'a>;

/// Returns the mean time between arrivals, in seconds.
fn gap_s(rate_per_min: f64) -> f64 {
    60.0 / rate_per_min
}

/// Returns the paper's rate after request `row`.
fn ramp(row: u32, requests: u32, min: f64, max: f64) -> f64 {
    let x = RAMP_FROM + (RAMP_TO - RAMP_FROM) * f64::from(row) / f64::from(requests.saturating_sub(1).max(1));
    min + (max - min) / (1.0 + libm::exp(-RAMP_SLOPE * x))
}

/// Calm spell or burst, with its end in seconds.
struct Spell {
    burst: bool,
    until: f64,
}

/// Returns the next arrival of a Markov-modulated Poisson process. A gap that is longer than its spell is drawn anew
/// from the end of the spell. The distribution stays the same, because the exponential distribution has no memory.
fn modulated(generator: &mut ChaCha8Rng, mut now: f64, spell: &mut Spell, rates: [f64; 2], means: [f64; 2]) -> f64 {
    loop {
        let candidate = now + draw::exponential(generator) * gap_s(rates[usize::from(spell.burst)]);
        // At a rate of 0 the candidate is infinite, so a calm spell without requests passes to its end.
        if candidate < spell.until || now > MAX_INPUT_S {
            return candidate;
        }
        now = spell.until;
        spell.burst = !spell.burst;
        spell.until = now + draw::exponential(generator) * means[usize::from(spell.burst)];
    }
}

/// Returns the next arrival under a rate that changes at given times. `hazard` is the integral of the rate up to that
/// arrival.
fn stepped(mut hazard: f64, mut now: f64, steps: &[(f64, f64)]) -> f64 {
    for (index, &(until, rate_per_min)) in steps.iter().enumerate() {
        let last = index + 1 == steps.len();
        if !last && now >= until {
            continue;
        }
        let candidate = now + hazard * gap_s(rate_per_min);
        if last || candidate < until {
            return candidate;
        }
        // A rate of 0 has an infinite gap: a pause uses up nothing of the hazard.
        hazard -= (until - now) / gap_s(rate_per_min);
        now = until;
    }
    now
}

/// Draws from the gamma distribution with scale 1 (Marsaglia and Tsang 2000). A draw with a shape below 1 is a draw
/// with shape + 1 times a power of a uniform draw.
fn gamma(generator: &mut ChaCha8Rng, shape: f64) -> f64 {
    if shape < 1.0 {
        // The order of these two draws is part of the trace's bytes.
        let boost = libm::pow(draw::uniform(generator), 1.0 / shape);
        return gamma(generator, shape + 1.0) * boost;
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / libm::sqrt(9.0 * d);
    loop {
        let x = draw::normal(generator);
        let v = (1.0 + c * x) * (1.0 + c * x) * (1.0 + c * x);
        if v > 0.0 && libm::log(draw::uniform(generator)) < 0.5 * x * x + d - d * v + d * libm::log(v) {
            return d * v;
        }
    }
}

const RATE: &str = "expected requests per minute above 0, at most 1e9";

fn rate(key: &str, value: f64) -> Option<Complaint> {
    above_zero(key, value, 1e9, RATE)
}

fn rate_or_zero(key: &str, value: f64) -> Option<Complaint> {
    within(key, value, 0.0..=1e9, "expected requests per minute from 0 to 1e9")
}

fn seconds(key: &str, value: f64) -> Option<Complaint> {
    above_zero(key, value, MAX_INPUT_S, "expected seconds above 0, at most ten years")
}

/// Checks the mean length of a spell. Spells are drawn one by one, so the least length keeps the number of spells in
/// ten years small enough.
fn spell(key: &str, value: f64) -> Option<Complaint> {
    within(key, value, 1.0..=MAX_INPUT_S, "expected seconds from 1 to ten years")
}

fn steps_complaint(steps: &[(f64, f64)]) -> Option<Complaint> {
    let Some(&(_, last_rate)) = steps.last() else {
        return Some(Complaint::new("steps", "[]", "expected at least one row [until_s, rate_per_min]"));
    };
    let mut before = 0.0;
    for (index, &(until, rate)) in steps.iter().enumerate() {
        let key = format!("steps.{index}");
        if !(until > before && until <= MAX_INPUT_S) {
            return Some(Complaint::new(key, until, "expected until_s in seconds, rising, at most ten years"));
        }
        if let Some(complaint) = rate_or_zero(&key, rate) {
            return Some(complaint);
        }
        before = until;
    }
    (last_rate == 0.0).then(|| Complaint::new("steps", last_rate, "expected a last rate above 0: it holds to the end"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const N: u32 = 100_000;

    fn times(arrivals: &Arrivals) -> Vec<f64> {
        assert!(arrivals.complaint().is_none(), "{arrivals:?}");
        let times = arrivals.times(N, 3).expect("within ten years");
        assert!(times.is_sorted());
        times.iter().map(|time| time.seconds()).collect()
    }

    /// Returns the requests a minute and the coefficient of variation of the gaps.
    fn rate_and_cv(times: &[f64]) -> (f64, f64) {
        let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        (60.0 / mean, variance.sqrt() / mean)
    }

    /// Returns the variance over the mean of the counts of windows, which is 1 for Poisson.
    fn dispersion(times: &[f64], window_s: f64) -> f64 {
        let mut counts = vec![0.0; (times[times.len() - 1] / window_s) as usize];
        for time in times {
            if let Some(count) = counts.get_mut((time / window_s) as usize) {
                *count += 1.0;
            }
        }
        let mean = counts.iter().sum::<f64>() / counts.len() as f64;
        counts.iter().map(|count| (count - mean).powi(2)).sum::<f64>() / counts.len() as f64 / mean
    }

    #[test]
    fn poisson_has_its_rate_cv_one_and_dispersion_one() {
        let times = times(&Arrivals::Poisson { rate_per_min: 20.0 });
        let (rate, cv) = rate_and_cv(&times);
        assert!((rate - 20.0).abs() < 0.2, "rate {rate}");
        assert!((cv - 1.0).abs() < 0.02, "cv {cv}");
        let dispersion = dispersion(&times, 60.0);
        assert!((dispersion - 1.0).abs() < 0.1, "dispersion {dispersion}");
    }

    #[test]
    fn gamma_has_its_rate_and_cv() {
        for wanted in [0.3, 1.0, 2.5] {
            let (rate, cv) = rate_and_cv(&times(&Arrivals::Gamma { rate_per_min: 20.0, cv: wanted }));
            assert!((rate - 20.0).abs() < 0.6, "rate {rate}");
            assert!((cv / wanted - 1.0).abs() < 0.04, "cv {cv} for {wanted}");
        }
    }

    #[test]
    fn bursts_have_the_mixed_rate_and_are_overdispersed() {
        let times = times(&Arrivals::Bursts {
            calm_rate_per_min: 10.0,
            burst_rate_per_min: 60.0,
            mean_calm_s: 600.0,
            mean_burst_s: 120.0,
        });
        let (rate, cv) = rate_and_cv(&times);
        let wanted = (10.0 * 600.0 + 60.0 * 120.0) / 720.0;
        assert!((rate / wanted - 1.0).abs() < 0.05, "rate {rate}, wanted {wanted}");
        assert!(cv > 1.2, "cv {cv}");
        assert!(dispersion(&times, 60.0) > 5.0);
    }

    #[test]
    fn diurnal_rate_swings_as_said() {
        let times = times(&Arrivals::Diurnal { rate_per_min: 20.0, amplitude: 0.8, period_s: 3600.0 });
        let share = |from: f64, to: f64| {
            let inside = times.iter().filter(|time| (from..to).contains(&(*time % 3600.0))).count();
            inside as f64 / times.len() as f64
        };
        // The share of the first half cycle is the integral of 1 + a sin, relative to the cycle: 1/2 + a/pi.
        let expected = 0.5 + 0.8 / std::f64::consts::PI;
        assert!((share(0.0, 1800.0) - expected).abs() < 0.01, "{}", share(0.0, 1800.0));
        assert!((rate_and_cv(&times).0 - 20.0).abs() < 0.5);
    }

    #[test]
    fn sigmoid_ramps_between_the_papers_end_rates() {
        let times = times(&Arrivals::Sigmoid { min_rate_per_min: 6.0, max_rate_per_min: 26.0 });
        let rate = |i: usize| 60.0 / (times[i + 1] - times[i]);
        let sigmoid = |x: f64| 1.0 / (1.0 + libm::exp(-x));
        assert!((rate(0) - (6.0 + 20.0 * sigmoid(-3.0))).abs() < 1e-3, "first {}", rate(0));
        assert!((rate(N as usize - 2) - (6.0 + 20.0 * sigmoid(9.0))).abs() < 1e-3);
        assert!((rate(N as usize / 4) - 16.0).abs() < 0.01, "x is 0 a quarter of the way: {}", rate(N as usize / 4));
    }

    #[test]
    fn constant_is_exact_and_starts_at_zero() {
        let arrivals = Arrivals::Constant { rate_per_min: 40.0 }.times(5, 0).expect("short");
        let seconds: Vec<f64> = arrivals.iter().map(|time| time.seconds()).collect();
        assert_eq!(seconds, [0.0, 1.5, 3.0, 4.5, 6.0]);
    }

    #[test]
    fn steps_have_the_rate_of_each_step() {
        let drawn =
            times(&Arrivals::Steps { steps: vec![(60_000.0, 10.0), (90_000.0, 0.0), (120_000.0, 40.0)], even: false });
        let count = |from: f64, to: f64| drawn.iter().filter(|time| (from..to).contains(*time)).count() as f64;
        assert!((count(0.0, 60_000.0) / 10_000.0 - 1.0).abs() < 0.03);
        assert!(count(60_000.0, 90_000.0) < 0.5);
        assert!((count(90_000.0, 120_000.0) / 20_000.0 - 1.0).abs() < 0.03);
        assert!((count(120_000.0, 150_000.0) / 20_000.0 - 1.0).abs() < 0.03, "the last rate holds");
        let even = times(&Arrivals::Steps { steps: vec![(60.0, 10.0), (120.0, 40.0)], even: true });
        assert!((even[0] - 6.0).abs() < 1e-6 && (even[9] - 60.0).abs() < 1e-6 && (even[10] - 61.5).abs() < 1e-6);
    }

    #[test]
    fn a_trace_of_more_than_ten_years_is_refused() {
        assert!(Arrivals::Constant { rate_per_min: 1e-3 }.times(10_000, 0).is_none());
        let lull = Arrivals::Diurnal { rate_per_min: 1e-6, amplitude: 1.0, period_s: 1e-3 };
        assert!(lull.times(10_000, 0).is_none());
    }

    #[test]
    fn bad_values_are_named() {
        let key = |arrivals: Arrivals| arrivals.complaint().map(|complaint| complaint.key);
        assert_eq!(key(Arrivals::Poisson { rate_per_min: f64::NAN }).as_deref(), Some("rate_per_min"));
        assert_eq!(key(Arrivals::Gamma { rate_per_min: 1.0, cv: 0.0 }).as_deref(), Some("cv"));
        assert_eq!(key(Arrivals::Steps { steps: vec![], even: false }).as_deref(), Some("steps"));
        assert_eq!(
            key(Arrivals::Steps { steps: vec![(2.0, 1.0), (1.0, 1.0)], even: false }).as_deref(),
            Some("steps.1")
        );
        assert_eq!(key(Arrivals::Steps { steps: vec![(2.0, 0.0)], even: false }).as_deref(), Some("steps"));
    }
}
