//! Small made-up comparison for the tests of reports.

use std::collections::BTreeMap;

use super::{Comparison, Run};
use crate::metrics::summary::{CacheSummary, Latency, Slo, Summary};
use crate::metrics::timeline::{Timeline, TimelineRow};
use crate::time::Duration;

fn slo(attainments: [f64; 2]) -> Vec<Slo> {
    let row = |(multiple, attainment): (f64, f64)| Slo {
        multiple,
        threshold_s: multiple * 96.0,
        attainment,
        violation_rate: 1.0 - attainment,
        least_violation_rate: None,
    };
    [2.0, 4.0].into_iter().zip(attainments).map(row).collect()
}

/// Makes the windows of a run whose queue grows by `growth` requests per window while requests arrive.
fn timeline(growth: u64) -> Timeline {
    let rows = (0_u32..20).map(|window| TimelineRow {
        time_s: f64::from(window) * 60.0,
        arrivals: if window < 16 { 20 } else { 0 },
        completions: 16,
        queued_misses: if window < 16 { u64::from(window) * growth } else { 0 },
        workers_by_model: vec![1.0],
        slo_attainment: vec![Some(0.9), None],
        ..TimelineRow::default()
    });
    Timeline { models: vec!["large".into()], slo_multiples: vec![2.0, 4.0], window_s: 60.0, rows: rows.collect() }
}

fn run(variant: &str, summary: Summary, growth: u64) -> Run {
    let latencies = (1..=320).map(|n| Duration::from_nanoseconds(n * 1_000_000_000)).collect();
    Run { variant: variant.into(), seed: 42, summary, timeline: timeline(growth), latencies, ..Run::default() }
}

/// Makes the run of a baseline whose queue grows.
pub(crate) fn vanilla() -> Run {
    let summary = Summary {
        requests: 320,
        completed: 320,
        makespan_s: 1920.0,
        throughput_per_min: Some(10.0),
        throughput_steady_per_min: Some(10.0),
        latency_s: Some(Latency { mean: 480.0, p50: 480.0, p90: 900.0, p95: 930.0, p99: 960.0, max: 970.0 }),
        slo: slo([0.1, 0.2]),
        serving_gpu_s_per_request: Some(96.0),
        energy_j: Some(9e6),
        ..Summary::default()
    };
    run("vanilla", summary, 10)
}

/// Makes the run of a system that keeps up with the arrivals.
pub(crate) fn modm() -> Run {
    let summary = Summary {
        requests: 320,
        completed: 320,
        makespan_s: 768.0,
        throughput_per_min: Some(25.0),
        throughput_steady_per_min: Some(25.0),
        hit_rate: Some(0.71),
        hits_by_skipped_steps: BTreeMap::from([(5, 100), (25, 127)]),
        mean_refine_fraction: Some(0.7),
        cache: Some(CacheSummary {
            inserts: 320,
            evictions: 20,
            near_misses: 11,
            false_hits: Some(3),
            mean_hit_age_s: Some(95.0),
            entries_at_end: 300,
            bytes_at_end: Some(450_000_000),
            ..CacheSummary::default()
        }),
        latency_s: Some(Latency { mean: 60.0, p50: 58.0, p90: 90.0, p95: 110.0, p99: 190.0, max: 200.0 }),
        slo: slo([0.98, 1.0]),
        serving_gpu_s_per_request: Some(38.0),
        model_loads: 12,
        energy_j: Some(4e6),
        ..Summary::default()
    };
    run("modm-sdxl", summary, 0)
}

/// Makes a comparison of the two runs.
pub(crate) fn comparison() -> Comparison {
    Comparison {
        name: "sample".into(),
        runs: vec![vanilla(), modm()],
        stand_ins: vec!["prompt embeddings: stand-in".into()],
        provenance: super::provenance::Provenance::default(),
        notes: vec!["Made up for tests.".into()],
        scenario_toml: "name = \"sample\"\n".into(),
        published: BTreeMap::new(),
        capacities: None,
        versions: vec![("modm".into(), "0.1.0".into())],
    }
}
