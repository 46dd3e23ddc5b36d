//! The command line: one file a subcommand. What the user typed becomes a checked struct before
//! anything runs; standard output carries results, standard error everything else.
//!
//! Exit codes: 0 done, 1 the run failed, 2 the input or the usage is wrong.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::input::InputError;

mod generate;
mod trace;

#[derive(Debug, Parser)]
#[command(name = "modm", version, about, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make, import or describe request traces
    #[command(subcommand)]
    Trace(trace::Trace),
}

/// Parses the command line, runs it and turns errors into exit codes.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse(); // exits with 2 on bad usage
    let result = match &arguments.command {
        Command::Trace(command) => trace::run(command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            let input = error.chain().any(<dyn std::error::Error>::is::<InputError>);
            ExitCode::from(if input { 2 } else { 1 })
        }
    }
}
