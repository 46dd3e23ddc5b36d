//! Flags that several subcommands share.

use std::path::PathBuf;

use clap::Args;

use super::search::Search;
use crate::input::InputError;
use crate::scenario::{Override, Source};

/// How a command's runs look up similar images.
#[derive(Debug, Args)]
pub(super) struct SearchArguments {
    /// How similar images are looked up; the results are the same
    #[arg(long, value_name = "HOW", value_enum, default_value_t)]
    pub(super) search: Search,
}

/// A scenario, what to change in it and where results go.
#[derive(Debug, Args)]
pub(super) struct ScenarioArguments {
    /// Scenario file (TOML)
    pub(super) scenario: PathBuf,
    /// Folder for the results; must not hold an earlier run
    #[arg(long, value_name = "DIR")]
    pub(super) out: PathBuf,
    /// Override a scenario key, e.g. --set cache.capacity=5000 (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(super) sets: Vec<String>,
    /// Overwrite an earlier run in --out
    #[arg(long)]
    pub(super) force: bool,
    /// No progress on standard error
    #[arg(long, short)]
    pub(super) quiet: bool,
    /// Print the measures as JSON in place of a table
    #[arg(long)]
    pub(super) json: bool,
}

impl ScenarioArguments {
    /// The scenario's text and the overrides from the command line.
    pub(super) fn read(&self) -> Result<(Source, Vec<Override>), InputError> {
        let overrides = self.sets.iter().map(|text| Override::parse(text)).collect::<Result<_, _>>()?;
        Ok((Source::read(&self.scenario)?, overrides))
    }

    /// Refuses an output folder that holds an earlier run; makes it otherwise.
    pub(super) fn prepare_output(&self) -> Result<(), InputError> {
        crate::output::prepare(&self.out, &["run.json", "summary.json", "comparison.csv"], self.force)
    }
}
