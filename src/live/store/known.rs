//! Content of the store and state of its disk, as all readers of the store know them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use super::lineage::Lineage;
use crate::image::ImageId;
use crate::live::picture::Picture;

/// Largest number of failures that are remembered. A full disk fails for every picture.
const MOST_FAILURES: usize = 100;

/// Content of the store, shared by all its readers.
#[derive(Debug, Default)]
pub(super) struct StoreContent {
    /// Numbers of the images of this run.
    pub(super) numbers: BTreeMap<ImageId, u64>,
    /// Tenants by number; `None` if no tenant is known.
    pub(super) owners: BTreeMap<u64, Option<Arc<str>>>,
    /// Numbers by tenant, so that a list of one tenant's pictures does not read those of other tenants.
    pub(super) by_owner: BTreeMap<Option<Arc<str>>, BTreeSet<u64>>,
    /// Pictures that are not on disk yet.
    pub(super) unwritten: BTreeMap<ImageId, Arc<Picture>>,
    pub(super) lineage: Lineage,
    /// Numbers of deleted entries whose files are not gone yet.
    pub(super) deleted: BTreeSet<u64>,
    /// First failures to write or remove a file.
    pub(super) failures: Vec<String>,
    /// Number of bytes of pictures that wait for the disk.
    pub(super) waiting: usize,
    /// Time at which the disk began its current operation.
    pub(super) begun: Option<Instant>,
    /// Number of pictures that are not on disk although they were to be kept.
    pub(super) left_out: u64,
    /// Number of bytes of the entries on disk, and the largest number allowed.
    pub(super) bytes: u64,
    pub(super) most_bytes: u64,
    /// True if the thread that writes is there.
    pub(super) is_writing: bool,
}

impl StoreContent {
    pub(super) fn failed(&mut self, failure: String) {
        if self.failures.len() < MOST_FAILURES {
            self.failures.push(failure);
        }
    }

    pub(super) fn insert(&mut self, image: ImageId, number: u64, tenant: Option<&str>) {
        let tenant: Option<Arc<str>> = tenant.map(Into::into);
        self.numbers.insert(image, number);
        self.owners.insert(number, tenant.clone());
        self.by_owner.entry(tenant).or_default().insert(number);
    }

    pub(super) fn remove(&mut self, image: ImageId) -> Option<u64> {
        self.unwritten.remove(&image);
        let number = self.numbers.remove(&image)?;
        self.lineage.remove(number);
        let tenant = self.owners.remove(&number).flatten();
        if let Some(numbers) = self.by_owner.get_mut(&tenant) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.by_owner.remove(&tenant);
            }
        }
        Some(number)
    }
}
