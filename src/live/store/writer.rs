//! Thread that writes to the disk: it carries out its orders one after the other. A failure of one picture does not
//! affect other pictures.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::Receiver;

use super::numbers::Reserved;
use super::{Disk, DiskOrder, Record, Sources, StoreError, clock, open, picture_name, record_name};
use crate::live::faults::may_panic;
use crate::live::picture::Picture;
use crate::live::settings::ImageFormat;

/// Guard that records the end of the thread that writes, however the thread ends.
struct Writing(Sources);

impl Drop for Writing {
    fn drop(&mut self) {
        self.0.known().is_writing = false;
    }
}

/// Runs the disk thread, which carries out its orders one after the other. A panic fails only the order that caused it.
pub(super) fn write(
    orders: &Receiver<DiskOrder>,
    folder: &Path,
    format: ImageFormat,
    sources: &Sources,
    disk: &impl Disk,
    mut reserved: Reserved,
) {
    let _writing = Writing(sources.clone());
    for order in orders {
        may_panic("store");
        let bytes = match &order {
            DiskOrder::Keep { picture, .. } | DiskOrder::Result { picture, .. } => picture.bytes().len(),
            DiskOrder::Remove { .. } | DiskOrder::Copy { .. } | DiskOrder::Read { .. } => 0,
        };
        // The lock is not held while the disk works: readers of the content must not wait for a disk that hangs.
        sources.known().begun = Some(clock());
        let done = catch_unwind(AssertUnwindSafe(|| carry_out(order, folder, format, sources, disk, &mut reserved)));
        let mut known = sources.known();
        (known.begun, known.waiting) = (None, known.waiting - bytes);
        match done {
            Ok(None) => {}
            Ok(Some(failure)) => known.failed(failure),
            Err(_) => known.failed(format!("{}: a picture panicked as it was written", folder.display())),
        }
    }
}

/// Carries out one order. Returns what could not be done.
fn carry_out(
    order: DiskOrder,
    folder: &Path,
    format: ImageFormat,
    sources: &Sources,
    disk: &impl Disk,
    reserved: &mut Reserved,
) -> Option<String> {
    let done = match order {
        DiskOrder::Keep { image, number, picture, record } => {
            let file = folder.join(picture_name(number, format));
            let beside = folder.join(record_name(number));
            let covered = reserved.cover(disk, number);
            let done = covered.and_then(|()| keep(disk, sources, number, [&file, &beside], &picture, format, &record));
            if done.is_err() {
                // A picture that is not on disk is not kept. A later reader of the picture is told that it is missing.
                let _ = disk.remove(&file);
            }
            // Whoever sees that the picture is dealt with also sees that it failed.
            let mut known = sources.known();
            known.unwritten.remove(&image);
            if let Err(error) = done {
                known.left_out += 1;
                known.failed(error.to_string());
            }
            return None;
        }
        DiskOrder::Remove { number } => {
            let record = folder.join(record_name(number));
            let pictures =
                [ImageFormat::Png, ImageFormat::Jpeg].map(|format| folder.join(picture_name(number, format)));
            let bytes = open::bytes(pictures.iter().chain([&record]));
            // The record goes first. A picture without a record is removed at the next start, and a record without
            // a picture is reported as a defect. Neither removal is synced, unlike that of a deletion: after a loss of
            // power an evicted entry may be there again, which does no harm, or half of it in either order.
            let done = disk.remove(&record).and_then(|()| pictures.iter().try_for_each(|file| disk.remove(file)));
            if done.is_ok() {
                let mut known = sources.known();
                known.bytes = known.bytes.saturating_sub(bytes);
            }
            sources.known().deleted.remove(&number);
            done.map_err(StoreError::file(&record))
        }
        DiskOrder::Result { file, picture } => result(disk, &file, &picture, format),
        DiskOrder::Read { number, reply } => {
            // The caller says what could not be read.
            // Orders are carried out in their order: if the image was released after this order, its picture is still
            // there.
            reply.send(sources.read_number(number));
            return None;
        }
        DiskOrder::Copy { file, number } => {
            sources.read_number(number).and_then(|picture| result(disk, &file, &picture, format))
        }
    };
    done.err().map(|error| error.to_string())
}

fn keep(
    disk: &impl Disk,
    sources: &Sources,
    number: u64,
    [file, beside]: [&Path; 2],
    picture: &Picture,
    format: ImageFormat,
    record: &Record,
) -> Result<(), StoreError> {
    let bytes = picture.encode(format).map_err(StoreError::picture(file))?;
    let record = serde_json::to_vec_pretty(record).map_err(StoreError::record(beside))?;
    let both = (bytes.len() + record.len()) as u64;
    {
        // Only this thread changes the number of bytes, so that the comparison still holds after the lock is released.
        let known = sources.known();
        if known.bytes + both > known.most_bytes {
            let (file, bytes, most_bytes) = (file.to_owned(), known.bytes, known.most_bytes);
            return Err(StoreError::Full { file, bytes, most_bytes });
        }
    }
    disk.write(file, &bytes).map_err(StoreError::file(file))?;
    // A deletion waits for the record and removes it, or is heard of here: it is answered only once no record can come.
    let _records = sources.records();
    if sources.known().deleted.contains(&number) {
        // The picture goes when the image is released.
        sources.known().bytes += bytes.len() as u64;
        return Ok(());
    }
    // The record comes last: an entry exists once its record does.
    disk.write(beside, &record).map_err(StoreError::file(beside))?;
    sources.known().bytes += both;
    Ok(())
}

fn result(disk: &impl Disk, file: &Path, picture: &Picture, format: ImageFormat) -> Result<(), StoreError> {
    let bytes = picture.encode(format).map_err(StoreError::picture(file))?;
    disk.write(file, &bytes).map_err(StoreError::file(file))
}
