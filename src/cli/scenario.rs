//! `modm scenario`: checks scenarios without running them, shows what is in force and why, and explains keys.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::arguments::read;
use super::printer::text;
use crate::experiments::variants::{self, VariantRun};
use crate::input::InputError;
use crate::scenario::{Override, Scenario, Source, keys};

#[derive(Debug, Subcommand)]
#[command(after_help = "\
  modm scenario check scenarios/*.toml
  modm scenario show scenarios/quickstart.toml --variant modm-sana
  modm scenario explain cache.eviction
  modm scenario schema > modm.schema.json        # and `#:schema modm.schema.json` as the first line of a scenario")]
pub(super) enum ScenarioCommand {
    Check(Check),
    Show(Show),
    Explain(Explain),
    /// Print the JSON Schema of scenarios, for editors: completion, hints and errors while one writes
    Schema,
}

/// Check scenarios and everything that they name, without running them
///
/// Reads the settings, those of each variant, the trace, the embeddings and the profile, as a run would. Exits with 2
/// at the first thing that is wrong, with file, line, key, value and what is accepted.
#[derive(Debug, Args)]
pub(super) struct Check {
    /// Scenario files (TOML)
    #[arg(required = true, value_name = "SCENARIO")]
    scenarios: Vec<PathBuf>,
    /// Override a scenario key, e.g. --set cache.capacity=5000 (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
}

/// Show all settings that are in force, each with the place where it was set
///
/// The output is a scenario itself, with the origins as comments: a line of the file, --set, or a variant. What nothing
/// sets is a comment too: a default, or a value that follows from other settings.
#[derive(Debug, Args)]
pub(super) struct Show {
    /// Scenario file (TOML)
    scenario: PathBuf,
    /// Override a scenario key, e.g. --set cache.capacity=5000 (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Show the settings of this [[variant]]
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
    /// Print the settings as JSON
    #[arg(long)]
    json: bool,
}

/// Explain a key: meaning, default, values that it accepts; without a key, list all of them
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// Dotted key, or a section, e.g. cache.eviction or cache
    key: Option<String>,
    /// Print the keys as a table in Markdown, as the documentation has it
    #[arg(long)]
    markdown: bool,
}

pub(super) fn run(command: &ScenarioCommand) -> anyhow::Result<()> {
    match command {
        ScenarioCommand::Check(command) => check(command),
        ScenarioCommand::Show(command) => show(command),
        ScenarioCommand::Explain(command) => explain(command),
        ScenarioCommand::Schema => {
            out!("{:#}", keys::schema());
            Ok(())
        }
    }
}

fn check(command: &Check) -> anyhow::Result<()> {
    for file in &command.scenarios {
        let (source, sets) = read(file, &command.sets)?;
        let base = source.scenario(&sets)?;
        let variants = variants::chosen_or_itself(&base, &[], &source)?;
        let planned = variants::plan(std::num::NonZeroUsize::MIN, &source, &sets, &variants)?;
        out!("{}: ok", file.display());
        for VariantRun { variant, simulation, .. } in &planned {
            let (trace, scenario) = (&simulation.inputs.trace.trace, &simulation.scenario);
            let last_s = trace.columns().arrivals.last().map_or(0.0, |last| last.seconds());
            let (policy, models) = (scenario.system.policy.name(), scenario.model_names().join(", "));
            let (requests, workers) = (trace.len(), scenario.workers());
            out!("  {variant}: {policy} with {models} on {workers} GPUs; {requests} requests over {last_s:.0} s");
        }
        let mut notes: Vec<&String> = planned.iter().flat_map(|run| &run.simulation.scenario.notes).collect();
        notes.sort_unstable();
        notes.dedup();
        super::print_notes(notes);
    }
    Ok(())
}

fn show(command: &Show) -> anyhow::Result<()> {
    let (source, mut sets) = read(&command.scenario, &command.sets)?;
    if let Some(name) = &command.variant {
        sets.extend(of_variant(&source, &sets, name)?);
    }
    let settings = source.settings(&sets)?;
    if command.json {
        let json: Vec<serde_json::Value> = settings
            .iter()
            .map(|setting| {
                serde_json::json!({
                    "key": setting.key, "value": setting.value, "origin": setting.origin.to_string()
                })
            })
            .collect();
        out!("{:#}", serde_json::Value::from(json));
    } else {
        text(Scenario::shown(&settings));
    }
    // Standard output is a scenario.
    source.scenario(&sets)?.notes.iter().for_each(|note| say!("note: {note}"));
    Ok(())
}

/// Returns the overrides of the variant of that name.
fn of_variant(source: &Source, sets: &[Override], name: &str) -> Result<Vec<Override>, InputError> {
    let base = source.scenario(sets)?;
    let names: Vec<&str> = base.variant.iter().map(|variant| variant.name.as_str()).collect();
    let found = base.variant.iter().find(|variant| variant.name == name);
    found.map(Source::variant_overrides).ok_or_else(|| {
        let accepted = match names[..] {
            [] => format!("{} has no [[variant]]", source.file().display()),
            _ => format!("expected one of {}", names.join(", ")),
        };
        InputError::new("the command line", accepted).value("--variant", format_args!("{name:?}"))
    })
}

fn explain(command: &Explain) -> anyhow::Result<()> {
    if command.markdown {
        let outer = command.key.as_deref();
        text(keys::markdown(|key| outer.is_none_or(|outer| key.is_within(outer))));
        return Ok(());
    }
    let Some(name) = &command.key else {
        keys::keys().iter().for_each(brief);
        return Ok(());
    };
    match keys::find(name) {
        Ok(key) => text(key.explained()),
        Err(near) if near.iter().all(|key| key.is_within(name)) && !near.is_empty() => near.iter().for_each(brief),
        Err(near) => {
            let names: Vec<&str> = near.iter().map(|key| key.name.as_str()).collect();
            let accepted = match names[..] {
                [] => "is no key of a scenario: `modm scenario explain` lists all of them".to_owned(),
                _ => format!("is no key of a scenario; near to it: {}", names.join(", ")),
            };
            return Err(InputError::new("the command line", accepted).key(name).into());
        }
    }
    Ok(())
}

/// Prints a key in a line: its name, default and the first sentence of its meaning.
fn brief(key: &keys::Key) {
    let sentence = key.meaning.split_inclusive(". ").next().unwrap_or_default().trim();
    let default = key.default.as_ref().map_or_else(String::new, |default| format!(" [{default}]"));
    out!("{}{default}: {sentence}", key.name);
}
