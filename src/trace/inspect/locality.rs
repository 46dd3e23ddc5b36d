//! Locality of requests: similarity and age of the nearest earlier request.

use serde::Serialize;

use crate::time::Time;

use super::Quantiles;

/// Locality of a trace by one measure of similarity.
#[derive(Clone, Debug, Serialize)]
pub struct Locality {
    /// Name of the measure.
    pub measure: &'static str,
    /// Least similarity at which an earlier request is near.
    pub threshold: f64,
    /// Number of requests that were looked at, from the first.
    pub requests: usize,
    /// Share of these requests that have a near earlier request.
    pub share: f64,
    /// Similarity to the nearest earlier request, over the requests that have one.
    pub similarity: Option<Quantiles>,
    /// Age of the nearest earlier request in requests, where it is near.
    pub age_requests: Option<Quantiles>,
    /// Age of the nearest earlier request in seconds, where it is near.
    pub age_s: Option<Quantiles>,
    /// Number of near earlier requests by age: less than 2, 4, 8, ... requests old, each without those counted before.
    pub by_age: Vec<u64>,
}

impl Locality {
    /// Measures the locality of requests. `nearest` is called for each row in order and returns the similarity and the
    /// row of the nearest earlier request.
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
            // An earlier row is at least one request old, so the logarithm is defined.
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
            similarity: Quantiles::from_values(similarities),
            age_requests: Quantiles::from_values(ages),
            age_s: Quantiles::from_values(ages_s),
            by_age,
        }
    }
}
