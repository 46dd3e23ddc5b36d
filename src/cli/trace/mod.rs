//! `modm trace`: one file for each of its subcommands. The work is in `crate::trace`.

use clap::Subcommand;

mod generate;
pub(super) mod import;
mod inspect;

#[derive(Debug, Subcommand)]
pub(super) enum Trace {
    /// Make a synthetic trace
    Generate(generate::Generate),
    /// Turn a service's log, public traces and lists of prompts into a trace for modm
    Import(Box<import::Import>),
    /// Describe a trace: rate, burstiness, repeats, locality
    Inspect(inspect::Inspect),
}

pub(super) fn run(command: &Trace) -> anyhow::Result<()> {
    match command {
        Trace::Generate(arguments) => generate::run(arguments),
        Trace::Import(arguments) => import::run(arguments),
        Trace::Inspect(arguments) => inspect::run(arguments),
    }
}
