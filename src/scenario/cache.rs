//! Section `[cache]`: capacity, admission and eviction of the image cache. `crate::cache` has the policies.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Scenario;
use super::check::{LARGEST_NUMBER, positive_seconds};
use crate::cache::eviction::Eviction;
use crate::cache::{Admission, Resizing};
use crate::input::InputError;
use crate::scheduler::routing::System;
use crate::trace::asks::{KeyPart, KeyRule};

/// Section `[cache]`: capacity, admission and eviction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cache {
    /// Capacity in images, or in states for `nirvana`.
    pub capacity: u32,
    /// Capacity in bytes of images, in place of `capacity`. `nirvana` ignores the setting and counts states.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity_bytes: Option<u64>,
    /// Size of an image in bytes, used where the trace has no column `image_bytes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_bytes: Option<u64>,
    /// Age at which entries leave the cache, seconds. If absent, entries have no largest age.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age_s: Option<f64>,
    /// Least similarity to a cached image at which an image is a near duplicate and is not inserted. If absent, near
    /// duplicates are inserted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub near_duplicate: Option<f64>,
    /// Properties that an image and a request must have in common.
    #[serde(skip_serializing_if = "is_usual_key")]
    #[schemars(!skip_serializing_if)]
    pub key: Vec<KeyPart>,
    /// Distance of the values of guidance that are told apart, with `key` of `guidance`: values that round to the same
    /// multiple are the same.
    #[serde(skip_serializing_if = "is_usual_tolerance")]
    #[schemars(!skip_serializing_if)]
    pub guidance_tolerance: f64,
    /// Largest ratio between the aspect ratios of an image and a request that it serves. 1 is the same shape alone, as
    /// with `pinecone`, which returns images as they are.
    #[serde(skip_serializing_if = "is_usual_aspect")]
    #[schemars(!skip_serializing_if)]
    pub aspect_limit: f64,
    /// Largest ratio between the pixels of an image and a request that it serves.
    #[serde(skip_serializing_if = "is_usual_factor")]
    #[schemars(!skip_serializing_if)]
    pub size_factor: f64,
    /// Images that are inserted. `nirvana` and `pinecone` ignore the setting and insert the images of misses.
    pub admission: Admission,
    /// Policy that chooses which entry leaves a full cache. `nirvana` and `pinecone` ignore the setting: `nirvana`
    /// evicts by LCBFU, `pinecone` first in, first out.
    pub eviction: Eviction,
}

const USUAL_KEY: [KeyPart; 2] = [KeyPart::Checkpoint, KeyPart::Loras];

fn is_usual_key(key: &[KeyPart]) -> bool {
    key == USUAL_KEY
}

// Settings at their defaults are not written: results of scenarios that know nothing of them stay as they were.
macro_rules! is_usual {
    ($name:ident, $field:ident) => {
        fn $name(value: &f64) -> bool {
            value.to_bits() == Cache::default().$field.to_bits()
        }
    };
}

is_usual!(is_usual_tolerance, guidance_tolerance);
is_usual!(is_usual_aspect, aspect_limit);
is_usual!(is_usual_factor, size_factor);

impl Default for Cache {
    fn default() -> Self {
        Self {
            capacity: 10_000,
            capacity_bytes: None,
            image_bytes: None,
            max_age_s: None,
            near_duplicate: None,
            key: USUAL_KEY.to_vec(),
            guidance_tolerance: 1.0,
            aspect_limit: 1.1,
            size_factor: 4.0,
            admission: Admission::default(),
            eviction: Eviction::default(),
        }
    }
}

impl Scenario {
    /// Returns the rule by which the keys of images and requests are made.
    pub(crate) fn key_rule(&self) -> KeyRule {
        KeyRule { parts: self.cache.key.clone(), guidance_tolerance: self.cache.guidance_tolerance }
    }

    /// Returns the limits within which images serve requests of other sizes.
    pub(super) fn resizing(&self) -> Resizing {
        let usual = self.models.usual_size();
        // What is returned as it is cannot be resized.
        let (aspect, factor) = match self.system.policy {
            System::Pinecone => (1.0, 1.0),
            _ => (self.cache.aspect_limit, self.cache.size_factor),
        };
        Resizing { usual, aspect, factor }
    }

    pub(super) fn check_cache(&self, file: &Path) -> Result<(), InputError> {
        let cache = &self.cache;
        let least = self.states_per_entry().max(1) as u32;
        if cache.capacity < least {
            let message = if least == 1 {
                "expected at least 1".to_owned()
            } else {
                format!("expected at least {least}, the states of one entry: capacity counts states for nirvana")
            };
            return Err(InputError::new(file, message).value("cache.capacity", cache.capacity));
        }
        for (key, bytes) in [("capacity_bytes", cache.capacity_bytes), ("image_bytes", cache.image_bytes)] {
            if let Some(bytes) = bytes.filter(|bytes| !(1..=LARGEST_NUMBER).contains(bytes)) {
                let accepted = "expected bytes from 1 to 9007199254740992 (2^53)";
                return Err(InputError::new(file, accepted).value(format!("cache.{key}"), bytes));
            }
        }
        if let Some(age) = cache.max_age_s {
            positive_seconds(file, "cache.max_age_s", age)?;
        }
        if let Some(at) = (1..cache.key.len()).find(|at| cache.key[..*at].contains(&cache.key[*at])) {
            return Err(InputError::new(file, "expected each property once").key(format!("cache.key.{at}")));
        }
        if !(cache.guidance_tolerance > 0.0 && cache.guidance_tolerance <= 1000.0) {
            let accepted = "expected a distance of guidance above 0, at most 1000";
            return Err(InputError::new(file, accepted).value("cache.guidance_tolerance", cache.guidance_tolerance));
        }
        for (key, ratio) in [("aspect_limit", cache.aspect_limit), ("size_factor", cache.size_factor)] {
            if !(1.0..=1e9).contains(&ratio) {
                let accepted = "expected a ratio from 1 (the same alone) to 1e9";
                return Err(InputError::new(file, accepted).value(format!("cache.{key}"), ratio));
            }
        }
        if let Some(limit) = cache.near_duplicate.filter(|limit| !(*limit > 0.0 && *limit <= 1.0)) {
            return Err(
                InputError::new(file, "expected a similarity above 0, at most 1").value("cache.near_duplicate", limit)
            );
        }
        Ok(())
    }
}
