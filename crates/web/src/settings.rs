//! Settings of the page, as a list of numbers in a fixed order: the page's sliders, and the address that shares a view.

use modm_core::scheduler::allocation::Mode;

use crate::presets::{PRESETS, Preset};
use crate::synthetic::{Arrivals, Prompts};

/// Number of requests whose images are cached before the first request that counts.
pub const WARM: u32 = 2000;

/// Number of requests of the trace, those before the first one that counts included.
pub const REQUESTS: u32 = 5000;

/// Bounds of the paper for 50 steps: similarity, skipped steps.
const BOUNDS: [(f64, u32); 5] = [(0.25, 5), (0.27, 10), (0.28, 15), (0.29, 25), (0.30, 30)];

/// Steps for which [`BOUNDS`] are.
const BOUNDS_STEPS: u32 = 50;

/// Lowest bound that the page offers.
pub const LOWEST_BOUND: f64 = 0.22;

/// Coefficient of variation of the gaps of bursty arrivals.
const BURSTY_CV: f64 = 3.0;

/// Control of the page: its name, and the least and the greatest number.
#[derive(Clone, Copy, Debug)]
pub struct Control {
    /// Name in the address.
    pub name: &'static str,
    /// Least number.
    pub low: f64,
    /// Greatest number.
    pub high: f64,
    /// True if the number is whole.
    pub whole: bool,
}

const fn control(name: &'static str, low: f64, high: f64, whole: bool) -> Control {
    Control { name, low, high, whole }
}

/// Controls of the page, in the order of their numbers.
pub const CONTROLS: [Control; 14] = [
    control("preset", 0.0, PRESETS.len() as f64 - 1.0, true),
    control("rate", 1.0, 400.0, false),
    control("gpus", 2.0, 64.0, true),
    control("large", 1.0, 120.0, false),
    control("small", 0.2, 60.0, false),
    control("load", 0.0, 120.0, false),
    control("cache", 20.0, 5000.0, true),
    control("bounds", -0.03, 0.03, false),
    control("mode", 0.0, 1.0, true),
    control("arrivals", 0.0, 2.0, true),
    control("repeats", 0.0, 0.9, false),
    control("topics", 100.0, 20_000.0, true),
    control("slo", 1.1, 8.0, false),
    control("seed", 0.0, 9999.0, true),
];

/// Settings of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Cluster and models, by their place among the presets: names, steps, scores and powers.
    pub preset: usize,
    /// Arrivals in requests a minute.
    pub rate_per_min: f64,
    /// Number of GPUs.
    pub gpus: u16,
    /// Seconds of a full generation by the large model.
    pub large_s: f64,
    /// Seconds of a full generation by the small model.
    pub small_s: f64,
    /// Seconds to load a model.
    pub load_s: f64,
    /// Capacity of the cache in images.
    pub cache: u32,
    /// Number that is added to the paper's bounds of similarity.
    pub shift: f64,
    /// Aim of the monitor.
    pub mode: Mode,
    /// Spacing of the arrivals.
    pub gaps: Gaps,
    /// Chance that a request inside a session repeats the prompt before it.
    pub repeats: f64,
    /// Number of topics that users choose among.
    pub topics: u32,
    /// Latency within which a request is in time, as a multiple of a full generation by the large model.
    pub slo: f64,
    /// Seed of the trace.
    pub seed: u64,
}

/// Spacing of the arrivals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gaps {
    /// Independent exponential gaps.
    Poisson,
    /// Gamma gaps with a coefficient of variation of 3.
    Bursty,
    /// Equal gaps.
    Even,
}

impl Default for Settings {
    /// Returns the settings of `scenarios/quickstart.toml`.
    fn default() -> Self {
        Self::of_preset(0)
    }
}

impl Settings {
    /// Returns the settings with which a preset begins.
    ///
    /// # Panics
    /// Panics if there is no such preset.
    #[must_use]
    pub fn of_preset(preset: usize) -> Self {
        let own = PRESETS[preset];
        Self {
            preset,
            rate_per_min: own.rate_per_min,
            gpus: own.gpus,
            large_s: own.large.full_s,
            small_s: own.small.full_s,
            load_s: own.load_s,
            cache: 5000,
            shift: 0.0,
            mode: Mode::Quality,
            gaps: Gaps::Poisson,
            repeats: 0.4,
            topics: 2500,
            slo: 2.0,
            seed: 42,
        }
    }

    /// Returns the settings in the order of [`CONTROLS`].
    #[must_use]
    pub fn numbers(&self) -> [f64; CONTROLS.len()] {
        [
            self.preset as f64,
            self.rate_per_min,
            f64::from(self.gpus),
            self.large_s,
            self.small_s,
            self.load_s,
            f64::from(self.cache),
            self.shift,
            f64::from(u8::from(self.mode == Mode::Throughput)),
            f64::from(self.gaps as u8),
            self.repeats,
            f64::from(self.topics),
            self.slo,
            self.seed as f64,
        ]
    }

    /// Reads settings in the order of [`CONTROLS`].
    ///
    /// # Errors
    /// Returns a sentence that names the first number which cannot be used, and what is accepted.
    pub fn from_numbers(numbers: [f64; CONTROLS.len()]) -> Result<Self, String> {
        for (Control { name, low, high, whole }, number) in CONTROLS.iter().zip(numbers) {
            let kind = if *whole { "a whole number" } else { "a number" };
            if !(*low..=*high).contains(&number) || *whole && libm::trunc(number).total_cmp(&number).is_ne() {
                return Err(format!("{name} = {number}: expected {kind} from {low} to {high}"));
            }
        }
        let [
            preset,
            rate_per_min,
            gpus,
            large_s,
            small_s,
            load_s,
            cache,
            shift,
            mode,
            gaps,
            repeats,
            topics,
            slo,
            seed,
        ] = numbers;
        Ok(Self {
            preset: preset as usize,
            rate_per_min,
            gpus: gpus as u16,
            large_s,
            small_s,
            load_s,
            cache: cache as u32,
            shift,
            mode: if mode == 0.0 { Mode::Quality } else { Mode::Throughput },
            gaps: [Gaps::Poisson, Gaps::Bursty, Gaps::Even][gaps as usize],
            repeats,
            topics: topics as u32,
            slo,
            seed: seed as u64,
        })
    }

    /// Returns the preset, whose times the settings may have changed.
    #[must_use]
    pub const fn preset(&self) -> &'static Preset {
        &PRESETS[self.preset]
    }

    /// Returns the bounds in force: similarity, skipped steps. Two bounds that skip equally many are kept.
    #[must_use]
    pub fn bounds(&self) -> Vec<(f64, u32)> {
        let steps = f64::from(self.preset().steps) / f64::from(BOUNDS_STEPS);
        // Rounded to what a file shows, so that the file has the same bounds.
        let bound = |bound: f64| libm::round((bound + self.shift) * 10_000.0) / 10_000.0;
        let skipped = |skipped: u32| libm::round(f64::from(skipped) * steps) as u32;
        BOUNDS.iter().map(|row| (bound(row.0), skipped(row.1))).collect()
    }

    /// Returns the arrivals at another rate, in requests a minute.
    #[must_use]
    pub fn arrivals(&self, rate_per_min: f64) -> Arrivals {
        match self.gaps {
            Gaps::Poisson => Arrivals::Poisson { rate_per_min },
            Gaps::Bursty => Arrivals::Gamma { rate_per_min, cv: BURSTY_CV },
            Gaps::Even => Arrivals::Constant { rate_per_min },
        }
    }

    /// Returns the settings of the prompts: those of `scenarios/quickstart.toml` but for the page's controls.
    #[must_use]
    pub fn prompts(&self) -> Prompts {
        Prompts {
            topics: self.topics,
            topic_exponent: 0.3,
            new_topics_per_1000: 2.0,
            sessions: 100,
            session_requests: 1.4,
            repeats: self.repeats,
            variation: 0.04,
            word_exponent: 0.3,
            own_words: 6,
            ..Prompts::default()
        }
    }

    /// Returns the rate at which every GPU would draw all the time with the large model, in requests a minute. The
    /// search of a capacity begins from it.
    #[must_use]
    pub fn nominal_rate_per_min(&self) -> f64 {
        f64::from(self.gpus) * 60.0 / self.large_s
    }
}
