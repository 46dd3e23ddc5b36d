//! Percentiles by linear interpolation between closest ranks, the default of numpy.

use crate::time::Duration;

/// Returns the `q` quantile (0 to 1) in seconds of durations in rising order; `None` if there are no durations.
#[must_use]
pub fn quantile(sorted: &[Duration], q: f64) -> Option<f64> {
    interpolated(sorted, q, Duration::seconds)
}

/// Returns the `q` quantile (0 to 1) of numbers in rising order; `None` if there are no numbers.
#[must_use]
pub fn quantile_of_numbers(sorted: &[f64], q: f64) -> Option<f64> {
    interpolated(sorted, q, |number| number)
}

fn interpolated<T: Copy>(sorted: &[T], q: f64, number: impl Fn(T) -> f64) -> Option<f64> {
    let place = q * (sorted.len().checked_sub(1)? as f64);
    // The cast rounds down, to the lower of the two closest ranks.
    let (below, above) = (number(sorted[place as usize]), number(sorted[libm::ceil(place) as usize]));
    Some(below + (above - below) * (place - libm::floor(place)))
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn interpolates_as_numpy_does() {
        let values: Vec<Duration> = (1..=4).map(|s| Duration::from_nanoseconds(s * 1_000_000_000)).collect();
        assert_eq!(quantile(&values, 0.5), Some(2.5));
        assert_eq!(quantile(&values, 0.9), Some(3.7));
        assert_eq!(quantile(&values, 1.0), Some(4.0));
        assert_eq!(quantile(&values[..1], 0.99), Some(1.0));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
