//! How near the nearest earlier request is, and how long ago it was.

use serde::Serialize;

use crate::time::Time;

use super::Quantiles;

/// How near the nearest earlier requests are by one measure.
#[derive(Clone, Debug, Serialize)]
pub struct Locality {
    /// Of what.
    pub measure: &'static str,
    /// An earlier request at or above this is near.
    pub threshold: f64,
    /// How many requests were looked at, from the first.
    pub requests: usize,
    /// Share of them with a near earlier request.
    pub share: f64,
    /// Similarity to the nearest, over requests with any earlier one.
    pub similarity: Option<Quantiles>,
    /// Requests from the nearest to the request, where it is near.
    pub age_requests: Option<Quantiles>,
    /// Seconds from the nearest to the request, where it is near.
    pub age_s: Option<Quantiles>,
    /// Near ones by age: how many are less than 2, 4, 8, ... requests old, each without those before.
    pub by_age: Vec<u64>,
}

impl Locality {
    /// Measures with `nearest`, which is asked for each row in order: similarity and row of the nearest earlier.
    pub(super) fn measure(
        measure: &'static str,
        threshold: f64,
        arrivals: &[Time],
        mut nearest: impl FnMut(usize) -> Option<(f64, usize)>,
    ) -> Self {
        let (mut similarities, mut ages, mut ages_s) = (Vec::new(), Vec::new(), Vec::new());
        let mut by_age = Vec::new();
        for (row, arrival) in arrivals.iter().enumerate() {
            let Some((similarity, earlier)) = nearest(row) else { continue };
            similarities.push(similarity);
            if similarity < threshold {
                continue;
            }
            let age = row - earlier;
            ages.push(age as f64);
            ages_s.push(arrival.since(arrivals[earlier]).seconds());
            let bin = age.ilog2() as usize;
            if by_age.len() <= bin {
                by_age.resize(bin + 1, 0);
            }
            by_age[bin] += 1;
        }
        Self {
            measure,
            threshold,
            requests: arrivals.len(),
            share: ages.len() as f64 / arrivals.len() as f64,
            similarity: Quantiles::of(similarities),
            age_requests: Quantiles::of(ages),
            age_s: Quantiles::of(ages_s),
            by_age,
        }
    }
}
