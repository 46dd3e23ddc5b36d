//! Encoders without a neural model: from a prompt to its embedding, and to the embedding of the picture that it would
//! produce. They stand in for CLIP, so that any list of prompts runs at once. Outputs that are made with them carry
//! [`EncoderSettings::label`] and [`ImageModel::label`].

use std::path::Path;

use crate::input::InputError;

pub mod hashed;
pub mod picture;

pub use hashed::{EncoderSettings, TextEncoder};
pub use picture::{ImageModel, Pictures};

/// Returns the origin of the values of a stand-in's settings, for its label.
fn origin(defaults: bool, section: &str) -> String {
    if defaults {
        "fitted to published figures of CLIP on DiffusionDB".to_owned()
    } else {
        format!("not fitted: [{section}] has values of its own")
    }
}

/// Checks that each value is in its range. The values are (key, value, lowest, highest, noun), and the error names the
/// first value outside its range.
fn check_ranges(file: &Path, section: &str, values: &[(&str, f64, f64, f64, &str)]) -> Result<(), InputError> {
    let bad = values.iter().find(|(_, value, low, high, _)| !(*low..=*high).contains(value));
    bad.map_or(Ok(()), |(key, value, low, high, what)| {
        let accepted = format!("expected {what} from {low} to {high}");
        Err(InputError::new(file, accepted).value(format!("{section}.{key}"), value))
    })
}
