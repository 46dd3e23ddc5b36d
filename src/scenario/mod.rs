//! A scenario: TOML to checked settings. All defaults are visible here; they are the paper's, so a
//! scenario need only say what it changes. How text and overrides become this is `source`; what is
//! refused is `check`; what is read besides is `inputs`; what runs is `build`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cache::Admission;
use crate::cache::eviction::Eviction;
use crate::encoder::{EncoderSettings, ImageModel};
use crate::live::settings::LiveSettings;
use crate::model::GpuId;
use crate::published::Published;
use crate::retrieval::IndexKind;
use crate::scheduler::Late;
use crate::scheduler::routing::System;
use crate::serve::settings::ServeSettings;
use crate::trace::synthetic::Synthetic;

mod allocation;
mod approximation;
mod batching;
mod build;
mod cascade;
mod check;
mod faults;
mod inputs;
mod queue;
mod searched;
mod source;
mod tenants;
mod unused;

pub use allocation::{AllocationKind, AllocationSection, PidSetting};
pub use approximation::{ApproximationSection, LevelSection};
pub use batching::BatchingSection;
pub use build::{arrivals, initial_allocation};
pub use cascade::CascadeSection;
pub use faults::{Fault, FaultEvent, FaultsSection};
pub use inputs::{Fingerprint, Inputs, TraceInputs, built_in_profile, read_profile};
pub use queue::QueueSection;
pub use searched::{LookedUp, Searched};
pub use source::{Override, Source};
pub use tenants::Tenants;

/// Everything a run depends on, checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it is called.
    pub name: String,
    /// All randomness derives from it.
    #[serde(default = "defaults::seed")]
    pub seed: u64,
    /// What is asked.
    #[serde(default)]
    pub trace: TraceSection,
    /// What serves.
    #[serde(default)]
    pub cluster: Cluster,
    /// With which models.
    #[serde(default)]
    pub models: Models,
    /// By which system.
    #[serde(default)]
    pub system: SystemSection,
    /// How the cache is searched, and how long that takes.
    #[serde(default)]
    pub retrieval: Retrieval,
    /// What is kept.
    #[serde(default)]
    pub cache: Cache,
    /// Whose images a request may find.
    #[serde(default)]
    pub tenants: Tenants,
    /// Who goes first.
    #[serde(default)]
    pub queue: QueueSection,
    /// How many requests make a job.
    #[serde(default, skip_serializing_if = "is_default")]
    pub batching: BatchingSection,
    /// Which model each worker holds.
    #[serde(default)]
    pub allocation: AllocationSection,
    /// How much further hits may go under load.
    #[serde(default, skip_serializing_if = "is_default")]
    pub approximation: ApproximationSection,
    /// How sure of its drafts a cascade is.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cascade: CascadeSection,
    /// What goes wrong.
    #[serde(default, skip_serializing_if = "is_default")]
    pub faults: FaultsSection,
    /// What counts as in time.
    #[serde(default)]
    pub slo: SloSection,
    /// What is measured.
    #[serde(default)]
    pub metrics: MetricsSection,
    /// Makes prompt embeddings where the trace has none.
    #[serde(default)]
    pub encoder: EncoderSettings,
    /// Makes image embeddings where the trace has none.
    #[serde(default)]
    pub image_model: ImageModel,
    /// Which files and devices a run on real sessions uses.
    #[serde(default, skip_serializing_if = "is_default")]
    pub live: LiveSettings,
    /// What the network may ask for.
    #[serde(default, skip_serializing_if = "is_default")]
    pub serve: ServeSettings,
    /// What `compare` runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variant: Vec<Variant>,
    /// Settings that change nothing here, to be told to the user.
    #[serde(skip)]
    pub notes: Vec<String>,
}

/// `[trace]`: files, or a synthetic trace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TraceSection {
    /// Requests, CSV.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<PathBuf>,
    /// Embeddings of the prompts, `.npy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_embeddings: Option<PathBuf>,
    /// Embeddings of the images that the requests would produce, `.npy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_embeddings: Option<PathBuf>,
    /// Cached before the first request, oldest first, `.npy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warm_images: Option<PathBuf>,
    /// The first so many requests are not replayed: what they would have left in the cache is there
    /// before time zero, and the trace starts when the last of them arrives.
    #[serde(skip_serializing_if = "is_zero")]
    pub warm_requests: u32,
    /// A generated trace in place of files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub synthetic: Option<Synthetic>,
}

fn is_default<T: Default + PartialEq>(settings: &T) -> bool {
    *settings == T::default()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(value: &u32) -> bool {
    *value == 0
}

/// `[cluster]`: GPUs, in order of worker ids.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Groups of equal GPUs.
    pub gpus: Vec<GpuGroup>,
}

/// Equal GPUs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuGroup {
    /// As the profile calls it.
    pub r#type: String,
    /// How many.
    pub count: u32,
    /// The node they are in, for what befalls a node as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Dollars an hour of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usd_per_hour: Option<f64>,
}

/// `[models]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Models {
    /// Service times, TOML; without one, the paper's (`scenarios/profiles/paper.toml`, built in).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<PathBuf>,
    /// Serves misses.
    pub large: String,
    /// Refine hits, best first.
    pub small: Vec<String>,
    /// What single models of these may serve, where it is not that, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub serves: BTreeMap<String, ServesSetting>,
    /// Denoising steps of a full generation (T).
    pub steps: u32,
}

/// What one model may serve; what is absent is as for any model in its place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServesSetting {
    /// Whether it may serve misses; the large model alone if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub misses: Option<bool>,
    /// The hits it may serve, by the steps they skip; all if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hits: Option<Vec<u32>>,
}

/// `[system]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SystemSection {
    /// Which system.
    pub policy: System,
    /// (similarity bound, steps skipped), rising; the policy's own if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bounds: Option<Vec<(f64, u32)>>,
}

/// `[retrieval]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retrieval {
    /// From arrival to routing: encoder and index look-up, seconds.
    pub latency_s: f64,
    /// From an image's completion to when it can be found, for systems that retrieve by image, seconds.
    pub image_latency_s: f64,
    /// What finds the nearest entry.
    pub index: IndexKind,
    /// Whether an index that may miss it is checked by an exact one; the exact index needs no check.
    pub measure_recall: bool,
}

/// `[cache]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cache {
    /// Images, or states for `nirvana`.
    pub capacity: u32,
    /// Bytes of images, in place of their number; `nirvana` counts states, whatever it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity_bytes: Option<u64>,
    /// Size of an image where the trace has no column `image_bytes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_bytes: Option<u64>,
    /// Entries leave at this age, seconds; never if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age_s: Option<f64>,
    /// An image is not inserted if one as similar to it as this is there; all are if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub near_duplicate: Option<f64>,
    /// Which images are inserted; `nirvana` and `pinecone` insert those of misses, whatever it says.
    pub admission: Admission,
    /// What leaves when it is full; `nirvana` evicts by LCBFU and `pinecone` first in first out, whatever it says.
    pub eviction: Eviction,
}

/// `[slo]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SloSection {
    /// Multiples of a full generation on the large model on the first GPU type.
    pub multiples: Vec<f64>,
}

/// `[metrics]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsSection {
    /// Requests that arrive earlier are left out of the measures, seconds.
    pub warmup_s: f64,
    /// Window of the timeline and of what is said of the cache, seconds.
    pub window_s: f64,
    /// A miss is a near one if its nearest entry is below the lowest bound by no more than this.
    pub near_miss: f64,
    /// A hit is false if the similarity of its picture to its prompt, as the encoder of a live run has it, is below this
    /// share of the misses' mean; the default is the paper's alpha. It is not the quality of docs/semantics.md, section 7.
    #[serde(alias = "false_hit")]
    pub false_hit_similarity: f64,
}

/// `[[variant]]`: a name and what it sets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// What it is called; a folder of the output.
    pub name: String,
    /// Scenario keys and their values: dotted keys in quotes, or tables.
    #[serde(default)]
    pub set: toml::Table,
    /// What others published of it, for figures to show beside what is measured.
    #[serde(default, skip_serializing_if = "Published::is_empty")]
    pub published: Published,
}

/// Values that several sections' defaults are made of.
mod defaults {
    pub(super) const fn seed() -> u64 {
        42
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self { gpus: vec![GpuGroup { r#type: "mi210".into(), count: 16, node: None, usd_per_hour: None }] }
    }
}

impl Default for Models {
    fn default() -> Self {
        Self {
            profile: None,
            large: "sd3.5-large".into(),
            small: vec!["sdxl".into()],
            serves: BTreeMap::new(),
            steps: 50,
        }
    }
}

impl Default for Retrieval {
    fn default() -> Self {
        Self { latency_s: 0.0, image_latency_s: 0.0, index: IndexKind::default(), measure_recall: true }
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            capacity: 10_000,
            capacity_bytes: None,
            image_bytes: None,
            max_age_s: None,
            near_duplicate: None,
            admission: Admission::default(),
            eviction: Eviction::default(),
        }
    }
}

impl Default for SloSection {
    fn default() -> Self {
        Self { multiples: vec![2.0, 4.0] }
    }
}

impl Default for MetricsSection {
    fn default() -> Self {
        Self { warmup_s: 0.0, window_s: 60.0, near_miss: 0.01, false_hit_similarity: 0.95 }
    }
}

impl Scenario {
    /// Workers of the cluster.
    pub fn workers(&self) -> usize {
        self.cluster.gpus.iter().map(|group| group.count as usize).sum()
    }

    /// GPU types in order of first appearance.
    pub fn gpu_types(&self) -> Vec<String> {
        let mut types: Vec<String> = Vec::new();
        for group in &self.cluster.gpus {
            if !types.contains(&group.r#type) {
                types.push(group.r#type.clone());
            }
        }
        types
    }

    /// GPU type of every worker, as an index into [`Self::gpu_types`].
    pub fn gpus(&self) -> Vec<GpuId> {
        let types = self.gpu_types();
        let place = |group: &GpuGroup| types.iter().position(|name| *name == group.r#type).unwrap_or(0);
        let each = |group: &GpuGroup| std::iter::repeat_n(GpuId(place(group) as u16), group.count as usize);
        self.cluster.gpus.iter().flat_map(each).collect()
    }

    /// Dollars an hour of every worker, where known.
    pub fn usd_per_hour(&self) -> Vec<Option<f64>> {
        let each = |group: &GpuGroup| std::iter::repeat_n(group.usd_per_hour, group.count as usize);
        self.cluster.gpus.iter().flat_map(each).collect()
    }

    /// Models the system uses, best first.
    pub fn model_names(&self) -> Vec<String> {
        let small = if self.system.policy.has_small_models() { self.models.small.as_slice() } else { &[] };
        std::iter::once(&self.models.large).chain(small).cloned().collect()
    }

    /// The bounds in force.
    pub fn bounds(&self) -> &[(f64, u32)] {
        let own = self.system.policy.default_bounds().unwrap_or_default();
        self.system.bounds.as_deref().unwrap_or(own)
    }

    /// A path of the scenario, relative to the scenario's file.
    #[must_use]
    pub fn resolve(file: &Path, path: &Path) -> PathBuf {
        file.parent().unwrap_or_else(|| Path::new("")).join(path)
    }

    /// What its trace and embeddings come from.
    const fn trace_sources(&self) -> (u64, &TraceSection, &EncoderSettings, &ImageModel) {
        (self.seed, &self.trace, &self.encoder, &self.image_model)
    }

    /// Whether another scenario reads or generates the same trace with the same embeddings.
    pub fn same_trace(&self, other: &Self) -> bool {
        self.trace_sources() == other.trace_sources()
    }

    /// What [`Self::same_trace`] compares, as a text to look traces up by.
    ///
    /// # Panics
    /// Never: settings that were read can be written.
    pub fn trace_settings(&self) -> String {
        serde_json::to_string(&self.trace_sources()).expect("settings that were read can be written")
    }

    /// With everything that is in force written out, and no variants.
    #[must_use]
    pub fn resolved(&self) -> Self {
        let mut resolved = self.clone();
        resolved.variant.clear();
        resolved.reset_unused();
        resolved.notes.clear();
        if !self.bounds().is_empty() {
            resolved.system.bounds = Some(self.bounds().to_vec());
        }
        resolved.allocation.initial_large = Some(self.initial_large() as u32);
        resolved.cache.eviction = resolved.eviction();
        let discipline = self.discipline();
        resolved.queue.order = Some(discipline.order);
        resolved.queue.late = Some(discipline.late);
        resolved.queue.ease = Some(discipline.ease);
        resolved.queue.fall_back = (discipline.late == Late::Best).then_some(discipline.fall_back);
        resolved
    }
}
