//! Noise that a drawing begins with. The noise is a function of seed and request, so that a picture does not depend on
//! the worker that drew it, nor on the pictures drawn before it.

use rand_distr::{Distribution, StandardNormal};

use crate::draw::{Purpose, stream};

/// Purpose of a draw of noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoiseFor {
    /// Noise that a picture is drawn from, or that is mixed into its source.
    Drawing,
    /// Noise of the sample from the distribution that the autoencoder gives for a source.
    Source,
}

/// Source of standard normal numbers.
pub trait Noise: Send {
    /// Returns `count` numbers, always the same for the same purpose.
    fn draw(&self, what: NoiseFor, count: usize) -> Vec<f32>;
}

/// Noise of a request under a seed.
#[derive(Clone, Copy, Debug)]
pub struct SeededNoise {
    /// Seed of the scenario.
    pub seed: u64,
    /// Row of the request.
    pub row: u64,
}

impl Noise for SeededNoise {
    fn draw(&self, what: NoiseFor, count: usize) -> Vec<f32> {
        let purpose = match what {
            NoiseFor::Drawing => Purpose::Noise,
            NoiseFor::Source => Purpose::SourceNoise,
        };
        let mut draws = stream(self.seed, purpose, self.row);
        (0..count).map(|_| StandardNormal.sample(&mut draws)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_normal_and_of_its_request_alone() {
        let noise = SeededNoise { seed: 7, row: 3 };
        let drawn = noise.draw(NoiseFor::Drawing, 40_000);
        let mean = drawn.iter().sum::<f32>() / 40_000.0;
        let variance = drawn.iter().map(|x| x * x).sum::<f32>() / 40_000.0;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03, "mean {mean}, variance {variance}");
        assert_eq!(drawn[..10], noise.draw(NoiseFor::Drawing, 10), "the same again");
        assert_ne!(drawn[..10], noise.draw(NoiseFor::Source, 10));
        assert_ne!(drawn[..10], SeededNoise { seed: 7, row: 4 }.draw(NoiseFor::Drawing, 10));
    }
}
