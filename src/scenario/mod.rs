//! Scenarios: TOML turned into checked settings. Every section has its defaults beside its type. The defaults are the
//! paper's, so a scenario states only what it changes. `source` makes a scenario from text and overrides, `check`
//! refuses bad settings, `inputs` reads the other files of a run, and `build` makes the parts that run.

use std::collections::BTreeMap;
use std::path::PathBuf;

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
mod paths;
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

/// Settings of a run, checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Name of the scenario.
    pub name: String,
    /// Seed from which all randomness derives.
    #[serde(default = "defaults::seed")]
    pub seed: u64,
    /// Source of the requests: files or a synthetic trace.
    #[serde(default)]
    pub trace: TraceSection,
    /// GPUs that serve the requests.
    #[serde(default)]
    pub cluster: Cluster,
    /// Models, and the number of their denoising steps.
    #[serde(default)]
    pub models: Models,
    /// System that serves the requests, and its similarity bounds.
    #[serde(default)]
    pub system: SystemSection,
    /// Index by which the image cache is searched, and the time of a search.
    #[serde(default)]
    pub retrieval: Retrieval,
    /// Capacity, admission and eviction of the image cache.
    #[serde(default)]
    pub cache: Cache,
    /// Rules by which tenants share the image cache and the queue.
    #[serde(default)]
    pub tenants: Tenants,
    /// Order in which waiting requests are served.
    #[serde(default)]
    pub queue: QueueSection,
    /// Size of jobs in requests.
    #[serde(default, skip_serializing_if = "is_default")]
    pub batching: BatchingSection,
    /// Policy that decides which model each worker holds.
    #[serde(default)]
    pub allocation: AllocationSection,
    /// Levels at which hits are found more often or skip more steps under load.
    #[serde(default, skip_serializing_if = "is_default")]
    pub approximation: ApproximationSection,
    /// Confidences in the drafts of a cascade, and their threshold.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cascade: CascadeSection,
    /// Faults of a simulated run.
    #[serde(default, skip_serializing_if = "is_default")]
    pub faults: FaultsSection,
    /// Latency objectives.
    #[serde(default)]
    pub slo: SloSection,
    /// Settings of the measures.
    #[serde(default)]
    pub metrics: MetricsSection,
    /// Settings of the stand-ins for prompt embeddings, used where the trace has none.
    #[serde(default)]
    pub encoder: EncoderSettings,
    /// Settings of the stand-ins for image embeddings, used where the trace has none.
    #[serde(default)]
    pub image_model: ImageModel,
    /// Files and devices of a run on real sessions.
    #[serde(default, skip_serializing_if = "is_default")]
    pub live: LiveSettings,
    /// Settings of the server, which limit the requests from the network.
    #[serde(default, skip_serializing_if = "is_default")]
    pub serve: ServeSettings,
    /// Variants that `compare` runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variant: Vec<Variant>,
    /// Messages for the user about settings that change nothing here.
    #[serde(skip)]
    pub notes: Vec<String>,
}

/// Section `[trace]`: files, or a synthetic trace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TraceSection {
    /// File of the requests, CSV.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<PathBuf>,
    /// File of the prompts' embeddings, `.npy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_embeddings: Option<PathBuf>,
    /// File of the embeddings of the images that the requests would produce, `.npy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_embeddings: Option<PathBuf>,
    /// File of the embeddings that are cached before the first request, oldest first, `.npy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warm_images: Option<PathBuf>,
    /// Number of requests at the start of the trace that are not replayed. The entries that they would have left in the
    /// cache are there before time zero, and time zero is the arrival of the last of them.
    #[serde(skip_serializing_if = "is_zero")]
    pub warm_requests: u32,
    /// Generated trace in place of files.
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

/// Section `[cluster]`: GPUs in the order of worker ids.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Groups of equal GPUs.
    pub gpus: Vec<GpuGroup>,
}

/// Group of equal GPUs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuGroup {
    /// GPU type, by its name in the profile.
    pub r#type: String,
    /// Number of GPUs.
    pub count: u32,
    /// Name of the node that holds the GPUs, for faults of a whole node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Price of one GPU, dollars an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usd_per_hour: Option<f64>,
}

/// Section `[models]`: profile, names of the models, and number of denoising steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Models {
    /// Profile with the service times, TOML. If absent, the paper's profile is used, which is built in
    /// (`scenarios/profiles/paper.toml`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<PathBuf>,
    /// Name of the large model, which serves misses.
    pub large: String,
    /// Names of the small models, which refine hits, best first.
    pub small: Vec<String>,
    /// Exceptions to the rules by which models serve requests, by name of the model.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub serves: BTreeMap<String, ServesSetting>,
    /// Denoising steps of a full generation (T).
    pub steps: u32,
}

/// Requests that one model may serve. For an absent field, the rule of the model's place in the list holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServesSetting {
    /// True if the model may serve misses. If absent, only the large model may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub misses: Option<bool>,
    /// Hits that the model may serve, by the number of steps that they skip; all hits if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hits: Option<Vec<u32>>,
}

/// Section `[system]`: system and similarity bounds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SystemSection {
    /// System that serves the requests.
    pub policy: System,
    /// Rows of (similarity bound, skipped steps), rising; the policy's own rows if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bounds: Option<Vec<(f64, u32)>>,
}

/// Section `[retrieval]`: index, and times of embedding and search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retrieval {
    /// Time from arrival to routing, for the encoder and the index look-up, seconds.
    pub latency_s: f64,
    /// Time from the completion of an image until requests can find the image, for systems that retrieve by image,
    /// seconds.
    pub image_latency_s: f64,
    /// Index that finds the nearest entry.
    pub index: IndexKind,
    /// True if the searches of an index that may miss the nearest entry are checked by an exact index. The exact index
    /// needs no check.
    pub measure_recall: bool,
}

/// Section `[cache]`: capacity, admission and eviction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cache {
    /// Capacity in images, or in states for `nirvana`.
    pub capacity: u32,
    /// Capacity in bytes of images, in place of `capacity`. `nirvana` ignores the setting and counts states.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity_bytes: Option<u64>,
    /// Size of an image in bytes, used where the trace has no column `image_bytes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_bytes: Option<u64>,
    /// Age at which entries leave the cache, seconds. If absent, entries have no largest age.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age_s: Option<f64>,
    /// Least similarity to a cached image at which an image is a near duplicate and is not inserted. If absent, near
    /// duplicates are inserted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub near_duplicate: Option<f64>,
    /// Images that are inserted. `nirvana` and `pinecone` ignore the setting and insert the images of misses.
    pub admission: Admission,
    /// Policy that chooses which entry leaves a full cache. `nirvana` and `pinecone` ignore the setting: `nirvana`
    /// evicts by LCBFU, `pinecone` first in, first out.
    pub eviction: Eviction,
}

/// Section `[slo]`: latency objectives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SloSection {
    /// Latency objectives, as multiples of the time of a full generation on the large model on the first GPU type.
    pub multiples: Vec<f64>,
}

/// Section `[metrics]`: settings of the measures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsSection {
    /// Time before which arriving requests are left out of the measures, seconds.
    pub warmup_s: f64,
    /// Length of the windows of the timeline and of the cache's counts over time, seconds.
    pub window_s: f64,
    /// Largest distance of a near miss from a hit: lowest bound minus the similarity of the nearest entry.
    pub near_miss: f64,
    /// Share of the misses' mean similarity below which a hit is false. The similarity is that of picture and prompt,
    /// as measured by the encoder of a live run. The default is the paper's alpha. The similarity is not the quality of
    /// docs/semantics.md, section 7.
    #[serde(alias = "false_hit")]
    pub false_hit_similarity: f64,
}

/// Entry of `[[variant]]`: a name, and the settings that the variant changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// Name of the variant, and of its folder in the output.
    pub name: String,
    /// Scenario keys and their values: dotted keys in quotes, or tables.
    #[serde(default)]
    pub set: toml::Table,
    /// Numbers that others published for the variant. Figures show them beside the measured ones.
    #[serde(default, skip_serializing_if = "Published::is_empty")]
    pub published: Published,
}

/// Default values that serde takes as functions.
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
    /// Returns the number of workers of the cluster.
    pub fn workers(&self) -> usize {
        self.cluster.gpus.iter().map(|group| group.count as usize).sum()
    }

    /// Returns the GPU types in order of first appearance.
    pub fn gpu_types(&self) -> Vec<String> {
        let mut types: Vec<String> = Vec::new();
        for group in &self.cluster.gpus {
            if !types.contains(&group.r#type) {
                types.push(group.r#type.clone());
            }
        }
        types
    }

    /// Returns the GPU type of every worker, as an index into [`Self::gpu_types`].
    pub fn gpus(&self) -> Vec<GpuId> {
        let types = self.gpu_types();
        let place = |group: &GpuGroup| types.iter().position(|name| *name == group.r#type).unwrap_or(0);
        let each = |group: &GpuGroup| std::iter::repeat_n(GpuId(place(group) as u16), group.count as usize);
        self.cluster.gpus.iter().flat_map(each).collect()
    }

    /// Returns the price of every worker in dollars an hour, where it is known.
    pub fn usd_per_hour(&self) -> Vec<Option<f64>> {
        let each = |group: &GpuGroup| std::iter::repeat_n(group.usd_per_hour, group.count as usize);
        self.cluster.gpus.iter().flat_map(each).collect()
    }

    /// Returns the names of the models that the system uses, best first.
    pub fn model_names(&self) -> Vec<String> {
        let small = if self.system.policy.has_small_models() { self.models.small.as_slice() } else { &[] };
        std::iter::once(&self.models.large).chain(small).cloned().collect()
    }

    /// Returns the similarity bounds in force.
    pub fn bounds(&self) -> &[(f64, u32)] {
        let own = self.system.policy.default_bounds().unwrap_or_default();
        self.system.bounds.as_deref().unwrap_or(own)
    }

    /// Returns the settings that determine the trace and its embeddings.
    const fn trace_sources(&self) -> (u64, &TraceSection, &EncoderSettings, &ImageModel) {
        (self.seed, &self.trace, &self.encoder, &self.image_model)
    }

    /// Returns whether another scenario reads or generates the same trace with the same embeddings.
    pub fn same_trace(&self, other: &Self) -> bool {
        self.trace_sources() == other.trace_sources()
    }

    /// Returns the settings that [`Self::same_trace`] compares, as a text that serves as a key of traces.
    ///
    /// # Panics
    /// Never panics, because settings that were read can be written.
    pub fn trace_settings(&self) -> String {
        serde_json::to_string(&self.trace_sources()).expect("settings that were read can be written")
    }

    /// Returns the scenario with all settings in force written out, without variants and notes.
    #[must_use]
    pub fn resolved(&self) -> Self {
        let mut resolved = self.clone();
        resolved.variant.clear();
        // Unused keys are reset first: a reset after the lines below would undo some of them.
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
