//! What policies see of the core when they decide: plain data, put together for the decision.

use alloc::vec::Vec;

use super::allocation::{Class, Seat, Situation, Waiting};
use super::cluster::Cluster;
use super::hardware::Hardware;
use super::queue::{self, Queue};
use crate::time::Time;

/// Waiting requests that a policy is shown for each worker: what is behind them starts long after any decision of now
/// has been taken again.
pub(super) const SHOWN_PER_WORKER: usize = 16;

/// The situation but for the demand, which the monitor counts, with so many of the waiting requests at most.
pub(super) fn situation(now: Time, cluster: &Cluster, queue: &Queue, hardware: &Hardware, shown: usize) -> Situation {
    let seats = cluster.all().filter_map(|(worker, state)| {
        let free = cluster.free(worker, now)?;
        let holds = state.resident.iter().copied().chain(state.loading).collect();
        Some(Seat { worker, gpu: hardware.gpu(worker), holds, target: state.target, free })
    });
    let seats: Vec<Seat> = seats.collect();
    let class = |class: &queue::Class| Class {
        kind: class.kind,
        skipped_steps: class.skipped_steps,
        times: class.times.clone(),
        waiting: class.len(),
    };
    Situation {
        demand: None,
        most_together: 1,
        overrun: queue.is_overrun(),
        classes: queue.classes().iter().map(class).collect(),
        waiting: waiting(queue, shown),
        seats,
    }
}

/// The first of what waits, in the order in which it would be served.
fn waiting(queue: &Queue, most: usize) -> Vec<Waiting> {
    let in_order = queue.in_order(true).chain(queue.in_order(false)).take(most);
    in_order.map(|(class, waits)| Waiting { class, due: waits.due }).collect()
}
