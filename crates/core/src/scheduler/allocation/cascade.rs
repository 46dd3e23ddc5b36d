//! Allocation of `DiffServe` (`MLSys` '25), for cascades of two models on equal GPUs, not for caches. The policy
//! chooses the number of light workers, two batch sizes and a threshold such that both stages keep up with the demand
//! and a request passes both stages in time. Of all such choices, the one with the highest threshold wins: it makes as
//! many drafts as possible again. The integer program is small enough to try all choices, and docs/policies.md explains
//! why that is exact.

use alloc::sync::Arc;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::{Allocation, AllocationPolicy, Cascade, Decided, Situation, Ticks};
use crate::confidence::Confidences;
use crate::denoising::Denoising;
use crate::model::{GpuId, ModelId, Work};
use crate::profile::Profile;
use crate::request::Shape;
use crate::scheduler::DecisionKind;
use crate::time::{Duration, Time};

/// Estimate of the time that a request waits for either stage. The wait counts against the deadline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum QueueDelay {
    /// Our estimate: the waiting requests of a stage over the throughput of the stage's workers in the choice under
    /// consideration.
    #[default]
    Throughput,
    /// Estimate of `DiffServe`'s artifact, by Little's law: the waiting requests of a stage over the stage's rate of
    /// arrivals, the same for every choice. 0 for a stage without arrivals.
    ArrivalRate,
}

/// Settings of the policy.
#[derive(Clone, Debug)]
pub struct CascadeSettings {
    /// Allocation at time zero and until the first decision.
    pub initial: Allocation,
    /// Time between two decisions.
    pub period: Duration,
    /// Share of the capacity that the policy plans with.
    pub headroom: f64,
    /// Time within which a request should pass both stages.
    pub due: Duration,
    /// Estimate of the time that a request waits for either stage.
    pub queue_delay: QueueDelay,
    /// Light model, which makes the drafts. The heavy model is [`ModelId::LARGE`].
    pub light: ModelId,
    /// Largest number of requests of a job.
    pub most: u32,
    /// Steps of the models.
    pub denoising: Denoising,
    /// Service times. Those of the first GPU type are used.
    pub profile: Arc<Profile>,
    /// Distribution of the confidence in drafts.
    pub confidences: Confidences,
}

/// Allocation policy of `DiffServe`.
#[derive(Clone, Debug)]
pub struct CascadeAllocation {
    settings: CascadeSettings,
    ticks: Ticks,
    /// Requests routed to the queue since the last decision: time of routing and class.
    placed: Vec<(Time, usize)>,
}

/// Demand on the two stages and present number of light workers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StageDemand {
    /// Rate of requests per second.
    pub rate: f64,
    /// Rate of drafts per second that are sent to the heavy stage to be made again.
    pub again_rate: f64,
    /// Number of requests that wait for a draft.
    pub drafts: usize,
    /// Number of requests that wait for the heavy stage.
    pub again: usize,
    /// Number of workers whose target is the light model now.
    pub light: u32,
}

/// Solution of the integer program.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// Number of workers with the light model. All other workers have the heavy model.
    pub light: u32,
    /// Number of requests of a job on the light model, and on the heavy model.
    pub batches: (u32, u32),
    /// Confidence below which a draft is made again.
    pub threshold: f64,
    /// True if both stages keep up with the demand and requests are in time.
    pub feasible: bool,
}

impl CascadeSettings {
    /// Returns the best choice for the demand. At least one worker has each model. If no choice is feasible, the best
    /// choice without the waiting requests is returned, or else the choice that makes the most drafts.
    #[must_use]
    pub fn solve(&self, asked: &StageDemand) -> Choice {
        let anew = StageDemand { drafts: 0, again: 0, ..*asked };
        let otherwise = || self.search(&anew).map(|choice| Choice { feasible: false, ..choice });
        self.search(asked).or_else(otherwise).unwrap_or_else(|| self.fastest())
    }

    /// Returns the feasible choice with the highest threshold. Among equal thresholds the fewest workers that change
    /// win, then the lowest latency.
    fn search(&self, asked: &StageDemand) -> Option<Choice> {
        let workers = self.initial.targets.len() as u32;
        let mut best: Option<(f64, u32, f64, Choice)> = None;
        for light in 1..workers {
            for light_batch in 1..=self.largest(self.light) {
                for heavy_batch in 1..=self.largest(ModelId::LARGE) {
                    let batches = (light_batch, heavy_batch);
                    let Some((threshold, latency)) = self.highest(asked, light, batches) else { continue };
                    let choice = Choice { light, batches, threshold, feasible: true };
                    let changes = light.abs_diff(asked.light);
                    let beats = |(other, its_changes, its_latency, _): (f64, u32, f64, Choice)| {
                        let by_threshold = threshold.total_cmp(&other).reverse();
                        by_threshold.then(changes.cmp(&its_changes)).then(latency.total_cmp(&its_latency)).is_lt()
                    };
                    if best.is_none_or(beats) {
                        best = Some((threshold, changes, latency, choice));
                    }
                }
            }
        }
        best.map(|(.., choice)| choice)
    }

    /// Returns the highest threshold that is feasible with this number of light workers and these batch sizes, and the
    /// latency of both stages in seconds. `None` if no threshold is feasible.
    fn highest(&self, asked: &StageDemand, light: u32, batches: (u32, u32)) -> Option<(f64, f64)> {
        let workers = self.initial.targets.len() as u32;
        let drafted = f64::from(light) * self.rate(self.light, batches.0) * self.headroom;
        let again = f64::from(workers - light) * self.rate(ModelId::LARGE, batches.1) * self.headroom;
        let latency = self.latency(asked, light, batches);
        let does = drafted >= asked.rate && latency <= self.due.seconds();
        let share = if asked.rate > 0.0 { again / asked.rate } else { 1.0 };
        does.then(|| (self.confidences.highest(share), latency))
    }

    /// Returns the seconds from arrival to the second image: both jobs, and the wait for each.
    fn latency(&self, asked: &StageDemand, light: u32, batches: (u32, u32)) -> f64 {
        let heavy = self.initial.targets.len() as u32 - light;
        let waits = |waiting: usize, arrivals: f64, workers: u32, model, batch| match self.queue_delay {
            QueueDelay::Throughput => waiting as f64 / (f64::from(workers) * self.rate(model, batch)),
            QueueDelay::ArrivalRate if arrivals > 0.0 => waiting as f64 / arrivals,
            QueueDelay::ArrivalRate => 0.0,
        };
        self.seconds(self.light, batches.0)
            + waits(asked.drafts, asked.rate, light, self.light, batches.0)
            + self.seconds(ModelId::LARGE, batches.1)
            + waits(asked.again, asked.again_rate, heavy, ModelId::LARGE, batches.1)
    }

    /// Returns the choice for a demand that no choice can meet: as many drafts as possible, none of which is made
    /// again.
    fn fastest(&self) -> Choice {
        let workers = self.initial.targets.len() as u32;
        let best = |model| {
            let sizes = 1..=self.largest(model);
            sizes.max_by(|a, b| self.rate(model, *a).total_cmp(&self.rate(model, *b)).then(b.cmp(a))).unwrap_or(1)
        };
        let batches = (best(self.light), best(ModelId::LARGE));
        Choice { light: workers.saturating_sub(1).max(1), batches, threshold: 0.0, feasible: false }
    }

    /// Returns the largest number of requests of a job on a model.
    fn largest(&self, model: ModelId) -> u32 {
        self.profile.service(GpuId(0), model).most().min(self.most)
    }

    /// Returns the seconds that a job of `requests` requests takes on a model.
    fn seconds(&self, model: ModelId, requests: u32) -> f64 {
        let service = self.profile.service(GpuId(0), model);
        let steps = self.denoising.steps(model, Shape::default());
        service.job_s(Work::new(model, steps, 0)) * service.batch_factor(requests)
    }

    /// Returns the throughput of one worker in requests per second.
    fn rate(&self, model: ModelId, requests: u32) -> f64 {
        f64::from(requests) / self.seconds(model, requests)
    }
}

impl CascadeAllocation {
    /// Makes the policy at time zero.
    #[must_use]
    pub fn new(settings: CascadeSettings) -> Self {
        Self { ticks: Ticks::new(settings.period), settings, placed: Vec::new() }
    }
}

impl AllocationPolicy for CascadeAllocation {
    fn initial(&self) -> Allocation {
        self.settings.initial.clone()
    }

    fn next_decision(&self) -> Option<Time> {
        Some(self.ticks.next)
    }

    fn needs_demand(&self) -> bool {
        true
    }

    fn needs_waiting(&self) -> bool {
        false
    }

    fn pass_over(&mut self, now: Time) -> Time {
        self.ticks.pass_over(now)
    }

    fn observe(&mut self, now: Time, class: usize, _left: Duration) {
        self.placed.push((now, class));
    }

    fn decide(&mut self, now: Time, situation: &Situation) -> Option<Decided> {
        self.ticks.pass_over(now);
        let placed = core::mem::take(&mut self.placed);
        let demand = situation.demand.as_ref()?;
        // `situation.waiting` holds only the first waiting requests. The classes count all of them.
        let waiting = |kind: DecisionKind| -> usize {
            situation.classes.iter().filter(|class| class.kind == kind).map(|class| class.waiting).sum()
        };
        // The window may begin with the last skipped tick, and drafts may have been sent to the heavy stage before it.
        let in_window = placed.iter().filter(|(placed, _)| now.since(*placed) <= demand.window);
        let again = in_window.filter(|(_, class)| situation.classes[*class].kind == DecisionKind::Miss).count();
        let choice = self.settings.solve(&StageDemand {
            rate: demand.requests as f64 / demand.window.seconds(),
            again_rate: again as f64 / demand.window.seconds(),
            drafts: waiting(DecisionKind::Draft),
            again: waiting(DecisionKind::Miss),
            light: situation.seats.iter().filter(|seat| seat.target == self.settings.light).count() as u32,
        });
        let Choice { light, batches: (light_batch, heavy_batch), threshold, feasible } = choice;
        let workers = self.settings.initial.targets.len();
        let heavy = workers - light as usize;
        let mut batches: SmallVec<[u32; 3]> = SmallVec::from_elem(light_batch, self.settings.light.index() + 1);
        batches[0] = heavy_batch;
        let cascade = Some(Cascade { threshold, batches });
        Some(Decided {
            allocation: Allocation { cascade, ..Allocation::split(workers, heavy, self.settings.light) },
            wanted_large: heavy as u32,
            controller_state: heavy as f64,
            overloaded: Some(!feasible),
        })
    }
}

#[cfg(test)]
mod tests {
    use alloc::borrow::ToOwned;

    use rand::RngExt;

    use super::*;
    use crate::draw::{Purpose, stream};

    fn settings(seed: u64) -> CascadeSettings {
        let mut draws = stream(seed, Purpose::Test, 90);
        let mut row = |model: &str, seconds: f64| {
            let (two, four) = (draws.random_range(1.1..1.9), draws.random_range(2.0..3.5));
            format!(
                "[[service]]\ngpu = \"g\"\nmodel = \"{model}\"\nstep_s = 0\noverhead_s = {seconds:?}\nload_s = 0\n\
                 batches = [[2, {two:?}], [4, {four:?}]]\n"
            )
        };
        let text = format!("source = \"test\"\n{}{}", row("heavy", 1.8), row("light", 0.1));
        let file = toml::from_str(&text).expect("a good profile");
        let models = ["heavy", "light"].map(str::to_owned);
        let profile = Profile::select(&file, &["g".to_owned()], &models).expect("its rows are there");
        let workers = draws.random_range(2..7);
        CascadeSettings {
            initial: Allocation::split(workers, 1, ModelId(1)),
            period: Duration::from_seconds_saturating(5.0),
            headroom: 0.95,
            due: Duration::from_seconds_saturating(draws.random_range(3.0..9.0)),
            queue_delay: if seed.is_multiple_of(2) { QueueDelay::Throughput } else { QueueDelay::ArrivalRate },
            light: ModelId(1),
            most: draws.random_range(1..=4),
            denoising: Denoising::alike(2, 50),
            profile: Arc::new(profile),
            confidences: Confidences::scores((0..25).map(|_| draws.random_range(0.0..1.0)).collect()),
        }
    }

    /// Returns the highest feasible threshold over all numbers of light workers, batch sizes and thresholds, by the
    /// constraints as they are written.
    fn brute_force(settings: &CascadeSettings, asked: &StageDemand) -> Option<f64> {
        let Confidences::Scores { rising, .. } = &settings.confidences else { panic!("scores") };
        let workers = settings.initial.targets.len() as u32;
        let thresholds: Vec<f64> = rising.iter().copied().chain([1.0]).collect();
        let mut best: Option<f64> = None;
        for (light, light_batch) in (1..workers).flat_map(|light| (1..=4).map(move |batch| (light, batch))) {
            for (heavy_batch, threshold) in (1..=4).flat_map(|batch| thresholds.iter().map(move |t| (batch, *t))) {
                let rate = |model: ModelId, batch: u32| {
                    let service = settings.profile.service(GpuId(0), model);
                    f64::from(batch) / (service.overhead_s * service.batch_factor(batch))
                };
                let (drafted, again) = (rate(ModelId(1), light_batch), rate(ModelId(0), heavy_batch));
                let (x1, x2) = (f64::from(light), f64::from(workers - light));
                let served_or_arriving = match settings.queue_delay {
                    QueueDelay::Throughput => (x1 * drafted, x2 * again),
                    QueueDelay::ArrivalRate => (asked.rate, asked.again_rate),
                };
                let latency = f64::from(light_batch) / drafted
                    + asked.drafts as f64 / served_or_arriving.0
                    + f64::from(heavy_batch) / again
                    + asked.again as f64 / served_or_arriving.1;
                let able = light_batch <= settings.most
                    && heavy_batch <= settings.most
                    && x1 * drafted * settings.headroom >= asked.rate
                    && x2 * again * settings.headroom >= asked.rate * settings.confidences.below(threshold)
                    && latency <= settings.due.seconds();
                if able {
                    best = Some(best.map_or(threshold, |best| best.max(threshold)));
                }
            }
        }
        best
    }

    #[test]
    fn finds_what_brute_force_finds() {
        let mut feasible = 0;
        for seed in 0..400 {
            let settings = settings(seed);
            let mut draws = stream(seed, Purpose::Test, 91);
            let asked = StageDemand {
                rate: draws.random_range(0.1..40.0),
                again_rate: draws.random_range(0.1..10.0),
                drafts: draws.random_range(0..20),
                again: draws.random_range(0..6),
                light: draws.random_range(1..6),
            };
            let choice = settings.solve(&asked);
            let best = brute_force(&settings, &asked);
            assert_eq!(choice.feasible.then_some(choice.threshold), best, "seed {seed}: {choice:?}");
            feasible += u32::from(choice.feasible);
        }
        assert!((100..350).contains(&feasible), "{feasible} of 400 could be done");
    }
}
