//! Our allocation policy. It simulates other allocations on the expected demand and picks the best (docs/policies.md). At events,
//! it simulates the waiting requests and a repetition of the recent requests under the present allocation and its neighbours,
//! with the queue, the running jobs and the loads as they are. Fewest late requests win, then the best models, then the fewest
//! loads. The policy needs no model of the load and no gains. It assumes that the near future is like the recent past, so the
//! first requests of a burst meet the allocation of the calm before the burst.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::ops::ControlFlow;

use super::outlook::{Outlook, Task};
use super::{Allocation, AllocationPolicy, Decided, Seat, Situation};
use crate::model::ModelId;
use crate::scheduler::hardware::Hardware;
use crate::time::{Duration, Time};

/// Largest number of moves of one decision.
const MOST_MOVES: usize = 4;

/// Number of parts of the window. The last part shows whether the load has risen.
const PARTS: u64 = 4;

/// Settings of the policy.
#[derive(Clone, Debug)]
pub struct WhatIfSettings {
    /// Model of each worker at time zero.
    pub initial: Vec<ModelId>,
    /// Number of models. Model 0 is the best.
    pub models: usize,
    /// GPU types of the workers, and expected times.
    pub hardware: Hardware,
    /// Length of the recent past that is expected to repeat.
    pub window: Duration,
    /// Time after a change in which only fewer late requests justify another change. Decisions about late requests look about
    /// this far ahead.
    pub calm: Duration,
    /// Least time between two decisions.
    pub gap: Duration,
    /// Safety margin: a request that is expected to finish less than this time before its deadline counts as late.
    pub cushion: Duration,
    /// True if, while the queue is overrun, requests are expected to wait for the best model that finishes them in time.
    pub best_first: bool,
    /// Gain of quality that pays for one load. A request in time counts 1 - m/M, where m is the number of its model from 0, best
    /// first, and M the number of models.
    pub load_price: f64,
}

impl WhatIfSettings {
    /// Returns the length of the past that the policy remembers and expects to repeat in the far future.
    fn memory(&self) -> Duration {
        self.window.max(Duration::from_nanoseconds(self.calm.nanoseconds().saturating_mul(3)))
    }

    /// Returns the upper bound of the patience.
    const fn most_patience(&self) -> Duration {
        Duration::from_nanoseconds(self.calm.nanoseconds().saturating_mul(4))
    }
}

/// Allocation policy that simulates other allocations.
#[derive(Clone, Debug)]
pub struct WhatIf {
    settings: WhatIfSettings,
    /// Requests routed within the memory: time of routing, class, and time left then until the deadline.
    recent: VecDeque<(Time, usize, Duration)>,
    /// Time of the last decision.
    last: Time,
    /// Time of the last change of the allocation.
    changed: Time,
    /// True if the last change was for quality.
    for_quality: bool,
    /// Time for which an allocation stays before a change for quality. The time doubles, up to four times `calm`, when a change
    /// for lateness follows a change for quality, because the change for quality had to be undone. The time returns to `calm`
    /// when two changes for quality follow each other.
    patience: Duration,
    next: Option<Time>,
}

/// Result of a simulation under an allocation.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Judgement {
    /// Number of late requests.
    late: f64,
    /// Sum over the requests in time: 1 for a request on the best model, less on the others.
    quality: f64,
}

impl WhatIf {
    /// Makes the policy at time zero.
    #[must_use]
    pub const fn new(settings: WhatIfSettings) -> Self {
        let patience = settings.calm;
        Self {
            patience,
            for_quality: false,
            settings,
            recent: VecDeque::new(),
            last: Time::ZERO,
            changed: Time::ZERO,
            next: None,
        }
    }

    /// Returns the requests of the near future: the waiting requests, then repetitions of the recent requests.
    fn tasks(&self, now: Time, situation: &Situation) -> Vec<Task> {
        let mut tasks: Vec<Task> = waiting(now, situation).collect();
        self.near_future(now, &mut tasks);
        tasks
    }

    /// Adds repetitions of the window for the time `calm`. If the last part of the window is busier than chance explains, only
    /// that part is repeated.
    fn near_future(&self, now: Time, tasks: &mut Vec<Task>) {
        let since = |length: u64| {
            let from = now.nanoseconds().saturating_sub(length);
            self.recent.partition_point(|(time, ..)| time.nanoseconds() <= from)
        };
        let window = self.settings.window.nanoseconds().min(now.nanoseconds());
        let part = window / PARTS;
        let (first, first_of_part) = (since(window), since(part));
        let usual = (self.recent.len() - first) as f64 / PARTS as f64;
        // The limit of chance is two standard deviations above the mean. A Poisson count of mean u has a standard deviation of
        // sqrt(u).
        let busier = (self.recent.len() - first_of_part) as f64 > usual + 2.0 * libm::sqrt(usual);
        let (first, length) = if busier { (first_of_part, part) } else { (first, window) };
        let times = self.settings.calm.nanoseconds().checked_div(length).unwrap_or(0).clamp(1, 4 * PARTS);
        self.repeat(now, first, length, times, tasks);
    }

    /// Adds `times` repetitions of the remembered requests from index `first` on, each `length` nanoseconds after the one before.
    fn repeat(&self, now: Time, first: usize, length: u64, times: u64, tasks: &mut Vec<Task>) {
        tasks.reserve((self.recent.len() - first) * times as usize);
        for time in 1..=times {
            let later = Duration::from_nanoseconds(length.saturating_mul(time));
            tasks.extend(self.recent.range(first..).map(|&(routed, class, left)| {
                let ready = routed + later;
                Task { ready: ready.max(now), due: ready + left, class }
            }));
        }
    }

    /// Returns the requests of the far future: the waiting requests, then all remembered requests once more.
    fn far_tasks(&self, now: Time, situation: &Situation) -> Vec<Task> {
        let length = self.settings.memory().nanoseconds().min(now.nanoseconds());
        let mut tasks: Vec<Task> = waiting(now, situation).collect();
        self.repeat(now, 0, length, 1, &mut tasks);
        tasks
    }

    /// Judges an allocation by simulation. The simulation ends early once more than `most` requests are late.
    fn judge(&self, outlook: &mut Outlook<'_>, seats: &[Seat], most: f64) -> Judgement {
        let mut judgement = Judgement { late: 0.0, quality: 0.0 };
        let models = self.settings.models as f64;
        outlook.play(seats, |model| {
            match model {
                Some(model) => judgement.quality += 1.0 - f64::from(model.0) / models,
                None => judgement.late += 1.0,
            }
            if judgement.late > most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        judgement
    }

    /// Returns the workers after the best moves for these requests, and whether any request is late without a move.
    fn improve(&self, situation: &Situation, tasks: &[Task], quality: bool) -> (Vec<Seat>, bool) {
        let Situation { classes, most_together, .. } = situation;
        let mut outlook = Outlook::new(&self.settings.hardware, self.settings.models, classes, tasks, *most_together);
        outlook.cushion = self.settings.cushion;
        outlook.best_first = self.settings.best_first && situation.overrun;
        let mut seats = situation.seats.clone();
        let mut judgement = self.judge(&mut outlook, &seats, f64::INFINITY);
        let late = judgement.late > 0.0;
        for _ in 0..MOST_MOVES {
            // No move can help if no request is late and, for quality, the best model makes every image.
            let best = judgement.quality >= tasks.len() as f64;
            if judgement.late == 0.0 && (!quality || best) {
                break;
            }
            let Some((better, judged)) = self.best_move(&mut outlook, &seats, judgement, quality) else { break };
            (seats, judgement) = (better, judged);
        }
        (seats, late)
    }

    /// Returns whether the new allocation has fewer late requests or, with no more of them, a gain of quality that pays for its
    /// loads.
    fn better(&self, new: Judgement, old: Judgement, loads: usize, quality: bool) -> bool {
        let gained = new.quality - old.quality;
        let pays = quality && gained > self.settings.load_price * loads as f64;
        new.late < old.late || (new.late <= old.late && pays)
    }

    /// Returns the best allocation that one move leads to, with its judgement; `None` if no move makes it better.
    fn best_move(
        &self,
        outlook: &mut Outlook<'_>,
        seats: &[Seat],
        now: Judgement,
        quality: bool,
    ) -> Option<(Vec<Seat>, Judgement)> {
        let mut best: Option<(Vec<Seat>, Judgement)> = None;
        for (from, to) in pairs(self.settings.models) {
            for gpu in 0..self.settings.hardware.types() {
                let mut able: Vec<usize> = (0..seats.len())
                    .filter(|seat| seats[*seat].gpu.index() == gpu && seats[*seat].target == from)
                    .collect();
                // Workers that hold the model already change first, then those that are free first: this delays the least work.
                able.sort_by_key(|seat| (!seats[*seat].holds.contains(to), seats[*seat].free, seats[*seat].worker));
                for count in core::iter::successors(Some(1), |count| Some(2 * count)).take_while(|c| *c <= able.len()) {
                    let mut changed = seats.to_vec();
                    able[..count].iter().for_each(|seat| changed[*seat].target = to);
                    if !outlook.serves_all(&changed) {
                        continue;
                    }
                    let loads = able[..count].iter().filter(|seat| !seats[**seat].holds.contains(to)).count();
                    // With more late requests than this, a move is better neither than the present allocation nor than the best
                    // move so far.
                    let most = best.as_ref().map_or(now.late, |(_, best)| best.late.min(now.late));
                    let judgement = self.judge(outlook, &changed, most);
                    let beats = |(_, best): &(Vec<Seat>, Judgement)| self.better(judgement, *best, 0, true);
                    if self.better(judgement, now, loads, quality) && best.as_ref().is_none_or(beats) {
                        best = Some((changed, judgement));
                    }
                }
            }
        }
        best
    }
}

/// Returns the waiting requests, all of which can start now.
fn waiting(now: Time, situation: &Situation) -> impl Iterator<Item = Task> + '_ {
    situation.waiting.iter().map(move |waiting| Task { ready: now, due: waiting.due, class: waiting.class })
}

/// Returns all ordered pairs of different models.
fn pairs(models: usize) -> impl Iterator<Item = (ModelId, ModelId)> {
    let models = models as u16;
    let all = (0..models).flat_map(move |from| (0..models).map(move |to| (ModelId(from), ModelId(to))));
    all.filter(|(from, to)| from != to)
}

impl AllocationPolicy for WhatIf {
    fn initial(&self) -> Allocation {
        Allocation::new(self.settings.initial.clone())
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
        let memory = self.settings.memory();
        while self.recent.front().is_some_and(|(time, ..)| *time + memory <= now) {
            self.recent.pop_front();
        }
        // Late requests of the near future come first. If there are none and the allocation has been left alone for long enough,
        // the quality of the far future follows.
        let (mut seats, late) = self.improve(situation, &self.tasks(now, situation), false);
        let mut for_quality = false;
        if seats == situation.seats && !late && self.changed + self.patience <= now {
            (seats, _) = self.improve(situation, &self.far_tasks(now, situation), true);
            for_quality = true;
        }
        if seats == situation.seats {
            return None;
        }
        self.patience = match (self.for_quality, for_quality) {
            (true, false) => (self.patience + self.patience).min(self.settings.most_patience()),
            (true, true) => self.settings.calm,
            (false, _) => self.patience,
        };
        (self.changed, self.for_quality) = (now, for_quality);
        let mut targets = self.settings.initial.clone();
        // Workers that are down keep their targets.
        for (seat, target) in seats.iter().map(|seat| (seat.worker.index(), seat.target)) {
            targets[seat] = target;
        }
        self.settings.initial.clone_from(&targets);
        let large = targets.iter().filter(|model| model.is_large()).count() as u32;
        Some(Decided {
            allocation: Allocation::new(targets),
            wanted_large: large,
            controller_state: f64::from(large),
            overloaded: Some(late),
        })
    }
}

#[cfg(test)]
mod tests {
    use alloc::borrow::ToOwned;

    use alloc::sync::Arc;

    use rand::RngExt;

    use super::*;
    use crate::draw::{Purpose, stream};
    use crate::model::{GpuId, ModelSet};
    use crate::profile::Profile;
    use crate::scheduler::allocation::{Class, Waiting};
    use crate::scheduler::{DecisionKind, WorkerId};

    const MODELS: usize = 3;

    fn seconds(seconds: f64) -> Duration {
        Duration::from_seconds_saturating(seconds)
    }

    /// Makes hardware with full generations of 90, 16 and 6 seconds by model, and loads of 20 seconds.
    fn hardware(workers: usize) -> Hardware {
        let row = |model: &str, step: f64| {
            format!("[[service]]\ngpu = \"g\"\nmodel = \"{model}\"\nstep_s = {step}\nload_s = 20\n")
        };
        let text = format!("source = \"test\"\n{}{}{}", row("large", 1.8), row("medium", 0.32), row("small", 0.12));
        let file = toml::from_str(&text).expect("a good profile");
        let models = ["large", "medium", "small"].map(str::to_owned);
        let profile = Profile::select(&file, &["g".to_owned()], &models).expect("its rows are there");
        Hardware { gpus: vec![GpuId(0); workers], profile: Arc::new(profile) }
    }

    fn policy(workers: usize) -> WhatIf {
        WhatIf::new(WhatIfSettings {
            initial: vec![ModelId::LARGE; workers],
            models: MODELS,
            hardware: hardware(workers),
            window: seconds(180.0),
            gap: seconds(5.0),
            calm: Duration::ZERO,
            cushion: Duration::ZERO,
            best_first: false,
            load_price: 0.5,
        })
    }

    fn class(kind: DecisionKind, skipped: u32) -> Class {
        let time = |step: f64| Some(seconds(step * f64::from(50 - skipped)));
        let small = |step| if kind == DecisionKind::Miss { None } else { time(step) };
        Class { kind, skipped_steps: skipped, times: [time(1.8), small(0.32), small(0.12)].into(), waiting: 0 }
    }

    /// Makes a situation with random requests, and random jobs on the workers.
    fn situation(seed: u64, policy: &mut WhatIf, now: Time) -> Situation {
        let mut draws = stream(seed, Purpose::Test, 70);
        let workers = policy.settings.initial.len() as u16;
        let classes = vec![class(DecisionKind::Miss, 0), class(DecisionKind::Hit, 5), class(DecisionKind::Hit, 25)];
        let load = draws.random_range(1..6) * u32::from(workers);
        let mut times: Vec<f64> = (0..load).map(|_| draws.random_range(0.0..180.0)).collect();
        times.sort_by(f64::total_cmp);
        let begin = now.seconds() - 180.0;
        for time in times {
            policy.observe(Time::ZERO + seconds(begin + time), draws.random_range(0..3), seconds(183.0));
        }
        let waiting = (0..draws.random_range(0..2 * workers))
            .map(|_| Waiting { class: draws.random_range(0..3), due: now + seconds(draws.random_range(5.0..180.0)) });
        let waiting = waiting.collect();
        let seats = (0..workers).map(|worker| {
            let held = ModelId(draws.random_range(0..3));
            let free = now + seconds(draws.random_range(0.0..60.0));
            Seat { worker: WorkerId(worker), gpu: GpuId(0), holds: ModelSet::EMPTY.with(held), target: held, free }
        });
        Situation { seats: seats.collect(), classes, waiting, ..Situation::default() }
    }

    /// Returns the fewest late requests over all assignments of models to workers.
    fn fewest_late(policy: &WhatIf, situation: &Situation, now: Time) -> f64 {
        let tasks = policy.tasks(now, situation);
        let mut outlook = Outlook::new(&policy.settings.hardware, MODELS, &situation.classes, &tasks, 1);
        let mut fewest = f64::INFINITY;
        for choice in 0..MODELS.pow(situation.seats.len() as u32) {
            let mut seats = situation.seats.clone();
            let mut rest = choice;
            for seat in &mut seats {
                seat.target = ModelId((rest % MODELS) as u16);
                rest /= MODELS;
            }
            if outlook.serves_all(&seats) {
                fewest = fewest.min(policy.judge(&mut outlook, &seats, f64::INFINITY).late);
            }
        }
        fewest
    }

    #[test]
    fn its_moves_come_close_to_the_best_of_all_splits() {
        let now = Time::ZERO + seconds(1000.0);
        let (mut best, mut off, mut gap, mut before) = (0, 0, 0.0, 0.0);
        for seed in 0..150 {
            let mut policy = policy(5);
            let situation = situation(seed, &mut policy, now);
            let fewest = fewest_late(&policy, &situation, now);
            let decided = policy.decide(now, &situation);
            let tasks = policy.tasks(now, &situation);
            let mut outlook = Outlook::new(&policy.settings.hardware, MODELS, &situation.classes, &tasks, 1);
            let mut seats = situation.seats.clone();
            let was = policy.judge(&mut outlook, &seats, f64::INFINITY).late;
            if let Some(decided) = &decided {
                seats.iter_mut().zip(&decided.allocation.targets).for_each(|(seat, target)| seat.target = *target);
            }
            let late = policy.judge(&mut outlook, &seats, f64::INFINITY).late;
            // A decision for quality, made when no request is late, looks at more than the window.
            assert!(late <= was || was == 0.0, "seed {seed}: {late} late after {was}");
            best += usize::from(late <= fewest);
            off += usize::from(late > fewest + 2.0);
            gap += late - fewest;
            before += was - fewest;
        }
        assert!(best >= 110, "{best} of 150 are the best of all splits");
        assert!(off <= 8, "{off} of 150 have over two late requests more than the best");
        assert!(gap <= 0.1 * before, "{gap} late requests too many of {before} before the decisions");
    }

    #[test]
    fn nothing_changes_without_need() {
        let now = Time::ZERO + seconds(1000.0);
        let mut policy = policy(4);
        let seat = |worker| Seat {
            worker: WorkerId(worker),
            gpu: GpuId(0),
            holds: ModelSet::EMPTY.with(ModelId::LARGE),
            target: ModelId::LARGE,
            free: now,
        };
        let classes = vec![class(DecisionKind::Miss, 0), class(DecisionKind::Hit, 25)];
        let situation = Situation { seats: (0..4).map(seat).collect(), classes, ..Situation::default() };
        assert_eq!(policy.decide(now, &situation), None, "nobody asks for anything");
        policy.observe(Time::ZERO + seconds(900.0), 0, seconds(183.0));
        assert_eq!(policy.decide(now, &situation), None, "everything is in time and made by the best model");
        assert!(policy.happened(now + seconds(5.0)) && !policy.happened(now + seconds(4.9)));
        assert_eq!(policy.next_decision(), Some(now + seconds(5.0)));
    }
}
