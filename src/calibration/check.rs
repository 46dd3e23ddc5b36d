//! Check of the bounds on requests that the bounds were not fitted on: the requests that would be hits, and the quality
//! of their images beside the large model's images for the same requests. Intervals are a bootstrap over requests. The
//! bootstrap does not see what requests of one trace have in common beyond that, such as users who come back.

use super::{Grades, Half, mean};
use crate::draw::{Purpose, stream, uniform};

/// Minimum number of held-out hits for a verdict on alpha. A judge that only says right or wrong gives an interval of
/// zero width if all n hits are right, so that a single right hit would say "holds". With n right hits, the share of
/// wrong hits can still be as high as 3 / n at 95 % (the rule of three; Hanley and Lippman-Hand, JAMA 1983): 30 right
/// hits rule out that one in ten is wrong.
pub const LEAST_HITS: usize = 30;

/// Number of resamples of the bootstrap.
pub const DRAWS: usize = 1_000;

/// Hits of one kind compared with the large model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Checked {
    /// Denoising steps that the hits skip; `None` for all hits.
    pub skipped_steps: Option<u32>,
    /// Number of held-out requests that would be such hits.
    pub hits: usize,
    /// Quality of the hits; `None` without hits, or if the large model's quality is 0.
    pub worth: Option<Worth>,
}

/// Quality of hits compared with the large model's quality.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Worth {
    /// Mean quality of the hits.
    pub quality: f64,
    /// Mean quality of the large model's images for the same requests.
    pub large: f64,
    /// Quality of the hits divided by the large model's quality.
    pub ratio: f64,
    /// Ends of the ratio's 95 % interval.
    pub interval: (f64, f64),
}

/// Answer of the held-out requests to the question whether a bound keeps alpha.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Bound that keeps alpha, even at the lower end of the interval.
    Holds,
    /// Bound with an open answer: the interval contains alpha.
    Open,
    /// Bound that does not keep alpha, even at the upper end of the interval.
    Fails,
    /// Bound with fewer than [`LEAST_HITS`] hits.
    TooFew,
}

impl Checked {
    /// Returns the verdict on whether the hits keep the share `alpha` of the large model's quality; `None` if
    /// [`Self::worth`] is `None`.
    #[must_use]
    pub fn verdict(&self, alpha: f64) -> Option<Verdict> {
        let worth = self.worth?;
        Some(match worth.interval {
            _ if self.hits < LEAST_HITS => Verdict::TooFew,
            (low, _) if low >= alpha => Verdict::Holds,
            (_, high) if high < alpha => Verdict::Fails,
            _ => Verdict::Open,
        })
    }
}

impl Verdict {
    /// Returns the verdict's word in the `holds` column.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Holds => "yes",
            Self::Open => "open",
            Self::Fails => "no",
            Self::TooFew => "too few",
        }
    }
}

/// Result of the check on all held-out requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// Number of held-out requests.
    pub requests: usize,
    /// Mean quality over all held-out requests: of the large model, and of the small model without skipped steps.
    pub models: [f64; 2],
    /// Hits by bound, in the order of the bounds.
    pub by_bound: Vec<Checked>,
    /// All hits together.
    pub all: Checked,
}

/// Decides for each held-out request as the router does: the most skipped steps whose bound the similarity reaches.
#[must_use]
pub fn check(grades: &Grades, bounds: &[(f64, u32)], seed: u64) -> Check {
    let held_out = || grades.requests.iter().filter(|request| Half::of_row(request.row) == Half::Check);
    let mut hits: Vec<(u32, f64, f64)> = Vec::new();
    for (request, refined) in grades.with_source(Half::Check) {
        // The bounds rise, so the first one from the end that is reached is the highest, as in the router.
        let reached = bounds.iter().rev().find(|(bound, _)| refined.similarity >= *bound);
        let at = reached.and_then(|(_, k)| Some((*k, grades.skips.iter().position(|skip| skip == k)?)));
        hits.extend(at.map(|(k, at)| (k, refined.quality[at], request.large)));
    }
    let of = |skipped_steps: Option<u32>| {
        let chosen = hits.iter().filter(|(k, ..)| skipped_steps.is_none_or(|skipped| skipped == *k));
        let chosen: Vec<(f64, f64)> = chosen.map(|(_, quality, large)| (*quality, *large)).collect();
        Checked { skipped_steps, hits: chosen.len(), worth: worth(&chosen, seed, skipped_steps.unwrap_or(0)) }
    };
    Check {
        requests: held_out().count(),
        models: [mean(held_out().map(|request| request.large)), mean(held_out().map(|request| request.small))],
        by_bound: bounds.iter().map(|(_, k)| of(Some(*k))).collect(),
        all: of(None),
    }
}

/// Compares pairs of qualities (hit, large model); `row` is the random stream of the bootstrap. Returns `None` without
/// pairs, or if the large model's mean quality is 0.
#[must_use]
pub fn worth(pairs: &[(f64, f64)], seed: u64, row: u32) -> Option<Worth> {
    let (quality, large) = (mean(pairs.iter().map(|pair| pair.0)), mean(pairs.iter().map(|pair| pair.1)));
    // The mean of no pairs is 0, so there is at least one pair below this line.
    if large <= 0.0 {
        return None;
    }
    let mut draws = stream(seed, Purpose::Bootstrap, u64::from(row));
    let count = pairs.len();
    let mut ratios: Vec<f64> = (0..DRAWS)
        .map(|_| {
            // A pair is drawn as a whole, since both images are of one prompt. `uniform` may be 1 exactly, hence the
            // minimum.
            let drawn = (0..count).map(|_| pairs[((uniform(&mut draws) * count as f64) as usize).min(count - 1)]);
            let (hits, large) = drawn.fold((0.0, 0.0), |sums, pair| (sums.0 + pair.0, sums.1 + pair.1));
            // A resample in which the large model's quality is 0 has no ratio: it counts as the highest.
            if large > 0.0 { hits / large } else { f64::INFINITY }
        })
        .collect();
    ratios.sort_unstable_by(f64::total_cmp);
    // A fortieth is left out at either end, which leaves 95 %.
    let interval = (ratios[DRAWS / 40], ratios[DRAWS - 1 - DRAWS / 40]);
    Some(Worth { quality, large, ratio: quality / large, interval })
}

#[cfg(test)]
mod tests {
    use super::super::{Graded, Refined};
    use super::*;

    fn request(row: u32, similarity: f64, quality: [f64; 2]) -> Graded {
        let refined = Some(Refined { similarity, quality: quality.to_vec() });
        Graded { row, large: 1.0, small: 0.5, refined }
    }

    #[test]
    fn hits_are_those_of_the_router_and_of_one_half() {
        let requests = vec![
            Graded { row: 0, large: 1.0, small: 0.5, refined: None },
            request(1, 0.95, [0.0, 0.0]), // in the other half
            request(2, 0.7, [0.0, 0.0]),  // below all bounds
            request(4, 0.8, [0.9, 0.0]),
            request(6, 0.89, [1.0, 0.0]),
            request(8, 0.9, [0.0, 0.8]),
        ];
        let grades = Grades { skips: vec![10, 20], requests };
        let check = check(&grades, &[(0.8, 10), (0.9, 20)], 1);
        assert_eq!((check.requests, check.models), (5, [1.0, 0.5]));
        let worth = |at: usize| check.by_bound[at].worth.expect("hits");
        assert_eq!([check.by_bound[0].hits, check.by_bound[1].hits, check.all.hits], [2, 1, 3]);
        assert!((worth(0).ratio - 0.95).abs() < 1e-12 && (worth(1).ratio - 0.8).abs() < 1e-12);
        assert!((check.all.worth.expect("hits").ratio - 0.9).abs() < 1e-12);
        assert_eq!(worth(0).interval, (0.9, 1.0));
        let verdicts = check.by_bound.iter().chain([&check.all]).map(|checked| checked.verdict(0.5));
        assert!(verdicts.into_iter().all(|verdict| verdict == Some(Verdict::TooFew)), "of one, two and three hits");
    }

    #[test]
    fn enough_hits_are_judged_and_fewer_are_not() {
        let judged = |hits: usize, alpha: f64| {
            let worth = worth(&vec![(0.75, 1.0); hits], 1, 0);
            Checked { skipped_steps: None, hits, worth }.verdict(alpha)
        };
        assert_eq!(judged(LEAST_HITS, 0.75), Some(Verdict::Holds));
        assert_eq!(judged(LEAST_HITS, 0.8), Some(Verdict::Fails));
        assert_eq!(judged(LEAST_HITS - 1, 0.75), Some(Verdict::TooFew));
        assert_eq!(judged(0, 0.75), None);
        let mixed: Vec<(f64, f64)> = (0..100).map(|at| (f64::from(at % 10 != 0), 1.0)).collect();
        let worth = worth(&mixed, 1, 0);
        assert_eq!(Checked { skipped_steps: None, hits: 100, worth }.verdict(0.9), Some(Verdict::Open));
    }

    #[test]
    fn an_interval_has_the_width_of_the_mean_s_error() {
        // Half of the hits are right: the standard deviation is 0.5, and the error of the mean over 400 hits is 0.025.
        let requests = (0..400).map(|at| request(2 * at, 1.0, [f64::from(at % 2), 0.0])).collect();
        let grades = Grades { skips: vec![10, 20], requests };
        let worth = check(&grades, &[(0.5, 10)], 1).all.worth.expect("hits");
        assert!((worth.interval.0 - 0.451).abs() < 0.01 && (worth.interval.1 - 0.549).abs() < 0.01, "{worth:?}");
        assert_eq!(check(&grades, &[(0.5, 10)], 1), check(&grades, &[(0.5, 10)], 1));
    }

    #[test]
    fn without_hits_nothing_is_said() {
        let grades = Grades { skips: vec![10, 20], requests: vec![request(2, 0.5, [1.0, 1.0])] };
        let check = check(&grades, &[(0.8, 10)], 1);
        assert_eq!((check.all.hits, check.all.worth), (0, None));
    }
}
