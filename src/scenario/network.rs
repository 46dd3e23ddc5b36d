//! Section `[network]`: nodes of a simulated cluster, and the links between them and the scheduler. Live runs refuse
//! the section: their network is real.

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Scenario;
use crate::input::InputError;
use crate::network::Network;
use crate::time::Duration;

/// Largest bandwidth, in Gb/s: a petabit a second.
const MOST_GBPS: f64 = 1e6;
/// Least bandwidth, in Gb/s: a kilobit a second.
const LEAST_GBPS: f64 = 1e-6;
/// Longest latency, in milliseconds: a minute.
const MOST_LATENCY_MS: f64 = 60_000.0;
/// Largest number of bytes of a picture: a gigabyte.
const MOST_PICTURE_BYTES: u64 = 1_000_000_000;

/// Section `[network]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkSection {
    /// Number of workers on a node, for groups of `cluster.gpus` without a `node`. If absent, one node has all of these
    /// workers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers_per_node: Option<u32>,
    /// Time of a message between the scheduler and a node, one way, milliseconds.
    pub latency_ms: f64,
    /// Bandwidth of the scheduler's link in each direction, Gb/s (10^9 bits a second).
    pub bandwidth_gbps: f64,
    /// Bandwidth of the link of each node in each direction, Gb/s; that of the scheduler's link if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_bandwidth_gbps: Option<f64>,
    /// Bytes of a picture of the usual size as it travels.
    pub picture_bytes: u64,
    /// Number of pictures that a node keeps.
    pub sources: u32,
}

impl Default for NetworkSection {
    fn default() -> Self {
        Self {
            workers_per_node: None,
            latency_ms: 0.2,
            bandwidth_gbps: 10.0,
            node_bandwidth_gbps: None,
            picture_bytes: 1_400_000,
            sources: 1000,
        }
    }
}

impl NetworkSection {
    /// Checks that all values are in range.
    pub(super) fn check(&self, file: &Path) -> Result<(), InputError> {
        let wrong = |key: &str, found: &dyn std::fmt::Display, accepted: &str| {
            Err(InputError::new(file, accepted).value(format!("network.{key}"), found))
        };
        if self.workers_per_node == Some(0) {
            return wrong("workers_per_node", &0, "expected at least 1");
        }
        if !(0.0..=MOST_LATENCY_MS).contains(&self.latency_ms) {
            return wrong("latency_ms", &self.latency_ms, "expected milliseconds from 0 to 60000");
        }
        let bandwidths =
            [("bandwidth_gbps", Some(self.bandwidth_gbps)), ("node_bandwidth_gbps", self.node_bandwidth_gbps)];
        for (key, gbps) in bandwidths {
            if let Some(gbps) = gbps.filter(|gbps| !(LEAST_GBPS..=MOST_GBPS).contains(gbps)) {
                return wrong(key, &gbps, "expected Gb/s from 0.000001 to 1000000");
            }
        }
        if !(1..=MOST_PICTURE_BYTES).contains(&self.picture_bytes) {
            return wrong("picture_bytes", &self.picture_bytes, "expected bytes from 1 to 1000000000");
        }
        Ok(())
    }
}

/// Returns a bandwidth in bits a second.
fn bits_per_s(gbps: f64) -> u64 {
    // Checked bandwidths are whole numbers of bits above 0.
    (gbps * 1e9).round() as u64
}

impl Scenario {
    /// Returns the network of a simulated run, if the scenario has one.
    #[must_use]
    pub fn network(&self) -> Option<Network> {
        let section = self.network.as_ref()?;
        Some(Network {
            nodes: self.nodes(section.workers_per_node),
            latency: Duration::from_seconds_saturating(section.latency_ms / 1000.0),
            bandwidth: bits_per_s(section.bandwidth_gbps),
            node_bandwidth: bits_per_s(section.node_bandwidth_gbps.unwrap_or(section.bandwidth_gbps)),
            picture_bytes: section.picture_bytes,
            usual_pixels: self.models.usual_size().pixels(),
            sources: section.sources as usize,
        })
    }

    /// Returns the node of each worker.
    fn nodes(&self, workers_per_node: Option<u32>) -> Vec<u16> {
        let (mut named, mut nodes) = (BTreeMap::new(), Vec::new());
        // Nodes are numbered as they come up: the number says nothing beyond which workers share a node.
        let mut count = 0;
        let mut next = || {
            count += 1;
            count - 1
        };
        // Node that is being filled, and the number of its workers.
        let mut filled: Option<(u16, u32)> = None;
        for group in &self.cluster.gpus {
            for _ in 0..group.count {
                let node = if let Some(name) = &group.node {
                    *named.entry(name.as_str()).or_insert_with(&mut next)
                } else {
                    let room = filled.filter(|(_, workers)| workers_per_node.is_none_or(|most| *workers < most));
                    let (node, workers) = room.unwrap_or_else(|| (next(), 0));
                    filled = Some((node, workers + 1));
                    node
                };
                nodes.push(node);
            }
        }
        nodes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Source;

    fn nodes(gpus: &str, network: &str) -> Vec<u16> {
        let text = format!("name = \"a\"\ntrace.requests = \"r.csv\"\ncluster.gpus = [{gpus}]\n[network]\n{network}\n");
        let source = Source::new(Path::new("a.toml"), text).unwrap();
        source.scenario(&[]).unwrap().network().unwrap().nodes
    }

    #[test]
    fn workers_are_on_the_nodes_of_their_groups_and_others_fill_nodes_in_order() {
        let gpus = "{ type = \"mi210\", count = 3 }, { type = \"a40\", count = 2, node = \"n\" }, \
                    { type = \"mi210\", count = 2 }, { type = \"mi210\", count = 1, node = \"n\" }";
        assert_eq!(nodes(gpus, ""), [0, 0, 0, 1, 1, 0, 0, 1], "one node has all whose group names none");
        assert_eq!(nodes(gpus, "workers_per_node = 2"), [0, 0, 1, 2, 2, 1, 3, 2]);
        assert_eq!(nodes("{ type = \"mi210\", count = 3 }", "workers_per_node = 1"), [0, 1, 2]);
    }

    #[test]
    fn bandwidths_are_whole_bits() {
        assert_eq!([bits_per_s(LEAST_GBPS), bits_per_s(10.0), bits_per_s(0.1)], [1000, 10_000_000_000, 100_000_000]);
    }
}
