//! Decision tables: similarity bounds and the steps each allows to skip. Not a policy.

use alloc::vec::Vec;

/// Bounds in rising order with the steps each allows to skip.
#[derive(Clone, Debug, PartialEq)]
pub struct Bounds {
    rows: Vec<(f64, u32)>,
    /// Whether a similarity equal to a bound fails it.
    strict: bool,
}

impl Bounds {
    /// A similarity meets a bound if it is at or above it.
    #[must_use]
    pub fn at_or_above(rows: &[(f64, u32)]) -> Self {
        Self { rows: rows.to_vec(), strict: false }
    }

    /// A similarity meets a bound only if it is above it.
    #[must_use]
    pub fn above(rows: &[(f64, u32)]) -> Self {
        Self { rows: rows.to_vec(), strict: true }
    }

    /// Steps allowed by the highest bound met, if any is.
    #[must_use]
    pub fn skipped(&self, similarity: f64) -> Option<u32> {
        let met = |bound: f64| if self.strict { similarity > bound } else { similarity >= bound };
        self.rows.iter().rev().find(|(bound, _)| met(*bound)).map(|(_, skipped)| *skipped)
    }

    /// The distinct numbers of skipped steps, rising.
    #[must_use]
    pub fn distinct_steps(&self) -> Vec<u32> {
        let mut steps: Vec<u32> = self.rows.iter().map(|(_, skipped)| *skipped).collect();
        steps.sort_unstable();
        steps.dedup();
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_bound_met_wins() {
        let rows = [(0.25, 5), (0.5, 10)];
        let loose = Bounds::at_or_above(&rows);
        assert_eq!([0.2, 0.25, 0.49, 0.5].map(|s| loose.skipped(s)), [None, Some(5), Some(5), Some(10)]);
        let strict = Bounds::above(&rows);
        assert_eq!([0.25, 0.26, 0.5, 0.51].map(|s| strict.skipped(s)), [None, Some(5), Some(5), Some(10)]);
    }
}
