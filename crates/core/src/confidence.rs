//! Confidence of a discriminator in the drafts of a light model: scores from a file, or a distribution. A cascade
//! decides by them in `scheduler::routing::cascade`. No picture is looked at here.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::draw::{Purpose, stream, uniform};
use crate::request::RequestId;

/// Confidences in the drafts of all requests, each from 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub enum Confidences {
    /// Score of each request's row. The rows repeat if there are more requests than scores.
    Scores {
        /// Scores in the order of the file.
        by_row: Arc<[f64]>,
        /// Scores in rising order.
        rising: Arc<[f64]>,
    },
    /// Kumaraswamy's distribution: P(confidence < t) = 1 - (1 - t^a)^b (Journal of Hydrology 46, 1980). With a = b = 1,
    /// all values are equally likely.
    Kumaraswamy {
        /// Shape above 0; the larger, the more confident.
        a: f64,
        /// Shape above 0; the larger, the less confident.
        b: f64,
        /// Seed of the draws.
        seed: u64,
    },
}

impl Confidences {
    /// Returns the confidences of these scores, of which there is at least one.
    #[must_use]
    pub fn scores(scores: Vec<f64>) -> Self {
        let mut rising = scores.clone();
        rising.sort_by(f64::total_cmp);
        Self::Scores { by_row: scores.into(), rising: rising.into() }
    }

    /// Returns the confidence in a request's draft.
    #[must_use]
    pub fn confidence(&self, request: RequestId) -> f64 {
        match self {
            Self::Scores { by_row, .. } => by_row[request.row() % by_row.len()],
            Self::Kumaraswamy { a, b, seed } => {
                // The inverse of the distribution at 1 - u. A uniform u and 1 - u are equally likely.
                let drawn = uniform(&mut stream(*seed, Purpose::Confidence, u64::from(request.0)));
                libm::pow(1.0 - libm::pow(drawn, 1.0 / b), 1.0 / a)
            }
        }
    }

    /// Returns the share of drafts with a confidence below a threshold.
    #[must_use]
    pub fn below(&self, threshold: f64) -> f64 {
        match self {
            Self::Scores { rising, .. } => {
                rising.partition_point(|score| *score < threshold) as f64 / rising.len() as f64
            }
            Self::Kumaraswamy { a, b, .. } => 1.0 - libm::pow(1.0 - libm::pow(threshold.clamp(0.0, 1.0), *a), *b),
        }
    }

    /// Returns the highest threshold, at most 1, with no more than this share of drafts below it.
    #[must_use]
    pub fn highest(&self, share: f64) -> f64 {
        // Thresholds end at 1, even if more drafts could be made again.
        if share >= self.below(1.0) {
            return 1.0;
        }
        match self {
            // The first score beyond the allowed number is the threshold: only the allowed scores lie below it.
            Self::Scores { rising, .. } => {
                let near = (share.max(0.0) * rising.len() as f64) as usize;
                // The product may be rounded across a whole number: 0.29 of 100 scores are 28.999999999999996. So the
                // quotient decides, as in `below`.
                let is_allowed = |scores: &usize| *scores as f64 / rising.len() as f64 <= share;
                let allowed = [near + 1, near].into_iter().find(is_allowed).unwrap_or(near.saturating_sub(1));
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
        assert_eq!([0, 1, 6].map(|row| scores.confidence(RequestId(row)).to_bits()), [0.9, 0.2, 0.2].map(f64::to_bits));
        for tenth in 0..=10 {
            let share = f64::from(tenth) / 10.0;
            let highest = scores.highest(share);
            assert!(scores.below(highest) <= share, "{share}");
            let higher = [0.2, 0.5, 0.9, 1.0].into_iter().filter(|score| *score > highest);
            higher.for_each(|score| assert!(scores.below(score) > share, "{share} {score}"));
        }
    }

    #[test]
    fn a_share_of_whole_scores_is_not_rounded_across_one() {
        for count in 1..200_u32 {
            let by_rank = |rank: u32| f64::from(rank) / f64::from(count);
            let scores = Confidences::scores((0..count).map(by_rank).collect());
            for rank in 0..count {
                let share = by_rank(rank);
                assert_eq!(scores.highest(share).to_bits(), by_rank(rank).to_bits(), "{rank} of {count}");
                let less = scores.highest(share.next_down());
                assert_eq!(less.to_bits(), by_rank(rank.saturating_sub(1)).to_bits(), "less than {rank} of {count}");
            }
        }
    }

    #[test]
    fn draws_follow_the_distribution() {
        let drafts = Confidences::Kumaraswamy { a: 4.0, b: 0.7, seed: 3 };
        let draws: Vec<f64> = (0..20_000).map(|row| drafts.confidence(RequestId(row))).collect();
        for share in [0.1, 0.25, 0.5, 0.75, 0.9] {
            let threshold = drafts.highest(share);
            assert!((drafts.below(threshold) - share).abs() < 1e-9);
            let below = draws.iter().filter(|draw| **draw < threshold).count() as f64 / draws.len() as f64;
            assert!((below - share).abs() < 0.012, "{share} {below}");
        }
    }
}
