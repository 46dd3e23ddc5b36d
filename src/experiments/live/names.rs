//! Names of the pictures of a live run.

use crate::live::settings::ImageFormat;
use crate::trace::Trace;

/// Beginning of the names that are made from the number of a row.
const ROW: &str = "row";

/// Returns the file name of a picture.
#[must_use]
pub fn picture_name(label: &str, format: ImageFormat) -> String {
    format!("{label}.{}", format.extension())
}

/// Returns the name of each row's picture without an extension: the request id, if it is a plain file name on any
/// system, or a name made from the number of the row. The pictures of one request are numbered.
#[must_use]
pub fn file_names(trace: &Trace) -> Vec<String> {
    let plain = |label: &str| {
        !label.is_empty()
            && label.len() <= 100
            && !label.starts_with(['.', '-'])
            && label.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.'))
    };
    // A made-up name contains `~`, so it cannot be the plain name of another request. That of a row begins as the name
    // of no request's picture does.
    let name = |row| {
        let label = trace.label(row);
        let place = trace.place(row);
        match (plain(&label), place.is_only()) {
            (true, true) => label.into_owned(),
            (true, false) if label != ROW => format!("{label}~{}", place.at),
            _ => format!("{ROW}~{row}"),
        }
    };
    (0..trace.len()).map(name).collect()
}
