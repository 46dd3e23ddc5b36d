//! `modm report`: writes the report of existing results, of one folder or of several at once, or says whether two
//! results differ.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;

use super::arguments::{Expected, FigureArguments};
use super::printer;
use crate::calibration::audit;
use crate::input::InputError;
use crate::output::{make_folder, write_atomic};
use crate::report::read::{WindowS, comparison, differences, merged};
use crate::report::{self, against, write_files};

/// Make the report of results again, or one report of several results; with --against, compare two results
///
/// DIR is a folder that compare, live or simulate wrote, or the data folder of a server whose hits were audited, for
/// which the report is audit.md. One folder gets its report anew. Several folders are merged into --out, and their
/// variants are named after the folders. --against exits with 3 if a measure of any variant (its mean over seeds)
/// differs by more than --bound, for use in CI.
#[derive(Debug, Args)]
pub(super) struct Report {
    /// Folders with results
    #[arg(required = true, value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// Folder for the report; needed for several results, the folder of the results if absent
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Compare the result with this one, in place of writing a report
    #[arg(long, value_name = "DIR", conflicts_with = "out")]
    against: Option<PathBuf>,
    /// Largest difference that is accepted, as a share of the value in --against
    #[arg(long, value_name = "SHARE", default_value = "0.01")]
    bound: f64,
    /// Show what the workers did between these seconds; around the first change if absent
    #[arg(long, value_name = "FROM..TO", value_parser = window)]
    window: Option<WindowS>,
    #[command(flatten)]
    figures: FigureArguments,
    /// Print the differences, or the measures, as JSON
    #[arg(long)]
    json: bool,
}

fn window(text: &str) -> Result<WindowS, Expected> {
    let ends = text.split_once("..").and_then(|(from, to)| Some((from.parse::<f64>().ok()?, to.parse::<f64>().ok()?)));
    let ends = ends.filter(|(from, to)| *from >= 0.0 && from < to && to.is_finite());
    ends.ok_or(Expected("two numbers of seconds, the first one smaller, e.g. 600..1200"))
}

/// Error that two results differ: exit code 3.
#[derive(Debug, thiserror::Error)]
#[error("{0} measures differ by more than the bound")]
pub(super) struct Differ(usize);

pub(super) fn run(command: &Report) -> anyhow::Result<()> {
    if let Some(there) = &command.against {
        return hold_against(command, there);
    }
    if let [folder] = command.folders.as_slice()
        && folder.join(audit::FILE).is_file()
    {
        return report_audits(command, folder);
    }
    let (comparison, out) = match (command.folders.as_slice(), &command.out) {
        ([folder], out) => (comparison(folder, command.window)?, out.as_ref().unwrap_or(folder).clone()),
        (_, Some(out)) => (merged(&command.folders, command.window)?, out.clone()),
        (_, None) => {
            let message = "is needed for several results: the folder for their report";
            return Err(InputError::new("the command line", message).key("--out").into());
        }
    };
    make_folder(&out)?;
    write_files(&super::drawn(report::files(&comparison, command.figures.look()))?, &out)?;
    if command.json {
        printer::json(&report::json(&comparison.runs))?;
    } else {
        super::print_comparison(&comparison);
    }
    say!("report: {}", out.join("report.html").display());
    Ok(())
}

/// Writes and prints the report of the audits in a server's data folder.
fn report_audits(command: &Report, folder: &Path) -> anyhow::Result<()> {
    if command.window.is_some() {
        let message = "goes with the results of a run: a server's audits have no workers";
        return Err(InputError::new("the command line", message).key("--window").into());
    }
    let kept = audit::kept(&audit::read(&folder.join(audit::FILE))?, 1);
    let out = command.out.as_deref().unwrap_or(folder);
    make_folder(out)?;
    let file = out.join("audit.md");
    write_atomic(&file, |to| to.write_all(report::audit::markdown(&kept).as_bytes()))?;
    if command.json {
        printer::json(&report::audit::json(&kept))?;
    } else {
        out!("{}", report::audit::terminal(&kept));
    }
    say!("report: {}", file.display());
    Ok(())
}

fn hold_against(command: &Report, there: &Path) -> anyhow::Result<()> {
    let [here] = command.folders.as_slice() else {
        let message = "goes with one result";
        return Err(InputError::new("the command line", message).key("--against").into());
    };
    if !(0.0..=1e6).contains(&command.bound) {
        let message = "expected a share from 0 to 1000000";
        return Err(InputError::new("the command line", message).value("--bound", command.bound).into());
    }
    let found = differences(here, there, command.bound)?;
    if command.json {
        printer::json(&against::json(&found))?;
    } else if found.is_empty() {
        out!("no measure differs by more than {} %", 100.0 * command.bound);
    } else {
        printer::text(against::table(&found));
    }
    if found.is_empty() { Ok(()) } else { Err(Differ(found.len()).into()) }
}
