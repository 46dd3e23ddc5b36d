//! `modm check` and `modm repair`: check and repair the data folder of a server that is not running.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;

use crate::serve::check::{self as data, CheckError};

/// Say whether the data folder of a server is whole
///
/// Reads the ledger, results, image store and recordings of `modm serve --data DIR`, prints a line for each, and
/// changes nothing. The server must not be running. Exit codes: 0 if all of it is whole, 1 if something is not, 2 if
/// there is no such data.
#[derive(Debug, Args)]
#[command(after_help = "  modm check results/server || modm repair results/server")]
pub(super) struct Check {
    /// The server's data folder
    #[arg(value_name = "DIR")]
    data: PathBuf,
}

/// Make the data folder of a server whole
///
/// Saves the readable part of a damaged ledger into a new one, cuts recordings after their last whole request, and
/// moves files that cannot be used to DIR/damaged-TIME, with copies of what is changed. Deletes nothing. The server
/// must not be running.
#[derive(Debug, Args)]
#[command(after_help = "  modm repair results/server")]
pub(super) struct Repair {
    /// The server's data folder
    #[arg(value_name = "DIR")]
    data: PathBuf,
}

/// Turns data that is missing or in use into an input error, which gives exit code 2.
fn explained(error: CheckError) -> anyhow::Error {
    match error {
        CheckError::Input(error) => error.into(),
        error => error.into(),
    }
}

pub(super) fn check(command: &Check) -> anyhow::Result<()> {
    let findings = data::check(&command.data).map_err(explained)?;
    for finding in &findings {
        out!("{}", finding.text);
    }
    match findings.iter().filter(|finding| !finding.is_whole).count() {
        0 => Ok(()),
        wrong => bail!("{wrong} of it not whole: `modm repair {}` makes it so", command.data.display()),
    }
}

pub(super) fn repair(command: &Repair) -> anyhow::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "the name of a folder")]
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    let aside = command.data.join(format!("damaged-{now}"));
    let done = data::repair(&command.data, &aside).map_err(explained)?;
    for line in &done {
        out!("{line}");
    }
    if done.is_empty() {
        out!("{}: whole: nothing to do", command.data.display());
    }
    Ok(())
}
