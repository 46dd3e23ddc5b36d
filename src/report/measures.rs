//! Measures of `summary.json` as named columns, for `comparison.csv` and `sweep.csv`, with the definition of each
//! measure.

use crate::metrics::network::NetworkSummary;
use crate::metrics::summary::Summary;

/// Returns the measures that apply to a run, in the order of `summary.json`. Names of nested measures are joined with
/// dots: `latency_s.p99`, `hits_by_skipped_steps.25`, `slo.2x.attainment`, `quality.clip`.
#[must_use]
pub fn flatten(summary: &Summary) -> Vec<(String, f64)> {
    let mut flat: Vec<(String, f64)> = Vec::new();
    let mut push = |name: &str, value: Option<f64>| {
        // CSV has no common text for numbers that are not finite, so these count as absent.
        flat.extend(value.filter(|value| value.is_finite()).map(|value| (name.to_owned(), value)));
    };
    let count = |value: u64| Some(value as f64);
    push("requests", count(summary.requests));
    push("completed", count(summary.completed));
    push("returned", Some(summary.returned as f64).filter(|returned| *returned > 0.0));
    push("rejected", count(summary.rejected));
    push("failed", count(summary.failed));
    push("cancelled", count(summary.cancelled));
    push("makespan_s", Some(summary.makespan_s));
    push("throughput_per_min", summary.throughput_per_min);
    push("throughput_steady_per_min", summary.throughput_steady_per_min);
    push("hit_rate", summary.hit_rate);
    for (skipped_steps, hits) in &summary.hits_by_skipped_steps {
        push(&format!("hits_by_skipped_steps.{skipped_steps}"), count(*hits));
    }
    push("mean_refine_fraction", summary.mean_refine_fraction);
    for (model, count) in &summary.completed_by_model {
        push(&format!("completed_by_model.{model}"), Some(*count as f64));
    }
    push("requests_per_job", summary.requests_per_job);
    push("assumed_quality", summary.assumed_quality);
    for (level, hits) in summary.hits_by_level.iter().enumerate() {
        push(&format!("hits_by_level.{level}"), count(*hits));
    }
    if let Some(cache) = summary.cache {
        push("cache.inserts", count(cache.inserts));
        push("cache.evictions", count(cache.evictions));
        push("cache.expiries", count(cache.expiries));
        push("cache.near_misses", count(cache.near_misses));
        push("cache.false_hits", cache.false_hits.and_then(count));
        push("cache.mean_hit_age_s", cache.mean_hit_age_s);
        push("cache.entries_at_end", count(cache.entries_at_end));
        push("cache.bytes_at_end", cache.bytes_at_end.and_then(count));
    }
    if let Some(latency) = summary.latency_s {
        push("latency_s.mean", Some(latency.mean));
        push("latency_s.p50", Some(latency.p50));
        push("latency_s.p90", Some(latency.p90));
        push("latency_s.p95", Some(latency.p95));
        push("latency_s.p99", Some(latency.p99));
        push("latency_s.max", Some(latency.max));
    }
    for slo in &summary.slo {
        let multiple = slo.multiple;
        push(&format!("slo.{multiple}x.threshold_s"), Some(slo.threshold_s));
        push(&format!("slo.{multiple}x.attainment"), Some(slo.attainment));
        push(&format!("slo.{multiple}x.violation_rate"), Some(slo.violation_rate));
        push(&format!("slo.{multiple}x.least_violation_rate"), slo.least_violation_rate);
    }
    push("deadline_attainment", summary.deadline_attainment);
    push("serving_gpu_s_per_request", summary.serving_gpu_s_per_request);
    push("model_loads", count(summary.model_loads));
    push("energy_j", summary.energy_j);
    push("energy_j_per_image", summary.energy_j_per_image);
    push("cost_usd", summary.cost_usd);
    push("cost_usd_per_image", summary.cost_usd_per_image);
    for (measure, value) in quality(summary) {
        push(&measure, value);
    }
    if let Some(retrieval) = summary.retrieval {
        push("retrieval.searches", count(retrieval.searches));
        push("retrieval.recall", Some(retrieval.recall));
        push("retrieval.mean_similarity_lost", Some(retrieval.mean_similarity_lost));
    }
    summary.network.iter().flat_map(network).for_each(|(name, value)| push(name, Some(value)));
    flat
}

/// Returns the transfers over the scheduler's link.
const fn network(network: &NetworkSummary) -> [(&'static str, f64); 6] {
    [
        ("network.bytes_out", network.bytes_out as f64),
        ("network.bytes_in", network.bytes_in as f64),
        ("network.busy_out", network.busy_out),
        ("network.busy_in", network.busy_in),
        ("network.sources_fetched", network.sources_fetched as f64),
        ("network.sources_kept", network.sources_kept as f64),
    ]
}

/// Returns the mean quality by measure, and the measures that are derived from qualities.
fn quality(summary: &Summary) -> impl Iterator<Item = (String, Option<f64>)> {
    let means = summary.quality.measures.iter().map(|(measure, value)| (format!("quality.{measure}"), Some(*value)));
    let more = [
        ("quality_p5", summary.quality_p5),
        ("below_alpha", summary.below_alpha),
        ("quality_kept", summary.quality_kept),
    ];
    means.chain(more.map(|(name, value)| (name.to_owned(), value)))
}

/// Returns the columns of several runs in one order. A measure that only some runs have keeps the place that it has
/// there.
#[must_use]
pub fn columns<'a>(summaries: impl IntoIterator<Item = &'a Summary>) -> Vec<String> {
    let mut columns: Vec<String> = Vec::new();
    for summary in summaries {
        let mut next = 0;
        for (name, _) in flatten(summary) {
            if let Some(position) = columns.iter().position(|column| *column == name) {
                next = position + 1;
            } else {
                columns.insert(next, name);
                next += 1;
            }
        }
    }
    columns
}

/// Terms and definitions of the measures, for readers (docs/semantics.md, section 7).
pub const DEFINITIONS: &[(&str, &str)] = &[
    ("Latency", "Finish minus arrival of a completed request. Percentiles interpolate linearly between closest ranks."),
    ("Requests per minute", "Completed requests / (last finish − first arrival)."),
    (
        "Steady requests per minute",
        "Completed requests × the share of their GPU seconds that was spent between the first and the last arrival / \
         that time. Requests weigh by their work, so that cheap ones that overtake dear ones are no gain.",
    ),
    (
        "Capacity",
        "Highest rate of arrivals at which the wanted share of the requests is in time, found by bisection to 1 %. Only \
         the gaps between arrivals are scaled.",
    ),
    (
        "Quality",
        "Mean over the completed images in points of CLIPScore (100 × cosine of prompt and image). Of a model's own \
         images the published or measured score; of a returned image 100 × cosine − 4; of a refined one a mean of the \
         two by the steps that ran and were skipped. Measured rows of the profile replace it. Kept: mean / the large \
         model's own score.",
    ),
    ("Hit rate", "Requests served from a cached image / requests routed."),
    (
        "SLO attainment",
        "Requests finished within a multiple of one full generation on the large model / all requests of the trace. \
         Rejected, failed and cancelled requests count as not met.",
    ),
    (
        "GPU seconds per request",
        "Seconds in which GPUs were denoising / completed requests. Loading models is not in it.",
    ),
    ("Model loads", "Loads of a model onto a worker after time zero."),
    (
        "Energy",
        "Over all workers: busy seconds × active watts + loading seconds × load watts + idle seconds × idle watts; \
         shown per completed request.",
    ),
    ("Cost", "Wall hours × price per hour of every GPU."),
    (
        "Queue still growing",
        "At the last arrival at least 5 % of the requests so far, and at least 10, were waiting, and the queue of \
      the last quarter of the arrivals was longer than that of the quarter before. Latency then depends on how long \
      the trace is, so it says little about the system.",
    ),
    ("95 % interval", "Student's t over seeds. Ratios are taken seed by seed."),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::metrics::retrieval::RetrievalQuality;
    use crate::metrics::summary::Quality;
    use crate::report::sample;

    /// Counts the numbers in the JSON. The test compares the count, so that a measure added to the summary is not
    /// forgotten here.
    fn numbers(value: &serde_json::Value) -> usize {
        match value {
            serde_json::Value::Number(_) => 1,
            serde_json::Value::Array(items) => items.iter().map(numbers).sum(),
            serde_json::Value::Object(fields) => fields.values().map(numbers).sum(),
            _ => 0,
        }
    }

    #[test]
    fn every_measure_is_there() {
        let summary = Summary {
            deadline_attainment: Some(0.5),
            cost_usd: Some(1.0),
            quality: Quality { kind: None, measures: BTreeMap::from([("clip".into(), 28.7)]) },
            quality_p5: Some(26.0),
            below_alpha: Some(0.1),
            quality_kept: Some(1.0),
            retrieval: Some(RetrievalQuality::default()),
            network: Some(NetworkSummary::default()),
            ..sample::modm().summary
        };
        let json = serde_json::to_value(&summary).expect("a summary is JSON");
        let multiples = summary.slo.len(); // multiples are part of the names
        let definitions = 1; // the version of the definitions is no measure
        assert_eq!(flatten(&summary).len(), numbers(&json) - multiples - definitions);
    }

    #[test]
    fn columns_keep_their_place() {
        let names = columns([&sample::vanilla().summary, &sample::modm().summary]);
        let at = |name: &str| names.iter().position(|column| column == name).expect(name);
        assert!(at("hit_rate") < at("hits_by_skipped_steps.5"));
        assert!(at("hits_by_skipped_steps.25") < at("mean_refine_fraction"));
        assert!(at("mean_refine_fraction") < at("latency_s.mean"));
        assert_eq!(columns([]), Vec::<String>::new());
    }

    #[test]
    fn what_is_not_finite_is_absent() {
        let summary = Summary { throughput_per_min: Some(f64::NAN), makespan_s: f64::INFINITY, ..Summary::default() };
        assert!(flatten(&summary).iter().all(|(_, value)| value.is_finite()));
    }
}
