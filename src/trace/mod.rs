//! Checked traces of requests: reading traces in the format of this program, importing public ones, and making
//! synthetic ones.
//!
//! A [`Trace`] is immutable and in order of arrival. Code that shares a trace puts it into an `Arc`.

use std::borrow::Cow;

use crate::embedding::EmbeddingMatrix;
use crate::request::{Ask, Place, Request, RequestId, TenantId};
use crate::time::Time;

pub mod asks;
mod column;
pub mod import;
pub mod inspect;
mod make;
pub mod npy;
mod read;
mod select;
pub mod synthetic;
mod table;
mod write;

use make::RECORD;

pub use column::{TenantColumn, TextColumn};
pub use make::{IMAGE_EMBEDDINGS, MakeError, PROMPT_EMBEDDINGS, REQUESTS};
pub use read::{TraceFiles, read};
pub use write::write_requests;

/// Names of the further columns that a trace carries beside the fields of [`Columns`], in the order of files. Other
/// columns are left out when a trace is read.
pub const EXTRA_COLUMNS: [&str; 10] =
    ["width", "height", "steps", "images", "checkpoint", "loras", "negative_prompt", "guidance", "exec_s", IMAGE_BYTES];

/// Name of the column with the size in bytes of the image that each request would produce.
pub const IMAGE_BYTES: &str = "image_bytes";

/// Requests in order of arrival, with a column for each known property. A trace without optional columns takes 8 bytes
/// for each request.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    columns: Columns,
    embeddings: Embeddings,
}

/// Columns of a trace, each as long as `arrivals` or absent.
#[derive(Clone, Debug, Default)]
pub struct Columns {
    /// Arrival time of each request, never falling.
    pub arrivals: Vec<Time>,
    /// Label of each request in the outputs, unique; absent if the number of the row is the label.
    pub request_ids: Option<TextColumn>,
    /// Prompt of each request.
    pub prompts: Option<TextColumn>,
    /// Tenant of each request.
    pub tenants: Option<TenantColumn>,
    /// Deadline of each request; [`Time::MAX`] for a request without a deadline.
    pub deadlines: Option<Vec<Time>>,
    /// Wishes of each request beside its prompt; absent if all ask for what is usual.
    pub asks: Option<Vec<Ask>>,
    /// Place of each row among the pictures of its request; absent if every request has one.
    pub places: Option<Vec<Place>>,
    /// Further columns by name, as text.
    pub extra: Vec<(String, TextColumn)>,
    /// Names of columns that were in the file and are not used.
    pub ignored: Vec<String>,
}

/// Embeddings that belong to a trace. Each is absent if nothing needs it or no file gives it.
#[derive(Clone, Debug, Default)]
pub struct Embeddings {
    /// Embedding of each request's prompt.
    pub prompts: Option<EmbeddingMatrix>,
    /// Embedding of each request's prompt for systems that compare prompts with each other; `prompts` if absent. The
    /// dimension may be another one.
    pub texts: Option<EmbeddingMatrix>,
    /// Embedding of the image that each request would produce.
    pub images: Option<EmbeddingMatrix>,
    /// Embeddings that are cached before the first request, oldest first.
    pub warm: Option<EmbeddingMatrix>,
}

impl Trace {
    /// Makes a trace of checked columns.
    ///
    /// # Panics
    /// Panics if arrivals fall, if there are more rows than `u32` can number, or if a column is not as long as the
    /// arrivals. The code that makes columns must check these conditions.
    #[must_use]
    pub fn new(columns: Columns) -> Self {
        let n = columns.arrivals.len();
        assert!(u32::try_from(n).is_ok(), "rows are numbered by u32");
        assert!(columns.arrivals.is_sorted(), "requests are in order of arrival");
        assert!(columns.request_ids.as_ref().is_none_or(|column| column.len() == n));
        assert!(columns.prompts.as_ref().is_none_or(|column| column.len() == n));
        assert!(columns.tenants.as_ref().is_none_or(|column| column.len() == n));
        assert!(columns.deadlines.as_ref().is_none_or(|column| column.len() == n));
        assert!(columns.asks.as_ref().is_none_or(|column| column.len() == n));
        assert!(columns.places.as_ref().is_none_or(|column| column.len() == n));
        assert!(columns.extra.iter().all(|(_, column)| column.len() == n));
        Self { columns, embeddings: Embeddings::default() }
    }

    /// Returns the same trace with these embeddings in place of its own.
    ///
    /// # Panics
    /// Panics if `prompts`, `texts` or `images` does not have one row for each request, or if the dimensions of the
    /// others than `texts` differ.
    #[must_use]
    pub fn with_embeddings(mut self, embeddings: Embeddings) -> Self {
        let rowwise = [&embeddings.prompts, &embeddings.texts, &embeddings.images];
        assert!(rowwise.into_iter().flatten().all(|matrix| matrix.rows() == self.len()));
        let all = [&embeddings.prompts, &embeddings.images, &embeddings.warm];
        let dimension = |matrix: &EmbeddingMatrix| matrix.dimension();
        assert!(all.into_iter().flatten().map(dimension).is_sorted_by(|a, b| a == b), "one dimension for all");
        self.embeddings = embeddings;
        self
    }

    /// Returns the number of requests.
    pub fn len(&self) -> usize {
        self.columns.arrivals.len()
    }

    /// Returns whether there are no requests. A trace that was read has at least one.
    pub fn is_empty(&self) -> bool {
        self.columns.arrivals.is_empty()
    }

    /// Returns the request of a row, as the scheduler receives it.
    ///
    /// # Panics
    /// Panics if there is no such row, as all accessors by row do.
    pub fn request(&self, row: usize) -> Request {
        let deadline = self.columns.deadlines.as_ref().map(|deadlines| deadlines[row]);
        Request {
            deadline: deadline.filter(|&deadline| deadline != Time::MAX),
            ask: self.ask(row),
            place: self.place(row),
            ..Request::new(RequestId(row as u32), self.columns.arrivals[row], self.tenant(row))
        }
    }

    /// Returns the arrival time of each request.
    pub fn arrivals(&self) -> &[Time] {
        &self.columns.arrivals
    }

    /// Returns the mean rate of arrivals in requests a minute; `None` if all requests arrive at once. It is the number
    /// of gaps between arrivals, one fewer than requests, over the time from the first arrival to the last: requests at
    /// constant gaps have the rate of one gap however few they are.
    pub fn mean_rate_per_min(&self) -> Option<f64> {
        let arrivals = self.arrivals();
        let span_s = arrivals.last()?.since(*arrivals.first()?).seconds();
        (span_s > 0.0).then(|| (self.requests() - 1) as f64 * 60.0 / span_s)
    }

    /// Returns the label of a row in the outputs: its request id, or its number, counted from 0.
    pub fn label(&self, row: usize) -> Cow<'_, str> {
        match &self.columns.request_ids {
            Some(ids) => Cow::Borrowed(ids.get(row)),
            None => Cow::Owned(row.to_string()),
        }
    }

    /// Returns the prompt of a row, if the trace has prompts.
    pub fn prompt(&self, row: usize) -> Option<&str> {
        self.columns.prompts.as_ref().map(|prompts| prompts.get(row))
    }

    /// Returns the tenant of a row; tenant 0 if the trace names no tenants.
    pub fn tenant(&self, row: usize) -> TenantId {
        self.columns.tenants.as_ref().map_or(TenantId(0), |tenants| tenants.get(row))
    }

    /// Returns the name of a tenant, if the trace names tenants.
    pub fn tenant_name(&self, tenant: TenantId) -> Option<&str> {
        self.columns.tenants.as_ref()?.names().get(tenant.0 as usize).map(String::as_str)
    }

    /// Returns all columns.
    pub const fn columns(&self) -> &Columns {
        &self.columns
    }

    /// Returns all embeddings.
    pub const fn embeddings(&self) -> &Embeddings {
        &self.embeddings
    }

    /// Returns the embedding of each request's prompt.
    pub const fn prompt_embeddings(&self) -> Option<&EmbeddingMatrix> {
        self.embeddings.prompts.as_ref()
    }

    /// Returns the embedding of each request's prompt for systems that compare prompts with each other.
    pub fn text_embeddings(&self) -> Option<&EmbeddingMatrix> {
        self.embeddings.texts.as_ref().or_else(|| self.prompt_embeddings())
    }

    /// Returns the embedding of the image that each request would produce.
    pub const fn image_embeddings(&self) -> Option<&EmbeddingMatrix> {
        self.embeddings.images.as_ref()
    }

    /// Returns the embeddings that are cached before the first request, oldest first.
    pub const fn warm_images(&self) -> Option<&EmbeddingMatrix> {
        self.embeddings.warm.as_ref()
    }
}
