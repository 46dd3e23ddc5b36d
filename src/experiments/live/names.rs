//! Names of the pictures of a live run.

use crate::live::settings::ImageFormat;
use crate::trace::Trace;

/// Returns the file name of a picture.
#[must_use]
pub fn picture_name(label: &str, format: ImageFormat) -> String {
    format!("{label}.{}", format.extension())
}

/// Returns the name of each row's picture without an extension: the request id, if it is a plain file name on any
/// system, or a name made from the number of the row.
#[must_use]
pub fn file_names(trace: &Trace) -> Vec<String> {
    let plain = |label: &str| {
        !label.is_empty()
            && label.len() <= 100
            && !label.starts_with(['.', '-'])
            && label.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.'))
    };
    // A made-up name contains `~`, so it cannot be the plain name of another request.
    let name = |row| {
        let label = trace.label(row);
        if plain(&label) { label.into_owned() } else { format!("row~{row}") }
    };
    (0..trace.len()).map(name).collect()
}
