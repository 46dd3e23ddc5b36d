//! The command line: one file a subcommand. What the user typed becomes a checked struct before
//! anything runs; standard output carries results, standard error everything else.
//!
//! Exit codes: 0 done, 1 the run failed, 2 the input or the usage is wrong.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::input::InputError;

mod arguments;
mod compare;
mod progress;
mod run;
mod simulate;
mod trace;

pub use run::Prepared;

#[derive(Debug, Parser)]
#[command(name = "modm", version, about, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Simulate(simulate::Simulate),
    Compare(compare::Compare),
    /// Make, import or describe request traces
    #[command(subcommand)]
    Trace(trace::Trace),
}

/// Parses the command line, runs it and turns errors into exit codes.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse(); // exits with 2 on bad usage
    let result = match &arguments.command {
        Command::Simulate(command) => simulate::run(command),
        Command::Compare(command) => compare::run(command),
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

/// Columns of the terminal that results go to; `None` where they go elsewhere.
fn width() -> Option<u16> {
    terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| width.0)
}

/// Notes under a table.
fn print_notes(notes: &[String]) {
    for note in notes {
        println!("note: {note}");
    }
}
