//! `modm plan`: the cheapest cluster that holds a latency target for a trace, and what else there would be. What to try
//! is `search`; trying is `trial`.

use std::num::NonZeroUsize;
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use serde_json::json;

use super::arguments::{FigureArguments, RangeArguments, ScenarioArguments, SearchArguments};
use super::parallel::count;
use super::run::write_run_json;
use crate::input::InputError;
use crate::output::write_atomic;
use crate::report::{PlanReport, PlanRow, mix_name, plan_table};
use crate::scenario::Scenario;

mod at_choice;
mod search;
mod trial;

use search::{Mix, Search};
use trial::Trials;

/// Mixes that a plan may be looked for among.
const MOST_MIXES: u64 = 100_000;

/// Find the smallest cluster that holds a latency target for a trace
#[derive(Debug, Args)]
#[command(after_help = "\
The groups of cluster.gpus say which GPUs there are to choose from, and with usd_per_hour at what price; without prices \
the fewest GPUs are looked for. Other keys stay: the allocation policy splits each cluster as it would.

  modm plan scenarios/paper/slo-mi210.toml --slo 2 --attainment 0.99 --out results/plan
  modm plan ... --load 2 --out results/doubled          # what if traffic doubles?
  modm plan ... --spare 1 --out results/spare           # holds with any one GPU down, the first ones taken")]
pub(super) struct Plan {
    #[command(flatten)]
    common: ScenarioArguments,
    #[command(flatten)]
    search: SearchArguments,
    #[command(flatten)]
    figures: FigureArguments,
    #[command(flatten)]
    range: RangeArguments,
    /// A request is in time within so many full generations on the large model (first GPU type of the scenario)
    #[arg(long, value_name = "MULTIPLE", default_value = "2", value_parser = multiple)]
    slo: f64,
    /// Share of the requests that must be in time, over all seeds
    #[arg(long, value_name = "SHARE", default_value = "0.99", value_parser = share)]
    attainment: f64,
    /// Share of the large model's own quality that the mean image must keep, over all seeds (docs/semantics.md, section 7)
    #[arg(long, value_name = "SHARE", value_parser = kept)]
    quality: Option<f64>,
    /// Traces that it must hold for: a synthetic one is generated anew, a real one resampled by blocks of time
    #[arg(long, value_name = "N", default_value = "3", value_parser = count)]
    seeds: NonZeroUsize,
    /// So many times the traffic: the same requests in less time
    #[arg(long, value_name = "FACTOR", default_value = "1", value_parser = multiple)]
    load: f64,
    /// GPUs of each group of cluster.gpus at most; four times what the scenario has if absent
    #[arg(long, value_name = "N1,N2", value_delimiter = ',')]
    max_gpus: Vec<u32>,
    /// Hold with so many GPUs of the cluster down from the start
    #[arg(long, value_name = "N", default_value = "0")]
    spare: u32,
    /// The next-best clusters to run as well
    #[arg(long, value_name = "N", default_value = "1")]
    alternatives: usize,
}

fn multiple(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (1e-6..=1e6).contains(number));
    number.ok_or_else(|| "expected a number above 0, at most 1000000".to_owned())
}

fn kept(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| *number > 0.0 && *number <= 10.0);
    number.ok_or_else(|| "expected a share of the large model's quality, above 0, at most 10".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (0.0..=1.0).contains(number));
    number.ok_or_else(|| "expected a share from 0 to 1".to_owned())
}

pub(super) fn run(command: &Plan) -> anyhow::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "wall seconds go to run.json alone")]
    let begun = Instant::now();
    let common = &command.common;
    let (source, sets) = common.read()?;
    let base = source.scenario(&sets)?;
    let most = most(command, &base)?;
    let mut trials = Trials::load(command, &source, &sets)?;
    common.prepare_output()?;
    let groups: Vec<String> = base.cluster.gpus.iter().map(|group| group.r#type.clone()).collect();
    let (choice, mut rows, ruled_out) = find(command, &base, &groups, &most, &mut trials)?;
    let dollars = |row: &PlanRow| row.usd_per_hour.unwrap_or(0.0);
    rows.sort_by(|a, b| dollars(a).total_cmp(&dollars(b)).then(a.gpus.cmp(&b.gpus)));
    let more = at_choice::examine(command, &base, &groups, &most, choice.as_ref(), &trials)?;
    let plan = json!({
        "slo_multiple": command.slo,
        "threshold_s": trials.threshold_s(),
        "attainment": command.attainment,
        "quality": command.quality,
        "load": command.load,
        "spare": command.spare,
        "seeds": command.seeds,
        "choice": choice.as_ref().and_then(|mix| rows.iter().find(|row| row.gpus == *mix)),
        "groups": groups,
        "most": most,
        "ruled_out_by_the_bound": ruled_out,
        "simulated_requests": trials.simulated(),
        "tried": rows,
        "at_other_hit_rates": more.at_other_hit_rates,
        "at_ends": more.at_ends,
        "warnings": more.warnings,
    });
    let text = serde_json::to_string_pretty(&plan)? + "\n";
    write_atomic(&common.out.join("plan.json"), |to| std::io::Write::write_all(to, text.as_bytes()))?;
    let report = PlanReport {
        name: base.name.clone(),
        sentence: sentence(command, &groups, &most, choice.as_ref(), ruled_out),
        asked: asked(command, &trials, &groups, &most),
        attainment: command.attainment,
        seeds: command.seeds.get(),
        provenance: trials.provenance(),
        stand_ins: trials.stand_ins(),
        at_other_hit_rates: more.at_other_hit_rates,
        at_ends: more.at_ends,
        warnings: more.warnings,
        scenario_toml: source.text().to_owned(),
        versions: super::compare::versions(&base),
        groups,
        rows,
    };
    super::write_files(&report.files(command.figures.look()).context("the report's figures")?, &common.out)?;
    write_run_json(&common.out, &base, &[], &report.stand_ins, begun.elapsed().as_secs_f64(), &report.warnings)?;
    if common.json {
        print!("{text}");
    } else {
        print!("{}", plan_table(&report.groups, &report.rows, super::width()));
        super::print_verdict(&report.sentence);
        super::print_notes(report.notes());
        eprintln!("report: {}", common.out.join("report.html").display());
    }
    Ok(())
}

/// GPUs of each group at most.
fn most(command: &Plan, base: &Scenario) -> Result<Vec<u32>, InputError> {
    let groups = &base.cluster.gpus;
    if !command.max_gpus.is_empty() && command.max_gpus.len() != groups.len() {
        let message = format!("expected {} numbers, one for each group of cluster.gpus", groups.len());
        let given = command.max_gpus.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        return Err(InputError::new("the command line", message).value("--max-gpus", given));
    }
    let most = if command.max_gpus.is_empty() {
        groups.iter().map(|group| group.count.saturating_mul(4)).collect()
    } else {
        command.max_gpus.clone()
    };
    let mixes = most.iter().map(|most| u64::from(*most) + 1).fold(1_u64, u64::saturating_mul);
    if mixes > MOST_MIXES || most.iter().all(|most| *most == 0) {
        let message = format!("{mixes} clusters to choose from: expected from 2 to {MOST_MIXES}; give --max-gpus");
        return Err(InputError::new("the command line", message).value("--max-gpus", format_args!("{most:?}")));
    }
    Ok(most)
}

/// The choice, what was tried, and how many clusters were known to fail without.
fn find(
    command: &Plan,
    base: &Scenario,
    groups: &[String],
    most: &[u32],
    trials: &mut Trials<'_>,
) -> anyhow::Result<(Option<Mix>, Vec<PlanRow>, usize)> {
    let prices: Option<Vec<f64>> = base.cluster.gpus.iter().map(|group| group.usd_per_hour).collect();
    let price = |mix: &[u32]| -> f64 {
        let each = |(at, count): (usize, &u32)| f64::from(*count) * prices.as_ref().map_or(1.0, |prices| prices[at]);
        mix.iter().enumerate().map(each).sum()
    };
    let mut search = Search::new(most, price);
    let mut rows = Vec::new();
    let mut attempt = |search: &mut Search, mix: Mix, trials: &mut Trials<'_>| -> anyhow::Result<()> {
        if !command.common.quiet {
            eprintln!("trying {}", mix_name(groups, &mix));
        }
        let row = trials.run(&mix)?;
        let usd_per_hour = prices.is_some().then(|| price(&mix));
        search.tell(mix, row.holds);
        rows.push(PlanRow { usd_per_hour, ..row });
        Ok(())
    };
    let mut ruled_out = 0;
    if let Some(bound) = trials.bound(most)? {
        ruled_out = search.rule_out(|mix| bound.rules_out(mix));
        while let Some(mix) = search.next() {
            attempt(&mut search, mix, trials)?;
        }
        for mix in search.alternatives(command.alternatives) {
            attempt(&mut search, mix, trials)?;
        }
    }
    Ok((search.cheapest().cloned(), rows, ruled_out))
}

/// What was asked for, for the report.
fn asked(command: &Plan, trials: &Trials<'_>, groups: &[String], most: &[u32]) -> Vec<(String, String)> {
    let quality = command.quality.map_or_else(
        || "any".to_owned(),
        |share| format!("at least {} % of the large model's own on average", 100.0 * share),
    );
    let pairs = [
        ("quality", quality),
        ("in time within", format!("{} s ({} full generations)", trials.threshold_s(), command.slo)),
        ("share in time", format!("{} %", 100.0 * command.attainment)),
        ("traces", command.seeds.to_string()),
        ("times the traffic", command.load.to_string()),
        ("GPUs down from the start", command.spare.to_string()),
        ("to choose from, at most", mix_name(groups, most)),
        ("requests simulated", trials.simulated().to_string()),
    ];
    pairs.map(|(name, value)| (name.to_owned(), value)).to_vec()
}

/// What it comes to.
fn sentence(command: &Plan, groups: &[String], most: &[u32], choice: Option<&Mix>, ruled_out: usize) -> String {
    let share = 100.0 * command.attainment;
    let quality = command.quality.map_or_else(String::new, |kept| format!(" with {} % of the quality", 100.0 * kept));
    match choice {
        Some(mix) => format!(
            "{} hold {share} % within {}x{quality}; {ruled_out} smaller clusters could not, whatever their policy",
            mix_name(groups, mix),
            command.slo
        ),
        None => format!(
            "not even {} hold {share} % within {}x{quality}: allow more with --max-gpus, or ask for less",
            mix_name(groups, most),
            command.slo
        ),
    }
}
