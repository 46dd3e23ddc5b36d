//! Bounds on similarity at which a system hits more or less often than it does: one amount added to all of them, found by
//! bisection. Similarities of another encoder or of other users would differ; their effect on an answer is that of the hit
//! rate.

use serde::{Deserialize, Serialize};

/// Points by which the hit rate is moved, as a share.
pub const POINTS: f64 = 0.10;

/// Distance from the wanted hit rate at which the search ends.
const CLOSE: f64 = 0.005;

/// Distance within which the wanted hit rate counts as reached: bounds are few, and many requests may be equally similar.
const REACHED: f64 = 0.01;

/// First amount that is tried; it doubles until the hit rate is beyond what is wanted. Similarities of text and images lie
/// within a few hundredths.
const FIRST: f64 = 0.004;

/// Runs of one search, at most.
const MOST_RUNS: u32 = 16;

/// Amount added to all bounds, and what it did.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shift {
    /// Hit rate as it is.
    pub usual_hit_rate: f64,
    /// Wanted hit rate.
    pub wanted_hit_rate: f64,
    /// Amount added to every bound.
    pub by: f64,
    /// Hit rate with these bounds, at the same rate of arrivals and on the same cluster.
    pub hit_rate: f64,
    /// Whether that is within a point of the wanted one. It cannot be where too many requests are equally similar, as exact
    /// repeats are, or where the cache holds too little.
    pub reached: bool,
}

/// Searches the amount that moves a hit rate of `usual` by `points`, for bounds of which `lowest` is the lowest. `hit_rate` is
/// that of a run with so much added to its bounds. The lowest bound stays from 0 to 1: no similarity lies beyond.
///
/// # Errors
/// The first of `hit_rate`.
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
    // Amounts between which the wanted hit rate lies; the further one is not known until one is beyond it.
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

    /// A hit rate that falls evenly from 1 at 0.2 to 0 at 0.3, and runs that it took.
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
