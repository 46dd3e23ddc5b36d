//! Folder of a trace that this program makes: names of its files, and errors.

use crate::input::InputError;
use crate::output::OutputError;

/// Name of a trace's file of requests in its folder.
pub const REQUESTS: &str = "requests.csv";

/// Name of the file of prompt embeddings in a trace's folder.
pub const PROMPT_EMBEDDINGS: &str = "prompt_embeddings.npy";

/// Name of the file of image embeddings in a trace's folder.
pub const IMAGE_EMBEDDINGS: &str = "image_embeddings.npy";

/// Name of the file that records how a trace was made.
pub(super) const RECORD: &str = "trace.json";

/// Error because of which a trace is not made. There is no record of it then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MakeError {
    /// Input or folder that cannot be used.
    #[error(transparent)]
    Input(#[from] InputError),
    /// File that cannot be written or removed.
    #[error(transparent)]
    Output(#[from] OutputError),
}
