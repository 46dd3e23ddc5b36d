//! Clusters of a plan: those that were tried, and the choices at other hit rates and service times.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::experiments::hit_rate::Shift;
use crate::metrics::quality::QualityKind;
use crate::metrics::summary::Summary;
use crate::metrics::timeline::Timeline;
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
    /// True if the runs were stopped once too many requests were known to be late. The two counts below are then of
    /// only a part of the requests, and there are no measures.
    pub stopped: bool,
    /// Number of requests that arrived, over all traces.
    pub requests: u64,
    /// Number of these requests that were late.
    pub late: u64,
    /// Share of the requests in time, for each trace.
    pub attainments: Vec<f64>,
    /// Mean number of workers by model, over the traces. A mean here and below is over the traces that have the
    /// measure.
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
    /// Mean quality of the images in points of `CLIPScore`, as the mean over the traces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality: Option<f64>,
    /// Kind of the quality values, the weakest of the traces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality_kind: Option<QualityKind>,
    /// Mean quality over the large model's own score.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality_kept: Option<f64>,
    /// Number of completed images by the model that drew them, and of returned images.
    pub images: BTreeMap<String, u64>,
    /// 99th percentile of latency in seconds, as the mean over the traces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_s: Option<f64>,
}

/// Mean of a measure over the traces that have it.
#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    traces: u32,
    value: f64,
}

impl Mean {
    fn add(&mut self, value: Option<f64>) {
        let Some(value) = value else { return };
        let before = f64::from(self.traces);
        self.value = (self.value * before + value) / (before + 1.0);
        self.traces += 1;
    }

    fn value(self) -> Option<f64> {
        (self.traces > 0).then_some(self.value)
    }
}

/// Measures of a cluster over traces that were run to their end.
#[derive(Clone, Debug, Default)]
pub(super) struct Measures {
    attainments: Vec<f64>,
    split: BTreeMap<String, Mean>,
    usd_per_1000_images: Mean,
    energy_j_per_image: Mean,
    quality: Mean,
    quality_kind: Option<QualityKind>,
    quality_kept: Mean,
    images: BTreeMap<String, u64>,
    p99_s: Mean,
}

impl Measures {
    /// Adds the results of a trace.
    pub(super) fn add(&mut self, summary: &Summary, timeline: &Timeline) {
        self.attainments.extend(summary.slo.first().map(|slo| slo.attainment));
        let rows = &timeline.rows;
        for (at, model) in timeline.models.iter().enumerate() {
            let sum: f64 = rows.iter().filter_map(|row| row.workers_by_model.get(at)).sum();
            let workers = (!rows.is_empty()).then(|| sum / rows.len() as f64);
            self.split.entry(model.clone()).or_default().add(workers);
        }
        let kinds = [self.quality_kind, summary.quality_kind()];
        self.quality_kind = kinds.into_iter().flatten().min();
        self.quality.add(summary.quality.clip());
        self.quality_kept.add(summary.quality_kept);
        for (by, count) in summary.images() {
            *self.images.entry(by.to_owned()).or_insert(0) += count;
        }
        self.p99_s.add(summary.latency_s.map(|latency| latency.p99));
        self.energy_j_per_image.add(summary.energy_j_per_image);
        self.usd_per_1000_images.add(summary.cost_usd_per_image.map(|dollars| 1000.0 * dollars));
    }

    /// Returns `row` with these measures.
    pub(super) fn into_row(self, row: PlanRow) -> PlanRow {
        PlanRow {
            attainments: self.attainments,
            split: self.split.into_iter().map(|(model, workers)| (model, workers.value)).collect(),
            usd_per_1000_images: self.usd_per_1000_images.value(),
            energy_j_per_image: self.energy_j_per_image.value(),
            quality: self.quality.value(),
            quality_kind: self.quality_kind,
            quality_kept: self.quality_kept.value(),
            images: self.images,
            p99_s: self.p99_s.value(),
            ..row
        }
    }
}

impl PlanRow {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a summary with this value of the optional measures.
    fn summary(value: Option<f64>) -> Summary {
        Summary {
            quality_kept: value,
            energy_j_per_image: value,
            cost_usd_per_image: value.map(|dollars| dollars / 1000.0),
            ..Summary::default()
        }
    }

    #[test]
    fn a_mean_is_over_the_traces_that_have_the_measure() {
        for values in [[None, Some(2.0), Some(4.0)], [Some(2.0), None, Some(4.0)], [Some(2.0), Some(4.0), None]] {
            let mut measures = Measures::default();
            for value in values {
                measures.add(&summary(value), &Timeline::default());
            }
            let row = measures.into_row(PlanRow::default());
            let found = [row.quality_kept, row.energy_j_per_image, row.usd_per_1000_images];
            assert_eq!(found, [Some(3.0); 3], "{values:?}");
        }
        let mut measures = Measures::default();
        measures.add(&summary(None), &Timeline::default());
        assert_eq!(measures.into_row(PlanRow::default()).energy_j_per_image, None);
    }
}
