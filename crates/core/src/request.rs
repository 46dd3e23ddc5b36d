//! Requests, tenants and outcomes of requests. Prompts are not here: the core never sees text.

use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::model::{Change, Size};
use crate::time::Time;

/// Request, known by its row in the trace, or by its number of arrival in a live run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(pub u32);

impl RequestId {
    /// Returns the row as an index.
    pub const fn row(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Tenant of a request. The tenant limits which entries the request may find. Tenants are numbered in order of first
/// appearance; 0 if a trace names none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TenantId(pub u32);

/// Owner of a cached image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Owner {
    /// Owner of the images that belong to no single tenant.
    #[default]
    Public,
    /// Tenant for whose request the image was made.
    Tenant(TenantId),
}

/// Use of the image cache that a request allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reuse {
    /// True if the request may be served from a cached image.
    pub look_up: bool,
    /// True if the image of the request may be cached.
    pub keep: bool,
}

impl Reuse {
    /// Use of cached images, and caching of the own image: the default.
    pub const ALL: Self = Self { look_up: true, keep: true };
    /// Neither use of cached images nor caching of the own image.
    pub const NONE: Self = Self { look_up: false, keep: false };

    /// Returns whether both are allowed.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::ALL
    }

    /// Returns the use that both values allow.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self { look_up: self.look_up && other.look_up, keep: self.keep && other.keep }
    }
}

impl Default for Reuse {
    fn default() -> Self {
        Self::ALL
    }
}

/// Wishes of a request beside its prompt. Zero stands for what is usual in the scenario. Names and texts are numbered
/// outside the core, which only compares the numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ask {
    /// Size of the image.
    pub size: Size,
    /// Denoising steps of a full generation by the large model.
    pub steps: u32,
    /// Key that a cached image must have to serve the request, and that the request's own image gets.
    pub key: u32,
    /// Weights that the worker needs.
    pub weights: Weights,
    /// Steps of the large model that the request skips because it brings a source of its own. The source is in no image
    /// cache, and the request is not looked up. 0 for a request without such a source.
    #[serde(skip_serializing_if = "is_zero")]
    pub skips: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Size and steps that a request asks for: what makes its work another one. Zero stands for what is usual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shape {
    /// Size of the image.
    pub size: Size,
    /// Denoising steps of a full generation by the large model.
    pub steps: u32,
}

impl Shape {
    /// Largest number of different sizes and steps of a run's requests. Each is a class of work of its own, and the
    /// dispatcher looks at every class.
    pub const MOST: usize = 1_000;
}

impl Ask {
    /// Returns the size and the steps.
    #[must_use]
    pub const fn shape(&self) -> Shape {
        Shape { size: self.size, steps: self.steps }
    }

    /// Returns whether nothing unusual is asked for.
    #[must_use]
    #[inline]
    pub const fn is_usual(&self) -> bool {
        let Self { size: Size { width, height }, steps, key, weights: Weights { checkpoint, loras }, skips } = *self;
        // One comparison in place of seven.
        (width as u32 | height as u32 | steps | key | checkpoint | loras | skips) == 0
    }
}

/// Weights that a worker needs beside its model, by number; 0 for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Weights {
    /// Checkpoint in place of the model's own weights.
    pub checkpoint: u32,
    /// Set of LoRAs.
    pub loras: u32,
}

impl Weights {
    /// Returns what a worker with these weights changes for a job that needs others.
    #[must_use]
    pub const fn change(self, to: Self) -> Change {
        let loras = to.loras != 0;
        match (self.checkpoint == to.checkpoint, self.loras == to.loras) {
            (true, true) => Change::Nothing,
            // To take LoRAs off is no load.
            (true, false) => {
                if loras {
                    Change::Loras
                } else {
                    Change::Nothing
                }
            }
            (false, _) => {
                if loras {
                    Change::Both
                } else {
                    Change::Checkpoint
                }
            }
        }
    }
}

/// Place of a picture among the pictures of its request. The core handles each as a request of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u16, u16)", into = "(u16, u16)")]
pub struct Place {
    /// Number of the picture, from 0. The pictures of a request have consecutive identities.
    pub at: u16,
    /// Number of pictures of the request, at least 1.
    pub of: u16,
}

impl Place {
    /// Place of the only picture of a request.
    pub const ONLY: Self = Self { at: 0, of: 1 };

    /// Returns whether the request has one picture.
    #[must_use]
    #[inline]
    pub const fn is_only(&self) -> bool {
        self.of == 1
    }

    /// Returns the first picture of the request that has `picture` at this place.
    #[must_use]
    pub fn first_of(self, picture: RequestId) -> RequestId {
        RequestId(picture.0.saturating_sub(u32::from(self.at)))
    }
}

impl Default for Place {
    fn default() -> Self {
        Self::ONLY
    }
}

impl From<(u16, u16)> for Place {
    fn from((at, of): (u16, u16)) -> Self {
        Self { at, of }
    }
}

impl From<Place> for (u16, u16) {
    fn from(place: Place) -> Self {
        (place.at, place.of)
    }
}

/// Facts that the scheduler knows about a request when it arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Row of the request.
    pub id: RequestId,
    /// Time at which the request was due to arrive. Latency counts from here, however late the loop handles the
    /// request.
    pub arrival: Time,
    /// Tenant of the request.
    pub tenant: TenantId,
    /// Time by which the request should be finished, if it names one.
    pub deadline: Option<Time>,
    /// Use of the image cache that the request allows.
    #[serde(default, skip_serializing_if = "Reuse::is_all")]
    pub reuse: Reuse,
    /// True if the request is served only while no other request waits, on the best model, and counts in no demand or
    /// share.
    #[serde(default, skip_serializing_if = "is_false")]
    pub background: bool,
    /// Wishes of the request beside its prompt.
    #[serde(default, skip_serializing_if = "Ask::is_usual")]
    pub ask: Ask,
    /// Place of the picture among those of its request.
    #[serde(default, skip_serializing_if = "Place::is_only")]
    pub place: Place,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

impl Request {
    /// Returns a request for one usual image without a deadline that allows every use of the cache.
    #[must_use]
    pub const fn new(id: RequestId, arrival: Time, tenant: TenantId) -> Self {
        let ask = Ask { size: Size::USUAL, steps: 0, key: 0, weights: Weights { checkpoint: 0, loras: 0 }, skips: 0 };
        Self { id, arrival, tenant, deadline: None, reuse: Reuse::ALL, background: false, ask, place: Place::ONLY }
    }
}

/// End of a request. Every request ends exactly once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Request for which an image was made or returned.
    Completed,
    /// Request that was not accepted, with the reason.
    Rejected(Rejection),
    /// Request that was accepted and got no image, with the reason.
    Failed(String),
    /// Request that was withdrawn by its sender.
    Cancelled,
}

impl Outcome {
    /// Returns the word in the `outcome` column.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Rejected(_) => "rejected",
            Self::Failed(_) => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Returns the reason, if there is one.
    pub fn reason(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Rejected(reason) => Some(Cow::Owned(reason.to_string())),
            Self::Failed(reason) => Some(Cow::Borrowed(reason)),
            Self::Completed | Self::Cancelled => None,
        }
    }
}

/// Reason for which a request was not accepted. Files have its sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
#[non_exhaustive]
pub enum Rejection {
    /// The program takes nothing more in.
    Draining,
    /// The deadline has passed, or no model can meet it any more.
    TooLate,
    /// Requests in time that go first leave too little time.
    Behind {
        /// Number of requests that go first.
        others: usize,
    },
    /// A routing policy refused, with a reason of its own.
    Routing(String),
}

const DRAINING: &str = "draining";
const TOO_LATE: &str = "cannot be in time any more";
const BEHIND: [&str; 2] = ["cannot be in time behind ", " others"];

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Draining => f.write_str(DRAINING),
            Self::TooLate => f.write_str(TOO_LATE),
            Self::Behind { others } => write!(f, "{}{others}{}", BEHIND[0], BEHIND[1]),
            Self::Routing(reason) => f.write_str(reason),
        }
    }
}

impl From<Rejection> for String {
    fn from(rejection: Rejection) -> Self {
        rejection.to_string()
    }
}

impl From<String> for Rejection {
    /// Reads the sentence of a file. Any other sentence is a routing policy's.
    fn from(sentence: String) -> Self {
        // A policy may use the same words around something that is not a number: that sentence is its own.
        let others = sentence.strip_prefix(BEHIND[0]).and_then(|rest| rest.strip_suffix(BEHIND[1]));
        match (sentence.as_str(), others.and_then(|others| others.parse().ok())) {
            (DRAINING, _) => Self::Draining,
            (TOO_LATE, _) => Self::TooLate,
            (_, Some(others)) => Self::Behind { others },
            _ => Self::Routing(sentence),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejection_is_read_back_from_its_sentence() {
        let own = Rejection::Routing("cannot be in time behind all others".into());
        for rejection in [Rejection::Draining, Rejection::TooLate, Rejection::Behind { others: 7 }, own] {
            assert_eq!(Rejection::from(String::from(rejection.clone())), rejection);
        }
        let outcome = Outcome::Rejected(Rejection::Behind { others: 1 });
        assert_eq!(outcome.reason().as_deref(), Some("cannot be in time behind 1 others"));
    }
}
