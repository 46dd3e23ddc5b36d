//! `modm trace`: one file a verb; the work is in `crate::trace`.

use clap::Subcommand;

mod import;
mod inspect;

#[derive(Debug, Subcommand)]
pub(super) enum Trace {
    /// Turn public traces and prompt lists into a trace of ours
    Import(Box<import::Import>),
    /// Describe a trace: rate, burstiness, repeats, locality
    Inspect(inspect::Inspect),
}

pub(super) fn run(command: &Trace) -> anyhow::Result<()> {
    match command {
        Trace::Import(arguments) => import::run(arguments),
        Trace::Inspect(arguments) => inspect::run(arguments),
    }
}
