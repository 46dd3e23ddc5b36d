//! Opening of a store: its lock, its mark, its records, and the index, which saves reading each record. The index is a
//! copy of facts in the records. Nothing is lost if the index is missing or out of date.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::numbers::{self, NUMBERS};
use super::{DIGITS, FoundEntry, Record, StoreError, Traits};
use crate::embedding::Embedding;
use crate::input::InputError;
use crate::live::picture::Picture;
use crate::locked::{LockedFile, not_locked};
use crate::output::{write_atomic, write_durable};
use crate::trace::npy;

pub(super) const LOCK: &str = "lock";
pub(super) const MARK: &str = "modm-store.json";
pub(super) const INDEX: &str = "index.json";

/// Version of the store's files that this program writes.
const VERSION: u32 = 1;

/// Returns the version of marks that name no version.
const fn first() -> u32 {
    1
}

/// Mark that makes a folder a store. Nothing is ever removed from a folder without a mark.
#[derive(Serialize, Deserialize)]
struct Mark {
    /// Version of the store's files.
    #[serde(default = "first")]
    version: u32,
    /// Fingerprint of the encoder. The keys of another encoder belong to another space.
    encoder: String,
}

/// Index: the entries that the rows of the file `keys` belong to.
#[derive(Default, Serialize, Deserialize)]
struct Index {
    keys: String,
    numbers: Vec<u64>,
    /// CRC-32 of the file of keys; absent in an index that an older version wrote.
    #[serde(default)]
    crc: Option<u32>,
    /// Tenants by row. An index without tenants, as older versions wrote it, is not used.
    #[serde(default)]
    tenants: Vec<Option<String>>,
    /// Numbers of the pictures that each entry was refined from, by row. An index without them, as older versions wrote
    /// it, is not used.
    #[serde(default)]
    origins: Vec<Vec<u64>>,
    /// Traits of the pictures by row. An index without them, as older versions wrote it, is not used.
    #[serde(default)]
    traits: Vec<Traits>,
}

/// Part of a record that is needed when a store is opened.
struct KnownEntry {
    key: Embedding,
    tenant: Option<String>,
    origins: Vec<u64>,
    traits: Traits,
}

/// Content of a store's folder.
pub(super) struct Entries {
    /// Entries, oldest first.
    pub(super) found: Vec<FoundEntry>,
    /// Number that no entry has had.
    pub(super) next: u64,
    /// Number of bytes of the entries' files.
    pub(super) bytes: u64,
    /// Defects of the store, which are left out.
    pub(super) warnings: Vec<String>,
    /// Files of no entry: a run that was killed had not finished to write or to remove them.
    pub(super) leftovers: Vec<PathBuf>,
}

impl Entries {
    /// Removes the files of no entry.
    pub(super) fn remove_leftovers(&self) {
        for file in &self.leftovers {
            let _ = fs::remove_file(file);
        }
    }
}

/// Returns the number of bytes of those files that exist.
pub(super) fn bytes<'a>(files: impl IntoIterator<Item = &'a PathBuf>) -> u64 {
    files.into_iter().filter_map(|file| Some(fs::metadata(file).ok()?.len())).sum()
}

/// Locks the folder for this process.
pub(super) fn lock(folder: &Path) -> Result<LockedFile, InputError> {
    let refused = |message: String| InputError::new(folder, message);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(folder.join(LOCK));
    let file = file.map_err(|error| refused(format!("cannot be written to: {error}")))?;
    match LockedFile::alone(file) {
        Ok(locked) => Ok(locked),
        Err(TryLockError::WouldBlock) => Err(refused("is in use by another run: choose another store".into())),
        Err(TryLockError::Error(error)) => Err(refused(format!("cannot be locked: {error}"))),
    }
}

/// Locks the folder for a repair, which has the store alone.
pub(super) fn lock_alone(folder: &Path) -> io::Result<LockedFile> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(folder.join(LOCK))?;
    LockedFile::alone(file).map_err(not_locked)
}

/// Locks the folder of an existing store, to inspect the store. Returns `None` if the folder has no lock file.
pub(super) fn lock_existing(folder: &Path) -> io::Result<Option<LockedFile>> {
    let file = match File::open(folder.join(LOCK)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    LockedFile::shared(file).map(Some).map_err(not_locked)
}

/// Reads the mark of a store. Returns whether this program reads the store's version, or what is wrong with the mark.
pub(super) fn read_mark(file: &Path) -> Result<bool, StoreError> {
    let text = fs::read(file).map_err(StoreError::file(file))?;
    let mark: Mark = serde_json::from_slice(&text).map_err(StoreError::record(file))?;
    Ok(mark.version <= VERSION)
}

/// Returns whether the store has an index that can be used.
pub(super) fn has_index(folder: &Path) -> bool {
    !read_index(folder).is_empty()
}

/// Refuses a folder that is not empty and is not a store.
pub(super) fn refuse_foreign(folder: &Path) -> Result<(), InputError> {
    if !folder.join(MARK).is_file() && !is_new(folder) {
        let message = "is not empty and no store: expected a new folder, or one that an earlier run has written";
        return Err(InputError::new(folder, message).key("live.store"));
    }
    Ok(())
}

/// Returns whether a folder has nothing of a store, except its lock and its numbers.
pub(super) fn is_new(folder: &Path) -> bool {
    // A run that was killed before it wrote the mark leaves a lock and a part of the mark. A repair that sets a store
    // aside leaves its numbers.
    let own = [LOCK, NUMBERS, "modm-store.json.partial", "modm-store-numbers.json.partial"];
    let is_other =
        |entry: io::Result<fs::DirEntry>| entry.is_ok_and(|entry| !own.iter().any(|name| entry.file_name() == *name));
    !fs::read_dir(folder).is_ok_and(|mut entries| entries.any(is_other))
}

/// Marks a new store with the fingerprint of its encoder, or checks the mark of an existing store.
pub(super) fn mark(folder: &Path, encoder: &str) -> Result<(), InputError> {
    let file = folder.join(MARK);
    if file.is_file() {
        let text = crate::input::text(&file)?;
        let mark: Mark = serde_json::from_str(&text).map_err(|error| {
            InputError::new(&file, format!("is not what a run writes: {error}. `modm repair` sets such a store aside"))
        })?;
        if mark.version > VERSION {
            let message = "is of a newer modm: expected a store of version 1";
            return Err(InputError::new(&file, message).value("version", mark.version));
        }
        if mark.encoder != encoder {
            let message = "its pictures were embedded by another encoder: expected that one, or another store";
            return Err(InputError::new(folder, message).key("live.store"));
        }
        return Ok(());
    }
    let mark = Mark { version: VERSION, encoder: encoder.to_owned() };
    // Without the mark the folder would be somebody else's, however many pictures are in it. The folder's own name is
    // in the folder above.
    let written = write_durable(&file, |to| Ok(serde_json::to_writer(to, &mark)?));
    let above = fs::canonicalize(folder).ok().and_then(|folder| folder.parent().map(Path::to_owned));
    let written = written.and_then(|()| above.map_or(Ok(()), |above| File::open(above)?.sync_all()));
    written.map_err(|error| InputError::new(folder, error.to_string()).key("live.store"))
}

/// Returns the number and the extension of a file of the store, or `None` for another file.
pub(super) fn ours(name: &str) -> Option<(u64, &str)> {
    let (stem, extension) = name.split_once('.')?;
    let plain = stem.len() == DIGITS && stem.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| stem.parse().ok()).flatten().map(|number| (number, extension))
}

/// Finds the entries of a store, and changes nothing.
pub(super) fn entries(folder: &Path) -> Result<Entries, InputError> {
    let unreadable = |error: &io::Error| InputError::unreadable(folder, error);
    let (mut records, mut pictures, mut warnings, mut bytes) = (Vec::new(), BTreeMap::new(), Vec::new(), 0);
    let mut leftovers = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| unreadable(&error))? {
        let entry = entry.map_err(|error| unreadable(&error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if ours(&name).is_some() {
            bytes += entry.metadata().map_or(0, |file| file.len());
        }
        match ours(&name) {
            Some((number, "json")) => records.push(number),
            Some((number, "png" | "jpg")) => {
                pictures.insert(number, entry.path());
            }
            // A killed run was writing this file.
            Some((_, extension)) if extension.ends_with("partial") => leftovers.push(entry.path()),
            _ => {}
        }
    }
    records.sort_unstable();
    let mut keys = read_index(folder);
    // Files of the latest numbers may be gone while the index still lists them. These numbers count, too.
    let last = [records.last(), pictures.keys().last(), keys.keys().last()].into_iter().flatten().max().copied();
    let given = numbers::read(folder).unwrap_or_else(|error| {
        warnings.push(format!("{error}: numbers of pictures that are gone may be given again"));
        0
    });
    let next = given.max(last.map_or(0, |last| last + 1));
    let mut found = Vec::with_capacity(records.len());
    for number in records {
        let record = folder.join(super::record_name(number));
        let Some(picture) = pictures.remove(&number) else {
            warnings.push(format!("{}: its picture is missing: left out", record.display()));
            leftovers.push(record);
            continue;
        };
        let known = keys.remove(&number);
        match known.map_or_else(|| read_record(&record, &picture), Ok) {
            Ok(KnownEntry { key, tenant, origins, traits }) => {
                found.push(FoundEntry { number, key, tenant, origins, traits });
            }
            Err(error) => warnings.push(format!("{error}: left out")),
        }
    }
    // These pictures were written, but their records were not.
    leftovers.extend(pictures.into_values());
    let dimension = found.first().map(|entry: &FoundEntry| entry.key.as_slice().len());
    let before = found.len();
    found.retain(|entry| Some(entry.key.as_slice().len()) == dimension);
    if found.len() < before {
        warnings.push(format!("{} entries have keys of another dimension: left out", before - found.len()));
    }
    Ok(Entries { found, next, bytes, warnings, leftovers })
}

fn read_record(file: &Path, picture: &Path) -> Result<KnownEntry, StoreError> {
    let text = fs::read_to_string(file).map_err(StoreError::file(file))?;
    let Record { key, tenant, source, mut origins, checkpoint, negative_prompt, guidance, .. } =
        serde_json::from_str(&text).map_err(StoreError::record(file))?;
    if origins.is_empty() {
        // Older versions wrote only the source, which may be gone.
        origins.extend(source);
    }
    // A picture that is damaged is found out when it is read.
    let size = Picture::size_of(picture).ok();
    Ok(KnownEntry { key, tenant, origins, traits: Traits { size, checkpoint, negative_prompt, guidance } })
}

/// Returns the CRC-32 of a file, or `None` if the file cannot be read.
fn checksum(file: &Path) -> Option<u32> {
    let mut crc = flate2::Crc::new();
    crc.update(&fs::read(file).ok()?);
    Some(crc.sum())
}

/// Reads the index: entries by number. Returns no entries if the index is missing or damaged.
fn read_index(folder: &Path) -> BTreeMap<u64, KnownEntry> {
    let read = || {
        let text = fs::read_to_string(folder.join(INDEX)).ok()?;
        let index: Index = serde_json::from_str(&text).ok()?;
        let file = folder.join(&index.keys);
        if index.crc.is_some() && index.crc != checksum(&file) {
            return None;
        }
        let keys = npy::read(&file).ok()?;
        let lengths = [index.numbers.len(), index.tenants.len(), index.origins.len(), index.traits.len()];
        if lengths != [keys.rows(); 4] {
            return None;
        }
        let rows = (0..keys.rows()).map(|row| Embedding::stored(&keys, row));
        let rows = rows.zip(index.tenants).zip(index.origins).zip(index.traits);
        let known = index.numbers.into_iter().zip(rows);
        let known = known.filter_map(|(number, (((key, tenant), origins), traits))| {
            Some((number, KnownEntry { key: key?, tenant, origins, traits }))
        });
        Some(known.collect())
    };
    read().unwrap_or_default()
}

/// Ends the files of a run: writes the number above all that were given, and the index. Returns the defects of the
/// store.
pub(super) fn end(folder: &Path, next: u64) -> io::Result<Vec<String>> {
    numbers::write(folder, next)?;
    let entries = entries(folder).map_err(io::Error::other)?;
    entries.remove_leftovers();
    write_index(folder, &entries)?;
    Ok(entries.warnings)
}

/// Returns the files of the index: the index, and all files of keys.
pub(super) fn index_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name == INDEX || name.starts_with("index-") {
            found.push(path);
        }
    }
    Ok(found)
}

/// Writes the index of the entries that exist. The keys are written under a new name, then the index that names them,
/// so that no index ever goes with the keys of another index.
pub(super) fn write_index(folder: &Path, Entries { found, next, .. }: &Entries) -> io::Result<()> {
    let before: Option<Index> =
        fs::read_to_string(folder.join(INDEX)).ok().and_then(|text| serde_json::from_str(&text).ok());
    let Some(dimension) = found.first().map(|entry| entry.key.as_slice().len()) else { return Ok(()) };
    // If no picture was kept since the last index, the keys have the name of the earlier keys and replace them. A kill
    // between the two writes then leaves an index whose checksum does not fit, and no index is used.
    let mut index = Index {
        keys: format!("index-{next}.npy"),
        crc: None,
        numbers: found.iter().map(|entry| entry.number).collect(),
        tenants: found.iter().map(|entry| entry.tenant.clone()).collect(),
        origins: found.iter().map(|entry| entry.origins.clone()).collect(),
        traits: found.iter().map(|entry| entry.traits.clone()).collect(),
    };
    let values = found.iter().flat_map(|entry| entry.key.as_slice().iter().copied());
    write_atomic(&folder.join(&index.keys), |to| npy::write(to, found.len(), dimension, values))
        .map_err(io::Error::other)?;
    index.crc = checksum(&folder.join(&index.keys));
    write_atomic(&folder.join(INDEX), |to| Ok(serde_json::to_writer(to, &index)?)).map_err(io::Error::other)?;
    // The earlier keys go last, because the index on disk has named them until now.
    if let Some(before) = before.filter(|before| before.keys != index.keys) {
        let _ = fs::remove_file(folder.join(before.keys));
    }
    Ok(())
}
