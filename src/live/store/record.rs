//! Records of the store's pictures, and what of them is known when a store is opened.

use serde::{Deserialize, Serialize};

use crate::embedding::Embedding;

/// Record beside a picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// File name of the picture, in the same folder.
    pub file: String,
    /// Prompt of the picture.
    pub prompt: String,
    /// Tenant that asked for the picture, if the tenant is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Model that drew the picture.
    pub model: String,
    /// Seed and row that the noise of the picture derives from.
    pub seed: (u64, u64),
    /// Number of denoising steps of a full generation, and number of skipped steps.
    pub steps: (u32, u32),
    /// Checkpoint that the picture was drawn with; empty for the models' own weights.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub checkpoint: String,
    /// Negative prompt of the picture; empty for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub negative_prompt: String,
    /// Guidance scale that the request asked for, if it asked for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guidance: Option<f64>,
    /// Number of the source picture, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<u64>,
    /// Numbers of the pictures that this one was refined from, directly or not, nearest first. Only pictures that were
    /// cached when this one was kept are listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<u64>,
    /// Embedding that the picture is found by.
    pub key: Embedding,
}

/// Traits of a cached picture that decide which requests it may serve.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Traits {
    /// Width and height in pixels; `None` if the picture cannot be read.
    pub size: Option<[u32; 2]>,
    /// Checkpoint that the picture was drawn with; empty for the models' own weights.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub checkpoint: String,
    /// Negative prompt of the picture; empty for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub negative_prompt: String,
    /// Guidance scale that the request asked for, if it asked for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guidance: Option<f64>,
}

/// Entry that an earlier run left.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundEntry {
    /// Number of the entry in the store.
    pub number: u64,
    /// Embedding that the picture is found by.
    pub key: Embedding,
    /// Tenant that asked for the picture, if the tenant is known.
    pub tenant: Option<String>,
    /// Numbers of the pictures that this one was refined from, as the record has them.
    pub origins: Vec<u64>,
    /// Traits that decide which requests the picture may serve.
    pub traits: Traits,
}
