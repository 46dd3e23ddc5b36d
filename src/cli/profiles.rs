//! `modm profiles`: lists the built-in catalogue of profiles, or makes a profile to start from.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::arguments::{Expected, positive};
use super::printer;
use crate::output::{refuse_file, write_atomic};
use crate::profile::SourceKind;
use crate::profile::catalogue::{CATALOGUE, entries};
use crate::profile::starter::Starter;
use crate::report;

/// List the GPUs and models whose service times are built in, or make a profile for others to fill in
///
/// A scenario takes the built-in times by models.profile = "catalogue". Each is published, with its address, or assumed
/// from another one by a factor; a run that uses an assumed one says so. --json has the sources in full.
///
/// --starter prints rows for a GPU type that is not in the list, with every value to fill in. With --like and --factor
/// it prints rows that run as they are: those of another GPU type with all times multiplied by the factor.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Profiles {
    /// Print rows for a GPU type and models, to fill in
    #[arg(long, num_args = 2.., value_names = ["GPU", "MODEL"])]
    starter: Vec<String>,
    /// GPU type of the list whose rows the new ones are compared with or made from
    #[arg(long, value_name = "GPU", default_value = "h100")]
    like: String,
    /// Factor on all times of these rows: 0.6 for a GPU that takes 0.6 of their time
    #[arg(long, value_name = "FACTOR", value_parser = factor, requires = "starter")]
    factor: Option<f64>,
    /// Copy the rows of this GPU type of the list beside, for a cluster with both (repeatable)
    #[arg(long, value_name = "GPU", requires = "starter")]
    with: Vec<String>,
    /// The profile to write (TOML), in place of standard output
    #[arg(long, value_name = "FILE", requires = "starter")]
    out: Option<PathBuf>,
    /// Overwrite an earlier profile
    #[arg(long, requires = "out")]
    force: bool,
    /// Print the list as JSON
    #[arg(long, conflicts_with = "starter")]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  modm profiles
  modm profiles --starter b200 flux-dev flux-schnell --out b200.toml
  modm profiles --starter b200 flux-dev flux-schnell --like h200 --factor 0.5 --with h100 --out b200.toml";

fn factor(text: &str) -> Result<f64, Expected> {
    positive(text)
        .ok()
        .filter(|factor| (0.001..=1000.0).contains(factor))
        .ok_or(Expected("a factor from 0.001 to 1000"))
}

pub(super) fn run(command: &Profiles) -> anyhow::Result<()> {
    if let [gpu, models @ ..] = command.starter.as_slice() {
        let starter = Starter { gpu, models, like: &command.like, factor: command.factor, with: &command.with };
        let text = starter.text()?;
        let Some(out) = &command.out else {
            printer::text(text);
            return Ok(());
        };
        refuse_file(out, command.force)?;
        write_atomic(out, |to| to.write_all(text.as_bytes()))?;
        say!("profile: {}; a scenario takes it by models.profile", out.display());
        return Ok(());
    }
    let entries = entries();
    if command.json {
        return printer::json(&entries).context("the catalogue as JSON");
    }
    let published = entries.iter().filter(|entry| entry.kind == SourceKind::Published.word()).count();
    out!("{}", report::profile::catalogue(&entries, super::width()));
    out!("{published} of {} published, the others assumed; s: one image of 1024 x 1024", entries.len());
    out!("a scenario takes these times by models.profile = {CATALOGUE:?}; --json has the sources in full");
    Ok(())
}
