//! Seeded randomness: one independent stream for each (seed, purpose, row), so that no draw depends on
//! the order of events. Not a distribution library: only what must be the same on every machine is
//! here, through `libm`, since the platform's `ln` and `cos` differ in the last place.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a stream is for. Streams of different purposes never meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// The jitter of a job's service time.
    Jitter = 1,
    /// Gaps between arrivals of a synthetic trace.
    Arrivals = 2,
    /// Prompts of a synthetic trace.
    Prompts = 3,
    /// The order of a shuffled trace.
    Shuffle = 4,
    /// Blocks of a resampled trace.
    Resample = 5,
    /// Which item random eviction takes.
    Eviction = 6,
    /// What the stand-in image model adds to a prompt.
    Picture = 7,
    /// Test workloads.
    Test = 8,
    /// The noise that a picture is drawn from.
    Noise = 9,
    /// The sample from what an autoencoder says of a source picture.
    SourceNoise = 10,
    /// Requests of a resampled calibration.
    Bootstrap = 11,
    /// The confidence in a cascade's draft.
    Confidence = 12,
    /// Whether a hit is audited.
    Audit = 13,
    /// Random pairs of a prompt and an image that bounds are checked on.
    Pairs = 14,
    /// Order in which misses are looked at for images that came too late.
    Misses = 15,
    /// Distance of a machine's service times from its profile.
    Machine = 16,
}

/// The stream of a purpose and row under a seed: a counter-based generator, so streams cost nothing to open.
#[must_use]
pub fn stream(seed: u64, purpose: Purpose, row: u64) -> ChaCha8Rng {
    let mut key = [0_u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&(purpose as u64).to_le_bytes());
    let mut generator = ChaCha8Rng::from_seed(key);
    generator.set_stream(row);
    generator
}

/// Uniform in (0, 1]: never 0, so its logarithm is finite.
pub fn uniform(generator: &mut impl Rng) -> f64 {
    1.0 - generator.random::<f64>()
}

/// Exponential with mean 1.
pub fn exponential(generator: &mut impl Rng) -> f64 {
    -libm::log(uniform(generator))
}

/// Standard normal (Box-Muller, one of the pair).
pub fn normal(generator: &mut impl Rng) -> f64 {
    let radius = libm::sqrt(2.0 * exponential(generator));
    radius * libm::cos(core::f64::consts::TAU * uniform(generator))
}

/// Lognormal with mean 1 and this coefficient of variation; 1 when it is 0.
pub fn lognormal(generator: &mut impl Rng, cv: f64) -> f64 {
    if cv == 0.0 {
        return 1.0;
    }
    let variance = libm::log(1.0 + cv * cv);
    libm::exp(libm::sqrt(variance) * normal(generator) - variance / 2.0)
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn streams_repeat_and_differ() {
        let draw = |seed, purpose, row| stream(seed, purpose, row).random::<u64>();
        assert_eq!(draw(1, Purpose::Jitter, 2), draw(1, Purpose::Jitter, 2));
        assert_ne!(draw(1, Purpose::Jitter, 2), draw(2, Purpose::Jitter, 2));
        assert_ne!(draw(1, Purpose::Jitter, 2), draw(1, Purpose::Prompts, 2));
        assert_ne!(draw(1, Purpose::Jitter, 2), draw(1, Purpose::Jitter, 3));
    }

    #[test]
    fn moments_are_right() {
        let mut generator = stream(7, Purpose::Test, 0);
        let n = 200_000;
        let draws: Vec<f64> = (0..n).map(|_| lognormal(&mut generator, 0.5)).collect();
        let mean = draws.iter().sum::<f64>() / f64::from(n);
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / f64::from(n);
        assert!((mean - 1.0).abs() < 0.005, "mean {mean}");
        assert!((variance.sqrt() - 0.5).abs() < 0.01, "deviation {}", variance.sqrt());
        let exponential_mean = (0..n).map(|_| exponential(&mut generator)).sum::<f64>() / f64::from(n);
        assert!((exponential_mean - 1.0).abs() < 0.01, "mean {exponential_mean}");
    }
}
