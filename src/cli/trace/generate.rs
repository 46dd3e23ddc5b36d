//! `modm trace generate`: makes a synthetic trace, writes it to `requests.csv`, and writes the settings and the seed
//! that made it to `trace.json`.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::input::InputError;
use crate::scenario::{Override, Source};
use crate::trace::REQUESTS;
use crate::trace::synthetic::Synthetic;

/// Name that stands for a file in errors about flags.
const FLAGS: &str = "modm trace generate";

/// Scenario that the flags change if no scenario is named.
const DEFAULTS: &str = "name = \"generated\"\n[trace.synthetic.arrivals]\nprocess = \"poisson\"\n";

/// Every setting of `[trace.synthetic]` has a default. Flags override the file, and `--set` overrides both.
#[derive(Debug, Args)]
pub(in crate::cli) struct Generate {
    /// Folder for `requests.csv` and `trace.json`
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Take `[trace.synthetic]` (and `seed`) of this scenario
    #[arg(long, value_name = "SCENARIO")]
    from: Option<PathBuf>,
    /// Number of requests [default: 10000]
    #[arg(long)]
    requests: Option<u32>,
    /// Arrival process [default: poisson]
    #[arg(long, value_enum)]
    arrivals: Option<Process>,
    /// Mean arrival rate, for the processes that have one [default: 20]
    #[arg(long, value_name = "RATE")]
    rate_per_min: Option<f64>,
    /// Seed of every draw [default: 42]
    #[arg(long)]
    seed: Option<u64>,
    /// Override any other setting, e.g. `--set arrivals.cv=3 --set prompts.repeats=0.2`
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Overwrite an earlier trace
    #[arg(long)]
    force: bool,
}

/// Arrival process.
#[derive(Clone, Copy, Debug, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
enum Process {
    /// Independent exponential gaps
    Poisson,
    /// Gamma gaps with a coefficient of variation (`arrivals.cv`)
    Gamma,
    /// Spells of calm and of bursts in turn (`arrivals.calm_rate_per_min`, `burst_rate_per_min`, `mean_calm_s`,
    /// `mean_burst_s`)
    Bursts,
    /// Rate that swings daily (`arrivals.amplitude`, `arrivals.period_s`)
    Diurnal,
    /// Rate that rises as in the paper (`arrivals.min_rate_per_min`, `arrivals.max_rate_per_min`)
    Sigmoid,
    /// Even gaps
    Constant,
    /// Given rates until given times (`arrivals.steps=[[600,10],[1200,30]]`)
    Steps,
}

pub(super) fn run(command: &Generate) -> anyhow::Result<()> {
    let (settings, seed) = command.settings()?;
    let name = command.from.as_deref().unwrap_or(Path::new(FLAGS));
    let trace = settings.write(seed, (name, "trace.synthetic"), &command.out, command.force)?;
    out!("{}: {} requests", command.out.join(REQUESTS).display(), trace.len());
    Ok(())
}

impl Generate {
    /// Returns the settings of the scenario's section, changed by the flags and by `--set`, and the seed.
    fn settings(&self) -> Result<(Synthetic, u64), InputError> {
        let source = match &self.from {
            Some(file) => Source::read(file)?,
            None => Source::new(Path::new(FLAGS), DEFAULTS.into())?,
        };
        let mut overrides = Vec::new();
        let mut set = |key: &str, value: toml::Value| {
            let key = format!("trace.synthetic.{key}");
            overrides.push(Override { key, value, origin: FLAGS.into() });
        };
        if let Some(requests) = self.requests {
            set("requests", i64::from(requests).into());
        }
        if let Some(process) = self.arrivals {
            let name = toml::Value::try_from(process).map_err(|error| InputError::new(FLAGS, error.to_string()))?;
            set("arrivals", toml::Table::from_iter([("process".to_owned(), name)]).into());
        }
        if let Some(rate) = self.rate_per_min {
            set("arrivals.rate_per_min", rate.into());
        }
        for text in &self.set {
            let parsed = Override::parse(text)?;
            set(&parsed.key, parsed.value);
        }
        let scenario = source.scenario(&overrides)?;
        let missing = || InputError::new(source.file(), "expected a section [trace.synthetic]").key("trace.synthetic");
        Ok((scenario.trace.synthetic.ok_or_else(missing)?, self.seed.unwrap_or(scenario.seed)))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser;

    use super::*;
    use crate::trace::synthetic::Arrivals;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        generate: Generate,
    }

    fn generate(flags: &[&str]) -> Generate {
        let line = ["generate", "--out", "unused"].iter().chain(flags);
        Line::try_parse_from(line).map_err(|error| error.to_string()).expect("good flags").generate
    }

    #[test]
    fn flags_override_and_every_setting_can_be_set() {
        let flags = ["--requests", "5", "--arrivals", "gamma", "--rate-per-min", "3", "--set", "arrivals.cv=4"];
        let (settings, seed) = generate(&flags).settings().expect("good settings");
        assert_eq!((settings.requests, seed), (5, 42));
        assert_eq!(settings.arrivals, Arrivals::Gamma { rate_per_min: 3.0, cv: 4.0 });
        let (settings, _) = generate(&["--rate-per-min", "7"]).settings().expect("good settings");
        assert_eq!(settings.arrivals, Arrivals::Poisson { rate_per_min: 7.0 });
    }

    #[test]
    fn bad_flags_are_input_errors() {
        let message = |flags: &[&str]| generate(flags).settings().expect_err("bad settings").to_string();
        assert!(message(&["--set", "prompts.repeats"]).contains("KEY=VALUE"));
        assert!(message(&["--set", "prompt.repeats=1"]).contains("prompt: is not a key here"));
        assert!(message(&["--set", "requests.x=1", "--requests", "3"]).contains("`requests` is a value"));
        assert!(message(&["--set", "prompts.repeats=often"]).contains("trace.synthetic.prompts.repeats"));
    }

    #[test]
    fn writes_a_trace_and_what_made_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let out = folder.path().join("trace");
        let mut command = generate(&["--requests", "20", "--set", "prompts.tenants=3"]);
        command.out = out.clone();
        run(&command).expect("writes");
        let requests = fs::read_to_string(out.join("requests.csv")).expect("requests.csv");
        assert_eq!(requests.lines().next(), Some("arrival_s,prompt,tenant"));
        assert_eq!(requests.lines().count(), 21);
        let made: serde_json::Value =
            serde_json::from_slice(&fs::read(out.join("trace.json")).expect("trace.json")).expect("JSON");
        assert_eq!(made["seed"], 42);
        assert_eq!(made["synthetic"]["prompts"]["tenants"], 3);
        assert!(run(&command).expect_err("exists").to_string().contains("--force"));
        command.force = true;
        run(&command).expect("overwrites");
        assert_eq!(fs::read_to_string(out.join("requests.csv")).expect("again"), requests);
    }
}
