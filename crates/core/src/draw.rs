//! Seeded randomness: one independent stream for each (seed, purpose, row), so that no draw depends on the order of
//! events. Not a library of distributions: the module has only those that must be the same on every machine. They use
//! `libm`, since the platform's `ln` and `cos` differ in the last place.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Purpose of a stream. Streams of different purposes are independent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    // The number of a purpose is part of its streams: another number would mean other draws, and other results.
    /// Jitter of a job's service time.
    Jitter = 1,
    /// Gaps between arrivals of a synthetic trace.
    Arrivals = 2,
    /// Prompts of a synthetic trace.
    Prompts = 3,
    /// Order of a shuffled trace.
    Shuffle = 4,
    /// Blocks of a resampled trace.
    Resample = 5,
    /// Item that random eviction takes.
    Eviction = 6,
    /// Random part that the stand-in image model adds to a prompt.
    Picture = 7,
    /// Test workloads.
    Test = 8,
    /// Noise from which a picture is drawn.
    Noise = 9,
    /// Sample from the distribution that an autoencoder gives for a source picture.
    SourceNoise = 10,
    /// Requests of a resampled calibration.
    Bootstrap = 11,
    /// Confidence in a cascade's draft.
    Confidence = 12,
    /// Choice of the hits that are audited.
    Audit = 13,
    /// Random pairs of a prompt and an image on which bounds are checked.
    Pairs = 14,
    /// Order in which misses are examined for images that came too late.
    Misses = 15,
    /// Deviation of a machine's service times from its profile.
    Machine = 16,
}

/// Returns the stream of a purpose and row under a seed. The generator is counter-based, so a stream costs nothing to
/// open.
#[must_use]
pub fn stream(seed: u64, purpose: Purpose, row: u64) -> ChaCha8Rng {
    // Seed and purpose are the key of the cipher, and the row is the number of its stream.
    let mut key = [0_u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&(purpose as u64).to_le_bytes());
    let mut generator = ChaCha8Rng::from_seed(key);
    generator.set_stream(row);
    generator
}

/// Draws uniformly from (0, 1]. The number is never 0, so its logarithm is finite.
pub fn uniform(generator: &mut impl Rng) -> f64 {
    1.0 - generator.random::<f64>()
}

/// Draws from the exponential distribution with mean 1.
pub fn exponential(generator: &mut impl Rng) -> f64 {
    -libm::log(uniform(generator))
}

/// Draws from the standard normal distribution (Box-Muller, one of the pair).
pub fn normal(generator: &mut impl Rng) -> f64 {
    let radius = libm::sqrt(2.0 * exponential(generator));
    radius * libm::cos(core::f64::consts::TAU * uniform(generator))
}

/// Draws from the lognormal distribution with mean 1 and this coefficient of variation. Returns 1 if the coefficient is
/// 0.
pub fn lognormal(generator: &mut impl Rng, cv: f64) -> f64 {
    if cv == 0.0 {
        return 1.0;
    }
    // Of a lognormal with mean 1, the logarithm has variance ln(1 + cv^2) and mean -variance / 2.
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
