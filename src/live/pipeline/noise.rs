//! The noise a drawing begins with: a function of seed and request, so that a picture does not depend on
//! which worker drew it, nor on what was drawn before.

use rand_distr::{Distribution, StandardNormal};

use crate::draw::{Purpose, stream};

/// What a draw of noise is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoiseFor {
    /// The noise that a picture is drawn from, or that is mixed into its source.
    Drawing,
    /// The sample from what the autoencoder says of a source.
    Source,
}

/// Where standard normal numbers come from.
pub trait Noise: Send {
    /// So many of them, always the same for the same purpose.
    fn draw(&self, what: NoiseFor, count: usize) -> Vec<f32>;
}

/// The noise of a request under a seed.
#[derive(Clone, Copy, Debug)]
pub struct SeededNoise {
    /// The scenario's seed.
    pub seed: u64,
    /// The request's row.
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
