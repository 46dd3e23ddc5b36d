//! Facts about the requests of a run that the core does not know: prompts, tenants, noise, and files of the results.

use std::path::PathBuf;
use std::sync::Arc;

use crate::image::ImageId;
use crate::live::details::Details;
use crate::live::picture::Picture;
use crate::live::pipeline::Cut;
use crate::request::{Outcome, RequestId};

/// Facts about requests, provided by the source of the requests: a trace or a server.
pub trait Book {
    /// Returns the prompt of a request; `None` if the request is unknown. Nothing is drawn or embedded without a
    /// prompt.
    fn prompt(&self, request: RequestId) -> Option<Arc<str>>;

    /// Returns the tenant of a request, if the tenant is known.
    fn tenant(&self, request: RequestId) -> Option<String>;

    /// Returns the seed and the row that the noise of a request derives from.
    fn noise(&self, request: RequestId) -> (u64, u64);

    /// Returns the wishes of a request beside its prompt; what is usual if nothing else is known.
    fn details(&self, _: RequestId) -> Details {
        Details::default()
    }

    /// Returns the source that a request brings, if it brings one. Such a source is in no image cache.
    fn source(&self, _: RequestId) -> Option<Arc<Picture>> {
        None
    }

    /// Records that a text encoder did not see a part of the prompt of a request.
    fn cut(&mut self, _: RequestId, _: &Cut) {}

    /// Returns the file that the picture of a request is written to, if there is one.
    fn result(&self, request: RequestId) -> Option<PathBuf>;

    /// Records that an image was put into the store under a number.
    fn kept(&mut self, _: ImageId, _: u64) {}

    /// Records that a request has ended. The picture is given if the request completed and has one.
    fn ended(&mut self, _: RequestId, _: &Outcome, _: Option<Arc<Picture>>) {}

    /// Forgets a request that has ended. Nothing more is asked about the request.
    fn forget(&mut self, _: RequestId) {}

    /// Returns whether more requests may come. A run without work then waits for them, and does not end.
    fn is_open(&self) -> bool {
        false
    }

    /// Returns whether [`Book::ended`] also gets the pictures of requests that were given a cached image as it is.
    fn wants_pictures(&self) -> bool {
        false
    }
}

/// Requests that are all known before the run.
pub struct Known {
    /// Prompts by row.
    pub prompts: Vec<Arc<str>>,
    /// Tenants by row, if the trace has them.
    pub tenants: Option<Vec<String>>,
    /// Wishes beside the prompts by row; empty if all are usual.
    pub details: Vec<Details>,
    /// Seed that all noise derives from, together with the row.
    pub seed: u64,
    /// Function that returns the file for the picture of a request.
    pub result: Box<dyn Fn(RequestId) -> PathBuf>,
}

impl Book for Known {
    fn prompt(&self, request: RequestId) -> Option<Arc<str>> {
        self.prompts.get(request.row()).cloned()
    }

    fn tenant(&self, request: RequestId) -> Option<String> {
        self.tenants.as_ref().map(|tenants| tenants[request.row()].clone())
    }

    fn noise(&self, request: RequestId) -> (u64, u64) {
        (self.seed, u64::from(request.0))
    }

    fn details(&self, request: RequestId) -> Details {
        self.details.get(request.row()).cloned().unwrap_or_default()
    }

    fn result(&self, request: RequestId) -> Option<PathBuf> {
        Some((self.result)(request))
    }
}
