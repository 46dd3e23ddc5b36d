//! What policies see of the core when they decide: plain data, put together for the decision.

use alloc::vec::Vec;

use super::action::DecisionKind;
use super::allocation::{Class, Seat, Situation, Waiting};
use super::backlog::{Backlog, Order, Waits};
use super::hardware::Hardware;
use super::worker::{Activity, Workers};
use crate::time::Time;

/// Waiting requests that a policy is shown for each worker: what is behind them starts long after any decision of now
/// has been taken again.
pub(super) const SHOWN_PER_WORKER: usize = 16;

/// The situation but for the demand, which the monitor counts, with so many of the waiting requests at most.
pub(super) fn situation(
    now: Time,
    workers: &Workers,
    backlog: &Backlog,
    hardware: &Hardware,
    shown: usize,
) -> Situation {
    let seats = workers.all().filter_map(|(worker, state)| {
        let free = match state.activity {
            Activity::Idle => now,
            Activity::Running { .. } | Activity::Loading => state.until.max(now),
            Activity::Down => return None,
        };
        let holds = state.resident.iter().copied().chain(state.loading).collect();
        Some(Seat { worker, gpu: hardware.gpu(worker), holds, target: state.target, free })
    });
    let seats: Vec<Seat> = seats.collect();
    let class = |class: &super::backlog::Class| Class {
        kind: class.kind,
        skipped_steps: class.skipped_steps,
        times: class.times.clone(),
        waiting: class.len(),
    };
    Situation {
        demand: None,
        most_together: 1,
        overrun: backlog.is_overrun(),
        classes: backlog.classes().iter().map(class).collect(),
        waiting: waiting(backlog, shown),
        seats,
    }
}

/// The first of what waits, in the order in which it would be served.
fn waiting(backlog: &Backlog, most: usize) -> Vec<Waiting> {
    let order = backlog.settings().order;
    let mut all: Vec<_> = (0..backlog.classes().len())
        .flat_map(|class| {
            let behind = order == Order::MissesFirst && backlog.classes()[class].kind != DecisionKind::Miss;
            let shown = backlog.classes()[class].waiting().take(most);
            shown.map(move |(Waits { place, due, .. }, in_time)| {
                let rank = (!in_time, place.priority, behind, place.key, place.order);
                (rank, Waiting { class, due: *due })
            })
        })
        .collect();
    all.sort_unstable_by_key(|(rank, _)| *rank);
    all.into_iter().take(most).map(|(_, waiting)| waiting).collect()
}
