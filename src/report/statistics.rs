//! Estimates of a measure over seeds: the mean and its 95 % interval (Student's t).

/// Mean over seeds, with its uncertainty.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Mean of the values.
    pub mean: f64,
    /// Half the width of the mean's 95 % interval; `None` for a single seed.
    pub half_width: Option<f64>,
}

impl Estimate {
    /// Returns the ends of the 95 % interval.
    #[must_use]
    pub fn interval(&self) -> Option<(f64, f64)> {
        self.half_width.map(|half| (self.mean - half, self.mean + half))
    }
}

/// Quantiles of Student's t at 97.5 % for 1 to 30 degrees of freedom.
const T: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// Returns the quantile for a number of degrees of freedom. Beyond the table it uses the next smaller number that it
/// knows: such an interval is slightly too wide, never too narrow.
fn student_t(degrees: usize) -> f64 {
    match degrees {
        0 => f64::INFINITY,
        1..=30 => T[degrees - 1],
        31..40 => 2.042,
        40..60 => 2.021,
        60..120 => 2.000,
        _ => 1.980,
    }
}

/// Estimates the mean and its 95 % interval. Values that are not finite are left out; `None` if no value is left.
#[must_use]
pub fn estimate(values: impl IntoIterator<Item = f64>) -> Option<Estimate> {
    let values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
    if values.is_empty() {
        return None;
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let half_width = (values.len() > 1).then(|| {
        let variance = values.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / (n - 1.0);
        student_t(values.len() - 1) * (variance / n).sqrt()
    });
    Some(Estimate { mean, half_width })
}

/// Minimum number of seeds that can show whether a percentile has a heavy tail.
const FEWEST: usize = 5;

/// Number of seeds from which on a wider spread still gives a reliable interval.
const MANY: usize = 30;

/// Returns whether Student's interval of a tail percentile (p90 and beyond) over seeds is reliable. It is if there are
/// five or more seeds, and the standard deviation is at most a tenth of the mean, or a quarter from 30 seeds on.
/// `scripts/tail_intervals.py` has the coverage by number of seeds: at most 7 of 100 intervals pass this rule and miss
/// the mean, for normal, lognormal and Pareto percentiles alike. Without the rule, 60 of 100 intervals over ten Pareto
/// (1.2) percentiles miss it.
#[must_use]
pub fn tail_is_reliable(values: impl IntoIterator<Item = f64>) -> bool {
    let values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
    let count = values.len();
    if count < FEWEST {
        return false;
    }
    let mean = values.iter().sum::<f64>() / count as f64;
    let variance = values.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / (count - 1) as f64;
    let most = if count < MANY { 0.1 } else { 0.25 };
    variance.sqrt() <= most * mean
}

/// Returns `value / baseline`; `None` if the ratio is not finite.
#[must_use]
pub fn ratio(value: f64, baseline: f64) -> Option<f64> {
    let ratio = value / baseline;
    ratio.is_finite().then_some(ratio)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interval_is_students() {
        let two = estimate([1.0, 3.0]).expect("two values");
        assert!((two.mean - 2.0).abs() < 1e-12);
        assert!((two.half_width.expect("two seeds") - 12.706).abs() < 1e-9);
        assert_eq!(estimate([5.0]), Some(Estimate { mean: 5.0, half_width: None }));
        assert_eq!(estimate([]), None);
        assert_eq!(estimate([f64::NAN]), None);
    }

    #[test]
    fn t_never_grows_with_more_seeds() {
        assert!((1..500).all(|degrees| student_t(degrees + 1) <= student_t(degrees)));
    }

    #[test]
    fn tails_over_few_or_scattered_seeds_are_not_believed() {
        let spread = |count: usize, cv: f64| {
            // Half of the values are one standard deviation above the mean, half are one below.
            let one = |at: usize| 100.0 * if at.is_multiple_of(2) { 1.0 + cv } else { 1.0 - cv };
            tail_is_reliable((0..count).map(one))
        };
        assert!(!spread(4, 0.0) && spread(6, 0.05) && !spread(6, 0.12) && !spread(28, 0.12));
        assert!(spread(40, 0.2) && !spread(40, 0.3));
        assert!(!tail_is_reliable([10.0, 10.1, 9.9, 10.0, f64::NAN]), "four that are finite");
    }

    #[test]
    fn a_ratio_to_nothing_is_none() {
        assert_eq!(ratio(1.0, 0.0), None);
        assert_eq!(ratio(0.0, 0.0), None);
        assert_eq!(ratio(3.0, 2.0), Some(1.5));
    }
}
