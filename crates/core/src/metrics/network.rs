//! Transfers of a simulated cluster over the scheduler's link: docs/semantics.md, section 8, "Network". The journal
//! says which sources were fetched, and the settings how long transfers occupy the link.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::model::Size;
use crate::network::Network;
use crate::scheduler::Output;
use crate::time::{Duration, Time};

/// Transfers over the scheduler's link of the jobs that completed, over the whole run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NetworkSummary {
    /// Bytes of sources that were sent to nodes.
    pub bytes_out: u64,
    /// Bytes of pictures that came from nodes.
    pub bytes_in: u64,
    /// Share of the makespan for which sources occupied the link.
    pub busy_out: f64,
    /// Share of the makespan for which pictures occupied the link.
    pub busy_in: f64,
    /// Number of requests whose source was sent to the node of their worker.
    pub sources_fetched: u64,
    /// Number of requests whose source was kept at the node of their worker.
    pub sources_kept: u64,
}

/// Sums over one direction of the link.
#[derive(Clone, Copy, Debug, Default)]
struct Direction {
    bytes: u64,
    occupied: Duration,
}

impl Direction {
    fn add(&mut self, network: &Network, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.occupied += network.occupied(bytes);
    }

    fn busy(self, end: Time) -> f64 {
        let seconds = end.seconds();
        if seconds > 0.0 { self.occupied.seconds() / seconds } else { 0.0 }
    }
}

/// Fold over jobs.
#[derive(Clone, Debug)]
pub(super) struct NetworkFold {
    network: Network,
    /// Size of the pictures of the latest job, by worker.
    sizes: Vec<Size>,
    outgoing: Direction,
    incoming: Direction,
    fetched: u64,
    kept: u64,
}

impl NetworkFold {
    pub(super) fn new(network: Network) -> Self {
        let sizes = vec![Size::USUAL; network.nodes.len()];
        let nothing = Direction::default();
        Self { network, sizes, outgoing: nothing, incoming: nothing, fetched: 0, kept: 0 }
    }

    /// Takes in the start of a job.
    pub(super) fn started(&mut self, worker: usize, size: Size) {
        self.sizes[worker] = size;
    }

    /// Takes in the results of a worker's latest job.
    pub(super) fn completed(&mut self, worker: usize, outputs: &[Output]) {
        let bytes = self.network.bytes(self.sizes[worker]);
        // The pictures of a job travel together, sources one by one.
        self.incoming.add(&self.network, bytes.saturating_mul(outputs.len() as u64));
        for is_fetched in outputs.iter().filter_map(|output| output.source_fetched) {
            if is_fetched {
                self.fetched += 1;
                self.outgoing.add(&self.network, bytes);
            } else {
                self.kept += 1;
            }
        }
    }

    /// Returns the sums of a run that ended at `end`.
    pub(super) fn summary(&self, end: Time) -> NetworkSummary {
        NetworkSummary {
            bytes_out: self.outgoing.bytes,
            bytes_in: self.incoming.bytes,
            busy_out: self.outgoing.busy(end),
            busy_in: self.incoming.busy(end),
            sources_fetched: self.fetched,
            sources_kept: self.kept,
        }
    }
}
