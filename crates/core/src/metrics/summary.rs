//! The measures of one run, as `summary.json` has them. A measure that does not apply is absent, never 0.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use super::profile_range::ProfileRange;
use super::quality::{CLIP, QualityKind};
use super::real_time::{Delays, ImageQuality};
use super::retrieval::RetrievalQuality;

/// The measures of one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Version of the definitions that these measures follow.
    #[serde(default = "Definitions::first")]
    pub definitions: Definitions,
    /// Requests counted: those that arrived at or after the warm-up.
    pub requests: u64,
    /// Of these, completed.
    pub completed: u64,
    /// Of the completed, answered with a cached image as it was.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub returned: u64,
    /// Of these, not accepted.
    pub rejected: u64,
    /// Of these, accepted but without an image.
    pub failed: u64,
    /// Of these, withdrawn.
    pub cancelled: u64,
    /// From time zero to the last finish.
    pub makespan_s: f64,
    /// Completed / (last finish - first arrival).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throughput_per_min: Option<f64>,
    /// Completed requests weighed by their work, while requests arrive (docs/semantics.md, section 7).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throughput_steady_per_min: Option<f64>,
    /// Hits and returns / routed requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hit_rate: Option<f64>,
    /// Hits (returns included) by steps skipped.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hits_by_skipped_steps: BTreeMap<u32, u64>,
    /// Mean of 1 - k/T over the hits that ran; returns are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_refine_fraction: Option<f64>,
    /// What became of the cache; absent for a system that keeps nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheSummary>,
    /// Completed requests by the model that made their images.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub completed_by_model: BTreeMap<String, u64>,
    /// Requests of a job, on average over the whole run; absent where jobs are of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_job: Option<f64>,
    /// Mean share of the large model's quality that completed images keep, as the scenario assumes for its levels of
    /// approximation and counting 1 for misses; absent where there are no levels. Results have [`Self::quality_kept`].
    #[serde(default, alias = "kept_quality", skip_serializing_if = "Option::is_none")]
    pub assumed_quality: Option<f64>,
    /// Completed hits by level of approximation, likewise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hits_by_level: Vec<u64>,
    /// Latency of completed requests, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_s: Option<Latency>,
    /// A row for each multiple of the scenario.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slo: Vec<Slo>,
    /// Share of the requests with a deadline that met it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_attainment: Option<f64>,
    /// GPU busy seconds per completed request, over the whole run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving_gpu_s_per_request: Option<f64>,
    /// Model loads begun after time zero.
    pub model_loads: u64,
    /// Joules; only if the profile has every power.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy_j: Option<f64>,
    /// Joules per completed request, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy_j_per_image: Option<f64>,
    /// Dollars; only if every GPU type has a price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    /// Dollars per completed request, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd_per_image: Option<f64>,
    /// Mean quality of the completed images.
    #[serde(default, skip_serializing_if = "Quality::is_empty")]
    pub quality: Quality,
    /// 5th percentile of the quality of the completed images, points of `CLIPScore`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality_p5: Option<f64>,
    /// Share of the completed images whose quality is below 0.95 of the large model's own score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below_alpha: Option<f64>,
    /// Mean quality of the completed images / the large model's own score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality_kept: Option<f64>,
    /// How well the index finds what is nearest, where it may miss it and is checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retrieval: Option<RetrievalQuality>,
    /// Of a live run: that similarity by decision and steps skipped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_quality: Vec<ImageQuality>,
    /// Of a live run: what its loop and its encoder cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delays: Option<Delays>,
    /// Headlines at the ends of what the profile leaves open, where those were run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile_range: Option<ProfileRange>,
}

/// Version of the definitions of measures. Results under different ones are not compared: since the second, steady
/// throughput weighs requests by their work, and hits have a quality.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Definitions(u32);

impl Definitions {
    /// Version of results that name none.
    #[must_use]
    pub const fn first() -> Self {
        Self(1)
    }
}

impl Default for Definitions {
    fn default() -> Self {
        Self(2)
    }
}

impl fmt::Display for Definitions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Mean quality of the completed images by measure.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Weakest kind of the values that the first of these means is of: `clip` where it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<QualityKind>,
    /// Means by measure: `clip` (points of `CLIPScore`: measured, published or estimated), other measures of the profile's
    /// `[[quality]]` rows where there is a row for everything that was made, and in a live run `similarity`: the mean
    /// cosine of each image and its prompt, as the encoder has them.
    #[serde(flatten)]
    pub measures: BTreeMap<String, f64>,
}

impl Summary {
    /// Returns how the mean quality in points of `CLIPScore` is known, if there is one.
    #[must_use]
    pub fn quality_kind(&self) -> Option<QualityKind> {
        self.quality.kind.filter(|_| self.quality.clip().is_some())
    }

    /// Returns the completed images by the model that drew them, and `returned` ones.
    pub fn images(&self) -> impl Iterator<Item = (&str, u64)> {
        let returned = Some(("returned", self.returned)).filter(|(_, count)| *count > 0);
        self.completed_by_model.iter().map(|(model, count)| (model.as_str(), *count)).chain(returned)
    }
}

impl Quality {
    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.measures.is_empty()
    }

    /// Mean in points of `CLIPScore`.
    #[must_use]
    pub fn clip(&self) -> Option<f64> {
        self.measures.get(CLIP).copied()
    }

    /// Adds a mean that was measured.
    pub(super) fn measured(&mut self, measure: &str, mean: Option<f64>) {
        if let Some(mean) = mean {
            self.measures.insert(measure.to_owned(), mean);
            self.kind.get_or_insert(QualityKind::Measured);
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// What came into the cache and left it over the whole run, and what requests found there: docs/semantics.md,
/// section 8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CacheSummary {
    /// Entries that came, those before time zero included.
    pub inserts: u64,
    /// Entries that left since the capacity was full.
    pub evictions: u64,
    /// Entries that left since they were too old.
    pub expiries: u64,
    /// Misses whose nearest entry was just below the lowest bound.
    pub near_misses: u64,
    /// Of a live run: hits whose pictures are far less similar to their prompts than misses' are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub false_hits: Option<u64>,
    /// Mean age of the hits' sources at routing, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_hit_age_s: Option<f64>,
    /// Entries held when the last request had ended.
    pub entries_at_end: u64,
    /// Bytes held then, if the size of every entry is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_at_end: Option<u64>,
}

/// Latency in seconds: finish - arrival. Percentiles interpolate linearly between closest ranks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
    /// The worst.
    pub max: f64,
}

/// SLO attainment at one multiple of a full generation on the large model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Slo {
    /// The multiple.
    pub multiple: f64,
    /// The latency it allows, in seconds.
    pub threshold_s: f64,
    /// Met / all requests; rejected, failed and cancelled ones count as not met.
    pub attainment: f64,
    /// 1 - attainment.
    pub violation_rate: f64,
    /// No policy that knew all arrivals could have had less, with the decisions of this run (docs/policies.md); only
    /// where requests were kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least_violation_rate: Option<f64>,
}
