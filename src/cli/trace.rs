//! `modm trace`: one variant a verb; the work is in `crate::trace`.

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(super) enum Trace {}

pub(super) fn run(command: &Trace) -> anyhow::Result<()> {
    match *command {}
}
