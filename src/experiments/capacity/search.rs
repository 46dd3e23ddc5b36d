//! Bisection for the highest factor on a trace's rate at which enough requests are in time. It knows nothing of traces
//! and systems: a function makes the run at a factor. The page in the browser (`crates/web`) searches by it too.

use serde::{Deserialize, Serialize};

use crate::metrics::summary::Summary;

/// Ratio of the lowest factor that fails to the highest factor that holds, at which the search ends.
pub const PRECISION: f64 = 1.01;

/// Number of halvings of the largest factor after which no factor is taken to hold.
const MOST_HALVINGS: u32 = 10;

/// Multiples of the capacity that are tried beyond the search, for the curve of attainment, and because a higher factor
/// may hold again.
const BEYOND: [f64; 3] = [0.5, 1.2, 1.6];

/// Factor that was tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Factor on the trace's rate.
    pub factor: f64,
    /// Share of the requests in time; absent if the run was stopped because too many requests were known to be late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attainment: Option<f64>,
    /// True if enough requests were in time.
    pub holds: bool,
}

/// Outcome of one trial.
#[derive(Clone, Debug)]
pub struct Trial {
    /// True if enough requests were in time.
    pub holds: bool,
    /// Share of the requests in time; `None` if the run was stopped.
    pub attainment: Option<f64>,
    /// Measures; `None` if the run was stopped.
    pub summary: Option<Summary>,
}

/// Result of a search.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Highest factor that holds; `None` if no factor holds.
    pub factor: Option<f64>,
    /// Share of the requests in time at this factor.
    pub attainment: Option<f64>,
    /// True if the largest factor that was allowed holds.
    pub no_limit: bool,
    /// Lowest factor that fails and highest factor that holds, if the first is below the second.
    pub not_monotone: Option<(f64, f64)>,
    /// Number of runs that the search took, with those that were stopped.
    pub runs: u32,
    /// Factors that were tried, rising.
    pub points: Vec<Point>,
    /// Measures at the highest factor that holds.
    pub summary: Option<Summary>,
}

/// Search in progress: the factors that were tried, and the measures at the highest factor that holds.
struct Search<F> {
    trial: F,
    points: Vec<Point>,
    best: Option<(f64, Summary)>,
    runs: u32,
}

impl<E, F: FnMut(f64, bool) -> Result<Trial, E>> Search<F> {
    /// Tries a factor, and returns whether it holds. If `whole` is true, the run goes to its end.
    fn attempt(&mut self, factor: f64, whole: bool) -> Result<bool, E> {
        let known = self.points.iter().position(|point| point.factor.total_cmp(&factor).is_eq());
        if let Some(point) = known.map(|at| &self.points[at]).filter(|point| point.attainment.is_some() || !whole) {
            return Ok(point.holds);
        }
        // A run that was stopped says that its factor fails, but not by how much, so a whole run is made beside it.
        let Trial { holds, attainment, summary } = (self.trial)(factor, whole)?;
        self.runs += 1;
        let point = Point { factor, attainment, holds };
        match known {
            Some(at) => self.points[at] = point,
            None => self.points.push(point),
        }
        // The functions below look for the first and the last point of a kind, and rely on rising factors.
        self.points.sort_by(|a, b| a.factor.total_cmp(&b.factor));
        let higher = holds && self.best.as_ref().is_none_or(|(best, _)| factor > *best);
        if let Some(summary) = summary.filter(|_| higher) {
            self.best = Some((factor, summary));
        }
        Ok(holds)
    }

    fn highest_that_holds(&self) -> Option<f64> {
        self.points.iter().rev().find(|point| point.holds).map(|point| point.factor)
    }

    fn lowest_that_fails_above(&self, factor: f64) -> Option<f64> {
        self.points.iter().find(|point| !point.holds && point.factor > factor).map(|point| point.factor)
    }

    /// Narrows down the highest factor that holds, and returns it; `None` if no factor holds.
    fn bisect(&mut self) -> Result<Option<f64>, E> {
        loop {
            let Some(holds) = self.highest_that_holds() else { return Ok(None) };
            let fails = self.lowest_that_fails_above(holds);
            match fails.filter(|fails| fails / holds > PRECISION) {
                // The geometric mean halves the ratio, which is what the precision is stated in.
                Some(fails) => self.attempt((holds * fails).sqrt(), false)?,
                None => return Ok(Some(holds)),
            };
        }
    }
}

/// Searches the highest factor that holds, up to a largest factor. `trial` makes a run at a factor: to the end if its
/// second argument is true, or until the factor is known to fail.
///
/// # Errors
/// Returns the first error of `trial`.
pub fn search<E>(up_to: f64, trial: impl FnMut(f64, bool) -> Result<Trial, E>) -> Result<Found, E> {
    let mut search = Search { trial, points: Vec::new(), best: None, runs: 0 };
    // The search comes from above: a factor that fails ends its run early and costs little.
    let mut factor = up_to;
    for _ in 0..=MOST_HALVINGS {
        if search.attempt(factor, false)? {
            break;
        }
        factor /= 2.0;
    }
    if let Some(found) = search.bisect()? {
        for multiple in BEYOND {
            if found * multiple < up_to {
                search.attempt(found * multiple, true)?;
            }
        }
    }
    // If a multiple above the capacity holds, the search continues from that multiple.
    let factor = search.bisect()?;
    let not_monotone = factor.and_then(|holds| {
        let fails = search.points.iter().find(|point| !point.holds).map(|point| point.factor)?;
        (fails < holds).then_some((fails, holds))
    });
    let at = |factor: f64| search.points.iter().find(|point| point.factor.total_cmp(&factor).is_eq());
    Ok(Found {
        factor,
        attainment: factor.and_then(|factor| at(factor)?.attainment),
        no_limit: factor.is_some_and(|factor| factor.total_cmp(&up_to).is_eq()),
        not_monotone,
        runs: search.runs,
        summary: search.best.map(|(_, summary)| summary),
        points: search.points,
    })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn found(up_to: f64, holds: impl Fn(f64) -> bool) -> Found {
        let trial = |factor: f64, _: bool| {
            Ok::<_, Infallible>(Trial { holds: holds(factor), attainment: Some(1.0), summary: None })
        };
        match search(up_to, trial) {
            Ok(capacity) => capacity,
            Err(never) => match never {},
        }
    }

    #[test]
    fn finds_a_limit_to_one_per_cent_in_a_few_runs() {
        for limit in [0.013, 0.3, 0.999, 1.0, 1.7, 6.4, 9.95] {
            let capacity = found(10.0, |factor| factor <= limit);
            let factor = capacity.factor.expect("something holds");
            assert!(factor <= limit && factor * PRECISION >= limit, "{factor} for {limit}");
            assert!(capacity.runs <= 22, "{} runs for {limit}", capacity.runs);
            assert_eq!((capacity.no_limit, capacity.not_monotone), (false, None));
        }
    }

    #[test]
    fn says_when_there_is_no_limit_or_nothing_holds() {
        let free = found(8.0, |_| true);
        assert_eq!((free.factor, free.no_limit), (Some(8.0), true));
        let none = found(8.0, |_| false);
        assert_eq!((none.factor, none.no_limit), (None, false));
    }

    #[test]
    fn attainment_that_is_not_monotone_is_said() {
        // Half of the factor that the bisection finds lies in the gap.
        let capacity = found(8.0, |factor| factor < 0.6 || (1.6..3.0).contains(&factor));
        let (fails, holds) = capacity.not_monotone.expect("a gap");
        assert!(fails < 1.6 && (2.9..3.0).contains(&holds), "{fails} {holds}");
        assert_eq!(capacity.factor, Some(holds));
    }
}
