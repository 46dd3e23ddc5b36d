//! What a run knows of its requests beyond what the core does: prompts, whose they are, their noise, and where pictures go.

use std::path::PathBuf;
use std::sync::Arc;

use crate::image::ImageId;
use crate::live::picture::Picture;
use crate::request::{Outcome, RequestId};

/// Whoever brings the requests.
pub trait Book {
    /// What a request asks for.
    fn prompt(&self, request: RequestId) -> Arc<str>;

    /// Who asks, where that is known.
    fn tenant(&self, request: RequestId) -> Option<String>;

    /// What its noise derives from: seed and row.
    fn noise(&self, request: RequestId) -> (u64, u64);

    /// The file that its picture goes to, if to one.
    fn result(&self, request: RequestId) -> Option<PathBuf>;

    /// An image went into the store under a number.
    fn kept(&mut self, _: ImageId, _: u64) {}

    /// A request has ended, with this picture if it completed and there is one.
    fn ended(&mut self, _: RequestId, _: &Outcome, _: Option<Arc<Picture>>) {}

    /// Nothing more will be asked about a request that has ended.
    fn forget(&mut self, _: RequestId) {}

    /// Whether more may come although nothing is known of it: silence is then no end.
    fn is_open(&self) -> bool {
        false
    }

    /// Whether it wants pictures that are given back handed to it, too.
    fn wants_pictures(&self) -> bool {
        false
    }
}

/// Requests that are all known before the run.
pub struct Known {
    /// By row.
    pub prompts: Vec<Arc<str>>,
    /// By row, where the trace has them.
    pub tenants: Option<Vec<String>>,
    /// All noise derives from it and the row.
    pub seed: u64,
    /// Where the picture of a request goes.
    pub result: Box<dyn Fn(RequestId) -> PathBuf>,
}

impl Book for Known {
    fn prompt(&self, request: RequestId) -> Arc<str> {
        self.prompts[request.row()].clone()
    }

    fn tenant(&self, request: RequestId) -> Option<String> {
        self.tenants.as_ref().map(|tenants| tenants[request.row()].clone())
    }

    fn noise(&self, request: RequestId) -> (u64, u64) {
        (self.seed, u64::from(request.0))
    }

    fn result(&self, request: RequestId) -> Option<PathBuf> {
        Some((self.result)(request))
    }
}
