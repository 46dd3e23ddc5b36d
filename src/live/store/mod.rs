//! The image cache's content on disk, by number: a picture and, beside it, a record of what it shows and how it
//! came about. What is there is whole, whenever the program was killed: a picture is written before its
//! record, and an entry is there if its record is. Which images are cached is the core's business, not this.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};

use super::picture::Picture;
use super::settings::ImageFormat;
use crate::embedding::Embedding;
use crate::image::ImageId;
use crate::input::InputError;

mod disk;
mod lineage;
mod open;

pub use disk::{Disk, RealDisk};
use lineage::Lineage;
use open::Entries;

/// Digits of a number in a file's name.
const DIGITS: usize = 12;

/// What stands beside a picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its file, in the same folder.
    pub file: String,
    /// What was asked for.
    pub prompt: String,
    /// Who asked, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// What drew it.
    pub model: String,
    /// Of its noise: seed and row.
    pub seed: (u64, u64),
    /// Steps of a full generation, and steps spared.
    pub steps: (u32, u32),
    /// The number of the picture it started from, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<u64>,
    /// Numbers of the pictures that it came from, directly or not, that were cached when it was kept; nearest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<u64>,
    /// What it is found by.
    pub key: Embedding,
}

/// An entry that an earlier run left.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Its number in the store.
    pub number: u64,
    /// What it is found by.
    pub key: Embedding,
    /// Who asked for it, where that is known.
    pub tenant: Option<String>,
    /// Numbers of the pictures that it came from, as its record has them.
    pub origins: Vec<u64>,
}

/// Outcome of a deletion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Numbers of the entries that are deleted; none, if there was no such entry.
    pub numbers: Vec<u64>,
    /// Numbers of the entries refined from the first, directly or not, each with its tenant where that is known.
    pub refined: Vec<(u64, Option<String>)>,
}

/// What the disk thread is to do, in order.
enum Order {
    Keep {
        image: ImageId,
        number: u64,
        picture: Arc<Picture>,
        record: Box<Record>,
    },
    Remove {
        number: u64,
    },
    /// A picture of the results: not an entry.
    Result {
        file: PathBuf,
        picture: Arc<Picture>,
    },
    /// An entry's picture as a result.
    Copy {
        file: PathBuf,
        number: u64,
    },
}

/// What is known of the content by all who read it.
#[derive(Debug, Default)]
struct Known {
    /// Numbers of the images of this run.
    numbers: BTreeMap<ImageId, u64>,
    /// Not on disk yet.
    unwritten: BTreeMap<ImageId, Arc<Picture>>,
    lineage: Lineage,
    /// Numbers of entries that are deleted and whose files are not gone yet.
    deleted: BTreeSet<u64>,
    /// What could not be written or removed.
    failures: Vec<String>,
}

/// Reads pictures; shared by the workers.
#[derive(Clone, Debug)]
pub struct Sources {
    folder: PathBuf,
    known: Arc<Mutex<Known>>,
}

/// The store of one run. Nobody else may open its folder meanwhile.
#[derive(Debug)]
pub struct Store {
    sources: Sources,
    format: ImageFormat,
    next: u64,
    orders: Sender<Order>,
    writer: JoinHandle<()>,
    lock: File,
}

/// A store as it was found.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: Store,
    /// Its entries, oldest first.
    pub found: Vec<Found>,
    /// What was wrong with it and has been left out.
    pub warnings: Vec<String>,
}

impl Sources {
    fn known(&self) -> MutexGuard<'_, Known> {
        // A thread that died while it held the lock left a map that is still a map.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An image's picture, from memory if it is not on disk yet.
    ///
    /// # Errors
    /// It is not there or cannot be read: why.
    pub fn read(&self, image: ImageId) -> Result<Arc<Picture>, String> {
        let number = {
            let known = self.known();
            if let Some(picture) = known.unwritten.get(&image) {
                return Ok(picture.clone());
            }
            known.numbers.get(&image).copied()
        };
        self.read_number(number.ok_or_else(|| format!("image {image} is not in the store"))?)
    }

    /// An entry's record and the bytes of its picture, as they are on disk.
    ///
    /// # Errors
    /// It is not there (yet, or any more) or cannot be read: why.
    pub fn entry(&self, number: u64) -> Result<(Record, Vec<u8>), String> {
        let record = self.record(number)?;
        // Only this store's own names: a record is not believed about where its picture is.
        let formats =
            [ImageFormat::Png, ImageFormat::Jpeg].map(|format| self.folder.join(picture_name(number, format)));
        let bytes = formats.iter().find_map(|file| fs::read(file).ok());
        bytes.map(|bytes| (record, bytes)).ok_or_else(|| format!("{}: there is no picture", formats[0].display()))
    }

    /// An entry's record.
    ///
    /// # Errors
    /// Likewise.
    pub fn record(&self, number: u64) -> Result<Record, String> {
        let file = self.folder.join(record_name(number));
        if self.known().deleted.contains(&number) {
            return Err(format!("{}: is deleted", file.display()));
        }
        let text = fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", file.display()))
    }

    /// When an entry was written, as its file says.
    #[must_use]
    pub fn written(&self, number: u64) -> Option<std::time::SystemTime> {
        fs::metadata(self.folder.join(record_name(number))).ok()?.modified().ok()
    }

    /// Numbers of what is cached, below `before`, newest first.
    #[must_use]
    pub fn numbers(&self, before: Option<u64>) -> Vec<u64> {
        let known = self.known();
        let listed = |number: &u64| before.is_none_or(|before| *number < before) && !known.deleted.contains(number);
        let mut numbers: Vec<u64> = known.numbers.values().copied().filter(listed).collect();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        numbers
    }

    /// Tenant that asked for an entry, if that is known; `None` if there is no such entry.
    #[must_use]
    pub fn tenant(&self, number: u64) -> Option<Option<String>> {
        let known = self.known();
        let tenant = known.lineage.tenant(number).filter(|_| !known.deleted.contains(&number))?;
        Some(tenant.map(str::to_owned))
    }

    /// Deletes an entry, and with `refined` what was refined from it: none is found or listed from now on, and what reads one
    /// as its source still can. Returns what was deleted, and the images that the core is to let go. Their records are removed
    /// by [`Sources::remove_records`], their pictures when the core releases them.
    #[must_use]
    pub fn delete(&self, number: u64, refined: bool) -> (Deleted, Vec<ImageId>) {
        let mut known = self.known();
        let cached: BTreeMap<u64, ImageId> = known.numbers.iter().map(|(image, number)| (*number, *image)).collect();
        let is_there = |number: &u64| cached.contains_key(number) && !known.deleted.contains(number);
        if !is_there(&number) {
            return (Deleted::default(), Vec::new());
        }
        let came_of_it: Vec<u64> = known.lineage.refined(number).into_iter().filter(is_there).collect();
        let tenant = |number: u64| known.lineage.tenant(number).flatten().map(str::to_owned);
        let listed = came_of_it.iter().map(|number| (*number, tenant(*number))).collect();
        let numbers: Vec<u64> = std::iter::once(number).chain(came_of_it.into_iter().filter(|_| refined)).collect();
        known.deleted.extend(&numbers);
        let images = numbers.iter().filter_map(|number| cached.get(number).copied()).collect();
        (Deleted { numbers, refined: listed }, images)
    }

    /// Removes the records of deleted entries, so that no later run finds them.
    ///
    /// # Errors
    /// A file cannot be removed: which and why.
    pub fn remove_records(&self, numbers: &[u64]) -> Result<(), String> {
        numbers.iter().try_for_each(|number| {
            let file = self.folder.join(record_name(*number));
            match fs::remove_file(&file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(format!("{}: {error}", file.display()))
                }
                _ => Ok(()),
            }
        })
    }

    /// Bytes of all files of the store.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let files = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        files.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
    }

    fn read_number(&self, number: u64) -> Result<Arc<Picture>, String> {
        for format in [ImageFormat::Png, ImageFormat::Jpeg] {
            let file = self.folder.join(picture_name(number, format));
            match fs::read(&file) {
                Ok(bytes) => {
                    let picture = Picture::decode(&bytes);
                    return picture.map(Arc::new).map_err(|error| format!("{}: {error}", file.display()));
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(format!("{}: {error}", file.display())),
            }
        }
        Err(format!("{}: there is no picture", self.folder.join(picture_name(number, ImageFormat::Png)).display()))
    }
}

impl Store {
    /// Opens a store, or begins one in an empty folder; `encoder` is the fingerprint of what makes its keys.
    ///
    /// # Errors
    /// The folder cannot be used, is no store, is of another encoder, or somebody else uses it.
    pub fn open(folder: &Path, format: ImageFormat, encoder: &str, disk: impl Disk) -> Result<Opened, InputError> {
        fs::create_dir_all(folder).map_err(|error| InputError::new(folder, format!("cannot be made: {error}")))?;
        open::refuse_foreign(folder)?;
        let lock = open::lock(folder)?;
        open::mark(folder, encoder)?;
        let Entries { found, next, warnings } = open::entries(folder)?;
        let sources = Sources { folder: folder.to_owned(), known: Arc::default() };
        for Found { number, tenant, origins, .. } in &found {
            let _ = sources.known().lineage.insert(*number, tenant.clone(), origins);
        }
        let (orders, work) = channel();
        let (own, place) = (sources.clone(), folder.to_owned());
        let writer =
            std::thread::Builder::new().name("store".into()).spawn(move || write(&work, &place, format, &own, &disk));
        let writer = writer.map_err(|error| InputError::new(folder, format!("no thread can be started: {error}")))?;
        let store = Self { sources, format, next, orders, writer, lock };
        Ok(Opened { store, found, warnings })
    }

    /// Who reads from it.
    #[must_use]
    pub fn sources(&self) -> Sources {
        self.sources.clone()
    }

    /// An entry of an earlier run is called so in this one.
    pub fn adopt(&self, image: ImageId, number: u64) {
        self.sources.known().numbers.insert(image, number);
    }

    /// The number of an image.
    #[must_use]
    pub fn number(&self, image: ImageId) -> Option<u64> {
        self.sources.known().numbers.get(&image).copied()
    }

    /// The number of an image, and of those that it was refined from, nearest first; empty if it is not here.
    #[must_use]
    pub fn line(&self, image: ImageId) -> Vec<u64> {
        let known = self.sources.known();
        known.numbers.get(&image).map(|number| known.lineage.line(*number)).unwrap_or_default()
    }

    /// Keeps a picture: it can be read from now on, and is on disk soon.
    pub fn keep(&mut self, image: ImageId, picture: Arc<Picture>, record: impl FnOnce(String) -> Record) {
        let number = self.next;
        self.next += 1;
        let mut record = Box::new(record(picture_name(number, self.format)));
        {
            let mut known = self.sources.known();
            known.numbers.insert(image, number);
            known.unwritten.insert(image, picture.clone());
            record.origins = known.lineage.insert(number, record.tenant.clone(), &record.origins);
        }
        self.order(Order::Keep { image, number, picture, record });
    }

    /// Lets an image go.
    pub fn release(&mut self, image: ImageId) {
        let number = {
            let mut known = self.sources.known();
            known.unwritten.remove(&image);
            let number = known.numbers.remove(&image);
            if let Some(number) = number {
                known.lineage.remove(number);
            }
            number
        };
        if let Some(number) = number {
            self.order(Order::Remove { number });
        }
    }

    /// Writes a picture of the results to a file of its own.
    pub fn write_result(&mut self, file: PathBuf, picture: Arc<Picture>) {
        self.order(Order::Result { file, picture });
    }

    /// Writes an entry's picture to a file of the results.
    pub fn copy_result(&mut self, image: ImageId, file: PathBuf) {
        if let Some(number) = self.number(image) {
            self.order(Order::Copy { file, number });
        }
    }

    fn order(&mut self, order: Order) {
        // Without its thread nothing is written, and `close` says so.
        let _ = self.orders.send(order);
    }

    /// Waits until everything is on disk and writes the index. Returns what could not be done.
    #[must_use]
    pub fn close(self) -> Vec<String> {
        let Self { sources, orders, writer, lock, .. } = self;
        drop(orders);
        let ended = writer.join().is_ok();
        let mut failures = std::mem::take(&mut sources.known().failures);
        if !ended {
            failures.push("the thread that writes pictures died".to_owned());
        }
        match open::write_index(&sources.folder) {
            Ok(warnings) => failures.extend(warnings),
            Err(error) => {
                failures.push(format!("{}: the index cannot be written: {error}", sources.folder.display()));
            }
        }
        drop(lock); // Not before the index is whole.
        failures
    }
}

/// The disk thread: does everything in order.
fn write(orders: &Receiver<Order>, folder: &Path, format: ImageFormat, sources: &Sources, disk: &impl Disk) {
    for order in orders {
        let (what, done) = match order {
            Order::Keep { image, number, picture, record } => {
                let file = folder.join(picture_name(number, format));
                let done = keep(disk, &file, &folder.join(record_name(number)), &picture, format, &record);
                if done.is_err() {
                    // What is not on disk is not kept: whoever needs it later is told that it is missing.
                    let _ = disk.remove(&file);
                }
                let deleted = {
                    let mut known = sources.known();
                    known.unwritten.remove(&image);
                    known.deleted.contains(&number)
                };
                // It was deleted while it was being written: whoever deleted it found no record to remove.
                let done = if deleted { done.and(sources.remove_records(&[number])) } else { done };
                (file, done)
            }
            Order::Remove { number } => {
                let record = folder.join(record_name(number));
                let pictures =
                    [ImageFormat::Png, ImageFormat::Jpeg].map(|format| folder.join(picture_name(number, format)));
                let done = disk.remove(&record).and_then(|()| pictures.iter().try_for_each(|file| disk.remove(file)));
                sources.known().deleted.remove(&number);
                (record, done.map_err(|error| error.to_string()))
            }
            Order::Result { file, picture } => {
                let done = result(disk, &file, &picture, format);
                (file, done)
            }
            Order::Copy { file, number } => {
                let done = sources.read_number(number).and_then(|picture| result(disk, &file, &picture, format));
                (file, done)
            }
        };
        if let Err(error) = done {
            sources.known().failures.push(format!("{}: {error}", what.display()));
        }
    }
}

fn keep(
    disk: &impl Disk,
    file: &Path,
    beside: &Path,
    picture: &Picture,
    format: ImageFormat,
    record: &Record,
) -> Result<(), String> {
    let bytes = picture.encode(format).map_err(|error| error.to_string())?;
    disk.write(file, &bytes).map_err(|error| error.to_string())?;
    let record = serde_json::to_vec_pretty(record).map_err(|error| error.to_string())?;
    disk.write(beside, &record).map_err(|error| error.to_string())
}

fn result(disk: &impl Disk, file: &Path, picture: &Picture, format: ImageFormat) -> Result<(), String> {
    let bytes = picture.encode(format).map_err(|error| error.to_string())?;
    disk.write(file, &bytes).map_err(|error| error.to_string())
}

fn picture_name(number: u64, format: ImageFormat) -> String {
    format!("{number:0DIGITS$}.{}", format.extension())
}

fn record_name(number: u64) -> String {
    format!("{number:0DIGITS$}.json")
}
