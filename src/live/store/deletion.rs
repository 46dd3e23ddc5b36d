//! Deletion of entries by those for whom they were made. A deleted entry is found no more from then on, and its record
//! is gone from the disk before the deletion is answered. The eviction of entries is not here.

use std::collections::BTreeMap;
use std::fs::File;

use super::{Disk, RealDisk, Sources, StoreError, record_name};
use crate::image::ImageId;

/// Outcome of a deletion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Numbers of the deleted entries; empty if there was no such entry.
    pub numbers: Vec<u64>,
    /// Numbers of the entries that were refined from the entry to delete, directly or not, each with its tenant if the
    /// tenant is known.
    pub refined: Vec<(u64, Option<String>)>,
}

impl Sources {
    /// Deletes an entry and, with `refined`, the entries that were refined from it. Deleted entries are not found or
    /// listed from now on, but requests that have one as their source can still read it. Returns the deleted entries,
    /// and the images that the core must let go. The records are removed by [`Sources::remove_records`], and the
    /// pictures when the core releases their images.
    #[must_use]
    pub fn delete(&self, number: u64, refined: bool) -> (Deleted, Vec<ImageId>) {
        let mut known = self.known();
        let cached: BTreeMap<u64, ImageId> = known.numbers.iter().map(|(image, number)| (*number, *image)).collect();
        let is_there = |number: &u64| cached.contains_key(number) && !known.deleted.contains(number);
        if !is_there(&number) {
            return (Deleted::default(), Vec::new());
        }
        let came_of_it: Vec<u64> = known.lineage.refined(number).into_iter().filter(is_there).collect();
        let tenant = |number: u64| known.lineage.tenant(number).map(str::to_owned);
        let listed = came_of_it.iter().map(|number| (*number, tenant(*number))).collect();
        let numbers: Vec<u64> = std::iter::once(number).chain(came_of_it.into_iter().filter(|_| refined)).collect();
        known.deleted.extend(&numbers);
        let images = numbers.iter().filter_map(|number| cached.get(number).copied()).collect();
        (Deleted { numbers, refined: listed }, images)
    }

    /// Removes the records of deleted entries, so that no later run finds them, also after a loss of power.
    ///
    /// # Errors
    /// Returns the file and the reason if a file cannot be removed.
    pub fn remove_records(&self, numbers: &[u64]) -> Result<(), StoreError> {
        // A record that is being written would be there after its removal.
        let _records = self.records();
        for number in numbers {
            let file = self.folder.join(record_name(*number));
            RealDisk.remove(&file).map_err(StoreError::file(&file))?;
        }
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(StoreError::file(&self.folder))
    }
}
