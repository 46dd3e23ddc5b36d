//! `modm trace`: one variant a verb; the work is in `crate::trace`.

use clap::Subcommand;

use super::generate;

#[derive(Debug, Subcommand)]
pub(super) enum Trace {
    /// Make a synthetic trace
    Generate(generate::Generate),
}

pub(super) fn run(command: &Trace) -> anyhow::Result<()> {
    match command {
        Trace::Generate(command) => generate::run(command),
    }
}
