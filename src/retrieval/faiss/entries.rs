//! Copy of the entries of an index that is our own: images and vectors by age. The copy in FAISS may be coarser, and
//! may hold entries that have left. An entry that is not here is not in the index.

use std::collections::BTreeMap;

use crate::embedding::Embedding;
use crate::image::ImageId;

/// Number of rows that are copied at a time.
const BATCH: usize = 1024;

/// Entries by age, which is the number of entries inserted before: a lower age is older, and no age comes twice.
#[derive(Debug, Default)]
pub struct Entries {
    ages: BTreeMap<ImageId, u64>,
    by_age: BTreeMap<u64, (ImageId, Embedding)>,
    inserted: u64,
}

impl Entries {
    /// Adds an entry and returns its age.
    pub(super) fn insert(&mut self, image: ImageId, embedding: &Embedding) -> u64 {
        let age = self.inserted;
        self.inserted += 1;
        let before = self.ages.insert(image, age);
        assert!(before.is_none(), "image {image} is in the index already");
        self.by_age.insert(age, (image, embedding.clone()));
        age
    }

    /// Removes an entry and returns its age.
    pub(super) fn remove(&mut self, image: ImageId) -> Option<u64> {
        let age = self.ages.remove(&image)?;
        self.by_age.remove(&age);
        Some(age)
    }

    pub(super) fn image(&self, age: u64) -> Option<ImageId> {
        self.by_age.get(&age).map(|(image, _)| *image)
    }

    pub(super) fn vector(&self, age: u64) -> Option<&[f32]> {
        self.by_age.get(&age).map(|(_, embedding)| embedding.as_slice())
    }

    /// Returns the age of the oldest entry that is none of `without`.
    pub(super) fn oldest(&self, without: &[ImageId]) -> Option<u64> {
        self.by_age.iter().find(|(_, (image, _))| !without.contains(image)).map(|(age, _)| *age)
    }

    /// Returns ages and vectors, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &[f32])> {
        self.by_age.iter().map(|(age, (_, embedding))| (*age, embedding.as_slice()))
    }

    /// Visits ages and vectors, oldest first, about a thousand at a time, which is how FAISS takes them.
    pub(super) fn in_batches(&self, mut visit: impl FnMut(&[u64], &[f32])) {
        let (mut ages, mut vectors) = (Vec::new(), Vec::new());
        for (age, vector) in self.iter() {
            ages.push(age);
            vectors.extend_from_slice(vector);
            if ages.len() == BATCH {
                visit(&ages, &vectors);
                ages.clear();
                vectors.clear();
            }
        }
        if !ages.is_empty() {
            visit(&ages, &vectors);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_age.len()
    }
}
