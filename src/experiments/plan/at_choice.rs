//! Runs beside the search of a plan. They give the warnings for a reader, the choice at a hit rate some points lower
//! and higher, and the choice with service times at the ends of the range that the profile leaves open. The shifted
//! bounds are those for the hit rate of the first trace; each choice holds for all traces.

use super::search::Mix;
use super::trial::Trials;
use super::{PlanAtEnd, PlanAtHitRate, PlanRow, Question, find};
use crate::experiments::hit_rate::{POINTS, shift};
use crate::experiments::{ExperimentError, Progress};
use crate::metrics::Keep;
use crate::metrics::warnings::Warning;
use crate::profile::End;
use crate::scenario::Scenario;

/// Results of the runs beside the search.
pub(super) struct Examined {
    pub(super) at_other_hit_rates: Vec<PlanAtHitRate>,
    pub(super) at_ends: Vec<PlanAtEnd>,
    /// Warnings for a reader, in sentences.
    pub(super) warnings: Vec<String>,
}

/// Makes the runs for the chosen cluster. If no cluster holds, runs the largest cluster for its warnings only.
///
/// # Errors
/// Returns an error if a run cannot come to an end.
pub(super) fn examine(
    question: &Question,
    base: &Scenario,
    groups: &[String],
    most: &[u32],
    choice: Option<&Mix>,
    trials: &Trials<'_>,
    progress: &dyn Progress,
) -> Result<Examined, ExperimentError> {
    let results = trials.first_run(choice.map_or(most, Vec::as_slice))?.run_keeping(Keep::Ends, ())?;
    let warnings = Warning::texts(&results.warnings);
    let lowest_bound = base.bounds().first().map(|(bound, _)| *bound);
    let chosen = |mut trials: Trials<'_>| -> Result<Option<PlanRow>, ExperimentError> {
        let (choice, rows, _) = find(question, base, groups, most, &mut trials, progress)?;
        Ok(rows.into_iter().find(|row| choice.as_ref() == Some(&row.gpus)))
    };
    let spread = trials.spread();
    let mut at_ends = Vec::new();
    if choice.is_some() && spread.share > 0.0 && question.at_ends {
        for end in [End::AllLonger, End::AllShorter] {
            at_ends.push(PlanAtEnd { end, spread, choice: chosen(trials.at_end(end))? });
        }
    }
    let known = results.summary.hit_rate.zip(lowest_bound).zip(choice);
    let Some(((usual, lowest_bound), choice)) = known else {
        return Ok(Examined { at_other_hit_rates: Vec::new(), at_ends, warnings });
    };
    let hit_rate = |by: f64| -> Result<f64, ExperimentError> {
        let results = trials.with_bounds(by).first_run(choice)?.run_once(())?;
        Ok(results.summary.hit_rate.unwrap_or(0.0))
    };
    let mut at_other_hit_rates = Vec::new();
    for points in [-POINTS, POINTS] {
        let shift = shift(usual, points, lowest_bound, hit_rate)?;
        at_other_hit_rates.push(PlanAtHitRate { shift, choice: chosen(trials.with_bounds(shift.by))? });
    }
    Ok(Examined { at_other_hit_rates, at_ends, warnings })
}
