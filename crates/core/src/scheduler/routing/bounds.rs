//! Decision tables: similarity bounds, each with the steps that it allows to skip. Routing policies use these tables.

use alloc::vec::Vec;

/// Similarity bounds in rising order, each with the number of denoising steps that it allows to skip.
#[derive(Clone, Debug, PartialEq)]
pub struct Bounds {
    /// Similarity bound and skipped steps.
    rows: Vec<(f64, u32)>,
    /// True if a similarity equal to a bound fails the bound.
    strict: bool,
}

impl Bounds {
    /// Makes bounds that a similarity meets at or above the bound.
    #[must_use]
    pub fn at_or_above(rows: &[(f64, u32)]) -> Self {
        Self { rows: rows.to_vec(), strict: false }
    }

    /// Makes bounds that a similarity meets only above the bound.
    #[must_use]
    pub fn above(rows: &[(f64, u32)]) -> Self {
        Self { rows: rows.to_vec(), strict: true }
    }

    /// Returns the skipped steps of the highest bound that the similarity meets; `None` if it meets none.
    #[must_use]
    pub fn skipped(&self, similarity: f64) -> Option<u32> {
        let met = |bound: f64| if self.strict { similarity > bound } else { similarity >= bound };
        self.rows.iter().rev().find(|(bound, _)| met(*bound)).map(|(_, skipped)| *skipped)
    }

    /// Returns the distinct numbers of skipped steps, in rising order.
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
