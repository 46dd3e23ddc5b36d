//! Scenarios: TOML turned into checked settings. Every section has a file with its type, its defaults and its checks.
//! The defaults are the paper's, so a scenario states only what it changes. `source` makes a scenario from text and
//! overrides, `check` refuses bad settings, `inputs` reads the other files of a run, and `build` makes the parts that
//! run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::encoder::{EncoderSettings, ImageModel};
use crate::live::settings::LiveSettings;
use crate::scheduler::Late;
use crate::serve::settings::ServeSettings;
use crate::trace::asks::KeyRule;

mod allocation;
mod approximation;
mod batching;
mod build;
mod cache;
mod cascade;
mod check;
mod cluster;
mod faults;
mod inputs;
pub mod keys;
mod metrics;
mod models;
mod network;
mod origin;
mod paths;
mod queue;
mod retrieval;
mod searched;
mod source;
mod steps;
mod system;
mod tenants;
mod trace;
mod unused;
mod variant;

pub use allocation::{AllocationKind, AllocationSection, PidSetting};
pub use approximation::{ApproximationSection, LevelSection};
pub use batching::BatchingSection;
pub use build::{arrivals, initial_allocation};
pub use cache::Cache;
pub use cascade::CascadeSection;
pub use cluster::{Cluster, GpuGroup};
pub use faults::{Fault, FaultEvent, FaultsSection};
pub use inputs::{Fingerprint, Inputs, TraceInputs, built_in_profile, read_profile};
pub use metrics::{MetricsSection, SloSection};
pub use models::{Models, ServesSetting};
pub use network::NetworkSection;
pub use origin::{Origin, Setting};
pub use queue::QueueSection;
pub use retrieval::Retrieval;
pub use searched::{LookedUp, Searched};
pub use source::{Override, Source};
pub use steps::Steps;
pub use system::SystemSection;
pub use tenants::Tenants;
pub use trace::TraceSection;
pub use variant::Variant;

/// Settings of a run, checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// Network between the scheduler and the workers of a simulated run; without it, nothing travels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkSection>,
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

fn is_default<T: Default + PartialEq>(settings: &T) -> bool {
    *settings == T::default()
}

/// Default values that serde takes as functions.
mod defaults {
    pub(super) const fn seed() -> u64 {
        42
    }
}

impl Scenario {
    /// Returns the settings that determine the trace and its embeddings.
    fn trace_sources(&self) -> (u64, &TraceSection, &EncoderSettings, &ImageModel, KeyRule) {
        (self.seed, &self.trace, &self.encoder, &self.image_model, self.key_rule())
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
        if !self.bounds().is_empty() && self.system.sigma_bounds.is_none() {
            resolved.system.bounds = Some(self.bounds().to_vec());
        }
        resolved.allocation.initial_large = Some(self.initial_large() as u32);
        resolved.cache.eviction = resolved.eviction();
        let discipline = self.discipline();
        resolved.queue.order = Some(discipline.order);
        resolved.queue.late = Some(discipline.late);
        resolved.queue.fall_back = (discipline.late == Late::Best).then_some(discipline.fall_back);
        resolved
    }
}
