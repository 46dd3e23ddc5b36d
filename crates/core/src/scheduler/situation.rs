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

/// The first of what waits, in the order in which it would be served: the lines of all classes, each in that order already,
/// are merged.
fn waiting(queue: &Queue, most: usize) -> Vec<Waiting> {
    let mut found = Vec::with_capacity(most.min(queue.len()));
    for in_time in [true, false] {
        let classes = queue.classes().iter().enumerate();
        let mut lines: Vec<_> =
            classes.map(|(class, its)| (class, queue.is_behind(its), its.line(in_time).iter().peekable())).collect();
        while found.len() < most {
            let heads = lines
                .iter_mut()
                .enumerate()
                .filter_map(|(at, (_, is_behind, line))| Some((line.peek()?.rank(*is_behind), at)));
            let Some((_, at)) = heads.min() else { break };
            let (class, _, line) = &mut lines[at];
            found.extend(line.next().map(|waits| Waiting { class: *class, due: waits.due }));
        }
    }
    found
}
