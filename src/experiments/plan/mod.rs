//! Plans: the cheapest cluster that holds a latency target for a trace, and the next-best clusters. `search` says which
//! cluster to try, and `trial` tries it.

use std::num::NonZeroUsize;

use super::{ExperimentError, Progress, Search};
use crate::input::InputError;
use crate::scenario::{Fingerprint, Override, Scenario, Source};

mod at_choice;
mod rows;
mod search;
mod trial;

pub use rows::{PlanAtEnd, PlanAtHitRate, PlanRow, mix_name};

use search::{Candidates, Mix};
use trial::Trials;

/// Largest number of mixes among which a plan may be searched.
const MOST_MIXES: u64 = 100_000;

/// Latency target that a cluster must hold, and the clusters to choose from.
#[derive(Clone, Debug)]
pub struct Question {
    /// Number of full generations on the large model (first GPU type of the scenario) within which a request is in
    /// time.
    pub slo_multiple: f64,
    /// Share of the requests that must be in time, over all seeds.
    pub attainment: f64,
    /// Share of the large model's own quality that the mean image must keep, over all seeds.
    pub quality: Option<f64>,
    /// Number of traces that a cluster must hold.
    pub seeds: NonZeroUsize,
    /// Factor on the traffic: the same requests arrive at this many times the rate.
    pub load: f64,
    /// Largest number of GPUs of each group of the cluster; four times the number in the scenario if empty.
    pub most: Vec<u32>,
    /// Number of GPUs that are down from the start.
    pub spare: u32,
    /// Number of next-best clusters to run as well.
    pub alternatives: usize,
    /// True to plan also at the ends of the range that the profile leaves open.
    pub at_ends: bool,
}

impl Default for Question {
    /// Asks for 99 % of the requests within two full generations on three traces.
    fn default() -> Self {
        Self {
            slo_multiple: 2.0,
            attainment: 0.99,
            quality: None,
            seeds: NonZeroUsize::MIN.saturating_add(2),
            load: 1.0,
            most: Vec::new(),
            spare: 0,
            alternatives: 1,
            at_ends: true,
        }
    }
}

/// Answer to a question: the plan.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// GPU type of each group.
    pub groups: Vec<String>,
    /// Largest number of GPUs of each group.
    pub most: Vec<u32>,
    /// Latency up to which a request is in time, in seconds.
    pub threshold_s: f64,
    /// Number of GPUs of each group in the cheapest cluster that holds; `None` if no cluster holds.
    pub choice: Option<Vec<u32>>,
    /// Clusters that were tried, cheapest first.
    pub tried: Vec<PlanRow>,
    /// Number of clusters that were known to fail without a run.
    pub ruled_out: usize,
    /// Number of requests that were simulated in the search.
    pub simulated: u64,
    /// Choices at a hit rate some points lower and higher; empty for a system that does not retrieve, or if no cluster
    /// holds.
    pub at_other_hit_rates: Vec<PlanAtHitRate>,
    /// Choices at the ends of the range that the profile leaves open; empty if the profile leaves nothing open, if no
    /// cluster holds, or if they were not asked for.
    pub at_ends: Vec<PlanAtEnd>,
    /// Warnings for a reader, in sentences.
    pub warnings: Vec<String>,
}

/// Question with its inputs, read and checked.
pub struct Planning<'a> {
    question: &'a Question,
    base: Scenario,
    most: Vec<u32>,
    trials: Trials<'a>,
}

impl std::fmt::Debug for Planning<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Planning").field("question", self.question).finish_non_exhaustive()
    }
}

impl<'a> Planning<'a> {
    /// Reads all inputs, and searches ahead what the runs will look up.
    ///
    /// # Errors
    /// Returns an error if the question does not fit the scenario, or if an input cannot be used.
    pub fn load(
        question: &'a Question,
        source: &'a Source,
        sets: &'a [Override],
        search: Search,
        progress: &dyn Progress,
    ) -> Result<Self, InputError> {
        let base = source.scenario(sets)?;
        let most = most(question, &base)?;
        let trials = Trials::load(question, source, sets, search, progress)?;
        Ok(Self { question, base, most, trials })
    }

    /// Makes the plan.
    ///
    /// # Errors
    /// Returns an error if a run cannot come to an end.
    pub fn answer(&mut self, progress: &dyn Progress) -> Result<Answer, ExperimentError> {
        let (question, base, most) = (self.question, &self.base, &self.most);
        let groups: Vec<String> = base.cluster.gpus.iter().map(|group| group.r#type.clone()).collect();
        let (choice, mut tried, ruled_out) = find(question, base, &groups, most, &mut self.trials, progress)?;
        let dollars = |row: &PlanRow| row.usd_per_hour.unwrap_or(0.0);
        tried.sort_by(|a, b| dollars(a).total_cmp(&dollars(b)).then(a.gpus.cmp(&b.gpus)));
        let more = at_choice::examine(question, base, &groups, most, choice.as_ref(), &self.trials, progress)?;
        Ok(Answer {
            groups,
            most: most.clone(),
            threshold_s: self.trials.threshold_s(),
            choice,
            tried,
            ruled_out,
            simulated: self.trials.simulated(),
            at_other_hit_rates: more.at_other_hit_rates,
            at_ends: more.at_ends,
            warnings: more.warnings,
        })
    }

    /// Returns the scenario of the question.
    #[must_use]
    pub const fn scenario(&self) -> &Scenario {
        &self.base
    }

    /// Returns the files that the plan depends on, beside the scenario's own file.
    pub fn files(&self) -> impl Iterator<Item = &Fingerprint> {
        self.trials.files()
    }

    /// Returns the source of the service times.
    #[must_use]
    pub fn service_times(&self) -> &str {
        self.trials.service_times()
    }

    /// Returns the stand-ins that the runs use.
    #[must_use]
    pub fn stand_ins(&self) -> Vec<String> {
        self.trials.stand_ins()
    }
}

/// Returns the largest number of GPUs of each group.
fn most(question: &Question, base: &Scenario) -> Result<Vec<u32>, InputError> {
    let groups = &base.cluster.gpus;
    if !question.most.is_empty() && question.most.len() != groups.len() {
        let message = format!("expected {} numbers, one for each group of cluster.gpus", groups.len());
        let given = question.most.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        return Err(InputError::new("the command line", message).value("--max-gpus", given));
    }
    let most = if question.most.is_empty() {
        groups.iter().map(|group| group.count.saturating_mul(4)).collect()
    } else {
        question.most.clone()
    };
    let mixes = most.iter().map(|most| u64::from(*most) + 1).fold(1_u64, u64::saturating_mul);
    if mixes > MOST_MIXES || most.iter().all(|most| *most == 0) {
        let message = format!("{mixes} clusters to choose from: expected from 2 to {MOST_MIXES}; give --max-gpus");
        return Err(InputError::new("the command line", message).value("--max-gpus", format_args!("{most:?}")));
    }
    Ok(most)
}

/// Searches the cheapest cluster that holds. Returns the choice, the clusters that were tried, and the number of
/// clusters that were known to fail without a run.
fn find(
    question: &Question,
    base: &Scenario,
    groups: &[String],
    most: &[u32],
    trials: &mut Trials<'_>,
    progress: &dyn Progress,
) -> Result<(Option<Mix>, Vec<PlanRow>, usize), ExperimentError> {
    let prices: Option<Vec<f64>> = base.cluster.gpus.iter().map(|group| group.usd_per_hour).collect();
    let price = |mix: &[u32]| -> f64 {
        // Unless every group has a price, the number of GPUs stands for the price.
        let each = |(at, count): (usize, &u32)| f64::from(*count) * prices.as_ref().map_or(1.0, |prices| prices[at]);
        mix.iter().enumerate().map(each).sum()
    };
    let mut search = Candidates::new(most, price);
    let mut rows = Vec::new();
    let mut attempt = |search: &mut Candidates, mix: Mix, trials: &mut Trials<'_>| -> Result<(), ExperimentError> {
        progress.say(&format!("trying {}", mix_name(groups, &mix)));
        let row = trials.run(&mix)?;
        let usd_per_hour = prices.is_some().then(|| price(&mix));
        search.tell(mix, row.holds);
        rows.push(PlanRow { usd_per_hour, ..row });
        Ok(())
    };
    let mut ruled_out = 0;
    // Without a bound the largest cluster has failed, and by the assumption of `search` every other one with it.
    if let Some(bound) = trials.bound(most)? {
        ruled_out = search.rule_out(|mix| bound.rules_out(mix));
        while let Some(mix) = search.next() {
            attempt(&mut search, mix, trials)?;
        }
        for mix in search.alternatives(question.alternatives) {
            attempt(&mut search, mix, trials)?;
        }
    }
    Ok((search.cheapest().cloned(), rows, ruled_out))
}
