//! `modm plan`: finds the cheapest cluster that holds a latency target for a trace, and the next-best clusters.

use std::num::NonZeroUsize;

use clap::Args;

use super::arguments::{Expected, ExperimentArguments, count, positive};
use super::printer;
use super::progress::Lines;
use crate::experiments::plan::{Planning, Question};
use crate::output::write_atomic;
use crate::report::provenance::{of_runs, versions};
use crate::report::{PlanReport, plan_table, write_files};
use crate::run_folder::{WallTime, write_run_json};
use crate::scenario::Scenario;

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
    experiment: ExperimentArguments,
    /// Latency target, as a number of full generations on the large model (first GPU type of the scenario); the first
    /// of slo.multiples if absent
    #[arg(long, value_name = "MULTIPLE", value_parser = positive)]
    slo: Option<f64>,
    /// Share of the requests that must be in time, over all seeds
    #[arg(long, value_name = "SHARE", default_value = "0.99", value_parser = share)]
    attainment: f64,
    /// Share of the large model's own quality that the mean image must keep, over all seeds (docs/semantics.md, section
    /// 7)
    #[arg(long, value_name = "SHARE", value_parser = kept)]
    quality: Option<f64>,
    /// Number of traces that a cluster must hold: a synthetic one is generated anew, a real one resampled by blocks of
    /// time
    #[arg(long, value_name = "N", default_value = "3", value_parser = count)]
    seeds: NonZeroUsize,
    /// Factor on the traffic: the same requests arrive at this many times the rate
    #[arg(long, value_name = "FACTOR", default_value = "1", value_parser = positive)]
    load: f64,
    /// Largest number of GPUs of each group of cluster.gpus; four times the number in the scenario if absent
    #[arg(long, value_name = "N1,N2", value_delimiter = ',')]
    max_gpus: Vec<u32>,
    /// Number of GPUs that are down from the start; a cluster must hold without them
    #[arg(long, value_name = "N", default_value = "0")]
    spare: u32,
    /// Number of next-best clusters to run as well
    #[arg(long, value_name = "N", default_value = "1")]
    alternatives: usize,
}

fn kept(text: &str) -> Result<f64, Expected> {
    let number = text.parse().ok().filter(|number| *number > 0.0 && *number <= 10.0);
    number.ok_or(Expected("a share of the large model's quality, above 0, at most 10"))
}

fn share(text: &str) -> Result<f64, Expected> {
    let number = text.parse().ok().filter(|number| (0.0..=1.0).contains(number));
    number.ok_or(Expected("a share from 0 to 1"))
}

pub(super) fn run(command: &Plan) -> anyhow::Result<()> {
    let begun = WallTime::begin();
    let ExperimentArguments { common, search, figures, .. } = &command.experiment;
    let (source, sets) = common.read()?;
    let question = command.question(&source.scenario(&sets)?);
    let lines = Lines::new(common.quiet);
    let mut planning = Planning::load(&question, &source, &sets, search.search(), &lines)?;
    common.prepare_output()?;
    let answer = planning.answer(&lines)?;
    let base = planning.scenario();
    let runs = [("every cluster".to_owned(), base)];
    let report = PlanReport {
        name: base.name.clone(),
        provenance: of_runs((&source, &sets), runs, planning.files(), [planning.service_times()]),
        stand_ins: planning.stand_ins(),
        scenario_toml: source.text().to_owned(),
        versions: versions(base),
        question: question.clone(),
        answer,
    };
    let text = serde_json::to_string_pretty(&report.json())? + "\n";
    write_atomic(&common.out.join("plan.json"), |to| std::io::Write::write_all(to, text.as_bytes()))?;
    write_files(&super::drawn(report.files(figures.look()))?, &common.out)?;
    let (answer, wall_s) = (&report.answer, begun.seconds());
    write_run_json(&common.out, base, &[], &report.stand_ins, wall_s, &answer.warnings)?;
    if common.json {
        printer::text(text);
    } else {
        printer::text(plan_table(&answer.groups, &answer.tried, super::width()));
        super::print_verdict(&report.sentence());
        super::print_notes(report.notes());
        say!("report: {}", common.out.join("report.html").display());
    }
    Ok(())
}

impl Plan {
    fn question(&self, scenario: &Scenario) -> Question {
        let usual = Question::default().slo_multiple;
        Question {
            slo_multiple: self.slo.or(scenario.slo.multiples.first().copied()).unwrap_or(usual),
            attainment: self.attainment,
            quality: self.quality,
            seeds: self.seeds,
            load: self.load,
            most: self.max_gpus.clone(),
            spare: self.spare,
            alternatives: self.alternatives,
            at_ends: !self.experiment.range.no_range,
        }
    }
}
