//! How sure a discriminator is of a light model's drafts: scores from a file, or a distribution. What a cascade does with
//! them is `scheduler::routing::cascade`; nobody here looks at a picture.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::draw::{Purpose, stream, uniform};
use crate::request::RequestId;

/// Confidences in the drafts of all requests, each from 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub enum Confidences {
    /// Of each request its row's, the rows again and again.
    Scores {
        /// In the file's order.
        by_row: Arc<[f64]>,
        /// The same, rising.
        rising: Arc<[f64]>,
    },
    /// Kumaraswamy's distribution: P(confidence < t) = 1 - (1 - t^a)^b (Journal of Hydrology 46, 1980). With a = b = 1 all
    /// are equally likely.
    Kumaraswamy {
        /// Above 0; the larger, the surer.
        a: f64,
        /// Above 0; the larger, the less sure.
        b: f64,
        /// Of the draws.
        seed: u64,
    },
}

impl Confidences {
    /// These scores; there is at least one.
    #[must_use]
    pub fn scores(scores: Vec<f64>) -> Self {
        let mut rising = scores.clone();
        rising.sort_by(f64::total_cmp);
        Self::Scores { by_row: scores.into(), rising: rising.into() }
    }

    /// In a request's draft.
    #[must_use]
    pub fn of(&self, request: RequestId) -> f64 {
        match self {
            Self::Scores { by_row, .. } => by_row[request.row() % by_row.len()],
            Self::Kumaraswamy { a, b, seed } => {
                let drawn = uniform(&mut stream(*seed, Purpose::Confidence, u64::from(request.0)));
                libm::pow(1.0 - libm::pow(drawn, 1.0 / b), 1.0 / a)
            }
        }
    }

    /// The share of drafts in which the confidence is below a threshold.
    #[must_use]
    pub fn below(&self, threshold: f64) -> f64 {
        match self {
            Self::Scores { rising, .. } => {
                rising.partition_point(|score| *score < threshold) as f64 / rising.len() as f64
            }
            Self::Kumaraswamy { a, b, .. } => 1.0 - libm::pow(1.0 - libm::pow(threshold.clamp(0.0, 1.0), *a), *b),
        }
    }

    /// The highest threshold, at most 1, below which no more than this share lies.
    #[must_use]
    pub fn highest(&self, share: f64) -> f64 {
        if share >= self.below(1.0) {
            return 1.0;
        }
        match self {
            // The first score of those that are too many.
            Self::Scores { rising, .. } => {
                let allowed = (share.max(0.0) * rising.len() as f64) as usize;
                rising[allowed.min(rising.len() - 1)]
            }
            Self::Kumaraswamy { a, b, .. } => libm::pow(1.0 - libm::pow(1.0 - share.clamp(0.0, 1.0), 1.0 / b), 1.0 / a),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_threshold_sends_no_more_than_its_share() {
        let scores = Confidences::scores(vec![0.9, 0.2, 0.5, 0.5, 1.0]);
        assert_eq!([0, 1, 6].map(|row| scores.of(RequestId(row)).to_bits()), [0.9, 0.2, 0.2].map(f64::to_bits));
        for tenth in 0..=10 {
            let share = f64::from(tenth) / 10.0;
            let highest = scores.highest(share);
            assert!(scores.below(highest) <= share, "{share}");
            let higher = [0.2, 0.5, 0.9, 1.0].into_iter().filter(|score| *score > highest);
            higher.for_each(|score| assert!(scores.below(score) > share, "{share} {score}"));
        }
    }

    #[test]
    fn draws_follow_the_distribution() {
        let drafts = Confidences::Kumaraswamy { a: 4.0, b: 0.7, seed: 3 };
        let draws: Vec<f64> = (0..20_000).map(|row| drafts.of(RequestId(row))).collect();
        for share in [0.1, 0.25, 0.5, 0.75, 0.9] {
            let threshold = drafts.highest(share);
            assert!((drafts.below(threshold) - share).abs() < 1e-9);
            let below = draws.iter().filter(|draw| **draw < threshold).count() as f64 / draws.len() as f64;
            assert!((below - share).abs() < 0.012, "{share} {below}");
        }
    }
}
