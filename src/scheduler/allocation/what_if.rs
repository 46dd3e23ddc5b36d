//! Ours: tries other splits in its head and takes the best (docs/policies.md). At events, what waits and a repetition of
//! what came lately are played forward under the split there is and its neighbours, with queues, running jobs and loads
//! as they are; fewest requests late wins, then the best models, then the fewest loads. It needs no model of the load and
//! no gains. It assumes that the near future is like the near past: what it did not see coming finds it as it is.

use std::collections::VecDeque;

use super::outlook::{Outlook, Task};
use super::{Allocation, AllocationPolicy, Decided, LargeTakesHits, Seat, Situation};
use crate::model::ModelId;
use crate::scheduler::hardware::Hardware;
use crate::time::{Duration, Time};

/// Moves that one decision may be made of.
const MOST_MOVES: usize = 4;

/// What it needs to know.
#[derive(Clone, Debug)]
pub struct WhatIfSettings {
    /// What each worker holds at time zero.
    pub initial: Vec<ModelId>,
    /// Models, best first.
    pub models: usize,
    /// Expected times.
    pub hardware: Hardware,
    /// The recent past that is expected to come again.
    pub window: Duration,
    /// The least time between two decisions.
    pub gap: Duration,
    /// Requests that are expected to be done less than this before they are due count as late.
    pub cushion: Duration,
    /// Better images, in requests made by the best instead of the worst model, that pay for one load.
    pub load_price: f64,
}

/// The policy.
#[derive(Clone, Debug)]
pub struct WhatIf {
    settings: WhatIfSettings,
    /// What was routed within the window: when, its class, and the time it had left.
    recent: VecDeque<(Time, usize, Duration)>,
    last: Time,
    next: Option<Time>,
}

/// How a split would do.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Judgement {
    late: f64,
    /// Sum over requests in time: 1 for the best model, less for the others.
    quality: f64,
}

impl WhatIf {
    /// At time zero.
    #[must_use]
    pub const fn new(settings: WhatIfSettings) -> Self {
        Self { settings, recent: VecDeque::new(), last: Time::ZERO, next: None }
    }

    /// What is expected to need a worker: what waits, then the window once more.
    fn tasks(&self, now: Time, situation: &Situation) -> Vec<Task> {
        let waiting = situation.waiting.iter().map(|waiting| Task { ready: now, due: waiting.due, class: waiting.class });
        let window = self.settings.window.nanoseconds().min(now.nanoseconds());
        let again = self.recent.iter().map(|&(time, class, left)| {
            let ready = time + Duration::from_nanoseconds(window);
            Task { ready: ready.max(now), due: ready + left, class }
        });
        waiting.chain(again).collect()
    }

    fn judge(&self, outlook: &mut Outlook<'_>, seats: &[Seat]) -> Judgement {
        let mut judgement = Judgement { late: 0.0, quality: 0.0 };
        let models = self.settings.models as f64;
        outlook.play(seats, |in_time, model| match model {
            Some(model) if in_time => judgement.quality += 1.0 - f64::from(model.0) / models,
            _ => judgement.late += 1.0,
        });
        judgement
    }

    /// Whether a split is worth its loads.
    fn better(&self, new: Judgement, old: Judgement, loads: usize) -> bool {
        let gained = new.quality - old.quality;
        new.late < old.late || (new.late <= old.late && gained > self.settings.load_price * loads as f64)
    }

    /// The best split that one move leads to, if one is better.
    fn best_move(&self, outlook: &mut Outlook<'_>, seats: &[Seat], now: Judgement) -> Option<(Vec<Seat>, Judgement)> {
        let mut best: Option<(Vec<Seat>, Judgement)> = None;
        for (from, to) in pairs(self.settings.models) {
            for gpu in 0..self.settings.hardware.types() {
                let mut able: Vec<usize> = (0..seats.len())
                    .filter(|seat| seats[*seat].gpu.index() == gpu && seats[*seat].target == from)
                    .collect();
                // Those that have the model already, then those that are free first: least work is delayed.
                able.sort_by_key(|seat| (seats[*seat].holds != Some(to), seats[*seat].free, seats[*seat].worker));
                for count in std::iter::successors(Some(1), |count| Some(2 * count)).take_while(|c| *c <= able.len()) {
                    let mut changed = seats.to_vec();
                    able[..count].iter().for_each(|seat| changed[*seat].target = to);
                    if !outlook.serves_all(&changed) {
                        continue;
                    }
                    let loads = able[..count].iter().filter(|seat| seats[**seat].holds != Some(to)).count();
                    let judgement = self.judge(outlook, &changed);
                    let than = best.as_ref().map_or(now, |(_, best)| *best);
                    if self.better(judgement, than, if best.is_some() { 0 } else { loads }) && self.better(judgement, now, loads) {
                        best = Some((changed, judgement));
                    }
                }
            }
        }
        best
    }
}

/// Every model and another one.
fn pairs(models: usize) -> impl Iterator<Item = (ModelId, ModelId)> {
    let models = models as u16;
    let all = (0..models).flat_map(move |from| (0..models).map(move |to| (ModelId(from), ModelId(to))));
    all.filter(|(from, to)| from != to)
}

impl AllocationPolicy for WhatIf {
    fn initial(&self) -> Allocation {
        Allocation { targets: self.settings.initial.clone(), large_takes_hits: LargeTakesHits::WithoutMisses }
    }

    fn next_decision(&self) -> Option<Time> {
        self.next
    }

    fn observe(&mut self, now: Time, class: usize, left: Duration) {
        self.recent.push_back((now, class, left));
    }

    fn happened(&mut self, now: Time) -> bool {
        let due = self.last + self.settings.gap;
        self.next = Some(due.max(now));
        due <= now
    }

    fn decide(&mut self, now: Time, situation: &Situation) -> Option<Decided> {
        (self.last, self.next) = (now, None);
        while self.recent.front().is_some_and(|(time, ..)| *time + self.settings.window <= now) {
            self.recent.pop_front();
        }
        let tasks = self.tasks(now, situation);
        let mut outlook = Outlook::new(&self.settings.hardware, self.settings.models, &situation.classes, &tasks);
        outlook.cushion = self.settings.cushion;
        let mut seats = situation.seats.clone();
        let mut judgement = self.judge(&mut outlook, &seats);
        let before = judgement;
        for _ in 0..MOST_MOVES {
            // Nothing is late and the best model makes everything: no split does better.
            if judgement.late == 0.0 && judgement.quality >= tasks.len() as f64 {
                break;
            }
            let Some((better, judged)) = self.best_move(&mut outlook, &seats, judgement) else { break };
            (seats, judgement) = (better, judged);
        }
        if seats == situation.seats {
            return None;
        }
        let mut targets = self.settings.initial.clone();
        // Workers that are down keep what they were to hold.
        for (seat, target) in seats.iter().map(|seat| (seat.worker.index(), seat.target)) {
            targets[seat] = target;
        }
        self.settings.initial.clone_from(&targets);
        let large = targets.iter().filter(|model| model.is_large()).count() as u32;
        Some(Decided {
            allocation: Allocation { targets, large_takes_hits: LargeTakesHits::WithoutMisses },
            wanted_large: large,
            controller_state: f64::from(large),
            overloaded: Some(before.late > 0.0),
        })
    }
}
