//! Command line: one file for each subcommand. The arguments become a checked struct before anything runs. Results go
//! to standard output, everything else to standard error.
//!
//! Exit codes: 0 done, 1 the run failed, 2 the input or the usage is wrong, 3 two results differ.

use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use anyhow::Context;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::experiments::ExperimentError;
use crate::input::InputError;
use crate::report::{self as reports, Comparison, DrawError, ReportFile};
use crate::trace::MakeError;

#[macro_use]
mod printer;

mod arguments;
#[cfg(feature = "live")]
mod calibrate;
mod capacity;
#[cfg(feature = "serve")]
mod check;
mod compare;
#[cfg(feature = "live")]
mod doctor;
#[cfg(feature = "live")]
mod embed;
mod features;
mod import_profile;
mod init;
#[cfg(feature = "live")]
mod live;
mod open;
#[cfg(feature = "live")]
mod parity;
mod plan;
mod policies;
#[cfg(feature = "live")]
mod profile;
mod profiles;
mod progress;
mod report;
mod scenario;
#[cfg(feature = "serve")]
mod serve;
#[cfg(feature = "live")]
mod setup;
mod simulate;
mod sweep;
mod trace;
#[cfg(feature = "live")]
mod validate;
#[cfg(feature = "cluster")]
mod worker;

const EXAMPLES: &str = "\
Examples:
  modm init mine --log requests.csv --gpus h100:8 --large sd3.5-large --small sdxl --slo-s 30
  modm compare scenarios/quickstart.toml --out results/quickstart
  modm simulate scenarios/quickstart.toml --set system.policy=vanilla --out results/vanilla
  modm sweep scenarios/quickstart.toml --vary cache.capacity=500,2000 --out results/sweep
  modm capacity scenarios/quickstart.toml --slo 2 --attainment 0.99 --out results/capacity
  modm plan scenarios/quickstart.toml --slo 2 --attainment 0.99 --out results/plan
  modm report results/quickstart --against results/before
  modm open results/quickstart
  modm trace import --prompts prompts.txt --arrivals azure.csv --rate-per-min 20 --out traces/mine
  modm trace inspect traces/mine/requests.csv

Any key of a scenario can be set from the command line: --set cache.capacity=5000.
Exit codes: 0 done, 1 the run failed, 2 the input or the usage is wrong, 3 (report --against) two results differ.";

#[derive(Debug, Parser)]
#[command(name = "modm", version = features::version(), about, propagate_version = true, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Init),
    Simulate(simulate::Simulate),
    Compare(compare::Compare),
    Sweep(sweep::Sweep),
    Capacity(capacity::CapacityCommand),
    Plan(plan::Plan),
    Report(report::Report),
    /// Check, show or explain scenarios
    #[command(subcommand)]
    Scenario(scenario::ScenarioCommand),
    Policies(policies::Policies),
    Open(open::Open),
    #[cfg(feature = "live")]
    Live(live::Live),
    #[cfg(feature = "serve")]
    Serve(serve::Serve),
    #[cfg(feature = "cluster")]
    Worker(worker::Worker),
    #[cfg(feature = "serve")]
    Key(serve::Key),
    #[cfg(feature = "serve")]
    Check(check::Check),
    #[cfg(feature = "serve")]
    Repair(check::Repair),
    #[cfg(feature = "live")]
    Validate(validate::Validate),
    #[cfg(feature = "live")]
    Embed(embed::Embed),
    #[cfg(feature = "live")]
    Profile(profile::Profile),
    ImportProfile(import_profile::ImportProfile),
    Profiles(profiles::Profiles),
    #[cfg(feature = "live")]
    Calibrate(calibrate::Calibrate),
    #[cfg(feature = "live")]
    Setup(setup::Setup),
    #[cfg(feature = "live")]
    Doctor(doctor::Doctor),
    #[cfg(feature = "live")]
    Parity(parity::Parity),
    /// Make, import or describe request traces
    #[command(subcommand)]
    Trace(trace::Trace),
    #[cfg(feature = "live")]
    #[command(name = "worker-process", hide = true)]
    WorkerProcess {
        /// Name that is shown in a list of processes
        name: String,
    },
    /// Print a completion script, e.g. `modm completions bash > modm.bash`
    Completions {
        /// Shell that the script is for
        shell: clap_complete::Shell,
    },
}

/// Parses the command line, runs it and turns errors into exit codes.
#[must_use]
pub fn main() -> ExitCode {
    let result = match parse() {
        Ok(Ok(arguments)) => run(&arguments.command),
        Ok(Err(lacking)) => Err(lacking.into()),
        Err(usage) if usage.use_stderr() => usage.exit(), // with 2
        Err(help) => {
            printer::text(help.render().ansi());
            Ok(())
        }
    };
    match result.and_then(|()| Ok(printer::end()?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say!("{RED}error:{RED:#} {error:#}");
            let code = match () {
                () if error.chain().any(is_input) => 2,
                () if error.is::<report::Differ>() => 3,
                () => 1,
            };
            ExitCode::from(code)
        }
    }
}

/// Parses the command line. The inner error is a command of another build.
fn parse() -> Result<Result<Arguments, features::Lacking>, clap::Error> {
    let mut program = features::with_lacking(Arguments::command());
    let matches = program.try_get_matches_from_mut(std::env::args_os())?;
    if let Err(lacking) = features::refuse_lacking(&matches) {
        return Ok(Err(lacking));
    }
    Arguments::from_arg_matches(&matches).map(Ok).map_err(|error| error.format(&mut program))
}

fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Init(command) => init::run(command),
        Command::Simulate(command) => simulate::run(command),
        Command::Compare(command) => compare::run(command),
        Command::Sweep(command) => sweep::run(command),
        Command::Capacity(command) => capacity::run(command),
        Command::Plan(command) => plan::run(command),
        Command::Report(command) => report::run(command),
        Command::Scenario(command) => scenario::run(command),
        Command::Policies(command) => {
            policies::run(command);
            Ok(())
        }
        Command::Open(command) => Ok(open::run(command)?),
        #[cfg(feature = "live")]
        Command::Live(command) => live::run(command),
        #[cfg(feature = "serve")]
        Command::Serve(command) => serve::run(command),
        #[cfg(feature = "cluster")]
        Command::Worker(command) => worker::run(command),
        #[cfg(feature = "serve")]
        Command::Key(command) => {
            serve::key(command);
            Ok(())
        }
        #[cfg(feature = "serve")]
        Command::Check(command) => check::check(command),
        #[cfg(feature = "serve")]
        Command::Repair(command) => check::repair(command),
        #[cfg(feature = "live")]
        Command::Validate(command) => validate::run(command),
        #[cfg(feature = "live")]
        Command::Embed(command) => embed::run(command),
        #[cfg(feature = "live")]
        Command::Calibrate(command) => calibrate::run(command),
        #[cfg(feature = "live")]
        Command::Setup(command) => setup::run(command),
        #[cfg(feature = "live")]
        Command::Doctor(command) => doctor::run(command),
        #[cfg(feature = "live")]
        Command::Parity(command) => parity::run(command),
        #[cfg(feature = "live")]
        Command::Profile(command) => profile::run(command),
        #[cfg(feature = "live")]
        Command::WorkerProcess { .. } => crate::live::isolated::run().context("a worker process, started by hand?"),
        Command::ImportProfile(command) => import_profile::run(command),
        Command::Profiles(command) => profiles::run(command),
        Command::Trace(command) => trace::run(command),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Arguments::command(), "modm", &mut script);
            printer::text(String::from_utf8_lossy(&script));
            Ok(())
        }
    }
}

/// Styles of words on a terminal. `anstream` leaves them out elsewhere, and if `NO_COLOR` is set.
const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const RED: Style = AnsiColor::Red.on_default().bold();
const YELLOW: Style = AnsiColor::Yellow.on_default().bold();

/// Returns whether an error is about an input. The folder of a model counts as an input.
fn is_input(error: &(dyn std::error::Error + 'static)) -> bool {
    #[cfg(feature = "live")]
    {
        use crate::live::error::Error::{Input, NotFinite};
        use crate::live::executor::LiveError;
        if matches!(error.downcast_ref(), Some(Input(_) | NotFinite { .. }))
            || matches!(error.downcast_ref(), Some(LiveError::Load { .. }))
        {
            return true;
        }
    }
    error.is::<InputError>()
        || error.is::<features::Lacking>()
        || error.downcast_ref().is_some_and(ExperimentError::is_of_input)
        || matches!(error.downcast_ref(), Some(MakeError::Input(_)))
}

/// Prints a comparison's table, its verdict with caveats, and its notes.
fn print_comparison(comparison: &Comparison) {
    printer::text(reports::terminal(comparison, width()));
    let verdict = reports::verdict(comparison);
    print_verdict(&verdict.sentence);
    for caveat in &verdict.caveats {
        out!("{YELLOW}note:{YELLOW:#} {caveat}");
    }
    print_notes(comparison.grounds());
}

/// Returns the files of a report. An error says that a figure cannot be drawn.
fn drawn(files: Result<Vec<ReportFile>, DrawError>) -> anyhow::Result<Vec<ReportFile>> {
    files.context("the report's figures")
}

/// Returns the number of columns of the terminal that standard output goes to; `None` if it goes elsewhere.
fn width() -> Option<u16> {
    terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| width.0)
}

/// Prints a verdict under a table.
fn print_verdict(sentence: &str) {
    out!("{BOLD}{sentence}{BOLD:#}");
}

/// Prints notes under a table.
fn print_notes(notes: impl IntoIterator<Item = impl std::fmt::Display>) {
    for note in notes {
        out!("{DIM}note:{DIM:#} {note}");
    }
}
