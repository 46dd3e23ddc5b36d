//! Clusters of a plan: those that were tried, and the choices at other hit rates and service times.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::experiments::hit_rate::Shift;
use crate::metrics::Results;
use crate::metrics::quality::QualityKind;
use crate::profile::{End, Spread};

/// Choice if the system had a hit rate some points lower or higher.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlanAtHitRate {
    /// Shift of the similarity bounds that brings the hit rate about, found on the first trace.
    #[serde(flatten)]
    pub shift: Shift,
    /// Cheapest cluster that holds with these bounds; `None` if no cluster holds.
    pub choice: Option<PlanRow>,
}

/// Choice with the service times at one end of the range that the profile leaves open. Policies use the profile's own
/// times.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlanAtEnd {
    /// End of the range.
    pub end: End,
    /// Spread of the service times.
    pub spread: Spread,
    /// Cheapest cluster that holds at this end; `None` if no cluster holds.
    pub choice: Option<PlanRow>,
}

/// Cluster that was tried.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PlanRow {
    /// Number of GPUs of each group.
    pub gpus: Vec<u32>,
    /// True if enough requests were in time, and the quality that was asked for was kept.
    pub holds: bool,
    /// True if the runs were stopped once too many requests were known to be late. The values below are then of only a
    /// part of the requests.
    pub stopped: bool,
    /// Number of requests that arrived, over all traces.
    pub requests: u64,
    /// Number of these requests that were late.
    pub late: u64,
    /// Share of the requests in time, for each trace that was run to its end.
    pub attainments: Vec<f64>,
    /// Mean number of workers by model, over these traces.
    pub split: BTreeMap<String, f64>,
    /// Price in dollars an hour, if every group has a price.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usd_per_hour: Option<f64>,
    /// Cost of a thousand images in dollars, if every group has a price.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usd_per_1000_images: Option<f64>,
    /// Energy of an image in joules, if the profile has every power.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub energy_j_per_image: Option<f64>,
    /// Mean quality of the images in points of `CLIPScore`, as the mean over these traces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality: Option<f64>,
    /// Kind of the quality values, the weakest of these traces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality_kind: Option<QualityKind>,
    /// Mean quality over the large model's own score.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality_kept: Option<f64>,
    /// Number of completed images by the model that drew them, and of returned images.
    pub images: BTreeMap<String, u64>,
    /// 99th percentile of latency in seconds, as the mean over these traces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_s: Option<f64>,
}

impl PlanRow {
    /// Adds the results of a trace that was run to its end.
    pub fn add(&mut self, results: &Results, models: &[String]) {
        let summary = &results.summary;
        let before = self.attainments.len() as f64;
        let mean = |sum: Option<f64>, value: f64| (sum.unwrap_or(0.0) * before + value) / (before + 1.0);
        self.attainments.extend(summary.slo.first().map(|slo| slo.attainment));
        let rows = &results.timeline.rows;
        for (at, model) in models.iter().enumerate() {
            let sum: f64 = rows.iter().filter_map(|row| row.workers_by_model.get(at)).sum();
            let workers = self.split.entry(model.clone()).or_insert(0.0);
            *workers = mean(Some(*workers), sum / rows.len().max(1) as f64);
        }
        let kind = summary.quality_kind();
        self.quality_kind = if before > 0.0 { self.quality_kind.min(kind) } else { kind };
        self.quality = summary.quality.clip().map(|value| mean(self.quality, value));
        self.quality_kept = summary.quality_kept.map(|share| mean(self.quality_kept, share));
        for (by, count) in summary.images() {
            *self.images.entry(by.to_owned()).or_insert(0) += count;
        }
        self.p99_s = summary.latency_s.map(|latency| mean(self.p99_s, latency.p99));
        self.energy_j_per_image = summary.energy_j_per_image.map(|joules| mean(self.energy_j_per_image, joules));
        let dollars = summary.cost_usd_per_image.map(|dollars| 1000.0 * dollars);
        self.usd_per_1000_images = dollars.map(|dollars| mean(self.usd_per_1000_images, dollars));
    }

    /// Returns the GPUs in words, e.g. "8 x mi210 + 2 x a40".
    #[must_use]
    pub fn name(&self, groups: &[String]) -> String {
        mix_name(groups, &self.gpus)
    }
}

/// Returns the GPUs of each group in words.
#[must_use]
pub fn mix_name(groups: &[String], gpus: &[u32]) -> String {
    let parts = groups.iter().zip(gpus).filter(|(_, count)| **count > 0);
    parts.map(|(group, count)| format!("{count} x {group}")).collect::<Vec<_>>().join(" + ")
}
