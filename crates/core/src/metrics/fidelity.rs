//! Distance between a live run and simulations of that run, measure by measure. The functions compare results and run
//! nothing.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use super::beside::{self, Company};
use super::measures::Results;
use super::percentile::quantile_of_numbers;
use super::rows::RequestRow;

/// Unit of a measure, which also says how an error is expressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds; the error is relative.
    Seconds,
    /// Requests a minute; the error is relative.
    PerMinute,
    /// Share from 0 to 1; the error is the difference in points (hundredths).
    Share,
    /// Count of things; the error is the difference.
    Count,
}

impl Unit {
    /// Returns the word for the unit in files.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::PerMinute => "1/min",
            Self::Share => "share",
            Self::Count => "count",
        }
    }

    /// Returns the error of `value` against `truth`.
    #[must_use]
    pub fn error(self, value: f64, truth: f64) -> f64 {
        match self {
            // A relative error needs a truth other than zero. Against zero, values are equal or infinitely far apart.
            Self::Seconds | Self::PerMinute if truth == 0.0 => {
                if value == 0.0 {
                    0.0
                } else {
                    f64::INFINITY
                }
            }
            Self::Seconds | Self::PerMinute => (value - truth) / truth,
            Self::Share => (value - truth) * 100.0,
            Self::Count => value - truth,
        }
    }
}

/// Measure of one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Measure {
    /// Name of the measure.
    pub name: String,
    /// Unit of the measure.
    pub unit: Unit,
    /// Value of the measure.
    pub value: f64,
}

/// Measure of a live run beside the same measure of its simulations.
#[derive(Clone, Debug, PartialEq)]
pub struct Compared {
    /// Name of the measure.
    pub name: String,
    /// Unit of the measure.
    pub unit: Unit,
    /// Value of the live run.
    pub live: f64,
    /// Mean of the values of the simulations.
    pub simulated: f64,
    /// [`Unit::error`] of `simulated` against `live`.
    pub error: f64,
    /// Standard deviation of the error over the simulations, if there are several. It says how much of the error is due
    /// to chance.
    pub spread: Option<f64>,
    /// Change of the error if every service time is a hundredth longer, if that was simulated.
    pub per_percent: Option<f64>,
    /// Predicted 90 % range of the live value, if it was simulated.
    pub range: Option<(f64, f64)>,
}

impl Compared {
    /// Makes the comparison of a measure with one live value and one simulated value.
    #[must_use]
    pub fn new(name: &str, unit: Unit, live: f64, simulated: f64) -> Self {
        let error = unit.error(simulated, live);
        Self { name: name.to_owned(), unit, live, simulated, error, spread: None, per_percent: None, range: None }
    }

    /// Returns whether the live value lies in the predicted range; `None` without a range.
    #[must_use]
    pub fn is_inside(&self) -> Option<bool> {
        let (low, high) = self.range?;
        // A rounding error in the last digit does not put a value outside the range.
        let slack = 1e-9 * self.live.abs();
        Some((low - slack..=high + slack).contains(&self.live))
    }

    /// Returns the width of the predicted range: relative to the live value for seconds and rates, in points for
    /// shares.
    #[must_use]
    pub fn width(&self) -> Option<f64> {
        let (low, high) = self.range?;
        Some(self.unit.error(high, self.live) - self.unit.error(low, self.live))
    }
}

/// Largest relative difference of a request's latencies in two runs at which they count as the same.
pub const CLOSE: f64 = 0.01;
/// Largest difference of a request's latencies in two runs, in seconds, at which they count as the same even if it is
/// above [`CLOSE`].
pub const CLOSE_S: f64 = 0.005;

/// Returns the measures of a run alone, in the order of a report. `models` are the names of the models, best first.
#[must_use]
pub fn measures(results: &Results, models: &[String]) -> Vec<Measure> {
    let summary = &results.summary;
    let mut all = Vec::new();
    let mut add = |name: String, unit, value: Option<f64>| all.extend(value.map(|value| Measure { name, unit, value }));
    add("hit_rate".into(), Unit::Share, summary.hit_rate);
    // Of the requests that were routed and count: the shares add up to the hit rate.
    let hits = summary.hits_by_skipped_steps.values().sum::<u64>().max(1) as f64;
    for (skipped, count) in &summary.hits_by_skipped_steps {
        let share = summary.hit_rate.map(|hit_rate| hit_rate * *count as f64 / hits);
        add(format!("hits_k{skipped}"), Unit::Share, share);
    }
    if let Some(latency) = &summary.latency_s {
        let named = [("mean", latency.mean), ("p50", latency.p50), ("p95", latency.p95), ("p99", latency.p99)];
        for (name, value) in named {
            add(format!("latency_{name}"), Unit::Seconds, Some(value));
        }
    }
    add("throughput".into(), Unit::PerMinute, summary.throughput_per_min);
    for slo in &summary.slo {
        add(format!("slo_{}x", slo.multiple), Unit::Share, Some(slo.attainment));
    }
    add("model_loads".into(), Unit::Count, Some(summary.model_loads as f64));
    let busy: f64 = results.workers.iter().map(|worker| worker.busy.seconds()).sum();
    let held = results.workers.len() as f64 * summary.makespan_s;
    add("busy_share".into(), Unit::Share, (held > 0.0).then(|| busy / held));
    add("service_per_request".into(), Unit::Seconds, summary.serving_gpu_s_per_request);
    for ((model, skipped), mut seconds) in services(&results.requests) {
        seconds.sort_unstable_by(f64::total_cmp);
        let name = &models[model];
        add(format!("service_median {name} k={skipped}"), Unit::Seconds, Some(seconds[seconds.len() / 2]));
        let mean = seconds.iter().sum::<f64>() / seconds.len() as f64;
        add(format!("service_mean {name} k={skipped}"), Unit::Seconds, Some(mean));
    }
    if results.workers.len() > 1 {
        for ((model, skipped, company), seconds) in beside::services(&results.requests, results.workers.len()) {
            let company = match company {
                Company::Idle => "alone".to_owned(),
                Company::Drawing(other) => format!("beside {}", models[other]),
            };
            let mean = seconds.iter().sum::<f64>() / seconds.len() as f64;
            let name = format!("service_mean {} k={skipped} {company}", models[model]);
            add(name, Unit::Seconds, (seconds.len() >= FEWEST_JOBS).then_some(mean));
        }
    }
    all
}

/// Smallest number of jobs of a kind and company for which a run has a mean.
const FEWEST_JOBS: usize = 20;

/// Returns the seconds of the last job of each completed request, by index of the model and skipped steps.
fn services(rows: &[RequestRow]) -> BTreeMap<(usize, u32), Vec<f64>> {
    let mut found: BTreeMap<(usize, u32), Vec<f64>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.completed()) {
        if let (Some(run), Some(decision)) = (row.run, row.decision) {
            let seconds = row.finish.since(run.start).seconds();
            found.entry((run.model.index(), decision.skipped_steps)).or_default().push(seconds);
        }
    }
    found
}

/// Returns the ratio of the live run's service seconds to the seconds that the same jobs take by the simulated means
/// for their model and skipped steps; 1 if no jobs can be compared.
#[must_use]
pub fn service_ratio(live: &Results, simulated: &[Results]) -> f64 {
    let mut theirs: BTreeMap<(usize, u32), (f64, usize)> = BTreeMap::new();
    for (kind, seconds) in simulated.iter().flat_map(|results| services(&results.requests)) {
        let (sum, count) = theirs.entry(kind).or_default();
        *sum += seconds.iter().sum::<f64>();
        *count += seconds.len();
    }
    let (mut own_s, mut their_s) = (0.0, 0.0);
    for (kind, seconds) in services(&live.requests) {
        if let Some((sum, count)) = theirs.get(&kind) {
            own_s += seconds.iter().sum::<f64>();
            their_s += sum / *count as f64 * seconds.len() as f64;
        }
    }
    if their_s > 0.0 { own_s / their_s } else { 1.0 }
}

/// Returns the shares of requests, and of the monitor's decisions, on which two runs of the same requests agree.
#[must_use]
pub fn agreement(live: &Results, simulated: &Results) -> Vec<Measure> {
    let pairs: Vec<(&RequestRow, &RequestRow)> = live.requests.iter().zip(&simulated.requests).collect();
    let share = |same: &dyn Fn(&RequestRow, &RequestRow) -> bool| {
        pairs.iter().filter(|(a, b)| same(a, b)).count() as f64 / pairs.len().max(1) as f64
    };
    let kind = |row: &RequestRow| row.decision.map(|decision| (decision.kind, decision.skipped_steps));
    let source = |row: &RequestRow| row.decision.map(|decision| decision.source);
    let mut all = vec![
        ("same_decision", share(&|a, b| kind(a) == kind(b))),
        ("same_source", share(&|a, b| kind(a) == kind(b) && source(a) == source(b))),
        ("same_worker", share(&|a, b| a.run.map(|run| run.worker) == b.run.map(|run| run.worker))),
        ("same_latency", share(&alike)),
    ];
    if !live.ticks.is_empty() {
        let same = live.ticks.iter().zip(&simulated.ticks).filter(|(a, b)| a.tick.targets == b.tick.targets).count();
        // A decision that only one of the runs took is one on which they do not agree.
        let ticks = live.ticks.len().max(simulated.ticks.len());
        all.push(("same_allocation", same as f64 / ticks as f64));
    }
    all.into_iter().map(|(name, value)| Measure { name: name.to_owned(), unit: Unit::Share, value }).collect()
}

fn latency_s(row: &RequestRow) -> f64 {
    row.finish.since(row.arrival).seconds()
}

/// Returns whether a request took equally long in both runs, up to [`CLOSE`] or [`CLOSE_S`].
fn alike(a: &RequestRow, b: &RequestRow) -> bool {
    let (a_s, b_s) = (latency_s(a), latency_s(b));
    (a_s - b_s).abs() <= CLOSE_S.max(CLOSE * a_s)
}

/// Returns the largest difference between the latencies of a request in the two runs, in seconds.
#[must_use]
pub fn greatest_difference_s(live: &Results, simulated: &Results) -> f64 {
    let pairs = live.requests.iter().zip(&simulated.requests);
    pairs.map(|(a, b)| (latency_s(a) - latency_s(b)).abs()).fold(0.0, f64::max)
}

/// Compares a live run with simulations of that run. The measures are in the order of the live run; a measure that any
/// of the simulations lacks is left out.
#[must_use]
pub fn compare(live: &Results, simulated: &[Results], models: &[String]) -> Vec<Compared> {
    // The live run agrees with itself, so that the shares of agreement have a live value of 1.
    let own = measures(live, models).into_iter().chain(agreement(live, live));
    let theirs: Vec<BTreeMap<String, f64>> = simulated
        .iter()
        .map(|results| {
            let all = measures(results, models).into_iter().chain(agreement(live, results));
            all.map(|measure| (measure.name, measure.value)).collect()
        })
        .collect();
    own.filter_map(|measure| {
        let values: Vec<f64> = theirs.iter().filter_map(|run| run.get(&measure.name).copied()).collect();
        // A mean over some of the simulations would be taken for the mean over all.
        (!values.is_empty() && values.len() == theirs.len()).then(|| compared(measure, &values))
    })
    .collect()
}

fn compared(measure: Measure, values: &[f64]) -> Compared {
    let Measure { name, unit, value: live } = measure;
    let n = values.len() as f64;
    let simulated = values.iter().sum::<f64>() / n;
    let errors = values.iter().map(|value| unit.error(*value, live));
    let mean = Compared::new(&name, unit, live, simulated);
    let spread = (values.len() > 1).then(|| {
        let squares: f64 = errors.map(|own| (own - mean.error) * (own - mean.error)).sum();
        libm::sqrt(squares / (n - 1.0))
    });
    Compared { spread, ..mean }
}

/// Sets the predicted 90 % range of each measure. It goes from the 5th to the 95th percentile over `runs`, whose
/// service times are as uncertain as those of the profile and have jitter of their own.
pub fn ranges(rows: &mut [Compared], live: &Results, runs: &[Results], models: &[String]) {
    let mut values: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for run in runs {
        for measure in measures(run, models) {
            values.entry(measure.name).or_default().push(measure.value);
        }
    }
    // Agreement compares two runs, so that it has no range of its own.
    let known: Vec<String> = measures(live, models).into_iter().map(|measure| measure.name).collect();
    for row in rows.iter_mut().filter(|row| known.contains(&row.name)) {
        let Some(values) = values.get_mut(&row.name).filter(|values| values.len() == runs.len()) else { continue };
        values.sort_unstable_by(f64::total_cmp);
        row.range = quantile_of_numbers(values, 0.05).zip(quantile_of_numbers(values, 0.95));
    }
}

/// Sets the change of each error with the service time: half the difference between the errors of runs a hundredth
/// slower and of runs a hundredth faster.
pub fn sensitivity(of: &mut [Compared], live: &Results, slower: &[Results], faster: &[Results], models: &[String]) {
    let by_name = |runs: &[Results]| -> BTreeMap<String, f64> {
        compare(live, runs, models).into_iter().map(|row| (row.name, row.error)).collect()
    };
    let (slower, faster) = (by_name(slower), by_name(faster));
    for row in of {
        row.per_percent =
            slower.get(&row.name).zip(faster.get(&row.name)).map(|(slower, faster)| (slower - faster) / 2.0);
    }
}
