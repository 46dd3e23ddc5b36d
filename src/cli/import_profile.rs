//! `modm import-profile`: makes a profile from a table of measured runtimes.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::arguments::Expected;
use crate::input::{InputError, text};
use crate::output::{refuse_file, write_atomic};
use crate::profile::import::{Imported, runtimes};
use crate::time::MAX_INPUT_S;

/// Make a profile from a table of measured runtimes with batches (CSV, as DiffServe publishes them)
///
/// The table has columns Model, Accel, batchsize and avg_runtime (milliseconds of a whole job). The profile's
/// [[service]] rows have the time of a batch of one as overhead_s, no time for single steps, and the times of larger
/// batches as multiples of it.
#[expect(clippy::doc_markdown, reason = "clap prints it as help")]
#[derive(Debug, Args)]
pub(super) struct ImportProfile {
    /// The table (CSV)
    table: PathBuf,
    /// The profile to write (TOML)
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Name HERE in the profile for the model that the table calls THERE (repeatable)
    #[arg(long = "rename", value_name = "THERE=HERE", value_parser = pair)]
    renamed: Vec<(String, String)>,
    /// Seconds of a model load, which the table does not state
    #[arg(long, value_name = "SECONDS", default_value = "0")]
    load_s: f64,
    /// Overwrite an earlier profile
    #[arg(long)]
    force: bool,
}

fn pair(text: &str) -> Result<(String, String), Expected> {
    let pair = text.split_once('=').filter(|(there, here)| !there.is_empty() && !here.is_empty());
    pair.map(|(there, here)| (there.to_owned(), here.to_owned())).ok_or(Expected("THERE=HERE"))
}

pub(super) fn run(command: &ImportProfile) -> anyhow::Result<()> {
    refuse_file(&command.out, command.force)?;
    if !(0.0..=MAX_INPUT_S).contains(&command.load_s) {
        let message = "expected seconds from 0 to ten years";
        return Err(InputError::new(&command.table, message).value("--load-s", command.load_s).into());
    }
    let table = text(&command.table)?;
    let Imported { profile, notes } = runtimes(&table, &command.table, &command.renamed, command.load_s)?;
    let written = toml::to_string(&profile).context("the profile as TOML")?;
    write_atomic(&command.out, |to| std::io::Write::write_all(to, written.as_bytes()))?;
    for service in &profile.service {
        out!("{}, {}: {} s, jobs of up to {}", service.gpu, service.model, service.overhead_s, service.most());
    }
    super::print_notes(&notes);
    say!("profile: {}", command.out.display());
    Ok(())
}
