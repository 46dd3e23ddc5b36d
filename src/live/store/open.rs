//! How a store is found again: its lock, its records, and the index that spares reading each of them. The index
//! is a copy: without it, or with one that is out of date, the records say the same.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Found, Record};
use crate::embedding::Embedding;
use crate::input::InputError;
use crate::output::write_atomic;
use crate::trace::npy;

const LOCK: &str = "lock";
const INDEX: &str = "index.json";
const KEYS: &str = "index.npy";

/// Which entries the rows of `index.npy` are of.
#[derive(Serialize, Deserialize)]
struct Index {
    numbers: Vec<u64>,
}

/// Takes the folder for this process; the lock ends with it, however it ends.
pub(super) fn lock(folder: &Path) -> Result<File, InputError> {
    let refused = |message: String| InputError::new(folder, message);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(folder.join(LOCK));
    let file = file.map_err(|error| refused(format!("cannot be written to: {error}")))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(refused("is in use by another run: choose another store".into())),
        Err(TryLockError::Error(error)) => Err(refused(format!("cannot be locked: {error}"))),
    }
}

/// Entries, oldest first; the next number; what was wrong and is left out.
pub(super) fn entries(folder: &Path) -> Result<(Vec<Found>, u64, Vec<String>), InputError> {
    let listed = fs::read_dir(folder).map_err(|error| InputError::unreadable(folder, &error))?;
    let (mut records, mut pictures, mut warnings) = (Vec::new(), BTreeMap::new(), Vec::new());
    for entry in listed {
        let entry = entry.map_err(|error| InputError::unreadable(folder, &error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((stem, extension)) = name.split_once('.') else { continue };
        match (stem.parse::<u64>(), extension) {
            (Ok(number), "json") => records.push(number),
            (Ok(number), "png" | "jpg") => {
                pictures.insert(number, entry.path());
            }
            // What a killed run was writing.
            (Ok(_), _) if extension.ends_with("partial") => {
                let _ = fs::remove_file(entry.path());
            }
            _ => {}
        }
    }
    records.sort_unstable();
    let next = records.last().copied().max(pictures.keys().last().copied()).map_or(0, |last| last + 1);
    let mut keys = read_index(folder);
    let mut found = Vec::with_capacity(records.len());
    for number in records {
        let record = folder.join(super::record_name(number));
        if pictures.remove(&number).is_none() {
            warnings.push(format!("{}: its picture is missing: left out", record.display()));
            let _ = fs::remove_file(&record);
            continue;
        }
        match keys.remove(&number).map_or_else(|| read_record(&record).map(|record| record.key), Ok) {
            Ok(key) => found.push(Found { number, key }),
            Err(error) => warnings.push(format!("{}: {error}: left out", record.display())),
        }
    }
    // Written, but its record never came.
    for picture in pictures.values() {
        let _ = fs::remove_file(picture);
    }
    let dimension = found.last().map(|entry: &Found| entry.key.as_slice().len());
    let before = found.len();
    found.retain(|entry| Some(entry.key.as_slice().len()) == dimension);
    if found.len() < before {
        warnings.push(format!("{} entries have another encoder's keys: left out", before - found.len()));
    }
    Ok((found, next, warnings))
}

fn read_record(file: &Path) -> Result<Record, String> {
    let text = fs::read_to_string(file).map_err(|error| error.to_string())?;
    serde_json::from_str(&text).map_err(|error| error.to_string())
}

/// Keys by number; none where the index is missing or damaged.
fn read_index(folder: &Path) -> BTreeMap<u64, Embedding> {
    let read = || {
        let text = fs::read_to_string(folder.join(INDEX)).ok()?;
        let index: Index = serde_json::from_str(&text).ok()?;
        let keys = npy::read(&folder.join(KEYS)).ok()?;
        let rows = (0..keys.rows()).map(|row| Embedding::stored(&keys, row));
        (keys.rows() == index.numbers.len())
            .then(|| index.numbers.into_iter().zip(rows).filter_map(|(number, key)| Some((number, key?))).collect())
    };
    read().unwrap_or_default()
}

/// Writes the index of what is there.
pub(super) fn write_index(folder: &Path) -> io::Result<()> {
    // The old index must not be taken for the new one if this is interrupted in between.
    let _ = fs::remove_file(folder.join(INDEX));
    let (found, ..) = entries(folder).map_err(io::Error::other)?;
    let Some(dimension) = found.first().map(|entry| entry.key.as_slice().len()) else { return Ok(()) };
    let values = found.iter().flat_map(|entry| entry.key.as_slice().iter().copied());
    write_atomic(&folder.join(KEYS), |to| npy::write(to, found.len(), dimension, values)).map_err(io::Error::other)?;
    let index = Index { numbers: found.iter().map(|entry| entry.number).collect() };
    write_atomic(&folder.join(INDEX), |to| Ok(serde_json::to_writer(to, &index)?)).map_err(io::Error::other)
}
