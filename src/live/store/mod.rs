//! Store: the content of the image cache on disk, by number. An entry is a picture and, beside it, a record of its
//! prompt and its origin. Entries are whole whenever the program is killed: a picture is written before its record, and
//! an entry exists if its record does. The core decides which images are cached, not the store.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration as HostDuration, Instant};

use super::picture::Picture;
use super::settings::ImageFormat;
use crate::image::ImageId;
use crate::input::InputError;
use crate::locked::LockedFile;

mod deletion;
mod disk;
mod error;
mod inspect;
mod known;
mod lineage;
mod numbers;
mod open;
mod record;
#[cfg(test)]
mod tests;
mod writer;

pub use deletion::Deleted;
pub use disk::{Disk, RealDisk, TestableDisk};
pub use error::StoreError;
pub use inspect::{Repaired, inspect, repair};
use known::StoreContent;
use numbers::Reserved;
use open::Entries;
pub use record::{FoundEntry, Record, Traits};

/// Number of digits of an entry's number in a file name.
const DIGITS: usize = 12;

/// Order to the disk thread, which carries out orders one after the other.
enum DiskOrder {
    Keep {
        image: ImageId,
        number: u64,
        picture: Arc<Picture>,
        record: Box<Record>,
    },
    Remove {
        number: u64,
    },
    /// Picture of the results, which is not an entry.
    Result {
        file: PathBuf,
        picture: Arc<Picture>,
    },
    /// Copy of an entry's picture to the results.
    Copy {
        file: PathBuf,
        number: u64,
    },
    /// Picture of an entry, read for a caller that does not wait.
    Read {
        number: u64,
        reply: Reply,
    },
}

/// Function that takes a picture, or the reason for which there is none.
type Tell = Box<dyn FnOnce(Result<Arc<Picture>, StoreError>) + Send>;

/// Caller that is told once, even if the disk thread ends before it comes to the order.
struct Reply(Option<Tell>);

impl Reply {
    fn send(mut self, picture: Result<Arc<Picture>, StoreError>) {
        if let Some(tell) = self.0.take() {
            tell(picture);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(tell) = self.0.take() {
            tell(Err(StoreError::ThreadEnded));
        }
    }
}

/// Largest number of bytes of pictures that may wait for the disk. Pictures beyond it are not kept.
const MOST_WAITING: usize = 512 << 20;

#[expect(clippy::disallowed_methods, reason = "for how long the disk has been silent")]
fn clock() -> Instant {
    Instant::now()
}

/// Reader of the store's pictures, which the workers share.
#[derive(Clone, Debug)]
pub struct Sources {
    folder: PathBuf,
    known: Arc<Mutex<StoreContent>>,
    /// Lock that is held while a record is written and while records of deleted entries are removed.
    records: Arc<Mutex<()>>,
}

/// Store of one run. No other run may open its folder meanwhile.
#[derive(Debug)]
pub struct Store {
    sources: Sources,
    format: ImageFormat,
    next: u64,
    orders: Sender<DiskOrder>,
    writer: JoinHandle<()>,
    lock: LockedFile,
}

/// Store that was opened, and what it holds.
#[derive(Debug)]
pub struct Opened {
    /// Store itself.
    pub store: Store,
    /// Entries of the store, oldest first.
    pub found: Vec<FoundEntry>,
    /// Defects of the store, which have been left out.
    pub warnings: Vec<String>,
}

impl Sources {
    fn known(&self) -> MutexGuard<'_, StoreContent> {
        // A thread that died while it held the lock left a map that can still be used.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn records(&self) -> MutexGuard<'_, ()> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the picture of an image, from memory if the picture is not on disk yet.
    ///
    /// # Errors
    /// Returns the reason if the picture is not there or cannot be read.
    pub fn read(&self, image: ImageId) -> Result<Arc<Picture>, StoreError> {
        let number = {
            let known = self.known();
            if let Some(picture) = known.unwritten.get(&image) {
                return Ok(picture.clone());
            }
            known.numbers.get(&image).copied()
        };
        self.read_number(number.ok_or(StoreError::UnknownImage(image))?)
    }

    /// Returns an entry's record and the bytes of its picture, as they are on disk.
    ///
    /// # Errors
    /// Returns the reason if the entry is not there (yet, or any more) or cannot be read.
    pub fn entry(&self, number: u64) -> Result<(Record, Vec<u8>), StoreError> {
        let record = self.record(number)?;
        // Only the store's own file names are read: a record is not trusted about the place of its picture.
        let formats =
            [ImageFormat::Png, ImageFormat::Jpeg].map(|format| self.folder.join(picture_name(number, format)));
        let bytes = formats.iter().find_map(|file| fs::read(file).ok());
        bytes.map(|bytes| (record, bytes)).ok_or_else(|| StoreError::NoPicture(formats[0].clone()))
    }

    /// Returns the record of an entry.
    ///
    /// # Errors
    /// Returns the reason if the entry is not there (yet, or any more) or cannot be read.
    pub fn record(&self, number: u64) -> Result<Record, StoreError> {
        let file = self.folder.join(record_name(number));
        if self.known().deleted.contains(&number) {
            return Err(StoreError::Deleted(file));
        }
        let text = fs::read(&file).map_err(StoreError::file(&file))?;
        serde_json::from_slice(&text).map_err(StoreError::record(&file))
    }

    /// Returns the time at which an entry was written, as the system has it for the file of the record.
    #[must_use]
    pub fn written(&self, number: u64) -> Option<std::time::SystemTime> {
        fs::metadata(self.folder.join(record_name(number))).ok()?.modified().ok()
    }

    /// Returns the tenant of a cached picture, or `None` if no tenant is known.
    ///
    /// # Errors
    /// Returns an error if the picture is not in the cache.
    pub fn owner(&self, number: u64) -> Result<Option<Arc<str>>, StoreError> {
        self.known().owners.get(&number).cloned().ok_or(StoreError::NotCached(number))
    }

    /// Returns the numbers of at most `most` cached pictures of these tenants, or of all if `None`. The numbers are
    /// below `before`, newest first.
    #[must_use]
    pub fn newest(&self, tenants: Option<&[&str]>, before: Option<u64>, most: usize) -> Vec<u64> {
        let known = self.known();
        let below = ..before.unwrap_or(u64::MAX);
        // Pictures that are not on disk yet are listed next time.
        let unwritten: BTreeSet<u64> =
            known.unwritten.keys().filter_map(|image| known.numbers.get(image)).copied().collect();
        let listed = |number: &&u64| !known.deleted.contains(number) && !unwritten.contains(number);
        let Some(tenants) = tenants else {
            return known
                .owners
                .range(below)
                .rev()
                .map(|(number, _)| number)
                .filter(listed)
                .take(most)
                .copied()
                .collect();
        };
        let own = tenants.iter().filter_map(|tenant| known.by_owner.get(&Some((*tenant).into())));
        let newest = own.flat_map(|numbers| numbers.range(below).rev().filter(listed).take(most));
        let mut numbers: Vec<u64> = newest.copied().collect();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        numbers.truncate(most);
        numbers
    }

    /// Returns the number of bytes of all files of the store.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let files = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        files.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
    }

    /// Returns the time that the disk has spent on its current operation, or zero if there is none.
    #[must_use]
    pub fn silence(&self) -> HostDuration {
        self.known().begun.map_or(HostDuration::ZERO, |begun| begun.elapsed())
    }

    /// Reserves so many bytes for a picture that waits for the disk. Returns whether there was room.
    fn reserve(known: &mut StoreContent, bytes: usize) -> bool {
        let fits = known.waiting + bytes <= MOST_WAITING;
        known.waiting += if fits { bytes } else { 0 };
        fits
    }

    /// Takes the failures to write or remove files since the last call.
    #[must_use]
    pub fn take_failures(&self) -> Vec<String> {
        std::mem::take(&mut self.known().failures)
    }

    /// Returns the number of pictures that are not on disk although they were to be kept.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.known().left_out
    }

    /// Returns whether the thread that writes is there.
    #[must_use]
    pub fn is_writing(&self) -> bool {
        self.known().is_writing
    }

    fn read_number(&self, number: u64) -> Result<Arc<Picture>, StoreError> {
        for format in [ImageFormat::Png, ImageFormat::Jpeg] {
            let file = self.folder.join(picture_name(number, format));
            match fs::read(&file) {
                Ok(bytes) => {
                    return Picture::decode(&bytes).map(Arc::new).map_err(StoreError::picture(&file));
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(StoreError::File { file, error }),
            }
        }
        Err(StoreError::NoPicture(self.folder.join(picture_name(number, ImageFormat::Png))))
    }
}

impl Store {
    /// Opens a store, or begins a store in an empty folder. `encoder` is the fingerprint of the encoder that makes the
    /// keys.
    ///
    /// # Errors
    /// Returns an error if the folder cannot be used, is not a store, belongs to another encoder, or is in use.
    pub fn open(folder: &Path, format: ImageFormat, encoder: &str, disk: impl Disk) -> Result<Opened, InputError> {
        fs::create_dir_all(folder).map_err(|error| InputError::new(folder, format!("cannot be made: {error}")))?;
        open::refuse_foreign(folder)?;
        let lock = open::lock(folder)?;
        open::mark(folder, encoder)?;
        let entries = open::entries(folder)?;
        entries.remove_leftovers();
        let Entries { found, next, bytes, mut warnings, .. } = entries;
        let (reserved, warning) = Reserved::begin(folder, next);
        warnings.extend(warning);
        let mut known = StoreContent { bytes, most_bytes: u64::MAX, is_writing: true, ..StoreContent::default() };
        for FoundEntry { number, tenant, origins, .. } in &found {
            let _ = known.lineage.insert(*number, tenant.clone(), origins);
        }
        let sources =
            Sources { folder: folder.to_owned(), known: Arc::new(Mutex::new(known)), records: Arc::default() };
        let (orders, work) = channel();
        let (own, place) = (sources.clone(), folder.to_owned());
        let writer = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || writer::write(&work, &place, format, &own, &disk, reserved));
        let writer = writer.map_err(|error| InputError::new(folder, format!("no thread can be started: {error}")))?;
        let store = Self { sources, format, next, orders, writer, lock };
        Ok(Opened { store, found, warnings })
    }

    /// Returns a reader of the store.
    #[must_use]
    pub fn sources(&self) -> Sources {
        self.sources.clone()
    }

    /// Takes over an entry of an earlier run as an image of this run.
    pub fn adopt(&self, image: ImageId, entry: &FoundEntry) {
        self.sources.known().insert(image, entry.number, entry.tenant.as_deref());
    }

    /// Sets the number of bytes that entries may have on disk. Beyond it, new pictures are not kept until others have
    /// gone.
    pub fn limit(&self, most_bytes: u64) {
        self.sources.known().most_bytes = most_bytes;
    }

    /// Returns the number of an image.
    #[must_use]
    pub fn number(&self, image: ImageId) -> Option<u64> {
        self.sources.known().numbers.get(&image).copied()
    }

    /// Returns the number of an image, and the numbers of the pictures that it was refined from, nearest first. The
    /// list is empty if the image is not in the store.
    #[must_use]
    pub fn line(&self, image: ImageId) -> Vec<u64> {
        let known = self.sources.known();
        known.numbers.get(&image).map(|number| known.lineage.line(*number)).unwrap_or_default()
    }

    /// Keeps a picture. The picture can be read from now on, and is on disk soon. Returns whether the picture is kept:
    /// false while too much waits for the disk.
    pub fn keep(&mut self, image: ImageId, picture: Arc<Picture>, record: impl FnOnce(String) -> Record) -> bool {
        let number = self.next;
        let mut record = Box::new(record(picture_name(number, self.format)));
        {
            let mut known = self.sources.known();
            if !Sources::reserve(&mut known, picture.bytes().len()) {
                return false;
            }
            self.next += 1;
            known.insert(image, number, record.tenant.as_deref());
            known.unwritten.insert(image, picture.clone());
            record.origins = known.lineage.insert(number, record.tenant.clone(), &record.origins);
        }
        self.order(DiskOrder::Keep { image, number, picture, record });
        true
    }

    /// Releases an image, and has its files removed.
    pub fn release(&mut self, image: ImageId) {
        let number = self.sources.known().remove(image);
        if let Some(number) = number {
            self.order(DiskOrder::Remove { number });
        }
    }

    /// Writes a picture to a file of the results.
    pub fn write_result(&mut self, file: PathBuf, picture: Arc<Picture>) {
        let fits = Sources::reserve(&mut self.sources.known(), picture.bytes().len());
        if fits {
            self.order(DiskOrder::Result { file, picture });
        } else {
            let failure = format!("{}: not written: too much waits for the disk", file.display());
            self.sources.known().failed(failure);
        }
    }

    /// Writes an entry's picture to a file of the results.
    pub fn copy_result(&mut self, image: ImageId, file: PathBuf) {
        if let Some(number) = self.number(image) {
            self.order(DiskOrder::Copy { file, number });
        }
    }

    /// Reads an image's picture without waiting for the disk: `tell` is called with the picture or the reason, on
    /// another thread unless the picture is still in memory. The image may be released meanwhile.
    pub fn read_later(&mut self, image: ImageId, tell: impl FnOnce(Result<Arc<Picture>, StoreError>) + Send + 'static) {
        let known = self.sources.known();
        let (unwritten, number) = (known.unwritten.get(&image).cloned(), known.numbers.get(&image).copied());
        drop(known);
        match (unwritten, number) {
            (Some(picture), _) => tell(Ok(picture)),
            (None, Some(number)) => self.order(DiskOrder::Read { number, reply: Reply(Some(Box::new(tell))) }),
            (None, None) => tell(Err(StoreError::UnknownImage(image))),
        }
    }

    fn order(&mut self, order: DiskOrder) {
        // Without the disk thread nothing is written, and `close` says so.
        let _ = self.orders.send(order);
    }

    /// Waits until everything is on disk, and writes the index. Gives up once the disk has spent more than `patience`
    /// on one operation. Returns what could not be done.
    #[must_use]
    pub fn close(self, patience: HostDuration) -> Vec<String> {
        let Self { sources, orders, writer, lock, next, .. } = self;
        drop(orders);
        while !writer.is_finished() {
            if sources.silence() > patience {
                let folder = sources.folder.display();
                return vec![format!("{folder}: the disk does not answer: what it has not written is not kept")];
            }
            pause(POLL);
        }
        let ended = writer.join().is_ok();
        let mut failures = std::mem::take(&mut sources.known().failures);
        if !ended {
            failures.push("the thread that writes pictures died".to_owned());
        }
        match open::end(&sources.folder, next) {
            Ok(warnings) => failures.extend(warnings),
            Err(error) => {
                failures.push(format!("{}: the index cannot be written: {error}", sources.folder.display()));
            }
        }
        drop(lock); // The lock is kept until the index is whole.
        failures
    }
}

/// Time between two checks whether the disk thread has ended.
const POLL: HostDuration = HostDuration::from_millis(2);

#[expect(clippy::disallowed_methods, reason = "the end of a run waits for its files")]
fn pause(time: HostDuration) {
    std::thread::sleep(time);
}

fn picture_name(number: u64, format: ImageFormat) -> String {
    format!("{number:0DIGITS$}.{}", format.extension())
}

fn record_name(number: u64) -> String {
    format!("{number:0DIGITS$}.json")
}
