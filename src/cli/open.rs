//! `modm open`: shows a report, or the pictures of a live run, in the browser.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::Args;

use super::printer;
use crate::calibration::audit;
use crate::input::InputError;
use crate::report::read::INDEX;

/// Pages that a folder of results may have, the first one that is there is shown.
const PAGES: [&str; 2] = ["report.html", "pictures.html"];

/// Programs that show a file in the browser of the user, by system: the program, and arguments before the file.
const OPENERS: &[(&str, &[&str])] = if cfg!(target_os = "macos") {
    &[("open", &[])]
} else if cfg!(windows) {
    &[("explorer", &[])]
} else {
    &[("xdg-open", &[]), ("wslview", &[])]
};

/// Open the report of a result in the browser
///
/// Opens DIR/report.html, or DIR/pictures.html with --pictures, or the file that is given. Prints the path, which is
/// all that happens where there is no browser.
#[derive(Debug, Args)]
pub(super) struct Open {
    /// Folder with results, or a page
    #[arg(value_name = "DIR")]
    place: PathBuf,
    /// Open the pictures of a live run in place of its report
    #[arg(long)]
    pictures: bool,
}

pub(super) fn run(command: &Open) -> Result<(), InputError> {
    let page = page(&command.place, command.pictures)?;
    printer::line(page.display());
    if !OPENERS.iter().any(|(program, before)| opens(program, before, &page)) {
        say!("no browser was found here: open the file yourself");
    }
    Ok(())
}

/// Returns the page to show, as an absolute path: browsers that run already know nothing of this folder.
fn page(place: &Path, pictures: bool) -> Result<PathBuf, InputError> {
    let wanted = if pictures { &PAGES[1..] } else { &PAGES[..] };
    let pages = wanted.iter().map(|name| place.join(name));
    let page = if place.is_dir() { pages.into_iter().find(|page| page.is_file()) } else { Some(place.to_owned()) };
    let Some(page) = page else {
        let names = wanted.join(" and no ");
        let message = match (pictures, is_result(place)) {
            (true, _) => format!("has no {names}: only `modm live` draws pictures, into its --out"),
            (false, true) => {
                format!("has no {names}, but results: `modm report {}` makes the report", place.display())
            }
            (false, false) => format!(
                "has no {names}: expected the --out of compare, capacity, plan, sweep, live or validate; `modm report` \
                 makes the report of older results"
            ),
        };
        return Err(InputError::new(place, message));
    };
    page.canonicalize().map_err(|error| InputError::new(&page, format!("cannot be read: {error}")))
}

/// Returns whether a folder holds results from which a report can be made.
fn is_result(folder: &Path) -> bool {
    ["summary.json", INDEX, audit::FILE].iter().any(|name| folder.join(name).is_file())
}

/// Has a program show a page. Returns whether it could.
fn opens(program: &str, before: &[&str], page: &Path) -> bool {
    let mut command = Command::new(program);
    let silent = command.args(before).arg(page).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut child) = silent.spawn() else { return false };
    // The program hands the page to the browser and ends, or it becomes the browser and stays.
    for _ in 0..20 {
        match child.try_wait() {
            // Explorer ends with 1 although it has opened the page.
            Ok(Some(status)) => return status.success() || cfg!(windows),
            Ok(None) => wait(),
            Err(_) => return false,
        }
    }
    true
}

#[expect(clippy::disallowed_methods, reason = "a program of the system is waited for")]
fn wait() {
    std::thread::sleep(Duration::from_millis(100));
}
