//! Our allocation policy. It simulates other allocations on the expected demand and picks the best (docs/policies.md).
//! At events, it simulates the waiting requests and a repetition of the recent requests under the present allocation
//! and its neighbours, with the queue, the running jobs and the loads as they are. Late requests, the models that make
//! the images, and loads have prices in one score. The policy needs no model of the load and no gains. It assumes that
//! the near future is like the recent past, so the first requests of a burst meet the allocation of the calm before the
//! burst.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::ops::ControlFlow;

use super::outlook::{Outlook, Task};
use super::{Allocation, AllocationPolicy, Decided, LargeTakesHits, Seat, Situation, any_late};
use crate::model::ModelId;
use crate::scheduler::hardware::Hardware;
use crate::time::{Duration, Time};

/// Largest number of moves of one decision.
const MOST_MOVES: usize = 4;

/// Number of workers that a simulation has at the least before each stands for several. A sample of the workers and the
/// requests tells the splits apart as well, and keeps the cost of a decision from growing with the square of the
/// cluster.
const ENOUGH_WORKERS: usize = 192;

/// Number of parts of the window. The last part shows whether the load has risen.
const PARTS: u64 = 4;

/// Price of a late request that stays waiting, as a share of the price of a request that becomes late. The backlog has
/// to be served, but it has lost already what a request in time can still lose. Fitted on `scenarios/policies/tuning`.
const STAYS_LATE: f64 = 0.25;

/// Settings of the policy.
#[derive(Clone, Debug)]
pub struct WhatIfSettings {
    /// Model of each worker at time zero.
    pub initial: Vec<ModelId>,
    /// Worth of an image by each model, from 0 for the worst model to 1 for the best.
    pub worth: Vec<f64>,
    /// GPU types of the workers, and expected times.
    pub hardware: Hardware,
    /// Length of the recent past that is expected to repeat.
    pub window: Duration,
    /// Time that a decision looks ahead.
    pub horizon: Duration,
    /// Least time between two decisions.
    pub gap: Duration,
    /// Safety margin: a request that is expected to finish less than this time before its deadline counts as late.
    pub cushion: Duration,
    /// True if, while the queue is overrun, requests are expected to wait for the best model that finishes them in
    /// time.
    pub best_first: bool,
    /// Gain of worth that pays for one load: a number of images by the best model in place of the worst.
    pub load_price: f64,
    /// Loss of worth that one request less that is late pays for: a number of images by the worst model in place of the
    /// best.
    pub late_price: f64,
}

/// Allocation policy that simulates other allocations.
#[derive(Clone, Debug)]
pub struct WhatIf {
    settings: WhatIfSettings,
    /// Requests routed within the window: time of routing, class, and time left then until the deadline.
    recent: VecDeque<(Time, usize, Duration)>,
    /// Time of the last decision.
    last: Time,
    /// Time of the last change of the targets.
    changed: Time,
    /// True if the last change was for better models alone.
    for_quality: bool,
    /// Time for which the targets stay before a change for better models alone: `gap` at first. It doubles, up to half
    /// of `horizon`, when fewer late requests call for a change after a change for better models, which thus had to be
    /// undone, and returns to `gap` when two changes for better models follow each other.
    patience: Duration,
    /// Condition under which large workers take hits.
    large_takes_hits: LargeTakesHits,
    next: Option<Time>,
    /// Number of workers that a simulation has at the least before each stands for several.
    enough_workers: usize,
}

/// Result of a simulation under an allocation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Judgement {
    /// Number of requests that become late, plus [`STAYS_LATE`] for each late request that stays waiting.
    late: f64,
    /// Sum of the worth of the images of the requests in time. 0 while any late request waits: time that better models
    /// would take is needed to catch up.
    worth: f64,
}

impl WhatIf {
    /// Makes the policy at time zero.
    #[must_use]
    pub const fn new(settings: WhatIfSettings) -> Self {
        Self {
            patience: settings.gap,
            settings,
            recent: VecDeque::new(),
            last: Time::ZERO,
            changed: Time::ZERO,
            for_quality: false,
            large_takes_hits: LargeTakesHits::WithoutMisses,
            next: None,
            enough_workers: ENOUGH_WORKERS,
        }
    }

    /// Returns the number of workers that each one of a simulation stands for.
    fn stride(&self, situation: &Situation) -> usize {
        (situation.seats.len() / self.enough_workers).max(1)
    }

    /// Returns the requests of the near future: the waiting requests, then repetitions of the recent requests.
    fn tasks(&self, now: Time, situation: &Situation) -> Vec<Task> {
        let mut tasks: Vec<Task> = waiting(now, situation).collect();
        self.near_future(now, &mut tasks);
        let stride = self.stride(situation);
        if stride > 1 {
            // One in `stride` of each class, so that the sample has as much work of each kind as the whole.
            let mut passed = vec![stride / 2; situation.classes.len()];
            tasks.retain(|task| {
                passed[task.class] += 1;
                passed[task.class].is_multiple_of(stride)
            });
        }
        tasks
    }

    /// Adds repetitions of the window for the time `horizon`. If the last part of the window is busier than chance
    /// explains, only that part is repeated.
    fn near_future(&self, now: Time, tasks: &mut Vec<Task>) {
        let since = |length: u64| {
            let from = now.nanoseconds().saturating_sub(length);
            self.recent.partition_point(|(time, ..)| time.nanoseconds() <= from)
        };
        let window = self.settings.window.nanoseconds().min(now.nanoseconds());
        let part = window / PARTS;
        let (first, first_of_part) = (since(window), since(part));
        let usual = (self.recent.len() - first) as f64 / PARTS as f64;
        // The limit of chance is two standard deviations above the mean. A Poisson count of mean u has a standard
        // deviation of sqrt(u).
        let busier = (self.recent.len() - first_of_part) as f64 > usual + 2.0 * libm::sqrt(usual);
        let (first, length) = if busier { (first_of_part, part) } else { (first, window) };
        let times = self.settings.horizon.nanoseconds().checked_div(length).unwrap_or(0).clamp(1, 4 * PARTS);
        self.repeat(now, first, length, times, tasks);
    }

    /// Adds `times` repetitions of the remembered requests from index `first` on, each `length` nanoseconds after the
    /// one before.
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

    /// Judges an allocation by simulation. The simulation ends early once its score can no longer be above `least`.
    fn judge(&self, outlook: &mut Outlook<'_>, seats: &[Seat], least: f64) -> Judgement {
        let mut judgement = Judgement::default();
        let each = outlook.stride as f64;
        // Worth of an image by the best model. Each request that is still to come adds no more than that.
        let whole = if any_late(outlook.classes()) { 0.0 } else { 1.0 };
        let mut most = whole * each * outlook.tasks() as f64;
        outlook.play(seats, |model| {
            let worth = model.map_or(0.0, |model| whole * self.settings.worth[model.index()]);
            let late = if model.is_none() { 1.0 } else { 0.0 };
            judgement.worth += each * worth;
            judgement.late += each * late;
            most -= each * (whole - worth + self.settings.late_price * late);
            if most < least { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        judgement.late += STAYS_LATE * outlook.stay_late() as f64;
        judgement
    }

    /// Returns the workers after the best moves for these requests, with the judgements before and after. Moves for
    /// better models alone are made only with `for_quality`.
    fn improve(
        &self,
        now: Time,
        situation: &Situation,
        tasks: &[Task],
        for_quality: bool,
    ) -> (Vec<Seat>, [Judgement; 2]) {
        let Situation { classes, most_together, .. } = situation;
        let mut outlook =
            Outlook::new(&self.settings.hardware, self.settings.worth.len(), classes, tasks, *most_together);
        outlook.cushion = self.settings.cushion;
        outlook.best_first = self.settings.best_first && situation.overrun;
        outlook.until = now + self.settings.horizon;
        outlook.hits_without_large = any_late(classes);
        outlook.stride = self.stride(situation);
        let mut seats = situation.seats.clone();
        if outlook.stride > 1 {
            // The sample is taken evenly among workers that are free early and late.
            seats.sort_by_key(|seat| seat.free);
        }
        let before = self.judge(&mut outlook, &seats, f64::NEG_INFINITY);
        let mut after = before;
        for _ in 0..MOST_MOVES {
            // No move can help if no request is late and the best model makes every image.
            if after.late == 0.0 && after.worth >= (outlook.stride * tasks.len()) as f64 {
                break;
            }
            let Some((better, judged)) = self.best_move(&mut outlook, &seats, after, for_quality) else { break };
            (seats, after) = (better, judged);
        }
        if outlook.stride > 1 {
            seats.sort_unstable_by_key(|seat| seat.worker);
        }
        (seats, [before, after])
    }

    /// Notes a change of the targets.
    fn note_change(&mut self, now: Time, for_quality: bool) {
        let most = Duration::from_nanoseconds(self.settings.horizon.nanoseconds() / 2).max(self.settings.gap);
        self.patience = match (self.for_quality, for_quality) {
            (true, false) => (self.patience + self.patience).min(most),
            (true, true) => self.settings.gap,
            (false, _) => self.patience,
        };
        (self.changed, self.for_quality) = (now, for_quality);
    }

    fn score(&self, judgement: Judgement) -> f64 {
        judgement.worth - self.settings.late_price * judgement.late
    }

    /// Returns the best allocation that one move leads to, with its judgement; `None` if no move makes it better.
    fn best_move(
        &self,
        outlook: &mut Outlook<'_>,
        seats: &[Seat],
        now: Judgement,
        for_quality: bool,
    ) -> Option<(Vec<Seat>, Judgement)> {
        let mut best: Option<(Vec<Seat>, Judgement)> = None;
        // Score above which a move is worth its loads.
        let mut least = self.score(now);
        for (from, to) in pairs(self.settings.worth.len()) {
            for gpu in 0..self.settings.hardware.types() {
                let mut able: Vec<usize> = (0..seats.len())
                    .filter(|seat| seats[*seat].gpu.index() == gpu && seats[*seat].target == from)
                    .collect();
                // Workers that hold the model already change first, then those that are free first: this delays the
                // least work.
                able.sort_by_key(|seat| (!seats[*seat].holds.contains(to), seats[*seat].free, seats[*seat].worker));
                let counts = core::iter::successors(Some(outlook.stride), |count| Some(2 * count));
                for count in counts.take_while(|count| *count <= able.len()) {
                    let mut changed = seats.to_vec();
                    able[..count].iter().for_each(|seat| changed[*seat].target = to);
                    if !outlook.serves_all(&changed) {
                        continue;
                    }
                    let loads = able[..count].iter().filter(|seat| !seats[**seat].holds.contains(to)).count();
                    let price = self.settings.load_price * loads as f64;
                    let judgement = self.judge(outlook, &changed, least + price);
                    let score = self.score(judgement) - price;
                    if score > least && (for_quality || judgement.late < now.late) {
                        best = Some((changed, judgement));
                        least = score;
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
        let window = self.settings.window;
        while self.recent.front().is_some_and(|(time, ..)| *time + window <= now) {
            self.recent.pop_front();
        }
        let is_patient = self.changed + self.patience <= now;
        let (seats, [before, after]) = self.improve(now, situation, &self.tasks(now, situation), is_patient);
        // While late requests wait, large workers are needed for the misses among them.
        let hits =
            if any_late(&situation.classes) { LargeTakesHits::WithoutSmall } else { LargeTakesHits::WithoutMisses };
        if seats == situation.seats && hits == self.large_takes_hits {
            return None;
        }
        self.large_takes_hits = hits;
        if seats != situation.seats {
            self.note_change(now, after.late >= before.late);
        }
        let mut targets = self.settings.initial.clone();
        // Workers that are down keep their targets.
        for (seat, target) in seats.iter().map(|seat| (seat.worker.index(), seat.target)) {
            targets[seat] = target;
        }
        self.settings.initial.clone_from(&targets);
        let large = targets.iter().filter(|model| model.is_large()).count() as u32;
        Some(Decided {
            allocation: Allocation { large_takes_hits: hits, ..Allocation::new(targets) },
            wanted_large: large,
            controller_state: f64::from(large),
            overloaded: Some(before.late > 0.0),
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
            worth: vec![1.0, 0.5, 0.0],
            hardware: hardware(workers),
            window: seconds(180.0),
            gap: seconds(5.0),
            horizon: Duration::ZERO,
            cushion: Duration::ZERO,
            best_first: false,
            load_price: 0.5,
            late_price: 1e6,
        })
    }

    fn class(kind: DecisionKind, skipped: u32) -> Class {
        let time = |step: f64| Some(seconds(step * f64::from(50 - skipped)));
        let small = |step| if kind == DecisionKind::Miss { None } else { time(step) };
        Class { kind, skipped_steps: skipped, times: [time(1.8), small(0.32), small(0.12)].into(), waiting: 0, late: 0 }
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
                fewest = fewest.min(policy.judge(&mut outlook, &seats, f64::NEG_INFINITY).late);
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
            let was = policy.judge(&mut outlook, &seats, f64::NEG_INFINITY).late;
            if let Some(decided) = &decided {
                seats.iter_mut().zip(&decided.allocation.targets).for_each(|(seat, target)| seat.target = *target);
            }
            let late = policy.judge(&mut outlook, &seats, f64::NEG_INFINITY).late;
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
    fn a_sample_of_a_large_cluster_finds_splits_as_good_as_the_whole_does() {
        let now = Time::ZERO + seconds(1000.0);
        let (mut off, mut found) = (0.0, 0.0);
        for seed in 0..12 {
            let mut sampled = policy(1_024);
            sampled.settings.late_price = 10.0;
            let situation = situation(seed, &mut sampled, now);
            let mut whole = sampled.clone();
            whole.enough_workers = usize::MAX;
            let tasks = whole.tasks(now, &situation);
            let score = |seats: &[Seat]| {
                let loads = seats.iter().filter(|seat| !seat.holds.contains(seat.target)).count();
                let mut outlook = Outlook::new(&whole.settings.hardware, MODELS, &situation.classes, &tasks, 1);
                outlook.until = now + whole.settings.horizon;
                whole.score(whole.judge(&mut outlook, seats, f64::NEG_INFINITY))
                    - whole.settings.load_price * loads as f64
            };
            let found_by =
                |policy: &WhatIf| score(&policy.improve(now, &situation, &policy.tasks(now, &situation), true).0);
            let best = found_by(&whole);
            assert!(sampled.stride(&situation) == 5 && sampled.tasks(now, &situation).len() < tasks.len() / 4);
            off += best - found_by(&sampled);
            found += best - score(&situation.seats);
        }
        assert!(off <= 0.05 * found, "the sample misses {off} of {found}");
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
