//! Names of the pictures of a live run.

use crate::live::settings::ImageFormat;
use crate::trace::Trace;

/// Returns the name of the file of a picture.
#[must_use]
pub fn picture_name(label: &str, format: ImageFormat) -> String {
    format!("{label}.{}", format.extension())
}

/// Returns the name of each row's picture, without an ending: its request id, if that is a plain file name on any system.
#[must_use]
pub fn file_names(trace: &Trace) -> Vec<String> {
    let plain = |label: &str| {
        !label.is_empty()
            && label.len() <= 100
            && !label.starts_with(['.', '-'])
            && label.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.'))
    };
    // A made-up name must not be another request's.
    let name = |row| {
        let label = trace.label(row);
        if plain(&label) { label.into_owned() } else { format!("row~{row}") }
    };
    (0..trace.len()).map(name).collect()
}
