//! Identities of images. An image was made for a request, or was in the cache before the first request (a warm image).

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::request::RequestId;

/// Image, known by the row of the request that it was made for, or by -1, -2, ... for the warm images in file order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImageId(i64);

impl ImageId {
    /// Returns the image that is made for a request.
    #[must_use]
    pub const fn of_request(request: RequestId) -> Self {
        Self(request.0 as i64)
    }

    /// Returns the image in this row (from 0) of the warm images.
    #[must_use]
    pub const fn warm(row: u32) -> Self {
        Self(-1 - row as i64)
    }

    /// Returns the row among the warm images; `None` for an image of a request.
    #[must_use]
    pub fn warm_row(self) -> Option<u32> {
        u32::try_from(-1 - self.0).ok()
    }

    /// Returns the request that the image was made for; `None` for a warm image.
    #[must_use]
    pub fn request(self) -> Option<RequestId> {
        u32::try_from(self.0).ok().map(RequestId)
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
