//! `modm init`: makes a first scenario from a log, GPUs and models. Asks for what is missing on a terminal.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::BOLD;
use super::arguments::{Expected, positive};
use super::trace::import::{Bar, print_record};
use crate::experiments::init::{Answers, as_word, write};
use crate::input::InputError;
use crate::profile::catalogue;
use crate::trace::import::{ColumnChoice, Format, InputFile, Job, LogOptions, Options};

/// Models that are offered where none is named.
const USUAL: (&str, &str) = ("sd3.5-large", "sdxl");

/// Rate of the synthetic trace that stands in for a log, requests a minute.
const USUAL_RATE: f64 = 20.0;

/// Write a first scenario from your log, your GPUs and your models
///
/// Imports the log as `modm trace import LOG` does, takes the service times from the built-in catalogue (`modm
/// profiles`), and writes a commented scenario that runs: variants with and without a cache on the log's own requests.
/// Asks for what is missing, on a terminal.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  modm init mine --log requests.csv --gpus h100:8 --large sd3.5-large --small sdxl --slo-s 30
  modm init mine --log log.jsonl --column arrival_s=ts --column prompt=request.text --gpus l40s
  modm init mine --gpus h100:8,l40s:16 --large flux-dev --small flux-schnell     # no log: a synthetic trace")]
pub(super) struct Init {
    /// Folder for the scenario and its trace
    #[arg(value_name = "DIR", default_value = "mine")]
    out: PathBuf,
    /// Log of your service, in any form that `modm trace import LOG` takes; a synthetic trace stands in if absent
    #[arg(long, value_name = "LOG")]
    log: Option<PathBuf>,
    /// Take a column of the log for a column of the trace, e.g. prompt=text (repeatable)
    #[arg(long, value_name = "OURS=THEIRS", requires = "log")]
    column: Vec<ColumnChoice>,
    /// File of prompts, for a log without any
    #[arg(long, value_name = "FILE", requires = "log")]
    prompts: Option<PathBuf>,
    /// Requests a minute of the synthetic trace
    #[arg(long, value_name = "RATE", value_parser = positive, conflicts_with = "log")]
    rate_per_min: Option<f64>,
    /// GPU types with their numbers, e.g. h100:8 or h100:8,l40s:16; for one type without a number, as many as the large
    /// model alone would keep 70 % busy
    #[arg(long, value_name = "TYPE:N", value_delimiter = ',', value_parser = gpus)]
    gpus: Vec<(String, Option<u32>)>,
    /// Large model, which serves misses
    #[arg(long, value_name = "MODEL")]
    large: Option<String>,
    /// Small models, which refine hits, best first
    #[arg(long, value_name = "MODEL", value_delimiter = ',')]
    small: Vec<String>,
    /// Latency that requests should keep, seconds; two full generations of the large model if absent
    #[arg(long, value_name = "SECONDS", value_parser = positive)]
    slo_s: Option<f64>,
    /// Overwrite an earlier scenario and its trace
    #[arg(long)]
    force: bool,
}

fn gpus(text: &str) -> Result<(String, Option<u32>), Expected> {
    let expected = Expected("a GPU type and a number of GPUs from 1 to 65535, e.g. h100:8");
    let (name, count) = match text.split_once(':') {
        None => (text, None),
        Some((name, count)) => {
            let count = count.trim().parse().ok().filter(|count| (1..=65_535).contains(count));
            (name, Some(count.ok_or(expected)?))
        }
    };
    if name.trim().is_empty() {
        return Err(Expected("a GPU type and a number of GPUs from 1 to 65535, e.g. h100:8"));
    }
    Ok((name.trim().to_owned(), count))
}

pub(super) fn run(command: &Init) -> anyhow::Result<()> {
    let asks = io::stdin().is_terminal() && io::stderr().is_terminal();
    let answers = if asks { command.asked(&mut io::stdin().lock())? } else { command.answers()? };
    let written = write(&answers, &Bar::default())?;
    if let Some(record) = &written.record {
        print_record(record);
    }
    for fact in &written.facts {
        out!("{fact}");
    }
    super::print_notes(&written.cautions);
    let (scenario, within) = (as_word(&written.scenario), |name: &str| as_word(&answers.out.join(name)));
    out!("{BOLD}wrote {}{BOLD:#}; next:", written.scenario.display());
    out!("  modm compare {scenario} --capacity --out {}", within("results"));
    out!("  modm plan {scenario} --out {}", within("plan"));
    Ok(())
}

impl Init {
    /// Returns the answers of the command line, with defaults for the models.
    fn answers(&self) -> Result<Answers, InputError> {
        if self.gpus.is_empty() {
            let known: Vec<&str> = catalogue::GPUS.iter().map(|gpu| gpu.name).collect();
            let message = format!("say which GPUs and how many, e.g. --gpus h100:8; built in are {}", known.join(", "));
            return Err(InputError::new("the command line", message).key("--gpus"));
        }
        let large = self.large.clone().unwrap_or_else(|| USUAL.0.to_owned());
        Ok(Answers {
            log: self.job(),
            rate_per_min: self.rate_per_min.unwrap_or(USUAL_RATE),
            gpus: self.gpus.clone(),
            small: if self.small.is_empty() { vec![usual_small(&large).to_owned()] } else { self.small.clone() },
            large,
            slo_s: self.slo_s,
            out: self.out.clone(),
            force: self.force,
        })
    }

    /// Returns the answers with those that the user gives to questions about what is missing.
    fn asked(&self, from: &mut impl BufRead) -> Result<Answers, InputError> {
        let mut complete = Self {
            out: self.out.clone(),
            log: self.log.clone(),
            column: self.column.clone(),
            prompts: self.prompts.clone(),
            gpus: self.gpus.clone(),
            large: self.large.clone(),
            small: self.small.clone(),
            ..*self
        };
        if self.log.is_none() && self.rate_per_min.is_none() {
            let log = ask(from, "Log of your service (CSV, JSON Lines, Parquet; empty for a synthetic trace)", "");
            complete.log = (!log.is_empty()).then(|| PathBuf::from(log));
        }
        while complete.gpus.is_empty() {
            let named = ask(from, "GPUs, as TYPE:NUMBER (`modm profiles` lists types)", "h100:8");
            match named.split(',').map(gpus).collect() {
                Ok(found) => complete.gpus = found,
                Err(error) => say!("  {error}"),
            }
        }
        if self.large.is_none() {
            complete.large = Some(ask(from, "Large model, which serves misses", USUAL.0));
        }
        let large = complete.large.as_deref().unwrap_or(USUAL.0);
        if self.small.is_empty() {
            let named = ask(from, "Small model, which refines hits", usual_small(large));
            complete.small = named.split(',').map(|name| name.trim().to_owned()).collect();
        }
        if self.slo_s.is_none() {
            let named = ask(from, "Latency that requests should keep, in seconds (empty for two full generations)", "");
            complete.slo_s = positive(&named).ok();
        }
        complete.answers()
    }

    fn job(&self) -> Option<Job> {
        let file = |file: &Path, format| InputFile { file: file.to_owned(), format };
        // A user who names columns says that the file is a log.
        let format = (!self.column.is_empty()).then_some(Format::Log);
        self.log.as_deref().map(|log| Job {
            log: Some(file(log, format)),
            prompts: self.prompts.as_deref().map(|prompts| file(prompts, None)),
            options: Options {
                log: LogOptions { columns: self.column.clone(), ..LogOptions::default() },
                ..Options::default()
            },
            ..Job::default()
        })
    }
}

/// Returns the small model that is offered beside a large one: of its family where the catalogue has one.
fn usual_small(large: &str) -> &'static str {
    match catalogue::model(large).map(|model| model.name) {
        Some("flux-dev") => "flux-schnell",
        Some("sdxl") => "sana-1.6b",
        _ => USUAL.1,
    }
}

/// Asks a question on standard error; an empty answer is the usual one, as is the end of the input.
fn ask(from: &mut impl BufRead, question: &str, usual: &str) -> String {
    let hint = if usual.is_empty() { String::new() } else { format!(" [{usual}]") };
    let mut to = anstream::stderr();
    // A question that cannot be shown still has its usual answer.
    let _ = write!(to, "{question}{hint}: ").and_then(|()| to.flush());
    let mut answer = String::new();
    let read = from.read_line(&mut answer).unwrap_or(0);
    let answer = answer.trim();
    if read == 0 || answer.is_empty() { usual.to_owned() } else { answer.to_owned() }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        init: Init,
    }

    fn asked(line: &[&str], typed: &str) -> Answers {
        let line = std::iter::once("init").chain(line.iter().copied());
        Line::parse_from(line).init.asked(&mut typed.as_bytes()).expect("all is given")
    }

    #[test]
    fn questions_are_asked_for_what_is_missing_alone() {
        let answers = asked(&["there", "--gpus", "h100:8", "--large", "flux-dev"], "log.csv\n\n12.5\n");
        assert_eq!(answers.log.and_then(|job| job.log).map(|log| log.file), Some(PathBuf::from("log.csv")));
        assert_eq!(answers.gpus, [("h100".to_owned(), Some(8))]);
        assert_eq!((answers.large.as_str(), answers.small), ("flux-dev", vec!["flux-schnell".to_owned()]));
        assert_eq!((answers.slo_s, answers.out), (Some(12.5), PathBuf::from("there")));
    }

    #[test]
    fn a_bad_answer_is_asked_again_and_the_end_of_the_input_takes_what_is_usual() {
        let answers = asked(&["--rate-per-min", "30"], "h100:none\nl40s:4,a40:2\n");
        assert_eq!(answers.gpus, [("l40s".to_owned(), Some(4)), ("a40".to_owned(), Some(2))]);
        assert!(answers.log.is_none(), "a rate is given");
        assert_eq!((answers.large.as_str(), answers.small), ("sd3.5-large", vec!["sdxl".to_owned()]));
        assert_eq!((answers.slo_s, answers.rate_per_min), (None, 30.0));
    }
}
