//! Measures of one run, as `summary.json` has them. A measure that does not apply is absent, never 0.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use super::network::NetworkSummary;
use super::profile_range::ProfileRange;
use super::quality::{CLIP, QualityKind};
use super::real_time::{Delays, ImageQuality};
use super::retrieval::RetrievalQuality;

/// Measures of one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Version of the definitions that these measures follow.
    #[serde(default = "Definitions::first")]
    pub definitions: Definitions,
    /// Number of requests that count: those that arrived at or after the warm-up.
    pub requests: u64,
    /// Number of these requests that completed.
    pub completed: u64,
    /// Number of completed pictures over the whole run; absent where every request has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<u64>,
    /// Number of completed pictures that were answered with a cached image as it was.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub returned: u64,
    /// Number of requests that were not accepted.
    pub rejected: u64,
    /// Number of requests that were accepted but ended without an image.
    pub failed: u64,
    /// Number of requests that were withdrawn.
    pub cancelled: u64,
    /// Seconds from time zero to the last finish.
    pub makespan_s: f64,
    /// Completed requests a minute: completed / (last finish - first arrival).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throughput_per_min: Option<f64>,
    /// Steady throughput: completed requests a minute, weighed by their work, while requests arrive (docs/semantics.md,
    /// section 7).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throughput_steady_per_min: Option<f64>,
    /// Hits and returns divided by routed requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hit_rate: Option<f64>,
    /// Number of hits (returns included) by skipped steps.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hits_by_skipped_steps: BTreeMap<u32, u64>,
    /// Mean over the hits that ran of the share of their model's steps that were left; returns are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_refine_fraction: Option<f64>,
    /// Measures of the image cache; absent for a system that keeps no images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheSummary>,
    /// Number of completed pictures, by the model that made them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub completed_by_model: BTreeMap<String, u64>,
    /// Mean number of requests in a job over the whole run; absent where a job has one request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_job: Option<f64>,
    /// Mean share of the large model's quality that completed images keep. It uses what the scenario assumes for its
    /// levels of approximation, and 1 for misses; absent where there are no levels. The share by measured or estimated
    /// quality is [`Self::quality_kept`].
    #[serde(default, alias = "kept_quality", skip_serializing_if = "Option::is_none")]
    pub assumed_quality: Option<f64>,
    /// Number of completed hits, by level of approximation; empty where there are no levels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hits_by_level: Vec<u64>,
    /// Latency of completed requests, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_s: Option<Latency>,
    /// SLO attainment, by multiple of the scenario.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slo: Vec<Slo>,
    /// Share of the requests with a deadline that completed by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_attainment: Option<f64>,
    /// GPU busy seconds per completed request, over the whole run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving_gpu_s_per_request: Option<f64>,
    /// Number of model loads begun after time zero.
    pub model_loads: u64,
    /// Number of jobs before which a worker changed its checkpoint; absent where none did.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub checkpoint_changes: u64,
    /// Number of jobs before which a worker loaded LoRAs; absent where none did.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lora_changes: u64,
    /// Energy in joules; absent if the profile lacks a power that the sum needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy_j: Option<f64>,
    /// Energy in joules per completed picture; absent if [`Self::energy_j`] is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy_j_per_image: Option<f64>,
    /// Cost in dollars; absent unless the GPU type of every worker has a price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    /// Cost in dollars per completed picture; absent if [`Self::cost_usd`] is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd_per_image: Option<f64>,
    /// Mean quality of the completed images.
    #[serde(default, skip_serializing_if = "Quality::is_empty")]
    pub quality: Quality,
    /// 5th percentile of the quality of the completed images, in points of `CLIPScore`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality_p5: Option<f64>,
    /// Share of the completed images whose quality is below 0.95 of the large model's own score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below_alpha: Option<f64>,
    /// Mean quality of the completed images divided by the large model's own score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality_kept: Option<f64>,
    /// Quality of the retrieval; absent unless the index is approximate and its searches are checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retrieval: Option<RetrievalQuality>,
    /// Transfers over the scheduler's link; absent without a network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkSummary>,
    /// Similarity of images to their prompts by decision and skipped steps; live runs only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_quality: Vec<ImageQuality>,
    /// Delays of the loop and of the encoder; live runs only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delays: Option<Delays>,
    /// Headlines at the ends of what the profile leaves open; absent unless these ends were simulated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile_range: Option<ProfileRange>,
}

/// Version of the definitions of measures. Results under different versions are not compared. Since version 2, steady
/// throughput weighs requests by their work, and hits have a quality.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Definitions(u32);

impl Definitions {
    /// Returns the version of results that name none.
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

/// Mean quality of the completed images, by measure.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Weakest kind of the values in the mean of `clip`; measured if there are other measures alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<QualityKind>,
    /// Means by measure. `clip` is in points of `CLIPScore`, which are measured, published or estimated. Other measures
    /// of the profile's `[[quality]]` rows have a mean if there is a row for every model and number of skipped steps
    /// that made an image. A live run has `similarity`, the mean cosine of the embeddings of each image and its prompt.
    #[serde(flatten)]
    pub measures: BTreeMap<String, f64>,
}

impl Summary {
    /// Returns the kind of the mean quality in points of `CLIPScore`, if there is such a mean.
    #[must_use]
    pub fn quality_kind(&self) -> Option<QualityKind> {
        self.quality.kind.filter(|_| self.quality.clip().is_some())
    }

    /// Returns the number of completed images by the model that drew them, and the number of `returned` images.
    pub fn images(&self) -> impl Iterator<Item = (&str, u64)> {
        let returned = Some(("returned", self.returned)).filter(|(_, count)| *count > 0);
        self.completed_by_model.iter().map(|(model, count)| (model.as_str(), *count)).chain(returned)
    }
}

impl Quality {
    /// Returns whether no mean is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.measures.is_empty()
    }

    /// Returns the mean in points of `CLIPScore`.
    #[must_use]
    pub fn clip(&self) -> Option<f64> {
        self.measures.get(CLIP).copied()
    }

    /// Adds the mean of a measure that was measured.
    pub(super) fn measured(&mut self, measure: &str, mean: Option<f64>) {
        if let Some(mean) = mean {
            self.measures.insert(measure.to_owned(), mean);
            // The kind of a mean of `clip` stays: it is that of its weakest value.
            self.kind.get_or_insert(QualityKind::Measured);
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Measures of the image cache over the whole run: entries that came and left, near misses, false hits and the age of
/// hits. The definitions are in docs/semantics.md, section 8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CacheSummary {
    /// Number of entries that came, those before time zero included.
    pub inserts: u64,
    /// Number of entries that left because the capacity was full.
    pub evictions: u64,
    /// Number of entries that left because they were too old.
    pub expiries: u64,
    /// Number of misses whose nearest entry was just below the lowest bound.
    pub near_misses: u64,
    /// Number of hits whose images are far less similar to their prompts than those of misses; live runs only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub false_hits: Option<u64>,
    /// Mean age of the hits' sources at routing, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_hit_age_s: Option<f64>,
    /// Number of entries held when the last request had ended.
    pub entries_at_end: u64,
    /// Number of bytes held when the last request had ended, if the size of every entry is known.
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
    /// Largest latency.
    pub max: f64,
}

/// SLO attainment at one multiple of a full generation on the large model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Slo {
    /// Multiple of a full generation.
    pub multiple: f64,
    /// Largest latency that meets the multiple, in seconds.
    pub threshold_s: f64,
    /// Requests that met the multiple divided by all requests. Rejected, failed and cancelled requests count as not
    /// met.
    pub attainment: f64,
    /// Share of the requests that did not meet the multiple: 1 - attainment.
    pub violation_rate: f64,
    /// Lower bound on the violation rate of any policy, even one that knows all arrivals, with the decisions of this
    /// run (docs/policies.md); absent unless the ends of requests were kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least_violation_rate: Option<f64>,
}
