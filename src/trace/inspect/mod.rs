//! Description of a trace: rate, burstiness, repeats, locality and tenants. The module computes numbers;
//! `modm trace inspect` shows them.

use serde::Serialize;

use crate::embedding::similarity;

use super::{TextColumn, Trace};

mod locality;
mod words;

pub use locality::Locality;

/// Limits of the search for locality, which takes one search for each request.
#[derive(Clone, Copy, Debug)]
pub struct Scope {
    /// Number of requests that are looked at, from the first.
    pub requests: usize,
    /// Number of earlier requests that each request is compared with.
    pub window: usize,
}

/// Description of a trace.
#[derive(Clone, Debug, Serialize)]
pub struct Description {
    /// Number of requests.
    pub requests: usize,
    /// Time from the first to the last arrival, seconds.
    pub span_s: f64,
    /// Mean rate in requests a minute. Absent if all requests arrive at once.
    pub mean_rate_per_min: Option<f64>,
    /// Coefficient of variation of the gaps between arrivals: their standard deviation over their mean.
    pub gap_cv: Option<f64>,
    /// Gaps between arrivals, seconds.
    pub gap_s: Option<Quantiles>,
    /// Minute with the most arrivals, counted from 0, and the number of its arrivals.
    pub peak_minute: (u64, u64),
    /// Number of arrivals in each of equal parts of the time from zero to the last arrival.
    pub arrivals_over_time: Vec<u64>,
    /// Description of the prompts, if the trace has prompts.
    pub prompts: Option<Prompts>,
    /// Description of the tenants, if the trace names tenants.
    pub tenants: Option<Tenants>,
    /// Locality by each measure that the trace has the data for.
    pub locality: Vec<Locality>,
    /// Names of the further columns that the trace carries.
    pub extra_columns: Vec<String>,
    /// Names of the columns that are not used.
    pub ignored_columns: Vec<String>,
}

/// Description of the prompts of a trace.
#[derive(Clone, Debug, Serialize)]
pub struct Prompts {
    /// Number of different prompts.
    pub distinct: usize,
    /// Share of the requests whose exact prompt an earlier request has too.
    pub exact_repeats: f64,
    /// Number of words in a prompt.
    pub words: Quantiles,
}

/// Description of the tenants of a trace.
#[derive(Clone, Debug, Serialize)]
pub struct Tenants {
    /// Number of different tenants.
    pub count: usize,
    /// Name of the tenant with the most requests.
    pub busiest: String,
    /// Share of the requests that belong to this tenant.
    pub busiest_share: f64,
}

/// Quantiles of a distribution, by linear interpolation between closest ranks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quantiles {
    /// Smallest value.
    pub min: f64,
    /// 10th percentile.
    pub p10: f64,
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Largest value.
    pub max: f64,
}

impl Quantiles {
    /// Returns the quantiles of some values, or `None` if there are no values.
    pub(super) fn from_values(mut values: Vec<f64>) -> Option<Self> {
        values.sort_unstable_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        let at = |share: f64| {
            let rank = share * last as f64;
            let (below, above) = (values[rank.floor() as usize], values[rank.ceil() as usize]);
            below + (above - below) * (rank - rank.floor())
        };
        Some(Self { min: at(0.0), p10: at(0.1), p50: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1.0) })
    }
}

/// Describes a trace.
///
/// # Panics
/// Panics if the trace has no requests. A trace that was read has at least one.
#[must_use]
pub fn describe(trace: &Trace, scope: Scope) -> Description {
    let arrivals = trace.arrivals();
    let (first, last) = (arrivals[0], arrivals[arrivals.len() - 1]);
    let span_s = last.since(first).seconds();
    let gaps: Vec<f64> = arrivals.windows(2).map(|pair| pair[1].since(pair[0]).seconds()).collect();
    let columns = trace.columns();
    Description {
        requests: trace.len(),
        span_s,
        mean_rate_per_min: trace.mean_rate_per_min(),
        gap_cv: variation(&gaps),
        gap_s: Quantiles::from_values(gaps),
        peak_minute: peak_minute(trace),
        arrivals_over_time: over_time(trace, 60),
        prompts: columns.prompts.as_ref().map(prompts),
        tenants: columns.tenants.as_ref().map(|_| tenants(trace)),
        locality: localities(trace, scope),
        extra_columns: columns.extra.iter().map(|(name, _)| name.clone()).collect(),
        ignored_columns: columns.ignored.clone(),
    }
}

/// Returns the standard deviation over the mean, or `None` if the mean is not above 0.
fn variation(values: &[f64]) -> Option<f64> {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let variance = values.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / values.len() as f64;
    // Without values the mean is NaN, for which the comparison is false.
    (mean > 0.0).then(|| variance.sqrt() / mean)
}

fn peak_minute(trace: &Trace) -> (u64, u64) {
    let minute = |time: &crate::time::Time| time.nanoseconds() / 60_000_000_000;
    let minutes = trace.arrivals().chunk_by(|a, b| minute(a) == minute(b));
    let counts = minutes.map(|within| (minute(&within[0]), within.len() as u64));
    // Of minutes with equal counts, the earliest is taken.
    counts.fold((0, 0), |best, next| if next.1 > best.1 { next } else { best })
}

fn over_time(trace: &Trace, parts: usize) -> Vec<u64> {
    let arrivals = trace.arrivals();
    let end = arrivals[arrivals.len() - 1].nanoseconds().max(1);
    let mut counts = vec![0; parts];
    for arrival in arrivals {
        // Nanoseconds of ten years times 60 exceed 64 bits. The last arrival is at the end of the last part, which the
        // minimum keeps it in.
        let part = u128::from(arrival.nanoseconds()) * parts as u128 / u128::from(end);
        counts[(part as usize).min(parts - 1)] += 1;
    }
    counts
}

fn prompts(prompts: &TextColumn) -> Prompts {
    let mut rows: Vec<u32> = (0..prompts.len() as u32).collect();
    rows.sort_unstable_by_key(|&row| prompts.get(row as usize));
    let distinct = rows.chunk_by(|&a, &b| prompts.get(a as usize) == prompts.get(b as usize)).count();
    let words = prompts.iter().map(|prompt| prompt.split_whitespace().count() as f64).collect();
    Prompts {
        distinct,
        exact_repeats: (prompts.len() - distinct) as f64 / prompts.len() as f64,
        words: Quantiles::from_values(words).expect("a trace has requests"),
    }
}

fn tenants(trace: &Trace) -> Tenants {
    let names = trace.columns().tenants.as_ref().map_or(&[][..], super::TenantColumn::names);
    let mut counts = vec![0_usize; names.len()];
    for row in 0..trace.len() {
        counts[trace.tenant(row).0 as usize] += 1;
    }
    // `max_by_key` takes the last of equals, so in reverse the tenant that appeared first is taken.
    let busiest = (0..names.len()).rev().max_by_key(|&tenant| counts[tenant]).unwrap_or(0);
    Tenants {
        count: names.len(),
        busiest: names.get(busiest).cloned().unwrap_or_default(),
        busiest_share: counts.get(busiest).copied().unwrap_or(0) as f64 / trace.len() as f64,
    }
}

fn localities(trace: &Trace, scope: Scope) -> Vec<Locality> {
    let mut found = Vec::new();
    let arrivals = &trace.arrivals()[..trace.len().min(scope.requests)];
    if let Some(prompts) = &trace.columns().prompts {
        let mut words = words::Index::new(scope.window);
        let nearest = |row: usize| words.nearest_then_insert(prompts.get(row));
        found.push(Locality::measure("words in common (Jaccard)", 0.5, arrivals, nearest));
    }
    let Some(queries) = trace.prompt_embeddings() else { return found };
    let mut by_cosine = |measure: &'static str, threshold: f64, stored: &crate::embedding::EmbeddingMatrix| {
        let rows: Vec<_> = (0..arrivals.len()).map(|row| stored.embedding(row)).collect();
        let nearest = |row: usize| {
            let query = queries.embedding(row);
            let earlier = row.saturating_sub(scope.window)..row;
            // Of equals the youngest is taken, as the index of words does, so that the ages of both measures compare.
            let each = earlier.map(|other| (similarity(query.as_slice(), rows[other].as_slice()), other));
            each.fold(
                None,
                |best: Option<(f64, usize)>, next| {
                    if best.is_none_or(|best| next.0 >= best.0) { Some(next) } else { best }
                },
            )
        };
        found.push(Locality::measure(measure, threshold, arrivals, nearest));
    };
    by_cosine("cosine of prompts", 0.65, queries);
    if let Some(images) = trace.image_embeddings() {
        by_cosine("cosine of prompt and earlier images", 0.25, images);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Time;
    use crate::trace::{Columns, TenantColumn};

    const SCOPE: Scope = Scope { requests: 1000, window: 10 };

    fn trace(arrivals_s: &[f64], texts: &[&str]) -> Trace {
        let arrivals = arrivals_s.iter().map(|&seconds| Time::from_seconds(seconds).unwrap()).collect();
        let tenants: TenantColumn = texts.iter().map(|text| &text[..1]).collect();
        Trace::new(Columns {
            arrivals,
            prompts: Some(texts.iter().collect()),
            tenants: Some(tenants),
            ..Columns::default()
        })
    }

    #[test]
    fn describes_a_small_trace() {
        let description = describe(&trace(&[0.0, 10.0, 70.0, 80.0], &["a cat", "b dog", "a cat", "a big cat"]), SCOPE);
        assert_eq!((description.requests, description.peak_minute), (4, (0, 2)));
        assert!((description.mean_rate_per_min.unwrap() - 2.25).abs() < 1e-12);
        assert_eq!(description.arrivals_over_time.iter().sum::<u64>(), 4);
        let prompts = description.prompts.unwrap();
        assert_eq!(prompts.distinct, 3);
        assert!((prompts.exact_repeats - 0.25).abs() < 1e-12);
        let tenants = description.tenants.unwrap();
        assert_eq!((tenants.count, tenants.busiest.as_str()), (2, "a"));
        let locality = &description.locality[0];
        assert!((locality.share - 0.5).abs() < 1e-12, "the third and the fourth have a near earlier one: {locality:?}");
        assert!((locality.age_requests.unwrap().max - 2.0).abs() < 1e-12);
    }

    #[test]
    fn one_request_has_no_rate() {
        let description = describe(&trace(&[5.0], &["a"]), SCOPE);
        assert_eq!((description.mean_rate_per_min, description.gap_cv), (None, None));
        assert_eq!(description.gap_s, None);
    }

    #[test]
    fn constant_gaps_do_not_vary() {
        let description = describe(&trace(&[0.0, 2.0, 4.0, 6.0], &["a"; 4]), SCOPE);
        assert!(description.gap_cv.unwrap() < 1e-12);
        assert!((description.mean_rate_per_min.unwrap() - 30.0).abs() < 1e-12);
    }
}
