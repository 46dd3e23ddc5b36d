//! Inspection and repair of a store that nobody has open. Every file is looked at, and damaged files are moved to
//! another folder.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::numbers::{self, NUMBERS};
use super::open::{self, INDEX, LOCK, MARK};
use super::{Picture, Record};
use crate::output::move_into;

/// Result of a repair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Sentences, one for each thing that was done.
    pub done: Vec<String>,
}

/// Files of one number.
#[derive(Default)]
struct Files {
    record: Option<PathBuf>,
    picture: Option<PathBuf>,
}

/// Looks at every entry of a store and changes nothing. Returns the defects, each with the files at fault.
///
/// # Errors
/// Returns an error if the folder cannot be read or is in use.
pub fn inspect(folder: &Path) -> io::Result<Vec<(String, Vec<PathBuf>)>> {
    let _lock = open::lock_existing(folder)?;
    defects(folder)
}

/// Returns the defects of a store that this process has locked.
fn defects(folder: &Path) -> io::Result<Vec<(String, Vec<PathBuf>)>> {
    let mut wrong = Vec::new();
    let mark = folder.join(MARK);
    if open::is_new(folder) {
        return Ok(wrong);
    }
    match open::read_mark(&mark) {
        Ok(true) => {}
        Ok(false) => return Ok(vec![(format!("{}: is of a newer modm", mark.display()), Vec::new())]),
        Err(why) => wrong.push((why.to_string(), vec![mark])),
    }
    let mut entries: BTreeMap<u64, Files> = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match open::ours(&name) {
            Some((number, "json")) => entries.entry(number).or_default().record = Some(path),
            Some((number, "png" | "jpg")) => entries.entry(number).or_default().picture = Some(path),
            _ => {}
        }
    }
    for files in entries.into_values() {
        let said = match &files {
            // A kill leaves a picture without a record, which the next run removes.
            Files { record: None, .. } => None,
            Files { record: Some(record), picture: None } => {
                Some(format!("{}: its picture is missing", record.display()))
            }
            Files { record: Some(record), picture: Some(picture) } => damage(record, picture),
        };
        if let Some(said) = said {
            wrong.push((said, files.record.into_iter().chain(files.picture).collect()));
        }
    }
    if folder.join(INDEX).exists() && !open::has_index(folder) {
        wrong
            .push((format!("{}: is damaged: it is made anew", folder.join(INDEX).display()), vec![folder.join(INDEX)]));
    }
    if let Err(why) = numbers::read(folder) {
        wrong.push((why.to_string(), vec![folder.join(NUMBERS)]));
    }
    Ok(wrong)
}

fn damage(record: &Path, picture: &Path) -> Option<String> {
    let read = fs::read(record).map_err(|error| error.to_string());
    let read = read.and_then(|text| serde_json::from_slice::<Record>(&text).map_err(|error| error.to_string()));
    if let Err(error) = read {
        return Some(format!("{}: {error}", record.display()));
    }
    let read = fs::read(picture).map_err(|error| error.to_string());
    let decoded = read.and_then(|bytes| Picture::decode(&bytes).map_err(|error| error.to_string()));
    decoded.err().map(|error| format!("{}: {error}", picture.display()))
}

/// Moves damaged files to `aside` and writes a new index. A store without a readable mark is moved as a whole, because
/// the encoder of its keys is not known. Nothing is deleted: files of no entry and the old index are moved as well.
///
/// # Errors
/// Returns the error of the system, also if a run or another repair uses the store.
pub fn repair(folder: &Path, aside: &Path) -> io::Result<Repaired> {
    let mut repaired = Repaired::default();
    // No run opens the store until the new index is whole.
    let _lock = open::lock_alone(folder)?;
    let wrong = defects(folder)?;
    // A store that a newer program has written is left as it is.
    if wrong.iter().all(|(_, files)| files.is_empty()) {
        return Ok(repaired);
    }
    if let Err(why) = open::read_mark(&folder.join(MARK)) {
        // The next store of this place goes on with its numbers, because the names of pictures derive from them. They
        // are on the disk before the files go that tell of them.
        let next = open::entries(folder).map_err(io::Error::other)?.next;
        if numbers::read(folder).is_err() {
            move_into(&folder.join(NUMBERS), aside)?;
        }
        numbers::write(folder, next)?;
        for entry in fs::read_dir(folder)? {
            let file = entry?.path();
            if ![LOCK, NUMBERS].iter().any(|name| file.ends_with(name)) {
                move_into(&file, aside)?;
            }
        }
        repaired.done.push(format!("{why}: the whole store is in {}", aside.display()));
        return Ok(repaired);
    }
    for (said, files) in wrong {
        files.iter().try_for_each(|file| move_into(file, aside))?;
        repaired.done.push(format!("{said}: moved to {}", aside.display()));
    }
    let entries = open::entries(folder).map_err(io::Error::other)?;
    numbers::write(folder, entries.next)?;
    entries.leftovers.iter().chain(&open::index_files(folder)?).try_for_each(|file| move_into(file, aside))?;
    if !entries.leftovers.is_empty() {
        let said = format!("{} files of no picture", entries.leftovers.len());
        repaired.done.push(format!("{}: {said}: moved to {}", folder.display(), aside.display()));
    }
    open::write_index(folder, &entries)?;
    repaired.done.extend(entries.warnings);
    Ok(repaired)
}
