//! Clusters of a plan: what was tried, and the choices beside it.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::experiments::hit_rate::Shift;
use crate::metrics::Results;
use crate::metrics::quality::QualityKind;
use crate::profile::{End, Spread};

/// The choice, had the system a hit rate some points lower or higher.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlanAtHitRate {
    /// Bounds that bring it about, found on the first trace.
    #[serde(flatten)]
    pub shift: Shift,
    /// Cheapest cluster that holds with these bounds; `None` if none does.
    pub choice: Option<PlanRow>,
}

/// The choice with the service times of an end of what the profile leaves open, while policies go by the profile.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlanAtEnd {
    /// End.
    pub end: End,
    /// Spread of the service times.
    pub spread: Spread,
    /// Cheapest cluster that holds there; `None` if none does.
    pub choice: Option<PlanRow>,
}

/// A cluster that was tried.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PlanRow {
    /// GPUs of each group.
    pub gpus: Vec<u32>,
    /// Whether enough of the requests were in time.
    pub holds: bool,
    /// Whether its runs were stopped once that was known not to be: what follows is then of a part of the requests.
    pub stopped: bool,
    /// Requests that came, over all traces.
    pub requests: u64,
    /// Of these, late.
    pub late: u64,
    /// Share in time, by trace that was run to its end.
    pub attainments: Vec<f64>,
    /// Mean workers by model, over those traces.
    pub split: BTreeMap<String, f64>,
    /// Dollars an hour, where every group has a price.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usd_per_hour: Option<f64>,
    /// Dollars of a thousand images, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usd_per_1000_images: Option<f64>,
    /// Joules an image, if the profile has every power.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub energy_j_per_image: Option<f64>,
    /// Mean quality of the images in points of `CLIPScore`, the mean over those traces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality: Option<f64>,
    /// How it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality_kind: Option<QualityKind>,
    /// That over the large model's own score.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality_kept: Option<f64>,
    /// Completed images by the model that drew them, and returned ones.
    pub images: BTreeMap<String, u64>,
    /// 99th percentile of latency, seconds, the mean over those traces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_s: Option<f64>,
}

impl PlanRow {
    /// Takes in a trace that was run to its end, after so many others.
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

    /// What it is made of: "8 x mi210 + 2 x a40".
    #[must_use]
    pub fn name(&self, groups: &[String]) -> String {
        mix_name(groups, &self.gpus)
    }
}

/// GPUs of each group in words.
#[must_use]
pub fn mix_name(groups: &[String], gpus: &[u32]) -> String {
    let parts = groups.iter().zip(gpus).filter(|(_, count)| **count > 0);
    parts.map(|(group, count)| format!("{count} x {group}")).collect::<Vec<_>>().join(" + ")
}
