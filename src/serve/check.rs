//! Check and repair of the data folder of a server that is not running. A repair deletes nothing: what cannot be used
//! is moved to a separate folder.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::api::checksum;
use super::ledger::{self, LedgerError, Picture, offline, picture_file, results};
use super::recordings::{self, Condition};
use crate::input::InputError;
use crate::live::store;
use crate::locked::LockedFile;
use crate::output::{copy_into, move_into};

/// Result of the check of one part of the data folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// State of the part, as a sentence.
    pub text: String,
    /// True if the part can be used as it is.
    pub is_whole: bool,
}

/// Reason why a data folder cannot be checked or repaired.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// Folder that no server has written, that a server is using, or whose ledger has a version that this program does
    /// not read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// Ledger that cannot be read or written.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Error of the disk.
    #[error("{}: {reason}", path.display())]
    Io {
        /// File that could not be read or written.
        path: PathBuf,
        /// Error of the system.
        reason: io::Error,
    },
}

fn failed(path: &Path) -> impl Fn(io::Error) -> CheckError + '_ {
    move |reason| match reason.kind() {
        io::ErrorKind::WouldBlock => InputError::new(path, reason.to_string()).into(),
        _ => CheckError::Io { path: path.to_owned(), reason },
    }
}

fn whole(text: String) -> Finding {
    Finding { text, is_whole: true }
}

fn damaged(text: String) -> Finding {
    Finding { text, is_whole: false }
}

fn read_ledger(data: &Path, lock: offline::Lock) -> Result<Option<offline::FoundLedger>, CheckError> {
    let has = |name: &str| data.join(name).exists();
    if !["ledger.redb", "results", "store", "traffic"].into_iter().any(has) {
        let message = "has no data of `modm serve`: expected the folder that was given as --data";
        return Err(InputError::new(data, message).into());
    }
    offline::read(data, lock).map_err(|error| match error {
        error @ (LedgerError::InUse { .. } | LedgerError::Version { .. }) => {
            InputError::new(data, error.to_string()).into()
        }
        error => error.into(),
    })
}

/// Checks a data folder and changes nothing.
///
/// # Errors
/// The folder is not a data folder, a server uses it, a newer program has written it, or the disk fails.
pub fn check(data: &Path) -> Result<Vec<Finding>, CheckError> {
    let ledger = read_ledger(data, LockedFile::shared)?;
    let mut findings = Vec::new();
    let file = ledger::file(data);
    match &ledger {
        None => findings.push(whole(format!("{}: there is none yet", file.display()))),
        Some(found) if found.wrong.is_empty() => {
            let (jobs, pictures) = (found.jobs.len(), found.pictures.len());
            findings.push(whole(format!("{}: whole: {jobs} jobs, {pictures} pictures", file.display())));
        }
        Some(found) => {
            findings.extend(found.wrong.iter().map(|wrong| damaged(format!("{}: {wrong}", file.display()))));
        }
    }
    let folder = results(data);
    let known = ledger.map(|ledger| ledger.pictures).unwrap_or_default();
    let wrong = damaged_pictures(&folder, &known);
    if wrong.is_empty() {
        findings.push(whole(format!("{}: whole", folder.display())));
    }
    findings.extend(wrong.into_iter().map(|(_, text)| damaged(text)));
    let store = data.join("store");
    if store.is_dir() {
        let wrong = store::inspect(&store).map_err(failed(&store))?;
        if wrong.is_empty() {
            findings.push(whole(format!("{}: whole", store.display())));
        }
        findings.extend(wrong.into_iter().map(|(text, _)| damaged(text)));
    }
    let traffic = recordings::folder(data);
    for recording in recordings::list(&traffic).map_err(failed(&traffic))? {
        let name = recording.display();
        findings.push(match recordings::inspect(&recording) {
            Condition::Whole(rows) => whole(format!("{name}: whole: {rows} requests")),
            Condition::Cut(rows) => damaged(format!("{name}: was cut off: {rows} requests can be saved")),
            Condition::Newer(version) => whole(format!("{name}: of a newer modm (version {version}): not looked at")),
            Condition::Damaged(why) => damaged(format!("{name}: {why}")),
        });
    }
    Ok(findings)
}

/// Returns the pictures that the ledger knows and whose files are missing or damaged, each with a description of the
/// fault.
fn damaged_pictures(folder: &Path, known: &BTreeMap<String, Picture>) -> Vec<(String, String)> {
    let mut wrong = Vec::new();
    for (id, picture) in known {
        let file = picture_file(folder, id);
        let said = match fs::read(&file) {
            Ok(bytes) if picture.crc.is_none_or(|crc| crc == checksum(&bytes)) => continue,
            Ok(_) => "is not what was written".to_owned(),
            Err(error) => error.to_string(),
        };
        wrong.push((id.clone(), format!("{}: {said}", file.display())));
    }
    wrong
}

/// Repairs a data folder and moves what cannot be used to `aside`, or to a folder of a similar name if there is such a
/// folder already. Returns a description of each change.
///
/// # Errors
/// The errors are those of [`check`].
pub fn repair(data: &Path, aside: &Path) -> Result<Vec<String>, CheckError> {
    let mut done = Vec::new();
    let aside = &unused(aside);
    // The ledger stays locked to the end, so that no server begins meanwhile.
    let mut ledger = read_ledger(data, LockedFile::alone)?;
    if let Some(ledger) = &mut ledger {
        let folder = results(data);
        let wrong = damaged_pictures(&folder, &ledger.pictures);
        for (id, said) in &wrong {
            ledger.pictures.remove(id);
            // A ledger with a fault is made anew: it must not promise this picture any longer.
            ledger.wrong.push(format!("knows the picture {id}"));
            let file = picture_file(&folder, id);
            if file.exists() {
                move_into(&file, &aside.join("results")).map_err(failed(&file))?;
                done.push(format!("{said}: moved to {}", aside.join("results").display()));
            } else {
                done.push(format!("{said}: it is forgotten"));
            }
        }
        if !ledger.wrong.is_empty() {
            ledger.match_pictures(&folder);
            // This comes before the new ledger: a start of the server removes results that its ledger does not know.
            done.extend(set_strangers_aside(&folder, ledger, &aside.join("results"))?);
            done.extend(offline::rebuild(data, aside, ledger)?);
        }
    }
    let store = data.join("store");
    if store.is_dir() {
        done.extend(store::repair(&store, &aside.join("store")).map_err(failed(&store))?.done);
    }
    let traffic = recordings::folder(data);
    for recording in recordings::list(&traffic).map_err(failed(&traffic))? {
        match recordings::inspect(&recording) {
            Condition::Whole(_) | Condition::Newer(_) => {}
            Condition::Cut(rows) => {
                // A file of embeddings that ends early costs requests that are whole: they stay in a copy.
                let to = aside.join("traffic").join(recording.file_name().unwrap_or_default());
                for file in fs::read_dir(&recording).map_err(failed(&recording))? {
                    let file = file.map_err(failed(&recording))?.path();
                    copy_into(&file, &to).map_err(failed(&file))?;
                }
                recordings::cut(&recording, rows).map_err(failed(&recording))?;
                let name = recording.display();
                done.push(format!("{name}: cut after {rows} requests: a copy of the whole is in {}", to.display()));
            }
            Condition::Damaged(why) => {
                move_into(&recording, &aside.join("traffic")).map_err(failed(&recording))?;
                let to = aside.join("traffic");
                done.push(format!("{}: {why}: moved to {}", recording.display(), to.display()));
            }
        }
    }
    Ok(done)
}

/// Moves the results aside that a new ledger does not know.
fn set_strangers_aside(
    results: &Path,
    ledger: &offline::FoundLedger,
    aside: &Path,
) -> Result<Option<String>, CheckError> {
    let mut moved = 0;
    for entry in fs::read_dir(results).into_iter().flatten() {
        let file = entry.map_err(failed(results))?.path();
        let id = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if file.extension().is_some_and(|kind| kind == "png") && !ledger.pictures.contains_key(&id) {
            move_into(&file, aside).map_err(failed(&file))?;
            moved += 1;
        }
    }
    let said = format!("{}: {moved} pictures that no row names: moved to {}", results.display(), aside.display());
    Ok((moved > 0).then_some(said))
}

/// Returns the path, or a similar one if there is such a file or folder: a file must not replace one of the same name.
fn unused(folder: &Path) -> PathBuf {
    let another = |number: u32| {
        let mut name = folder.file_name().unwrap_or_default().to_owned();
        name.push(format!("-{number}"));
        folder.with_file_name(name)
    };
    let mut names = std::iter::once(folder.to_owned()).chain((2..).map(another));
    names.find(|name| !name.exists()).unwrap_or_else(|| folder.to_owned())
}

#[cfg(test)]
mod tests {
    use super::recordings::tests::{CSV, recording};
    use super::*;

    #[test]
    fn a_recording_that_is_cut_stays_whole_in_a_copy() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = recordings::folder(folder.path()).join("1");
        recording(&place, CSV.as_bytes(), [2, 1]);
        let read = |file: io::Result<fs::DirEntry>| {
            let file = file.expect("a file");
            (file.file_name(), fs::read(file.path()).expect("read"))
        };
        let before: Vec<_> = fs::read_dir(&place).expect("read").map(read).collect();
        let aside = folder.path().join("aside");
        let done = repair(folder.path(), &aside).expect("repaired");
        assert!(done.len() == 1 && done[0].contains("cut after 1 requests"), "{done:?}");
        assert_eq!(recordings::inspect(&place), Condition::Whole(1));
        for (name, content) in before {
            assert_eq!(fs::read(aside.join("traffic").join("1").join(&name)).expect("a copy"), content, "{name:?}");
        }
    }
}
