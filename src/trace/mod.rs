//! Checked request traces: reading ours, importing public ones, making synthetic ones.
//!
//! A [`Trace`] is immutable and in order of arrival; whoever shares it puts it in an `Arc`.

use std::borrow::Cow;

use crate::embedding::EmbeddingMatrix;
use crate::request::{Request, RequestId, TenantId};
use crate::time::Time;

mod column;
pub mod import;
pub mod inspect;
pub mod npy;
mod read;
mod select;
pub mod synthetic;
mod table;
mod write;

pub use column::{TenantColumn, TextColumn};
pub use read::{TraceFiles, read};
pub use write::write_requests;

/// Columns that travel with a trace beside those with a meaning here; others are left out when read.
pub const EXTRA_COLUMNS: [&str; 4] = ["steps", "images", "exec_s", IMAGE_BYTES];

/// The column with the size of the image that each request would produce.
pub const IMAGE_BYTES: &str = "image_bytes";

/// Requests in order of arrival, a column each for what is known of them. Without optional columns it
/// takes 8 bytes a request.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    columns: Columns,
    embeddings: Embeddings,
}

/// The columns of a trace, each as long as `arrivals` or absent.
#[derive(Clone, Debug, Default)]
pub struct Columns {
    /// When each request arrives; never falls.
    pub arrivals: Vec<Time>,
    /// Labels carried to the outputs, unique; absent where the row's number is the label.
    pub request_ids: Option<TextColumn>,
    /// What each request asks for.
    pub prompts: Option<TextColumn>,
    /// Who asks.
    pub tenants: Option<TenantColumn>,
    /// When each request should be finished; [`Time::MAX`] for one that does not say.
    pub deadlines: Option<Vec<Time>>,
    /// Further columns by name, as text.
    pub extra: Vec<(String, TextColumn)>,
    /// Names of columns that were in the file and are not used.
    pub ignored: Vec<String>,
}

/// Embeddings that belong to a trace, each absent where nothing needs or gives them.
#[derive(Clone, Debug, Default)]
pub struct Embeddings {
    /// Of each request's prompt.
    pub prompts: Option<EmbeddingMatrix>,
    /// Of each request's prompt where prompts are compared with each other; `prompts` if absent. May have another dimension.
    pub texts: Option<EmbeddingMatrix>,
    /// Of the image each request would produce.
    pub images: Option<EmbeddingMatrix>,
    /// What is cached before the first request, oldest first.
    pub warm: Option<EmbeddingMatrix>,
}

impl Trace {
    /// A trace of checked columns.
    ///
    /// # Panics
    /// If arrivals fall, or a column is not as long as they are: makers of columns see to that.
    #[must_use]
    pub fn new(columns: Columns) -> Self {
        let n = columns.arrivals.len();
        assert!(u32::try_from(n).is_ok(), "rows are numbered by u32");
        assert!(columns.arrivals.is_sorted(), "requests are in order of arrival");
        assert!(columns.request_ids.as_ref().is_none_or(|column| column.len() == n));
        assert!(columns.prompts.as_ref().is_none_or(|column| column.len() == n));
        assert!(columns.tenants.as_ref().is_none_or(|column| column.len() == n));
        assert!(columns.deadlines.as_ref().is_none_or(|column| column.len() == n));
        assert!(columns.extra.iter().all(|(_, column)| column.len() == n));
        Self { columns, embeddings: Embeddings::default() }
    }

    /// The same trace with these embeddings in place of its own.
    ///
    /// # Panics
    /// If a matrix has not a row a request, or the dimensions differ.
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

    /// Number of requests.
    pub fn len(&self) -> usize {
        self.columns.arrivals.len()
    }

    /// Whether there are no requests; a trace that was read has some.
    pub fn is_empty(&self) -> bool {
        self.columns.arrivals.is_empty()
    }

    /// What the scheduler is told of a row.
    ///
    /// # Panics
    /// If there is no such row; so do all accessors by row.
    pub fn request(&self, row: usize) -> Request {
        let deadline = self.columns.deadlines.as_ref().map(|deadlines| deadlines[row]);
        Request {
            deadline: deadline.filter(|&deadline| deadline != Time::MAX),
            ..Request::new(RequestId(row as u32), self.columns.arrivals[row], self.tenant(row))
        }
    }

    /// When each request arrives.
    pub fn arrivals(&self) -> &[Time] {
        &self.columns.arrivals
    }

    /// What a row is called in the outputs: its request id, or its number from 0.
    pub fn label(&self, row: usize) -> Cow<'_, str> {
        match &self.columns.request_ids {
            Some(ids) => Cow::Borrowed(ids.get(row)),
            None => Cow::Owned(row.to_string()),
        }
    }

    /// What a row asks for.
    pub fn prompt(&self, row: usize) -> Option<&str> {
        self.columns.prompts.as_ref().map(|prompts| prompts.get(row))
    }

    /// Who asks; tenant 0 where the trace names none.
    pub fn tenant(&self, row: usize) -> TenantId {
        self.columns.tenants.as_ref().map_or(TenantId(0), |tenants| tenants.get(row))
    }

    /// What a tenant is called, if the trace names tenants.
    pub fn tenant_name(&self, tenant: TenantId) -> Option<&str> {
        self.columns.tenants.as_ref()?.names().get(tenant.0 as usize).map(String::as_str)
    }

    /// All columns.
    pub const fn columns(&self) -> &Columns {
        &self.columns
    }

    /// All embeddings.
    pub const fn embeddings(&self) -> &Embeddings {
        &self.embeddings
    }

    /// Of each request's prompt.
    pub const fn prompt_embeddings(&self) -> Option<&EmbeddingMatrix> {
        self.embeddings.prompts.as_ref()
    }

    /// Of each request's prompt where prompts are compared with each other.
    pub fn text_embeddings(&self) -> Option<&EmbeddingMatrix> {
        self.embeddings.texts.as_ref().or_else(|| self.prompt_embeddings())
    }

    /// Of the image each request would produce.
    pub const fn image_embeddings(&self) -> Option<&EmbeddingMatrix> {
        self.embeddings.images.as_ref()
    }

    /// What is cached before the first request, oldest first.
    pub const fn warm_images(&self) -> Option<&EmbeddingMatrix> {
        self.embeddings.warm.as_ref()
    }
}
