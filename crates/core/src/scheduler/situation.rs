//! State of the core as allocation policies see it when they decide: plain data, made for each decision.

use alloc::vec::Vec;

use super::allocation::{Class, Seat, Situation, Waiting};
use super::cluster::Cluster;
use super::hardware::Hardware;
use super::queue::{self, Queue};
use crate::time::Time;

/// Number of waiting requests for each worker that a policy is shown. Requests behind them start long after the present
/// decision has been replaced by a later one.
pub(super) const SHOWN_PER_WORKER: usize = 16;

/// Returns the situation with at most `shown` waiting requests. The caller fills in the demand and the largest number
/// of requests of a job.
pub(super) fn situation(now: Time, cluster: &Cluster, queue: &Queue, hardware: &Hardware, shown: usize) -> Situation {
    let seats = cluster.all().filter_map(|(worker, state)| {
        let free = cluster.free(worker, now)?;
        // Models that made room for a load have left `resident` already.
        let holds = state.resident.iter().copied().chain(state.loading).collect();
        Some(Seat { worker, gpu: hardware.gpu(worker), holds, target: state.target, free })
    });
    let seats: Vec<Seat> = seats.collect();
    let class = |class: &queue::Class| Class {
        kind: class.kind,
        skipped_steps: class.skipped_steps,
        times: class.times.clone(),
        waiting: class.len(),
        late: class.line(false).len(),
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

/// Returns the first `most` waiting requests in time, in the order in which they would be served.
fn waiting(queue: &Queue, most: usize) -> Vec<Waiting> {
    queue.in_order(true).take(most).map(|(class, waits)| Waiting { class, due: waits.due }).collect()
}
