//! `modm trace generate`: makes a synthetic trace and writes `requests.csv` with the settings and seed
//! that made it in `trace.json`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::input::InputError;
use crate::trace::synthetic::{Generated, Synthetic};

/// The seed where neither flag nor file names one.
const SEED: u64 = 42;

/// What stands for a file in errors about flags.
const FLAGS: &str = "modm trace generate";

/// Every setting of `[trace.synthetic]` has a default; flags override the file, `--set` overrides both.
#[derive(Debug, Args)]
pub(super) struct Generate {
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
    /// Any other setting, e.g. `--set arrivals.cv=3 --set prompts.repeats=0.2`
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Overwrite an earlier trace
    #[arg(long)]
    force: bool,
}

/// The names of the arrival processes.
#[derive(Clone, Copy, Debug, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
enum Process {
    /// Independent exponential gaps
    Poisson,
    /// Gamma gaps with a coefficient of variation (`arrivals.cv`)
    Gamma,
    /// Calm and burst spells (`arrivals.calm_rate_per_min`, `burst_rate_per_min`, `mean_calm_s`, `mean_burst_s`)
    Bursts,
    /// A daily swing (`arrivals.amplitude`, `arrivals.period_s`)
    Diurnal,
    /// The paper's ramp (`arrivals.min_rate_per_min`, `arrivals.max_rate_per_min`)
    Sigmoid,
    /// Even gaps
    Constant,
    /// Given rates until given times (`arrivals.steps=[[600,10],[1200,30]]`)
    Steps,
}

/// What `trace.json` holds: enough to make the trace again.
#[derive(Serialize)]
struct Made<'a> {
    program: &'static str,
    version: &'static str,
    seed: u64,
    synthetic: &'a Synthetic,
}

pub(super) fn run(command: &Generate) -> anyhow::Result<()> {
    let (settings, seed) = command.settings()?;
    let name = command.from.as_deref().unwrap_or(Path::new(FLAGS));
    let trace = settings.generate(seed, name, "trace.synthetic")?;
    let requests = command.out.join("requests.csv");
    if !command.force && requests.exists() {
        let error = InputError::new(&requests, "exists already: give another --out, or --force to overwrite it");
        return Err(error.into());
    }
    fs::create_dir_all(&command.out).with_context(|| format!("cannot make {}", command.out.display()))?;
    write(&requests, &csv(&trace)?)?;
    let made = Made { program: env!("CARGO_PKG_NAME"), version: env!("CARGO_PKG_VERSION"), seed, synthetic: &settings };
    let mut json = serde_json::to_vec_pretty(&made)?;
    json.push(b'\n');
    write(&command.out.join("trace.json"), &json)?;
    println!("{}: {} requests", requests.display(), trace.arrivals.len());
    Ok(())
}

impl Generate {
    /// The file's settings under the flags' and those of `--set`.
    fn settings(&self) -> Result<(Synthetic, u64), InputError> {
        let (mut table, seed) = match &self.from {
            Some(file) => read(file)?,
            None => (toml::Table::new(), None),
        };
        if let Some(requests) = self.requests {
            table.insert("requests".into(), i64::from(requests).into());
        }
        if let Some(process) = self.arrivals {
            let name = toml::Value::try_from(process).map_err(|error| InputError::new(FLAGS, error.to_string()))?;
            table.insert("arrivals".into(), toml::Table::from_iter([("process".to_owned(), name)]).into());
        }
        if let Some(rate) = self.rate_per_min {
            set(&mut table, "arrivals.rate_per_min", rate.into())?;
        }
        for assignment in &self.set {
            let (key, text) = assignment
                .split_once('=')
                .ok_or_else(|| InputError::new(FLAGS, "expected KEY=VALUE").value("--set", assignment))?;
            set(&mut table, key, value(text))?;
        }
        if let Some(toml::Value::Table(arrivals)) = table.get_mut("arrivals") {
            arrivals.entry("process").or_insert_with(|| "poisson".into());
        }
        let settings = serde_path_to_error::deserialize(toml::Value::Table(table)).map_err(|error| {
            let key = format!("trace.synthetic.{}", error.path());
            InputError::new(self.from.as_deref().unwrap_or(Path::new(FLAGS)), error.inner().message().trim()).key(key)
        })?;
        Ok((settings, self.seed.or(seed).unwrap_or(SEED)))
    }
}

/// `[trace.synthetic]` and `seed` of a scenario.
fn read(file: &Path) -> Result<(toml::Table, Option<u64>), InputError> {
    let text = fs::read_to_string(file).map_err(|error| InputError::unreadable(file, &error))?;
    let scenario: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map(|span| crate::input::line_of_offset(&text, span.start));
        InputError { line, ..InputError::new(file, error.message().trim()) }
    })?;
    let seed = match scenario.get("seed") {
        None => None,
        Some(seed) => Some(
            seed.as_integer()
                .and_then(|seed| u64::try_from(seed).ok())
                .ok_or_else(|| InputError::new(file, "expected an integer from 0").value("seed", seed))?,
        ),
    };
    match scenario.get("trace").and_then(|trace| trace.get("synthetic")) {
        Some(toml::Value::Table(section)) => Ok((section.clone(), seed)),
        _ => Err(InputError::new(file, "expected a section [trace.synthetic]").key("trace.synthetic")),
    }
}

/// A value as TOML, or else a bare word.
fn value(text: &str) -> toml::Value {
    let parsed = format!("value = {text}").parse::<toml::Table>().ok();
    parsed.and_then(|mut table| table.remove("value")).unwrap_or_else(|| text.into())
}

/// Sets a dotted key, making the tables on the way.
fn set(table: &mut toml::Table, key: &str, value: toml::Value) -> Result<(), InputError> {
    let (mut table, mut last) = (table, key);
    while let Some((section, rest)) = last.split_once('.') {
        let inner = table.entry(section).or_insert_with(|| toml::Table::new().into());
        let toml::Value::Table(inner) = inner else {
            return Err(InputError::new(FLAGS, format!("{section} is not a section")).value("--set", key));
        };
        (table, last) = (inner, rest);
    }
    table.insert(last.to_owned(), value);
    Ok(())
}

/// `arrival_s,prompt`, and `tenant` where there is more than one.
fn csv(trace: &Generated) -> anyhow::Result<Vec<u8>> {
    let tenants = trace.tenants.iter().any(|&tenant| tenant != 0);
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(if tenants { &["arrival_s", "prompt", "tenant"][..] } else { &["arrival_s", "prompt"] })?;
    for ((arrival, prompt), tenant) in trace.arrivals.iter().zip(&trace.prompts).zip(&trace.tenants) {
        let (arrival, tenant) = (arrival.to_string(), tenant.to_string());
        let fields = [arrival.as_str(), prompt, &tenant];
        writer.write_record(if tenants { &fields[..] } else { &fields[..2] })?;
    }
    Ok(writer.into_inner()?)
}

/// Writes under a temporary name and renames, so that a killed run leaves no half file.
fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let temporary = path.with_extension("partial");
    fs::write(&temporary, bytes)
        .and_then(|()| fs::rename(&temporary, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
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
        assert!(message(&["--set", "prompt.repeats=1"]).contains("unknown field `prompt`"));
        assert!(message(&["--set", "requests.x=1", "--requests", "3"]).contains("requests is not a section"));
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
