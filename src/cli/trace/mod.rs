//! `modm trace`: one file a verb; the work is in `crate::trace`.

use clap::Subcommand;

use super::generate;

mod import;
mod inspect;

#[derive(Debug, Subcommand)]
pub(super) enum Trace {
    /// Make a synthetic trace
    Generate(generate::Generate),
    /// Turn public traces and prompt lists into a trace of ours
    ///
    /// Prompts of one file and arrivals of another become one trace; a file that has both needs no other.
    /// Steps are done in the order of the options: sort, slice, give prompts to arrivals, keep the first,
    /// shuffle, change the pace, merge. Each that changes or drops rows is printed and kept in `trace.json`.
    Import(Box<import::Import>),
    /// Describe a trace: rate, burstiness, repeats, locality
    Inspect(inspect::Inspect),
}

pub(super) fn run(command: &Trace) -> anyhow::Result<()> {
    match command {
        Trace::Generate(command) => generate::run(command),
        Trace::Import(arguments) => import::run(arguments),
        Trace::Inspect(arguments) => inspect::run(arguments),
    }
}
