//! Section `[cluster]`: GPUs that serve the requests. Each of them is a worker.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Scenario;
use crate::input::InputError;
use crate::model::GpuId;

/// Largest number of workers, which are numbered by `u16`.
const MOST_WORKERS: usize = 65_535;

/// Section `[cluster]`: GPUs in the order of worker ids.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Groups of equal GPUs. Without the section there are 16 MI210.
    pub gpus: Vec<GpuGroup>,
}

/// Group of equal GPUs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GpuGroup {
    /// GPU type, by its name in the profile.
    pub r#type: String,
    /// Number of GPUs.
    pub count: u32,
    /// Name of the node that holds the GPUs, for faults of a whole node and for the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Price of one GPU, dollars an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usd_per_hour: Option<f64>,
}

impl Default for Cluster {
    fn default() -> Self {
        Self { gpus: vec![GpuGroup { r#type: "mi210".into(), count: 16, node: None, usd_per_hour: None }] }
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

    pub(super) fn check_cluster(&self, file: &Path) -> Result<(), InputError> {
        for (index, group) in self.cluster.gpus.iter().enumerate() {
            if group.count == 0 {
                let key = format!("cluster.gpus.{index}.count");
                return Err(InputError::new(file, "expected at least 1").value(key, group.count));
            }
            if let Some(dollars) = group.usd_per_hour.filter(|dollars| !(0.0..=1e6).contains(dollars)) {
                let key = format!("cluster.gpus.{index}.usd_per_hour");
                return Err(InputError::new(file, "expected dollars from 0 to 1000000").value(key, dollars));
            }
        }
        if !(1..=MOST_WORKERS).contains(&self.workers()) {
            let message = format!("expected from 1 to {MOST_WORKERS} GPUs in all");
            return Err(InputError::new(file, message).value("cluster.gpus", format_args!("{} in all", self.workers())));
        }
        Ok(())
    }
}
