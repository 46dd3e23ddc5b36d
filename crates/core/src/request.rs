//! Requests, tenants and how requests end. Prompts are not here: the core never sees text.

use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::time::Time;

/// A request, known by its row in the trace (or its number of arrival when live).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(pub u32);

impl RequestId {
    /// The row as an index.
    pub const fn row(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who asks: scopes what may be retrieved. Numbered in order of first appearance; 0 where a trace names none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TenantId(pub u32);

/// Whose a cached image is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Owner {
    /// Everybody's.
    #[default]
    Public,
    /// Of the tenant whose request it was made for.
    Tenant(TenantId),
}

/// Use of the image cache that a request allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reuse {
    /// Whether it may be served from a cached image.
    pub look_up: bool,
    /// Whether its image may be cached.
    pub keep: bool,
}

impl Reuse {
    /// Allows both: the default.
    pub const ALL: Self = Self { look_up: true, keep: true };
    /// Allows neither.
    pub const NONE: Self = Self { look_up: false, keep: false };

    /// Returns whether both are allowed.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::ALL
    }

    /// Returns what both allow.
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

/// What the scheduler knows of a request when it arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Its row.
    pub id: RequestId,
    /// When it was due to arrive; latency counts from here, however late the loop got round to it.
    pub arrival: Time,
    /// Who asks.
    pub tenant: TenantId,
    /// When it should be finished, if it says so.
    pub deadline: Option<Time>,
    /// Use of the image cache that it allows.
    #[serde(default, skip_serializing_if = "Reuse::is_all")]
    pub reuse: Reuse,
    /// Whether it is served only while nothing else waits, on the best model, and counts in no demand or share.
    #[serde(default, skip_serializing_if = "is_false")]
    pub background: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

impl Request {
    /// Returns a request without a deadline that allows the cache to be used.
    #[must_use]
    pub const fn new(id: RequestId, arrival: Time, tenant: TenantId) -> Self {
        Self { id, arrival, tenant, deadline: None, reuse: Reuse::ALL, background: false }
    }
}

/// How a request ended. Every request ends exactly once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// An image was made or returned.
    Completed,
    /// Not accepted, and why.
    Rejected(String),
    /// Accepted, but no image came of it, and why.
    Failed(String),
    /// Withdrawn by whoever asked.
    Cancelled,
}

impl Outcome {
    /// The word in the `outcome` column.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Rejected(_) => "rejected",
            Self::Failed(_) => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The reason, where there is one.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Rejected(reason) | Self::Failed(reason) => Some(reason),
            Self::Completed | Self::Cancelled => None,
        }
    }
}
