//! Similarity bounds at which a system would hit more or less often. A bisection finds one amount to add to all bounds.
//! Another encoder or other users would give other similarities, which affect an answer as another hit rate does.

use serde::{Deserialize, Serialize};

/// Change of the hit rate, as a share: ten points.
pub const POINTS: f64 = 0.10;

/// Distance from the wanted hit rate at which the search ends.
const CLOSE: f64 = 0.005;

/// Distance within which the wanted hit rate counts as reached. It is larger than the distance at which the search
/// ends, because bounds are few and many requests may be equally similar.
const REACHED: f64 = 0.01;

/// First amount that is tried. The amount doubles until the hit rate is beyond the wanted one. The first is small,
/// because similarities of text and images lie within a few hundredths.
const FIRST: f64 = 0.004;

/// Largest number of runs of one search.
const MOST_RUNS: u32 = 16;

/// Amount that is added to all bounds, and the hit rate that it gives.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shift {
    /// Hit rate without the shift.
    pub usual_hit_rate: f64,
    /// Wanted hit rate.
    pub wanted_hit_rate: f64,
    /// Amount that is added to every bound.
    pub by: f64,
    /// Hit rate with these bounds, at the same rate of arrivals and on the same cluster.
    pub hit_rate: f64,
    /// True if this hit rate is within a point of the wanted one. It is false where too many requests are equally
    /// similar, as exact repeats are, or where the cache holds too little.
    pub reached: bool,
}

/// Searches the amount that moves a hit rate of `usual` by `points`, for bounds of which `lowest` is the lowest.
/// `hit_rate` returns the hit rate of a run with an amount added to its bounds. The lowest bound stays between 0 and 1,
/// because no similarity lies beyond.
///
/// # Errors
/// Returns the first error of `hit_rate`.
pub fn shift<E>(
    usual: f64,
    points: f64,
    lowest: f64,
    mut hit_rate: impl FnMut(f64) -> Result<f64, E>,
) -> Result<Shift, E> {
    let wanted = (usual + points).clamp(0.0, 1.0);
    let raises = points < 0.0;
    let most = if raises { (1.0 - lowest).max(0.0) } else { lowest.max(0.0) };
    let mut best = Shift { usual_hit_rate: usual, wanted_hit_rate: wanted, by: 0.0, hit_rate: usual, reached: false };
    // The wanted hit rate lies between these amounts. The far one is not known until an amount is beyond the wanted hit
    // rate.
    let (mut near, mut far) = (0.0, None);
    let mut step = FIRST.min(most);
    for _ in 0..MOST_RUNS {
        if (best.hit_rate - wanted).abs() <= CLOSE || most <= 0.0 {
            break;
        }
        let amount: f64 = far.map_or(step, |far| f64::midpoint(near, far));
        let by = if raises { amount } else { -amount };
        let found = hit_rate(by)?;
        if (found - wanted).abs() < (best.hit_rate - wanted).abs() {
            best = Shift { by, hit_rate: found, ..best };
        }
        let beyond = if raises { found <= wanted } else { found >= wanted };
        if beyond {
            far = Some(amount);
        } else {
            near = amount;
            // Not even the largest amount brings the wanted hit rate.
            if far.is_none() && amount >= most {
                break;
            }
            step = (2.0 * amount).min(most);
        }
    }
    best.reached = (best.hit_rate - wanted).abs() <= REACHED;
    Ok(best)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// Searches the shift of a hit rate that falls evenly from 1 at a bound of 0.2 to 0 at 0.3, but not below `least`.
    /// Returns the shift and the number of runs.
    fn found(usual_bound: f64, points: f64, least: f64) -> (Shift, u32) {
        let rate = |bound: f64| ((0.3 - bound) / 0.1).clamp(least, 1.0);
        let mut runs = 0;
        let found = shift(rate(usual_bound), points, usual_bound, |by| {
            runs += 1;
            Ok::<_, Infallible>(rate(usual_bound + by))
        });
        match found {
            Ok(shift) => (shift, runs),
            Err(never) => match never {},
        }
    }

    #[test]
    fn the_hit_rate_moves_by_what_is_wanted() {
        for usual in [0.215, 0.25, 0.285] {
            for points in [-POINTS, POINTS] {
                let (shift, runs) = found(usual, points, 0.0);
                assert!(shift.reached && (shift.hit_rate - shift.usual_hit_rate - points).abs() <= CLOSE, "{shift:?}");
                assert!((shift.by + points / 10.0).abs() < 0.001 && runs <= 8, "{shift:?} after {runs} runs");
            }
        }
    }

    #[test]
    fn what_cannot_be_reached_says_what_was() {
        // 45 % of the requests are exact repeats.
        let (repeats, runs) = found(0.25, -POINTS, 0.45);
        assert!(!repeats.reached && (repeats.hit_rate - 0.45).abs() < 1e-12 && runs <= MOST_RUNS, "{repeats:?}");
        let (nearly_all, _) = found(0.205, POINTS, 0.0);
        assert!(nearly_all.reached && nearly_all.wanted_hit_rate >= 1.0, "{nearly_all:?}");
        let (none, _) = found(0.35, -POINTS, 0.0);
        assert_eq!((none.by, none.hit_rate, none.reached), (0.0, 0.0, true));
    }
}
