//! Bounds from pairs of similarity and quality, by isotonic regression (pool adjacent violators; Ayer et al., 1955):
//! the rising step function with the least squared distance to the pairs. The only assumption is that a more similar
//! source is not worse.

use super::{Grades, Half, mean};

/// Step of a fitted step function.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Similarity at which the step begins.
    pub from: f64,
    /// Fitted quality, up to the next step.
    pub quality: f64,
    /// Number of pairs in the step.
    pub pairs: usize,
}

/// Fit for one number of skipped steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit {
    /// Denoising steps that are skipped (k).
    pub skipped_steps: u32,
    /// Similarity and quality of each pair, in order of similarity.
    pub pairs: Vec<(f64, f64)>,
    /// Fitted quality as a step function of similarity.
    pub steps: Vec<Step>,
    /// Quality to reach: alpha times the large model's mean quality.
    pub target: f64,
    /// Lowest similarity from which on the fitted quality reaches the target, rounded up to four decimals; `None` if
    /// the fitted quality does not reach the target.
    pub bound: Option<f64>,
    /// True if the bound is of use: no larger k has a bound that is as low or lower.
    pub kept: bool,
}

impl Fit {
    /// Returns the number of pairs at or above the bound: the pairs that the bound rests on.
    #[must_use]
    pub fn pairs_above(&self) -> usize {
        self.bound.map_or(0, |bound| self.pairs.iter().filter(|(similarity, _)| *similarity >= bound).count())
    }
}

/// Fits each number of skipped steps on the requests of [`Half::Fit`].
#[must_use]
pub fn fits(grades: &Grades, alpha: f64) -> Vec<Fit> {
    // The large model's mean is over the requests that have a source, so that refinements are compared with images for
    // the same prompts.
    let target = alpha * mean(grades.with_source(Half::Fit).map(|(request, _)| request.large));
    let of = |(at, skipped_steps): (usize, &u32)| {
        let pairs = grades.with_source(Half::Fit).map(|(_, refined)| (refined.similarity, refined.quality[at]));
        let mut pairs: Vec<(f64, f64)> = pairs.collect();
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let steps = isotonic(&pairs);
        let bound = bound(&steps, target);
        Fit { skipped_steps: *skipped_steps, pairs, steps, target, bound, kept: bound.is_some() }
    };
    let mut fits: Vec<Fit> = grades.skips.iter().enumerate().map(of).collect();
    drop_useless(&mut fits);
    fits
}

/// Returns the similarity bounds and skipped steps in the form of a scenario; both rise strictly.
#[must_use]
pub fn bounds(fits: &[Fit]) -> Vec<(f64, u32)> {
    fits.iter().filter(|fit| fit.kept).filter_map(|fit| Some((fit.bound?, fit.skipped_steps))).collect()
}

/// Marks the fits whose bound is of use. The router picks the largest k whose bound is reached, so a k whose bound is
/// not below the bound of every larger k is never used.
fn drop_useless(fits: &mut [Fit]) {
    let mut lowest = f64::INFINITY;
    for fit in fits.iter_mut().rev() {
        fit.kept = fit.bound.is_some_and(|bound| bound < lowest);
        lowest = fit.bound.map_or(lowest, |bound| lowest.min(bound));
    }
}

/// Fits a rising step function to pairs that are in order of similarity. Pairs with the same similarity are one point.
#[must_use]
pub fn isotonic(pairs: &[(f64, f64)]) -> Vec<Step> {
    // A function has one value at one similarity, so equal similarities are pooled before any violation is looked for.
    let mut points: Vec<Step> = Vec::new();
    for &(from, quality) in pairs {
        let point = Step { from, quality, pairs: 1 };
        match points.pop_if(|before| before.from >= from) {
            Some(before) => points.push(pooled(before, point)),
            None => points.push(point),
        }
    }
    let mut steps: Vec<Step> = Vec::new();
    for point in points {
        let mut last = point;
        // Steps of equal quality are pooled too, so that the steps that are left rise strictly.
        while let Some(before) = steps.pop_if(|before| before.quality >= last.quality) {
            last = pooled(before, last);
        }
        steps.push(last);
    }
    steps
}

fn pooled(before: Step, after: Step) -> Step {
    let pairs = before.pairs + after.pairs;
    let sum = before.quality * before.pairs as f64 + after.quality * after.pairs as f64;
    Step { from: before.from, quality: sum / pairs as f64, pairs }
}

/// Returns the similarity at which the first step with the wanted quality begins, rounded up to four decimals.
fn bound(steps: &[Step], target: f64) -> Option<f64> {
    // A large model with a mean quality of 0 leaves no quality to keep, so there is no bound.
    let reached = steps.iter().find(|step| target > 0.0 && step.quality >= target)?;
    // A bound that has four decimals already must stay as it is, but 0.28 * 1e4 is slightly above 2800 in floating
    // point. So the nearest number is taken, and the next one only if that is too low.
    let nearest = (reached.from * 1e4).round();
    let units = if nearest / 1e4 < reached.from { nearest + 1.0 } else { nearest };
    // Rounding in the encoder may leave a similarity slightly above 1.
    Some((units / 1e4).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::super::{Graded, Refined};
    use super::*;
    use crate::draw::{Purpose, stream, uniform};

    fn step(from: f64, quality: f64, pairs: usize) -> Step {
        Step { from, quality, pairs }
    }

    #[test]
    fn falls_are_pooled_as_by_hand() {
        assert_eq!(isotonic(&[]), []);
        let rising = [(0.1, 1.0), (0.2, 2.0), (0.3, 4.0)];
        assert_eq!(isotonic(&rising), [step(0.1, 1.0, 1), step(0.2, 2.0, 1), step(0.3, 4.0, 1)]);
        let fall = [(0.1, 1.0), (0.2, 3.0), (0.3, 2.0), (0.4, 4.0)];
        assert_eq!(isotonic(&fall), [step(0.1, 1.0, 1), step(0.2, 2.5, 2), step(0.4, 4.0, 1)]);
        let backwards = [(0.1, 4.0), (0.2, 3.0), (0.3, 2.0), (0.4, 1.0)];
        assert_eq!(isotonic(&backwards), [step(0.1, 2.5, 4)]);
        // The last fall pools points that were separate steps before: (3 + 5 + 1) / 3 is still above 1.
        let late = [(0.1, 1.0), (0.2, 3.0), (0.3, 5.0), (0.4, 1.0)];
        assert_eq!(isotonic(&late), [step(0.1, 1.0, 1), step(0.2, 3.0, 3)]);
        // Pairs of the same similarity are one point, even if their qualities rise.
        let ties = [(0.1, 1.0), (0.1, 3.0), (0.2, 4.0)];
        assert_eq!(isotonic(&ties), [step(0.1, 2.0, 2), step(0.2, 4.0, 1)]);
        // The same holds after a fall.
        let fallen = [(0.1, 3.0), (0.2, 1.0), (0.2, 5.0), (0.3, 4.0)];
        assert_eq!(isotonic(&fallen), [step(0.1, 3.0, 3), step(0.3, 4.0, 1)]);
    }

    #[test]
    fn bounds_are_rounded_up() {
        let from = |from| bound(&[step(0.1, 0.1, 1), step(from, 1.0, 1)], 0.5);
        assert_eq!(from(0.87651), Some(0.8766));
        assert_eq!(from(0.87659), Some(0.8766));
        assert_eq!(from(0.9), Some(0.9));
        assert_eq!(from(1.000_000_1), Some(1.0));
        assert_eq!(bound(&[step(0.1, 0.1, 1)], 0.5), None);
        assert_eq!(bound(&[step(0.1, 0.0, 1)], 0.0), None);
    }

    /// Makes requests whose qualities follow a function of similarity and k.
    fn made(count: u32, skips: &[u32], law: impl Fn(f64, u32) -> f64) -> Grades {
        let mut draws = stream(3, Purpose::Test, 0);
        let request = |row| {
            let similarity = uniform(&mut draws);
            let quality = skips.iter().map(|k| law(similarity, *k) + 0.05 * (uniform(&mut draws) - 0.5)).collect();
            Graded { row, large: 1.0, small: 0.8, refined: Some(Refined { similarity, quality }) }
        };
        Grades { skips: skips.to_vec(), requests: (0..count).map(request).collect() }
    }

    #[test]
    fn the_bound_of_a_known_law_is_found() {
        // Quality reaches 0.95 at a similarity of 0.5 + k / 100.
        let law = |similarity: f64, k: u32| 0.95 + (similarity - 0.5 - f64::from(k) / 100.0);
        let fits = fits(&made(4_000, &[10, 20, 30], law), 0.95);
        for fit in &fits {
            let (bound, truth) = (fit.bound.expect("a bound"), 0.5 + f64::from(fit.skipped_steps) / 100.0);
            assert!((bound - truth).abs() < 0.02, "k = {}: {bound}, in truth {truth}", fit.skipped_steps);
            assert!(fit.kept && fit.steps.is_sorted_by(|a, b| a.from < b.from && a.quality < b.quality));
        }
        let bounds = bounds(&fits);
        assert!(bounds.len() == 3 && bounds.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1), "{bounds:?}");
    }

    #[test]
    fn a_k_that_a_larger_one_replaces_is_dropped() {
        // The quality is reached from 0.6 on with 20 skipped steps, from 0.8 on with 10, and from 0.9 on with 30.
        let enough = |k| [(10, 0.8), (20, 0.6), (30, 0.9)].iter().find(|(of, _)| *of == k).expect("a law").1;
        let law = |similarity: f64, k: u32| if similarity >= enough(k) { 1.0 } else { 0.5 };
        let fits = fits(&made(2_000, &[10, 20, 30], law), 0.95);
        assert_eq!(fits.iter().map(|fit| fit.kept).collect::<Vec<_>>(), [false, true, true]);
        assert!(fits[0].bound.is_some());
        assert_eq!(bounds(&fits).iter().map(|(_, k)| *k).collect::<Vec<_>>(), [20, 30]);
    }

    #[test]
    fn where_nothing_is_good_enough_there_is_no_bound() {
        let fits = fits(&made(100, &[10, 20], |_, _| 0.5), 0.95);
        assert!(fits.iter().all(|fit| fit.bound.is_none() && !fit.kept && fit.pairs_above() == 0));
        assert_eq!(bounds(&fits), []);
    }
}
